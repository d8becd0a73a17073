//! When a worker leaves its listener alone.

use std::time::Duration;

use crate::sys::clock;

/// How long a worker that has run out of descriptors or memory leaves the listener alone.
const EXHAUSTED: Duration = Duration::from_millis(10);

/// Why a worker accepts nothing for now, and until when, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// It has run out of descriptors or memory.
    Exhausted { until_ns: u64 },
    /// As many connections as are open take all of its descriptors, until one closes.
    Full { open: usize },
    /// It has open connections, and gives workers without any the time to accept.
    Later { until_ns: u64 },
}

/// A worker's pauses.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    now: Option<Pause>,
    /// How long it lets others go first when it has connections; 0 for not at all.
    later: Duration,
    /// Whether it has done so for the next connection.
    has_waited: bool,
}

impl Pauses {
    pub fn new(later: Duration) -> Self {
        Self { later, ..Self::default() }
    }

    /// Whether it is to let others accept the next connection; if so, the pause has begun.
    pub fn lets_others_go_first(&mut self, open: usize) -> bool {
        if self.later.is_zero() || open == 0 || self.has_waited {
            return false;
        }
        self.now = Some(Pause::Later { until_ns: after(self.later) });
        true
    }

    /// It has accepted a connection.
    pub fn accepted(&mut self) {
        self.has_waited = false;
    }

    /// It can accept nothing for want of descriptors or memory.
    pub fn exhausted(&mut self) {
        self.now = Some(Pause::Exhausted { until_ns: after(EXHAUSTED) });
    }

    /// It has no descriptor left for another connection, and so many open. Unless they take all of its own limit (`is_full`), none of them
    /// can end that, and the pause is a short one.
    pub fn out_of_files(&mut self, open: usize, is_full: bool) {
        if open > 0 && is_full {
            self.now = Some(Pause::Full { open });
        } else {
            self.exhausted();
        }
    }

    pub fn is_paused(&self) -> bool {
        self.now.is_some()
    }

    /// It is over, as the worker accepts nothing any more.
    pub fn end(&mut self) {
        self.now = None;
    }

    /// When the pause is over at the latest, if that is known.
    pub fn until_ns(&self) -> Option<u64> {
        match self.now? {
            Pause::Exhausted { until_ns } | Pause::Later { until_ns } => Some(until_ns),
            Pause::Full { .. } => None,
        }
    }

    /// Whether a pause is over now.
    pub fn ends(&mut self, now_ns: u64, open: usize) -> bool {
        let over = match self.now {
            None => false,
            Some(Pause::Exhausted { until_ns }) => until_ns <= now_ns,
            Some(Pause::Full { open: full }) => open < full,
            Some(Pause::Later { until_ns }) => open == 0 || until_ns <= now_ns,
        };
        if over {
            self.has_waited |= matches!(self.now.take(), Some(Pause::Later { .. }));
        }
        over
    }
}

fn after(span: Duration) -> u64 {
    clock::monotonic_ns().saturating_add(clock::nanoseconds(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_with_connections_waits_once_for_each_that_it_accepts() {
        let mut pauses = Pauses::new(Duration::from_secs(1));
        assert!(!pauses.lets_others_go_first(0), "it has nothing to do");
        assert!(pauses.lets_others_go_first(1));
        let until_ns = pauses.until_ns().unwrap();
        assert!(!pauses.ends(until_ns - 1, 1) && pauses.is_paused());
        assert!(pauses.ends(until_ns, 1) && !pauses.is_paused());
        assert!(!pauses.lets_others_go_first(1), "it has waited for this one");
        pauses.accepted();
        assert!(pauses.lets_others_go_first(2));
        assert!(pauses.ends(0, 0), "it has nothing left to do");
    }

    #[test]
    fn a_worker_that_is_full_waits_for_a_connection_to_close() {
        let mut pauses = Pauses::new(Duration::ZERO);
        pauses.out_of_files(3, true);
        assert_eq!(pauses.until_ns(), None);
        assert!(!pauses.ends(u64::MAX, 3) && pauses.is_paused());
        assert!(pauses.ends(0, 2) && !pauses.is_paused());
        // Nothing of its own would end these.
        for (open, is_full) in [(0, true), (3, false)] {
            pauses.out_of_files(open, is_full);
            let until_ns = pauses.until_ns().unwrap();
            assert!(!pauses.ends(until_ns - 1, 0) && pauses.ends(until_ns, open));
        }
    }

    #[test]
    fn what_is_exhausted_stays_so_for_a_while() {
        let mut pauses = Pauses::new(Duration::ZERO);
        assert!(!pauses.lets_others_go_first(9), "nobody is to go first");
        pauses.exhausted();
        let until_ns = pauses.until_ns().unwrap();
        assert!(!pauses.ends(until_ns - 1, 0) && pauses.ends(until_ns, 0) && !pauses.is_paused());
    }
}
