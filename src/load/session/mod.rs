//! A connection's session: it judges what the engine reports and decides what happens next. It does no input or output and reads
//! no clock: every call gets the time, and returns an [`Action`] for the driver. Only TLS, which takes the time to compute, asks when it is done.
//!
//! `exchange` holds the transitions, `verify` the checks of replies, `readings` what has been read of them, `flow` what only flows of datagrams
//! have, `shared` the state that all sessions of a loader share.
//!
//! Bytes reach the session as they come off the wire and leave through [`Shared::out`]. A layer such as that of `secure`, which is TLS,
//! goes between [`Session::on_received`] and the client. Its state is behind a pointer, beside `reading`: a loader may hold tens of
//! thousands of idle sessions.

mod exchange;
mod flow;
mod readings;
mod secure;
mod shared;
mod verify;

use self::secure::Layer;
pub(super) use self::shared::{Ending, Ends, Policy, Shared};
use super::client::Reading;
use crate::{
    record::{Cause, Step},
    scenario::Transport,
};

/// Whether the hold of a connection that was due at `intended_ns`, or what would have been, covers an instant.
pub(super) fn is_to_be_held_at(at_ns: u64, intended_ns: u64, hold_ns: u64) -> bool {
    (intended_ns..intended_ns.saturating_add(hold_ns)).contains(&at_ns)
}

/// What the driver must do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing: it keeps waiting.
    Continue,
    /// Make it wait for something else.
    Wait(Wait),
    /// Send [`Shared::out`], and make it wait for what is given, if anything.
    Send(Option<Wait>),
    /// The same, from another port of its client.
    Rebind(Option<Wait>),
    /// Keep it open until its next request is due.
    Idle,
    /// Close it: it ran to its planned end.
    Complete,
    /// Close it: the server has ended it after a reply. What is left of its requests goes on another connection.
    Renew(Rest),
    /// Close it: it failed in this step.
    Fail(Step, Cause),
}

/// What is left of the requests of a connection that the server has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    /// Since when the next of them has been due.
    pub since_ns: u64,
    pub requests: u32,
    /// Whether their figures are recorded.
    pub measured: bool,
    /// How long the connection is to be held after the last of them.
    pub hold: Hold,
}

/// How long a client is to keep a connection open after the last reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// As the scenario says of all.
    OfPolicy,
    /// As a trace says of this one, in nanoseconds.
    Own(u64),
}

/// What a connection waits for, which determines the time-out that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// To be established.
    Connect,
    /// Whatever the server sends before it is asked.
    Unasked,
    /// A reply, or the server's close.
    Reply,
    /// The end of its hold.
    Hold,
}

impl Wait {
    pub const ALL: [Self; 4] = [Self::Connect, Self::Unasked, Self::Reply, Self::Hold];
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// connect(2) was called.
    Connecting,
    /// It is established, and the client waits whether the server speaks first.
    Listening,
    /// A request is being sent, or its reply awaited; with app `close`, the server's close.
    Exchanging,
    /// All replies have arrived, or none is expected; the client keeps the connection open.
    Holding,
    /// All replies have arrived; the server closes first.
    AwaitingClose,
}

/// Which of a connection's exchanges is in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exchange {
    /// Its response time counts from the intended start, its service time from the connect call.
    First,
    /// Both count from the request.
    Further,
    /// A request that was due on a kept connection: its response time counts from then, its service time from when it was made.
    Due,
    /// None, as the client says nothing; but the server has said something.
    Heard,
    /// The scenario's follow-up: its response time counts from the instant that the scenario names.
    FollowUp,
}

/// What stands for [`Hold::OfPolicy`] in a session, which is kept small.
const OF_POLICY: u64 = u64::MAX;

/// One connection or datagram flow. A loader may hold tens of thousands of idle ones, so it is kept small: what they have in common
/// is in [`Shared`].
#[derive(Debug)]
pub(super) struct Session {
    phase: Phase,
    exchange: Exchange,
    /// Its local port; 0 if the connection was over before its port could be read.
    port: u16,
    /// Number of its local address: that of its tuple group if groups name addresses, otherwise among those that the kernel picked.
    address: u16,
    /// Nonce of the current request.
    nonce: u32,
    /// Requests not yet begun.
    requests_left: u32,
    /// When the schedule intended it to start.
    intended_ns: u64,
    /// When connect(2) was called.
    connect_ns: u64,
    /// Start of the wait that a time-out would end: for the connect, the current exchange, or the close.
    waiting_since_ns: u64,
    /// When its hold ends, once it is held; before that, how long a trace has it held, or [`OF_POLICY`].
    hold_ns: u64,
    /// Of a connection, one more than the number of the worker that answered first, or 0; of a flow, its number in [`Shared`].
    tag: u32,
    /// Whether it is a datagram flow.
    is_flow: bool,
    /// Whether its figures are recorded.
    measured: bool,
    /// Whether a receipt has arrived, and so some worker has accepted it.
    served: bool,
    /// Whether its first request was made before it was known to be established.
    asked_early: bool,
    /// Whether part of a request is still unsent.
    sending: bool,
    /// Whether its stages are recorded.
    staged: bool,
    /// What has been read of a reply that is not yet whole.
    reading: Option<Box<Reading>>,
    /// Its TLS, once it has begun.
    layer: Option<Box<Layer>>,
}

/// When a connection was meant to start, and when it did, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// When the schedule intended it to start.
    pub intended_ns: u64,
    /// When connect(2) was called.
    pub connect_ns: u64,
}

impl Session {
    /// A connection that has begun to connect. `address` and `port` are those of [`Ends::number`].
    pub fn new(transport: Transport, (address, port): (u16, u16), start: Start, requests: u32, measured: bool) -> Self {
        Self {
            phase: Phase::Connecting,
            exchange: Exchange::First,
            port,
            address,
            nonce: 0,
            requests_left: requests,
            intended_ns: start.intended_ns,
            connect_ns: start.connect_ns,
            waiting_since_ns: start.connect_ns,
            hold_ns: OF_POLICY,
            tag: 0,
            is_flow: transport == Transport::Udp,
            measured,
            served: false,
            asked_early: false,
            sending: false,
            staged: false,
            reading: None,
            layer: None,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// When connect(2) was called.
    pub fn connect_ns(&self) -> u64 {
        self.connect_ns
    }

    pub fn is_flow(&self) -> bool {
        self.is_flow
    }

    pub fn is_connecting(&self) -> bool {
        self.phase == Phase::Connecting
    }

    /// Whether it is held, with no exchange in progress.
    pub fn is_holding(&self) -> bool {
        self.phase == Phase::Holding
    }

    /// Whether the reply to a follow-up is awaited.
    pub fn awaits_follow_up(&self) -> bool {
        self.exchange == Exchange::FollowUp && self.phase == Phase::Exchanging
    }

    /// Requests that it was to make, other than a follow-up, and that have not been answered.
    fn unanswered(&self) -> u64 {
        let left = u64::from(self.requests_left);
        match self.phase {
            // Its first request follows the handshake.
            Phase::Connecting | Phase::Exchanging if self.is_securing() => left.max(1),
            // App `close` answers one that is never made.
            Phase::Connecting if !self.asked_early => left.max(1),
            Phase::Listening => left.max(1),
            Phase::Connecting => left + 1,
            Phase::Exchanging if self.exchange != Exchange::FollowUp => left + 1,
            Phase::Exchanging | Phase::Holding | Phase::AwaitingClose => 0,
        }
    }

    pub fn waiting_since_ns(&self) -> u64 {
        self.waiting_since_ns
    }

    /// When the hold of one that is held ends.
    pub fn hold_until_ns(&self) -> u64 {
        self.hold_ns
    }

    /// The same connection, to be held for so long.
    pub fn held_for(self, hold: Hold) -> Self {
        let hold_ns = match hold {
            Hold::OfPolicy => OF_POLICY,
            Hold::Own(hold_ns) => hold_ns.min(OF_POLICY - 1),
        };
        Self { hold_ns, ..self }
    }

    /// How long it is to be held, of one that is not held yet.
    fn hold(&self) -> Hold {
        if self.hold_ns == OF_POLICY { Hold::OfPolicy } else { Hold::Own(self.hold_ns) }
    }

    /// The same in nanoseconds, also of one that is held.
    fn planned_hold_ns(&self, policy: &Policy) -> u64 {
        match self.hold() {
            Hold::OfPolicy => policy.hold_ns,
            Hold::Own(until_ns) if self.phase == Phase::Holding => until_ns.saturating_sub(self.waiting_since_ns),
            Hold::Own(hold_ns) => hold_ns,
        }
    }

    /// Its current step, for counting errors.
    pub fn step(&self) -> Step {
        match self.phase {
            Phase::Connecting => Step::Connect,
            Phase::Exchanging if self.is_securing() => Step::Tls,
            Phase::Exchanging if self.sending => Step::Send,
            Phase::Exchanging | Phase::Listening => Step::Receive,
            Phase::Holding | Phase::AwaitingClose => Step::Close,
        }
    }

    /// The worker that answered a connection first.
    fn first_worker(&self) -> Option<u16> {
        self.tag.checked_sub(1).map(|worker| worker as u16)
    }

    fn enter(&mut self, phase: Phase, now_ns: u64) {
        self.phase = phase;
        self.waiting_since_ns = now_ns;
    }
}

#[cfg(test)]
mod tests;
