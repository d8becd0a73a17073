//! A connection's transitions, from established over requests and replies to the close.

use super::{Action, Exchange, Phase, Session, Shared, Wait, verify::Acceptance};
use crate::{
    ipc::{control::LoaderCount, receipt::Receipt},
    load::{
        buffers,
        client::Reply,
        engine::{Kind, Taken},
        observer::Observer,
    },
    record::{Cause, Step},
    scenario::{App, CloseBy, CloseHow},
};

const RESET: Cause = Cause::Errno(libc::ECONNRESET);

impl Session {
    /// Its socket has begun to connect: returns what can be sent at once. On loopback, and wherever else the handshake is over when
    /// connect(2) returns, there is no event to wait for, and the worker that accepts finds the request already there.
    pub fn on_started<O: Observer>(&mut self, shared: &mut Shared<O>) -> Action {
        if self.is_flow {
            shared.report.flows.begun += 1;
            self.enter(Phase::Exchanging, self.connect_ns);
            return self.ask(shared, Some(Wait::Reply));
        }
        // With TCP_FASTOPEN, the kernel accepts bytes that it sends only with the SYN.
        if shared.policy.app == App::Close || shared.policy.fastopen {
            return Action::Continue;
        }
        self.asked_early = true;
        self.ask(shared, None)
    }

    /// The engine reported an event.
    #[inline]
    pub fn on_event<O: Observer>(&mut self, shared: &mut Shared<O>, kind: Kind<'_>, now_ns: u64) -> Action {
        match kind {
            Kind::Received(bytes) => self.on_received(shared, bytes, now_ns),
            Kind::Connected => self.on_connected(shared, now_ns),
            Kind::FastOpen => self.on_fast_open(shared),
            Kind::Sent => {
                self.sending = false;
                Action::Continue
            }
            Kind::Ended(step, cause) => self.on_ended(shared, step, cause, now_ns),
        }
    }

    /// The connection is established.
    pub fn on_connected<O: Observer>(&mut self, shared: &mut Shared<O>, now_ns: u64) -> Action {
        self.on_settled(shared, now_ns);
        if self.asked_early { Action::Wait(Wait::Reply) } else { self.ask(shared, Some(Wait::Reply)) }
    }

    /// The connection turns out to be established, but is abandoned anyway.
    pub fn on_settled<O: Observer>(&mut self, shared: &mut Shared<O>, now_ns: u64) {
        self.enter(Phase::Exchanging, now_ns);
        shared.established(self, now_ns);
    }

    /// A request can go out with the SYN.
    fn on_fast_open<O: Observer>(&mut self, shared: &mut Shared<O>) -> Action {
        if self.asked_early {
            return Action::Continue;
        }
        self.asked_early = true;
        self.ask(shared, None)
    }

    /// The engine has taken the bytes of the last [`Action::Send`].
    #[inline]
    pub fn on_taken<O: Observer>(&mut self, shared: &mut Shared<O>, taken: Taken) {
        self.sending = taken != Taken::All;
        if self.is_flow {
            shared.report.flows.sent += 1;
            shared.observer.count(LoaderCount::Sent);
        }
    }

    /// The last [`Action::Send`] failed.
    pub fn on_send_failed<O: Observer>(&mut self, shared: &mut Shared<O>, cause: Cause, now_ns: u64) -> Action {
        if self.phase != Phase::Connecting || shared.policy.fastopen {
            // A datagram that the kernel does not take is lost: loaders do not retry.
            return Action::Fail(Step::Send, cause);
        }
        if cause == RESET {
            // Established and then reset: the exchange decides what that means.
            return self.on_ended(shared, Step::Receive, cause, now_ns);
        }
        Action::Fail(Step::Connect, cause)
    }

    /// The scenario's follow-up is due on a held connection, whose hold goes on.
    pub fn on_follow_up<O: Observer>(&mut self, shared: &mut Shared<O>, now_ns: u64) -> Action {
        self.exchange = Exchange::FollowUp;
        self.enter(Phase::Exchanging, now_ns);
        self.ask(shared, None)
    }

    /// The hold is over. A follow-up in progress still runs to its end.
    pub fn on_hold_over(&self) -> Action {
        if self.phase == Phase::Holding { Action::Complete } else { Action::Continue }
    }

    /// Makes the next request.
    fn ask<O: Observer>(&mut self, shared: &mut Shared<O>, wait: Option<Wait>) -> Action {
        self.requests_left = self.requests_left.saturating_sub(1);
        self.nonce = shared.request(self.requests_left == 0);
        Action::Send(wait)
    }

    /// Bytes have arrived.
    pub fn on_received<O: Observer>(&mut self, shared: &mut Shared<O>, fresh: &[u8], now_ns: u64) -> Action {
        if self.phase != Phase::Exchanging {
            return Action::Fail(Step::Close, Cause::BadReply);
        }
        let waited = self.input.is_some();
        if waited {
            shared.buffers.append(&mut self.input, fresh);
        }
        let input = if waited { buffers::bytes(&self.input) } else { fresh };
        let (had, reply) = (input.len(), shared.client.take(input, false));
        match (waited, matches!(reply, Reply::Partial)) {
            (false, true) => shared.buffers.append(&mut self.input, fresh),
            (true, false) => shared.buffers.clear(&mut self.input),
            _ => {}
        }
        if let (true, Reply::Whole { receipt: Some(receipt), .. }) = (self.is_flow, &reply)
            && receipt.nonce != self.nonce
            && receipt.is_of(&shared.ends.tuple(self))
        {
            // A late reply to an earlier, abandoned flow on the same port.
            shared.report.flows.stale += 1;
            return Action::Continue;
        }
        match reply {
            Reply::Partial => Action::Continue,
            Reply::Bad(cause) => Action::Fail(Step::Receive, cause),
            // One request gets one reply.
            Reply::Whole { length, .. } if length != had => Action::Fail(Step::Receive, Cause::BadReply),
            Reply::Whole { receipt, .. } => self.on_reply(shared, receipt, now_ns),
        }
    }

    /// A call by the engine failed, or the server has closed or reset the connection: as planned, as the end of a reply, or too early.
    pub fn on_ended<O: Observer>(&mut self, shared: &mut Shared<O>, step: Step, cause: Cause, now_ns: u64) -> Action {
        if step != Step::Receive {
            return Action::Fail(step, cause);
        }
        if self.is_flow {
            // ICMP reported an unused port, or an empty datagram arrived, which is not a reply.
            let cause = if cause == Cause::EndOfFile { Cause::BadReply } else { cause };
            return Action::Fail(Step::Receive, cause);
        }
        if self.phase == Phase::Connecting {
            // A connection that its peer ends was established, even if no event showed it.
            self.on_settled(shared, now_ns);
        }
        let policy = &shared.policy;
        let reset = cause == RESET;
        let as_agreed = policy.close_by == CloseBy::Server && reset == (policy.close_how == CloseHow::Rst);
        // A close without data is app `close`'s reply, but only from a worker: the kernel also resets what it aborts.
        if policy.app == App::Close && self.acceptance(shared) == Acceptance::Never {
            return Action::Fail(Step::Receive, cause);
        }
        match self.phase {
            Phase::AwaitingClose if as_agreed => Action::Complete,
            Phase::Exchanging if as_agreed || cause == Cause::EndOfFile => self.on_last_bytes(shared, cause, now_ns),
            _ => Action::Fail(self.step(), cause),
        }
    }

    /// No more bytes will arrive, which may make those received a whole reply.
    fn on_last_bytes<O: Observer>(&mut self, shared: &mut Shared<O>, cause: Cause, now_ns: u64) -> Action {
        match shared.client.take(buffers::bytes(&self.input), true) {
            Reply::Whole { receipt, .. } => match self.on_reply(shared, receipt, now_ns) {
                // The server is gone and cannot answer another request.
                Action::Send(_) => Action::Fail(Step::Receive, Cause::EndOfFile),
                // The reply's end was the connection's end.
                Action::Continue | Action::Wait(_) => Action::Complete,
                ended => ended,
            },
            Reply::Bad(Cause::EndOfFile) | Reply::Partial => Action::Fail(Step::Receive, cause),
            Reply::Bad(cause) => Action::Fail(Step::Receive, cause),
        }
    }

    /// A whole reply has arrived: checks that it belongs here, records it, and continues.
    fn on_reply<O: Observer>(&mut self, shared: &mut Shared<O>, receipt: Option<Receipt>, now_ns: u64) -> Action {
        shared.report.replies += 1;
        if !self.verify(shared, receipt, now_ns) {
            shared.report.misdelivered += 1;
            return Action::Fail(Step::Receive, Cause::BadReply);
        }
        self.record_response(shared, now_ns);
        if self.requests_left > 0 {
            self.exchange = Exchange::Further;
            self.enter(Phase::Exchanging, now_ns);
            return self.ask(shared, Some(Wait::Reply));
        }
        if shared.policy.close_by == CloseBy::Server && !self.is_flow {
            self.enter(Phase::AwaitingClose, now_ns);
            return Action::Wait(Wait::Reply);
        }
        if self.exchange == Exchange::FollowUp {
            self.enter(Phase::Holding, now_ns);
            // The connection is still in the list of held ones.
            return if self.hold_until_ns <= now_ns { Action::Complete } else { Action::Continue };
        }
        let hold_ns = shared.policy.hold_ns;
        if hold_ns == 0 {
            self.waiting_since_ns = now_ns;
            return Action::Complete;
        }
        self.hold_until_ns = now_ns + hold_ns;
        self.enter(Phase::Holding, now_ns);
        Action::Wait(Wait::Hold)
    }
}
