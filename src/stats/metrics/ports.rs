//! Ephemeral ports: where they end, and what a connect costs as they fill.

use super::{
    Better::{Higher, Lower},
    Metric,
    Unit::{Count, Nanoseconds, PerSecond, Seconds},
    exact, has_connections, sampled,
};
use crate::record::{SubjectKind, TrialRecord};

pub(super) const METRICS: &[Metric] = &[
    exact("ports_wall", "wall", "Connections open when connect() first found no source port (EADDRNOTAVAIL).", Count, Higher, |trial| trial.ports.as_ref()?.wall.map(|wall| wall as f64))
        .about_failures()
        .compared()
        .column("wall")
        .live("wall")
        .absent("the ports did not run out"),
    exact("ports_knee", "knee", "Connections open from which on connect() was slower for good: twice the first quarter's median, and 20 µs more than it.", Count, Higher, |trial| trial.ports.as_ref()?.knee.map(|knee| knee as f64))
        .compared()
        .timed()
        .column("knee")
        .live("knee")
        .absent("the cost of connect() shows no lasting rise"),
    sampled("connect_p50_ns_at_25", "connect p50 at 25 %", "Median time of a connect(), bind() included, with 25 % of the ports in use.", Nanoseconds, Lower, |trial| at_fill(trial, 0.25))
        .compared()
        .column("connect p50\nat 25 %"),
    sampled("connect_p50_ns_at_45", "connect p50 at 45 %", "Median time of a connect(), bind() included, with 45 % of the ports in use.", Nanoseconds, Lower, |trial| at_fill(trial, 0.45))
        .compared()
        .column("at 45 %"),
    sampled("connect_p50_ns_at_55", "connect p50 at 55 %", "Median time of a connect(), bind() included, with 55 % of the ports in use.", Nanoseconds, Lower, |trial| at_fill(trial, 0.55))
        .compared()
        .column("at 55 %"),
    sampled("connect_p50_ns_at_75", "connect p50 at 75 %", "Median time of a connect(), bind() included, with 75 % of the ports in use.", Nanoseconds, Lower, |trial| at_fill(trial, 0.75))
        .compared()
        .column("at 75 %"),
    sampled("connect_p50_ns_at_95", "connect p50 at 95 %", "Median time of a connect(), bind() included, with 95 % of the ports in use.", Nanoseconds, Lower, |trial| at_fill(trial, 0.95))
        .compared()
        .column("at 95 %"),
    sampled("ports_exhausted_after_s", "time until the ports ran out", "Time from the trial's start until a connection first found no source port.", Seconds, Higher, |trial| {
        trial.ports_exhausted_after_s
    })
    .about_failures()
    .column("no port\nafter s"),
    sampled("ports_sustainable_per_s", "sustainable rate", "Connections per second that could go on for ever: what was accepted, or the ceiling that the ports set, whichever is lower.", PerSecond, Higher, sustainable).about_failures().compared(),
    exact("ports_ceiling_per_s", "ceiling the ports set", "Calculated: the capacity of the ports ÷ the time that a port spends in TIME_WAIT.", PerSecond, Higher, |trial| trial.ports_ceiling_per_s)
        .about_failures()
        .column("ports\nallow /s")
        .absent("no port rests in TIME_WAIT on the clients' side, or NAT chooses the ports"),
    sampled("time_wait_peak", "peak of sockets in TIME_WAIT", "Most sockets in TIME_WAIT at once in the loaders' network, by samples.", Count, Lower, |trial| {
        trial.ports.is_none().then_some(trial.sockets_peak.time_wait as f64)
    }),
    sampled("failing_connect_ns", "failing connect", "Median time that a connect() takes to fail once no port is left.", Nanoseconds, Lower, |trial| {
        trial.ports.as_ref()?.failing_connect_ns.map(|ns| ns as f64)
    })
    .about_failures()
    .column("failing\nconnect"),
    sampled("recovered_after_s", "time until the ports recovered", "Time from the close of all connections until nine tenths of the ports were usable again.", Seconds, Lower, |trial| {
        trial.ports.as_ref()?.recovered_after_s
    })
    .compared()
    .absent("the ports had not recovered when the trial ended")
    .column("recovered\nafter s"),
];

/// Connections per second that could go on for ever: what was accepted, unless the ports would run out at that rate. What another
/// server accepted where no port rests in TIME_WAIT says nothing about ports, and what NAT sustains is not known.
fn sustainable(trial: &TrialRecord) -> Option<f64> {
    let accepted = has_connections(trial).then_some(trial.rates.accepted_per_s)??;
    match trial.ports_ceiling_per_s {
        Some(ceiling) => Some(ceiling.min(accepted)),
        None => (trial.subject.kind == SubjectKind::Own && trial.nat.is_none()).then_some(accepted),
    }
}

/// Median time of a connect, at the first step that fills this part of the ports.
fn at_fill(trial: &TrialRecord, fill: f64) -> Option<f64> {
    let step = trial.ports.as_ref()?.curve.iter().find(|step| step.fill >= fill)?;
    Some(step.connect_p50_ns as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Nat, Rates, Subject};

    #[test]
    fn a_rate_that_no_port_limits_is_sustainable_for_our_own_server_alone() {
        let trial = |kind, ceiling: Option<f64>| TrialRecord {
            subject: Subject { kind, ..Subject::own() },
            rates: Rates { accepted_per_s: Some(403.0), ..Rates::default() },
            ports_ceiling_per_s: ceiling,
            ..TrialRecord::default()
        };
        let of = |kind, ceiling| sustainable(&trial(kind, ceiling));
        let behind_nat = TrialRecord { nat: Some(Nat::default()), ..trial(SubjectKind::Own, None) };
        assert_eq!(sustainable(&behind_nat), None);
        assert_eq!(of(SubjectKind::Own, None), Some(403.0));
        assert_eq!(of(SubjectKind::Running, None), None);
        assert_eq!(of(SubjectKind::Command, Some(470.0)), Some(403.0));
        assert_eq!(of(SubjectKind::Running, Some(5.0)), Some(5.0));
    }
}
