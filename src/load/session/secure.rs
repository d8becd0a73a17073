//! TLS below requests and replies: the handshake once a connection is established, and what is said within it.

use super::{Action, Phase, Session, Shared, Wait};
use crate::{
    ipc::control::LoaderCount,
    load::observer::Observer,
    record::{Cause, Step},
    sys::clock,
    tls::{self, Offer, Secured},
};

/// A connection's TLS.
#[derive(Debug)]
pub(super) struct Layer {
    session: tls::Session,
    /// When its handshake was over; 0 until then.
    secured_ns: u64,
    /// Whether the server has ended the connection.
    is_gone: bool,
}

impl Session {
    /// Whether its TLS handshake is in progress.
    pub(super) fn is_securing(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| layer.secured_ns == 0)
    }

    /// When its TLS handshake was over; `None` without TLS.
    pub(super) fn secured_ns(&self) -> Option<u64> {
        self.layer.as_ref().map(|layer| layer.secured_ns).filter(|at_ns| *at_ns > 0)
    }

    /// Whether its end may have cut off what the server was saying.
    pub(super) fn may_be_cut(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| !layer.session.is_ended())
    }

    /// Begins TLS: appends the client's first message to what is to be sent.
    pub(super) fn begin_tls<O: Observer>(&mut self, shared: &mut Shared<O>) {
        let Some(client) = &mut shared.tls else { return };
        let (mut session, offer) = client.open();
        let count = match offer {
            Offer::None => None,
            Offer::Made => Some(LoaderCount::TicketsOffered),
            Offer::Impossible => Some(LoaderCount::TicketsMissing),
        };
        if let Some(count) = count {
            shared.account.add(count, 1);
        }
        session.give(&mut shared.out);
        self.layer = Some(Box::new(Layer { session, secured_ns: 0, is_gone: false }));
    }

    /// Replaces what is to be said by what is to be sent for it.
    pub(super) fn seal<O: Observer>(&mut self, shared: &mut Shared<O>) {
        let Some(layer) = &mut self.layer else { return };
        layer.session.say(&shared.out);
        shared.out.clear();
        layer.session.give(&mut shared.out);
    }

    /// Bytes of TLS have arrived.
    pub(super) fn on_wire<O: Observer>(&mut self, shared: &mut Shared<O>, wire: &[u8], now_ns: u64) -> Action {
        let Some(layer) = &mut self.layer else { return Action::Continue };
        let mut said = std::mem::take(&mut shared.said);
        said.clear();
        let taken = layer.session.take(wire, &mut said);
        let secured = if layer.secured_ns == 0 { layer.session.secured() } else { None };
        let action = match (taken, secured) {
            (Err(cause), _) => Action::Fail(if self.is_securing() { Step::Tls } else { Step::Receive }, cause),
            (Ok(()), Some(secured)) => {
                let action = self.on_secured(shared, secured, now_ns);
                self.on_unasked(shared, &said, action)
            }
            (Ok(()), None) if said.is_empty() => Action::Continue,
            (Ok(()), None) => self.on_heard(shared, &said, now_ns),
        };
        shared.said = said;
        let is_over = self.layer.as_ref().is_some_and(|layer| layer.session.is_ended() && !layer.is_gone);
        if is_over && action == Action::Continue && self.phase == Phase::Exchanging {
            // The server has said all, which may end its reply; some wait for the client to close.
            return self.on_ended(shared, Step::Receive, Cause::EndOfFile, now_ns);
        }
        self.answer(shared, action)
    }

    /// The handshake is over: asks.
    fn on_secured<O: Observer>(&mut self, shared: &mut Shared<O>, secured: Secured, now_ns: u64) -> Action {
        // What the client had to compute is part of the handshake, and the event was earlier.
        let secured_ns = clock::monotonic_ns().max(now_ns);
        if let Some(layer) = &mut self.layer {
            layer.secured_ns = secured_ns;
        }
        shared.secured(secured, self.measured.then(|| secured_ns - self.waiting_since_ns), secured_ns);
        self.enter(Phase::Exchanging, secured_ns);
        shared.out.clear();
        self.append_request(shared, Some(Wait::Reply))
    }

    /// Sends what TLS has to say of its own, such as that it takes another key, unless something is sent anyway.
    fn answer<O: Observer>(&mut self, shared: &mut Shared<O>, action: Action) -> Action {
        let wait = match action {
            Action::Continue => None,
            Action::Wait(wait) => Some(wait),
            _ => return action,
        };
        shared.out.clear();
        self.seal(shared);
        if shared.out.is_empty() { action } else { Action::Send(wait) }
    }

    /// The server has ended the connection.
    pub(super) fn note_peer_gone(&mut self) {
        if let Some(layer) = &mut self.layer {
            layer.is_gone = true;
        }
    }

    /// Writes what TLS says last, before the client closes: that nothing more will come or, if the handshake failed, why. Returns whether
    /// there is anything.
    pub fn part<O: Observer>(&mut self, shared: &mut Shared<O>, is_orderly: bool) -> bool {
        let Some(layer) = self.layer.as_mut().filter(|layer| !layer.is_gone) else { return false };
        if is_orderly && !layer.session.is_ended() {
            layer.session.end();
        }
        shared.out.clear();
        layer.session.give(&mut shared.out);
        !shared.out.is_empty()
    }
}
