//! What the scenario's events do to connections: what all of them lose, and what the first does to its worker's.

use super::{
    Better::Lower,
    Metric,
    Unit::{Count, Nanoseconds, Seconds, Share},
    counted, has_connections,
    latencies::latency,
    per, sampled,
};
use crate::record::{EventRow, LatencySummary, TrialRecord};

pub(super) const METRICS: &[Metric] = &[
    sampled("event_share", "share of connections during the event", "Part of the connections established during the scenario's first event that went to its worker.", Share, Lower, |trial| first_event(trial)?.share)
        .column("share in\nthe event"),
    sampled("event_datagram_share", "share of datagrams during the event", "Datagrams that the worker of the scenario's first event received during it ÷ those sent.", Share, Lower, |trial| {
        let datagrams = first_event(trial)?.datagrams?;
        per(datagrams.received as f64, datagrams.sent as f64)
    })
    .column("datagrams'\nshare"),
    sampled("event_not_accepted", "connections not accepted during the event", "When the scenario's first event ended: connections that were established and that no worker had accepted, and attempts that failed before.", Count, Lower, |trial| {
        first_event(trial)
            .filter(|_| has_connections(trial))
            .and_then(|event| Some((event.not_accepted? + event.unconnected) as f64))
    })
    .about_failures()
    .compared()
    .column("not\naccepted"),
    sampled("stranded", "connections stranded", "What waited for the worker of the scenario's first event alone when that ended (of a kill: when it began).", Count, Lower, |trial| {
        let stranded = first_event(trial).filter(|_| has_connections(trial))?.stranded;
        stranded.map(|stranded| stranded as f64)
    })
    .about_failures()
    .compared()
    .column("stranded"),
    sampled("stranded_wait_max_ns", "longest wait of a stranded connection", "Longest accept wait, from the connect() call, of a stranded connection that was answered after all.", Nanoseconds, Lower, |trial| {
        latency(&first_event(trial)?.stranded_wait, LatencySummary::longest)
    })
    .about_failures()
    .column("stranded\nwait max ≤"),
    counted("event_lost", "connections lost to events", "Connections that an event lost: reset in a queue, refused or cut off.", Count, Lower, |trial| {
        over_all(trial, |event| event.lost.total())
    })
    .about_failures()
    .loss()
    .column("lost"),
    counted("event_reset_in_queue", "connections reset in the queue of a closed listener", "Connections that were established and waited in the queue of a listener when that was closed.", Count, Lower, |trial| {
        over_all(trial, |event| event.lost.reset_in_queue)
    })
    .about_failures()
    .column("reset in\na queue")
    .only_with("event_lost"),
    counted("event_refused", "connections refused during events", "Connections refused because nothing listened during the event.", Count, Lower, |trial| {
        over_all(trial, |event| event.lost.refused)
    })
    .about_failures()
    .column("refused")
    .only_with("event_lost"),
    counted("event_cut", "connections cut off during events", "Connections that were accepted, and ended before their reply because a worker ended.", Count, Lower, |trial| {
        over_all(trial, |event| event.lost.cut)
    })
    .about_failures()
    .column("cut off")
    .only_with("event_lost"),
    sampled("event_drain_max_s", "longest drain after an event", "Longest time that a worker that was to leave took to serve the connections it had open.", Seconds, Lower, |trial| {
        trial.events.iter().filter_map(|event| event.drain_s).max_by(f64::total_cmp)
    })
    .column("longest\nevent drain s"),
    sampled("event_flows_moved_share", "share of flows that an event moved to another worker", "Part of the flows of datagrams that another worker answered after the event than before it.", Share, Lower, |trial| {
        let flows = || trial.events.iter().filter_map(|event| event.flows);
        per(flows().map(|flows| flows.moved).sum::<u64>() as f64, flows().map(|flows| flows.known).sum::<u64>() as f64)
    })
    .column("flows\nmoved"),
];

/// A count of connections over all events; `None` unless it is known of each.
fn over_all(trial: &TrialRecord, count: fn(&EventRow) -> Option<u64>) -> Option<f64> {
    let sum: u64 = trial.events.iter().map(count).sum::<Option<u64>>()?;
    (!trial.events.is_empty() && has_connections(trial)).then_some(sum as f64)
}

/// The scenario's first event, if it took place.
fn first_event(trial: &TrialRecord) -> Option<&EventRow> {
    trial.events.iter().find(|event| (event.event, event.occurrence) == (0, 0))
}
