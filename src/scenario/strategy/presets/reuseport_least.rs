use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-least",
    meaning: "The same as `reuseport`, but an eBPF program picks the worker with the fewest connections, open or on \
              their way.",
    axes: |_| (Queues::PerWorker, Steering::Least, Wake::Epoll(Trigger::Level)),
};
