use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "shared-epoll-exclusive",
    meaning: "Like `shared-epoll`, with EPOLLEXCLUSIVE: a new connection wakes one worker. Workers register in a \
              fixed order (`server.registration`).",
    axes: |_| (Queues::One, Steering::Hash, Wake::Epoll(Trigger::Exclusive)),
};
