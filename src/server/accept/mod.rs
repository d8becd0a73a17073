//! The seam between the worker loop and the ways of obtaining connections.
//!
//! A strategy acts twice. Before the fork, [`Mechanism::open`] makes what its processes share: listeners, steering, locks.
//! In each worker, [`Mechanism::acceptor`] turns the worker's part into an [`Acceptor`], which puts its event source into the
//! worker's own epoll instance under [`TOKEN`]; the loop calls it whenever that token comes up, and knows nothing else. For
//! datagrams it is a [`Receiver`] under [`TOKEN_DATAGRAMS`]: strategies differ only in how they wake a worker for them.
//!
//! `steering` has the ways to choose a queue; each way to wake a worker (`epoll`, `lock`, `thread`, `uring`, `dispatcher`) is
//! a file of its own.

mod bpf;
mod dispatcher;
mod epoll;
mod lock;
mod mechanism;
mod publish;
mod steering;
mod thread;
mod uring;

use std::{io, net::SocketAddr, time::Duration};

use anyhow::Result;
use mio::{Registry, Token, net::TcpStream};
use socket2::Socket;

pub use mechanism::{Mechanism, try_out};

use crate::{
    ipc::control::{Control, Meter},
    record::ErrorCount,
    scenario::Transport,
    sys::clock,
};

/// The token under which an acceptor's events arrive.
pub const TOKEN: Token = Token(0);
/// The token under which a receiver's events arrive.
pub const TOKEN_DATAGRAMS: Token = Token(1);

/// The token of a listener's events.
fn token(transport: Transport) -> Token {
    match transport {
        Transport::Tcp => TOKEN,
        Transport::Udp => TOKEN_DATAGRAMS,
    }
}

/// A process besides the workers.
pub trait Helper {
    /// Runs from the barrier until the phase changes. Returns its errors.
    fn run(self: Box<Self>, control: &Control, meter: &mut Meter<'_>) -> Result<Vec<ErrorCount>>;
}

/// A connection, non-blocking.
#[derive(Debug)]
pub struct Accepted {
    /// Its socket.
    pub stream: TcpStream,
    /// The client's end; `None` when the client had reset the connection before it could be asked for.
    pub peer: Option<SocketAddr>,
    /// When accept returned, in nanoseconds of CLOCK_MONOTONIC.
    pub accept_ns: u64,
}

impl Accepted {
    /// A connection that accept has returned just now.
    fn now((stream, peer): (TcpStream, SocketAddr)) -> Self {
        Self { stream, peer: Some(peer), accept_ns: clock::monotonic_ns() }
    }
}

/// What wakes a worker for connections or datagrams.
pub trait Source {
    /// Adds the event source to the worker's epoll instance, under its token.
    fn register(&mut self, registry: &Registry) -> io::Result<()>;

    /// Takes the event source out again for a while: the worker cannot take connections now, and must not be woken for
    /// them over and over.
    fn deregister(&mut self) -> io::Result<()>;

    /// The worker is about to wait for events. Returns the longest it may wait, or `None` if there is no limit.
    fn before_wait(&mut self) -> io::Result<Option<Duration>> {
        Ok(None)
    }

    /// The wait has ended with this many events for the loop.
    fn woke(&mut self, _events: usize) {}

    /// A wake-up's accepts, or receptions, ended before there was nothing more. An event source that reports only
    /// changes must make sure that the rest is reported.
    fn left_some(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A worker's source of connections.
pub trait Acceptor: Source {
    /// The next connection; fails with `WouldBlock` when there is none.
    fn accept(&mut self) -> io::Result<Accepted>;

    /// A connection from this acceptor has been closed.
    fn closed(&mut self) {}

    /// The accepts of a wake-up, if it had any, are over; what was accepted is served next.
    fn after_accepts(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Takes nothing more from the kernel, and returns what it had already taken.
    fn stop(&mut self) -> io::Result<Vec<Accepted>> {
        Ok(Vec::new())
    }
}

/// A worker's source of datagrams.
pub trait Receiver: Source {
    /// The socket to receive on, and to reply from.
    fn socket(&self) -> &Socket;
}
