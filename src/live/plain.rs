//! Progress as lines, for logs and pipes.

use std::time::{Duration, Instant};

use super::{flaw, flaw_line, pace::Pace, print, waiting};
use crate::{
    record::TrialRecord,
    trial::{Job, Stage, View},
};

/// What a trial waits for is said again after this time.
const AGAIN: Duration = Duration::from_secs(10);

/// A line when a trial begins, and one if it goes wrong.
pub(super) struct Plain {
    /// Whether there are lines on what a trial waits for, and on what it took.
    verbose: bool,
    /// The stage that such a line was about, and when.
    said: Option<(Stage, Instant)>,
}

impl Plain {
    pub(super) fn new(verbose: bool) -> Self {
        Self { verbose, said: None }
    }

    /// The most important part comes first, since a narrow terminal wraps the rest.
    pub(super) fn begin(&mut self, job: Job<'_>, pace: &Pace) {
        self.said = None;
        let left = pace.left().map_or_else(String::new, |left| format!(", {left}"));
        let (number, repetition) = (job.trial.number, job.trial.repetition);
        let cell = job.label();
        print(format_args!("{}{left}: trial {number}, repetition {repetition}: {cell}", pace.position()));
    }

    pub(super) fn tick(&mut self, job: Job<'_>, view: &View<'_>, pace: &Pace) {
        let stage = view.stage();
        let is_said = self.said.is_some_and(|(said, at)| said == stage && at.elapsed() < AGAIN);
        if self.verbose && !is_said {
            self.said = Some((stage, Instant::now()));
            let left = pace.left().map_or_else(String::new, |left| format!(", {left}"));
            let waits = waiting::waits_for(&job.cell().scenario, job.hosts.is_some(), view);
            print(format_args!("trial {}: {}: {waits}{left}", job.trial.number, waiting::name(stage)));
        }
    }

    pub(super) fn end(&self, job: Job<'_>, record: &TrialRecord, how: &str) {
        if self.verbose {
            print(format_args!("trial {}: {}: {how}", job.trial.number, record.outcome));
        }
        if let Some(why) = flaw(record) {
            print(flaw_line(job, &why));
        }
    }
}
