//! Kept connections: when each of them sends its next request. Every connection has a schedule of its own, which does not wait for the
//! server: a request that is due while an earlier one waits for its reply goes out after that, late by the schedule.

use std::{cmp::Reverse, collections::BinaryHeap};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::pacer::{Due, Part};
use crate::scenario::{Asking, Spread};

/// The kept connections of one loader.
#[derive(Debug)]
pub struct Kept {
    asking: Asking,
    due: Due,
    /// Seed and repetition, which decide the gaps between requests.
    rng: ChaCha8Rng,
    /// The population's connections, of all loaders together.
    connections: u64,
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
    /// Its number in the population.
    connection: u64,
    /// The number of its next request, and when that is due, in nanoseconds since the first could be; `None` after the last.
    number: u64,
    offset_ns: f64,
    state: State,
    /// When it has something to do, if it is not busy.
    wake_ns: Option<u64>,
    /// Whether the server ended its last connection after a reply.
    continues: bool,
    /// A request that was on its way when the server closed, and when it was due.
    again_ns: Option<u64>,
}

/// What a connection is doing.
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

/// What is due on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A request, since then.
    Request { due_ns: u64 },
    /// A request that the server has left unanswered.
    Again { due_ns: u64 },
    /// Its end.
    End,
}

impl Kept {
    /// Those of a loader's part of a population. The seed fixes when requests are due, whatever the number of loaders.
    pub(super) fn new(
        (connections, asking): (usize, Asking),
        due: Due,
        part: Part,
        (seed, repetition): (u64, usize),
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(repetition as u64);
        let connections = connections as u64;
        let mut kept =
            Self { asking, due, rng, connections, slots: Vec::new(), wakes: BinaryHeap::new(), of_key: Vec::new() };
        for connection in (0..connections).filter(|connection| part.owns(*connection)) {
            let offset_ns = kept.first_ns(connection);
            let slot = Slot {
                connection,
                number: 0,
                offset_ns,
                state: State::Closed,
                wake_ns: None,
                continues: false,
                again_ns: None,
            };
            kept.slots.push(slot);
        }
        kept.wakes.reserve(2 * kept.slots.len());
        for slot in 0..kept.slots.len() as u32 {
            kept.wake(slot, 0);
        }
        kept
    }

    /// When a slot next has something to do; `None` if none has, unless it is busy.
    pub fn next_ns(&self) -> Option<u64> {
        self.wakes.peek().map(|Reverse((at_ns, _))| *at_ns)
    }

    /// Takes a slot that has something to do by now.
    pub fn pop(&mut self, now_ns: u64) -> Option<u32> {
        while self.next_ns().is_some_and(|at_ns| at_ns <= now_ns) {
            let Reverse((at_ns, slot)) = self.wakes.pop()?;
            if self.slots[slot as usize].wake_ns.take_if(|wake_ns| *wake_ns == at_ns).is_some() {
                return Some(slot);
            }
        }
        None
    }

    pub fn state(&self, slot: u32) -> State {
        self.slots[slot as usize].state
    }

    /// Takes what is due on a slot, which goes on to what follows.
    pub fn take(&mut self, slot: u32) -> Moment {
        if let Some(due_ns) = self.slots[slot as usize].again_ns.take() {
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
        self.slots.iter_mut().find_map(|slot| slot.again_ns.take())
    }

    /// A slot's connection has begun.
    pub fn opened(&mut self, slot: u32, key: usize) {
        if self.of_key.len() <= key {
            self.of_key.resize(key + 1, 0);
        }
        self.of_key[key] = slot;
        self.slots[slot as usize].state = State::Busy;
    }

    /// A slot's connection asks.
    pub fn asks(&mut self, slot: u32) {
        self.slots[slot as usize].state = State::Busy;
    }

    /// A connection has its reply.
    pub fn idle(&mut self, key: usize, since_ns: u64) {
        let slot = self.slot(key);
        self.slots[slot as usize].state = State::Idle { key, since_ns };
        self.wake(slot, 0);
    }

    /// A slot has no connection, and gets another when something is due, but not before `after_ns`.
    pub fn closed(&mut self, slot: u32, after_ns: u64) {
        self.slots[slot as usize].state = State::Closed;
        self.wake(slot, after_ns);
    }

    /// The same of a slot whose connection the server has ended after a reply.
    pub fn continues(&mut self, slot: u32, after_ns: u64) {
        self.slots[slot as usize].continues = true;
        self.closed(slot, after_ns);
    }

    /// The request that was due then is to be made again.
    pub fn ask_again(&mut self, slot: u32, due_ns: u64) {
        self.slots[slot as usize].again_ns = Some(due_ns);
    }

    /// Whether a slot's connection has ended for good.
    pub fn is_over(&self, slot: u32) -> bool {
        self.due_ns(slot).is_none() && self.slots[slot as usize].again_ns.is_none()
    }

    /// Whether the connection that a slot is about to open continues one that the server has ended.
    pub fn take_continues(&mut self, slot: u32) -> bool {
        std::mem::take(&mut self.slots[slot as usize].continues)
    }

    pub fn slot(&self, key: usize) -> u32 {
        self.of_key[key]
    }

    /// A number that two runs share if their requests were due at the same instants.
    pub fn digest(&self) -> u64 {
        let Asking { rate, spread } = self.asking;
        let length_ns = self.due.until_ns.saturating_sub(self.due.from_ns);
        let words = [rate.to_bits(), spread as u64, length_ns, self.connections, self.gap_ns(0, 1).to_bits()];
        // FNV-1a over 64-bit words.
        words.into_iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3))
    }

    fn wake(&mut self, slot: u32, after_ns: u64) {
        let again = self.slots[slot as usize].again_ns;
        let at_ns = again.or(self.due_ns(slot)).unwrap_or(self.due.until_ns).max(after_ns);
        self.slots[slot as usize].wake_ns = Some(at_ns);
        self.wakes.push(Reverse((at_ns, slot)));
    }

    fn due_ns(&self, slot: u32) -> Option<u64> {
        // f64 holds whole nanoseconds exactly for 104 days.
        let due_ns = self.due.from_ns.saturating_add(self.slots[slot as usize].offset_ns as u64);
        (due_ns < self.due.until_ns).then_some(due_ns)
    }

    fn advance(&mut self, slot: u32) {
        let Slot { connection, number, offset_ns, .. } = self.slots[slot as usize];
        let next_ns = match self.asking.spread {
            Spread::Even => (connection as f64 / self.connections as f64 + (number + 1) as f64) * self.period_ns(),
            Spread::Random => offset_ns + self.gap_ns(connection, number + 1),
            Spread::Together => (number + 1) as f64 * self.period_ns(),
        };
        let slot = &mut self.slots[slot as usize];
        (slot.number, slot.offset_ns) = (number + 1, next_ns);
    }

    fn first_ns(&self, connection: u64) -> f64 {
        match self.asking.spread {
            Spread::Even => connection as f64 / self.connections as f64 * self.period_ns(),
            Spread::Random => self.gap_ns(connection, 0),
            Spread::Together => 0.0,
        }
    }

    fn period_ns(&self) -> f64 {
        1e9 / self.asking.rate
    }

    /// The exponentially distributed gap before a connection's request. Each has its own place in the random numbers, so that neither
    /// other connections nor the server change it.
    fn gap_ns(&self, connection: u64, number: u64) -> f64 {
        /// Words of a random number.
        const WORDS: u128 = 2;
        let mut rng = self.rng.clone();
        rng.set_word_pos(((u128::from(connection) << 40) + u128::from(number)) * WORDS);
        -(1.0 - rng.random::<f64>()).ln() * self.period_ns()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn kept(connections: usize, spread: Spread, loader: usize, loaders: usize, seed: u64) -> Kept {
        let due = Due { from_ns: 5 * S, until_ns: 8 * S };
        Kept::new((connections, Asking { rate: 7.0, spread }), due, Part { loader, loaders }, (seed, 0))
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
        one.take(0);
        one.opened(0, 3);
        one.idle(3, 5 * S + 1);
        // The server closes before the next request is due.
        one.closed(0, 5 * S + S / 2);
        assert_eq!((one.pop(5 * S + S / 2 - 1), one.pop(5 * S + S / 2), one.pop(8 * S)), (None, Some(0), None));
    }

    #[test]
    fn a_slot_has_its_next_request_when_it_is_idle_and_ends_at_the_end() {
        let mut one = kept(1, Spread::Even, 0, 1, 1);
        assert_eq!((one.pop(5 * S - 1), one.pop(5 * S)), (None, Some(0)));
        assert_eq!((one.state(0), one.take(0)), (State::Closed, Moment::Request { due_ns: 5 * S }));
        one.opened(0, 9);
        // While it is busy, nothing comes up, however much is due.
        assert_eq!((one.state(0), one.pop(8 * S)), (State::Busy, None));
        one.idle(9, 6 * S);
        assert_eq!((one.pop(6 * S), one.state(0)), (Some(0), State::Idle { key: 9, since_ns: 6 * S }));
        assert_eq!(one.take(0), Moment::Request { due_ns: 5 * S + S / 7 });
        one.asks(0);
        // The server closes, and the request is made again.
        one.ask_again(0, 5 * S + S / 7);
        one.closed(0, 6 * S);
        assert_eq!((one.pop(6 * S), one.take(0)), (Some(0), Moment::Again { due_ns: 5 * S + S / 7 }));
        assert!(!one.is_over(0));
        while one.take_overdue(0, 8 * S).is_some() {}
        one.opened(0, 9);
        one.idle(9, 7 * S);
        assert!(one.is_over(0));
        assert_eq!((one.pop(8 * S - 1), one.pop(8 * S)), (None, Some(0)));
        assert_eq!(one.take(0), Moment::End);
    }
}
