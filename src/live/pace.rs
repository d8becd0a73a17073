//! A run's progress and remaining time.

use std::time::{Duration, Instant};

use crate::format::seconds;

/// How many trials there will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trials {
    /// Exactly this many.
    Exactly(usize),
    /// This many, or fewer if fewer suffice.
    AtMost(usize),
}

/// What is known about a run before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Its trials.
    pub trials: Trials,
    /// Its length; `None` if trials end by a number of connections.
    pub length: Option<Duration>,
}

/// Counts trials and time.
#[derive(Debug)]
pub(super) struct Pace {
    expected: Expected,
    began: Instant,
    trial_began: Instant,
    done: usize,
}

impl Pace {
    pub(super) fn start(expected: Expected) -> Self {
        let now = Instant::now();
        Self { expected, began: now, trial_began: now, done: 0 }
    }

    pub(super) fn begin(&mut self) {
        self.trial_began = Instant::now();
    }

    pub(super) fn end(&mut self) {
        self.done += 1;
    }

    /// `3 of 20`, or `3 of at most 20`.
    pub(super) fn position(&self) -> String {
        match self.expected.trials {
            Trials::Exactly(count) => format!("{} of {count}", self.done + 1),
            Trials::AtMost(count) => format!("{} of at most {count}", self.done + 1),
        }
    }

    /// `41s left`; `None` while unknown.
    pub(super) fn left(&self) -> Option<String> {
        let (bound, count) = match self.expected.trials {
            Trials::Exactly(count) => ("", count),
            Trials::AtMost(count) => ("at most ", count),
        };
        let left = if self.done == 0 {
            self.expected.length?.saturating_sub(self.began.elapsed())
        } else {
            // By the mean length of the trials so far.
            let each = (self.trial_began - self.began) / self.done as u32;
            (each * count.saturating_sub(self.done) as u32).saturating_sub(self.trial_began.elapsed())
        };
        Some(format!("{bound}{} left", seconds(left)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_may_turn_out_smaller_says_so() {
        let expected = Expected { trials: Trials::AtMost(20), length: Some(Duration::from_secs(3_600)) };
        let mut pace = Pace::start(expected);
        assert_eq!(pace.position(), "1 of at most 20");
        assert!(pace.left().unwrap().starts_with("at most "));
        pace.begin();
        pace.end();
        assert_eq!(pace.position(), "2 of at most 20");
        assert_eq!(Pace::start(Expected { trials: Trials::Exactly(2), length: None }).left(), None);
    }
}
