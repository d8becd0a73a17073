//! A run's progress and remaining time.

use std::time::{Duration, Instant};

use super::{
    forecast::{Forecast, Progressed},
    waiting,
};
use crate::{
    format::seconds,
    sys::clock,
    trial::{Job, View},
};

/// How many trials there will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trials {
    /// Exactly as many as planned.
    Exactly,
    /// As many as planned, or fewer if fewer suffice.
    AtMost,
}

/// What is known about a run before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Whether all planned trials will run.
    pub trials: Trials,
    /// For each cell, how many trials are planned and how much time the plan fixes of each.
    pub cells: Vec<(usize, Option<Duration>)>,
    /// The length of the scenarios that follow, if any do and it is known.
    pub following: Option<Duration>,
}

/// Counts trials and time.
#[derive(Debug)]
pub(super) struct Pace {
    trials: Trials,
    forecast: Forecast,
    /// Trials of each cell that have not begun.
    to_come: Vec<usize>,
    following: Option<Duration>,
    began: Instant,
    /// The running trial's cell.
    cell: usize,
    done: usize,
    progressed: Progressed,
}

impl Pace {
    pub(super) fn start(expected: Expected) -> Self {
        Self {
            trials: expected.trials,
            forecast: Forecast::new(expected.cells.iter().map(|(_, planned)| *planned)),
            to_come: expected.cells.iter().map(|(count, _)| *count).collect(),
            following: expected.following,
            began: Instant::now(),
            cell: 0,
            done: 0,
            progressed: Progressed::default(),
        }
    }

    /// A trial of this cell begins.
    pub(super) fn begin(&mut self, cell: usize) {
        (self.began, self.cell, self.progressed) = (Instant::now(), cell, Progressed::default());
        self.to_come[cell] = self.to_come[cell].saturating_sub(1);
    }

    /// Takes in a look at the running trial.
    pub(super) fn see(&mut self, job: Job<'_>, view: &View<'_>) {
        let elapsed = self.began.elapsed();
        let since = |start_ns: u64| Duration::from_nanos(clock::monotonic_ns().saturating_sub(start_ns));
        let loaded = match view.window() {
            // Filling ports has no barrier.
            None if view.fill.is_some() => Some(elapsed),
            window => window.map(|window| since(window.start_ns)),
        };
        self.progressed = Progressed { elapsed, loaded, part: waiting::part(&job.cell().scenario, view) };
    }

    pub(super) fn end(&mut self) {
        self.forecast.ended(self.cell, self.began.elapsed());
        self.done += 1;
    }

    /// How long the running trial has taken, and how much of that its set-up was, if its load has begun.
    pub(super) fn taken(&self) -> (Duration, Option<Duration>) {
        let Progressed { elapsed, loaded, .. } = self.progressed;
        (self.began.elapsed(), loaded.map(|loaded| elapsed.saturating_sub(loaded)))
    }

    /// `3 of 20`, or `3 of at most 20`.
    pub(super) fn position(&self) -> String {
        let running = self.done + 1;
        let count = running + self.to_come.iter().sum::<usize>();
        match self.trials {
            Trials::Exactly => format!("{running} of {count}"),
            Trials::AtMost => format!("{running} of at most {count}"),
        }
    }

    /// `41s left`, and `2m with the next scenarios` where some follow; `None` while unknown.
    pub(super) fn left(&self) -> Option<String> {
        let mut left = self.forecast.rest(self.cell, self.progressed)?;
        for (cell, count) in self.to_come.iter().enumerate().filter(|(_, count)| **count > 0) {
            left += self.forecast.trial(cell)? * u32::try_from(*count).unwrap_or(u32::MAX);
        }
        let bound = if self.trials == Trials::Exactly { "" } else { "at most " };
        let all = self.following.map(|following| format!(", {} with the next scenarios", seconds(left + following)));
        Some(format!("{bound}{} left{}", seconds(left), all.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_may_turn_out_smaller_says_so() {
        let hours = Some(Duration::from_secs(3_600));
        let mut pace = Pace::start(Expected { trials: Trials::AtMost, cells: vec![(20, hours)], following: None });
        pace.begin(0);
        assert_eq!(pace.position(), "1 of at most 20");
        assert!(pace.left().unwrap().starts_with("at most 20h "), "{:?}", pace.left());
        pace.end();
        pace.begin(0);
        assert_eq!(pace.position(), "2 of at most 20");
    }

    #[test]
    fn each_cell_has_a_length_of_its_own() {
        let cells = vec![(1, Some(Duration::from_secs(60))), (2, Some(Duration::from_secs(1)))];
        let mut pace =
            Pace::start(Expected { trials: Trials::Exactly, cells, following: Some(Duration::from_secs(30)) });
        pace.begin(1);
        assert_eq!(pace.position(), "1 of 3");
        assert_eq!(pace.left().unwrap(), "1m 3s left, 1m 33s with the next scenarios");
        pace.end();
        let unknown = Expected { trials: Trials::Exactly, cells: vec![(2, None)], following: None };
        let mut pace = Pace::start(unknown);
        pace.begin(0);
        assert_eq!((pace.left(), pace.position().as_str()), (None, "1 of 2"));
    }
}
