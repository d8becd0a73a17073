use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-cpu",
    meaning: "Like `reuseport`, but a classic BPF program chooses: listener = receiving processor mod listeners.",
    axes: |settings| (Queues::group(settings), Steering::ReceivingCpu, Wake::shared_as(settings)),
};
