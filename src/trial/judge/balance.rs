//! Whether everything is accounted for: connections, datagrams, replies, stamps and processes.

use crate::record::{Connections, Datagrams, EventKind, EventRow, Grounds, HelperRow, Imbalance, Measured, MemberRow};

pub(super) fn connections(connections: &Connections) -> Option<Grounds> {
    (connections.unaccounted != 0).then(|| Grounds::Unaccounted { sum: Imbalance::Connections(connections.clone()) })
}

pub(super) fn datagrams(datagrams: &Datagrams) -> Option<Grounds> {
    (datagrams.unaccounted != 0).then(|| Grounds::Unaccounted { sum: Imbalance::Datagrams(datagrams.clone()) })
}

pub(super) fn misdelivered(connections: &Connections) -> Option<Grounds> {
    let replies = connections.misdelivered;
    (replies != 0).then_some(Grounds::Misdelivered { replies })
}

pub(super) fn stamps(measured: &Measured) -> Option<Grounds> {
    let stamps = measured.stamps_impossible;
    (stamps != 0).then_some(Grounds::StampsImpossible { stamps })
}

/// Processes that ended early, other than workers that the scenario kills.
pub(super) fn deaths(workers: &[MemberRow], helper: Option<&HelperRow>, faults: &[EventRow]) -> Vec<Grounds> {
    let meant =
        |worker: &MemberRow| faults.iter().any(|fault| fault.kind == EventKind::Kill && fault.worker == worker.member);
    let workers = workers
        .iter()
        .filter(|worker| !worker.exit.is_ok() && !meant(worker))
        .map(|worker| (format!("worker {} (pid {})", worker.member, worker.pid), &worker.exit));
    let helper = helper.filter(|helper| !helper.exit.is_ok());
    let helper = helper.map(|helper| (format!("the strategy's helper (pid {})", helper.pid), &helper.exit));
    workers.chain(helper).map(|(process, exit)| Grounds::WorkerDied { process, exit: exit.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::words, *};

    #[test]
    fn an_imbalance_shows_its_sum() {
        let balanced =
            Connections { established: 12, accepted: 9, left_in_queue: 2, aborted: 1, ..Connections::default() };
        assert_eq!(connections(&balanced), None);
        for (accepted, unaccounted) in [(8, 1), (10, -1)] {
            let found = words(connections(&Connections { accepted, unaccounted, foreign: 3, ..balanced.clone() }));
            let sum =
                format!("12 established ≠ {accepted} accepted + 2 left in the queue + 1 aborted; 3 of those accepted");
            assert!(found.as_ref().is_some_and(|words| words.contains(&sum)), "{found:?}");
        }
        let balanced =
            Datagrams { sent: 12, received: 9, left_in_queue: 1, lost: 1, aborted: 1, ..Datagrams::default() };
        assert_eq!(datagrams(&balanced), None);
        assert_eq!(
            words(datagrams(&Datagrams { received: 8, unaccounted: 1, ..balanced })).unwrap(),
            "unaccounted: 12 datagrams sent ≠ 8 received + 1 left in the queue + 1 lost + 0 refused + 1 aborted"
        );
    }

    #[test]
    fn a_single_misdelivery_is_too_many() {
        let replies = |misdelivered| words(misdelivered_of(misdelivered));
        assert_eq!(replies(0), None);
        assert_eq!(replies(1).unwrap(), "misdelivered: 1 reply belongs to another connection");
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
    fn only_a_fault_may_kill_a_worker() {
        let worker =
            |member, exit: &str| MemberRow { member, pid: 7, exit: exit.to_owned().into(), ..MemberRow::default() };
        let workers = [worker(0, "ok"), worker(1, "killed by SIGKILL")];
        let said = |faults: &[EventRow], helper: &str| {
            let helper = HelperRow { pid: 8, exit: helper.to_owned().into(), ..HelperRow::default() };
            let deaths = deaths(&workers, Some(&helper), faults).into_iter();
            deaths.map(|death| words(Some(death)).unwrap()).collect::<Vec<_>>()
        };
        let fault = |kind, worker| EventRow { kind, worker, ..EventRow::default() };
        let died = "worker-died: worker 1 (pid 7): killed by SIGKILL";
        assert_eq!(said(&[], "ok"), [died]);
        assert_eq!(said(&[fault(EventKind::Kill, 0), fault(EventKind::Stall, 1)], "ok"), [died]);
        assert!(said(&[fault(EventKind::Kill, 1)], "ok").is_empty());
        let helper = "worker-died: the strategy's helper (pid 8): exit status 1";
        assert_eq!(said(&[fault(EventKind::Kill, 1)], "exit status 1"), [helper]);
    }
}
