//! Listen queues.

use super::{
    Better::Lower,
    Metric,
    Unit::{Count, Share},
    has_connections, sampled,
};

pub(super) const METRICS: &[Metric] = &[
    sampled("queue_peak", "longest queue", Count, Lower, |trial| {
        has_connections(trial).then(|| trial.workers.iter().map(|worker| worker.queue_peak).max().unwrap_or(0) as f64)
    })
    .column("queue\npeak"),
    sampled("queue_full_share", "share of time with a full queue", Share, Lower, |trial| {
        let shares = trial.workers.iter().map(|worker| worker.queue.full_share);
        has_connections(trial).then(|| shares.fold(0.0, f64::max))
    }),
    sampled("listen_drops", "segments dropped by listeners", Count, Lower, |trial| {
        trial.kernel.get("ListenDrops").map(|drops| *drops as f64)
    }),
];
