//! Splits a connection's time into stages, from its intended start to its end. Each stage ends where the next begins, so their
//! means add up to that of the response.

use crate::{ipc::ledger::Journey, record::Stage};

/// The instants of a connection known to its client, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instants {
    pub intended_ns: u64,
    pub connect_ns: u64,
    /// The kernel's stamp; `None` without stamps.
    pub established_ns: Option<u64>,
    /// When the worker had it, from the reply's receipt.
    pub accept_ns: u64,
    /// When its TLS handshake was over; `None` without TLS.
    pub secured_ns: Option<u64>,
    pub replied_ns: u64,
}

/// The lengths of the stages up to the first reply. `None` if the worker's instants belong to another connection.
pub(super) fn lengths(client: &Instants, worker: &Journey) -> Option<impl Iterator<Item = (Stage, u64)>> {
    let queued_ns = client.established_ns.unwrap_or(client.connect_ns);
    // Whoever accepted was already awake if the connection was established after the wake-up.
    let woke_ns = worker.woke_ns.clamp(queued_ns, worker.returned_ns.max(queued_ns));
    let (handshake, queue) = match client.established_ns {
        Some(_) => (Stage::Handshake, Stage::Queue),
        None => (Stage::HandshakeAndQueue, Stage::HandshakeAndQueue),
    };
    let asked_ns = client.secured_ns.unwrap_or(worker.read_ns);
    let borders = [
        (Stage::Lag, client.intended_ns, client.connect_ns),
        (handshake, client.connect_ns, queued_ns),
        (queue, queued_ns, woke_ns),
        (Stage::Accept, woke_ns, worker.returned_ns),
        (Stage::HandOver, worker.returned_ns, worker.accept_ns),
        (Stage::Read, worker.accept_ns, worker.read_ns),
        (Stage::Tls, worker.read_ns, asked_ns),
        (Stage::Serve, asked_ns, worker.replied_ns),
        (Stage::Return, worker.replied_ns, client.replied_ns),
    ];
    let same = worker.accept_ns == client.accept_ns && borders.iter().all(|(_, from, to)| from <= to);
    let (stamped, handed_over) = (client.established_ns.is_some(), worker.returned_ns < worker.accept_ns);
    let secured = client.secured_ns.is_some();
    let happened = move |(place, (stage, ..)): &(usize, (Stage, u64, u64))| {
        (stamped || *place != 1) && (handed_over || *stage != Stage::HandOver) && (secured || *stage != Stage::Tls)
    };
    let stages = borders.into_iter().enumerate().filter(happened);
    same.then(|| stages.map(|(_, (stage, from, to))| (stage, to - from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Instants = Instants {
        intended_ns: 100,
        connect_ns: 130,
        established_ns: Some(150),
        accept_ns: 300,
        secured_ns: None,
        replied_ns: 900,
    };
    const WORKER: Journey = Journey { woke_ns: 280, returned_ns: 300, accept_ns: 300, read_ns: 340, replied_ns: 800 };

    fn found(client: &Instants, worker: &Journey) -> Vec<u64> {
        lengths(client, worker).map(|lengths| lengths.map(|(_, length)| length).collect()).unwrap_or_default()
    }

    #[test]
    fn stages_add_up_to_the_response() {
        assert_eq!(found(&CLIENT, &WORKER), [30, 20, 130, 20, 40, 460, 100]);
        let unstamped = Instants { established_ns: None, ..CLIENT };
        assert_eq!(found(&unstamped, &WORKER), [30, 150, 20, 40, 460, 100]);
        // Awake before the connection was established.
        assert_eq!(found(&CLIENT, &Journey { woke_ns: 140, ..WORKER }), [30, 20, 0, 150, 40, 460, 100]);
    }

    #[test]
    fn a_tls_handshake_is_a_stage_of_its_own() {
        let secured = Instants { secured_ns: Some(700), ..CLIENT };
        assert_eq!(found(&secured, &WORKER), [30, 20, 130, 20, 40, 360, 100, 100]);
        let names: Vec<Stage> = lengths(&secured, &WORKER).unwrap().map(|(stage, _)| stage).collect();
        assert_eq!(names[4..7], [Stage::Read, Stage::Tls, Stage::Serve]);
        // Secured before a byte was read, or after the reply: another connection's.
        for secured_ns in [339, 801] {
            assert!(found(&Instants { secured_ns: Some(secured_ns), ..CLIENT }, &WORKER).is_empty());
        }
    }

    #[test]
    fn a_hand_over_is_a_stage_of_its_own() {
        let handed_over = Journey { woke_ns: 220, returned_ns: 230, ..WORKER };
        assert_eq!(found(&CLIENT, &handed_over), [30, 20, 70, 10, 70, 40, 460, 100]);
        // A thread that blocks in accept wakes up as accept returns.
        assert_eq!(found(&CLIENT, &Journey { woke_ns: 230, ..handed_over }), [30, 20, 80, 0, 70, 40, 460, 100]);
        let names: Vec<Stage> = lengths(&CLIENT, &handed_over).unwrap().map(|(stage, _)| stage).collect();
        assert_eq!(names[3..5], [Stage::Accept, Stage::HandOver]);
        // Accepted before it was established: another connection's.
        assert!(found(&CLIENT, &Journey { returned_ns: 140, ..WORKER }).is_empty());
    }

    #[test]
    fn another_connections_journey_is_refused() {
        assert!(found(&CLIENT, &Journey { accept_ns: 299, ..WORKER }).is_empty());
        assert!(found(&CLIENT, &Journey { replied_ns: 901, ..WORKER }).is_empty());
    }
}
