use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-hermes",
    meaning: "Like `reuseport`, but an eBPF program uses what workers publish in shared memory: it excludes hung \
              workers, then those with too many connections, then those with too many pending events (Hermes, \
              SIGCOMM 2025). If fewer than two remain, the hash decides.",
    axes: |settings| (Queues::PerWorker, Steering::hermes(settings), Wake::Epoll(Trigger::Level)),
};
