//! The ways to move bytes: one file per engine, behind one trait.
//!
//! An engine owns the sockets. It connects them, sends, receives and closes, and reports what happened as events. It knows nothing
//! of requests, replies, schedules or measures: sessions judge the events, and the driver tells the engine what to do next.

mod mio;
mod seats;
mod uring;

use std::{io, net::SocketAddr};

use anyhow::{Context, Result};

use super::{dialler::Dialler, source::Group};
use crate::{
    record::{Cause, Step},
    scenario::{Engine as Choice, Load, Scenario, Transport},
    sys::uring::ClientRing,
};

/// Moves the bytes of many connections. Connections have keys: small numbers that are reused once a connection is closed, the one
/// freed last first.
pub(super) trait Engine {
    /// The name in scenarios.
    fn name(&self) -> &'static str;

    /// Provides a key and a socket that is about to connect: the one that the key's last connection left, or a new one.
    fn open(&mut self, transport: Transport, dialler: &Dialler) -> io::Result<Opened>;

    /// Begins to connect an opened socket, and returns its local address. On failure, the key is free again.
    fn connect(&mut self, key: usize, dialler: &mut Dialler, group: &Group) -> Result<SocketAddr, (Step, io::Error)>;

    /// Gives a flow of datagrams another port, and returns its local address. The old one stays taken until the flow is closed, and what arrives
    /// there is lost.
    fn rebind(&mut self, key: usize, dialler: &mut Dialler, group: &Group) -> Result<SocketAddr, (Step, io::Error)>;

    /// Sends bytes after those still unsent, or one datagram. What the socket does not take at once is kept and sent later, and
    /// [`Kind::Sent`] reports when it has gone out. A datagram is not kept.
    fn send(&mut self, key: usize, bytes: &[u8]) -> io::Result<Taken>;

    /// Gives the socket the last bytes of a connection that is closed next, by FIN, and forgets what it does not take. They travel with the FIN:
    /// two segments would be sent again where the server is slow to read them, as if they were lost (a tail loss probe).
    fn send_last(&mut self, key: usize, bytes: &[u8]);

    /// Makes the engine watch a connection. Called after the start, and after bytes were sent outside an event.
    fn watch(&mut self, key: usize) -> Result<()>;

    /// Waits for events until an instant of CLOCK_MONOTONIC, or only polls.
    fn wait(&mut self, until_ns: Option<u64>) -> Result<()>;

    /// The next pending event. Its connection may be used or closed before the next call. Where peers send as fast as they are read, there
    /// may always be one: what is left after the last call is kept, and the next wait only polls.
    fn next(&mut self) -> Result<Option<Event<'_>>>;

    /// Settles whether a handshake in progress has succeeded. If it has not, it never will.
    fn settle(&mut self, key: usize) -> bool;

    /// Whether the socket has a connection that neither side has reset or both sides have closed.
    fn has_connection(&self, key: usize) -> bool;

    /// How many SYNs of a connection just established, or not yet, the kernel has sent again.
    fn syn_retries(&self, key: usize) -> u32;

    /// Whether an established connection is by MPTCP; `None` if it was reset too early to tell.
    fn is_multipath(&self, key: usize) -> Option<bool>;

    /// Closes a connection, which then causes no more events.
    fn close(&mut self, key: usize, how: Close);
}

/// A socket that is about to connect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened {
    pub key: usize,
    /// Whether an earlier connection has used the socket.
    pub recycled: bool,
}

/// How much of the bytes the socket took at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    All,
    Part,
    Nothing,
}

/// How a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// By FIN.
    Fin,
    /// By reset.
    Rst,
    /// By reset, and the socket serves the key's next connection.
    Recycle,
}

/// Something that happened on a connection.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub key: usize,
    pub kind: Kind<'a>,
    /// When the engine picked it up, in nanoseconds of CLOCK_MONOTONIC.
    pub now_ns: u64,
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// The connection is established.
    Connected,
    /// There is no connection yet, but bytes may be sent, and go out with the SYN (TCP_FASTOPEN).
    FastOpen,
    /// Bytes, or one datagram, arrived.
    Received(&'a [u8]),
    /// Bytes arrived before any were sent.
    Early(&'a [u8]),
    /// The bytes that the socket had not taken at once have gone out.
    Sent,
    /// A call failed, or (`Receive`, `EndOfFile`) the peer has closed. `Receive` on a connection not reported as established means
    /// that it was established before it ended.
    Ended(Step, Cause),
}

/// How often a connection is read before those that wait behind it. A peer may send without end, as fast as it is read.
const READS_AT_ONCE: usize = 8;
/// Length of the buffer for such a read.
const READ_BYTES: usize = 65_536;

/// Any of the engines.
pub(super) enum AnyEngine {
    Mio(mio::Mio),
    Uring(uring::Uring),
}

/// Builds a population's engine with room for this many connections. Call it after the fork. `auto` means io_uring if the scenario and
/// this kernel allow it.
pub(super) fn build(scenario: &Scenario, load: &Load, room: usize) -> Result<AnyEngine> {
    match load.engine {
        Choice::Uring => Ok(AnyEngine::Uring(uring::Uring::new(ring(scenario)?, room))),
        Choice::Auto { ring: true } => match ring(scenario) {
            Ok(ring) => Ok(AnyEngine::Uring(uring::Uring::new(ring, room))),
            Err(_) => Ok(AnyEngine::Mio(mio::Mio::new(room, scenario)?)),
        },
        Choice::Mio | Choice::Auto { ring: false } => Ok(AnyEngine::Mio(mio::Mio::new(room, scenario)?)),
    }
}

/// Tries whether kernel and user permit io_uring for so many loaders at once. Fails with the reason and the remedy.
pub fn try_rings(loaders: usize) -> Result<()> {
    (0..loaders).map(|_| ClientRing::new(1)).collect::<Result<Vec<_>, _>>().map(drop).context(
        "io_uring for loaders; it may be switched off (sysctl kernel.io_uring_disabled), forbidden by a sandbox, short of memory that \
         may be locked (`ulimit -l`), or older than Linux 5.11: take load.engine = \"mio\", or fewer loaders",
    )
}

fn ring(scenario: &Scenario) -> Result<ClientRing> {
    /// Longer replies take several receives: every connection has a buffer of this size, even while it is only held.
    const LIMIT: usize = 16_384;
    /// A reply's head.
    const HEAD: usize = 512;
    try_rings(1).context("`load.engine` = \"uring\"")?;
    ClientRing::new((scenario.server.app.reply_bytes() + HEAD).min(LIMIT)).context("io_uring_setup")
}
