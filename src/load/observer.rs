//! What a loader's sessions show to the trial's other processes and learn from them.

use std::net::SocketAddr;

use crate::{
    context::{Side, TrialContext},
    ipc::{
        control::Loss,
        ledger::{Entry, Journey},
    },
};

/// The trial as a session sees it. Every call is on the path of a connection: none allocates or locks.
pub(super) trait Observer {
    /// Records an established connection in the ledger.
    fn established(&self, client: SocketAddr);

    /// Records in the ledger that this client's connection was given up before it was established.
    fn given_up(&self, client: SocketAddr);

    /// Whether the server is the trial's own: its workers answer with receipts, and a ledger has what was established.
    fn has_ledger(&self) -> bool;

    /// Whether the server is on this host, so that its instants and this loader's are of one clock, and its workers share the ledger if
    /// there is one.
    fn is_beside(&self) -> bool;

    /// The accept of the connection that this client began at `connect_ns`; `None` if no worker has accepted it, or it is not beside.
    fn accept(&self, client: SocketAddr, connect_ns: u64) -> Option<Entry>;

    /// Whether a worker closed this client's connection at once, for want of a descriptor; false if it is not beside.
    fn is_shed(&self, client: SocketAddr, connect_ns: u64) -> bool;

    /// The journey of this client's connection, which its worker records before it answers; `None` without a ledger, or if it is not beside.
    fn journey(&self, client: SocketAddr) -> Option<Journey>;

    /// Records which worker first answered this client's datagram flow.
    fn flow_answered(&self, client: SocketAddr, worker: u16);

    /// How often new workers have taken over from all old ones; always 0 where that is not known.
    fn reloads(&self) -> u64;

    /// When the kernel established this client's connection on the server's side; `None` without stamps.
    fn stamp(&self, client: SocketAddr) -> Option<u64>;

    /// When an event was over, in nanoseconds of CLOCK_MONOTONIC; 0 until then.
    fn event_over_ns(&self, event: usize) -> u64;

    /// Counts a connection that began at `connect_ns` as lost at `now_ns`, to the event that went on then, if one did.
    fn lost(&self, loss: Loss, connect_ns: u64, now_ns: u64);

    /// Whether the load is to end early.
    fn is_interrupted(&self) -> bool;
}

/// The shared memory of a trial.
pub(super) struct TrialObserver {
    pub context: TrialContext,
}

impl Observer for TrialObserver {
    #[inline]
    fn established(&self, client: SocketAddr) {
        if let Some(ledger) = &self.context.ledger {
            ledger.established(client);
        }
    }

    fn given_up(&self, client: SocketAddr) {
        if let Some(ledger) = &self.context.ledger {
            ledger.given_up(client);
        }
    }

    #[inline]
    fn has_ledger(&self) -> bool {
        self.context.ledger.is_some()
    }

    #[inline]
    fn is_beside(&self) -> bool {
        self.context.side == Side::Whole && (self.has_ledger() || self.context.target.ip().is_loopback())
    }

    #[inline]
    fn accept(&self, client: SocketAddr, connect_ns: u64) -> Option<Entry> {
        self.context.ledger.as_ref()?.entry(client, connect_ns)
    }

    fn is_shed(&self, client: SocketAddr, connect_ns: u64) -> bool {
        self.context.ledger.as_ref().is_some_and(|ledger| ledger.is_shed(client, connect_ns))
    }

    #[inline]
    fn journey(&self, client: SocketAddr) -> Option<Journey> {
        self.context.ledger.as_ref()?.journey(client)
    }

    fn flow_answered(&self, client: SocketAddr, worker: u16) {
        if let Some(ledger) = &self.context.ledger {
            ledger.flow_answered(client, worker);
        }
    }

    #[inline]
    fn reloads(&self) -> u64 {
        self.context.control.reloads()
    }

    #[inline]
    fn stamp(&self, client: SocketAddr) -> Option<u64> {
        self.context.stamps.as_ref()?.look(client)
    }

    fn event_over_ns(&self, event: usize) -> u64 {
        self.context.control.event(event).over_ns
    }

    fn lost(&self, loss: Loss, connect_ns: u64, now_ns: u64) {
        self.context.control.lost(loss, connect_ns, now_ns);
    }

    #[inline]
    fn is_interrupted(&self) -> bool {
        self.context.control.interrupted_ns().is_some()
    }
}
