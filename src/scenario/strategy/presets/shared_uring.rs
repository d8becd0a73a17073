use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "shared-uring",
    meaning: "Every worker has an io_uring multishot accept on the inherited listener.",
    axes: |_| (Queues::One, Steering::Hash, Wake::Uring),
};
