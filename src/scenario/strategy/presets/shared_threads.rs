use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "shared-threads",
    meaning: "Workers are threads of one process. Another thread accepts and feeds a channel (crossbeam), from which the next \
              free worker takes: the shape of servers in tokio and Go. The accepting thread's CPU time counts as the workers'.",
    axes: |_| (Queues::One, Steering::Hash, Wake::Pool),
};
