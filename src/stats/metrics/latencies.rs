//! How long connections and datagrams wait, and how long replies take.

use super::{Better::Lower, Metric, Unit::Nanoseconds, sampled};
use crate::record::LatencySummary;

pub(super) const METRICS: &[Metric] = &[
    sampled("accept_wait_p50_ns", "accept wait p50", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.accept_wait, |ns| ns.p50)
    })
    .compared()
    .column("accept wait\np50")
    .live("wait p50"),
    sampled("accept_wait_p90_ns", "accept wait p90", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.accept_wait, |ns| ns.p90)
    }),
    sampled("accept_wait_p99_ns", "accept wait p99", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.accept_wait, |ns| ns.p99)
    })
    .compared()
    .column("wait\np99")
    .live("wait p99"),
    sampled("accept_wait_p999_ns", "accept wait p99.9", Nanoseconds, Lower, |trial| {
        rare(&trial.latency_ns.accept_wait, |ns| ns.p999)
    })
    .compared()
    .column("wait\np99.9"),
    sampled("accept_wait_max_ns", "longest accept wait", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.accept_wait, |ns| ns.max)
    })
    .column("wait\nmax"),
    sampled("accept_wait_bound_p50_ns", "upper bound of accept wait p50", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.accept_wait_bound, |ns| ns.p50)
    })
    .column("bound\np50 ≤"),
    sampled("accept_wait_bound_p99_ns", "upper bound of accept wait p99", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.accept_wait_bound, |ns| ns.p99)
    })
    .column("bound\np99 ≤"),
    sampled("receive_wait_p50_ns", "receive wait p50", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.receive_wait, |ns| ns.p50)
    })
    .compared()
    .column("receive wait\np50 ≤"),
    sampled("receive_wait_p99_ns", "receive wait p99", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.receive_wait, |ns| ns.p99)
    })
    .compared()
    .column("wait\np99 ≤")
    .live("receive p99 ≤"),
    sampled("receive_wait_max_ns", "longest receive wait", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.receive_wait, |ns| ns.max)
    }),
    sampled("connect_p50_ns", "connect p50", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.connect, |ns| ns.p50)
    }),
    sampled("connect_p99_ns", "connect p99", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.connect, |ns| ns.p99)
    })
    .compared()
    .column("connect\np99"),
    sampled("response_p50_ns", "response p50", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.response, |ns| ns.p50)
    })
    .compared(),
    sampled("response_p99_ns", "response p99", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.response, |ns| ns.p99)
    })
    .compared()
    .column("response\np99"),
    sampled("response_p999_ns", "response p99.9", Nanoseconds, Lower, |trial| {
        rare(&trial.latency_ns.response, |ns| ns.p999)
    })
    .compared(),
    sampled("response_max_ns", "longest response", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.response, |ns| ns.max)
    }),
    sampled("udp_response_p50_ns", "UDP response p50", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.udp_response, |ns| ns.p50)
    }),
    sampled("udp_response_p99_ns", "UDP response p99", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.udp_response, |ns| ns.p99)
    })
    .compared()
    .column("UDP response\np99"),
    sampled("follow_up_p50_ns", "follow-up p50", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.follow_up, |ns| ns.p50)
    })
    .column("follow-up\np50"),
    sampled("follow_up_p99_ns", "follow-up p99", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.follow_up, |ns| ns.p99)
    })
    .compared(),
    sampled("follow_up_max_ns", "longest follow-up", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.follow_up, |ns| ns.max)
    })
    .compared()
    .column("follow-up\nmax"),
    sampled("send_lag_p99_ns", "send lag p99", Nanoseconds, Lower, |trial| {
        latency(&trial.latency_ns.send_lag, |ns| ns.p99)
    }),
];

/// A figure of a latency; `None` where nothing was measured.
pub(super) fn latency(of: &LatencySummary, figure: fn(&LatencySummary) -> u64) -> Option<f64> {
    (of.count > 0).then(|| figure(of) as f64)
}

/// The same for a 99.9th percentile, which of fewer than 1,000 values would be their maximum.
fn rare(of: &LatencySummary, figure: fn(&LatencySummary) -> u64) -> Option<f64> {
    latency(of, figure).filter(|_| of.count >= 1_000)
}
