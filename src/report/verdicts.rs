//! What is to be known of a record's figures: verdicts with what they mean, and trials that failed.

use std::collections::BTreeMap;

use crate::{
    record::{Outcome, Record, TrialRecord, VerdictName},
    scenario::label,
    stats::Summary,
};

/// A verdict on trials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which.
    pub name: VerdictName,
    /// The first trial that has it, as people call it.
    pub example: String,
    /// Its numbers there.
    pub detail: String,
    /// Number of trials that have it.
    pub trials: usize,
}

/// The verdicts on the record's trials, by name.
pub fn of_trials(record: &Record) -> Vec<Said> {
    let mut all: BTreeMap<VerdictName, Said> = BTreeMap::new();
    for trial in &record.trials {
        for verdict in &trial.verdicts {
            let said = all.entry(verdict.name).or_insert_with(|| Said {
                name: verdict.name,
                example: name(trial),
                detail: verdict.detail.clone(),
                trials: 0,
            });
            said.trials += 1;
        }
    }
    all.into_values().collect()
}

/// Trials whose figures are not used, with the reason.
pub fn unused(record: &Record) -> Vec<String> {
    let mut lines = Vec::new();
    for trial in record.trials.iter().filter(|trial| trial.outcome == Outcome::Failed) {
        lines.push(format!("{}: failed: {}", name(trial), trial.error.as_deref().unwrap_or("no reason given")));
    }
    for trial in record.trials.iter().filter(|trial| trial.outcome == Outcome::Invalid) {
        for verdict in trial.verdicts.iter().filter(|verdict| verdict.invalidates) {
            lines.push(format!("{}: invalid: {}: {}", name(trial), verdict.name.as_str(), verdict.detail));
        }
    }
    lines
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

/// All of it, a line each.
pub fn notes(record: &Record, summary: &Summary) -> Vec<String> {
    let mut notes: Vec<String> = missing(record).into_iter().chain(unused(record)).collect();
    for verdict in &summary.verdicts {
        notes.push(format!("{}: {}: {}", verdict.name.as_str(), verdict.detail, meaning(verdict.name)));
    }
    notes.extend(of_trials(record).into_iter().filter(|said| !said.name.invalidates()).map(|said| {
        format!(
            "{} in {} of {} trials: {} E.g. {}: {}",
            said.name.as_str(),
            said.trials,
            record.trials.len(),
            meaning(said.name),
            said.example,
            said.detail
        )
    }));
    notes
}

/// What a verdict means for the figures, and what to do.
pub fn meaning(verdict: VerdictName) -> &'static str {
    match verdict {
        VerdictName::LoaderSaturated => {
            "connections began later than intended, which counts in their latencies: busy loaders share the processors with \
             the server (lower the rate or the concurrency, or take a larger machine), idle ones show the lateness of timers."
        }
        VerdictName::QueueOverflow => "an accept queue was full; raise server.backlog (and somaxconn), or accept it.",
        VerdictName::SynRetries => "lost segments were sent again, which takes 200 ms to seconds.",
        VerdictName::CpuSteal => "another guest had the processors; repeat on a quieter machine.",
        VerdictName::CpuContended => {
            "other programs had a part of the processors, which lengthens every latency; repeat on a quieter machine."
        }
        VerdictName::RateUnmet => {
            "the server, or the ports, could not take what was offered: latencies grow with the length of the trial."
        }
        VerdictName::Errors => "more than 0.1 % of the connections failed; their latencies are missing.",
        VerdictName::PortsScarce => {
            "with over half of the ephemeral ports taken, connect searches for a free one for milliseconds: the port \
             range was measured; set load.close_how = \"rst\", or widen sysctl ip_local_port_range."
        }
        VerdictName::BeyondRange => "the maximum is larger than shown.",
        VerdictName::DatagramsLost => {
            "sockets' buffers were full; their senders wait in vain. Raise server.receive_buffer (and rmem_max), or lower the \
             rate."
        }
        VerdictName::TimeWaitOverflow => {
            "ports came back sooner than TIME_WAIT lets them: raise sysctl tcp_max_tw_buckets."
        }
        VerdictName::NoFollowUp => "connections come later than load.follow_up, or load.hold ends before it.",
        VerdictName::DriftInTrial => {
            "the two halves of a trial differ: its figures are of no one state. Lengthen load.warmup, or lower the load."
        }
        VerdictName::DriftOverRepetitions => {
            "the machine became faster or slower during the run. Cells are interleaved, so their ratios hold; absolute figures \
             do not."
        }
        VerdictName::Bimodal => "trials of one cell fall into two camps: look at each, the median is of neither.",
        VerdictName::IntervalWide => "raise stop.max_repetitions, lengthen load.duration, or quieten the machine.",
        VerdictName::Faults => "the scenario did this to workers, and all figures are with it.",
        VerdictName::Unaccounted
        | VerdictName::Misdelivered
        | VerdictName::StampsImpossible
        | VerdictName::WorkerDied
        | VerdictName::Deadline
        | VerdictName::NothingMeasured => "the figures must not be used.",
    }
}

fn name(trial: &TrialRecord) -> String {
    let cell = if trial.cell.is_empty() { String::new() } else { format!("{}, ", label(&trial.cell)) };
    format!("trial {} ({cell}repetition {})", trial.trial, trial.repetition)
}
