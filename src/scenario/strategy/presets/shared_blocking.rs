use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "shared-blocking",
    meaning: "One listener, opened before the fork and inherited. A thread of each worker blocks in accept(2) and \
              hands connections over to the worker's loop. The kernel wakes the threads first in, first out.",
    axes: |_| (Queues::ONE, Steering::Hash, Wake::Thread),
};
