use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-hermes",
    meaning: "The same as `reuseport`, but an eBPF program goes by what workers publish in shared memory: it leaves \
              out hung workers, then those with too many connections, then those with too many pending events (Hermes, \
              SIGCOMM 2025). If fewer than two are left, the hash decides.",
    axes: |settings| (Queues::PerWorker, Steering::hermes(settings), Wake::Epoll(Trigger::Level)),
};
