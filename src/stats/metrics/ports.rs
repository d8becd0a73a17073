//! Ephemeral ports: where they end, and what a connect costs as they fill.

use super::{
    Better::{Higher, Lower, Neither},
    Metric,
    Unit::{Count, Nanoseconds, PerSecond, Seconds},
    exact, per, sampled,
};
use crate::record::TrialRecord;

pub(super) const METRICS: &[Metric] = &[
    exact("ports_wall", "wall", Count, Higher, |trial| trial.ports.as_ref()?.wall.map(|wall| wall as f64))
        .compared()
        .column("wall")
        .live("wall"),
    exact("ports_knee", "knee", Count, Higher, |trial| trial.ports.as_ref()?.knee.map(|knee| knee as f64))
        .compared()
        .column("knee")
        .live("knee"),
    sampled("connect_p50_ns_at_25", "connect p50 at 25 %", Nanoseconds, Lower, |trial| at_fill(trial, 0.25))
        .compared()
        .column("connect p50\nat 25 %"),
    sampled("connect_p50_ns_at_45", "connect p50 at 45 %", Nanoseconds, Lower, |trial| at_fill(trial, 0.45))
        .compared()
        .column("at 45 %"),
    sampled("connect_p50_ns_at_55", "connect p50 at 55 %", Nanoseconds, Lower, |trial| at_fill(trial, 0.55))
        .compared()
        .column("at 55 %"),
    sampled("connect_p50_ns_at_75", "connect p50 at 75 %", Nanoseconds, Lower, |trial| at_fill(trial, 0.75))
        .compared()
        .column("at 75 %"),
    sampled("connect_p50_ns_at_95", "connect p50 at 95 %", Nanoseconds, Lower, |trial| at_fill(trial, 0.95))
        .compared()
        .column("at 95 %"),
    sampled("ports_exhausted_after_s", "time until the ports ran out", Seconds, Higher, |trial| {
        trial.ports_exhausted_after_s
    })
    .column("no port\nafter s"),
    exact("ports_ceiling_per_s", "rate the ports allow", PerSecond, Neither, |trial| trial.ports_ceiling_per_s),
    sampled("time_wait_peak", "peak of sockets in TIME_WAIT", Count, Lower, |trial| {
        trial.ports.is_none().then_some(trial.sockets_peak.time_wait as f64)
    }),
    sampled("completed_per_s", "connections completed", PerSecond, Higher, |trial| {
        per(trial.measured.completed as f64, trial.duration_s)
    })
    .compared(),
    sampled("failing_connect_ns", "failing connect", Nanoseconds, Lower, |trial| {
        trial.ports.as_ref()?.failing_connect_ns.map(|ns| ns as f64)
    })
    .column("failing\nconnect"),
    sampled("recovered_after_s", "time until the ports recovered", Seconds, Lower, |trial| {
        trial.ports.as_ref()?.recovered_after_s
    })
    .compared()
    .column("recovered\nafter s"),
];

/// Median time of a connect, at the first step that fills this part of the ports.
fn at_fill(trial: &TrialRecord, fill: f64) -> Option<f64> {
    let step = trial.ports.as_ref()?.curve.iter().find(|step| step.fill >= fill)?;
    Some(step.connect_p50_ns as f64)
}
