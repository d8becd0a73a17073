//! The port ledger: for every client port, how many connections a loader established and how many a worker accepted.
//!
//! It answers two questions that neither side can answer alone: which established connections no worker ever accepted; and, for
//! an app that sends no reply, which worker accepted a given connection, and when. A slot belongs to one client address and port;
//! the kernel gives a port of one tuple group to one connection at a time.

use std::{
    io,
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
            fence,
        },
    },
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    draws::{Drawn, Seen},
    places::Places,
};
use crate::{
    record::Flows,
    sys::{clock, shared::SharedSlice},
};

/// Slots for each client address.
pub(super) const PORTS: usize = 1 << 16;

/// Accepts kept per slot: a port freed by a reset may be reused and accepted again before the first connection's loader looks.
const KEPT: usize = 4;
/// An accept fits in one word: its worker in these low bits, and above them its time since the ledger was made. That is enough for
/// more workers than a scenario may have, and for 52 days.
const WORKER_BITS: u32 = 12;
/// Slots that are marked together once one of them is used: whoever reads a job's ledger looks at no others, because reading a page costs
/// as much memory as writing it.
const BLOCK: usize = 64;
/// Set once a loader has given up on a connection from the port before it was established.
const GIVEN_UP: u32 = 1 << 31;

/// What workers record of the connections from one client port: the latest accepts; the number of accepts, and the place of that whose
/// [`Journey`] follows, counted from 1; that journey before the accept, and after it. At 64 bytes, it is one line of the cache, since
/// mappings begin at a page.
type Slot = ([AtomicU64; KEPT], [AtomicU32; 2], [Lengths; 2]);
/// Two lengths of time in nanoseconds: the low words of both, and a word of what is above.
type Lengths = [AtomicU32; 3];
/// Stands for a length that is not known, or does not fit: 78 hours.
const UNKNOWN: u64 = (1 << 48) - 1;

/// Slots and words totalling 84 bytes per client port: 5.3 MiB, of which only touched pages use memory. What loaders write and what workers
/// write is kept apart: touching a cache line that the other side has just written costs a hundred nanoseconds.
#[derive(Debug)]
pub struct Ledger {
    places: Arc<Places>,
    /// When it was made, in nanoseconds of CLOCK_MONOTONIC: before any accept.
    since_ns: u64,
    slots: SharedSlice<Slot>,
    /// By client port: connections that a loader established, and [`GIVEN_UP`].
    established: SharedSlice<AtomicU32>,
    /// By block of slots: whether a loader established anything there, and whether a worker accepted anything.
    loaded: SharedSlice<AtomicU32>,
    served: SharedSlice<AtomicU32>,
    /// By client port: 1 + the worker that first answered the latest datagram flow; 0 without any.
    flows: SharedSlice<AtomicU32>,
    /// By client port: 1 + the worker that last received a datagram of a flow that began there since the last look; 0 without any.
    receivers: SharedSlice<AtomicU32>,
    /// By client port: when the latest connection that a worker closed at once, for want of a descriptor, was accepted.
    shed: SharedSlice<AtomicU64>,
    /// Accepts that no slot shows: of clients that were gone before their port could be read, and of strangers.
    nameless: SharedSlice<AtomicU64>,
    strangers: SharedSlice<AtomicU64>,
}

/// A connection's journey through its worker, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Journey {
    /// The wake-up in which the worker, or the thread or process that handed it over, accepted it.
    pub woke_ns: u64,
    /// The return of accept there. With io_uring, when the worker took it from the ring.
    pub returned_ns: u64,
    /// The end of its accept wait: the worker had it. Later than accept's return only if it was handed over.
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
    /// When the worker had the connection, in nanoseconds of CLOCK_MONOTONIC.
    pub accept_ns: u64,
}

/// By client port: 1 + the worker that last received a datagram from it; 0 without any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receivers(Vec<u32>);

impl Receivers {
    /// Takes over who has received something since, and tells how many flows went on, and how many of these went to another worker.
    pub fn update(&mut self, later: Self) -> Flows {
        let mut flows = Flows::default();
        self.0.resize(later.0.len().max(self.0.len()), 0);
        for (known, now) in self.0.iter_mut().zip(later.0).filter(|(_, now)| *now != 0) {
            flows.known += u64::from(*known != 0);
            flows.moved += u64::from(*known != 0 && *known != now);
            *known = now;
        }
        flows
    }
}

/// What the ledger shows once loaders and workers have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Established connections that no worker accepted.
    pub never_accepted: u64,
    /// Connections accepted beyond those that a loader established, from ports that loaders used.
    pub beyond_established: u64,
    /// Connections accepted from ports that no loader used, and from strangers: another program's.
    pub foreign: u64,
}

/// A client end outside the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a loader connected from {0}, which is not an address of the job's hosts")]
pub struct Unexpected(SocketAddr);

impl Ledger {
    /// An empty ledger for these clients. Make it before the fork.
    pub fn new(places: Arc<Places>) -> io::Result<Self> {
        Self::since(places, clock::monotonic_ns())
    }

    fn since(places: Arc<Places>, since_ns: u64) -> io::Result<Self> {
        let slots = PORTS * places.len();
        Ok(Self {
            places,
            since_ns,
            slots: SharedSlice::new(slots)?,
            established: SharedSlice::new(slots)?,
            loaded: SharedSlice::new(slots / BLOCK)?,
            served: SharedSlice::new(slots / BLOCK)?,
            flows: SharedSlice::new(slots)?,
            receivers: SharedSlice::new(slots)?,
            shed: SharedSlice::new(slots)?,
            nameless: SharedSlice::new(1)?,
            strangers: SharedSlice::new(1)?,
        })
    }

    /// The slot of a client; `None` for a stranger.
    #[inline]
    fn place(&self, client: SocketAddr) -> Option<usize> {
        Some(self.places.place(client.ip())? * PORTS + usize::from(client.port()))
    }

    /// Records that a loader's connection from this port is established.
    #[inline]
    pub fn established(&self, client: SocketAddr) {
        let Some(place) = self.place(client) else { return };
        mark(&self.loaded, place);
        // Loaders share the ports, so this is the one word with several writers.
        self.established[place].fetch_add(1, Relaxed);
    }

    /// Records that a loader has given up on a connection from this port that was not established.
    pub fn given_up(&self, client: SocketAddr) {
        let Some(place) = self.place(client) else { return };
        mark(&self.loaded, place);
        self.established[place].fetch_or(GIVEN_UP, Relaxed);
    }

    /// What the loaders of this ledger entered, for the ledger of their server on another host: each client end that they used, with a word
    /// for [`Self::add_established`].
    pub fn established_words(&self) -> impl Iterator<Item = (SocketAddr, u32)> {
        let used = |block: &usize| self.loaded[*block].load(Relaxed) != 0;
        (0..self.loaded.len()).filter(used).flat_map(slots_of).filter_map(|place| {
            let word = self.established[place].load(Relaxed);
            let address = self.places.addresses().get(place / PORTS)?;
            (word != 0).then_some((SocketAddr::new(*address, (place % PORTS) as u16), word))
        })
    }

    /// Enters what loaders on another host did with a client end, as their [`Self::established_words`] says. Fails for a stranger's: its
    /// accepts are not told apart.
    pub fn add_established(&self, client: SocketAddr, word: u32) -> Result<(), Unexpected> {
        let place = self.place(client).ok_or(Unexpected(client))?;
        mark(&self.loaded, place);
        let established = &self.established[place];
        established.fetch_add(word & !GIVEN_UP, Relaxed);
        established.fetch_or(word & GIVEN_UP, Relaxed);
        Ok(())
    }

    /// Records that a worker has accepted a connection from this port. Strangers are only counted.
    #[inline]
    pub fn accepted(&self, client: SocketAddr, worker: u16, accept_ns: u64) {
        let Some(place) = self.place(client) else {
            self.strangers[0].fetch_add(1, Relaxed);
            return;
        };
        mark(&self.served, place);
        let (accepts, [accepted, _], _) = &self.slots[place];
        let at = accepted.fetch_add(1, Relaxed) as usize % KEPT;
        accepts[at].store((accept_ns - self.since_ns) << WORKER_BITS | u64::from(worker), Release);
    }

    /// Records that a worker has accepted a connection whose client can no longer be identified.
    pub fn accepted_nameless(&self) {
        self.nameless[0].fetch_add(1, Relaxed);
    }

    /// Records that the connection from this port, which was accepted at this time, is closed for want of a descriptor. To be called before
    /// the close, or its client may look too soon.
    pub fn shed(&self, client: SocketAddr, accept_ns: u64) {
        let Some(place) = self.place(client) else { return };
        self.shed[place].store(accept_ns, Release);
    }

    /// Whether the connection from this port that began at `connect_ns` was closed so.
    pub fn is_shed(&self, client: SocketAddr, connect_ns: u64) -> bool {
        let shed_ns = self.place(client).map_or(0, |place| self.shed[place].load(Acquire));
        shed_ns > 0 && shed_ns >= connect_ns
    }

    /// The accept of the connection from this port that began at `connect_ns`; `None` if it has not been accepted (yet).
    ///
    /// Later accepts may belong to later connections from the same port; the earliest is this one's.
    #[inline]
    pub fn entry(&self, client: SocketAddr, connect_ns: u64) -> Option<Entry> {
        let (accepts, ..) = &self.slots[self.place(client)?];
        accepts
            .iter()
            .map(|accept| accept.load(Acquire))
            .map(|accept| Entry { worker: worker_of(accept), accept_ns: self.accepted_at(accept) })
            .filter(|entry| entry.accept_ns >= connect_ns)
            .min_by_key(|entry| entry.accept_ns)
    }

    /// Records how the connection from this port, accepted then, came to its worker: the beginning of its [`Journey`].
    #[inline]
    pub fn arrived(&self, client: SocketAddr, woke_ns: u64, returned_ns: u64, accept_ns: u64) {
        let Some(place) = self.place(client) else { return };
        let (accepts, [_, current], [before, after]) = &self.slots[place];
        let is_its = |accept: &AtomicU64| self.accepted_at(accept.load(Relaxed)) == accept_ns;
        current.store(accepts.iter().position(is_its).map_or(0, |place| place as u32 + 1), Relaxed);
        // Whoever reads any of what follows finds that another journey has begun.
        fence(Release);
        // An accept takes no time if its loop noted that it had woken up later.
        let instants = [woke_ns.min(returned_ns), returned_ns];
        put(before, instants.map(|instant| accept_ns.checked_sub(instant)));
        put(after, [None; 2]);
    }

    /// Records the rest of its journey, just before its worker first answers it. If another connection has arrived from its port, nobody
    /// asks for it any more.
    #[inline]
    pub fn answered(&self, client: SocketAddr, accept_ns: u64, read_ns: u64, replied_ns: u64) {
        let Some(place) = self.place(client) else { return };
        let slot = &self.slots[place];
        if self.arrival(slot).is_some_and(|(_, latest_ns)| latest_ns == accept_ns) {
            put(&slot.2[1], [read_ns, replied_ns].map(|instant| instant.checked_sub(accept_ns)));
        }
    }

    /// The accept whose journey a slot has: its place, and when it was.
    #[inline]
    fn arrival(&self, (accepts, [_, current], _): &Slot) -> Option<(u32, u64)> {
        let current = current.load(Acquire);
        let accept = accepts.get((current as usize).checked_sub(1)?)?;
        Some((current, self.accepted_at(accept.load(Relaxed))))
    }

    /// The journey of the latest connection from this port. It is recorded before the reply is sent, so a client that has the reply sees
    /// it, or a later connection's, whose accept is later too. `None` if there is none, or it took longer than a slot can say: 78 hours.
    #[inline]
    pub fn journey(&self, client: SocketAddr) -> Option<Journey> {
        let slot = &self.slots[self.place(client)?];
        let (current, accept_ns) = self.arrival(slot)?;
        let (_, [_, now_current], [before, after]) = slot;
        let ([woke, returned], [read, replied]) = (take(before)?, take(after)?);
        // Instants of two connections are not to be mixed.
        fence(Acquire);
        (now_current.load(Relaxed) == current).then(|| Journey {
            woke_ns: accept_ns - woke,
            returned_ns: accept_ns - returned,
            accept_ns,
            read_ns: accept_ns + read,
            replied_ns: accept_ns + replied,
        })
    }

    /// The time of an accept in a slot.
    #[inline]
    fn accepted_at(&self, accept: u64) -> u64 {
        self.since_ns + (accept >> WORKER_BITS)
    }

    /// Records which worker first answered the datagram flow from this port.
    #[inline]
    pub fn flow_answered(&self, client: SocketAddr, worker: u16) {
        let Some(place) = self.place(client) else { return };
        self.flows[place].store(u32::from(worker) + 1, Relaxed);
    }

    /// Records which worker has just received a datagram of the flow that began at this port.
    #[inline]
    pub fn received(&self, client: SocketAddr, worker: u16) {
        let Some(place) = self.place(client) else { return };
        self.receivers[place].store(u32::from(worker) + 1, Relaxed);
    }

    /// Who last received a datagram of each flow since the last call.
    pub fn take_receivers(&self) -> Receivers {
        // Most words are 0, and only those that are not need an atomic exchange.
        let take = |word: &AtomicU32| if word.load(Relaxed) == 0 { 0 } else { word.swap(0, Relaxed) };
        Receivers(self.receivers.iter().map(take).collect())
    }

    /// The distinct client ends whose connections each member accepted. Of an end with more than four accepts, the last four count, which
    /// are one member's unless the group of listeners changed.
    pub fn tuples(&self, members: usize, seen: Option<&Seen>) -> Drawn {
        let accepted_by = |(accepts, [accepted, _], _): &Slot| {
            let kept = (accepted.load(Relaxed) as usize).min(KEPT);
            let mut workers: Vec<u16> = accepts[..kept].iter().map(|accept| worker_of(accept.load(Acquire))).collect();
            workers.sort_unstable();
            workers.dedup();
            workers
        };
        let served = |block: &usize| self.served[*block].load(Relaxed) != 0;
        let slots = (0..self.served.len()).filter(served).flat_map(slots_of).map(|place| (place, &self.slots[place]));
        let used = slots.filter(|(_, (_, [accepted, _], _))| accepted.load(Relaxed) > 0);
        Drawn::count(members, seen, false, used.map(|(place, slot)| (place, accepted_by(slot))))
    }

    /// The distinct client ends whose datagram flows each member answered first.
    pub fn flows(&self, members: usize, seen: Option<&Seen>) -> Drawn {
        let answered = self.flows.iter().map(|word| word.load(Relaxed)).enumerate().filter(|(_, word)| *word > 0);
        Drawn::count(members, seen, true, answered.map(|(place, word)| (place, [(word - 1) as u16])))
    }

    /// Sums up the ledger. Only meaningful once loaders have ended and workers no longer accept.
    pub fn balance(&self) -> Balance {
        let mut balance = Balance { foreign: self.strangers[0].load(Relaxed), ..Balance::default() };
        let used = |block: &usize| self.loaded[*block].load(Relaxed) != 0 || self.served[*block].load(Relaxed) != 0;
        for place in (0..self.loaded.len()).filter(used).flat_map(slots_of) {
            let (_, [accepted, _], _) = &self.slots[place];
            let (word, accepted) = (self.established[place].load(Relaxed), u64::from(accepted.load(Relaxed)));
            let established = u64::from(word & !GIVEN_UP);
            balance.never_accepted += established.saturating_sub(accepted);
            let beyond = accepted.saturating_sub(established);
            *if word == 0 { &mut balance.foreign } else { &mut balance.beyond_established } += beyond;
        }
        // Nameless accepts belong to established connections whose slots show no accept.
        balance.never_accepted = balance.never_accepted.saturating_sub(self.nameless[0].load(Relaxed));
        balance
    }
}

/// Marks the block of a slot.
#[inline]
fn mark(blocks: &[AtomicU32], place: usize) {
    let block = &blocks[place / BLOCK];
    // Nearly always marked already, and then only read.
    if block.load(Relaxed) == 0 {
        block.store(1, Relaxed);
    }
}

/// The slots of a block.
fn slots_of(block: usize) -> Range<usize> {
    block * BLOCK..(block + 1) * BLOCK
}

/// Notes two lengths of time.
#[inline]
fn put([first, second, above]: &Lengths, lengths: [Option<u64>; 2]) {
    let [one, other] = lengths.map(|length| length.map_or(UNKNOWN, |length| length.min(UNKNOWN)));
    first.store(one as u32, Relaxed);
    second.store(other as u32, Relaxed);
    above.store((one >> 32) as u32 | ((other >> 32) as u32) << 16, Relaxed);
}

/// Two lengths of time as they were noted; `None` if either is [`UNKNOWN`].
#[inline]
fn take([first, second, above]: &Lengths) -> Option<[u64; 2]> {
    let above = u64::from(above.load(Relaxed));
    let whole = |low: &AtomicU32, above: u64| Some(above << 32 | u64::from(low.load(Relaxed)));
    let is_known = |length: &u64| *length != UNKNOWN;
    Some([whole(first, above & 0xffff).filter(is_known)?, whole(second, above >> 16).filter(is_known)?])
}

fn worker_of(accept: u64) -> u16 {
    (accept & ((1 << WORKER_BITS) - 1)) as u16
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn what_a_worker_records_of_a_port_is_one_line_of_the_cache() {
        // A worker may use 128 bytes for a held connection: this, the 48 of the connection itself, and 4 for its stamp.
        assert_eq!(size_of::<Slot>(), 64);
        let ledger = Ledger::since(Arc::default(), 0).unwrap();
        assert!(ledger.slots.as_ptr().addr().is_multiple_of(64));
    }

    #[test]
    fn journeys_are_exact_up_to_78_hours_and_unknown_beyond() {
        const HOUR_NS: u64 = 3_600_000_000_000;
        let since_ns = 500 * HOUR_NS;
        for [woke, returned, read, replied] in [
            [0, 0, 0, 0],
            [1, 0, 30_000, 70_000],
            [5_000_000_001, 4_294_967_295, 4_294_967_296, 4_294_967_297],
            [78 * HOUR_NS, 77 * HOUR_NS, 76 * HOUR_NS, 78 * HOUR_NS],
        ] {
            let ledger = Ledger::since(Arc::default(), since_ns).unwrap();
            let accept_ns = since_ns + 100 * HOUR_NS;
            assert_eq!(ledger.journey(client(7)), None);
            ledger.accepted(client(7), 4_000, accept_ns);
            ledger.arrived(client(7), accept_ns - woke, accept_ns - returned, accept_ns);
            assert_eq!(ledger.journey(client(7)), None, "not answered yet");
            ledger.answered(client(7), accept_ns, accept_ns + read, accept_ns + replied);
            let journey = Journey {
                woke_ns: accept_ns - woke,
                returned_ns: accept_ns - returned,
                accept_ns,
                read_ns: accept_ns + read,
                replied_ns: accept_ns + replied,
            };
            assert_eq!(ledger.journey(client(7)), Some(journey));
            ledger.answered(client(7), accept_ns, accept_ns + read, accept_ns + 79 * HOUR_NS);
            assert_eq!(ledger.journey(client(7)), None);
        }
    }

    #[test]
    fn a_journey_is_that_of_the_latest_arrival() {
        let ledger = Ledger::since(Arc::default(), 0).unwrap();
        let came = |accept_ns: u64| {
            ledger.accepted(client(7), 1, accept_ns);
            ledger.arrived(client(7), accept_ns - 20, accept_ns - 10, accept_ns);
        };
        // More often than accepts are kept.
        for accept_ns in [100, 200, 300, 400, 500, 600] {
            came(accept_ns);
            assert_eq!(ledger.journey(client(7)), None, "the answer of an earlier connection is not this one's");
            ledger.answered(client(7), accept_ns, accept_ns + 1, accept_ns + 2);
            let journey = ledger.journey(client(7)).unwrap();
            assert_eq!(
                (journey.woke_ns, journey.accept_ns, journey.replied_ns),
                (accept_ns - 20, accept_ns, accept_ns + 2)
            );
        }
        // A worker that answers late, after its client has gone and the port has another.
        ledger.answered(client(7), 500, 601, 602);
        assert_eq!(ledger.journey(client(7)).unwrap().read_ns, 601);
        came(700);
        ledger.answered(client(7), 600, 701, 702);
        assert_eq!(ledger.journey(client(7)), None);
        // Its loop noted the wake-up only after the accept had returned.
        ledger.accepted(client(7), 1, 800);
        ledger.arrived(client(7), 795, 790, 800);
        ledger.answered(client(7), 800, 810, 820);
        assert_eq!(ledger.journey(client(7)).unwrap().woke_ns, 790);
        // An accept that has yet to return at its end is not one.
        ledger.accepted(client(7), 1, 900);
        ledger.arrived(client(7), 890, 901, 900);
        ledger.answered(client(7), 900, 910, 920);
        assert_eq!(ledger.journey(client(7)), None);
    }

    #[test]
    fn flows_move_if_another_worker_received_last() {
        let ledger = Ledger::since(Arc::default(), 0).unwrap();
        let mut receivers = Receivers::default();
        (1..=3).for_each(|port| ledger.received(client(port), 0));
        assert_eq!(receivers.update(ledger.take_receivers()), Flows { known: 0, moved: 0 });
        for (port, worker) in [(1, 0), (2, 0), (2, 1), (4, 1)] {
            ledger.received(client(port), worker);
        }
        assert_eq!(receivers.update(ledger.take_receivers()), Flows { known: 2, moved: 1 });
        assert_eq!(receivers.update(ledger.take_receivers()), Flows::default());
        (1..=4).for_each(|port| ledger.received(client(port), 1));
        assert_eq!(receivers.update(ledger.take_receivers()), Flows { known: 4, moved: 2 });
    }

    #[test]
    fn a_port_that_was_shed_once_is_not_forever() {
        let ledger = Ledger::since(Arc::default(), 0).unwrap();
        ledger.shed(client(2), 50);
        assert!(ledger.is_shed(client(2), 40));
        assert!(!ledger.is_shed(client(2), 60), "a later connection's");
        assert!(!ledger.is_shed(client(3), 0));
    }

    #[test]
    fn the_balance_counts_both_sides() {
        let ledger = Ledger::since(Arc::default(), 0).unwrap();
        for port in [1, 2, 2, 3] {
            ledger.established(client(port));
        }
        ledger.accepted(client(2), 0, 50);
        ledger.accepted(client(9), 1, 60);
        assert_eq!(ledger.balance(), Balance { never_accepted: 3, beyond_established: 0, foreign: 1 });
        // Once more than a loader established, and once from a port on which a loader has given up.
        for _ in 0..3 {
            ledger.accepted(client(3), 0, 70);
        }
        ledger.given_up(client(5));
        ledger.accepted(client(5), 0, 80);
        assert_eq!(ledger.balance(), Balance { never_accepted: 2, beyond_established: 3, foreign: 1 });
    }

    #[test]
    fn each_tuple_counts_once_and_is_new_once() {
        let drawn = |by_member: &[u64], new_by_member: &[u64]| Drawn {
            by_member: by_member.to_vec(),
            new_by_member: new_by_member.to_vec(),
        };
        let seen = Seen::new(1).unwrap();
        let trial = |accepts: &[(u16, u16)]| {
            let ledger = Ledger::since(Arc::default(), 0).unwrap();
            for (at_ns, (port, worker)) in accepts.iter().enumerate() {
                ledger.accepted(client(*port), *worker, at_ns as u64 + 1);
            }
            ledger
        };
        // Port 7 occurs six times, port 8 twice.
        let first = trial(&[(7, 1), (7, 1), (8, 0), (7, 1), (7, 1), (7, 1), (7, 1), (8, 0), (65_535, 1)]);
        assert_eq!(first.tuples(3, None), drawn(&[1, 2, 0], &[]));
        assert_eq!(first.tuples(3, Some(&seen)), drawn(&[1, 2, 0], &[1, 2, 0]));
        let second = trial(&[(7, 1), (9, 2)]);
        assert_eq!(second.tuples(3, Some(&seen)), drawn(&[0, 1, 1], &[0, 0, 1]));
        // A UDP port is another end than the TCP port of the same number.
        for (port, worker) in [(7, 0), (7, 0), (10, 2)] {
            second.flow_answered(client(port), worker);
        }
        assert_eq!(second.flows(3, Some(&seen)), drawn(&[1, 0, 1], &[1, 0, 1]));
        // A group that loses a member hashes anew.
        assert_eq!(trial(&[(7, 0), (7, 1)]).tuples(2, None), drawn(&[1, 1], &[]));
    }

    #[test]
    fn an_accept_before_the_connect_is_not_this_connections() {
        let ledger = Ledger::since(Arc::default(), 0).unwrap();
        ledger.accepted(client(7), 3, 100);
        assert_eq!(ledger.entry(client(7), 90), Some(Entry { worker: 3, accept_ns: 100 }));
        assert_eq!(ledger.entry(client(7), 101), None);
    }

    #[test]
    fn the_earliest_accept_after_the_connect_is_this_connections() {
        let ledger = Ledger::since(Arc::default(), 0).unwrap();
        for (worker, accept_ns) in [(0, 100), (1, 200), (2, 300), (3, 400), (4, 500)] {
            ledger.accepted(client(7), worker, accept_ns);
        }
        assert_eq!(ledger.entry(client(7), 250), Some(Entry { worker: 2, accept_ns: 300 }));
    }

    #[test]
    fn addresses_have_separate_slots() {
        let addresses: Vec<IpAddr> = (2..5).map(|host| [127, 0, 0, host].into()).collect();
        let ledger = Ledger::since(Arc::new(Places::of_sources(&addresses)), 0).unwrap();
        ledger.established((addresses[0], 7).into());
        ledger.accepted((addresses[2], 7).into(), 1, 50);
        assert_eq!(ledger.balance(), Balance { never_accepted: 1, beyond_established: 0, foreign: 1 });
        assert_eq!(ledger.entry((addresses[1], 7).into(), 1), None);
    }

    #[test]
    fn what_loaders_elsewhere_established_balances_what_was_accepted_here() {
        let addresses: Vec<IpAddr> = (2..5).map(|host| [10, 0, 0, host].into()).collect();
        let end = |host: usize, port: u16| SocketAddr::from((addresses[host], port));
        let of_job = |addresses: &[IpAddr]| Ledger::since(Arc::new(Places::of_job(addresses)), 0).unwrap();
        let server = of_job(&addresses);
        for client in [end(1, 7), end(1, 7), end(2, 7), end(2, 8), end(0, 9)] {
            server.accepted(client, 0, 50);
        }
        // Before anybody has said what was established, all of it is foreign.
        assert_eq!(server.balance(), Balance { foreign: 5, ..Balance::default() });
        let [first, second] = [of_job(&addresses[1..2]), of_job(&addresses[2..])];
        for _ in 0..3 {
            first.established(end(1, 7));
        }
        second.established(end(2, 7));
        second.given_up(end(2, 8));
        let words = |ledger: &Ledger| ledger.established_words().collect::<Vec<_>>();
        assert_eq!(words(&first), [(end(1, 7), 3)]);
        assert_eq!(words(&second), [(end(2, 7), 1), (end(2, 8), GIVEN_UP)]);
        for (client, word) in [&first, &second].into_iter().flat_map(Ledger::established_words) {
            server.add_established(client, word).unwrap();
        }
        assert_eq!(server.balance(), Balance { never_accepted: 1, beyond_established: 1, foreign: 1 });
        // Two loaders of one host may have used the same port.
        server.add_established(end(1, 7), 2 | GIVEN_UP).unwrap();
        assert_eq!(server.balance().never_accepted, 3);
        let error = first.add_established(end(2, 7), 1).unwrap_err();
        assert!(error.to_string().contains("10.0.0.4:7"), "{error}");
    }

    #[test]
    fn strangers_are_foreign_whatever_their_port() {
        let ledger = Ledger::since(Arc::new(Places::of_job(&[[10, 0, 0, 2].into()])), 0).unwrap();
        ledger.established(([10, 0, 0, 2], 7).into());
        ledger.accepted(([10, 0, 0, 2], 7).into(), 0, 50);
        let stranger = client(7);
        ledger.accepted(stranger, 1, 60);
        ledger.arrived(stranger, 50, 55, 60);
        ledger.answered(stranger, 60, 70, 80);
        ledger.flow_answered(stranger, 1);
        ledger.received(stranger, 1);
        assert_eq!(ledger.balance(), Balance { never_accepted: 0, beyond_established: 0, foreign: 1 });
        assert_eq!((ledger.entry(stranger, 1), ledger.journey(stranger)), (None, None));
        assert_eq!(ledger.tuples(2, None).by_member, [1, 0]);
        assert_eq!(ledger.flows(2, None).by_member, [0, 0]);
        assert_eq!(ledger.take_receivers().0.iter().filter(|word| **word != 0).count(), 0);
    }
}
