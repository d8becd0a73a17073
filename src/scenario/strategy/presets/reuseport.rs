use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport",
    meaning: "A listener per worker in one SO_REUSEPORT group; the kernel's hash of the 4-tuple picks one. Member k is \
              worker k's.",
    axes: |_| (Queues::PerWorker, Steering::Hash, Wake::Epoll(Trigger::Level)),
};
