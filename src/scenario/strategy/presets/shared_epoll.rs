use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "shared-epoll",
    meaning: "Every worker's epoll watches the inherited listener, level-triggered. A new connection wakes all \
              waiting workers.",
    axes: |_| (Queues::One, Steering::Hash, Wake::Epoll(Trigger::Level)),
};
