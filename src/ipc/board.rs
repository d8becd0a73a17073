//! A board in shared memory: the phase, which the parent advances, and words through which processes report their progress.

use std::{
    fmt::Debug,
    io,
    marker::PhantomData,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Release},
    },
    time::Duration,
};

use crossbeam::utils::CachePadded;

use crate::sys::shared::SharedSlice;

/// How often a process polls while it waits for another. Only outside the measured window.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

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
    words: SharedSlice<CachePadded<AtomicU64>>,
    names: PhantomData<(P, W)>,
}

impl<P: Phases, W: Words> Board<P, W> {
    /// A board in the first phase.
    pub fn new() -> io::Result<Self> {
        Ok(Self { words: SharedSlice::new(1 + W::COUNT)?, names: PhantomData })
    }

    #[inline]
    pub fn phase(&self) -> P {
        P::ALL[(self.words[0].load(Acquire) as usize).min(P::ALL.len() - 1)]
    }

    /// Advances to a phase.
    pub fn set_phase(&self, phase: P) {
        let place = P::ALL.iter().position(|one| *one == phase).expect("`ALL` lists every phase");
        self.words[0].store(place as u64, Release);
    }

    /// Waits until a phase is reached.
    pub fn wait_for(&self, phase: P) {
        while self.phase() < phase {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// A word.
    #[inline]
    pub fn get(&self, word: W) -> u64 {
        self.words[1 + word.place()].load(Acquire)
    }

    /// Sets a word.
    pub fn set(&self, word: W, value: u64) {
        self.words[1 + word.place()].store(value, Release);
    }

    /// Adds to a word, which may have several writers.
    pub fn add(&self, word: W, by: i64) {
        self.words[1 + word.place()].fetch_add(by as u64, Release);
    }

    /// Waits until a word reaches a value, for no longer than `at_most`.
    pub fn wait_until(&self, word: W, value: u64, at_most: Option<Duration>) {
        let begun = std::time::Instant::now();
        while self.get(word) < value && at_most.is_none_or(|at_most| begun.elapsed() < at_most) {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
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
    fn a_bounded_wait_ends() {
        let board: Board<Day, Word> = Board::new().unwrap();
        board.wait_until(Word::Cups, 1, Some(Duration::from_millis(1)));
        assert_eq!(board.get(Word::Cups), 0);
    }
}
