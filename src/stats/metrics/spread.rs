//! How evenly work spreads over workers.

use super::{
    Better::{Higher, Lower},
    Metric,
    Unit::{Ratio, Share},
    per, sampled, sum,
};
use crate::record::TrialRecord;

pub(super) const METRICS: &[Metric] = &[
    sampled("imbalance", "imbalance", Ratio, Lower, |trial| trial.distribution.map(|spread| spread.imbalance))
        .compared()
        .column("imbalance"),
    sampled("jain", "Jain's index", Ratio, Higher, |trial| trial.distribution.map(|spread| spread.jain)),
    sampled("open_imbalance", "imbalance of open connections", Ratio, Lower, open_imbalance)
        .compared()
        .column("imbalance\nof open"),
    sampled("datagram_imbalance", "imbalance of datagrams", Ratio, Lower, |trial| {
        let most = trial.workers.iter().map(|worker| worker.measured.datagrams).max()?;
        per(most as f64 * trial.workers.len() as f64, sum(trial, |worker| worker.datagrams))
    })
    .compared()
    .column("imbalance\nof datagrams"),
    sampled("flow_imbalance", "imbalance of flows", Ratio, Lower, |trial| {
        trial.flow_distribution.map(|spread| spread.imbalance)
    })
    .compared()
    .column("imbalance\nof flows"),
    sampled("flow_jain", "Jain's index of flows", Ratio, Higher, |trial| {
        trial.flow_distribution.map(|spread| spread.jain)
    }),
    sampled("sticky_share", "share of sticky flows", Share, Higher, |trial| {
        let flows = trial.datagrams.as_ref()?;
        per(flows.sticky_flows as f64, (flows.sticky_flows + flows.moved_flows) as f64)
    })
    .compared()
    .column("sticky\nflows"),
    sampled("lost_share", "share of datagrams lost", Share, Lower, |trial| {
        trial.datagrams.as_ref().and_then(|all| per(all.lost as f64, all.sent as f64))
    })
    .compared()
    .column("lost"),
];

/// Peak of open connections of the busiest worker ÷ the mean over workers. Only for held connections, where it shows
/// which worker gets the work once all of them send.
fn open_imbalance(trial: &TrialRecord) -> Option<f64> {
    if trial.latency_ns.follow_up.is_empty() {
        return None;
    }
    let peaks = trial.workers.iter().map(|worker| worker.open_peak);
    let mean = peaks.clone().sum::<u64>() as f64 / trial.workers.len() as f64;
    per(peaks.max()? as f64, mean)
}
