use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-random",
    meaning: "Like `reuseport`, but an eBPF program chooses a listener at random.",
    axes: |settings| (Queues::group(settings), Steering::Random, Wake::shared_as(settings)),
};
