//! The port ledger: for every client port, how many connections a loader established and how many a worker accepted.
//!
//! It answers two questions that neither side can answer alone: which established connections no worker ever accepted; and, for
//! an app that sends no reply, which worker accepted a given connection, and when. A slot belongs to one client address and port;
//! the kernel gives a port of one tuple group to one connection at a time.

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

/// The words of a slot: the number of accepts, then the latest accepts.
const ACCEPTED: usize = 0;
const ACCEPTS: usize = 1;
/// Accepts kept per slot: a port freed by a reset may be reused and accepted again before the first connection's loader looks.
const KEPT: usize = 4;
const WORDS: usize = ACCEPTS + KEPT;
/// An accept fits in one word: its worker in these low bits, and above them its time since the ledger was made. That is enough for
/// more workers than a scenario may have, and for 52 days.
const WORKER_BITS: u32 = 12;

/// Slots totalling 76 bytes per client port: 5 MiB, of which only touched pages use memory. What loaders write and what workers write
/// is kept apart: touching a cache line that the other side has just written costs a hundred nanoseconds.
#[derive(Debug)]
pub struct Ledger {
    /// Place of each loader address; empty if there is only one address, whichever the kernel picks.
    places: HashMap<IpAddr, usize>,
    /// When it was made, in nanoseconds of CLOCK_MONOTONIC: before any accept.
    since_ns: u64,
    slots: SharedSlice<[AtomicU64; WORDS]>,
    /// By client port: connections that a loader established.
    established: SharedSlice<AtomicU32>,
    /// By client port: the connection's [`Journey`].
    journeys: SharedSlice<[AtomicU64; 4]>,
    /// Number of accepted connections whose client was gone before its port could be read.
    nameless: SharedSlice<AtomicU64>,
}

/// A connection's journey through its worker, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Journey {
    /// The wake-up in which the worker accepted it.
    pub woke_ns: u64,
    /// accept's return.
    pub accept_ns: u64,
    /// When the first byte was read.
    pub read_ns: u64,
    /// Just before the first reply was passed to the kernel; without replies, just before the close.
    pub replied_ns: u64,
}

/// An accept as the worker recorded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The accepting worker.
    pub worker: u16,
    /// When accept returned, in nanoseconds of CLOCK_MONOTONIC.
    pub accept_ns: u64,
}

/// What the ledger shows once loaders and workers have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Established connections that no worker accepted.
    pub never_accepted: u64,
    /// Accepted connections that no loader established: another program's.
    pub foreign: u64,
}

impl Ledger {
    /// An empty ledger for clients at these addresses; none means a single address that the kernel picks. Make it before the fork.
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

    /// The slot of a client. Unknown addresses share the slots of the first.
    #[inline]
    fn place(&self, client: SocketAddr) -> usize {
        let place = if self.places.is_empty() { 0 } else { self.places.get(&client.ip()).copied().unwrap_or(0) };
        place * PORTS + usize::from(client.port())
    }

    /// Records that a loader's connection from this port is established.
    #[inline]
    pub fn established(&self, client: SocketAddr) {
        // Loaders share the ports, so this is the one word with several writers.
        self.established[self.place(client)].fetch_add(1, Relaxed);
    }

    /// Records that a worker has accepted a connection from this port.
    #[inline]
    pub fn accepted(&self, client: SocketAddr, worker: u16, accept_ns: u64) {
        let slot = &self.slots[self.place(client)];
        let at = ACCEPTS + slot[ACCEPTED].fetch_add(1, Relaxed) as usize % KEPT;
        slot[at].store((accept_ns - self.since_ns) << WORKER_BITS | u64::from(worker), Release);
    }

    /// Records that a worker has accepted a connection whose client can no longer be identified.
    pub fn accepted_nameless(&self) {
        self.nameless[0].fetch_add(1, Relaxed);
    }

    /// The accept of the connection from this port that began at `connect_ns`; `None` if it has not been accepted (yet).
    ///
    /// Later accepts may belong to later connections from the same port; the earliest is this one's.
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

    /// Records the journey of the connection from this port, just before its worker first answers it.
    #[inline]
    pub fn travelled(&self, client: SocketAddr, journey: &Journey) {
        let instants = [journey.woke_ns, journey.accept_ns, journey.read_ns, journey.replied_ns];
        for (word, instant) in self.journeys[self.place(client)].iter().zip(instants) {
            word.store(instant, Release);
        }
    }

    /// The journey of the latest connection from this port. It is recorded before the reply is sent, so a client that has the reply sees it.
    #[inline]
    pub fn journey(&self, client: SocketAddr) -> Journey {
        let [woke_ns, accept_ns, read_ns, replied_ns] =
            self.journeys[self.place(client)].each_ref().map(|word| word.load(Acquire));
        Journey { woke_ns, accept_ns, read_ns, replied_ns }
    }

    /// Sums up the ledger. Only meaningful once loaders have ended and workers no longer accept.
    pub fn balance(&self) -> Balance {
        let mut balance = Balance::default();
        for (slot, established) in self.slots.iter().zip(self.established.iter()) {
            let (established, accepted) = (u64::from(established.load(Relaxed)), slot[ACCEPTED].load(Relaxed));
            balance.never_accepted += established.saturating_sub(accepted);
            balance.foreign += accepted.saturating_sub(established);
        }
        // Nameless accepts belong to established connections whose slots show no accept.
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
    fn the_balance_counts_both_sides() {
        let ledger = Ledger::since(&[], 0).unwrap();
        for port in [1, 2, 2, 3] {
            ledger.established(client(port));
        }
        ledger.accepted(client(2), 0, 50);
        ledger.accepted(client(9), 1, 60);
        assert_eq!(ledger.balance(), Balance { never_accepted: 3, foreign: 1 });
    }

    #[test]
    fn an_accept_before_the_connect_is_not_this_connections() {
        let ledger = Ledger::since(&[], 0).unwrap();
        ledger.accepted(client(7), 3, 100);
        assert_eq!(ledger.entry(client(7), 90), Some(Entry { worker: 3, accept_ns: 100 }));
        assert_eq!(ledger.entry(client(7), 101), None);
    }

    #[test]
    fn the_earliest_accept_after_the_connect_is_this_connections() {
        let ledger = Ledger::since(&[], 0).unwrap();
        for (worker, accept_ns) in [(0, 100), (1, 200), (2, 300), (3, 400), (4, 500)] {
            ledger.accepted(client(7), worker, accept_ns);
        }
        assert_eq!(ledger.entry(client(7), 250), Some(Entry { worker: 2, accept_ns: 300 }));
    }

    #[test]
    fn addresses_have_separate_slots() {
        let addresses: Vec<IpAddr> = (2..5).map(|host| [127, 0, 0, host].into()).collect();
        let ledger = Ledger::since(&addresses, 0).unwrap();
        ledger.established((addresses[0], 7).into());
        ledger.accepted((addresses[2], 7).into(), 1, 50);
        assert_eq!(ledger.balance(), Balance { never_accepted: 1, foreign: 1 });
        assert_eq!(ledger.entry((addresses[1], 7).into(), 1), None);
    }
}
