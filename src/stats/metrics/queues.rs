//! Listen queues.

use super::{
    Better::Lower,
    Metric,
    Unit::{Count, Share},
    has_connections, sampled,
};

pub(super) const METRICS: &[Metric] = &[
    sampled(
        "queue_peak",
        "longest queue",
        "Most connections seen in one accept queue at once, by samples every `queue_interval`.",
        Count,
        Lower,
        |trial| {
            let of_listeners = trial.listeners.iter().map(|listener| listener.queue_peak);
            let peak = trial.workers.iter().filter_map(|worker| worker.queue_peak).chain(of_listeners).max()?;
            has_connections(trial).then_some(peak as f64)
        },
    )
    .column("queue\npeak"),
    sampled(
        "queue_full_share",
        "share of time with a full queue",
        "Part of the samples that found the fullest accept queue full.",
        Share,
        Lower,
        |trial| {
            let shares = trial.workers.iter().filter_map(|worker| Some(worker.queue.as_ref()?.full_share));
            let of_listeners = trial.listeners.iter().map(|listener| listener.queue.full_share);
            shares.chain(of_listeners).reduce(f64::max).filter(|_| has_connections(trial))
        },
    ),
    sampled(
        "listen_drops",
        "segments dropped by listeners",
        "Segments that listeners dropped over the trial: the kernel's counter ListenDrops.",
        Count,
        Lower,
        |trial| trial.kernel.get("ListenDrops").map(|drops| *drops as f64),
    )
    .about_failures(),
];
