//! What the scenario's first fault does to connections.

use super::{
    Better::Lower,
    Metric,
    Unit::{Count, Nanoseconds, Share},
    latencies::latency,
    sampled,
};
use crate::record::{EventRow, TrialRecord};

pub(super) const METRICS: &[Metric] = &[
    sampled("fault_share", "share of connections during the fault", Share, Lower, |trial| first_fault(trial)?.share)
        .column("share in\nthe fault"),
    sampled("fault_not_accepted", "connections not accepted during the fault", Count, Lower, |trial| {
        first_fault(trial).map(|fault| fault.not_accepted as f64)
    })
    .compared()
    .column("not\naccepted"),
    sampled("stranded", "connections stranded", Count, Lower, |trial| {
        first_fault(trial)?.stranded.map(|stranded| stranded as f64)
    })
    .compared()
    .column("stranded"),
    sampled("stranded_wait_max_ns", "longest wait of a stranded connection", Nanoseconds, Lower, |trial| {
        latency(&first_fault(trial)?.stranded_wait, |ns| ns.max)
    })
    .column("stranded\nwait max ≤"),
];

/// The scenario's first fault, if it took place.
fn first_fault(trial: &TrialRecord) -> Option<&EventRow> {
    trial.events.iter().find(|event| event.event == 0)
}
