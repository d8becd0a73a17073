//! What a loader keeps of its sessions, to resume them: the tickets that its server has given it. They stay in the loader's process, as
//! those of a client program would.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};

/// The most tickets of TLS 1.3 that a loader keeps, each of which serves once: beyond them, it forgets the oldest.
const LIMIT: usize = 4_096;

/// The tickets of a single server. One thread uses them.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    group: Option<NamedGroup>,
    /// Of TLS 1.2: it serves any number of times.
    session: Option<Tls12ClientSessionValue>,
    /// Of TLS 1.3, in the order in which they came.
    tickets: VecDeque<Tls13ClientSessionValue>,
    /// How many were taken.
    taken: u64,
}

impl Tickets {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often one was taken, to be offered to the server.
    pub fn taken(&self) -> u64 {
        self.kept().taken
    }
}

/// The tickets as a handshake sees them that offers one, or none.
#[derive(Debug)]
pub(super) struct Store {
    pub tickets: Arc<Tickets>,
    /// Whether one is offered if there is any.
    pub offers: bool,
}

impl ClientSessionStore for Store {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.tickets.kept().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.tickets.kept().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.tickets.kept().session = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let mut kept = self.tickets.kept();
        let session = kept.session.clone().filter(|_| self.offers);
        kept.taken += u64::from(session.is_some());
        session
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.tickets.kept().session = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let tickets = &mut self.tickets.kept().tickets;
        if tickets.len() == LIMIT {
            tickets.pop_front();
        }
        tickets.push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut kept = self.tickets.kept();
        // The newest: the server may have replaced the key of older ones.
        let ticket = if self.offers { kept.tickets.pop_back() } else { None };
        kept.taken += u64::from(ticket.is_some());
        ticket
    }
}
