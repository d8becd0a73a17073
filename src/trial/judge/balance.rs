//! Whether everything is accounted for: connections, datagrams, replies, stamps and processes.

use crate::record::{
    ClientHandshakes, Connections, Datagrams, EventKind, Exit, Grounds, Handshakes, Imbalance, LoaderRow, Measured,
    MemberRow, Step, Tls, TrialRecord,
};

pub(super) fn connections(connections: &Connections) -> Option<Grounds> {
    let unaccounted = connections.unaccounted.unwrap_or(0);
    (unaccounted != 0).then(|| Grounds::Unaccounted { sum: Imbalance::Connections(Box::new(connections.clone())) })
}

/// Processes that shared the server's port.
pub(super) fn foreign_members(
    connections: &Connections,
    datagrams: Option<&Datagrams>,
    workers: &[MemberRow],
) -> Option<Grounds> {
    let members = connections.foreign_members.clone();
    let own: u64 = workers.iter().filter_map(|worker| worker.total.accepted).sum();
    let taken = connections.accepted.unwrap_or(0).saturating_sub(own);
    let missing = |datagrams: &Datagrams| u64::try_from(datagrams.unaccounted?).ok();
    let datagrams = datagrams.and_then(missing).unwrap_or(0);
    (!members.is_empty()).then_some(Grounds::ForeignMembers { members, taken, datagrams })
}

/// Datagrams that are missing; if another process shared the server's port, it got them.
pub(super) fn datagrams(datagrams: &Datagrams, connections: &Connections) -> Option<Grounds> {
    let unaccounted = datagrams.unaccounted.unwrap_or(0);
    let taken = unaccounted > 0 && !connections.foreign_members.is_empty();
    (unaccounted != 0 && !taken).then(|| Grounds::Unaccounted { sum: Imbalance::Datagrams(datagrams.clone()) })
}

/// Replies to others. Those of a process that shares the server's port belong nowhere, and accuse nobody.
pub(super) fn misdelivered(connections: &Connections) -> Option<Grounds> {
    let replies = connections.misdelivered;
    (replies != 0 && connections.foreign_members.is_empty()).then_some(Grounds::Misdelivered { replies })
}

/// TLS handshakes that only one side has completed. That happens where the connection fails.
pub(super) fn handshakes(tls: &Tls, connections: &Connections) -> Option<Grounds> {
    let ClientHandshakes { completed, resumed, .. } = tls.clients;
    let (clients, server) = (Handshakes { completed, resumed }, tls.server?);
    let of_loaders = connections.errors.iter().filter(|error| !matches!(error.phase, Step::Accept | Step::Serve));
    let failed = connections.in_flight + of_loaders.map(|error| error.count).sum::<u64>();
    let apart = clients.completed.abs_diff(server.completed).max(clients.resumed.abs_diff(server.resumed));
    (apart > failed).then_some(Grounds::HandshakesDiffer { clients, server, failed })
}

pub(super) fn stamps(measured: &Measured) -> Option<Grounds> {
    let stamps = measured.stamps_impossible;
    (stamps != 0).then_some(Grounds::StampsImpossible { stamps })
}

/// Processes that ended early, other than workers that the scenario kills. `others` have no row.
pub(super) fn deaths(record: &TrialRecord, others: &[(String, Exit)]) -> Vec<Grounds> {
    let TrialRecord { workers, helper, loaders, events, .. } = record;
    let meant = |worker: &MemberRow| {
        events.iter().any(|event| event.kind == EventKind::Kill && event.worker == Some(worker.member))
    };
    let workers = workers
        .iter()
        .filter(|worker| !meant(worker))
        .filter_map(|worker| Some((worker, worker.exit.as_ref().filter(|exit| !exit.is_ok())?)))
        .map(|(worker, exit)| (worker.to_string(), exit, 0));
    let helper = helper.iter().map(|helper| (format!("the strategy's helper (pid {})", helper.pid), &helper.exit, 0));
    // What took the host took its loaders.
    let on_host = |row: &LoaderRow| record.hosts.iter().find(|host| Some(host.rank) == row.host);
    let loaders = loaders
        .iter()
        .map(|row| (row, on_host(row)))
        .filter(|(_, host)| host.is_none_or(|host| host.lost_after_s.is_none()))
        .map(|(row, host)| {
            let host = host.map_or_else(String::new, |host| format!(" on {host}"));
            (format!("loader {} (pid {}){host}", row.loader, row.pid), &row.exit, row.in_flight)
        });
    let others = others.iter().map(|(process, exit)| (process.clone(), exit, 0));
    let dead = workers.chain(helper).chain(loaders).chain(others).filter(|(_, exit, _)| !exit.is_ok());
    dead.map(|(process, exit, in_flight)| Grounds::ProcessDied { process, exit: exit.clone(), in_flight }).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::words, *};
    use crate::record::{Cause, CountedBy, ErrorCount, EventRow, ForeignMember, HelperRow, LoaderRow, WorkerCounts};

    #[test]
    fn an_imbalance_shows_its_sum() {
        let balanced = Connections {
            established: 12,
            accepted: Some(9),
            left_in_queue: 2,
            aborted: Some(1),
            ..Connections::default()
        };
        assert_eq!(connections(&balanced), None);
        for (accepted, unaccounted) in [(8, 1), (10, -1)] {
            let found = words(connections(&Connections {
                accepted: Some(accepted),
                unaccounted: Some(unaccounted),
                ..balanced.clone()
            }));
            let sum = format!("unaccounted: 12 established ≠ {accepted} accepted + 2 left in the queue + 1 aborted");
            assert_eq!(found.as_deref(), Some(&sum[..]));
        }
        let all = Connections { self_connected: 4, cookies: 3, foreign: 2, unaccounted: Some(1), ..balanced };
        assert_eq!(
            words(connections(&all)).unwrap(),
            "unaccounted: 12 established − 4 connected to themselves + 3 by SYN cookie only + 2 from other clients ≠ 9 accepted + 2 left \
             in the queue + 1 aborted"
        );
        let balanced =
            Datagrams { sent: 12, received: 9, left_in_queue: 1, lost: 1, aborted: 1, ..Datagrams::default() };
        let alone = Connections::default();
        assert_eq!(datagrams(&balanced, &alone), None);
        assert_eq!(
            words(datagrams(&Datagrams { received: 8, unaccounted: Some(1), ..balanced.clone() }, &alone)).unwrap(),
            "unaccounted: 12 datagrams sent ≠ 8 received + 1 left in the queue + 1 lost + 0 refused + 1 aborted"
        );
    }

    #[test]
    fn handshakes_are_the_same_on_both_sides_but_for_connections_that_failed() {
        let tls = |completed, resumed| Tls {
            clients: ClientHandshakes { completed: 20, resumed: 5, ..ClientHandshakes::default() },
            server: Some(Handshakes { completed, resumed }),
        };
        let failed = |count| {
            let of = |phase| ErrorCount { phase, errno: Cause::TIMED_OUT, count };
            Connections { errors: vec![of(Step::Tls), of(Step::Serve)], ..Connections::default() }
        };
        assert_eq!(handshakes(&tls(20, 5), &failed(0)), None);
        assert_eq!(handshakes(&tls(18, 5), &failed(2)), None);
        assert_eq!(handshakes(&Tls { server: None, ..tls(0, 0) }, &failed(0)), None);
        assert!(handshakes(&tls(20, 6), &failed(0)).is_some());
        assert_eq!(
            words(handshakes(&tls(17, 5), &failed(2))).unwrap(),
            "handshakes-differ: clients completed 20 TLS handshakes (5 resumed), the server 17 (5 resumed), and 2 connections failed"
        );
    }

    #[test]
    fn a_single_misdelivery_is_too_many() {
        let replies = |misdelivered| words(misdelivered_of(misdelivered));
        assert_eq!(replies(0), None);
        assert_eq!(replies(1).unwrap(), "misdelivered: 1 reply belongs to another connection");
        let foreign_members = vec![ForeignMember::default()];
        let shared = Connections { misdelivered: 1, foreign_members, ..Connections::default() };
        assert_eq!(super::misdelivered(&shared), None);
        let impossible = |stamps_impossible| words(stamps(&Measured { stamps_impossible, ..Measured::default() }));
        assert_eq!(impossible(0), None);
        assert_eq!(
            impossible(1).unwrap(),
            "stamps-impossible: 1 stamp is earlier than the client's connect() call or later than accept"
        );
    }

    fn misdelivered_of(misdelivered: u64) -> Option<Grounds> {
        super::misdelivered(&Connections { misdelivered, ..Connections::default() })
    }

    #[test]
    fn who_shares_the_servers_port_is_named() {
        let member = |pid| ForeignMember { pid: Some(pid), name: Some("nginx".to_owned()), accepted: None };
        let workers = [3, 4].map(|accepted| MemberRow {
            total: WorkerCounts { accepted: Some(accepted), ..WorkerCounts::default() },
            ..MemberRow::default()
        });
        let found = |accepted, foreign_members: &[ForeignMember]| {
            let foreign_members = foreign_members.to_vec();
            words(super::foreign_members(
                &Connections { accepted: Some(accepted), foreign_members, ..Connections::default() },
                None,
                &workers,
            ))
        };
        assert_eq!(found(8, &[]), None);
        assert_eq!(
            found(7, &[member(12)]).unwrap(),
            "foreign-members: nginx (pid 12) had a socket on the server's address and port"
        );
        assert_eq!(
            found(8, &[ForeignMember::default(), member(12), member(13)]).unwrap(),
            "foreign-members: an unseen process (another user's, or gone at once), nginx (pid 12) and nginx (pid 13) had a socket on the \
             server's address and port, and got 1 connection"
        );
        // Datagrams that are missing went there; more than were sent did not.
        let shared = Connections { foreign_members: vec![member(12)], ..Connections::default() };
        let missing = |unaccounted| Datagrams { unaccounted: Some(unaccounted), ..Datagrams::default() };
        let taken = words(super::foreign_members(&shared, Some(&missing(8)), &[]));
        assert!(taken.unwrap().ends_with("port, and got 8 datagrams"));
        assert_eq!(datagrams(&missing(8), &shared), None);
        assert!(datagrams(&missing(-1), &shared).is_some());
    }

    #[test]
    fn only_an_event_may_kill_a_worker() {
        let worker = |member, exit: &str| MemberRow {
            member,
            pid: 7,
            tid: 7,
            counted_by: CountedBy::Own,
            exit: Some(exit.to_owned().into()),
            ..MemberRow::default()
        };
        let workers = [worker(0, "ok"), worker(1, "killed by SIGKILL")];
        let said_of = |record: TrialRecord| {
            deaths(&record, &[]).into_iter().map(|death| words(Some(death)).unwrap()).collect::<Vec<_>>()
        };
        let said = |events: &[EventRow], helper: &str| {
            let helper = HelperRow { pid: 8, exit: helper.to_owned().into(), ..HelperRow::default() };
            let (workers, events) = (workers.to_vec(), events.to_vec());
            said_of(TrialRecord { workers, helper: Some(helper), events, ..TrialRecord::default() })
        };
        let event = |kind, worker| EventRow { kind, worker: Some(worker), ..EventRow::default() };
        let died = "process-died: worker 1 (pid 7): killed by SIGKILL";
        assert_eq!(said(&[], "ok"), [died]);
        assert_eq!(said(&[event(EventKind::Kill, 0), event(EventKind::Stall, 1)], "ok"), [died]);
        assert!(said(&[event(EventKind::Kill, 1)], "ok").is_empty());
        let helper = "process-died: the strategy's helper (pid 8): exit status 1";
        assert_eq!(said(&[event(EventKind::Kill, 1)], "exit status 1"), [helper]);
        let loader = |loader, exit: &str, in_flight| LoaderRow {
            loader,
            pid: 9,
            exit: exit.to_owned().into(),
            in_flight,
            ..LoaderRow::default()
        };
        let loaders = vec![loader(0, "ok", 0), loader(1, "killed by SIGSEGV", 0), loader(2, "killed by SIGKILL", 3)];
        let died = [
            "process-died: loader 1 (pid 9): killed by SIGSEGV",
            "process-died: loader 2 (pid 9): killed by SIGKILL; what became of its 3 connections in progress is unknown",
        ];
        assert_eq!(said_of(TrialRecord { loaders, ..TrialRecord::default() }), died);
    }
}
