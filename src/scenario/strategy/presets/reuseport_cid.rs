use super::{Preset, Queues, Steering, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-cid",
    meaning: "Like `reuseport`, but an eBPF program sends a datagram to the socket that its connection id names, as QUIC servers do. The worker that \
              gets a flow's first datagram, by the hash, answers with such an id, and the client puts that into its further datagrams: so a flow \
              stays with its worker when its client's port changes (`load.rebind_after`), and in a reload with `how = \"reopen\"` for as long as \
              the old workers drain. An id that names no open socket counts as none. It is in plain text, 8 bytes behind the nonce.",
    axes: |settings| (Queues::group(settings), Steering::ConnectionId, Wake::shared_as(settings)),
};
