//! Runs trials in sequence, as planned or as a search chooses them, and records each as it ends.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::Result;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    Chosen,
    outline::{outline, planned_length},
    size,
};
use crate::{
    commands::Ended,
    ipc::control::Recording,
    live::{Expected, Kind, Progress, Trials},
    load::Sizing,
    record::{Outcome, Writer},
    report::terminal,
    scenario::{Plan, Search, Trial},
    stats::{
        self, Record,
        search::{self, Goal, Next},
    },
    trial::{self, Job},
};

/// Runs a scenario's trials.
pub(super) struct Runner<'a> {
    writer: &'a mut Writer,
    interrupted: &'a AtomicBool,
    stamps_allowed: bool,
    progress: Progress<'a>,
    flawed: bool,
}

impl<'a> Runner<'a> {
    pub(super) fn new(
        chosen: &Chosen,
        stamps_allowed: bool,
        writer: &'a mut Writer,
        kind: Kind,
        interrupted: &'a AtomicBool,
    ) -> Self {
        let outline = terminal::prose(&outline(&chosen.plan, &chosen.sizings));
        let progress = Progress::start(kind, &outline, expected(&chosen.plan), interrupted);
        Self { writer, interrupted, stamps_allowed, progress, flawed: false }
    }

    /// Runs the planned trials, or with `[stop]` until the intervals are narrow enough.
    pub(super) fn planned(&mut self, plan: &Plan, sizings: &[Sizing]) -> Result<Ended> {
        for block in plan.trials.chunk_by(|one, other| one.repetition == other.repetition) {
            if block[0].repetition >= plan.whole.repetitions && self.is_narrow()? {
                break;
            }
            for trial in block {
                self.trial(plan, *trial, sizings[trial.cell], None)?;
                if self.is_interrupted() {
                    return Ok(Ended::Interrupted);
                }
            }
        }
        Ok(self.ended())
    }

    /// Searches all cells in turn, one trial each, so that drift of the machine affects all of them alike.
    pub(super) fn search(&mut self, chosen: &Chosen, overrides: &[String], search: &Search) -> Result<Ended> {
        let goal = Goal::of(search, chosen.plan.whole.repetitions)
            .map_err(|(key, problem)| chosen.plan.wrong(key, problem))?;
        let first = chosen.plan.search_from.unwrap_or(1.0);
        let mut rng = ChaCha8Rng::seed_from_u64(chosen.plan.whole.seed);
        let mut number = 0;
        for round in 0.. {
            let record = Record::read(self.writer.folder())?;
            let next = |cell| match search::next(&goal, first, &search::attempts(&goal, &record.trials, cell)) {
                Next::Try(value) => Some((cell, value)),
                Next::Done(_) => None,
            };
            let mut wanted: Vec<(usize, f64)> = (0..chosen.plan.cells.len()).filter_map(next).collect();
            if wanted.is_empty() {
                break;
            }
            wanted.shuffle(&mut rng);
            for (cell, value) in wanted {
                let plan = Plan::read_at(&chosen.source(), overrides, search, value)?;
                let sizing = size(&chosen.source.name, &plan)?[cell];
                self.trial(&plan, Trial { number, repetition: round, cell }, sizing, Some(value))?;
                number += 1;
                if self.is_interrupted() {
                    return Ok(Ended::Interrupted);
                }
            }
        }
        Ok(self.ended())
    }

    fn trial(&mut self, plan: &Plan, trial: Trial, sizing: Sizing, searched: Option<f64>) -> Result<()> {
        let recording = Recording::On;
        let job = Job { plan, trial, sizing, searched, stamps_allowed: self.stamps_allowed, recording };
        self.progress.begin(job);
        let outcome = trial::run(job, self.interrupted, &mut |view| self.progress.tick(view))?;
        self.writer.trial(&outcome.record, &outcome.histograms)?;
        self.progress.end(job, &outcome.record);
        self.flawed |= outcome.record.outcome != Outcome::Valid;
        Ok(())
    }

    /// Whether the intervals of the finished trials are as narrow as `[stop]` requires.
    fn is_narrow(&self) -> Result<bool> {
        let summary = stats::summarize(&Record::read(self.writer.folder())?);
        Ok(summary.precision.is_some_and(|precision| precision.narrow))
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }

    fn ended(&self) -> Ended {
        if self.flawed { Ended::Flawed } else { Ended::Done }
    }

    pub(super) fn finish(self) {
        self.progress.finish();
    }
}

/// How many trials to expect, and how long they take.
fn expected(plan: &Plan) -> Expected {
    let whole = &plan.whole;
    let trials = match (&whole.search, &whole.stop) {
        (Some(search), _) => Trials::AtMost(search.max_trials * plan.cells.len()),
        (None, Some(_)) => Trials::AtMost(plan.trials.len()),
        (None, None) => Trials::Exactly(plan.trials.len()),
    };
    let length = if whole.search.is_some() { None } else { planned_length(plan, &plan.trials) };
    Expected { trials, length }
}
