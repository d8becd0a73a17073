//! A client's connection and where it is on its way.

use mio::net::TcpStream;

use crate::ipc::{receipt::Tuple, tally::Step};

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// connect(2) was called.
    Connecting,
    /// A request is under way, or its reply awaited; with app `close`, the server's close.
    Exchanging,
    /// All replies are here; the client keeps the connection open.
    Holding,
    /// All replies are here; the server closes first.
    AwaitingClose,
}

/// One connection of a loader.
#[derive(Debug)]
pub struct Connection {
    pub stream: TcpStream,
    pub phase: Phase,
    /// Tells it from later connections in the same slot.
    pub id: u64,
    /// Both ends. A local port of 0 means that the connection was over before its port could be read.
    pub tuple: Tuple,
    /// The schedule's time.
    pub intended_ns: u64,
    /// Just before connect(2).
    pub connect_ns: u64,
    /// Begin of the wait that a time-out would end.
    pub waiting_since_ns: u64,
    /// From when the reply under way counts: the intended start for the first, the sending of the request for others.
    pub response_from_ns: u64,
    /// The same from the actual start.
    pub service_from_ns: u64,
    /// Whether its figures are recorded.
    pub measured: bool,
    /// Whether a receipt has come: some worker has accepted it.
    pub served: bool,
    /// Nonce of the request under way.
    pub nonce: u32,
    /// Requests not yet begun.
    pub requests_left: u64,
    /// A reply's bytes so far, where it did not come whole.
    pub input: Vec<u8>,
    /// A request's bytes that the socket did not take.
    pub unsent: Vec<u8>,
}

impl Connection {
    /// What the connection was about, for the count of errors.
    pub fn step(&self) -> Step {
        match self.phase {
            Phase::Connecting => Step::Connect,
            Phase::Exchanging if !self.unsent.is_empty() => Step::Send,
            Phase::Exchanging => Step::Receive,
            Phase::Holding | Phase::AwaitingClose => Step::Close,
        }
    }
}
