use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-round-robin",
    meaning: "Like `reuseport`, but an eBPF program chooses: connection n goes to worker n mod workers.",
    axes: |_| (Queues::PerWorker, Steering::RoundRobin, Wake::Epoll(Trigger::Level)),
};
