//! Behind a proxy: how it uses connections to its upstream, and the ports that they take.

use super::{
    Better::{Higher, Lower},
    Metric,
    Unit::{Count, Nanoseconds, PerSecond, Ratio, Seconds, Share},
    sampled,
};
use crate::record::{TrialRecord, Upstream, UpstreamPorts};

/// An upstream that something connected to.
fn used(trial: &TrialRecord) -> Option<&Upstream> {
    trial.upstream.as_ref().filter(|upstream| !upstream.is_unused())
}

fn ports(trial: &TrialRecord) -> Option<&UpstreamPorts> {
    used(trial)?.ports.as_ref()
}

/// Why an upstream that nothing connected to has no figures.
const UNUSED: &str = "the proxy opened no connection to its upstream";

pub(super) const METRICS: &[Metric] = &[
    sampled(
        "upstream_connections_per_s",
        "connections to the upstream",
        "Connections that the proxy opened to the upstream within the window ÷ its length.",
        PerSecond,
        Lower,
        |trial| {
            let count = used(trial)?.measured_connections;
            (trial.duration_s > 0.0).then(|| count as f64 / trial.duration_s)
        },
    )
    .absent(UNUSED)
    .column("upstream\nconn/s"),
    sampled(
        "upstream_requests_per_connection",
        "requests per upstream connection",
        "Requests that the upstream answered ÷ connections that it accepted: how often the proxy uses one.",
        Ratio,
        Higher,
        |trial| trial.upstream.as_ref()?.requests_per_connection,
    )
    .absent(UNUSED)
    .column("requests\n/upstream conn"),
    sampled(
        "upstream_ports_fill_peak",
        "sampled peak fill of the proxy's ports",
        "Largest part of the usable source ports that the proxy had taken at once towards its upstream, by samples.",
        Share,
        Lower,
        |trial| Some(ports(trial)?.fill_peak),
    )
    .about_failures()
    .compared()
    .absent(UNUSED)
    .column("upstream\nports filled"),
    sampled(
        "upstream_ports_taken_peak",
        "most ports seen taken towards the upstream",
        "Most source ports that the proxy had taken at once towards its upstream from one address, by samples.",
        Count,
        Lower,
        |trial| Some(ports(trial)?.taken_peak as f64),
    ),
    sampled(
        "upstream_time_wait_peak",
        "sampled peak of the proxy's ports in TIME_WAIT",
        "Most of the proxy's source ports in TIME_WAIT at once, by samples.",
        Count,
        Lower,
        |trial| Some(ports(trial)?.time_wait_peak as f64),
    ),
    sampled(
        "upstream_ports_exhausted_after_s",
        "time until the proxy's ports ran out",
        "Time from the trial's start until every group of the proxy's source ports was seen full.",
        Seconds,
        Higher,
        |trial| ports(trial)?.exhausted_after_s,
    )
    .about_failures()
    .absent("the proxy's ports did not run out")
    .column("no upstream\nport after s"),
    sampled(
        "upstream_accept_wait_p50_ns",
        "the upstream's accept wait p50",
        "Accept wait of the connections that the proxy opens, at our own server behind it.",
        Nanoseconds,
        Lower,
        |trial| trial.upstream.as_ref()?.accept_wait.p50.map(|ns| ns as f64),
    ),
    sampled(
        "upstream_accept_wait_p99_ns",
        "the upstream's accept wait p99",
        "Accept wait of the connections that the proxy opens, at our own server behind it.",
        Nanoseconds,
        Lower,
        |trial| trial.upstream.as_ref()?.accept_wait.p99_of_many().map(|ns| ns as f64),
    )
    .absent("the waits of at least 100 connections to the upstream are needed")
    .compared(),
];
