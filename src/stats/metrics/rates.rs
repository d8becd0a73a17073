//! Rates of connections and datagrams, and how many of those offered were completed.

use super::{
    Better::{Higher, Lower, Neither},
    Metric,
    Unit::{PerSecond, Seconds, Share},
    exact, has_connections, has_datagrams, per,
    populations::OfLoad,
    sampled,
};
use crate::record::{Connections, Measured};

pub(super) const METRICS: &[Metric] = &[
    sampled(
        "accepted_per_s",
        "accepts",
        "Connections accepted within the measured window, by all members, ÷ its length.",
        PerSecond,
        Higher,
        |trial| has_connections(trial).then_some(trial.rates.accepted_per_s)?,
    )
    .compared()
    .column_with_interval("accepts/s")
    .live("accepts/s"),
    sampled(
        "datagrams_per_s",
        "datagrams",
        "Datagrams received within the measured window, by all workers, ÷ its length.",
        PerSecond,
        Higher,
        |trial| trial.rates.datagrams_per_s.filter(|_| has_datagrams(trial)),
    )
    .compared()
    .column_with_interval("datagrams/s")
    .live("datagrams/s"),
    sampled(
        "completed_per_s",
        "connections completed",
        "Connections and flows completed within the measured window ÷ its length.",
        PerSecond,
        Higher,
        |trial| trial.rates.completed_per_s.filter(|_| trial.ports.is_none() && !is_all_kept(&trial.measured)),
    )
    .of_loads(
        OfLoad::new(|load| load.rates.completed_per_s.filter(|_| !is_all_kept(&load.measured)))
            .label("completions")
            .column(),
    )
    .compared()
    .column("completed/s")
    .only_with("offered_per_s"),
    sampled(
        "requests_per_s",
        "requests",
        "Requests answered within the measured window ÷ its length; of connections that carry several.",
        PerSecond,
        Higher,
        |trial| trial.rates.requests_per_s,
    )
    .of_loads(OfLoad::new(|load| load.rates.requests_per_s).column())
    .compared()
    .column_with_interval("requests/s")
    .live("requests/s"),
    sampled(
        "handshakes_per_s",
        "TLS handshakes",
        "TLS handshakes that clients completed within the measured window ÷ its length.",
        PerSecond,
        Higher,
        |trial| trial.rates.handshakes_per_s,
    )
    .of_loads(OfLoad::new(|load| load.rates.handshakes_per_s).column())
    .compared()
    .column_with_interval("TLS handshakes/s")
    .live("TLS handshakes/s"),
    sampled(
        "resumed_share",
        "share of handshakes resumed",
        "Part of the TLS handshakes that resumed an earlier session, over the whole trial.",
        Share,
        Neither,
        |trial| trial.tls.as_ref().and_then(|tls| per(tls.clients.resumed as f64, tls.clients.completed as f64)),
    )
    .column("resumed"),
    sampled(
        "drain_s",
        "drain after the window",
        "Time from the window's end to the last completion.",
        Seconds,
        Lower,
        |trial| trial.rates.drain_s.filter(|_| trial.ports.is_none()),
    )
    .column("drain\ns")
    .only_with("offered_per_s"),
    exact(
        "offered_per_s",
        "offered",
        "Starts that the schedule asks for per second; a closed loop has no schedule.",
        PerSecond,
        Neither,
        |trial| trial.rates.offered_per_s,
    )
    .of_loads(OfLoad::new(|load| load.rates.offered_per_s).label("offered rate"))
    .column("offered/s"),
    sampled(
        "completed_share",
        "share completed",
        "Part of what was due in the window that was completed, in the window or later.",
        Share,
        Higher,
        |trial| completed(&trial.measured),
    )
    .of_loads(OfLoad::new(|load| completed(&load.measured)).label("completed share").column())
    .about_failures()
    .column("completed")
    .only_with("offered_per_s"),
    sampled(
        "lost_connections_share",
        "share of connections lost",
        "Part of the attempts due in the window that got no reply: they failed, or never began.",
        Share,
        Lower,
        |trial| {
            let attempts = &trial.latency_ns.response;
            has_connections(trial).then(|| per(attempts.lost as f64, attempts.due as f64))?
        },
    )
    .of_loads(
        OfLoad::new(|load| per(load.latency_ns.response.lost as f64, load.latency_ns.response.due as f64))
            .label("lost share"),
    )
    .about_failures()
    .compared(),
    sampled(
        "fell_back_share",
        "share of connections that fell back",
        "Part of the connections established that asked for MPTCP and are plain TCP.",
        Share,
        Lower,
        |trial| {
            let Connections { established, fell_back, .. } = trial.connections;
            per(fell_back? as f64, established as f64)
        },
    )
    .compared(),
];

/// Whether requests were due, and no connections: these end with the load, and complete at no rate.
fn is_all_kept(measured: &Measured) -> bool {
    measured.kept.is_some() && measured.planned == 0
}

/// How much of what was due was completed; `None` if both connections and requests were due.
fn completed(measured: &Measured) -> Option<f64> {
    let due = measured.due()?;
    per(due.completed as f64, due.planned as f64)
}
