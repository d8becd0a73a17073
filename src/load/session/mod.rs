//! A connection's session: it judges what the engine reports and decides what happens next. It does no input or output and reads
//! no clock: every call gets the time, and returns an [`Action`] for the driver.
//!
//! `exchange` holds the transitions, `verify` the checks of replies, `shared` what all sessions of a loader have in common.
//!
//! Bytes reach the session as they come off the wire and leave through [`Shared::out`], so a layer such as TLS, or a protocol with
//! state of its own, goes between [`Session::on_received`] and the client. Its state belongs behind a pointer, beside `input`: a
//! loader may hold tens of thousands of idle sessions.

mod exchange;
mod shared;
mod verify;

use std::num::NonZeroU16;

pub(super) use self::shared::{Ending, Ends, Policy, Shared};
use super::buffers::Kept;
use crate::{
    record::{Cause, Step},
    scenario::Transport,
};

/// What the driver is to do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing: it waits on.
    Continue,
    /// It begins to wait for something else.
    Wait(Wait),
    /// Send [`Shared::out`]. With a [`Wait`], it begins to wait for that.
    Send(Option<Wait>),
    /// It went as planned to its end: close it.
    Complete,
    /// It failed, in this step: close it.
    Fail(Step, Cause),
}

/// What a connection waits for, and so which time-out ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// To be established.
    Connect,
    /// A reply, or the server's close.
    Reply,
    /// The end of its hold.
    Hold,
}

impl Wait {
    pub const ALL: [Self; 3] = [Self::Connect, Self::Reply, Self::Hold];
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// connect(2) was called.
    Connecting,
    /// A request is under way, or its reply awaited; with app `close`, the server's close.
    Exchanging,
    /// All replies have come; the client keeps the connection open.
    Holding,
    /// All replies have come; the server closes first.
    AwaitingClose,
}

/// Which of a connection's exchanges is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exchange {
    /// Its response time counts from the intended start, its service time from the connect call.
    First,
    /// Both count from the request.
    Further,
    /// The scenario's follow-up: its response time counts from the instant that the scenario names.
    FollowUp,
}

/// One connection, or flow of datagrams. A loader may hold tens of thousands that do nothing, so it is kept small: what all have
/// in common is in [`Shared`].
#[derive(Debug)]
pub(super) struct Session {
    phase: Phase,
    exchange: Exchange,
    /// Its own port. 0: the connection was over before its port could be read.
    port: u16,
    /// Number of its own address: of its tuple group where groups name addresses, else among those that the kernel picked.
    address: u16,
    /// Nonce of the request under way.
    nonce: u32,
    /// Requests not yet begun.
    requests_left: u32,
    /// The schedule's time.
    intended_ns: u64,
    /// Just before connect(2).
    connect_ns: u64,
    /// Start of the wait that a time-out would end: of the connect, of the exchange under way, or of the close.
    waiting_since_ns: u64,
    /// When its hold ends, once it is held.
    hold_until_ns: u64,
    /// Who has answered so far.
    answered: Answered,
    /// Whether it is a flow of datagrams.
    is_flow: bool,
    /// Whether its figures are recorded.
    measured: bool,
    /// Whether a receipt has come: some worker has accepted it.
    served: bool,
    /// Whether its first request was made before it was known to be established.
    asked_early: bool,
    /// Whether part of a request is still to be sent.
    sending: bool,
    /// Whether its stages are recorded.
    staged: bool,
    /// A reply so far, while only part of it has come.
    input: Kept,
}

/// When a connection was to start, and when it did, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// The schedule's time.
    pub intended_ns: u64,
    /// Just before connect(2).
    pub connect_ns: u64,
}

impl Session {
    /// A connection that has begun to connect from a port of its own. `address` as [`Ends::number`] has it.
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
            hold_until_ns: 0,
            answered: Answered::default(),
            is_flow: transport == Transport::Udp,
            measured,
            served: false,
            asked_early: false,
            sending: false,
            staged: false,
            input: None,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn is_flow(&self) -> bool {
        self.is_flow
    }

    pub fn is_connecting(&self) -> bool {
        self.phase == Phase::Connecting
    }

    /// Whether it is held, with no exchange under way.
    pub fn is_holding(&self) -> bool {
        self.phase == Phase::Holding
    }

    /// Whether the reply to a follow-up is awaited.
    pub fn awaits_follow_up(&self) -> bool {
        self.exchange == Exchange::FollowUp && self.phase == Phase::Exchanging
    }

    pub fn waiting_since_ns(&self) -> u64 {
        self.waiting_since_ns
    }

    pub fn hold_until_ns(&self) -> u64 {
        self.hold_until_ns
    }

    /// The step that it is at, for the count of errors.
    pub fn step(&self) -> Step {
        match self.phase {
            Phase::Connecting => Step::Connect,
            Phase::Exchanging if self.sending => Step::Send,
            Phase::Exchanging => Step::Receive,
            Phase::Holding | Phase::AwaitingClose => Step::Close,
        }
    }

    fn enter(&mut self, phase: Phase, now_ns: u64) {
        self.phase = phase;
        self.waiting_since_ns = now_ns;
    }
}

/// Which workers have answered a connection or flow.
#[derive(Debug, Clone, Copy, Default)]
struct Answered {
    /// The first that did, its number plus one.
    first: Option<NonZeroU16>,
    /// Whether there was more than one reply.
    again: bool,
    /// Whether another worker answered as well.
    moved: bool,
}

impl Answered {
    fn by(&mut self, worker: u16) {
        self.again = self.first.is_some();
        let first = *self.first.get_or_insert(NonZeroU16::MIN.saturating_add(worker));
        self.moved |= first.get() - 1 != worker;
    }

    /// The worker that answered first.
    fn first(&self) -> Option<u16> {
        self.first.map(|first| first.get() - 1)
    }
}

#[cfg(test)]
mod tests;
