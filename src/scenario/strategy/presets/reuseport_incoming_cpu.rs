use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-incoming-cpu",
    meaning: "Like `reuseport`, with each listener marked with a processor (SO_INCOMING_CPU): listener k with the \
              k-th allowed one.",
    axes: |settings| (Queues::group(settings), Steering::incoming_cpu(settings), Wake::shared_as(settings)),
};
