use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-least",
    meaning: "Like `reuseport`, but an eBPF program chooses the worker with the fewest connections, open or on the \
              way.",
    axes: |_| (Queues::PerWorker, Steering::Least, Wake::Epoll(Trigger::Level)),
};
