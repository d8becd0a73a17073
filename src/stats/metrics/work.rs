//! What workers do for each connection or datagram: wake-ups, context switches, CPU time.

use super::{
    Better::{Lower, Neither},
    Metric,
    Unit::{Nanoseconds, Ratio},
    has_connections, has_datagrams, per, sampled, sum,
};
use crate::record::{TrialRecord, WorkerCounts};

pub(super) const METRICS: &[Metric] = &[
    sampled("accept_batch_mean", "accepts per wake-up", Ratio, Neither, |trial| {
        let batches = || trial.workers.iter().map(|worker| &worker.accept_batch);
        let accepts: f64 = batches().map(|batch| batch.mean * batch.count as f64).sum();
        per(accepts, batches().map(|batch| batch.count).sum::<u64>() as f64)
    })
    .column("batch\nmean"),
    sampled("empty_wakeups_per_accept", "empty wake-ups per accept", Ratio, Lower, |trial| {
        per_accept(trial, |worker| worker.empty_wakeups)
    })
    .compared()
    .column("empty wake-ups\n/accept"),
    sampled("wakeups_per_accept", "wake-ups per accept", Ratio, Lower, |trial| {
        per_accept(trial, |worker| worker.wakeups)
    }),
    sampled("accept_eagain_per_accept", "EAGAIN per accept", Ratio, Lower, |trial| {
        per_accept(trial, |worker| worker.accept_eagain)
    }),
    sampled("voluntary_switches_per_accept", "sleeps per accept", Ratio, Lower, |trial| {
        per_accept(trial, |worker| worker.voluntary_switches)
    })
    .compared()
    .column("sleeps\n/accept"),
    sampled("involuntary_switches_per_accept", "preemptions per accept", Ratio, Lower, |trial| {
        per_accept(trial, |worker| worker.involuntary_switches)
    }),
    sampled("worker_cpu_ns_per_accept", "worker CPU per accept", Nanoseconds, Lower, |trial| {
        // A dispatcher's share is part of what an accept costs.
        let helper = trial.helper.as_ref().map_or(0, |helper| helper.measured.cpu_ns());
        per(sum(trial, WorkerCounts::cpu_ns) + helper as f64, accepts(trial)?)
    })
    .compared()
    .column("worker CPU\n/accept"),
    sampled("empty_wakeups_per_datagram", "empty wake-ups per datagram", Ratio, Lower, |trial| {
        per_datagram(trial, |worker| worker.datagram_empty_wakeups)
    })
    .column("empty wake-ups\n/datagram"),
    sampled("voluntary_switches_per_datagram", "sleeps per datagram", Ratio, Lower, |trial| {
        per_datagram(trial, |worker| worker.voluntary_switches)
    })
    .column("sleeps\n/datagram"),
    sampled("worker_cpu_ns_per_datagram", "worker CPU per datagram", Nanoseconds, Lower, |trial| {
        per_datagram(trial, WorkerCounts::cpu_ns)
    })
    .compared()
    .column("worker CPU\n/datagram"),
];

/// Accepts in the window; `None` if part of the work was for datagrams.
fn accepts(trial: &TrialRecord) -> Option<f64> {
    (!has_datagrams(trial)).then(|| sum(trial, |worker| worker.accepted))
}

fn per_accept(trial: &TrialRecord, count: fn(&WorkerCounts) -> u64) -> Option<f64> {
    per(sum(trial, count), accepts(trial)?)
}

/// `None` if part of the work was for connections.
fn per_datagram(trial: &TrialRecord, count: fn(&WorkerCounts) -> u64) -> Option<f64> {
    if has_connections(trial) { None } else { per(sum(trial, count), sum(trial, |worker| worker.datagrams)) }
}
