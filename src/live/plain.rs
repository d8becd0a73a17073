//! Progress as lines, for logs and pipes.

use super::{flaw, flaw_line, pace::Pace, print};
use crate::{record::TrialRecord, trial::Job};

/// A line when a trial begins, and one if it goes wrong.
pub(super) struct Plain;

impl Plain {
    /// The most important part comes first, since a narrow terminal wraps the rest.
    pub(super) fn begin(&self, job: Job<'_>, pace: &Pace) {
        let left = pace.left().map_or_else(String::new, |left| format!(", {left}"));
        let (number, repetition) = (job.trial.number, job.trial.repetition);
        let cell = job.cell().label();
        print(format_args!("{}{left}: trial {number}, repetition {repetition}: {cell}", pace.position()));
    }

    pub(super) fn end(&self, job: Job<'_>, record: &TrialRecord) {
        if let Some(why) = flaw(record) {
            self.say(&flaw_line(job, &why));
        }
    }

    pub(super) fn say(&self, line: &str) {
        print(line);
    }
}
