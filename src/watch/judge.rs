//! The rules that give an observation its verdicts. Each is a pure function of what was seen of one listener since the beginning.

use std::{collections::BTreeMap, net::SocketAddr};

use super::exposure::{Exposure, guarded_service};
use crate::{
    observe::{counters, processes::is_stopped},
    record::{Grounds, limits},
};

/// A listener since the beginning of an observation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Watched {
    pub address: SocketAddr,
    /// Whether its network has an address that others may reach.
    pub has_outside: bool,
    /// Samples of its queues, those of several sockets together.
    pub samples: u64,
    /// Those that found a queue full.
    pub full: u64,
    /// The most connections in a queue.
    pub peak: u32,
    /// The largest limit of its queues.
    pub limit: u32,
    /// Segments dropped.
    pub dropped: u64,
    /// Whoever accepts from it or has it.
    pub members: Vec<WatchedMember>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct WatchedMember {
    pub pid: i32,
    pub tid: i32,
    pub comm: String,
    /// The state's letter in /proc; `None` if it has ended.
    pub state: Option<char>,
    /// Connections accepted; `None` if they cannot be counted.
    pub accepted: Option<u64>,
    /// Whether it is the parent of another that has the listener. Such processes rarely accept: they open it for their children.
    pub is_parent: bool,
}

impl WatchedMember {
    /// `nginx (pid 12)`, `haproxy (pid 12, thread 13)`.
    fn name(&self) -> String {
        match self {
            Self { pid, tid, comm, .. } if pid == tid => format!("{comm} (pid {pid})"),
            Self { pid, tid, comm, .. } => format!("{comm} (pid {pid}, thread {tid})"),
        }
    }

    fn is_stopped(&self) -> bool {
        self.state.is_some_and(is_stopped)
    }
}

impl Watched {
    /// Those of whom one expects that they accept.
    fn acceptors(&self) -> impl Iterator<Item = &WatchedMember> {
        let may = |member: &&WatchedMember| member.state.is_some() && !member.is_stopped();
        self.members.iter().filter(may).filter(|member| !member.is_parent || member.accepted > Some(0))
    }

    /// Accepts of all members; `None` if they cannot be counted, or nobody is seen who might accept.
    fn accepted(&self) -> Option<u64> {
        let accepted: Option<u64> = self.members.iter().map(|member| member.accepted).sum();
        accepted.filter(|_| !self.members.is_empty())
    }

    fn lacked_room(&self) -> bool {
        self.full + self.dropped > 0
    }

    fn full_share(&self) -> f64 {
        self.full as f64 / self.samples.max(1) as f64
    }

    /// Accepts of all members, if they can be counted and are enough to judge how the members share them.
    fn enough(&self) -> Option<u64> {
        self.accepted().filter(|accepted| *accepted >= limits::ACCEPTS_TO_JUDGE)
    }
}

/// All verdicts on one listener.
pub(super) fn judge(listener: &Watched, somaxconn: Option<u32>) -> Vec<Grounds> {
    let grounds = [
        open_to_all(listener),
        queue_full(listener),
        nobody_accepts(listener),
        backlog_capped(listener, somaxconn),
        one_takes_most(listener),
        never_accepts(listener),
    ];
    grounds.into_iter().flatten().chain(stopped(listener)).collect()
}

fn queue_full(listener: &Watched) -> Option<Grounds> {
    let Watched { address, peak, limit, dropped, .. } = *listener;
    let full_share = listener.full_share();
    let full = listener.lacked_room() && listener.accepted() != Some(0);
    full.then_some(Grounds::QueueFull { listener: address, full_share, peak, limit, dropped })
}

fn nobody_accepts(listener: &Watched) -> Option<Grounds> {
    let Watched { address, peak, limit, dropped, .. } = *listener;
    let full_share = listener.full_share();
    let idle = listener.lacked_room() && listener.accepted() == Some(0);
    idle.then_some(Grounds::NobodyAccepts { listener: address, full_share, peak, limit, dropped })
}

fn backlog_capped(listener: &Watched, somaxconn: Option<u32>) -> Option<Grounds> {
    let somaxconn = somaxconn.filter(|somaxconn| *somaxconn == listener.limit)?;
    queue_full(listener).map(|_| Grounds::BacklogCapped { listener: listener.address, somaxconn })
}

fn one_takes_most(listener: &Watched) -> Option<Grounds> {
    let accepted = listener.enough()?;
    let others = listener.acceptors().count().checked_sub(1).filter(|others| *others > 0)?;
    let busiest = listener.acceptors().max_by_key(|member| member.accepted)?;
    let share = busiest.accepted? as f64 / accepted as f64;
    let (listener, member) = (listener.address, busiest.name());
    (share >= limits::CONCENTRATED).then_some(Grounds::OneMemberTakesMost { listener, member, share, accepted, others })
}

fn never_accepts(listener: &Watched) -> Option<Grounds> {
    let accepted = listener.enough()?;
    let idle = listener.acceptors().filter(|member| member.accepted == Some(0));
    let members: Vec<String> = idle.map(WatchedMember::name).collect();
    let explained = members.is_empty() || one_takes_most(listener).is_some();
    (!explained).then_some(Grounds::NeverAccepts { listener: listener.address, members, accepted })
}

fn stopped(listener: &Watched) -> impl Iterator<Item = Grounds> {
    let stopped = listener.members.iter().filter(|member| member.is_stopped());
    stopped.filter_map(|member| {
        Some(Grounds::MemberStopped {
            listener: listener.address.to_string(),
            member: member.name(),
            state: member.state?,
        })
    })
}

fn open_to_all(listener: &Watched) -> Option<Grounds> {
    if Exposure::of(listener.address.ip()) != Exposure::EveryAddress || !listener.has_outside {
        return None;
    }
    let names: Vec<&str> = listener.members.iter().map(|member| &member.comm[..]).collect();
    let service = guarded_service(listener.address.port(), &names)?;
    let process = listener.members.first().map(WatchedMember::name);
    Some(Grounds::OpenToAll { listener: listener.address, service, process })
}

/// Whether enough events were lost to change what is said of the accepts; `None` if none are counted.
pub(super) fn lost_events(lost: Option<u64>, accepts: u64) -> Option<Grounds> {
    let lost = lost.filter(|lost| *lost as f64 > limits::LOST_EVENTS * accepts as f64)?;
    Some(Grounds::ProbeLostEvents { lost })
}

/// Whether SYNs, or the answers to them, had to be sent again: by the counters of the network namespace.
pub(super) fn syn_retries(kernel: &BTreeMap<String, u64>) -> Option<Grounds> {
    let count = |name: &str| kernel.get(name).copied().unwrap_or(0);
    let syns = count("TCPSynRetrans");
    let (segments, probes) = counters::retransmitted(kernel);
    (syns > 0).then(|| Grounds::SynRetries {
        segments,
        syns,
        probes,
        slow: BTreeMap::new(),
        at_accept_queues: count("ListenOverflows"),
        at_syn_queues: count("TCPReqQFullDrop"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Verdict;

    fn member(pid: i32, accepted: u64) -> WatchedMember {
        WatchedMember {
            pid,
            tid: pid,
            comm: "nginx".to_owned(),
            state: Some('S'),
            accepted: Some(accepted),
            is_parent: false,
        }
    }

    fn listener(members: &[WatchedMember]) -> Watched {
        Watched {
            address: "127.0.0.1:80".parse().unwrap(),
            has_outside: true,
            samples: 1_000,
            full: 0,
            peak: 3,
            limit: 128,
            dropped: 0,
            members: members.to_vec(),
        }
    }

    fn said(listener: &Watched) -> Vec<String> {
        judge(listener, Some(4_096)).into_iter().map(|grounds| Verdict::from(grounds).to_string()).collect()
    }

    #[test]
    fn a_listener_that_does_its_work_gets_no_verdict() {
        assert!(said(&listener(&[])).is_empty());
        assert!(said(&listener(&[member(12, 3_000)])).is_empty(), "it is the only one");
        assert!(said(&listener(&[member(12, 1_700), member(13, 1_300)])).is_empty());
    }

    #[test]
    fn a_queue_that_was_full_once_is_full() {
        let with = |full, dropped| Watched { full, dropped, peak: 129, ..listener(&[]) };
        let full = "queue-full: 127.0.0.1:80: full in 0.1 % of the samples, with at most 129 connections in a queue of limit 128; 0 \
                    segments dropped";
        assert_eq!(said(&with(1, 0)), [full]);
        let drops = said(&Watched { peak: 1, ..with(0, 1) });
        let dropped = "queue-full: 127.0.0.1:80: full in no sample, with at most 1 connection in a queue of limit 128; 1 segment dropped";
        assert_eq!(drops, [dropped]);
        let rarely = said(&Watched { samples: 10_000, ..with(1, 1) });
        assert!(rarely[0].contains(": full in under 0.1 % of the samples, "), "{rarely:?}");
    }

    #[test]
    fn a_queue_that_nobody_empties_is_not_slow() {
        let with = |members: &[WatchedMember], full, dropped| {
            said(&Watched { full, dropped, peak: 129, limit: 4_096, ..listener(members) })
        };
        let nobody = [
            "nobody-accepts: 127.0.0.1:80: no connection was accepted; full in 100.0 % of the samples, with at most 129 connections in a \
             queue of limit 4096; 0 segments dropped",
        ];
        assert_eq!(with(&[member(12, 0), member(13, 0)], 1_000, 0), nobody, "nor would a longer queue help");
        assert!(
            with(&[member(12, 0)], 0, 1)[0].starts_with("nobody-accepts: 127.0.0.1:80: no connection was accepted; ")
        );
        assert!(with(&[member(12, 0)], 0, 0).is_empty());
        let uncounted = WatchedMember { accepted: None, ..member(12, 0) };
        for members in [&[member(12, 1), member(13, 0)][..], &[uncounted], &[]] {
            assert!(with(members, 1_000, 0)[0].starts_with("queue-full: "), "{members:?}");
        }
    }

    #[test]
    fn a_backlog_is_capped_where_it_would_help_to_raise_it() {
        let with = |limit, full| said(&Watched { limit, full, ..listener(&[]) });
        assert_eq!(
            with(4_096, 1)[1..],
            ["backlog-capped: 127.0.0.1:80: the limit of its queue is net.core.somaxconn, 4096"]
        );
        assert_eq!((with(4_095, 1).len(), with(4_096, 0).len()), (1, 0));
        let unknown = judge(&Watched { limit: 4_096, full: 1, ..listener(&[]) }, None);
        assert_eq!(unknown.len(), 1);
    }

    #[test]
    fn nine_of_ten_accepts_are_nearly_all() {
        let two = |most, other| said(&listener(&[member(12, most), member(13, other)]));
        assert_eq!(
            two(90, 10),
            [
                "one-member-takes-most: 127.0.0.1:80: nginx (pid 12) accepted 90.0 % of 100 connections; another member has the \
                 listener, too"
            ]
        );
        assert!(two(89, 11).is_empty());
        assert!(two(90, 9).is_empty(), "too few to judge");
        let threads = [member(12, 0), WatchedMember { tid: 14, ..member(12, 100) }, member(13, 0)];
        assert_eq!(
            said(&listener(&threads)),
            [
                "one-member-takes-most: 127.0.0.1:80: nginx (pid 12, thread 14) accepted 100.0 % of 100 connections; 2 other members \
                 have the listener, too"
            ]
        );
    }

    #[test]
    fn a_parent_that_accepts_nothing_has_done_its_work() {
        let master = WatchedMember { is_parent: true, ..member(11, 0) };
        assert!(said(&listener(&[master.clone(), member(12, 500)])).is_empty());
        assert!(said(&listener(&[master.clone(), member(12, 300), member(13, 200)])).is_empty());
        let stopped = WatchedMember { state: Some('T'), ..member(13, 0) };
        assert_eq!(said(&listener(&[member(12, 500), stopped])).len(), 1, "it cannot help being outdone");
        // One that accepts is a member like any other.
        let accepts = WatchedMember { accepted: Some(1), ..master };
        assert_eq!(said(&listener(&[accepts, member(12, 500)])).len(), 1);
    }

    #[test]
    fn a_member_that_accepts_nothing_is_named() {
        let three = |accepted| said(&listener(&[member(12, accepted), member(13, accepted), member(14, 0)]));
        assert_eq!(three(50), ["never-accepts: 127.0.0.1:80: nginx (pid 14) accepted none of 100 connections"]);
        assert!(three(49).is_empty());
        let idle = said(&listener(&[member(12, 80), member(13, 80), member(14, 0), member(15, 0), member(16, 0)]));
        assert!(
            idle[0].contains(": nginx (pid 14), nginx (pid 15) and nginx (pid 16) accepted none of 160"),
            "{idle:?}"
        );
        let ended = WatchedMember { state: None, ..member(14, 0) };
        assert!(said(&listener(&[member(12, 80), member(13, 80), ended])).is_empty());
    }

    #[test]
    fn a_stopped_member_is_named_however_little_was_accepted() {
        for (state, expected) in [('T', 1), ('t', 1), ('S', 0), ('R', 0), ('D', 0)] {
            let found = said(&listener(&[member(12, 0), WatchedMember { state: Some(state), ..member(13, 0) }]));
            assert_eq!(found.len(), expected, "{state}");
        }
        let stopped = WatchedMember { state: Some('T'), ..member(14, 0) };
        assert_eq!(
            said(&listener(&[member(12, 80), member(13, 80), stopped])),
            ["member-stopped: 127.0.0.1:80: nginx (pid 14) is stopped (state T)"],
            "and that it never accepts says no more"
        );
    }

    #[test]
    fn accepts_that_are_not_counted_are_not_judged() {
        let uncounted = [12, 13].map(|pid| WatchedMember { accepted: None, ..member(pid, 0) });
        assert!(said(&listener(&uncounted)).is_empty());
    }

    #[test]
    fn a_database_is_open_to_all_at_a_wildcard_that_reaches_outside() {
        let redis = WatchedMember { comm: "redis-server".to_owned(), ..member(12, 0) };
        let at = |address: &str, has_outside, members: &[WatchedMember]| {
            said(&Watched { address: address.parse().unwrap(), has_outside, ..listener(members) })
        };
        assert_eq!(
            at("0.0.0.0:6379", true, std::slice::from_ref(&redis)),
            ["open-to-all: 0.0.0.0:6379: redis-server (pid 12) listens on every address (Redis)"]
        );
        assert_eq!(
            at("[::]:6379", true, &[]),
            [
                "open-to-all: [::]:6379: a process that this user may not see listens on every address, on the port of Redis"
            ]
        );
        assert!(at("0.0.0.0:6379", false, std::slice::from_ref(&redis)).is_empty());
        assert!(at("127.0.0.1:6379", true, &[redis]).is_empty());
        assert!(at("0.0.0.0:80", true, &[member(12, 0)]).is_empty());
    }

    #[test]
    fn lost_events_count_beside_the_accepts() {
        assert_eq!((lost_events(None, 0), lost_events(Some(0), 0)), (None, None));
        assert_eq!(lost_events(Some(10), 1_000), None);
        // Nobody knows whether they were about this listener.
        assert!(lost_events(Some(11), 1_000).is_some_and(|lost| !lost.name().invalidates()));
        assert!(lost_events(Some(1), 0).is_some());
    }

    #[test]
    fn retransmitted_syns_count_and_other_segments_do_not() {
        let kernel = |syns: u64| BTreeMap::from([("RetransSegs".to_owned(), 9), ("TCPSynRetrans".to_owned(), syns)]);
        assert_eq!(syn_retries(&kernel(0)), None);
        let found = syn_retries(&kernel(1)).map(Verdict::from).unwrap();
        assert_eq!(found.to_string(), "syn-retries: 9 segments were retransmitted (1 of them a SYN)");
    }
}
