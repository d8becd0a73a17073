//! Rules about the kernel's counters and the processors.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::{
    record::{Datagrams, Grounds, MemberRow, limits},
    scenario::{Selection, Sources},
};

type Counters = BTreeMap<String, u64>;

fn count(kernel: &Counters, name: &str) -> u64 {
    kernel.get(name).copied().unwrap_or(0)
}

pub(super) fn queue_overflow(kernel: &Counters, workers: &[MemberRow]) -> Option<Grounds> {
    let dropped = count(kernel, "ListenOverflows");
    let limit = workers.iter().map(|worker| worker.queue_limit).max().unwrap_or(0);
    (dropped > 0).then_some(Grounds::QueueOverflow { dropped, limit })
}

pub(super) fn time_wait_overflow(kernel: &Counters) -> Option<Grounds> {
    let connections = count(kernel, "TCPTimeWaitOverflow");
    (connections > 0).then_some(Grounds::TimeWaitOverflow { connections })
}

/// How long after a whole second a connect may end and still count as one whose SYN was retransmitted then.
const MODE_WIDTH_NS: u64 = 400_000_000;

/// Retransmitted segments and their effect on connects: the kernel repeats a SYN after 1, 2, 3, 4, 5, 7, 11, 19, 35 s
/// (tcp_syn_linear_timeouts, since Linux 6.5), so connect latencies have modes at whole seconds.
pub(super) fn retries(kernel: &Counters, connects: &Histogram<u64>) -> Option<Grounds> {
    let segments = count(kernel, "RetransSegs");
    if segments == 0 {
        return None;
    }
    let mut slow: BTreeMap<u64, u64> = BTreeMap::new();
    for value in connects.iter_recorded() {
        let (seconds, over_ns) = (value.value_iterated_to() / 1_000_000_000, value.value_iterated_to() % 1_000_000_000);
        if seconds > 0 && over_ns < MODE_WIDTH_NS {
            *slow.entry(seconds).or_default() += value.count_at_value();
        }
    }
    let (syns, dropped) = (count(kernel, "TCPSynRetrans"), count(kernel, "ListenOverflows"));
    Some(Grounds::SynRetries { segments, syns, slow, dropped })
}

pub(super) fn datagrams_lost(datagrams: &Datagrams) -> Option<Grounds> {
    let Datagrams { lost, sent, .. } = *datagrams;
    (lost > 0).then_some(Grounds::DatagramsLost { lost, sent })
}

/// Whether the kernel had to search for ports. With `explicit`, listenbench chooses them and the kernel does not search.
pub(super) fn ports_scarce(peak: u64, usable: u64, sources: &Sources) -> Option<Grounds> {
    let capacity = usable * sources.addresses.len().max(1) as u64;
    let scarce = peak as f64 > limits::PORTS * capacity as f64 && sources.selection != Selection::Explicit;
    scarce.then_some(Grounds::PortsScarce { peak, capacity })
}

pub(super) fn steal(share: f64) -> Option<Grounds> {
    (share > limits::STEAL).then_some(Grounds::CpuSteal { share })
}

pub(super) fn contended(share: f64) -> Option<Grounds> {
    (share > limits::OTHERS).then_some(Grounds::CpuContended { share })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{super::words, *};
    use crate::load::histogram;

    fn kernel(counts: &[(&str, u64)]) -> Counters {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn counters_that_grew() {
        let workers = [4, 128].map(|queue_limit| MemberRow { queue_limit, ..MemberRow::default() });
        let overflow = |count| words(queue_overflow(&kernel(&[("ListenOverflows", count)]), &workers));
        let reused = |count| words(time_wait_overflow(&kernel(&[("TCPTimeWaitOverflow", count)])));
        let lost = |lost| words(datagrams_lost(&Datagrams { lost, sent: 200, ..Datagrams::default() }));
        for (given, expected) in [
            (overflow(0), None),
            (overflow(1), Some("queue-overflow: 1 segment was dropped at a full accept queue (limit 128)")),
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
        assert_eq!(queue_overflow(&Counters::new(), &[]), None, "a counter that the kernel does not have");
    }

    #[test]
    fn retries_show_at_whole_seconds() {
        let mut connects = histogram();
        for (ms, count) in [(20, 90), (1_000, 4), (1_399, 1), (1_450, 7), (3_010, 2)] {
            connects.record_n(ms * 1_000_000, count).unwrap();
        }
        assert_eq!(retries(&kernel(&[("RetransSegs", 0)]), &connects), None);
        let counts = [("RetransSegs", 9), ("TCPSynRetrans", 8), ("ListenOverflows", 6)];
        assert_eq!(
            words(retries(&kernel(&counts), &connects)).unwrap(),
            "syn-retries: 9 segments were retransmitted, including 8 SYNs; 5 connects took 1 s, 2 connects took 3 s; 6 segments were \
             dropped at full queues"
        );
        let quick = words(retries(&kernel(&counts), &histogram()));
        assert_eq!(quick.unwrap(), "syn-retries: 9 segments were retransmitted, including 8 SYNs");
    }

    #[test]
    fn ports_are_scarce_beyond_half_of_them() {
        let sources = |selection, addresses: u8| Sources {
            selection,
            addresses: (1..=addresses).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))).collect(),
        };
        let scarce = |peak, sources: Sources| words(ports_scarce(peak, 100, &sources));
        assert_eq!(scarce(50, sources(Selection::Kernel, 0)), None);
        let said = scarce(51, sources(Selection::Kernel, 0));
        assert_eq!(said.unwrap(), "ports-scarce: up to 51 of 100 ports were in use or in TIME_WAIT");
        assert_eq!(scarce(51, sources(Selection::Explicit, 1)), None);
        assert_eq!(scarce(100, sources(Selection::Kernel, 2)), None);
        assert!(scarce(101, sources(Selection::Kernel, 2)).unwrap().contains("101 of 200 ports"));
    }

    #[test]
    fn stolen_and_contended_processors() {
        for (given, expected) in [
            (words(steal(0.05)), None),
            (words(steal(0.051)), Some("cpu-steal: the hypervisor took 5.1 % of the processor time")),
            (words(contended(0.15)), None),
            (words(contended(0.16)), Some("cpu-contended: other processes used 16 % of the processor time")),
        ] {
            assert_eq!(given.as_deref(), expected);
        }
    }
}
