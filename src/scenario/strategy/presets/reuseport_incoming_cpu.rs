use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-incoming-cpu",
    meaning: "Like `reuseport`, with each listener marked with a processor (SO_INCOMING_CPU): worker k's with the \
              k-th allowed one.",
    axes: |settings| (Queues::PerWorker, Steering::incoming_cpu(settings), Wake::Epoll(Trigger::Level)),
};
