//! The port ledger: for every client port, how many connections a loader established and how many a worker accepted.
//!
//! It answers two questions that neither side can answer alone. Which established connections did no worker ever
//! accept? And, for an app that sends no reply, when and by whom was mine accepted? A slot belongs to one client port
//! of the loaders' one source address; the kernel gives a port of one tuple group to one connection at a time.

use std::{
    io,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use serde::{Deserialize, Serialize};

use crate::sys::shared::SharedSlice;

const PORTS: usize = 1 << 16;

const ESTABLISHED: usize = 0;
const ACCEPTED: usize = 1;
const ACCEPT_NS: usize = 2;
const WORKER: usize = 3;

/// One slot of 32 bytes per client port: 2 MiB, of which only used pages cost memory.
#[derive(Debug)]
pub struct Ledger {
    slots: SharedSlice<[AtomicU64; 4]>,
}

/// An accept as the worker entered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The accepting worker.
    pub worker: u16,
    /// When accept returned, in nanoseconds of CLOCK_MONOTONIC.
    pub accept_ns: u64,
}

/// What the ledger shows when all has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Established connections that no worker accepted.
    pub never_accepted: u64,
    /// Accepts of connections that no loader established: somebody else's.
    pub foreign: u64,
}

impl Ledger {
    /// An empty ledger, to be made before the fork.
    pub fn new() -> io::Result<Self> {
        Ok(Self { slots: SharedSlice::new(PORTS)? })
    }

    /// A loader's connection from this port is established.
    #[inline]
    pub fn established(&self, client_port: u16) {
        // Loaders share the ports, so this is the one word with several writers.
        self.slots[usize::from(client_port)][ESTABLISHED].fetch_add(1, Relaxed);
    }

    /// A worker has accepted a connection from this port.
    #[inline]
    pub fn accepted(&self, client_port: u16, worker: u16, accept_ns: u64) {
        let slot = &self.slots[usize::from(client_port)];
        slot[WORKER].store(u64::from(worker), Relaxed);
        slot[ACCEPT_NS].store(accept_ns, Release);
        slot[ACCEPTED].fetch_add(1, Relaxed);
    }

    /// The accept of the connection from this port that began at `connect_ns`; `None` when it was not accepted (yet).
    #[inline]
    pub fn entry(&self, client_port: u16, connect_ns: u64) -> Option<Entry> {
        let slot = &self.slots[usize::from(client_port)];
        let accept_ns = slot[ACCEPT_NS].load(Acquire);
        // An older time stamp is that of an earlier connection from the same port.
        (accept_ns >= connect_ns).then(|| Entry { worker: slot[WORKER].load(Relaxed) as u16, accept_ns })
    }

    /// Sums up. Meaningful once loaders have ended and workers accept nothing more.
    pub fn balance(&self) -> Balance {
        let mut balance = Balance::default();
        for slot in self.slots.iter() {
            let (established, accepted) = (slot[ESTABLISHED].load(Relaxed), slot[ACCEPTED].load(Relaxed));
            balance.never_accepted += established.saturating_sub(accepted);
            balance.foreign += accepted.saturating_sub(established);
        }
        balance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balance_names_both_sides() {
        let ledger = Ledger::new().unwrap();
        for port in [1, 2, 2, 3] {
            ledger.established(port);
        }
        ledger.accepted(2, 0, 50);
        ledger.accepted(9, 1, 60);
        assert_eq!(ledger.balance(), Balance { never_accepted: 3, foreign: 1 });
    }

    #[test]
    fn an_entry_older_than_the_connection_is_not_its_own() {
        let ledger = Ledger::new().unwrap();
        ledger.accepted(7, 3, 100);
        assert_eq!(ledger.entry(7, 90), Some(Entry { worker: 3, accept_ns: 100 }));
        assert_eq!(ledger.entry(7, 101), None);
    }
}
