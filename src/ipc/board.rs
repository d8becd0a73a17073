//! A board in shared memory: the phase, which the parent advances, and words through which processes report their progress. Whoever waits
//! for one of them sleeps until it changes.

use std::{
    fmt::Debug,
    io,
    marker::PhantomData,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, SeqCst},
    },
    time::{Duration, Instant},
};

use crossbeam::utils::CachePadded;

use crate::sys::{futex, shared::SharedSlice};

/// The longest sleep without another look: a futex does not notice a word of which only the upper half has changed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The parts of a word: its value, and how many threads wait for it to change. One that was killed while it waited counts for ever,
/// which costs those that change the word a system call.
const VALUE: usize = 0;
const WAITING: usize = 1;

/// The phases that processes go through together.
pub trait Phases: Copy + Ord + 'static {
    /// Every phase, in order.
    const ALL: &'static [Self];
}

/// The words of a board besides the phase: an enum without data.
pub trait Words: Copy + Debug {
    const COUNT: usize;

    /// The word's index, from 0.
    fn place(self) -> usize;
}

/// A board with phases `P` and words `W`, all zero at first. Made before the fork.
#[derive(Debug)]
pub struct Board<P, W> {
    /// The phase, followed by the other words.
    words: SharedSlice<CachePadded<[AtomicU64; 2]>>,
    names: PhantomData<(P, W)>,
}

impl<P: Phases, W: Words> Board<P, W> {
    /// A board in the first phase.
    pub fn new() -> io::Result<Self> {
        Ok(Self { words: SharedSlice::new(1 + W::COUNT)?, names: PhantomData })
    }

    #[inline]
    pub fn phase(&self) -> P {
        P::ALL[(self.words[0][VALUE].load(Acquire) as usize).min(P::ALL.len() - 1)]
    }

    /// Advances to a phase.
    pub fn set_phase(&self, phase: P) {
        self.change(0, |value| value.store(number(phase), SeqCst));
    }

    /// Waits until a phase is reached.
    pub fn wait_for(&self, phase: P) {
        self.wait(0, number(phase), None);
    }

    /// A word.
    #[inline]
    pub fn get(&self, word: W) -> u64 {
        self.words[1 + word.place()][VALUE].load(Acquire)
    }

    /// Sets a word.
    pub fn set(&self, word: W, value: u64) {
        self.change(1 + word.place(), |word| word.store(value, SeqCst));
    }

    /// Adds to a word, which may have several writers.
    pub fn add(&self, word: W, by: i64) {
        self.change(1 + word.place(), |value| {
            value.fetch_add(by as u64, SeqCst);
        });
    }

    /// Waits until a word reaches a value, for no longer than `at_most`.
    pub fn wait_until(&self, word: W, value: u64, at_most: Option<Duration>) {
        self.wait(1 + word.place(), value, at_most);
    }

    /// Changes a word, and wakes those that wait for it. They count themselves before they look at the value, and the value changes before
    /// their count is read: one of the two sees the other.
    fn change(&self, place: usize, change: impl FnOnce(&AtomicU64)) {
        let word = &self.words[place];
        change(&word[VALUE]);
        if word[WAITING].load(SeqCst) != 0 {
            futex::wake(&word[VALUE]);
        }
    }

    fn wait(&self, place: usize, value: u64, at_most: Option<Duration>) {
        let begun = Instant::now();
        let word = &self.words[place];
        word[WAITING].fetch_add(1, SeqCst);
        loop {
            let left = at_most.map_or(LOOK_AGAIN, |at_most| at_most.saturating_sub(begun.elapsed()));
            let seen = word[VALUE].load(SeqCst);
            if seen >= value || left.is_zero() {
                break;
            }
            futex::wait(&word[VALUE], seen, left.min(LOOK_AGAIN));
        }
        word[WAITING].fetch_sub(1, SeqCst);
    }
}

/// A phase's value on the board.
fn number<P: Phases>(phase: P) -> u64 {
    P::ALL.iter().position(|one| *one == phase).expect("`ALL` lists every phase") as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Day {
        Morning,
        Evening,
    }

    impl Phases for Day {
        const ALL: &'static [Self] = &[Self::Morning, Self::Evening];
    }

    #[derive(Debug, Clone, Copy)]
    enum Word {
        Guests,
        Cups,
    }

    impl Words for Word {
        const COUNT: usize = Self::Cups as usize + 1;

        fn place(self) -> usize {
            self as usize
        }
    }

    #[test]
    fn words_and_phase_are_apart() {
        let board: Board<Day, Word> = Board::new().unwrap();
        assert_eq!(board.phase(), Day::Morning);
        board.add(Word::Guests, 3);
        board.add(Word::Guests, -1);
        board.set(Word::Cups, 7);
        board.set_phase(Day::Evening);
        board.wait_for(Day::Evening);
        board.wait_until(Word::Guests, 2, None);
        assert_eq!((board.phase(), board.get(Word::Guests), board.get(Word::Cups)), (Day::Evening, 2, 7));
    }

    #[test]
    fn whoever_waits_is_woken() {
        let board: Board<Day, Word> = Board::new().unwrap();
        let waits = |number: u64| {
            let board = &board;
            move || {
                board.wait_until(Word::Guests, number, None);
                board.add(Word::Guests, 1);
                board.wait_for(Day::Evening);
            }
        };
        // Each waits for the one before it, and the last is there first.
        std::thread::scope(|scope| {
            for number in (0..20).rev() {
                scope.spawn(waits(number));
            }
            board.wait_until(Word::Guests, 20, None);
            board.set_phase(Day::Evening);
        });
        assert_eq!(board.get(Word::Guests), 20);
        assert!(board.words.iter().all(|word| word[WAITING].load(SeqCst) == 0));
    }

    #[test]
    fn a_bounded_wait_ends() {
        let board: Board<Day, Word> = Board::new().unwrap();
        board.wait_until(Word::Cups, 1, Some(Duration::from_millis(1)));
        assert_eq!(board.get(Word::Cups), 0);
    }
}
