//! Workers that come and go during a trial: what the trial's process tells them to do, and when they did it.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release, SeqCst},
    fence,
};

use crossbeam::utils::CachePadded;
use nix::sys::eventfd::EventFd;

use super::Control;

/// What a worker is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Go on as before: those that serve, serve; the others wait.
    None,
    /// Begin to accept.
    Serve,
    /// Stop accepting, serve what is open until then (in nanoseconds of CLOCK_MONOTONIC), and exit.
    Leave {
        until_ns: u64,
        /// What becomes of its listener.
        listener: Fate,
    },
}

/// What becomes of the listener of a worker that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It serves others.
    Stays,
    /// It ends with those who leave.
    Closes,
    /// The same, but not before they are told so: until then, its flows of datagrams come to it by their ids, and nothing else does.
    KeepsFlows,
}

/// When a worker did what it was told, in nanoseconds of CLOCK_MONOTONIC; 0 until it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Life {
    /// It began to accept; known only of those that had to wait for it.
    pub serving_ns: u64,
    /// It had given up its listener, or all of it but the flows that it keeps.
    pub closed_ns: u64,
    /// The length of its listener's queue just before, and when it was read; `None` if it was not, or could not be.
    pub queued: Option<(u64, u64)>,
    /// It had served what it had open, or cut that off.
    pub left_ns: u64,
}

/// Words of a worker.
#[derive(Debug, Clone, Copy)]
enum Word {
    Order,
    UntilNs,
    ServingNs,
    /// Whether it takes no more datagrams from its socket.
    Deaf,
    ClosedNs,
    Queued,
    QueuedNs,
    LeftNs,
}

const WORDS: usize = Word::LeftNs as usize + 1;

pub(super) type LifeCell = CachePadded<[AtomicU64; WORDS]>;

const SERVE: u64 = 1;
const LEAVE: u64 = 2;
const LEAVE_AND_CLOSE: u64 = 3;
const LEAVE_AND_KEEP: u64 = 4;

impl Control {
    fn life_word(&self, worker: usize, word: Word) -> &AtomicU64 {
        &self.lives[worker][word as usize]
    }

    fn note(&self, worker: usize, word: Word, value: u64) {
        self.life_word(worker, word).store(value, Release);
    }

    /// Tells a worker what to do, and wakes all that wait for [`Self::orders`].
    pub fn tell(&self, worker: usize, order: Order) {
        let word = match order {
            Order::None => 0,
            Order::Serve => SERVE,
            Order::Leave { until_ns, listener } => {
                self.note(worker, Word::UntilNs, until_ns);
                match listener {
                    Fate::Stays => LEAVE,
                    Fate::Closes => LEAVE_AND_CLOSE,
                    Fate::KeepsFlows => LEAVE_AND_KEEP,
                }
            }
        };
        self.note(worker, Word::Order, word);
        // Fails only if the counter is at its limit, and then the descriptor is readable anyway.
        let _ = self.orders.write(1);
    }

    /// Becomes readable with each order, and stays so.
    pub fn orders(&self) -> &EventFd {
        &self.orders
    }

    /// What a worker is to do.
    #[inline]
    pub fn order(&self, worker: usize) -> Order {
        match self.life_word(worker, Word::Order).load(Acquire) {
            0 => Order::None,
            SERVE => Order::Serve,
            leave => Order::Leave {
                until_ns: self.life_word(worker, Word::UntilNs).load(Acquire),
                listener: match leave {
                    LEAVE => Fate::Stays,
                    LEAVE_AND_KEEP => Fate::KeepsFlows,
                    _ => Fate::Closes,
                },
            },
        }
    }

    /// Records that a worker has begun to accept.
    pub fn serves(&self, worker: usize, now_ns: u64) {
        self.note(worker, Word::ServingNs, now_ns);
    }

    /// Records that a worker answers no more datagrams from its socket. Of those that share it and call this, at least one finds afterwards that
    /// all others have, however they overlap.
    pub fn receives_no_more(&self, worker: usize) {
        self.note(worker, Word::Deaf, 1);
        fence(SeqCst);
    }

    /// Whether a worker has said so.
    pub fn has_stopped_receiving(&self, worker: usize) -> bool {
        self.life_word(worker, Word::Deaf).load(Acquire) != 0
    }

    /// Records that a worker has given up its listener, whose queue had this length at an instant before.
    pub fn closed(&self, worker: usize, queued: Option<(u64, u64)>, now_ns: u64) {
        if let Some((length, read_ns)) = queued {
            self.note(worker, Word::Queued, length);
            self.note(worker, Word::QueuedNs, read_ns);
        }
        self.note(worker, Word::ClosedNs, now_ns);
    }

    /// Records that a worker has nothing open any more, and exits.
    pub fn left(&self, worker: usize, now_ns: u64) {
        self.note(worker, Word::LeftNs, now_ns);
    }

    /// When a worker did what it was told.
    pub fn life(&self, worker: usize) -> Life {
        let word = |word| self.life_word(worker, word).load(Acquire);
        let (closed_ns, left_ns) = (word(Word::ClosedNs), word(Word::LeftNs));
        let queued = Some((word(Word::Queued), word(Word::QueuedNs))).filter(|(_, read_ns)| *read_ns != 0);
        Life { serving_ns: word(Word::ServingNs), closed_ns, queued, left_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_arrive_as_given() {
        let control = Control::new(2, 1, 0).unwrap();
        for order in [
            Order::None,
            Order::Serve,
            Order::Leave { until_ns: 7, listener: Fate::Stays },
            Order::Leave { until_ns: 8, listener: Fate::KeepsFlows },
            Order::Leave { until_ns: u64::MAX, listener: Fate::Closes },
        ] {
            control.tell(1, order);
            assert_eq!((control.order(0), control.order(1)), (Order::None, order));
        }
        assert_eq!(control.life(1), Life::default());
        control.serves(1, 5);
        control.receives_no_more(1);
        assert_eq!([0, 1].map(|worker| control.has_stopped_receiving(worker)), [false, true]);
        control.closed(1, Some((0, 6)), 7);
        control.left(1, 8);
        let life = Life { serving_ns: 5, closed_ns: 7, queued: Some((0, 6)), left_ns: 8 };
        assert_eq!((control.life(0), control.life(1)), (Life::default(), life));
    }
}
