//! The numbers of a trial that are summed up and compared: name, unit, which way is better, and how to read them.

use Better::{Higher, Lower, Neither};
use Unit::{Bytes, Count, Nanoseconds, PerSecond, Ratio, Seconds, Share};

use crate::{
    format,
    record::{FaultRow, LatencySummary, TrialRecord, WorkerCounts},
};

/// A number that a trial has, or has not.
#[derive(Debug)]
pub struct Metric {
    /// As in `summary.json`.
    pub name: &'static str,
    /// As people say it.
    pub label: &'static str,
    /// What its value counts.
    pub unit: Unit,
    /// Which way is better.
    pub better: Better,
    /// Whether cells are compared by it with a test.
    pub compared: bool,
    /// Reads it from a trial.
    pub read: fn(&TrialRecord) -> Option<f64>,
}

impl Metric {
    /// The label with its verb: accepts are, an accept wait is.
    pub fn is(&self) -> &'static str {
        let plural = |word: &str| word.ends_with('s') && !word.ends_with("'s");
        if self.label.split(' ').take(2).any(plural) { "are" } else { "is" }
    }

    /// Whether it is of the accept wait, which is exact or a bound, as the cell's `accept_wait_method` says.
    pub fn is_accept_wait(&self) -> bool {
        self.name.starts_with("accept_wait_") && !self.name.starts_with("accept_wait_bound_")
    }
}

/// What a metric's value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Seconds.
    Seconds,
    /// Events per second.
    PerSecond,
    /// A number of things.
    Count,
    /// A part, 0 to 1.
    Share,
    /// One number divided by another.
    Ratio,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// As in tables for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Seconds => "s",
            Self::PerSecond => "1/s",
            Self::Count => "count",
            Self::Share => "share",
            Self::Ratio => "ratio",
            Self::Bytes => "bytes",
        }
    }

    /// A value as people read it.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Nanoseconds => format::duration(value),
            Self::Seconds => format::duration(1e9 * value),
            Self::PerSecond => format!("{}/s", format::thousands(value)),
            Self::Count => format::thousands(value),
            Self::Share => format::percent(value),
            Self::Ratio => format::ratio(value),
            Self::Bytes => format!("{} B", format::thousands(value)),
        }
    }
}

/// Which way a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The smaller, the better.
    Lower,
    /// The larger, the better.
    Higher,
    /// It says under which conditions others are to be read.
    Neither,
}

impl Better {
    /// As in tables for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Higher => "higher",
            Self::Neither => "neither",
        }
    }
}

/// A metric by its name; the unit at its end (`_ns`) may be left out.
pub fn metric_named(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name || metric.name.strip_suffix("_ns") == Some(name))
}

const COMPARED: bool = true;
const SHOWN: bool = false;

/// All metrics.
pub const METRICS: &[Metric] = &[
    metric("ports_wall", "wall", Count, Higher, COMPARED, |trial| trial.ports.as_ref()?.wall.map(|wall| wall as f64)),
    metric("ports_knee", "knee", Count, Higher, COMPARED, |trial| trial.ports.as_ref()?.knee.map(|knee| knee as f64)),
    metric("connect_p50_ns_at_25", "connect p50 at 25 %", Nanoseconds, Lower, COMPARED, |trial| at_fill(trial, 0.25)),
    metric("connect_p50_ns_at_45", "connect p50 at 45 %", Nanoseconds, Lower, COMPARED, |trial| at_fill(trial, 0.45)),
    metric("connect_p50_ns_at_55", "connect p50 at 55 %", Nanoseconds, Lower, COMPARED, |trial| at_fill(trial, 0.55)),
    metric("connect_p50_ns_at_75", "connect p50 at 75 %", Nanoseconds, Lower, COMPARED, |trial| at_fill(trial, 0.75)),
    metric("connect_p50_ns_at_95", "connect p50 at 95 %", Nanoseconds, Lower, COMPARED, |trial| at_fill(trial, 0.95)),
    metric("ports_exhausted_after_s", "time until no port is left", Seconds, Higher, SHOWN, |trial| {
        trial.ports_exhausted_after_s
    }),
    metric("ports_ceiling_per_s", "ceiling of the ports", PerSecond, Neither, SHOWN, |trial| trial.ports_ceiling_per_s),
    metric("time_wait_peak", "sockets in TIME_WAIT at most", Count, Lower, SHOWN, |trial| {
        trial.ports.is_none().then_some(trial.sockets_peak.time_wait as f64)
    }),
    metric("completed_per_s", "connections completed", PerSecond, Higher, COMPARED, |trial| {
        per(trial.measured.completed as f64, trial.duration_s)
    }),
    metric("failing_connect_ns", "failing connect", Nanoseconds, Lower, SHOWN, |trial| {
        trial.ports.as_ref()?.failing_connect_ns.map(|ns| ns as f64)
    }),
    metric("recovered_after_s", "recovery of the ports", Seconds, Lower, COMPARED, |trial| {
        trial.ports.as_ref()?.recovered_after_s
    }),
    metric("accepted_per_s", "accepts", PerSecond, Higher, COMPARED, |trial| {
        has_connections(trial).then_some(trial.accepted_per_s)
    }),
    metric("datagrams_per_s", "datagrams", PerSecond, Higher, COMPARED, |trial| {
        trial.datagrams_per_s.filter(|_| has_datagrams(trial))
    }),
    metric("offered_per_s", "offered", PerSecond, Neither, SHOWN, |trial| trial.offered_per_s),
    metric("completed_share", "share completed", Share, Higher, SHOWN, |trial| {
        per(trial.measured.completed as f64, trial.measured.planned as f64)
    }),
    metric("accept_wait_p50_ns", "accept wait p50", Nanoseconds, Lower, COMPARED, |trial| {
        latency(&trial.latency_ns.accept_wait, |ns| ns.p50)
    }),
    metric("accept_wait_p90_ns", "accept wait p90", Nanoseconds, Lower, SHOWN, |trial| {
        latency(&trial.latency_ns.accept_wait, |ns| ns.p90)
    }),
    metric("accept_wait_p99_ns", "accept wait p99", Nanoseconds, Lower, COMPARED, |trial| {
        latency(&trial.latency_ns.accept_wait, |ns| ns.p99)
    }),
    metric("accept_wait_p999_ns", "accept wait p99.9", Nanoseconds, Lower, COMPARED, |trial| {
        rare(&trial.latency_ns.accept_wait, |ns| ns.p999)
    }),
    metric("accept_wait_max_ns", "longest accept wait", Nanoseconds, Lower, SHOWN, |trial| {
        latency(&trial.latency_ns.accept_wait, |ns| ns.max)
    }),
    metric("accept_wait_bound_p50_ns", "bound of the accept wait p50", Nanoseconds, Lower, SHOWN, |trial| {
        latency(&trial.latency_ns.accept_wait_bound, |ns| ns.p50)
    }),
    metric("accept_wait_bound_p99_ns", "bound of the accept wait p99", Nanoseconds, Lower, SHOWN, |trial| {
        latency(&trial.latency_ns.accept_wait_bound, |ns| ns.p99)
    }),
    metric("receive_wait_p50_ns", "receive wait p50", Nanoseconds, Lower, COMPARED, |trial| {
        latency(&trial.latency_ns.receive_wait, |ns| ns.p50)
    }),
    metric("receive_wait_p99_ns", "receive wait p99", Nanoseconds, Lower, COMPARED, |trial| {
        latency(&trial.latency_ns.receive_wait, |ns| ns.p99)
    }),
    metric("receive_wait_max_ns", "longest receive wait", Nanoseconds, Lower, SHOWN, |trial| {
        latency(&trial.latency_ns.receive_wait, |ns| ns.max)
    }),
    metric("connect_p50_ns", "connect p50", Nanoseconds, Lower, SHOWN, |trial| {
        latency(&trial.latency_ns.connect, |ns| ns.p50)
    }),
    metric("connect_p99_ns", "connect p99", Nanoseconds, Lower, COMPARED, |trial| {
        latency(&trial.latency_ns.connect, |ns| ns.p99)
    }),
    metric("response_p50_ns", "response p50", Nanoseconds, Lower, COMPARED, |trial| {
        latency(&trial.latency_ns.response, |ns| ns.p50)
    }),
    metric("response_p99_ns", "response p99", Nanoseconds, Lower, COMPARED, |trial| {
        latency(&trial.latency_ns.response, |ns| ns.p99)
    }),
    metric("response_p999_ns", "response p99.9", Nanoseconds, Lower, COMPARED, |trial| {
        rare(&trial.latency_ns.response, |ns| ns.p999)
    }),
    metric("response_max_ns", "longest response", Nanoseconds, Lower, SHOWN, |trial| {
        latency(&trial.latency_ns.response, |ns| ns.max)
    }),
    metric("udp_response_p50_ns", "UDP response p50", Nanoseconds, Lower, SHOWN, |trial| {
        latency(&trial.latency_ns.udp_response, |ns| ns.p50)
    }),
    metric("udp_response_p99_ns", "UDP response p99", Nanoseconds, Lower, COMPARED, |trial| {
        latency(&trial.latency_ns.udp_response, |ns| ns.p99)
    }),
    metric("follow_up_p50_ns", "follow-up p50", Nanoseconds, Lower, SHOWN, |trial| {
        latency(&trial.latency_ns.follow_up, |ns| ns.p50)
    }),
    metric("follow_up_p99_ns", "follow-up p99", Nanoseconds, Lower, COMPARED, |trial| {
        latency(&trial.latency_ns.follow_up, |ns| ns.p99)
    }),
    metric("follow_up_max_ns", "longest follow-up", Nanoseconds, Lower, COMPARED, |trial| {
        latency(&trial.latency_ns.follow_up, |ns| ns.max)
    }),
    metric("send_lag_p99_ns", "send lag p99", Nanoseconds, Lower, SHOWN, |trial| {
        latency(&trial.latency_ns.send_lag, |ns| ns.p99)
    }),
    metric("imbalance", "imbalance", Ratio, Lower, COMPARED, |trial| trial.distribution.map(|spread| spread.imbalance)),
    metric("jain", "Jain's index", Ratio, Higher, SHOWN, |trial| trial.distribution.map(|spread| spread.jain)),
    metric("open_imbalance", "imbalance of open connections", Ratio, Lower, COMPARED, open_imbalance),
    metric("datagram_imbalance", "imbalance of datagrams", Ratio, Lower, COMPARED, |trial| {
        let most = trial.workers.iter().map(|worker| worker.measured.datagrams).max()?;
        per(most as f64 * trial.workers.len() as f64, sum(trial, |worker| worker.datagrams))
    }),
    metric("flow_imbalance", "imbalance of flows", Ratio, Lower, COMPARED, |trial| {
        trial.flow_distribution.map(|spread| spread.imbalance)
    }),
    metric("flow_jain", "Jain's index of flows", Ratio, Higher, SHOWN, |trial| {
        trial.flow_distribution.map(|spread| spread.jain)
    }),
    metric("sticky_share", "share of sticky flows", Share, Higher, COMPARED, |trial| {
        let flows = trial.datagrams.as_ref()?;
        per(flows.sticky_flows as f64, (flows.sticky_flows + flows.moved_flows) as f64)
    }),
    metric("lost_share", "share of datagrams lost", Share, Lower, COMPARED, |trial| {
        trial.datagrams.as_ref().and_then(|all| per(all.lost as f64, all.sent as f64))
    }),
    metric("queue_peak", "longest queue", Count, Lower, SHOWN, |trial| {
        has_connections(trial).then(|| trial.workers.iter().map(|worker| worker.queue_peak).max().unwrap_or(0) as f64)
    }),
    metric("queue_full_share", "share of time with a full queue", Share, Lower, SHOWN, |trial| {
        let shares = trial.workers.iter().map(|worker| worker.queue.full_share);
        has_connections(trial).then(|| shares.fold(0.0, f64::max))
    }),
    metric("listen_drops", "segments dropped by listeners", Count, Lower, SHOWN, |trial| {
        trial.kernel.get("ListenDrops").map(|drops| *drops as f64)
    }),
    metric("open_peak", "connections open at most", Count, Neither, SHOWN, |trial| {
        trial.memory.map(|memory| memory.open as f64)
    }),
    metric("kernel_bytes_per_connection", "kernel memory per connection", Bytes, Lower, COMPARED, |trial| {
        trial.memory.map(|memory| memory.kernel_bytes_per_connection)
    }),
    metric("user_bytes_per_connection", "user memory per connection", Bytes, Lower, COMPARED, |trial| {
        trial.memory.map(|memory| memory.user_bytes_per_connection)
    }),
    metric("loader_bytes_per_connection", "loaders' memory per connection", Bytes, Lower, SHOWN, |trial| {
        trial.memory.map(|memory| memory.loader_bytes_per_connection)
    }),
    metric("worker_bytes_per_connection", "workers' memory per connection", Bytes, Lower, SHOWN, |trial| {
        trial.memory.map(|memory| memory.worker_bytes_per_connection)
    }),
    metric("shared_bytes_per_connection", "shared memory per connection", Bytes, Lower, SHOWN, |trial| {
        trial.memory.map(|memory| memory.shared_bytes_per_connection)
    }),
    metric("ramp_s", "time until all connections were open", Seconds, Lower, COMPARED, |trial| {
        trial.ramp.as_ref().map(|ramp| ramp.seconds)
    }),
    metric("ramp_rate_ratio", "accepts/s of the ramp's last tenth ÷ its first's", Ratio, Higher, SHOWN, |trial| {
        trial.ramp.as_ref()?.rate_ratio
    }),
    metric(
        "ramp_cpu_ratio",
        "CPU per connection in the ramp's last tenth ÷ in its first",
        Ratio,
        Lower,
        SHOWN,
        |trial| trial.ramp.as_ref()?.cpu_ratio,
    ),
    metric("accept_batch_mean", "accepts per wake-up", Ratio, Neither, SHOWN, |trial| {
        let batches = || trial.workers.iter().map(|worker| &worker.accept_batch);
        let accepts: f64 = batches().map(|batch| batch.mean * batch.count as f64).sum();
        per(accepts, batches().map(|batch| batch.count).sum::<u64>() as f64)
    }),
    metric("empty_wakeups_per_accept", "empty wake-ups per accept", Ratio, Lower, COMPARED, |trial| {
        per_accept(trial, |worker| worker.empty_wakeups)
    }),
    metric("wakeups_per_accept", "wake-ups per accept", Ratio, Lower, SHOWN, |trial| {
        per_accept(trial, |worker| worker.wakeups)
    }),
    metric("accept_eagain_per_accept", "EAGAIN per accept", Ratio, Lower, SHOWN, |trial| {
        per_accept(trial, |worker| worker.accept_eagain)
    }),
    metric("voluntary_switches_per_accept", "sleeps per accept", Ratio, Lower, COMPARED, |trial| {
        per_accept(trial, |worker| worker.voluntary_switches)
    }),
    metric("involuntary_switches_per_accept", "preemptions per accept", Ratio, Lower, SHOWN, |trial| {
        per_accept(trial, |worker| worker.involuntary_switches)
    }),
    metric("worker_cpu_ns_per_accept", "worker CPU per accept", Nanoseconds, Lower, COMPARED, |trial| {
        // A dispatcher's share is part of what an accept costs.
        let helper = trial.helper.as_ref().map_or(0, |helper| helper.measured.cpu_ns());
        per(sum(trial, WorkerCounts::cpu_ns) + helper as f64, accepts(trial)?)
    }),
    metric("empty_wakeups_per_datagram", "empty wake-ups per datagram", Ratio, Lower, SHOWN, |trial| {
        per_datagram(trial, |worker| worker.datagram_empty_wakeups)
    }),
    metric("voluntary_switches_per_datagram", "sleeps per datagram", Ratio, Lower, SHOWN, |trial| {
        per_datagram(trial, |worker| worker.voluntary_switches)
    }),
    metric("worker_cpu_ns_per_datagram", "worker CPU per datagram", Nanoseconds, Lower, COMPARED, |trial| {
        per_datagram(trial, WorkerCounts::cpu_ns)
    }),
    metric("fault_share", "share of connections in the fault", Share, Lower, SHOWN, |trial| first_fault(trial)?.share),
    metric("fault_not_accepted", "connections not accepted in the fault", Count, Lower, COMPARED, |trial| {
        first_fault(trial).map(|fault| fault.not_accepted as f64)
    }),
    metric("stranded", "connections stranded", Count, Lower, COMPARED, |trial| {
        first_fault(trial)?.stranded.map(|stranded| stranded as f64)
    }),
    metric("stranded_wait_max_ns", "longest wait of a stranded connection", Nanoseconds, Lower, SHOWN, |trial| {
        latency(&first_fault(trial)?.stranded_wait, |ns| ns.max)
    }),
];

const fn metric(
    name: &'static str,
    label: &'static str,
    unit: Unit,
    better: Better,
    compared: bool,
    read: fn(&TrialRecord) -> Option<f64>,
) -> Metric {
    Metric { name, label, unit, better, compared, read }
}

/// A latency's figure, if any connection has it.
fn latency(of: &LatencySummary, figure: fn(&LatencySummary) -> u64) -> Option<f64> {
    (of.count > 0).then(|| figure(of) as f64)
}

/// A 99.9th percentile of fewer values is their maximum.
fn rare(of: &LatencySummary, figure: fn(&LatencySummary) -> u64) -> Option<f64> {
    latency(of, figure).filter(|_| of.count >= 1_000)
}

pub(super) fn per(part: f64, whole: f64) -> Option<f64> {
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

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// The documentation's table is this table: print what is missing, so that mending it is pasting.
    #[test]
    fn the_readme_documents_every_metric_once() {
        let readme = include_str!("../../results/README.md");
        let row = |metric: &Metric| {
            let (unit, better) = (metric.unit.as_str(), metric.better.as_str());
            format!("| `{}` | {unit} | {better} | {} |", metric.name, metric.label)
        };
        let mut missing = String::new();
        for row in METRICS.iter().map(row) {
            if readme.lines().filter(|line| *line == row).count() != 1 {
                writeln!(missing, "{row}").unwrap();
            }
        }
        assert!(missing.is_empty(), "results/README.md wants exactly once:\n{missing}");
        // No other table says which way is better.
        let better = [" | lower | ", " | higher | ", " | neither | "];
        let rows = readme.lines().filter(|line| better.iter().any(|word| line.contains(word))).count();
        assert_eq!(rows, METRICS.len(), "a documented metric is none");
    }

    #[test]
    fn a_metric_is_found_with_and_without_its_unit() {
        for name in ["accept_wait_p99", "accept_wait_p99_ns"] {
            assert_eq!(metric_named(name).unwrap().label, "accept wait p99");
        }
        assert!(metric_named("accept_wait").is_none() && metric_named("").is_none());
        for (number, metric) in METRICS.iter().enumerate() {
            assert!(METRICS[..number].iter().all(|other| other.name != metric.name && other.label != metric.label));
        }
    }
}
