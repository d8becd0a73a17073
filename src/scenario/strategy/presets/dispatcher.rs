use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "dispatcher",
    meaning: "A separate process accepts and hands descriptors to the workers (SCM_RIGHTS): in turn, or to the one \
              with the fewest connections (`server.dispatch`). Its CPU time counts as the workers'.",
    axes: |settings| (Queues::One, Steering::Hash, Wake::dispatcher(settings)),
};
