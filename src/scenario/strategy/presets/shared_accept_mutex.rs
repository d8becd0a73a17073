use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "shared-accept-mutex",
    meaning: "Only the worker holding a lock has the inherited listener in its epoll: nginx's `accept_mutex`. The \
              lock survives the death of its holder.",
    axes: |settings| (Queues::One, Steering::Hash, Wake::lock(settings)),
};
