use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-uring",
    meaning: "Like `reuseport`, with an io_uring multishot accept in each worker.",
    axes: |settings| (Queues::group(settings), Steering::Hash, Wake::Uring),
};
