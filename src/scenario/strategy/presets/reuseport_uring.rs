use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-uring",
    meaning: "Like `reuseport`, with an io_uring multishot accept in each worker.",
    axes: |_| (Queues::PerWorker, Steering::Hash, Wake::Uring),
};
