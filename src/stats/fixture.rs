//! A made-up record, for tests.

use serde_json::{Value as Json, json};

use crate::{
    record::{
        Connections, Latencies, LatencySummary, Measured, ObserverRow, Outcome, Rates, RawRecord, SCHEMA, Series,
        Subject, TrialRecord, WaitEnd, WaitMethod,
    },
    scenario::Whole,
    stats::Record,
};

/// A trial with 100 + `number` accepts per second that all waited 5 µs, and nothing else.
pub fn trial(number: usize, cell: &Json, outcome: Outcome) -> TrialRecord {
    let nothing = |value: serde_json::Result<Json>| value.unwrap();
    let accept_wait = LatencySummary {
        method: Some(WaitMethod::SockOps),
        ends: Some(WaitEnd::Serving),
        due: 10,
        lost: 0,
        count: 10,
        min: 5_000,
        mean: 5_000,
        p50: Some(5_000),
        p90: Some(5_000),
        p99: Some(5_000),
        p999: Some(5_000),
        max: 5_000,
    };
    let latencies = Latencies { accept_wait, ..Latencies::default() };
    serde_json::from_value(json!({
        "schema": SCHEMA, "scenario": "made-up", "trial": number, "repetition": number, "seed": 1,
        "started_at": "2026-01-31T12:00:00Z", "cell": cell, "cell_index": 0, "outcome": outcome, "verdicts": [],
        "duration_s": 1.5, "rates": nothing(serde_json::to_value(Rates { accepted_per_s: Some(100.0 + number as f64), ..Rates::default() })),
        "subject": nothing(serde_json::to_value(Subject::own())),
        "connections": nothing(serde_json::to_value(Connections { established: 10, ..Connections::default() })),
        "measured": nothing(serde_json::to_value(Measured::default())), "schedule": null,
        "latency_ns": nothing(serde_json::to_value(latencies)), "distribution": null, "workers": [], "loaders": [],
        "usable_ports": 0, "ports_peak": 0, "ports_exhausted_after_s": null, "ports_ceiling_per_s": null,
        "kernel": {}, "kernel_measured": {},
        "sockets_peak": nothing(serde_json::to_value(crate::record::Sockets::default())),
        "softnet": nothing(serde_json::to_value(crate::record::Softnet::default())),
        "machine": nothing(serde_json::to_value(crate::record::CpuShares::default())),
        "observer": nothing(serde_json::to_value(ObserverRow::default())),
        "cpu_steal_share": 0.0, "cpu_others_share": 0.0,
        "series": nothing(serde_json::to_value(Series::default())),
    }))
    .unwrap()
}

/// A record of trials.
pub fn record(trials: Vec<TrialRecord>) -> Record {
    let whole = Whole { compare: competing(&trials), ..Whole::parse("made-up", "").unwrap() };
    Record { raw: RawRecord { trials, ..RawRecord::default() }, whole }
}

/// What competes in made-up trials: strategies, or else the first of their keys.
pub fn competing(trials: &[TrialRecord]) -> Vec<String> {
    let keys = || trials.iter().flat_map(|trial| trial.cell.keys());
    keys().find(|key| *key == "strategy").or_else(|| keys().next()).cloned().into_iter().collect()
}
