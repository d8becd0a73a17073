//! What readers must know about a record's figures: its verdicts and their meaning, and the trials not used.

use std::collections::BTreeMap;

use crate::{
    record::{Outcome, TrialRecord, VerdictName},
    scenario::label,
    stats::{Record, Summary},
};

/// A verdict and the trials it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Name of the verdict.
    pub name: VerdictName,
    /// Number of trials that have it; `None` for a verdict on several trials together.
    pub trials: Option<usize>,
    /// The numbers it is based on; if several trials have it, those of the first, which is named.
    pub detail: String,
}

impl Given {
    /// The verdict in words, for a record of `all` trials.
    fn sentence(&self, all: usize) -> String {
        let Self { name, trials, detail } = self;
        match trials {
            None => name.explain(detail),
            Some(trials) => format!("{name} in {trials} of {all} trials: {} For example, {detail}.", name.advice()),
        }
    }
}

/// All verdicts, by name: those on several trials together first.
pub fn given(record: &Record, summary: &Summary) -> Vec<Given> {
    let of_run = summary.verdicts.iter();
    let of_run = of_run.map(|verdict| Given { name: verdict.name, trials: None, detail: verdict.detail.clone() });
    let mut of_trials: BTreeMap<VerdictName, (usize, String)> = BTreeMap::new();
    for (trial, verdict) in record.trials.iter().flat_map(|trial| trial.verdicts.iter().map(move |v| (trial, v))) {
        let first = || (0, format!("{}: {}", name(trial), verdict.detail));
        of_trials.entry(verdict.name).or_insert_with(first).0 += 1;
    }
    let of_trials = of_trials.into_iter();
    of_run.chain(of_trials.map(|(name, (trials, detail))| Given { name, trials: Some(trials), detail })).collect()
}

/// Trials whose figures are not used, with the reason.
pub fn unused(record: &Record) -> Vec<String> {
    let of = |outcome| record.trials.iter().filter(move |trial| trial.outcome == outcome);
    let failed = of(Outcome::Failed)
        .map(|trial| format!("{}: failed: {}", name(trial), trial.error.as_deref().unwrap_or("no reason given")));
    let invalid = of(Outcome::Invalid).flat_map(|trial| {
        let reasons = trial.verdicts.iter().filter(|verdict| verdict.invalidates);
        reasons.map(move |reason| format!("{}: invalid: {reason}", name(trial)))
    });
    failed.chain(invalid).collect()
}

/// What a record lacks: trials that were planned, or a line that was cut off.
pub fn missing(record: &Record) -> Option<String> {
    let planned = record.planned().filter(|planned| record.trials.len() < *planned);
    let ended =
        planned.map(|planned| format!("the run ended early, after {} of {planned} trials", record.trials.len()));
    let cut = record.cut_off.then(|| "the last line of trials.jsonl was cut off and is left out".to_owned());
    let facts: Vec<String> = ended.into_iter().chain(cut).collect();
    (!facts.is_empty()).then(|| facts.join("; "))
}

/// Verdicts and unused trials, one line each.
pub fn notes(record: &Record, summary: &Summary) -> Vec<String> {
    let advisory = given(record, summary).into_iter().filter(|given| !given.name.invalidates());
    let advisory = advisory.map(|given| given.sentence(record.trials.len()));
    missing(record).into_iter().chain(unused(record)).chain(advisory).collect()
}

fn name(trial: &TrialRecord) -> String {
    let cell = if trial.cell.is_empty() { String::new() } else { format!("{}, ", label(&trial.cell)) };
    format!("trial {} ({cell}repetition {})", trial.trial, trial.repetition)
}
