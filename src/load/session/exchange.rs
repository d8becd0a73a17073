//! A connection's transitions, from established over requests and replies to the close.

use super::{Action, Exchange, Phase, Policy, Rest, Session, Shared, Wait, shared::Manners, verify::Acceptance};
use crate::{
    ipc::control::LoaderCount,
    load::{
        client::{EXAMPLE_BYTES, Reply, Whole},
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
            shared.begin_flow(self);
            self.enter(Phase::Exchanging, self.connect_ns);
            return self.ask(shared, Some(Wait::Reply));
        }
        // With TCP_FASTOPEN, the kernel accepts bytes that it sends only with the SYN.
        if !shared.policy.asks_early() || self.is_to_listen(shared) {
            return Action::Continue;
        }
        self.asked_early = true;
        self.ask_first(shared, None)
    }

    /// Whether it waits a while before it asks. What a server sends without being asked looks like a reply if the request is on its way
    /// by then, so the first connection listens that serves no measurement; and if the server was heard, all others. The trial's own
    /// workers never speak first.
    fn is_to_listen<O: Observer>(&self, shared: &mut Shared<O>) -> bool {
        // With TLS, the client speaks first.
        if shared.is_secured() {
            return false;
        }
        match shared.manners {
            Manners::Unknown if !self.measured && !shared.observer.has_ledger() => {
                shared.manners = Manners::Tried;
                true
            }
            Manners::SpeaksFirst => true,
            Manners::Unknown | Manners::Tried => false,
        }
    }

    /// The engine reported an event.
    #[inline]
    pub fn on_event<O: Observer>(&mut self, shared: &mut Shared<O>, kind: Kind<'_>, now_ns: u64) -> Action {
        match kind {
            Kind::Received(bytes) => self.on_received(shared, bytes, now_ns),
            Kind::Early(bytes) => self.on_unasked(shared, bytes, Action::Continue),
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
        if shared.policy.is_silent() {
            // A header is all that the client sends.
            let sends_header = self.write_header(shared);
            return match self.begin_hold(shared, now_ns) {
                Action::Wait(wait) if sends_header => Action::Send(Some(wait)),
                action => action,
            };
        }
        if self.asked_early {
            return Action::Wait(Wait::Reply);
        }
        if shared.policy.asks_early() {
            self.enter(Phase::Listening, now_ns);
            // Where a header is expected, nobody speaks before it.
            let sends_header = self.write_header(shared);
            return if sends_header { Action::Send(Some(Wait::Unasked)) } else { Action::Wait(Wait::Unasked) };
        }
        self.ask_first(shared, Some(Wait::Reply))
    }

    /// The server has had the time to speak first, and has not.
    pub fn on_silence<O: Observer>(&mut self, shared: &mut Shared<O>, now_ns: u64) -> Action {
        self.enter(Phase::Exchanging, now_ns);
        self.ask(shared, Some(Wait::Reply))
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
        self.ask_first(shared, None)
    }

    /// The engine has taken the bytes of the last [`Action::Send`].
    #[inline]
    pub fn on_taken<O: Observer>(&mut self, shared: &mut Shared<O>, taken: Taken) {
        self.sending = taken != Taken::All;
        if self.is_flow {
            shared.account.add(LoaderCount::Sent, 1);
        }
    }

    /// The last [`Action::Send`] failed.
    pub fn on_send_failed<O: Observer>(&mut self, shared: &mut Shared<O>, cause: Cause, now_ns: u64) -> Action {
        if let Some(rest) = self.rest_after_close(shared, cause) {
            return Action::Renew(rest);
        }
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

    /// A request is due on a kept connection.
    pub fn on_due<O: Observer>(&mut self, shared: &mut Shared<O>, due_ns: u64, measured: bool, now_ns: u64) -> Action {
        self.exchange = Exchange::Due;
        (self.intended_ns, self.measured) = (due_ns, measured);
        self.enter(Phase::Exchanging, now_ns);
        self.ask(shared, Some(Wait::Reply))
    }

    /// The hold is over. A follow-up in progress still runs to its end.
    pub fn on_hold_over(&self) -> Action {
        if self.phase == Phase::Holding { Action::Complete } else { Action::Continue }
    }

    /// Makes a connection's first request, after the PROXY protocol header if it begins with one.
    fn ask_first<O: Observer>(&mut self, shared: &mut Shared<O>, wait: Option<Wait>) -> Action {
        self.write_header(shared);
        if shared.is_secured() && !self.is_flow {
            self.begin_tls(shared);
            return Action::Send(wait);
        }
        self.append_request(shared, wait)
    }

    /// Makes the next request.
    fn ask<O: Observer>(&mut self, shared: &mut Shared<O>, wait: Option<Wait>) -> Action {
        shared.out.clear();
        self.append_request(shared, wait)
    }

    /// Begins what is to be sent with a PROXY protocol header. Returns whether the scenario has one.
    fn write_header<O: Observer>(&self, shared: &mut Shared<O>) -> bool {
        shared.out.clear();
        let Some(version) = shared.policy.proxy_protocol else { return false };
        shared.ends.write_header(self, version, &mut shared.out);
        true
    }

    pub(super) fn append_request<O: Observer>(&mut self, shared: &mut Shared<O>, wait: Option<Wait>) -> Action {
        self.requests_left = self.requests_left.saturating_sub(1);
        self.nonce = shared.request(self.requests_left == 0);
        self.seal(shared);
        if self.is_flow { self.ask_of_flow(shared, wait) } else { Action::Send(wait) }
    }

    /// Marks a flow's request, and says where it goes out.
    fn ask_of_flow<O: Observer>(&self, shared: &mut Shared<O>, wait: Option<Wait>) -> Action {
        let Policy { rebind_after, .. } = shared.policy;
        let Some(flow) = shared.flows.get_mut(self.tag as usize) else { return Action::Send(wait) };
        let before = flow.asks(&mut shared.out, shared.observer.reloads());
        if rebind_after > 0 && before == rebind_after && !flow.has_rebound() {
            return Action::Rebind(wait);
        }
        Action::Send(wait)
    }

    /// A flow goes on from another port, where its request is not yet sent.
    pub fn on_rebound<O: Observer>(&mut self, shared: &mut Shared<O>, port: u16) {
        self.port = port;
        if let Some(flow) = shared.flows.get_mut(self.tag as usize) {
            flow.rebinds(&shared.account);
        }
    }

    /// Bytes have arrived.
    pub fn on_received<O: Observer>(&mut self, shared: &mut Shared<O>, fresh: &[u8], now_ns: u64) -> Action {
        if self.layer.is_some() { self.on_wire(shared, fresh, now_ns) } else { self.on_heard(shared, fresh, now_ns) }
    }

    /// The server has said something.
    pub(super) fn on_heard<O: Observer>(&mut self, shared: &mut Shared<O>, fresh: &[u8], now_ns: u64) -> Action {
        if shared.policy.is_silent() {
            if std::mem::replace(&mut self.exchange, Exchange::Heard) != Exchange::Heard {
                shared.account.add_unexpected(&fresh[..fresh.len().min(EXAMPLE_BYTES)]);
            }
            return Action::Continue;
        }
        if self.phase != Phase::Exchanging {
            let action = self.on_unasked(shared, fresh, Action::Continue);
            if self.phase == Phase::Listening && action != Action::Continue {
                shared.manners = Manners::SpeaksFirst;
            }
            return action;
        }
        let reply = shared.readings.read(&mut self.reading, |reading| {
            let reply = shared.client.take(reading, fresh);
            if reply == Reply::Bad(Cause::Mismatch) {
                shared.account.add_unexpected(reading.beginning());
            }
            reply
        });
        if let (true, Reply::Whole(Whole { receipt: Some(receipt), .. })) = (self.is_flow, &reply)
            && receipt.nonce != self.nonce
            && receipt.told_of(&shared.ends.tuple(self)).is_some()
        {
            // A late reply to an earlier, abandoned flow on the same port.
            shared.account.add(LoaderCount::Stale, 1);
            return Action::Continue;
        }
        match reply {
            Reply::Partial => Action::Continue,
            Reply::Bad(cause) => Action::Fail(Step::Receive, cause),
            // One request gets one datagram.
            Reply::Whole(Whole { used, .. }) if self.is_flow && used < fresh.len() => {
                Action::Fail(Step::Receive, Cause::BadReply)
            }
            Reply::Whole(whole) => {
                let used = whole.used;
                let action = self.on_reply(shared, &whole, now_ns);
                self.on_unasked(shared, &fresh[used..], action)
            }
        }
    }

    /// Bytes have arrived that answer no request, if there are any: nobody can tell what later ones would belong to.
    pub(super) fn on_unasked<O: Observer>(&self, shared: &Shared<O>, bytes: &[u8], otherwise: Action) -> Action {
        let fails = matches!(otherwise, Action::Fail(..));
        if bytes.is_empty() || fails || shared.client.may_ignore(bytes) {
            return otherwise;
        }
        Action::Fail(Step::Receive, Cause::Unasked)
    }

    /// A call by the engine failed, or the server has closed or reset the connection: as planned, as the end of a reply, or too early.
    pub fn on_ended<O: Observer>(&mut self, shared: &mut Shared<O>, step: Step, cause: Cause, now_ns: u64) -> Action {
        self.note_peer_gone();
        if let Some(rest) = self.rest_after_close(shared, cause) {
            return Action::Renew(rest);
        }
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
        if shared.policy.is_silent() {
            let cause = if cause == Cause::EndOfFile { Cause::HungUp } else { cause };
            return Action::Fail(Step::Close, cause);
        }
        if self.is_securing() {
            return Action::Fail(Step::Tls, cause);
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
            // Another program's server may close whenever nothing has been asked, and any may whose workers leave a kept connection.
            Phase::Holding if cause == Cause::EndOfFile && (policy.keeps || !shared.observer.has_ledger()) => {
                Action::Complete
            }
            Phase::Exchanging if as_agreed || cause == Cause::EndOfFile => self.on_last_bytes(shared, cause, now_ns),
            _ => Action::Fail(self.step(), cause),
        }
    }

    /// What is left to ask if the server closed just as a further request was on its way: it has not answered, so the request may be
    /// made again. Servers close idle connections, and after so many requests. The trial's own workers don't: if one closes, that is
    /// an event's effect.
    fn rest_after_close<O: Observer>(&self, shared: &mut Shared<O>, cause: Cause) -> Option<Rest> {
        let closed = matches!(cause, Cause::EndOfFile | Cause::Errno(libc::ECONNRESET | libc::EPIPE));
        let unanswered = self.phase == Phase::Exchanging
            && matches!(self.exchange, Exchange::Further | Exchange::Due)
            && self.reading.is_none();
        if self.is_flow || !closed || !unanswered || shared.observer.has_ledger() {
            return None;
        }
        shared.account.add(LoaderCount::Retried, 1);
        let requests = self.requests_left + 1;
        let since_ns = if self.exchange == Exchange::Due { self.intended_ns } else { self.waiting_since_ns };
        Some(Rest { since_ns, requests, measured: self.measured, hold: self.hold() })
    }

    /// No more bytes will arrive, which may make those received a whole reply.
    fn on_last_bytes<O: Observer>(&mut self, shared: &mut Shared<O>, cause: Cause, now_ns: u64) -> Action {
        let torn = self.reading.is_some() && cause == Cause::EndOfFile;
        let cause = if torn { Cause::Truncated } else { cause };
        if torn && self.may_be_cut() {
            // Somebody else may have ended the connection in the middle of the reply.
            return Action::Fail(Step::Receive, cause);
        }
        match shared.readings.read(&mut self.reading, |reading| shared.client.end(reading)) {
            Reply::Whole(whole) => match self.on_reply(shared, &whole, now_ns) {
                // The server is gone and cannot answer another request.
                Action::Send(_) | Action::Rebind(_) => Action::Fail(Step::Receive, Cause::EndOfFile),
                // The reply's end was the connection's end.
                Action::Continue | Action::Wait(_) | Action::Idle => Action::Complete,
                ended => ended,
            },
            Reply::Bad(Cause::EndOfFile) | Reply::Partial => Action::Fail(Step::Receive, cause),
            Reply::Bad(cause) => Action::Fail(Step::Receive, cause),
        }
    }

    /// A whole reply has arrived: checks that it belongs here, records it, and continues.
    fn on_reply<O: Observer>(&mut self, shared: &mut Shared<O>, whole: &Whole, now_ns: u64) -> Action {
        shared.account.add(LoaderCount::Replies, 1);
        if let Some(status) = whole.status {
            shared.account.add(status_class(status), 1);
        }
        if !self.verify(shared, whole, now_ns) {
            shared.account.add(LoaderCount::Misdelivered, 1);
            return Action::Fail(Step::Receive, Cause::BadReply);
        }
        self.record_response(shared, now_ns);
        if self.requests_left > 0 && whole.closes {
            return Action::Renew(Rest {
                since_ns: now_ns,
                requests: self.requests_left,
                measured: self.measured,
                hold: self.hold(),
            });
        }
        if self.requests_left > 0 {
            self.exchange = Exchange::Further;
            self.enter(Phase::Exchanging, now_ns);
            return self.ask(shared, Some(Wait::Reply));
        }
        if shared.policy.keeps {
            self.enter(Phase::Holding, now_ns);
            return if whole.closes { Action::Complete } else { Action::Idle };
        }
        if shared.policy.close_by == CloseBy::Server && !self.is_flow {
            self.enter(Phase::AwaitingClose, now_ns);
            return Action::Wait(Wait::Reply);
        }
        if self.exchange == Exchange::FollowUp {
            self.enter(Phase::Holding, now_ns);
            // The connection is still in the list of held ones.
            return if self.hold_until_ns() <= now_ns { Action::Complete } else { Action::Continue };
        }
        self.begin_hold(shared, now_ns)
    }

    /// Nothing is left to exchange: the client closes, after the hold if there is one.
    fn begin_hold<O: Observer>(&mut self, shared: &Shared<O>, now_ns: u64) -> Action {
        let hold_ns = self.planned_hold_ns(&shared.policy);
        if hold_ns == 0 {
            self.waiting_since_ns = now_ns;
            return Action::Complete;
        }
        self.hold_ns = now_ns + hold_ns;
        self.enter(Phase::Holding, now_ns);
        Action::Wait(Wait::Hold)
    }
}

/// The class of a final response's status. A client treats a code of an unknown class as 5xx (RFC 9110, section 15).
fn status_class(status: u16) -> LoaderCount {
    match status {
        200..=299 => LoaderCount::Successful,
        300..=399 => LoaderCount::Redirected,
        400..=499 => LoaderCount::ClientErrors,
        _ => LoaderCount::ServerErrors,
    }
}
