//! A cell's trials in a few numbers: the median over its valid trials, and their range.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::record::{FaultRow, LatencySummary, Outcome, Record, SCHEMA, TrialRecord, VerdictName, WorkerCounts};

/// `summary.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the schema.
    pub schema: u32,
    /// Name of the scenario.
    pub scenario: String,
    /// The machine, from `host.json`.
    pub host: Json,
    /// What `low` and `high` are: `range`, the smallest and largest of the trials' values.
    pub interval: String,
    /// In the order of the scenario's matrix.
    pub cells: Vec<CellSummary>,
    /// No two cells are compared with a test yet: always empty.
    pub comparisons: [(); 0],
}

/// One cell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CellSummary {
    /// Swept values by short name.
    pub cell: Map<String, Json>,
    /// Trials whose figures are in `metrics`.
    pub valid: usize,
    /// Trials that ran, but must not be used.
    pub invalid: usize,
    /// Trials that did not run to their end.
    pub failed: usize,
    /// Verdicts on its trials, with the number of trials that have them.
    pub verdicts: BTreeMap<VerdictName, usize>,
    /// `sock_ops` where the accept waits are exact, `connect-call` where they are upper bounds; `null` without any.
    pub accept_wait_method: Option<String>,
    /// Mean length of each stage over the first replies of all valid trials together, ns: they add up to the response's.
    pub stage_means_ns: IndexMap<String, f64>,
    /// Share of all accepts by the order in which workers registered: first the one that registered first. Medians over
    /// the valid trials; empty without connections.
    pub share_by_rank: Vec<f64>,
    /// By name; only those that some valid trial has.
    pub metrics: IndexMap<String, Values>,
}

/// A metric over the valid trials of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Values {
    /// Median of `values`; the mean of the two middle ones where their number is even.
    pub median: f64,
    /// Smallest.
    pub low: f64,
    /// Largest.
    pub high: f64,
    /// One per valid trial, in the order of repetitions.
    pub values: Vec<f64>,
}

impl Values {
    /// `None` without values.
    pub fn of(values: Vec<f64>) -> Option<Self> {
        let mut sorted = values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, low, high, values })
    }
}

/// A number that a trial has, or has not.
pub struct Metric {
    /// As in `summary.json`.
    pub name: &'static str,
    /// Reads it from a trial.
    pub read: fn(&TrialRecord) -> Option<f64>,
}

/// All metrics.
pub const METRICS: &[Metric] = &[
    metric("ports_wall", |trial| trial.ports.as_ref()?.wall.map(|wall| wall as f64)),
    metric("ports_knee", |trial| trial.ports.as_ref()?.knee.map(|knee| knee as f64)),
    metric("connect_p50_ns_at_25", |trial| at_fill(trial, 0.25)),
    metric("connect_p50_ns_at_45", |trial| at_fill(trial, 0.45)),
    metric("connect_p50_ns_at_55", |trial| at_fill(trial, 0.55)),
    metric("connect_p50_ns_at_75", |trial| at_fill(trial, 0.75)),
    metric("connect_p50_ns_at_95", |trial| at_fill(trial, 0.95)),
    metric("ports_exhausted_after_s", |trial| trial.ports_exhausted_after_s),
    metric("ports_ceiling_per_s", |trial| trial.ports_ceiling_per_s),
    metric("time_wait_peak", |trial| trial.ports.is_none().then_some(trial.sockets_peak.time_wait as f64)),
    metric("completed_per_s", |trial| per(trial.measured.completed as f64, trial.duration_s)),
    metric("failing_connect_ns", |trial| trial.ports.as_ref()?.failing_connect_ns.map(|ns| ns as f64)),
    metric("recovered_after_s", |trial| trial.ports.as_ref()?.recovered_after_s),
    metric("accepted_per_s", |trial| has_connections(trial).then_some(trial.accepted_per_s)),
    metric("datagrams_per_s", |trial| trial.datagrams_per_s.filter(|_| has_datagrams(trial))),
    metric("offered_per_s", |trial| trial.offered_per_s),
    metric("completed_share", |trial| per(trial.measured.completed as f64, trial.measured.planned as f64)),
    metric("accept_wait_p50_ns", |trial| latency(&trial.latency_ns.accept_wait, |ns| ns.p50)),
    metric("accept_wait_p90_ns", |trial| latency(&trial.latency_ns.accept_wait, |ns| ns.p90)),
    metric("accept_wait_p99_ns", |trial| latency(&trial.latency_ns.accept_wait, |ns| ns.p99)),
    metric("accept_wait_p999_ns", |trial| rare(&trial.latency_ns.accept_wait, |ns| ns.p999)),
    metric("accept_wait_max_ns", |trial| latency(&trial.latency_ns.accept_wait, |ns| ns.max)),
    metric("accept_wait_bound_p50_ns", |trial| latency(&trial.latency_ns.accept_wait_bound, |ns| ns.p50)),
    metric("accept_wait_bound_p99_ns", |trial| latency(&trial.latency_ns.accept_wait_bound, |ns| ns.p99)),
    metric("receive_wait_p50_ns", |trial| latency(&trial.latency_ns.receive_wait, |ns| ns.p50)),
    metric("receive_wait_p99_ns", |trial| latency(&trial.latency_ns.receive_wait, |ns| ns.p99)),
    metric("receive_wait_max_ns", |trial| latency(&trial.latency_ns.receive_wait, |ns| ns.max)),
    metric("connect_p50_ns", |trial| latency(&trial.latency_ns.connect, |ns| ns.p50)),
    metric("connect_p99_ns", |trial| latency(&trial.latency_ns.connect, |ns| ns.p99)),
    metric("response_p50_ns", |trial| latency(&trial.latency_ns.response, |ns| ns.p50)),
    metric("response_p99_ns", |trial| latency(&trial.latency_ns.response, |ns| ns.p99)),
    metric("response_p999_ns", |trial| rare(&trial.latency_ns.response, |ns| ns.p999)),
    metric("response_max_ns", |trial| latency(&trial.latency_ns.response, |ns| ns.max)),
    metric("udp_response_p50_ns", |trial| latency(&trial.latency_ns.udp_response, |ns| ns.p50)),
    metric("udp_response_p99_ns", |trial| latency(&trial.latency_ns.udp_response, |ns| ns.p99)),
    metric("follow_up_p50_ns", |trial| latency(&trial.latency_ns.follow_up, |ns| ns.p50)),
    metric("follow_up_p99_ns", |trial| latency(&trial.latency_ns.follow_up, |ns| ns.p99)),
    metric("follow_up_max_ns", |trial| latency(&trial.latency_ns.follow_up, |ns| ns.max)),
    metric("send_lag_p99_ns", |trial| latency(&trial.latency_ns.send_lag, |ns| ns.p99)),
    metric("imbalance", |trial| trial.distribution.map(|spread| spread.imbalance)),
    metric("jain", |trial| trial.distribution.map(|spread| spread.jain)),
    metric("open_imbalance", open_imbalance),
    metric("datagram_imbalance", |trial| {
        let most = trial.workers.iter().map(|worker| worker.measured.datagrams).max()?;
        per(most as f64 * trial.workers.len() as f64, sum(trial, |worker| worker.datagrams))
    }),
    metric("flow_imbalance", |trial| trial.flow_distribution.map(|spread| spread.imbalance)),
    metric("flow_jain", |trial| trial.flow_distribution.map(|spread| spread.jain)),
    metric("sticky_share", |trial| {
        let flows = trial.datagrams.as_ref()?;
        per(flows.sticky_flows as f64, (flows.sticky_flows + flows.moved_flows) as f64)
    }),
    metric("lost_share", |trial| trial.datagrams.as_ref().and_then(|all| per(all.lost as f64, all.sent as f64))),
    metric("queue_peak", |trial| {
        has_connections(trial).then(|| trial.workers.iter().map(|worker| worker.queue_peak).max().unwrap_or(0) as f64)
    }),
    metric("queue_full_share", |trial| {
        let shares = trial.workers.iter().map(|worker| worker.queue.full_share);
        has_connections(trial).then(|| shares.fold(0.0, f64::max))
    }),
    metric("listen_drops", |trial| trial.kernel.get("ListenDrops").map(|drops| *drops as f64)),
    metric("open_peak", |trial| trial.memory.map(|memory| memory.open as f64)),
    metric("kernel_bytes_per_connection", |trial| trial.memory.map(|memory| memory.kernel_bytes_per_connection)),
    metric("user_bytes_per_connection", |trial| trial.memory.map(|memory| memory.user_bytes_per_connection)),
    metric("accept_batch_mean", |trial| {
        let batches = || trial.workers.iter().map(|worker| &worker.accept_batch);
        let accepts: f64 = batches().map(|batch| batch.mean * batch.count as f64).sum();
        per(accepts, batches().map(|batch| batch.count).sum::<u64>() as f64)
    }),
    metric("empty_wakeups_per_accept", |trial| per_accept(trial, |worker| worker.empty_wakeups)),
    metric("wakeups_per_accept", |trial| per_accept(trial, |worker| worker.wakeups)),
    metric("accept_eagain_per_accept", |trial| per_accept(trial, |worker| worker.accept_eagain)),
    metric("voluntary_switches_per_accept", |trial| per_accept(trial, |worker| worker.voluntary_switches)),
    metric("involuntary_switches_per_accept", |trial| per_accept(trial, |worker| worker.involuntary_switches)),
    metric("worker_cpu_ns_per_accept", |trial| {
        // A dispatcher's share is part of what an accept costs.
        let helper = trial.helper.as_ref().map_or(0, |helper| helper.measured.cpu_ns());
        per(sum(trial, WorkerCounts::cpu_ns) + helper as f64, accepts(trial)?)
    }),
    metric("empty_wakeups_per_datagram", |trial| per_datagram(trial, |worker| worker.datagram_empty_wakeups)),
    metric("voluntary_switches_per_datagram", |trial| per_datagram(trial, |worker| worker.voluntary_switches)),
    metric("worker_cpu_ns_per_datagram", |trial| per_datagram(trial, WorkerCounts::cpu_ns)),
    metric("fault_share", |trial| first_fault(trial)?.share),
    metric("fault_not_accepted", |trial| first_fault(trial).map(|fault| fault.not_accepted as f64)),
    metric("stranded", |trial| first_fault(trial)?.stranded.map(|stranded| stranded as f64)),
    metric("stranded_wait_max_ns", |trial| latency(&first_fault(trial)?.stranded_wait, |ns| ns.max)),
];

const fn metric(name: &'static str, read: fn(&TrialRecord) -> Option<f64>) -> Metric {
    Metric { name, read }
}

/// A latency's figure, if any connection has it.
fn latency(of: &LatencySummary, figure: fn(&LatencySummary) -> u64) -> Option<f64> {
    (of.count > 0).then(|| figure(of) as f64)
}

/// A 99.9th percentile of fewer values is their maximum.
fn rare(of: &LatencySummary, figure: fn(&LatencySummary) -> u64) -> Option<f64> {
    latency(of, figure).filter(|_| of.count >= 1_000)
}

fn per(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// The scenario's first fault, where it was carried out.
fn first_fault(trial: &TrialRecord) -> Option<&FaultRow> {
    trial.faults.iter().find(|fault| fault.fault == 0)
}

/// Whether connections were part of the trial.
fn has_connections(trial: &TrialRecord) -> bool {
    trial.ports.is_none() && (!has_datagrams(trial) || trial.connections.established > 0)
}

/// What a connect took, the median, at the step of the ports' fill that holds this one.
fn at_fill(trial: &TrialRecord, fill: f64) -> Option<f64> {
    let step = trial.ports.as_ref()?.curve.iter().find(|step| step.fill >= fill)?;
    Some(step.connect_p50_ns as f64)
}

fn has_datagrams(trial: &TrialRecord) -> bool {
    trial.datagrams.as_ref().is_some_and(|datagrams| datagrams.sent > 0)
}

/// A count of all workers over the measured window.
fn sum(trial: &TrialRecord, count: fn(&WorkerCounts) -> u64) -> f64 {
    trial.workers.iter().map(|worker| count(&worker.measured)).sum::<u64>() as f64
}

/// Accepts in the window, where nothing but connections was served.
fn accepts(trial: &TrialRecord) -> Option<f64> {
    (!has_datagrams(trial)).then(|| sum(trial, |worker| worker.accepted))
}

fn per_accept(trial: &TrialRecord, count: fn(&WorkerCounts) -> u64) -> Option<f64> {
    per(sum(trial, count), accepts(trial)?)
}

/// The same per datagram, where nothing but datagrams was served.
fn per_datagram(trial: &TrialRecord, count: fn(&WorkerCounts) -> u64) -> Option<f64> {
    if has_connections(trial) { None } else { per(sum(trial, count), sum(trial, |worker| worker.datagrams)) }
}

/// The most connections that a worker had open at once, against the mean over the workers; for held connections, where it
/// says who will have the work when they all speak.
fn open_imbalance(trial: &TrialRecord) -> Option<f64> {
    if trial.latency_ns.follow_up.is_empty() {
        return None;
    }
    let peaks = trial.workers.iter().map(|worker| worker.open_peak);
    let mean = peaks.clone().sum::<u64>() as f64 / trial.workers.len() as f64;
    per(peaks.max()? as f64, mean)
}

/// Each stage's mean over all its values in the valid trials.
fn stage_means_ns(trials: &[&TrialRecord]) -> IndexMap<String, f64> {
    let mut sums: IndexMap<String, (f64, u64)> = IndexMap::new();
    for trial in trials.iter().filter(|trial| trial.outcome == Outcome::Valid) {
        for (stage, figures) in &trial.stages_ns {
            let (sum, count) = sums.entry(stage.clone()).or_default();
            *sum += figures.mean as f64 * figures.count as f64;
            *count += figures.count;
        }
    }
    sums.into_iter().map(|(stage, (sum, count))| (stage, sum / count as f64)).collect()
}

/// Shares of all accepts by the order of registration, first to register first; over valid trials, the median of each.
fn share_by_rank(trials: &[&TrialRecord]) -> Vec<f64> {
    let valid = || trials.iter().filter(|trial| trial.outcome == Outcome::Valid && trial.connections.accepted > 0);
    let share = |trial: &TrialRecord, rank: usize| {
        let worker = trial.workers.iter().find(|worker| worker.registration_rank == rank)?;
        per(worker.total.accepted as f64, trial.connections.accepted as f64)
    };
    let ranks = valid().map(|trial| trial.workers.len()).max().unwrap_or(0);
    (0..ranks)
        .filter_map(|rank| Values::of(valid().filter_map(|trial| share(trial, rank)).collect()))
        .map(|values| values.median)
        .collect()
}

/// Sums a record up, cell by cell.
pub fn summarize(record: &Record) -> Summary {
    let mut cells: BTreeMap<usize, Vec<&TrialRecord>> = BTreeMap::new();
    for trial in &record.trials {
        cells.entry(trial.cell_index).or_default().push(trial);
    }
    Summary {
        schema: SCHEMA,
        scenario: record.trials.first().map_or_else(String::new, |trial| trial.scenario.clone()),
        host: record.host.clone(),
        interval: "range".to_owned(),
        cells: cells.into_values().map(|trials| cell(&trials)).collect(),
        comparisons: [],
    }
}

fn cell(trials: &[&TrialRecord]) -> CellSummary {
    let with = |outcome| trials.iter().filter(move |trial| trial.outcome == outcome);
    let mut verdicts = BTreeMap::new();
    for verdict in trials.iter().flat_map(|trial| &trial.verdicts) {
        *verdicts.entry(verdict.name).or_default() += 1;
    }
    let metrics = METRICS.iter().filter_map(|metric| {
        let values = Values::of(with(Outcome::Valid).filter_map(|trial| (metric.read)(trial)).collect())?;
        Some((metric.name.to_owned(), values))
    });
    CellSummary {
        cell: trials[0].cell.clone(),
        valid: with(Outcome::Valid).count(),
        invalid: with(Outcome::Invalid).count(),
        failed: with(Outcome::Failed).count(),
        verdicts,
        accept_wait_method: with(Outcome::Valid)
            .find(|trial| trial.latency_ns.accept_wait.count > 0)
            .and_then(|trial| trial.latency_ns.accept_wait.method.clone()),
        stage_means_ns: stage_means_ns(trials),
        share_by_rank: share_by_rank(trials),
        metrics: metrics.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ranges() {
        assert_eq!(Values::of(vec![]), None);
        let odd = Values::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.low, odd.high), (2.0, 1.0, 3.0));
        assert_eq!(Values::of(vec![4.0, 1.0]).unwrap().median, 2.5);
    }
}
