//! The port ledger: for every client port, how many connections a loader established and how many a worker accepted.
//!
//! It answers two questions that neither side can answer alone. Which established connections did no worker ever
//! accept? And, for an app that sends no reply, when and by whom was mine accepted? A slot belongs to one client address
//! and port; the kernel gives a port of one tuple group to one connection at a time.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use serde::{Deserialize, Serialize};

use crate::sys::{clock, shared::SharedSlice};

const PORTS: usize = 1 << 16;

/// The words of a slot: how many a worker accepted, then the last accepts.
const ACCEPTED: usize = 0;
const ACCEPTS: usize = 1;
/// A port freed by a reset may serve, and be accepted, again before the first connection's loader has looked.
const KEPT: usize = 4;
const WORDS: usize = ACCEPTS + KEPT;
/// An accept in one word: its time above these bits, since the ledger was made, and its worker in them. That is enough for more
/// workers than there may be, and for 52 days.
const WORKER_BITS: u32 = 12;

/// A few slots of together 76 bytes per client port: 5 MiB, of which only used pages cost memory. What loaders write and what
/// workers write lies apart: a line that the other side has just written costs either a hundred nanoseconds.
#[derive(Debug)]
pub struct Ledger {
    /// The loaders' addresses and their places; empty where there is one only, whichever the kernel picks.
    places: HashMap<IpAddr, usize>,
    /// When it was made, in nanoseconds of CLOCK_MONOTONIC: before any accept.
    since_ns: u64,
    slots: SharedSlice<[AtomicU64; WORDS]>,
    /// By client port: connections that a loader established.
    established: SharedSlice<AtomicU32>,
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
    /// An empty ledger for clients at these addresses, or at one that nobody names, to be made before the fork.
    pub fn new(addresses: &[IpAddr]) -> io::Result<Self> {
        Self::since(addresses, clock::monotonic_ns())
    }

    fn since(addresses: &[IpAddr], since_ns: u64) -> io::Result<Self> {
        let slots = PORTS * addresses.len().max(1);
        let places = if addresses.len() > 1 { addresses } else { &[] };
        Ok(Self {
            places: places.iter().enumerate().map(|(place, address)| (*address, place)).collect(),
            since_ns,
            slots: SharedSlice::new(slots)?,
            established: SharedSlice::new(slots)?,
            journeys: SharedSlice::new(slots)?,
            nameless: SharedSlice::new(1)?,
        })
    }

    /// The slot of a client; that of the first address for a stranger's.
    #[inline]
    fn place(&self, client: SocketAddr) -> usize {
        let place = if self.places.is_empty() { 0 } else { self.places.get(&client.ip()).copied().unwrap_or(0) };
        place * PORTS + usize::from(client.port())
    }

    /// A loader's connection from this port is established.
    #[inline]
    pub fn established(&self, client: SocketAddr) {
        // Loaders share the ports, so this is the one word with several writers.
        self.established[self.place(client)].fetch_add(1, Relaxed);
    }

    /// A worker has accepted a connection from this port.
    #[inline]
    pub fn accepted(&self, client: SocketAddr, worker: u16, accept_ns: u64) {
        let slot = &self.slots[self.place(client)];
        let at = ACCEPTS + slot[ACCEPTED].fetch_add(1, Relaxed) as usize % KEPT;
        slot[at].store((accept_ns - self.since_ns) << WORKER_BITS | u64::from(worker), Release);
    }

    /// A worker has accepted a connection whose client is not known any more.
    pub fn accepted_nameless(&self) {
        self.nameless[0].fetch_add(1, Relaxed);
    }

    /// The accept of the connection from this port that began at `connect_ns`; `None` when it was not accepted (yet).
    ///
    /// Accepts since then may be of later connections from the same port; the earliest is this one's.
    #[inline]
    pub fn entry(&self, client: SocketAddr, connect_ns: u64) -> Option<Entry> {
        let entry = |accept: u64| Entry {
            worker: (accept & ((1 << WORKER_BITS) - 1)) as u16,
            accept_ns: self.since_ns + (accept >> WORKER_BITS),
        };
        self.slots[self.place(client)][ACCEPTS..]
            .iter()
            .map(|accept| entry(accept.load(Acquire)))
            .filter(|entry| entry.accept_ns >= connect_ns)
            .min_by_key(|entry| entry.accept_ns)
    }

    /// The worker of the connection from this port is about to answer it for the first time.
    #[inline]
    pub fn travelled(&self, client: SocketAddr, journey: &Journey) {
        let instants = [journey.woke_ns, journey.accept_ns, journey.read_ns, journey.replied_ns];
        for (word, instant) in self.journeys[self.place(client)].iter().zip(instants) {
            word.store(instant, Release);
        }
    }

    /// What the worker of the last connection from this port entered. The reply that it precedes brings it along.
    #[inline]
    pub fn journey(&self, client: SocketAddr) -> Journey {
        let [woke_ns, accept_ns, read_ns, replied_ns] =
            self.journeys[self.place(client)].each_ref().map(|word| word.load(Acquire));
        Journey { woke_ns, accept_ns, read_ns, replied_ns }
    }

    /// Sums up. Meaningful once loaders have ended and workers accept nothing more.
    pub fn balance(&self) -> Balance {
        let mut balance = Balance::default();
        for (slot, established) in self.slots.iter().zip(self.established.iter()) {
            let (established, accepted) = (u64::from(established.load(Relaxed)), slot[ACCEPTED].load(Relaxed));
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

    fn client(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn the_balance_names_both_sides() {
        let ledger = Ledger::since(&[], 0).unwrap();
        for port in [1, 2, 2, 3] {
            ledger.established(client(port));
        }
        ledger.accepted(client(2), 0, 50);
        ledger.accepted(client(9), 1, 60);
        assert_eq!(ledger.balance(), Balance { never_accepted: 3, foreign: 1 });
    }

    #[test]
    fn an_entry_older_than_the_connection_is_not_its_own() {
        let ledger = Ledger::since(&[], 0).unwrap();
        ledger.accepted(client(7), 3, 100);
        assert_eq!(ledger.entry(client(7), 90), Some(Entry { worker: 3, accept_ns: 100 }));
        assert_eq!(ledger.entry(client(7), 101), None);
    }

    #[test]
    fn of_several_accepts_the_earliest_since_the_connect_is_ones_own() {
        let ledger = Ledger::since(&[], 0).unwrap();
        for (worker, accept_ns) in [(0, 100), (1, 200), (2, 300), (3, 400), (4, 500)] {
            ledger.accepted(client(7), worker, accept_ns);
        }
        assert_eq!(ledger.entry(client(7), 250), Some(Entry { worker: 2, accept_ns: 300 }));
    }

    #[test]
    fn addresses_are_told_apart() {
        let addresses: Vec<IpAddr> = (2..5).map(|host| [127, 0, 0, host].into()).collect();
        let ledger = Ledger::since(&addresses, 0).unwrap();
        ledger.established((addresses[0], 7).into());
        ledger.accepted((addresses[2], 7).into(), 1, 50);
        assert_eq!(ledger.balance(), Balance { never_accepted: 1, foreign: 1 });
        assert_eq!(ledger.entry((addresses[1], 7).into(), 1), None);
    }
}
