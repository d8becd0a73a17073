use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "shared-epoll",
    meaning: "Every worker's epoll watches the inherited listener level-triggered. An arrival wakes all that wait.",
    axes: |_| (Queues::ONE, Steering::Hash, Wake::Epoll(Trigger::Level)),
};
