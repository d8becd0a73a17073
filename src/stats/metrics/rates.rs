//! Rates of connections and datagrams, and how many of those offered were completed.

use super::{
    Better::{Higher, Neither},
    Metric,
    Unit::{PerSecond, Share},
    exact, has_connections, has_datagrams, per, sampled,
};

pub(super) const METRICS: &[Metric] = &[
    sampled("accepted_per_s", "accepts", PerSecond, Higher, |trial| {
        has_connections(trial).then_some(trial.rates.accepted_per_s)
    })
    .compared()
    .column_with_interval("accepts/s")
    .live("accepts/s"),
    sampled("datagrams_per_s", "datagrams", PerSecond, Higher, |trial| {
        trial.rates.datagrams_per_s.filter(|_| has_datagrams(trial))
    })
    .compared()
    .column_with_interval("datagrams/s")
    .live("datagrams/s"),
    exact("offered_per_s", "offered", PerSecond, Neither, |trial| trial.rates.offered_per_s).column("offered/s"),
    sampled("completed_share", "share completed", Share, Higher, |trial| {
        per(trial.measured.completed as f64, trial.measured.planned as f64)
    })
    .column("completed")
    .only_with("offered_per_s"),
];
