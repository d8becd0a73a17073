//! What readers must know about a record's figures: its verdicts and their meaning, and the trials not used.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    record::{Outcome, TrialRecord, VerdictName, limits, reader::HISTOGRAMS},
    report::ranking::listed,
    scenario::label,
    stats::{Record, Summary},
};

/// Cells that are named; more are counted.
const NAMED: usize = 6;

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
            Some(_) if all == 1 => format!("{name} in the one trial: {} In full: {detail}.", name.advice()),
            Some(trials) => format!("{name} in {trials} of {all} trials: {} For example, {detail}.", name.advice()),
        }
    }
}

/// How late the loaders of an open loop were, if that is long enough beside the median response to be mentioned; `place` says in which
/// trials. Its p99 and the median response are given by trial.
pub fn send_lag(place: &str, lags: &str, responses: &str, remedy: &str) -> String {
    format!(
        "Send lag: the loaders started late{place}; its p99 ({lags}) is over {:.0} % of the median response ({responses}), which includes \
         it. {remedy}",
        100.0 * limits::SEND_LAG,
    )
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

/// What a record lacks: trials that were planned, and what its files lost or contradict each other in.
pub fn missing(record: &Record, flaws: &[String]) -> Option<String> {
    let number = record.trials.len();
    let (planned, unrun) = record.unrun().map_or((None, Vec::new()), |unrun| (unrun.planned, unrun.cells));
    let planned = planned.filter(|planned| number < *planned);
    // If lines are missing, nobody knows where the run ended.
    let fewer = planned.map(|planned| match flaws {
        [] => format!("the run ended early, after {number} of {planned} trials"),
        _ => format!("trials found: {number} of {planned}"),
    });
    // Of these files alone, everything else is made.
    let of_log = flaws.iter().any(|flaw| flaw.starts_with(HISTOGRAMS));
    let holds = if of_log {
        "; the figures of trials.jsonl stand, and percentiles/ and plots lack what the log lacks"
    } else {
        ""
    };
    let damage = (!flaws.is_empty()).then(|| format!("the record is damaged: {}{holds}", flaws.join("; ")));
    let unrun = (!unrun.is_empty() && number > 0).then(|| match unrun.len() {
        few if few <= NAMED => format!("no trial was run of {}", listed(&unrun)),
        many => format!("no trial of {many} cells was run"),
    });
    let facts: Vec<String> = fewer.into_iter().chain(unrun).chain(damage).collect();
    (!facts.is_empty()).then(|| facts.join("; "))
}

/// What a run lacks that did not come to its end: `the run ended early, after 3 of 10 trials`. Of one whose results decide when it
/// ends, only an interruption shows.
pub fn unfinished(record: &Record) -> Option<String> {
    missing(record, &[]).or_else(|| record.was_interrupted().then(|| "the run was interrupted".to_owned()))
}

/// Verdicts and unused trials, one line each.
pub fn notes(record: &Record, summary: &Summary, flaws: &[String]) -> Vec<String> {
    let advisory = given(record, summary).into_iter().filter(|given| !given.name.invalidates());
    let advisory = advisory.map(|given| given.sentence(record.trials.len()));
    missing(record, flaws).into_iter().chain(unused(record)).chain(invalidating(record)).chain(advisory).collect()
}

/// What the verdicts mean that keep trials from being used, and where their figures are, one line each.
fn invalidating(record: &Record) -> Vec<String> {
    let invalid = || record.trials.iter().filter(|trial| trial.outcome == Outcome::Invalid);
    let names = invalid().flat_map(|trial| trial.verdicts.iter().filter(|verdict| verdict.invalidates));
    let names: BTreeSet<VerdictName> = names.map(|verdict| verdict.name).collect();
    let kept = invalid().any(|trial| trial.connections.attempted > 0);
    let kept = kept.then(|| "What invalid trials measured is kept in trials.jsonl and histograms.hlog.".to_owned());
    names.into_iter().map(|name| format!("{name}: {}", name.advice())).chain(kept).collect()
}

fn name(trial: &TrialRecord) -> String {
    let cell = if trial.cell.is_empty() { String::new() } else { format!("{}, ", label(&trial.cell)) };
    format!("trial {} ({cell}repetition {})", trial.trial, trial.repetition)
}
