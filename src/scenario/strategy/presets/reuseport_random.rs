use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-random",
    meaning: "Like `reuseport`, but an eBPF program chooses at random.",
    axes: |_| (Queues::PerWorker, Steering::Random, Wake::Epoll(Trigger::Level)),
};
