use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "shared-epoll-edge",
    meaning: "The same as `shared-epoll`, edge-triggered.",
    axes: |_| (Queues::ONE, Steering::Hash, Wake::Epoll(Trigger::Edge)),
};
