use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-least",
    meaning: "Like `reuseport`, but an eBPF program chooses the listener whose workers have the fewest connections \
              each, open or on the way.",
    axes: |settings| (Queues::group(settings), Steering::Least, Wake::shared_as(settings)),
};
