//! The seam between the worker loop and the ways of obtaining connections.
//!
//! A strategy acts twice. Before the fork, [`Mechanism::open`] creates what its processes share: listeners, steering, locks.
//! In each worker, [`Mechanism::acceptor`] turns the worker's part into an [`Acceptor`], which puts its event source into the
//! worker's own epoll instance under [`TOKEN`]; the loop calls it whenever that token comes up, and knows nothing else. For
//! datagrams it is a [`Receiver`] under [`TOKEN_DATAGRAMS`]: strategies differ only in how they wake a worker for them.
//!
//! `steering` has the ways to choose a queue; each way to wake a worker (`epoll`, `lock`, `thread`, `uring`, `dispatcher`) has its own
//! file.

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

/// A strategy's helper process, in addition to the workers.
pub trait Helper {
    /// Runs from the barrier until the phase changes. Returns its errors.
    fn run(self: Box<Self>, control: &Control, meter: &mut Meter<'_>) -> Result<Vec<ErrorCount>>;
}

/// A connection, non-blocking.
#[derive(Debug)]
pub struct Accepted {
    pub stream: TcpStream,
    /// The client's end; `None` if the client reset the connection before it could be read.
    pub peer: Option<SocketAddr>,
    /// When accept returned, in nanoseconds of CLOCK_MONOTONIC.
    pub accept_ns: u64,
}

impl Accepted {
    /// A connection that accept has just returned.
    fn now((stream, peer): (TcpStream, SocketAddr)) -> Self {
        Self { stream, peer: Some(peer), accept_ns: clock::monotonic_ns() }
    }
}

/// What wakes a worker for connections or datagrams.
pub trait Source {
    /// Adds the event source to the worker's epoll instance, under its token.
    fn register(&mut self, registry: &Registry) -> io::Result<()>;

    /// Removes the event source for a while: the worker cannot accept now, and must not be woken for connections over and over.
    fn deregister(&mut self) -> io::Result<()>;

    /// Called when the worker is about to wait for events. Returns the longest it may wait, or `None` if there is no limit.
    fn before_wait(&mut self) -> io::Result<Option<Duration>> {
        Ok(None)
    }

    /// Called when the wait has ended, with this many events for the loop.
    fn woke(&mut self, _events: usize) {}

    /// Called when a wake-up's accepts or receptions ended with some left. An event source that reports only changes must make sure
    /// that the rest is reported.
    fn left_some(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A worker's source of connections.
pub trait Acceptor: Source {
    /// The next connection; fails with `WouldBlock` when there is none.
    fn accept(&mut self) -> io::Result<Accepted>;

    /// Called when a connection from this acceptor has been closed.
    fn closed(&mut self) {}

    /// Called after the accepts of a wake-up, if it had any; what was accepted is served next.
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
