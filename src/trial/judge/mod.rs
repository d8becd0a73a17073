//! The rules that give a trial its verdicts. Each is a pure function of parts of the record, and returns the grounds for its verdict.

mod balance;
mod course;
mod kernel;
mod load;

use hdrhistogram::Histogram;

pub use self::load::{errors, late};
use crate::{
    record::{Connections, Ports, TrialRecord, Verdict},
    scenario::Scenario,
};

/// Facts about the load that the record does not hold.
pub(super) struct Loaded<'a> {
    /// Whether the deadline ended the load.
    pub gave_up: bool,
    /// Latencies beyond the histograms' range.
    pub overflows: u64,
    /// Connect latencies of the measured connections.
    pub connects: &'a Histogram<u64>,
}

/// The verdicts on an otherwise complete record.
pub(super) fn judge(record: &TrialRecord, scenario: &Scenario, loaded: &Loaded<'_>) -> Vec<Verdict> {
    let datagrams = record.datagrams.as_ref();
    let grounds = [
        balance::connections(&record.connections),
        balance::misdelivered(&record.connections),
        datagrams.and_then(balance::datagrams),
        balance::stamps(&record.measured),
    ];
    let deaths = balance::deaths(&record.workers, record.helper.as_ref(), &record.events);
    let more = [
        load::deadline(loaded.gave_up),
        load::nothing_measured(&record.measured),
        load::saturated(&record.measured, &record.latency_ns, record.rates.offered_per_s, busiest(record)),
        kernel::queue_overflow(&record.kernel, &record.workers),
        kernel::time_wait_overflow(&record.kernel),
        kernel::retries(&record.kernel, loaded.connects),
        kernel::steal(record.cpu_steal_share),
        kernel::contended(record.cpu_others_share),
        load::rate_unmet(record.rates.offered_per_s, met(record)),
        datagrams.and_then(kernel::datagrams_lost),
        course::faults(&scenario.faults, &record.events),
        course::drift(&record.series, scenario.load.warmup, record.duration_s, record.workers.len(), &scenario.faults),
        load::no_follow_up(scenario.load.follow_up.is_some(), &record.latency_ns),
        kernel::ports_scarce(record.ports_peak, record.usable_ports, &scenario.sources),
        load::errors(&record.connections.errors, record.connections.attempted),
        load::beyond_range(loaded.overflows),
    ];
    grounds.into_iter().flatten().chain(deaths).chain(more.into_iter().flatten()).map(Verdict::from).collect()
}

/// The verdicts on a fill of the ports that was to end at `enough` connections, or at the wall.
pub(super) fn judge_fill(connections: &Connections, ports: &Ports, enough: Option<u64>, gave_up: bool) -> Vec<Verdict> {
    let grounds = [
        balance::connections(connections),
        load::fill_deadline(gave_up),
        load::fill_stopped(connections, ports, enough),
    ];
    grounds.into_iter().flatten().map(Verdict::from).collect()
}

/// The rate that should match an open loop's: accepts per second or, with datagrams, completions per second.
fn met(record: &TrialRecord) -> Option<(&'static str, f64)> {
    match &record.datagrams {
        None => Some(("accepted", record.rates.accepted_per_s)),
        Some(_) => (record.duration_s > 0.0).then_some(("completed", record.rates.completed_per_s)),
    }
}

/// The share of a processor that the busiest loader used.
fn busiest(record: &TrialRecord) -> Option<f64> {
    let trial_ns = record.series.interval_ms as f64 * 1e6 * record.series.accepted.len() as f64;
    let busiest = record.loaders.iter().map(|loader| loader.cpu_user_ns + loader.cpu_system_ns).max().unwrap_or(0);
    (trial_ns > 0.0).then(|| (busiest as f64 / trial_ns).min(1.0))
}

/// The grounds in words, for the rules' tests.
#[cfg(test)]
fn words(grounds: Option<crate::record::Grounds>) -> Option<String> {
    grounds.map(|grounds| Verdict::from(grounds).to_string())
}
