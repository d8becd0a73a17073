//! How evenly work spreads over workers.

use super::{
    Better::{Higher, Lower, Neither},
    Metric,
    Unit::{Count, Ratio, Share},
    per, sampled, sum,
};
use crate::record::TrialRecord;

pub(super) const METRICS: &[Metric] = &[
    sampled(
        "imbalance",
        "imbalance",
        "The busiest member's accepts ÷ the mean over members; 1 is even.",
        Ratio,
        Lower,
        |trial| steady(trial)?.distribution.as_ref().map(|spread| spread.imbalance),
    )
    .compared()
    .column("imbalance"),
    sampled(
        "first_registered_share",
        "share of the worker registered first",
        "Part of the accepts that fell to the worker that was the first to add its listener to epoll.",
        Share,
        Neither,
        |trial| {
            let first = steady(trial)?.workers.iter().find(|worker| worker.registration_rank == Some(0))?;
            per(first.total.accepted? as f64, trial.connections.accepted? as f64)
        },
    )
    .compared(),
    sampled(
        "jain",
        "Jain's index",
        "Jain's fairness index of the members' accepts: 1 is even, 1 ÷ their number is all to one.",
        Ratio,
        Higher,
        |trial| steady(trial)?.distribution.as_ref().map(|spread| spread.jain),
    ),
    sampled(
        "open_imbalance",
        "imbalance of open connections",
        "The busiest worker's peak of open connections ÷ the mean over workers; of held connections.",
        Ratio,
        Lower,
        open_imbalance,
    )
    .compared()
    .column("imbalance\nof open"),
    sampled(
        "datagram_imbalance",
        "imbalance of datagrams",
        "The busiest worker's datagrams ÷ the mean over workers.",
        Ratio,
        Lower,
        |trial| {
            let most = steady(trial)?.workers.iter().map(|worker| worker.measured.datagrams).max()??;
            per(most as f64 * trial.workers.len() as f64, sum(trial, |worker| worker.datagrams)?)
        },
    )
    .compared()
    .column("imbalance\nof datagrams"),
    sampled(
        "flow_imbalance",
        "imbalance of flows",
        "The busiest worker's flows ÷ the mean over workers. A flow is a client's address and port.",
        Ratio,
        Lower,
        |trial| steady(trial)?.flow_distribution.as_ref().map(|spread| spread.imbalance),
    )
    .compared()
    .column("imbalance\nof flows"),
    sampled(
        "flow_jain",
        "Jain's index of flows",
        "Jain's fairness index of the flows that workers answered: 1 is even, 1 ÷ their number is all to one.",
        Ratio,
        Higher,
        |trial| steady(trial)?.flow_distribution.as_ref().map(|spread| spread.jain),
    ),
    sampled(
        "sticky_share",
        "share of sticky flows",
        "Part of the flows with several datagrams that stayed with one worker.",
        Share,
        Higher,
        |trial| {
            let flows = trial.datagrams.as_ref()?;
            per(flows.sticky_flows as f64, (flows.sticky_flows + flows.moved_flows) as f64)
        },
    )
    .compared()
    .column("sticky\nflows"),
    sampled(
        "rebound_stay_share",
        "share of flows that keep their worker with another port",
        "Part of the flows continued from another port of their client that the worker then answered that had answered before.",
        Share,
        Higher,
        |trial| trial.datagrams.as_ref()?.after_rebinding?.share(),
    )
    .compared()
    .column("stay with\nanother port"),
    sampled(
        "reload_stay_share",
        "share of flows that stay after a reload",
        "Part of the flows that went on after a reload that the worker answered first that had answered before.",
        Share,
        Higher,
        |trial| trial.datagrams.as_ref()?.after_reload?.share(),
    )
    .compared()
    .column("stay after\na reload"),
    sampled(
        "flows_unanswered",
        "flows without an answer",
        "Flows of datagrams that got no reply at all.",
        Count,
        Lower,
        |trial| trial.datagrams.as_ref().map(|all| (all.flows - all.answered_flows) as f64),
    )
    .about_failures()
    .compared()
    .column("flows\nunanswered"),
    sampled(
        "lost_share",
        "share of datagrams lost",
        "Part of the datagrams sent that no worker received.",
        Share,
        Lower,
        |trial| trial.datagrams.as_ref().and_then(|all| per(all.lost as f64, all.sent as f64)),
    )
    .about_failures()
    .compared()
    .column("lost"),
];

/// A trial whose members were all there from beginning to end: what others get depends on how long they are there.
fn steady(trial: &TrialRecord) -> Option<&TrialRecord> {
    Some(trial).filter(|trial| !trial.changed_members())
}

/// Peak of open connections of the busiest worker ÷ the mean over workers. Only for held connections, where it shows
/// which worker gets the work once all of them send.
fn open_imbalance(trial: &TrialRecord) -> Option<f64> {
    if trial.latency_ns.follow_up.is_empty() {
        return None;
    }
    let peaks: Vec<u64> = steady(trial)?.workers.iter().map(|worker| worker.open_peak).collect::<Option<_>>()?;
    let mean = peaks.iter().sum::<u64>() as f64 / peaks.len() as f64;
    per(*peaks.iter().max()? as f64, mean)
}
