//! Kept connections: when each of them sends its next request, and when another takes its place. Every connection has a schedule of its
//! own, which does not wait for the server: a request that is due while an earlier one waits for its reply goes out after that, late by
//! the schedule. Where clients think, the next request is due a think time after a reply instead.

use std::{cmp::Reverse, collections::BinaryHeap};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    pacer::{Due, Part},
    times::{self, draw_ns},
};
use crate::scenario::{Asking, Spread, Times};

/// The bits that tell the random streams of think times and of lifetimes from those of schedules, which are numbers of repetitions.
const THINK_STREAM: u64 = 1 << 60;
const LIFETIME_STREAM: u64 = 1 << 61;
/// Stands for an instant that does not come, in slots, of which a loader may have tens of thousands.
const NEVER_NS: u64 = u64::MAX;

/// The kept connections of one loader.
#[derive(Debug)]
pub struct Kept {
    asking: Asking,
    lifetime: Option<Times>,
    due: Due,
    /// Seed and repetition, which decide the gaps between requests.
    rng: ChaCha8Rng,
    /// The population's connections, of all loaders together, and which of them are this loader's.
    connections: u64,
    part: Part,
    /// One for each of its connections, in their order.
    slots: Vec<Slot>,
    /// When each slot that is not busy has something to do. Only the one that its slot knows of counts: a connection that ends while it
    /// is idle leaves another behind.
    wakes: BinaryHeap<Reverse<(u64, u32)>>,
    /// The slot of each key.
    of_key: Vec<u32>,
}

/// One connection, which may be opened several times.
#[derive(Debug)]
struct Slot {
    /// The number of its next request, and when that is due, in nanoseconds since the first could be; infinite while its client does
    /// not know yet, as its thinking begins with a reply.
    number: u64,
    offset_ns: f64,
    activity: Activity,
    /// Why it opens its next connection.
    opens: Opens,
    /// While it is idle: the key of its connection, and since when.
    key: u32,
    since_ns: u64,
    /// When it has something to do, if it is not busy; otherwise never.
    wake_ns: u64,
    /// How often it has been opened, and when the lifetime of its present connection is over.
    lives: u64,
    ends_ns: u64,
    /// When a request was due that was on its way when the server closed; never if there is none.
    again_ns: u64,
}

/// What a slot's connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    Closed,
    Busy,
    Idle,
}

/// The same, with what is to be known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Closed,
    /// It connects, or waits for a reply.
    Busy,
    /// Open under this key, with nothing to do since then.
    Idle {
        key: usize,
        since_ns: u64,
    },
}

/// Why a slot opens a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Opens {
    /// It has had none, or the last one failed.
    #[default]
    Anew,
    /// The server ended the last one after a reply.
    Continuing,
    /// The lifetime of the last one was over.
    Replacing,
}

/// What is due on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A request, since then.
    Request { due_ns: u64 },
    /// A request that the server has left unanswered.
    Again { due_ns: u64 },
    /// The end of its lifetime: another takes its place.
    Replacement,
    /// Its end.
    End,
}

impl Kept {
    /// Those of a loader's part of a population. The seed fixes when requests are due, whatever the number of loaders.
    pub(super) fn new(
        (connections, asking, lifetime): (usize, Asking, Option<Times>),
        due: Due,
        part: Part,
        (seed, repetition): (u64, usize),
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(repetition as u64);
        let connections = connections as u64;
        let mut kept = Self {
            asking,
            lifetime,
            due,
            rng,
            connections,
            part,
            slots: Vec::new(),
            wakes: BinaryHeap::new(),
            of_key: Vec::new(),
        };
        let slots = part.of(connections) as usize;
        kept.slots.reserve_exact(slots);
        kept.wakes.reserve_exact(2 * slots);
        for slot in 0..slots as u32 {
            let offset_ns = kept.first_ns(kept.connection(slot));
            kept.slots.push(Slot {
                number: 0,
                offset_ns,
                activity: Activity::Closed,
                opens: Opens::Anew,
                key: 0,
                since_ns: 0,
                wake_ns: NEVER_NS,
                lives: 0,
                ends_ns: NEVER_NS,
                again_ns: NEVER_NS,
            });
            kept.wake(slot, 0);
        }
        kept
    }

    /// The number of a slot's connection in the population: loaders take turns.
    fn connection(&self, slot: u32) -> u64 {
        self.part.loader as u64 + u64::from(slot) * self.part.loaders as u64
    }

    /// When a slot next has something to do; `None` if none has, unless it is busy.
    pub fn next_ns(&self) -> Option<u64> {
        self.wakes.peek().map(|Reverse((at_ns, _))| *at_ns)
    }

    /// Takes a slot that has something to do by now.
    pub fn pop(&mut self, now_ns: u64) -> Option<u32> {
        while self.next_ns().is_some_and(|at_ns| at_ns <= now_ns) {
            let Reverse((at_ns, slot)) = self.wakes.pop()?;
            let wake_ns = &mut self.slots[slot as usize].wake_ns;
            if *wake_ns == at_ns {
                *wake_ns = NEVER_NS;
                return Some(slot);
            }
        }
        None
    }

    pub fn state(&self, slot: u32) -> State {
        let Slot { activity, key, since_ns, .. } = self.slots[slot as usize];
        match activity {
            Activity::Closed => State::Closed,
            Activity::Busy => State::Busy,
            Activity::Idle => State::Idle { key: key as usize, since_ns },
        }
    }

    /// Takes what is due on a slot by now, which goes on to what follows.
    pub fn take(&mut self, slot: u32, now_ns: u64) -> Moment {
        let Slot { activity, ends_ns, .. } = self.slots[slot as usize];
        // Once no more is due, what is still to be asked goes out on the connections that there are.
        let is_replaced = ends_ns <= now_ns && now_ns < self.due.until_ns && self.due_ns(slot).is_some();
        if activity == Activity::Idle && is_replaced {
            self.slots[slot as usize].opens = Opens::Replacing;
            return Moment::Replacement;
        }
        if let Some(due_ns) = self.slots[slot as usize].take_again() {
            return Moment::Again { due_ns };
        }
        match self.due_ns(slot) {
            Some(due_ns) => {
                self.advance(slot);
                Moment::Request { due_ns }
            }
            None => Moment::End,
        }
    }

    /// Takes a request that is due by now.
    pub fn take_overdue(&mut self, slot: u32, now_ns: u64) -> Option<u64> {
        let due_ns = self.due_ns(slot).filter(|due_ns| *due_ns <= now_ns)?;
        self.advance(slot);
        Some(due_ns)
    }

    /// Takes any request that is not yet taken.
    pub fn take_any(&mut self) -> Option<u64> {
        (0..self.slots.len() as u32).find_map(|slot| self.take_overdue(slot, u64::MAX))
    }

    /// Takes any request that was to be made again.
    pub fn take_again(&mut self) -> Option<u64> {
        self.slots.iter_mut().find_map(Slot::take_again)
    }

    /// A slot's connection has begun.
    pub fn opened(&mut self, slot: u32, key: usize, now_ns: u64) {
        if self.of_key.len() <= key {
            self.of_key.resize(key + 1, 0);
        }
        self.of_key[key] = slot;
        let life = (self.connection(slot), self.slots[slot as usize].lives);
        let lifetime_ns = self.lifetime.map(|times| self.draw_ns(times, LIFETIME_STREAM, life));
        let slot = &mut self.slots[slot as usize];
        slot.activity = Activity::Busy;
        slot.lives += 1;
        slot.ends_ns = lifetime_ns.map_or(NEVER_NS, |lifetime_ns| now_ns.saturating_add(lifetime_ns as u64));
    }

    /// A slot's connection asks.
    pub fn asks(&mut self, slot: u32) {
        self.slots[slot as usize].activity = Activity::Busy;
    }

    /// A connection has its reply.
    pub fn idle(&mut self, key: usize, since_ns: u64) {
        let slot = self.slot(key);
        let idle = &mut self.slots[slot as usize];
        (idle.activity, idle.key, idle.since_ns) = (Activity::Idle, key as u32, since_ns);
        self.think(slot, since_ns);
        self.wake(slot, 0);
    }

    /// A slot has no connection, and gets another when something is due, but not before `after_ns`.
    pub fn closed(&mut self, slot: u32, after_ns: u64) {
        self.slots[slot as usize].activity = Activity::Closed;
        self.think(slot, after_ns);
        self.wake(slot, after_ns);
    }

    /// The same of a slot whose connection ended as it may: the server ended it after a reply, unless its lifetime was over.
    pub fn continues(&mut self, slot: u32, after_ns: u64) {
        let opens = &mut self.slots[slot as usize].opens;
        *opens = if *opens == Opens::Replacing { Opens::Replacing } else { Opens::Continuing };
        self.closed(slot, after_ns);
    }

    /// The client of a slot begins to think about its next request, if it does think and has not yet.
    pub fn think(&mut self, slot: u32, since_ns: u64) {
        let Slot { number, offset_ns, again_ns, .. } = self.slots[slot as usize];
        if let Asking::Thinking(times) = self.asking
            && offset_ns.is_infinite()
            && again_ns == NEVER_NS
        {
            let since_ns = since_ns.saturating_sub(self.due.from_ns) as f64;
            let think_ns = self.draw_ns(times, THINK_STREAM, (self.connection(slot), number));
            self.slots[slot as usize].offset_ns = since_ns + think_ns;
        }
    }

    /// The request that was due then is to be made again.
    pub fn ask_again(&mut self, slot: u32, due_ns: u64) {
        self.slots[slot as usize].again_ns = due_ns;
    }

    /// Whether a slot's connection has ended for good.
    pub fn is_over(&self, slot: u32) -> bool {
        self.due_ns(slot).is_none() && self.slots[slot as usize].again_ns == NEVER_NS
    }

    /// Why a slot is about to open a connection.
    pub fn take_opens(&mut self, slot: u32) -> Opens {
        std::mem::take(&mut self.slots[slot as usize].opens)
    }

    pub fn slot(&self, key: usize) -> u32 {
        self.of_key[key]
    }

    /// A number that two runs share if their requests were due at the same instants. `None` if that depends on the server.
    pub fn digest(&self) -> Option<u64> {
        let Asking::Scheduled { rate, spread } = self.asking else { return None };
        let length_ns = self.due.until_ns.saturating_sub(self.due.from_ns);
        let words = [rate.to_bits(), spread as u64, length_ns, self.connections, self.gap_ns(0, 1, rate).to_bits()];
        // FNV-1a over 64-bit words.
        let hash = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        Some(words.into_iter().fold(0xcbf2_9ce4_8422_2325, hash))
    }

    fn wake(&mut self, slot: u32, after_ns: u64) {
        let Slot { again_ns, activity, ends_ns, .. } = self.slots[slot as usize];
        let due_ns = self.due_ns(slot);
        let first_ns = if again_ns == NEVER_NS { due_ns.unwrap_or(self.due.until_ns) } else { again_ns };
        let at_ns = first_ns.max(after_ns);
        let at_ns = if activity == Activity::Idle && due_ns.is_some() { at_ns.min(ends_ns) } else { at_ns };
        self.slots[slot as usize].wake_ns = at_ns;
        self.wakes.push(Reverse((at_ns, slot)));
    }

    fn due_ns(&self, slot: u32) -> Option<u64> {
        // f64 holds whole nanoseconds exactly for 104 days.
        let due_ns = self.due.from_ns.saturating_add(self.slots[slot as usize].offset_ns as u64);
        (due_ns < self.due.until_ns).then_some(due_ns)
    }

    fn advance(&mut self, slot: u32) {
        let connection = self.connection(slot);
        let Slot { number, offset_ns, .. } = self.slots[slot as usize];
        let next_ns = match self.asking {
            Asking::Thinking(_) => f64::INFINITY,
            Asking::Scheduled { rate, spread } => match spread {
                Spread::Even => (connection as f64 / self.connections as f64 + (number + 1) as f64) * period_ns(rate),
                Spread::Random => offset_ns + self.gap_ns(connection, number + 1, rate),
                Spread::Together => (number + 1) as f64 * period_ns(rate),
            },
        };
        let slot = &mut self.slots[slot as usize];
        (slot.number, slot.offset_ns) = (number + 1, next_ns);
    }

    fn first_ns(&self, connection: u64) -> f64 {
        match self.asking {
            // A random part of a think time, as of a client that has been there before.
            Asking::Thinking(times) => {
                let part = self.at((connection, 0), 0, GAP_WORDS).random::<f64>();
                part * self.draw_ns(times, THINK_STREAM, (connection, 0))
            }
            Asking::Scheduled { rate, spread } => match spread {
                Spread::Even => connection as f64 / self.connections as f64 * period_ns(rate),
                Spread::Random => self.gap_ns(connection, 0, rate),
                Spread::Together => 0.0,
            },
        }
    }

    /// The exponentially distributed gap before a connection's request.
    fn gap_ns(&self, connection: u64, number: u64, rate: f64) -> f64 {
        -(1.0 - self.at((connection, number), 0, GAP_WORDS).random::<f64>()).ln() * period_ns(rate)
    }

    /// A time of a connection, by its number among those of its kind.
    fn draw_ns(&self, times: Times, stream: u64, place: (u64, u64)) -> f64 {
        draw_ns(times, &mut self.at(place, stream, times::WORDS))
    }

    /// The random numbers at the place of a connection and one of its requests, or lives. Each has its own, so that neither other
    /// connections nor the server change them.
    fn at(&self, (connection, number): (u64, u64), stream: u64, words: u128) -> ChaCha8Rng {
        let mut rng = self.rng.clone();
        if stream > 0 {
            rng.set_stream(rng.get_stream() | stream);
        }
        rng.set_word_pos(((u128::from(connection) << 40) + u128::from(number)) * words);
        rng
    }
}

impl Slot {
    /// Takes the request that was to be made again, if there is one.
    fn take_again(&mut self) -> Option<u64> {
        let due_ns = std::mem::replace(&mut self.again_ns, NEVER_NS);
        (due_ns != NEVER_NS).then_some(due_ns)
    }
}

/// The words of a random number.
const GAP_WORDS: u128 = 2;

fn period_ns(rate: f64) -> f64 {
    1e9 / rate
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::Distribution;

    const S: u64 = 1_000_000_000;

    fn kept(connections: usize, spread: Spread, loader: usize, loaders: usize, seed: u64) -> Kept {
        let due = Due { from_ns: 5 * S, until_ns: 8 * S };
        let asking = Asking::Scheduled { rate: 7.0, spread };
        Kept::new((connections, asking, None), due, Part { loader, loaders }, (seed, 0))
    }

    fn all(connections: usize, spread: Spread, loaders: usize, seed: u64) -> Vec<u64> {
        let mut all: Vec<u64> = (0..loaders)
            .flat_map(|loader| {
                let mut kept = kept(connections, spread, loader, loaders, seed);
                std::iter::from_fn(move || kept.take_any())
            })
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn a_slot_is_small() {
        assert_eq!(size_of::<Slot>(), 64);
    }

    #[test]
    fn requests_due_are_connections_times_rate_times_time() {
        for (spread, connections, loaders) in [(Spread::Even, 12, 1), (Spread::Even, 13, 4), (Spread::Together, 5, 2)] {
            assert_eq!(all(connections, spread, loaders, 1).len(), connections * 7 * 3, "{spread:?}");
        }
        // A Poisson count of mean 2,100 has sd 46.
        let random = all(100, Spread::Random, 3, 1).len() as f64;
        assert!((random - 2_100.0).abs() < 5.0 * 46.0, "{random}");
    }

    #[test]
    fn evenly_spread_requests_have_equal_gaps_over_all_connections_and_in_each() {
        let gap = S / (10 * 7);
        assert!(all(10, Spread::Even, 2, 1).windows(2).all(|pair| (gap - 1..=gap + 2).contains(&(pair[1] - pair[0]))));
        let mut one = kept(10, Spread::Even, 3, 10, 1);
        let own: Vec<u64> = std::iter::from_fn(|| one.take_any()).collect();
        assert!(own.windows(2).all(|pair| (S / 7 - 1..=S / 7 + 2).contains(&(pair[1] - pair[0]))), "{own:?}");
        let together = all(4, Spread::Together, 2, 1);
        assert!(together.chunks(4).all(|chunk| chunk.iter().all(|due| *due == chunk[0])));
    }

    #[test]
    fn the_seed_fixes_when_requests_are_due_whatever_the_number_of_loaders() {
        let run = |loaders, seed| all(20, Spread::Random, loaders, seed);
        assert_eq!(run(1, 1), run(7, 1));
        assert_ne!(run(1, 1), run(1, 2));
        let digest = |loader, loaders, seed| kept(20, Spread::Random, loader, loaders, seed).digest();
        assert_eq!(digest(0, 1, 1), digest(3, 7, 1));
        assert_ne!(digest(0, 1, 1), digest(0, 1, 2));
    }

    #[test]
    fn an_idle_connection_that_ends_is_opened_once() {
        let mut one = kept(1, Spread::Even, 0, 1, 1);
        assert_eq!(one.pop(5 * S), Some(0));
        one.take(0, 5 * S);
        one.opened(0, 3, 5 * S);
        one.idle(3, 5 * S + 1);
        // The server closes before the next request is due.
        one.closed(0, 5 * S + S / 2);
        assert_eq!((one.pop(5 * S + S / 2 - 1), one.pop(5 * S + S / 2), one.pop(8 * S)), (None, Some(0), None));
    }

    #[test]
    fn a_slot_has_its_next_request_when_it_is_idle_and_ends_at_the_end() {
        let mut one = kept(1, Spread::Even, 0, 1, 1);
        assert_eq!((one.pop(5 * S - 1), one.pop(5 * S)), (None, Some(0)));
        assert_eq!((one.state(0), one.take(0, 5 * S)), (State::Closed, Moment::Request { due_ns: 5 * S }));
        one.opened(0, 9, 5 * S);
        // While it is busy, nothing comes up, however much is due.
        assert_eq!((one.state(0), one.pop(8 * S)), (State::Busy, None));
        one.idle(9, 6 * S);
        assert_eq!((one.pop(6 * S), one.state(0)), (Some(0), State::Idle { key: 9, since_ns: 6 * S }));
        assert_eq!(one.take(0, 6 * S), Moment::Request { due_ns: 5 * S + S / 7 });
        one.asks(0);
        // The server closes, and the request is made again.
        one.ask_again(0, 5 * S + S / 7);
        one.closed(0, 6 * S);
        assert_eq!((one.pop(6 * S), one.take(0, 6 * S)), (Some(0), Moment::Again { due_ns: 5 * S + S / 7 }));
        assert!(!one.is_over(0));
        while one.take_overdue(0, 8 * S).is_some() {}
        one.opened(0, 9, 6 * S);
        one.idle(9, 7 * S);
        assert!(one.is_over(0));
        assert_eq!((one.pop(8 * S - 1), one.pop(8 * S)), (None, Some(0)));
        assert_eq!(one.take(0, 8 * S), Moment::End);
    }

    /// The only connection of clients that think for half a second.
    fn thinking(lifetime: Option<Times>, seed: u64) -> Kept {
        let due = Due { from_ns: 5 * S, until_ns: 8 * S };
        Kept::new((1, Asking::Thinking(fixed(S / 2)), lifetime), due, Part { loader: 0, loaders: 1 }, (seed, 0))
    }

    fn fixed(mean_ns: u64) -> Times {
        Times { mean: Duration::from_nanos(mean_ns), distribution: Distribution::Fixed }
    }

    #[test]
    fn a_client_that_thinks_asks_so_long_after_each_reply() {
        let mut one = thinking(None, 1);
        assert_eq!(one.digest(), None);
        let first_ns = one.next_ns().unwrap();
        assert!((5 * S..5 * S + S / 2).contains(&first_ns), "{first_ns}");
        assert_ne!(first_ns, thinking(None, 2).next_ns().unwrap());
        assert_eq!((one.pop(first_ns), one.take(0, first_ns)), (Some(0), Moment::Request { due_ns: first_ns }));
        one.opened(0, 4, first_ns);
        assert_eq!(one.next_ns(), None, "nothing is due before the reply");
        one.idle(4, 6 * S);
        assert_eq!((one.pop(6 * S + S / 2 - 1), one.pop(6 * S + S / 2)), (None, Some(0)));
        assert_eq!(one.take(0, 7 * S), Moment::Request { due_ns: 6 * S + S / 2 });
        one.asks(0);
        // One that fails is thought about too, and one that ends in between changes nothing.
        one.closed(0, 7 * S);
        assert_eq!(one.next_ns(), Some(7 * S + S / 2));
        one.closed(0, 7 * S + 1);
        assert_eq!((one.pop(7 * S + S / 2), one.pop(8 * S)), (Some(0), None));
        assert_eq!(one.take(0, 7 * S + S / 2), Moment::Request { due_ns: 7 * S + S / 2 });
        one.opened(0, 4, 7 * S + S / 2);
        // The next one would come after the end.
        one.idle(4, 7 * S + S / 2 + 1);
        assert!(one.is_over(0));
        assert_eq!((one.pop(8 * S - 1), one.pop(8 * S), one.take(0, 8 * S)), (None, Some(0), Moment::End));
    }

    #[test]
    fn a_request_to_be_made_again_needs_no_thought() {
        let mut one = thinking(None, 1);
        let first_ns = one.next_ns().unwrap();
        one.pop(first_ns);
        one.take(0, first_ns);
        one.opened(0, 4, first_ns);
        one.ask_again(0, first_ns);
        one.continues(0, 6 * S);
        assert_eq!((one.pop(6 * S), one.take(0, 6 * S)), (Some(0), Moment::Again { due_ns: first_ns }));
        assert_eq!(one.take_opens(0), Opens::Continuing);
        one.opened(0, 4, 6 * S);
        one.idle(4, 7 * S);
        assert_eq!(one.next_ns(), Some(7 * S + S / 2));
    }

    #[test]
    fn a_connection_whose_lifetime_is_over_is_replaced_once_it_is_idle() {
        let mut one = thinking(Some(fixed(S)), 1);
        let first_ns = one.next_ns().unwrap();
        one.pop(first_ns);
        one.take(0, first_ns);
        one.opened(0, 4, first_ns);
        assert_eq!(one.take_opens(0), Opens::Anew);
        one.idle(4, first_ns + 1);
        // A request is due before the lifetime ends, and its reply comes after.
        let next_ns = first_ns + 1 + S / 2;
        assert_eq!((one.pop(next_ns), one.take(0, next_ns)), (Some(0), Moment::Request { due_ns: next_ns }));
        one.asks(0);
        one.idle(4, first_ns + S + 7);
        assert_eq!((one.pop(first_ns + S + 7), one.take(0, first_ns + S + 7)), (Some(0), Moment::Replacement));
        one.continues(0, first_ns + S + 7);
        let next_ns = first_ns + S + 7 + S / 2;
        assert_eq!((one.pop(next_ns - 1), one.pop(next_ns)), (None, Some(0)));
        assert_eq!(one.take(0, next_ns), Moment::Request { due_ns: next_ns });
        assert_eq!((one.take_opens(0), one.take_opens(0)), (Opens::Replacing, Opens::Anew));
        one.opened(0, 4, next_ns);
        // With nothing more to ask, it stays open until the end.
        one.idle(4, 8 * S - 1);
        assert_eq!((one.pop(8 * S), one.take(0, 8 * S)), (Some(0), Moment::End));
    }

    #[test]
    fn what_is_late_at_the_end_is_asked_on_the_connections_that_there_are() {
        let due = Due { from_ns: 5 * S, until_ns: 8 * S };
        let asking = Asking::Scheduled { rate: 7.0, spread: Spread::Even };
        let mut one = Kept::new((1, asking, Some(fixed(S))), due, Part { loader: 0, loaders: 1 }, (1, 0));
        one.pop(5 * S);
        one.take(0, 5 * S);
        one.opened(0, 4, 5 * S);
        // The reply comes after the end, when 20 more requests and the end of the lifetime are overdue.
        one.idle(4, 9 * S);
        let asked = std::iter::from_fn(|| {
            one.pop(9 * S)?;
            let moment = one.take(0, 9 * S);
            one.asks(0);
            one.idle(4, 9 * S);
            matches!(moment, Moment::Request { .. }).then_some(())
        });
        assert_eq!(asked.count(), 20);
    }

    #[test]
    fn times_of_one_connection_are_its_own_whatever_the_number_of_loaders() {
        let due = Due { from_ns: 5 * S, until_ns: 8 * S };
        let mean = Duration::from_millis(100);
        let times = Times { mean, distribution: Distribution::Lognormal { sigma: 1.0 } };
        let first = |loaders: usize| {
            let of_loader =
                |loader| Kept::new((20, Asking::Thinking(times), None), due, Part { loader, loaders }, (1, 0));
            let all = (0..loaders).flat_map(|loader| {
                let mut kept = of_loader(loader);
                std::iter::from_fn(move || kept.take_any())
            });
            let mut all: Vec<u64> = all.collect();
            all.sort_unstable();
            all
        };
        assert_eq!((first(1).len(), first(1)), (20, first(7)));
    }
}
