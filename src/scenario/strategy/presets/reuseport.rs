use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport",
    meaning: "A listener per worker, or fewer (`server.listeners`), in one SO_REUSEPORT group; the kernel chooses one by a \
              hash of the 4-tuple. Listener k belongs to worker k. `server.wake` says how a worker learns of a connection.",
    axes: |settings| (Queues::group(settings), Steering::Hash, Wake::shared_as(settings)),
};
