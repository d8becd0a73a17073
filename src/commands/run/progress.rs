//! What is shown of a run while it goes on.

use std::{
    io::{IsTerminal, stderr},
    time::Instant,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    super::note,
    outline::{outline, seconds},
};
use crate::{
    load::Sizing,
    report,
    scenario::Plan,
    trial::{self, Job},
};

/// The progress line: what runs and what remains. On a terminal one line that changes, otherwise a line a trial.
/// It never starts a thread: trials are forked between its updates.
pub(super) struct Progress {
    bar: ProgressBar,
    began: Instant,
    trial_began: Instant,
    done: usize,
    total: usize,
    current: String,
}

impl Progress {
    pub(super) fn start(plan: &Plan, sizings: &[Sizing]) -> Self {
        note(report::terminal::prose(&outline(plan, sizings)));
        let total = plan.trials.len();
        let bar = if stderr().is_terminal() { ProgressBar::new(total as u64) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{bar:20} {wide_msg}").expect("a constant, valid template");
        bar.set_style(style);
        let now = Instant::now();
        Self { bar, began: now, trial_began: now, done: 0, total, current: String::new() }
    }

    pub(super) fn begin(&mut self, job: Job<'_>) {
        self.trial_began = Instant::now();
        self.current =
            format!("trial {}, repetition {}: {}", job.trial.number, job.trial.repetition, job.cell().label());
        if self.bar.is_hidden() {
            note(self.message());
        } else {
            self.bar.set_message(self.message());
        }
    }

    pub(super) fn tick(&self, live: trial::Live) {
        self.bar.set_message(format!("{}, {} accepted", self.message(), live.accepted));
    }

    /// What matters most comes first: a narrow terminal cuts the end off.
    pub(super) fn message(&self) -> String {
        format!("{} of {}{}: {}", self.done + 1, self.total, self.left(), self.current)
    }

    /// Time left, by the mean of the trials that have ended.
    pub(super) fn left(&self) -> String {
        if self.done == 0 {
            return String::new();
        }
        let each = (self.trial_began - self.began) / self.done as u32;
        let left = (each * (self.total - self.done) as u32).saturating_sub(self.trial_began.elapsed());
        format!(", {} left", seconds(left))
    }

    pub(super) fn end(&mut self, job: Job<'_>, record: &crate::record::TrialRecord) {
        self.done += 1;
        self.bar.inc(1);
        let why = record.error.clone().or_else(|| {
            let verdict = record.verdicts.iter().find(|verdict| verdict.invalidates)?;
            Some(format!("{}: {}", verdict.name.as_str(), verdict.detail))
        });
        if let Some(why) = why {
            let line = format!("trial {} ({}): {why}", job.trial.number, job.cell().label());
            // Above the bar, where there is one.
            self.bar.suspend(|| note(line));
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
