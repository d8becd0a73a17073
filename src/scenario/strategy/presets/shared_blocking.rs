use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "shared-blocking",
    meaning: "One listener, opened before the fork and inherited. In each worker, a thread blocks in accept(2) and \
              hands connections over to the worker's loop. The kernel wakes the threads in first-in, first-out \
              order.",
    axes: |_| (Queues::One, Steering::Hash, Wake::Thread),
};
