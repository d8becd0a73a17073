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

/// The words of a slot: two counts, then the last accepts, each a time and a worker.
const ESTABLISHED: usize = 0;
const ACCEPTED: usize = 1;
const ACCEPTS: usize = 2;
/// A port freed by a reset may serve, and be accepted, again before the first connection's loader has looked.
const KEPT: usize = 4;
const WORDS: usize = ACCEPTS + 2 * KEPT;

/// One slot of 80 bytes per client port: 5 MiB, of which only used pages cost memory.
#[derive(Debug)]
pub struct Ledger {
    slots: SharedSlice<[AtomicU64; WORDS]>,
    /// By client port: when the connection's worker did what, as [`Journey`].
    journeys: SharedSlice<[AtomicU64; 4]>,
    /// Accepts of connections whose client had gone before its port could be read.
    nameless: SharedSlice<AtomicU64>,
}

/// A connection's way through its worker, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Journey {
    /// The wake-up in which the worker took it up.
    pub woke_ns: u64,
    /// accept's return.
    pub accept_ns: u64,
    /// The first byte read.
    pub read_ns: u64,
    /// Just before the first reply was handed to the kernel; without replies, before the close.
    pub replied_ns: u64,
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
        Ok(Self { slots: SharedSlice::new(PORTS)?, journeys: SharedSlice::new(PORTS)?, nameless: SharedSlice::new(1)? })
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
        let at = ACCEPTS + 2 * (slot[ACCEPTED].fetch_add(1, Relaxed) as usize % KEPT);
        slot[at + 1].store(u64::from(worker), Relaxed);
        slot[at].store(accept_ns, Release);
    }

    /// A worker has accepted a connection whose client is not known any more.
    pub fn accepted_nameless(&self) {
        self.nameless[0].fetch_add(1, Relaxed);
    }

    /// The accept of the connection from this port that began at `connect_ns`; `None` when it was not accepted (yet).
    ///
    /// Accepts since then may be of later connections from the same port; the earliest is this one's.
    #[inline]
    pub fn entry(&self, client_port: u16, connect_ns: u64) -> Option<Entry> {
        self.slots[usize::from(client_port)][ACCEPTS..]
            .chunks_exact(2)
            .map(|accept| (accept[0].load(Acquire), &accept[1]))
            .filter(|(accept_ns, _)| *accept_ns >= connect_ns)
            .min_by_key(|(accept_ns, _)| *accept_ns)
            .map(|(accept_ns, worker)| Entry { worker: worker.load(Relaxed) as u16, accept_ns })
    }

    /// The worker of the connection from this port is about to answer it for the first time.
    #[inline]
    pub fn travelled(&self, client_port: u16, journey: &Journey) {
        let instants = [journey.woke_ns, journey.accept_ns, journey.read_ns, journey.replied_ns];
        for (word, instant) in self.journeys[usize::from(client_port)].iter().zip(instants) {
            word.store(instant, Release);
        }
    }

    /// What the worker of the last connection from this port entered. The reply that it precedes brings it along.
    #[inline]
    pub fn journey(&self, client_port: u16) -> Journey {
        let [woke_ns, accept_ns, read_ns, replied_ns] =
            self.journeys[usize::from(client_port)].each_ref().map(|word| word.load(Acquire));
        Journey { woke_ns, accept_ns, read_ns, replied_ns }
    }

    /// Sums up. Meaningful once loaders have ended and workers accept nothing more.
    pub fn balance(&self) -> Balance {
        let mut balance = Balance::default();
        for slot in self.slots.iter() {
            let (established, accepted) = (slot[ESTABLISHED].load(Relaxed), slot[ACCEPTED].load(Relaxed));
            balance.never_accepted += established.saturating_sub(accepted);
            balance.foreign += accepted.saturating_sub(established);
        }
        // They are of established connections: of some whose own slots show none.
        balance.never_accepted = balance.never_accepted.saturating_sub(self.nameless[0].load(Relaxed));
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

    #[test]
    fn of_several_accepts_the_earliest_since_the_connect_is_ones_own() {
        let ledger = Ledger::new().unwrap();
        for (worker, accept_ns) in [(0, 100), (1, 200), (2, 300), (3, 400), (4, 500)] {
            ledger.accepted(7, worker, accept_ns);
        }
        assert_eq!(ledger.entry(7, 250), Some(Entry { worker: 2, accept_ns: 300 }));
    }
}
