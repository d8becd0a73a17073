use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport",
    meaning: "A listener per worker in one SO_REUSEPORT group; the kernel chooses one by a hash of the 4-tuple. \
              Listener k belongs to worker k.",
    axes: |_| (Queues::PerWorker, Steering::Hash, Wake::Epoll(Trigger::Level)),
};
