//! What a server does for each connection or datagram: wake-ups, context switches, CPU time.

use super::{
    Better::{Lower, Neither},
    Metric,
    Unit::{Nanoseconds, Ratio, Share},
    has_connections, has_datagrams, per, sampled, sum,
};
use crate::record::{TrialRecord, WorkerCounts};

pub(super) const METRICS: &[Metric] = &[
    sampled(
        "accept_batch_mean",
        "accepts per wake-up",
        "Connections accepted per wake-up that found any.",
        Ratio,
        Neither,
        |trial| {
            let batches = || trial.workers.iter().filter_map(|worker| worker.accept_batch.as_ref());
            let accepts: f64 = batches().map(|batch| batch.mean * batch.count as f64).sum();
            per(accepts, batches().map(|batch| batch.count).sum::<u64>() as f64)
        },
    )
    .column("batch\nmean"),
    sampled(
        "empty_wakeups_per_accept",
        "empty wake-ups per accept",
        "Wake-ups of workers after which there was nothing to accept ÷ accepts: the herd.",
        Ratio,
        Lower,
        |trial| per_accept(trial, |worker| worker.empty_wakeups),
    )
    .compared()
    .column("empty wake-ups\n/accept"),
    sampled(
        "wakeups_per_accept",
        "wake-ups per accept",
        "Wake-ups of workers by their listener ÷ accepts.",
        Ratio,
        Lower,
        |trial| per_accept(trial, |worker| worker.wakeups),
    ),
    sampled(
        "handed_over_share",
        "share of connections handed over",
        "Part of the connections that a worker passed to another one (`server.balance`).",
        Share,
        Neither,
        |trial| {
            // Where a dispatcher accepts, it hands over all of them.
            let helper = trial.helper.as_ref().map_or(Some(0), |helper| helper.measured.handed_over)?;
            let handed_over = sum(trial, |worker| worker.handed_over)? + helper as f64;
            per(handed_over, accepts(trial)?).filter(|share| *share > 0.0)
        },
    )
    .column("handed\nover"),
    sampled(
        "accept_eagain_per_accept",
        "EAGAIN per accept",
        "Calls of accept() that found nothing (EAGAIN) ÷ accepts.",
        Ratio,
        Lower,
        |trial| {
            // Where a dispatcher accepts, only it calls accept.
            let helper = trial.helper.as_ref().map_or(Some(0), |helper| helper.measured.accept_eagain)?;
            per(sum(trial, |worker| worker.accept_eagain)? + helper as f64, accepts(trial)?)
        },
    ),
    sampled(
        "voluntary_switches_per_accept",
        "sleeps per accept",
        "Times that the server's processes went to sleep ÷ accepts.",
        Ratio,
        Lower,
        |trial| per_accept(trial, |worker| worker.voluntary_switches),
    )
    .compared()
    .column("sleeps\n/accept"),
    sampled(
        "involuntary_switches_per_accept",
        "preemptions per accept",
        "Times that the kernel took the processor from the server's processes ÷ accepts.",
        Ratio,
        Lower,
        |trial| per_accept(trial, |worker| worker.involuntary_switches),
    ),
    sampled(
        "worker_cpu_ns_per_accept",
        "server CPU per accept",
        "CPU time of the server's processes ÷ accepts.",
        Nanoseconds,
        Lower,
        |trial| {
            // A dispatcher's share is part of what an accept costs.
            let helper = trial.helper.as_ref().map_or(Some(0), |helper| helper.measured.cpu_ns())?;
            per(sum(trial, WorkerCounts::cpu_ns)? + helper as f64, accepts_alone(trial)?)
        },
    )
    .compared()
    .column("server CPU\n/accept"),
    sampled(
        "empty_wakeups_per_datagram",
        "empty wake-ups per datagram",
        "Wake-ups of workers after which there was nothing to receive ÷ datagrams.",
        Ratio,
        Lower,
        |trial| per_datagram(trial, |worker| worker.datagram_empty_wakeups),
    )
    .column("empty wake-ups\n/datagram"),
    sampled(
        "voluntary_switches_per_datagram",
        "sleeps per datagram",
        "Times that the server's processes went to sleep ÷ datagrams.",
        Ratio,
        Lower,
        |trial| per_datagram(trial, |worker| worker.voluntary_switches),
    )
    .column("sleeps\n/datagram"),
    sampled(
        "worker_cpu_ns_per_datagram",
        "server CPU per datagram",
        "CPU time of the server's processes ÷ datagrams.",
        Nanoseconds,
        Lower,
        |trial| per_datagram(trial, WorkerCounts::cpu_ns),
    )
    .compared()
    .column("server CPU\n/datagram"),
];

/// Accepts in the window; `None` if part of the work was for datagrams, or nobody counted them.
fn accepts(trial: &TrialRecord) -> Option<f64> {
    if has_datagrams(trial) { None } else { sum(trial, |worker| worker.accepted) }
}

fn per_accept(trial: &TrialRecord, count: fn(&WorkerCounts) -> Option<u64>) -> Option<f64> {
    per(sum(trial, count)?, accepts_alone(trial)?)
}

/// The same; `None` if part of the work was for the requests of kept connections, which were accepted long before.
fn accepts_alone(trial: &TrialRecord) -> Option<f64> {
    if trial.measured.kept.is_some() { None } else { accepts(trial) }
}

/// `None` if part of the work was for connections.
fn per_datagram(trial: &TrialRecord, count: fn(&WorkerCounts) -> Option<u64>) -> Option<f64> {
    if has_connections(trial) { None } else { per(sum(trial, count)?, sum(trial, |worker| worker.datagrams)?) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{Due, Measured, MemberRow},
        stats::metric_named,
    };

    #[test]
    fn work_for_kept_connections_is_no_accept_s() {
        let measured = WorkerCounts {
            accepted: Some(10),
            accept_eagain: Some(5),
            voluntary_switches: Some(30),
            ..WorkerCounts::default()
        };
        let workers = vec![MemberRow { measured, ..MemberRow::default() }];
        let mut trial = TrialRecord { workers, ..TrialRecord::default() };
        let of = |trial: &TrialRecord, name: &str| metric_named(name).unwrap().read(trial);
        assert_eq!(of(&trial, "voluntary_switches_per_accept"), Some(3.0));
        trial.measured = Measured { kept: Some(Due::default()), ..Measured::default() };
        assert_eq!(of(&trial, "voluntary_switches_per_accept"), None);
        assert_eq!(of(&trial, "accept_eagain_per_accept"), Some(0.5));
    }
}
