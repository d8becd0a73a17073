//! Warm-up and faults: shaded parts of a trial's time.

use std::time::Duration;

use crate::{
    record::{EventKind, EventRow, TrialRecord},
    report::plot::figure::Span,
};

/// Warm-up and faults, and what the faults' letters stand for.
pub(super) fn spans(scenario: &str, trial: &TrialRecord) -> (Vec<Span>, Vec<String>) {
    let mut spans = Vec::new();
    if let Some(warmup) = warmup(scenario, trial).filter(|warmup| *warmup > 0.0) {
        spans.push(Span { from: 0.0, to: warmup, label: String::new(), fault: false });
    }
    let mut meanings = Vec::new();
    for (letter, fault) in ('A'..='Z').zip(&trial.events) {
        let (from, to) = (fault.at_s, fault.at_s + fault.lasted_s);
        let label = letter.to_string();
        match spans.iter_mut().find(|span| span.fault && (span.from - from).abs() < 0.05) {
            Some(span) => span.label.push(letter),
            None => spans.push(Span { from, to, label, fault: true }),
        }
        meanings.push(format!("{letter}: {}", meaning(fault)));
    }
    (spans, meanings)
}

fn meaning(fault: &EventRow) -> String {
    format!("worker {} {} from {:.2} s to {:.2} s", fault.worker, state(fault), fault.at_s, fault.at_s + fault.lasted_s)
}

/// What a worker does during a fault.
pub(super) fn state(fault: &EventRow) -> &'static str {
    match fault.kind {
        EventKind::Stall => "is stopped",
        EventKind::Burn => "burns CPU",
        EventKind::Kill => "is dead",
    }
}

/// Length of the load before the measured window, in seconds, from the swept value or the scenario.
pub(super) fn warmup(scenario: &str, trial: &TrialRecord) -> Option<f64> {
    let table = scenario.parse::<toml::Table>().ok()?;
    let of_all = table.get("load")?.get("warmup").and_then(toml::Value::as_str);
    let text = trial.cell.get("warmup").and_then(serde_json::Value::as_str).or(of_all)?;
    humantime::parse_duration(text).as_ref().map(Duration::as_secs_f64).ok()
}
