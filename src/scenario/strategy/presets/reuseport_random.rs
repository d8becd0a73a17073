use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-random",
    meaning: "The same as `reuseport`, but an eBPF program picks at random.",
    axes: |_| (Queues::PerWorker, Steering::Random, Wake::Epoll(Trigger::Level)),
};
