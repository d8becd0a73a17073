//! How long connections and datagrams wait, and how long replies take.

use super::{Better::Lower, Metric, Unit::Nanoseconds, populations::OfLoad, sampled};
use crate::record::LatencySummary;

/// What a latency is.
macro_rules! meaning {
    (accept_wait) => {
        "Accept wait: from ESTABLISHED in the kernel until the member that will serve the connection has it. Exact, or an upper bound from the client's connect(): `accept_wait_method` says which."
    };
    (accept_wait_bound) => {
        "Upper bound of the accept wait: from the client's connect() call until the member that will serve the connection has it."
    };
    (hand_over) => {
        "Hand-over: the part of the accept wait after accept() returned in a thread or an acceptor process, or an io_uring completed it, until the worker that serves the connection has it."
    };
    (receive_wait) => {
        "Receive wait: from sending a datagram until a worker receives it; an upper bound of its time in the socket."
    };
    (connect) => {
        "Connect latency: from the connect() call until the client knows that the connection is established."
    };
    (failed_connect) => {
        "Time to failure of connections that were not established: from the connect() call until the client knew, by an answer or by `load.connect_timeout`."
    };
    (response) => {
        "Response latency: from the intended start until the last byte of the reply. An attempt that fails counts as slower than any other."
    };
    (udp_response) => {
        "Response latency of flows of datagrams, in a trial that also has connections."
    };
    (follow_up) => {
        "Follow-up: from the instant at which all held connections send one more request (`load.follow_up`) until the last byte of its reply."
    };
    (tls) => {
        "TLS handshake: from when the client knows that the connection is established until its handshake is over. Part of the response latency."
    };
    (queued_lag) => {
        "Send lag of the starts that were due before the loader had made the one before them: they queued behind other starts."
    };
    (timer_lag) => {
        "Send lag of the starts that queued behind no other: the lateness of the timer and of the loader's wake-up, or of an event in hand."
    };
    (send_lag) => {
        "Send lag: from the intended start until the connect() call; how late the loader itself was. Part of the response latency."
    };
}

/// A figure of one of a trial's latencies.
macro_rules! figure {
    ($name:literal, $label:literal, $latency:ident, $figure:expr) => {
        sampled($name, $label, meaning!($latency), Nanoseconds, Lower, |trial| {
            latency(&trial.latency_ns.$latency, $figure)
        })
        .over(|trial| &trial.latency_ns.$latency)
    };
}

/// One that each population has, too, and how it shows it.
macro_rules! load_figure {
    ($name:literal, $label:literal, $latency:ident, $figure:expr $(, $shown:ident($($head:literal)?))*) => {
        figure!($name, $label, $latency, $figure).of_loads(
            OfLoad::new(|load| latency(&load.latency_ns.$latency, $figure))
                .over(|load| &load.latency_ns.$latency)
                $(.$shown($($head)?))*,
        )
    };
}

pub(super) const METRICS: &[Metric] = &[
    figure!("accept_wait_p50_ns", "accept wait p50", accept_wait, |ns| ns.p50)
        .compared()
        .column("accept wait\np50")
        .live("wait p50"),
    figure!("accept_wait_p90_ns", "accept wait p90", accept_wait, |ns| ns.p90),
    figure!("accept_wait_p99_ns", "accept wait p99", accept_wait, |ns| ns.p99)
        .compared()
        .column("wait\np99")
        .live("wait p99"),
    figure!("accept_wait_p999_ns", "accept wait p99.9", accept_wait, |ns| ns.p999).compared().column("wait\np99.9"),
    figure!("accept_wait_max_ns", "longest accept wait", accept_wait, LatencySummary::longest).column("wait\nmax"),
    figure!("accept_wait_bound_p50_ns", "upper bound of accept wait p50", accept_wait_bound, |ns| ns.p50)
        .column("bound\np50 ≤"),
    figure!("accept_wait_bound_p99_ns", "upper bound of accept wait p99", accept_wait_bound, |ns| ns.p99)
        .column("bound\np99 ≤"),
    figure!("hand_over_p50_ns", "hand-over p50", hand_over, |ns| ns.p50),
    figure!("hand_over_p99_ns", "hand-over p99", hand_over, |ns| ns.p99).column("hand-over\np99"),
    load_figure!("receive_wait_p50_ns", "receive wait p50", receive_wait, |ns| ns.p50)
        .compared()
        .column("receive wait\np50 ≤"),
    load_figure!("receive_wait_p99_ns", "receive wait p99", receive_wait, |ns| ns.p99)
        .compared()
        .column("wait\np99 ≤")
        .live("receive p99 ≤"),
    load_figure!("receive_wait_max_ns", "longest receive wait", receive_wait, LatencySummary::longest),
    load_figure!("connect_p50_ns", "connect p50", connect, |ns| ns.p50),
    load_figure!("connect_p99_ns", "connect p99", connect, |ns| ns.p99).compared().column("connect\np99"),
    load_figure!("failed_connect_p50_ns", "failed connect p50", failed_connect, |ns| ns.p50)
        .about_failures()
        .column("failed connect\np50"),
    load_figure!("failed_connect_max_ns", "longest failed connect", failed_connect, LatencySummary::longest)
        .about_failures(),
    load_figure!("response_p50_ns", "response p50", response, |ns| ns.p50).compared(),
    load_figure!("response_p99_ns", "response p99", response, |ns| ns.p99, column(), live("response p99"))
        .compared()
        .column("response\np99"),
    load_figure!("response_p999_ns", "response p99.9", response, |ns| ns.p999).compared(),
    load_figure!("response_max_ns", "longest response", response, LatencySummary::longest),
    load_figure!("udp_response_p50_ns", "UDP response p50", udp_response, |ns| ns.p50),
    load_figure!("udp_response_p99_ns", "UDP response p99", udp_response, |ns| ns.p99, column())
        .compared()
        .column("UDP response\np99"),
    load_figure!("tls_p50_ns", "TLS handshake p50", tls, |ns| ns.p50).compared().column("TLS\np50"),
    load_figure!("tls_p99_ns", "TLS handshake p99", tls, |ns| ns.p99, column()).compared().column("TLS\np99"),
    load_figure!("follow_up_p50_ns", "follow-up p50", follow_up, |ns| ns.p50).column("follow-up\np50"),
    load_figure!("follow_up_p99_ns", "follow-up p99", follow_up, |ns| ns.p99).compared(),
    load_figure!("follow_up_max_ns", "longest follow-up", follow_up, LatencySummary::longest, column())
        .compared()
        .column("follow-up\nmax"),
    load_figure!("send_lag_p99_ns", "send lag p99", send_lag, |ns| ns.p99),
    load_figure!("queued_lag_p99_ns", "send lag p99 of queued starts", queued_lag, |ns| ns.p99),
    load_figure!("timer_lag_p99_ns", "send lag p99 of other starts", timer_lag, |ns| ns.p99),
];

/// A figure of a latency: infinite if it falls among what was lost, `None` where nothing was due. A percentile of fewer attempts
/// than it distinguishes (100 for the 99th, 1,000 for the 99.9th) is that of the slowest.
pub(super) fn latency(of: &LatencySummary, figure: fn(&LatencySummary) -> Option<u64>) -> Option<f64> {
    (of.due > 0).then(|| figure(of).map_or(f64::INFINITY, |ns| ns as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Counts;

    #[test]
    fn a_percentile_of_too_few_attempts_is_the_slowest() {
        type Figure = fn(&LatencySummary) -> Option<u64>;
        let of = |count: u64, lost: u64, figure: Figure| {
            let mut values = Counts::new(1, 60_000_000_000, 3).unwrap();
            values.extend((1..=count).map(|ns| (ns, 1)));
            latency(&LatencySummary::with_lost(&values, lost), figure)
        };
        let (p99, p999): (Figure, Figure) = (|ns| ns.p99, |ns| ns.p999);
        assert_eq!([of(50, 0, p99), of(50, 0, p999), of(50, 0, LatencySummary::longest)], [Some(50.0); 3]);
        assert_eq!((of(99, 0, p99), of(999, 0, p999)), (Some(99.0), Some(999.0)));
        // From as many on, some stand beyond it.
        assert_eq!((of(100, 0, p99), of(1_000, 0, p999)), (Some(99.0), Some(999.0)));
        assert_eq!((of(49, 1, p99), of(49, 1, p999)), (Some(f64::INFINITY), Some(f64::INFINITY)));
        assert_eq!((of(0, 0, p99), of(0, 0, p999)), (None, None));
    }
}
