//! Rules about the kernel's counters and the processors.

use std::collections::BTreeMap;

use crate::{
    observe::counters,
    record::{
        Cause, Counts, Datagrams, ErrorCount, Grounds, HostRole, HostRow, ListenerRow, MemberRow, TrialRecord,
        Upstream, limits,
    },
    scenario::{Selection, Sources},
};

type Counters = BTreeMap<String, u64>;

fn count(kernel: &Counters, name: &str) -> u64 {
    kernel.get(name).copied().unwrap_or(0)
}

pub(super) fn queue_overflow(
    kernel: &Counters,
    workers: &[MemberRow],
    listeners: &[ListenerRow],
    somaxconn: Option<u64>,
) -> Option<Grounds> {
    let dropped = count(kernel, "ListenOverflows");
    let of_listeners = listeners.iter().map(|listener| listener.queue_limit);
    let limit = workers.iter().filter_map(|worker| worker.queue_limit).chain(of_listeners).max();
    (dropped > 0).then_some(Grounds::QueueOverflow { dropped, limit, somaxconn })
}

pub(super) fn syn_queue_overflow(kernel: &Counters) -> Option<Grounds> {
    let dropped = count(kernel, "TCPReqQFullDrop");
    (dropped > 0).then_some(Grounds::SynQueueOverflow { dropped })
}

/// Whether the kernel answered with SYN cookies. `server_only` connections were established by them on the server's side alone.
pub(super) fn syn_cookies(kernel: &Counters, server_only: u64) -> Option<Grounds> {
    let (sent, returned) = (count(kernel, "SyncookiesSent"), count(kernel, "SyncookiesRecv"));
    (sent + returned > 0).then_some(Grounds::SynCookies { sent, returned, server_only })
}

pub(super) fn time_wait_overflow(kernel: &Counters) -> Option<Grounds> {
    let connections = count(kernel, "TCPTimeWaitOverflow");
    (connections > 0).then_some(Grounds::TimeWaitOverflow { connections })
}

/// How long after a whole second a connect may end and still count as one whose SYN was retransmitted then.
const MODE_WIDTH_NS: u64 = 400_000_000;

/// Retransmitted segments and their effect on connects: the kernel repeats a SYN after 1, 2, 3, 4, 5, 7, 11, 19, 35 s
/// (tcp_syn_linear_timeouts, since Linux 6.5), so connect latencies have modes at whole seconds.
pub(super) fn retries(kernel: &Counters, connects: &Counts) -> Option<Grounds> {
    let (segments, probes) = counters::retransmitted(kernel);
    if segments == 0 {
        return None;
    }
    let mut slow: BTreeMap<u64, u64> = BTreeMap::new();
    for (value_ns, count) in connects.recorded() {
        let (seconds, over_ns) = (value_ns / 1_000_000_000, value_ns % 1_000_000_000);
        if seconds > 0 && over_ns < MODE_WIDTH_NS {
            *slow.entry(seconds).or_default() += count;
        }
    }
    let syns = count(kernel, "TCPSynRetrans");
    let (at_accept_queues, at_syn_queues) = (count(kernel, "ListenOverflows"), count(kernel, "TCPReqQFullDrop"));
    Some(Grounds::SynRetries { segments, syns, probes, slow, at_accept_queues, at_syn_queues })
}

pub(super) fn datagrams_lost(datagrams: &Datagrams) -> Option<Grounds> {
    let Datagrams { lost, sent, .. } = *datagrams;
    (lost > 0).then_some(Grounds::DatagramsLost { lost, sent })
}

/// Whether the kernel had to search for ports. With `explicit`, listenbench chooses them and the kernel does not search.
pub(super) fn ports_scarce(record: &TrialRecord, sources: &Sources) -> Option<Grounds> {
    let peak = record.ports_peak;
    let fullest = record.hosts.iter().filter(|host| host.ports_peak.is_some()).max_by_key(|host| host.ports_peak);
    let host = fullest.map(HostRow::to_string);
    let capacity = record.usable_ports * sources.addresses.len().max(1) as u64;
    let scarce = peak as f64 > limits::PORTS * capacity as f64 && sources.selection != Selection::Explicit;
    scarce.then_some(Grounds::PortsScarce { peak, capacity, host })
}

/// Whether a proxy had no port left towards its upstream.
pub(super) fn upstream_exhausted(upstream: &Upstream) -> Option<Grounds> {
    let ports = upstream.ports.as_ref()?;
    Some(Grounds::UpstreamPortsExhausted { after_s: ports.exhausted_after_s?, capacity: ports.capacity })
}

/// A proxy that keeps its upstream to itself: it answered by itself, or failed to connect.
pub(super) fn upstream_unused(upstream: &Upstream, replies: u64) -> Option<Grounds> {
    upstream.is_unused().then_some(Grounds::UpstreamUnused { replies })
}

/// A proxy whose connections to its upstream do not begin with the header that the scenario says they do.
pub(super) fn upstream_headers(upstream: &Upstream) -> Option<Grounds> {
    let is_of_headers = |error: &&ErrorCount| matches!(error.errno, Cause::NoHeader | Cause::BadHeader);
    let errors: Vec<ErrorCount> = upstream.errors.iter().filter(is_of_headers).copied().collect();
    (!errors.is_empty()).then_some(Grounds::UpstreamHeaders { errors, accepted: upstream.connections })
}

pub(super) fn steal(record: &TrialRecord) -> Option<Grounds> {
    let (share, host) = worst(record.cpu_steal_share, &record.hosts, |host| host.cpu_steal_share);
    (share > limits::STEAL).then_some(Grounds::CpuSteal { share, host })
}

pub(super) fn contended(record: &TrialRecord) -> Option<Grounds> {
    let (share, host) = worst(record.cpu_others_share, &record.hosts, |host| host.cpu_others_share);
    (share > limits::OTHERS).then_some(Grounds::CpuContended { share, host })
}

/// The largest share of any host, and if there are several, which host's it is. The trial's own is that of the server's host.
fn worst(own: f64, hosts: &[HostRow], of: fn(&HostRow) -> Option<f64>) -> (f64, Option<String>) {
    let server = hosts.iter().find(|host| host.role == HostRole::Server).map(|host| (own, host));
    let all = hosts.iter().filter_map(|host| Some((of(host)?, host))).chain(server);
    let worst = all.max_by(|(one, _), (other, _)| one.total_cmp(other));
    worst.map_or((own, None), |(share, host)| (share, Some(host.to_string())))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{super::words, *};
    use crate::{
        load,
        record::{Step, UpstreamPorts},
    };

    fn kernel(counts: &[(&str, u64)]) -> Counters {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_proxy_without_a_port_left_is_named() {
        let found = |exhausted_after_s| {
            let ports = UpstreamPorts { exhausted_after_s, capacity: 4_000, ..UpstreamPorts::default() };
            words(upstream_exhausted(&Upstream { ports: Some(ports), ..Upstream::default() }))
        };
        assert_eq!(found(None), None);
        assert_eq!(
            found(Some(1.26)).unwrap(),
            "upstream-ports-exhausted: none of the 4000 ports towards the upstream was free 1.3 s after the start"
        );
        assert_eq!(upstream_exhausted(&Upstream::default()), None, "nobody sampled them");
    }

    #[test]
    fn a_proxy_that_never_connects_to_its_upstream_is_named() {
        let found = |connections, left_in_queue| {
            words(upstream_unused(&Upstream { connections, left_in_queue, ..Upstream::default() }, 270))
        };
        assert_eq!(
            found(0, 0).unwrap(),
            "upstream-unused: no connection reached the upstream, and clients got 270 replies without it"
        );
        assert_eq!((found(1, 0), found(0, 1)), (None, None));
    }

    #[test]
    fn a_proxy_that_sends_no_header_is_named() {
        let error = |errno| ErrorCount { phase: Step::Serve, errno, count: 8 };
        let found = |causes: &[Cause]| {
            let errors = causes.iter().copied().map(error).collect();
            words(upstream_headers(&Upstream { connections: 9, errors, ..Upstream::default() }))
        };
        assert_eq!(found(&[Cause::Errno(libc::EBADMSG)]), None);
        assert_eq!(
            found(&[Cause::Errno(libc::EBADMSG), Cause::NoHeader]).unwrap(),
            "upstream-headers: the upstream closed 8 of 9 connections: serve NOHEADER ×8 (no PROXY protocol header came first)"
        );
    }

    #[test]
    fn counters_that_grew() {
        let workers = [4, 128].map(|queue_limit| MemberRow { queue_limit: Some(queue_limit), ..MemberRow::default() });
        let below =
            |count, somaxconn| words(queue_overflow(&kernel(&[("ListenOverflows", count)]), &workers, &[], somaxconn));
        let overflow = |count| below(count, None);
        let reused = |count| words(time_wait_overflow(&kernel(&[("TCPTimeWaitOverflow", count)])));
        let lost = |lost| words(datagrams_lost(&Datagrams { lost, sent: 200, ..Datagrams::default() }));
        let syn_queue = |count| words(syn_queue_overflow(&kernel(&[("TCPReqQFullDrop", count)])));
        let cookies = |sent, returned, only| {
            words(syn_cookies(&kernel(&[("SyncookiesSent", sent), ("SyncookiesRecv", returned)]), only))
        };
        for (given, expected) in [
            (syn_queue(0), None),
            (syn_queue(1), Some("syn-queue-overflow: 1 SYN was dropped at a full SYN queue")),
            (cookies(0, 0, 0), None),
            (
                cookies(1, 0, 0),
                Some("syn-cookies: 1 SYN was answered with a cookie, and 0 segments with a valid one came back"),
            ),
            (
                cookies(38, 41, 2),
                Some(
                    "syn-cookies: 38 SYNs were answered with a cookie, and 41 segments with a valid one came back; 2 connections were \
                     established on the server only",
                ),
            ),
            (overflow(0), None),
            (overflow(1), Some("queue-overflow: 1 segment was dropped at a full accept queue (limit 128)")),
            (
                below(1, Some(4_096)),
                Some("queue-overflow: 1 segment was dropped at a full accept queue (limit 128, the server's backlog)"),
            ),
            (
                below(1, Some(128)),
                Some("queue-overflow: 1 segment was dropped at a full accept queue (limit 128, net.core.somaxconn)"),
            ),
            (reused(0), None),
            (
                reused(1),
                Some("time-wait-overflow: 1 connection skipped TIME_WAIT because tcp_max_tw_buckets was reached"),
            ),
            (lost(0), None),
            (lost(1), Some("datagrams-lost: 1 datagram (0.5 % of those sent) found the receive buffer full")),
        ] {
            assert_eq!(given.as_deref(), expected);
        }
        assert_eq!(queue_overflow(&Counters::new(), &[], &[], None), None, "a counter that the kernel does not have");
    }

    #[test]
    fn retries_show_at_whole_seconds() {
        let connects = [(20, 90), (1_000, 4), (1_399, 1), (1_450, 7), (3_010, 2)];
        let connects = load::counts(connects.into_iter().map(|(ms, count)| (ms * 1_000_000, count)));
        assert_eq!(retries(&kernel(&[("RetransSegs", 0)]), &connects), None);
        let counts = [("RetransSegs", 9), ("TCPSynRetrans", 8), ("ListenOverflows", 6), ("TCPReqQFullDrop", 1)];
        assert_eq!(
            words(retries(&kernel(&counts), &connects)).unwrap(),
            "syn-retries: 9 segments were retransmitted (8 of them SYNs); 5 connects took 1 s, 2 connects took 3 s; 6 segments were \
             dropped at full accept queues, and 1 SYN at full SYN queues"
        );
        let quick = words(retries(&kernel(&counts), &load::counts(std::iter::empty())));
        assert_eq!(quick.unwrap(), "syn-retries: 9 segments were retransmitted (8 of them SYNs)");
    }

    #[test]
    fn tail_loss_probes_are_no_losses() {
        let found = |all, probes, timeouts, syns| {
            let names = ["RetransSegs", "TCPLossProbes", "TCPTimeouts", "TCPSynRetrans"];
            let counts: Vec<_> = names.into_iter().zip([all, probes, timeouts, syns]).collect();
            words(retries(&kernel(&counts), &load::counts(std::iter::empty())))
        };
        assert_eq!(found(186, 186, 0, 0), None);
        // Some sent new data, which is no retransmission.
        assert_eq!(found(180, 186, 0, 0), None);
        let probes = "2 tail loss probes, which come sooner and need no loss, are not counted";
        assert_eq!(
            found(3, 2, 0, 0).unwrap(),
            format!("syn-retries: 1 segment was retransmitted (none of them a SYN); {probes}")
        );
        assert_eq!(
            found(3, 2, 2, 1).unwrap(),
            format!("syn-retries: 2 segments were retransmitted (1 of them a SYN); {probes}")
        );
        // Neither sends a segment more than RetransSegs knows of.
        assert_eq!(found(0, 0, 1, 0), None);
    }

    #[test]
    fn ports_are_scarce_beyond_half_of_them() {
        let sources = |selection, addresses: u8| Sources {
            selection,
            addresses: (1..=addresses).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))).collect(),
        };
        let trial = |peak| TrialRecord { ports_peak: peak, usable_ports: 100, ..TrialRecord::default() };
        let scarce = |peak, sources: Sources| words(ports_scarce(&trial(peak), &sources));
        let host = |rank, ports_peak| HostRow { rank, name: format!("c{rank}"), ports_peak, ..HostRow::default() };
        let job = TrialRecord { hosts: vec![host(0, None), host(1, Some(7)), host(2, Some(60))], ..trial(60) };
        let kernels = Sources { selection: Selection::Kernel, addresses: Vec::new() };
        assert_eq!(
            words(ports_scarce(&job, &kernels)).as_deref(),
            Some("ports-scarce: up to 60 of 100 ports of c2 (rank 2) were in use or in TIME_WAIT")
        );
        assert_eq!(scarce(50, sources(Selection::Kernel, 0)), None);
        let said = scarce(51, sources(Selection::Kernel, 0));
        assert_eq!(said.unwrap(), "ports-scarce: up to 51 of 100 ports were in use or in TIME_WAIT");
        assert_eq!(scarce(51, sources(Selection::Explicit, 1)), None);
        assert_eq!(scarce(100, sources(Selection::Kernel, 2)), None);
        assert!(scarce(101, sources(Selection::Kernel, 2)).unwrap().contains("101 of 200 ports"));
    }

    #[test]
    fn stolen_and_contended_processors() {
        let alone = |share| TrialRecord { cpu_steal_share: share, cpu_others_share: share, ..TrialRecord::default() };
        for (given, expected) in [
            (words(steal(&alone(0.05))), None),
            (words(steal(&alone(0.051))), Some("cpu-steal: the hypervisor took 5.1 % of the processor time")),
            (words(contended(&alone(0.15))), None),
            (words(contended(&alone(0.16))), Some("cpu-contended: other processes used 16 % of the processor time")),
        ] {
            assert_eq!(given.as_deref(), expected);
        }
        // Of several hosts, the worst one counts, and is named.
        let host = |rank, name: &str, role, share| HostRow {
            rank,
            name: name.to_owned(),
            role,
            cpu_steal_share: share,
            cpu_others_share: share,
            ..HostRow::default()
        };
        let hosts = vec![host(0, "server1", HostRole::Server, None), host(1, "client1", HostRole::Load, Some(0.2))];
        let job = |share| TrialRecord { hosts: hosts.clone(), ..alone(share) };
        let of = |host| format!("cpu-contended: other processes used {host}");
        assert_eq!(words(contended(&job(0.0))), Some(of("20 % of the processor time of client1 (rank 1)")));
        assert_eq!(words(contended(&job(0.3))), Some(of("30 % of the processor time of server1 (rank 0)")));
        assert_eq!(
            words(steal(&job(0.0))).as_deref(),
            Some("cpu-steal: the hypervisor took 20.0 % of the processor time of client1 (rank 1)")
        );
    }
}
