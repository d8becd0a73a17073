use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "shared-epoll-edge",
    meaning: "Like `shared-epoll`, but edge-triggered.",
    axes: |_| (Queues::One, Steering::Hash, Wake::Epoll(Trigger::Edge)),
};
