use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-hermes",
    meaning: "Like `reuseport`, but an eBPF program uses what workers publish in shared memory. It excludes \
              listeners whose workers all hang, then those whose workers have too many connections, then those with too \
              many pending events (Hermes, SIGCOMM 2025). If fewer than two remain, the hash decides.",
    axes: |settings| (Queues::group(settings), Steering::hermes(settings), Wake::shared_as(settings)),
};
