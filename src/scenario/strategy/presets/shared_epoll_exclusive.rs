use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "shared-epoll-exclusive",
    meaning: "The same as `shared-epoll`, with EPOLLEXCLUSIVE: an arrival wakes one worker. Workers register one after \
              the other (`server.registration`).",
    axes: |_| (Queues::ONE, Steering::Hash, Wake::Epoll(Trigger::Exclusive)),
};
