use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-round-robin",
    meaning: "Like `reuseport`, but an eBPF program chooses: connection n goes to listener n mod listeners.",
    axes: |settings| (Queues::group(settings), Steering::RoundRobin, Wake::shared_as(settings)),
};
