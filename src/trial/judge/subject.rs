//! Whether another server was there throughout the trial, and whether the probe saw all of what it did.

use std::collections::BTreeSet;

use crate::{
    record::{
        Connections, Datagrams, Grounds, HelperRow, MemberRow, ProbeRow, Subject, SubjectKind, TrialRecord,
        WorkerCounts, limits,
    },
    scenario::{
        Admit, Engine, Load,
        keys::{self, AnyKey},
    },
};

/// A server that stopped listening before the load was over, with the last line of its output.
pub(super) fn ended(subject: &Subject, last_output: Option<&str>) -> Option<Grounds> {
    let Subject { name, exit, .. } = subject;
    let after_s = subject.ended_after_s?;
    let last_output = last_output.map(str::to_owned);
    Some(Grounds::SubjectEnded { name: name.clone(), after_s, exit: exit.clone(), last_output })
}

/// Members that were stopped when the load had ended.
pub(super) fn stopped(listener: &str, stopped: &[(String, char)]) -> impl Iterator<Item = Grounds> {
    stopped.iter().map(move |(member, state)| Grounds::MemberStopped {
        listener: listener.to_owned(),
        member: member.clone(),
        state: *state,
    })
}

/// Connections that another server left in its queues. Our own stops accepting when the load has ended.
pub(super) fn stranded(subject: &Subject, connections: &Connections) -> Option<Grounds> {
    let left = connections.left_in_queue;
    (subject.kind != SubjectKind::Own && left > 0).then_some(Grounds::QueueStranded { left })
}

/// Accepts that failed because a member, or the helper, had no descriptor left.
pub(super) fn descriptors_used_up(members: &[MemberRow], helper: Option<&HelperRow>) -> Option<Grounds> {
    let failed = |counts: &WorkerCounts| counts.emfile.unwrap_or(0);
    let lacking = || members.iter().filter(|member| failed(&member.total) > 0);
    let of_helper = helper.filter(|helper| failed(&helper.total) > 0);
    let all = || members.iter().map(|member| &member.total).chain(helper.map(|helper| &helper.total));
    let limits =
        lacking().filter_map(|member| member.descriptors).chain(of_helper.and_then(|helper| helper.descriptors));
    let refused = all().map(failed).sum();
    (refused > 0).then(|| Grounds::DescriptorsUsedUp {
        refused,
        members: (lacking().count(), members.len()),
        shed: all().filter_map(|counts| counts.shed).sum(),
        limit: limits.map(|row| row.limit).min(),
    })
}

/// Whether workers, or the loaders of populations that all leave it open, have chosen different engines.
pub(super) fn mixed_engines(members: &[MemberRow], loaders: Option<&str>, loads: &[Load]) -> Option<Grounds> {
    let engines: BTreeSet<&str> = members.iter().filter_map(|member| member.engine.as_deref()).collect();
    let mixed = |whose: &str, key: &str| Grounds::MixedEngines { whose: whose.to_owned(), key: key.to_owned() };
    if engines.len() > 1 {
        return Some(mixed("workers", keys::SERVER_ENGINE.path()));
    }
    let is_open = loads.iter().all(|load| load.engine == Engine::Auto { ring: true });
    // Names of different ones are a list.
    let are_mixed = is_open && loaders.is_some_and(|names| names.contains(','));
    are_mixed.then(|| mixed("loaders", keys::LOAD_ENGINE.path()))
}

/// Events that the probe could not record.
pub(super) fn lost_events(probe: &ProbeRow) -> Option<Grounds> {
    let lost = probe.lost_events?;
    (lost > 0).then_some(Grounds::ProbeLostEvents { lost })
}

/// Accepts without an exact wait, where there are exact ones.
pub(super) fn unstamped(record: &TrialRecord) -> Option<Grounds> {
    let (unstamped, accepts) = record.measured.unstamped.zip(record.connections.accepted)?;
    // A probe may watch our own server, too, which stamps its accepts itself.
    let probe = record.probe.as_ref().filter(|_| record.subject.kind != SubjectKind::Own).map(|probe| probe.level);
    (unstamped as f64 > limits::UNSTAMPED * accepts as f64).then_some(Grounds::AcceptsUnstamped {
        unstamped,
        accepts,
        probe,
    })
}

/// Connections and datagrams that did not come from a loader. Nobody but the loaders is to use listenbench's own server, unless it admits anyone;
/// another may have clients of its own.
pub(super) fn other_clients(
    subject: &Subject,
    admit: Admit,
    connections: &Connections,
    datagrams: Option<&Datagrams>,
) -> Option<Grounds> {
    if subject.kind == SubjectKind::Own && admit == Admit::Job {
        let (foreign, datagrams) = (connections.foreign, datagrams.map_or(0, |datagrams| datagrams.foreign));
        return (foreign + datagrams > 0).then_some(Grounds::ForeignConnections { foreign, datagrams });
    }
    let of_connections = connections.accepted.map(|accepted| (connections.foreign, accepted, false));
    let of_datagrams = datagrams.map(|datagrams| (datagrams.foreign, datagrams.received, true));
    let many = |(foreign, all, _): &(u64, u64, bool)| *foreign as f64 > limits::OTHER_CLIENTS * *all as f64;
    let (foreign, accepted, datagrams) = of_connections.into_iter().chain(of_datagrams).find(many)?;
    Some(Grounds::OtherClients { foreign, accepted, datagrams })
}

#[cfg(test)]
mod tests {
    use super::{super::words, *};
    use crate::record::{Exit, Measured, ProbeLevel};

    fn of(kind: SubjectKind) -> Subject {
        Subject { kind, name: "nginx".to_owned(), ..Subject::default() }
    }

    #[test]
    fn a_server_that_stopped_listening_is_named() {
        assert_eq!(ended(&of(SubjectKind::Running), None), None);
        let gone = |exit, output| {
            words(ended(&Subject { ended_after_s: Some(1.26), exit, ..of(SubjectKind::Command) }, output)).unwrap()
        };
        let stopped = "subject-ended: nginx stopped listening after 1.3 s of the trial";
        assert_eq!(gone(None, None), stopped);
        assert_eq!(gone(Some(Exit::Status(1)), None), format!("{stopped}: exit status 1"));
        assert_eq!(gone(Some(Exit::Ok), None), format!("{stopped}: exit status 0"));
        assert_eq!(gone(None, Some("no memory")), format!("{stopped}; its last output: no memory"));
    }

    #[test]
    fn who_is_stopped_and_what_is_left_is_named() {
        let address = "127.0.0.1:80";
        let found: Vec<_> =
            stopped(address, &[("nginx (pid 7)".to_owned(), 'T')]).map(|one| words(Some(one))).collect();
        assert_eq!(found, [Some("member-stopped: 127.0.0.1:80: nginx (pid 7) is stopped (state T)".to_owned())]);
        let left =
            |kind, left_in_queue| words(stranded(&of(kind), &Connections { left_in_queue, ..Connections::default() }));
        assert_eq!((left(SubjectKind::Running, 0), left(SubjectKind::Own, 5)), (None, None));
        assert_eq!(
            left(SubjectKind::Running, 1).unwrap(),
            "queue-stranded: 1 connection that waited in a queue was never accepted"
        );
        assert_eq!(
            left(SubjectKind::Command, 55).unwrap(),
            "queue-stranded: 55 connections that waited in queues were never accepted"
        );
    }

    #[test]
    fn members_without_a_descriptor_are_counted() {
        use crate::record::DescriptorRow;
        let counts = |emfile, shed| WorkerCounts { emfile, shed, ..WorkerCounts::default() };
        let member = |emfile, shed, limit| MemberRow {
            total: counts(emfile, shed),
            descriptors: Some(DescriptorRow { limit, before: 9 }),
            ..MemberRow::default()
        };
        let of = |members: &[MemberRow], helper: Option<&HelperRow>| words(descriptors_used_up(members, helper));
        assert_eq!(of(&[member(Some(0), Some(0), 64), member(None, None, 64)], None), None);
        assert_eq!(
            of(&[member(Some(0), Some(0), 20), member(Some(1), Some(0), 64)], None).unwrap(),
            "descriptors-used-up: 1 of 2 members had no descriptor left (limit 64): 1 accept failed"
        );
        let helper = HelperRow { total: counts(Some(7), Some(6)), descriptors: None, ..HelperRow::default() };
        assert_eq!(
            of(&[MemberRow::default()], Some(&helper)).unwrap(),
            "descriptors-used-up: the helper had no descriptor left: 7 accepts failed; 6 connections were closed at once"
        );
    }

    #[test]
    fn a_single_lost_event_is_mentioned() {
        // Runs that were skipped need not have been for this server.
        let row = ProbeRow { missed_runs: Some(40), ..ProbeRow::default() };
        let found = |lost_events| words(super::lost_events(&ProbeRow { lost_events, ..row.clone() }));
        assert_eq!(found(None), None, "nobody counted any");
        assert_eq!(found(Some(0)), None);
        assert_eq!(found(Some(1)).unwrap(), "probe-lost-events: 1 event was not recorded");
    }

    #[test]
    fn a_few_accepts_without_a_stamp_go_unmentioned() {
        let record = |unstamped, accepted| TrialRecord {
            measured: Measured { unstamped, ..Measured::default() },
            connections: Connections { accepted, ..Connections::default() },
            ..TrialRecord::default()
        };
        let found = |unstamped, accepted| words(super::unstamped(&record(unstamped, accepted)));
        assert_eq!(found(None, Some(1_000)), None, "no wait is exact");
        assert_eq!(found(Some(1), Some(1_000)), None);
        let few = "accepts-unstamped: the wait of 2 of 1,000 accepts (0.2 %) is unknown: percentiles above 99.8 may be far higher than shown";
        assert_eq!(found(Some(2), Some(1_000)).unwrap(), few);
        let many = found(Some(73), Some(3_492)).unwrap();
        assert!(many.contains("73 of 3,492 accepts (2.1 %)") && many.contains("percentiles above 97.9 "), "{many}");
        assert!(found(Some(1), Some(1)).is_some());
        assert_eq!(found(Some(0), Some(0)), None);
        // Only a probe that saw another server's accepts has a better level.
        let probed = |kind, level| {
            let subject = Subject { kind, ..Subject::default() };
            let probe = Some(ProbeRow { level, ..ProbeRow::default() });
            words(super::unstamped(&TrialRecord { subject, probe, ..record(Some(2), Some(1_000)) })).unwrap()
        };
        let better = format!("{few}; `probe = \"btf\"`, as root, may know more of them");
        assert_eq!(probed(SubjectKind::Command, ProbeLevel::Tracepoints), better);
        assert_eq!(probed(SubjectKind::Command, ProbeLevel::Btf), few);
        assert_eq!(probed(SubjectKind::Own, ProbeLevel::Tracepoints), few);
    }

    #[test]
    fn another_server_may_have_a_few_clients_of_its_own() {
        let found = |kind, foreign| {
            words(other_clients(
                &of(kind),
                Admit::Job,
                &Connections { foreign, accepted: Some(1_000), ..Connections::default() },
                None,
            ))
        };
        assert_eq!(found(SubjectKind::Own, 0), None);
        assert_eq!(
            found(SubjectKind::Own, 1).unwrap(),
            "foreign-connections: 1 connection that the server got did not come from a loader"
        );
        assert_eq!(found(SubjectKind::Running, 10), None);
        assert_eq!(
            found(SubjectKind::Running, 11).unwrap(),
            "other-clients: 11 of 1000 accepted connections came from other clients"
        );
        // So may listenbench's own, if it is to serve anyone.
        let served = |foreign| Connections { foreign, accepted: Some(1_000), ..Connections::default() };
        let own = |foreign| other_clients(&of(SubjectKind::Own), Admit::Anyone, &served(foreign), None);
        assert_eq!(own(10), None);
        assert!(matches!(own(11), Some(Grounds::OtherClients { foreign: 11, .. })));
        let uncounted = Connections { foreign: 5, ..Connections::default() };
        assert_eq!(other_clients(&of(SubjectKind::Running), Admit::Job, &uncounted, None), None);
    }

    #[test]
    fn strangers_datagrams_count_like_their_connections() {
        let found = |admit, foreign, datagrams| {
            let datagrams = Datagrams { foreign: datagrams, received: 500, ..Datagrams::default() };
            let connections = Connections { foreign, accepted: Some(1_000), ..Connections::default() };
            words(other_clients(&of(SubjectKind::Own), admit, &connections, Some(&datagrams)))
        };
        assert_eq!((found(Admit::Job, 0, 0), found(Admit::Anyone, 10, 5)), (None, None));
        assert_eq!(
            found(Admit::Job, 0, 1).unwrap(),
            "foreign-connections: 1 datagram that the server got did not come from a loader"
        );
        assert_eq!(
            found(Admit::Job, 2, 3).unwrap(),
            "foreign-connections: 2 connections and 3 datagrams that the server got did not come from a loader"
        );
        assert_eq!(
            found(Admit::Anyone, 0, 6).unwrap(),
            "other-clients: 6 of 500 datagrams received came from other clients"
        );
    }
}
