//! What a loader's sessions show to the trial's other processes and learn from them.

use std::net::SocketAddr;

use crate::{
    context::TrialContext,
    ipc::{
        control::{LoaderCount, LoaderKept, Phase},
        ledger::{Entry, Journey},
    },
};

/// The trial as a session sees it. Every call is on the path of a connection: none allocates or locks.
pub(super) trait Observer {
    /// Adds to a counter that the trial's process reads.
    fn count(&self, count: LoaderCount);

    /// Adds a wait to a histogram that the trial's process reads.
    fn show(&self, kept: LoaderKept, wait_ns: u64);

    /// Records an established connection in the ledger.
    fn established(&self, client: SocketAddr);

    /// Whether workers and this loader share a ledger: the server is the trial's own.
    fn has_ledger(&self) -> bool;

    /// The accept of the connection that this client began at `connect_ns`; `None` if no worker has accepted it.
    fn accept(&self, client: SocketAddr, connect_ns: u64) -> Option<Entry>;

    /// The journey of this client's connection, which its worker records before it answers; `None` without a ledger.
    fn journey(&self, client: SocketAddr) -> Option<Journey>;

    /// When the kernel established this client's connection on the server's side; `None` without stamps.
    fn stamp(&self, client: SocketAddr) -> Option<u64>;

    /// When a fault was over, in nanoseconds of CLOCK_MONOTONIC; 0 until then.
    fn fault_over_ns(&self, fault: usize) -> u64;

    /// Whether the user has interrupted the load.
    fn is_interrupted(&self) -> bool;
}

/// The shared memory of a trial.
pub(super) struct TrialObserver {
    pub context: TrialContext,
    /// This loader's number.
    pub loader: usize,
}

impl Observer for TrialObserver {
    #[inline]
    fn count(&self, count: LoaderCount) {
        self.context.control.add_loader(self.loader, count);
    }

    #[inline]
    fn show(&self, kept: LoaderKept, wait_ns: u64) {
        self.context.control.keep_of_loader(self.loader, kept, wait_ns);
    }

    #[inline]
    fn established(&self, client: SocketAddr) {
        if let Some(ledger) = &self.context.ledger {
            ledger.established(client);
        }
    }

    #[inline]
    fn has_ledger(&self) -> bool {
        self.context.ledger.is_some()
    }

    #[inline]
    fn accept(&self, client: SocketAddr, connect_ns: u64) -> Option<Entry> {
        self.context.ledger.as_ref()?.entry(client, connect_ns)
    }

    #[inline]
    fn journey(&self, client: SocketAddr) -> Option<Journey> {
        Some(self.context.ledger.as_ref()?.journey(client))
    }

    #[inline]
    fn stamp(&self, client: SocketAddr) -> Option<u64> {
        self.context.stamps.as_ref()?.look(client)
    }

    fn fault_over_ns(&self, fault: usize) -> u64 {
        self.context.control.fault(fault).over_ns
    }

    #[inline]
    fn is_interrupted(&self) -> bool {
        self.context.control.phase() != Phase::Running
    }
}
