//! The seam between the worker loop and the ways of obtaining connections: one strategy a file.
//!
//! A strategy acts twice. Before the fork, [`Strategy::open`] makes what all workers share. In each worker,
//! [`Strategy::acceptor`] turns the worker's part into an [`Acceptor`], which puts its event source into the worker's
//! own epoll instance under [`TOKEN`]; the loop calls it whenever that token comes up, and knows nothing else. For datagrams
//! it is a [`Receiver`] under [`TOKEN_DATAGRAMS`]: to be woken for them is all that strategies differ in there.

mod bpf;
mod dispatcher;
mod epoll;
mod reuseport;
mod reuseport_cpu;
mod reuseport_hermes;
mod reuseport_incoming_cpu;
mod reuseport_least;
mod reuseport_random;
mod reuseport_round_robin;
mod reuseport_uring;
mod shared_accept_mutex;
mod shared_blocking;
mod shared_epoll;
mod shared_epoll_edge;
mod shared_epoll_exclusive;
mod shared_uring;
mod uring;

use std::{io, net::SocketAddr, time::Duration};

use anyhow::{Result, bail};
use mio::{Registry, Token, net::TcpStream};
use nix::sys::eventfd::EventFd;
use socket2::Socket;

use super::{Listener, Listeners, Site};
use crate::{
    ipc::{
        control::{Control, Meter},
        tally::ErrorCount,
    },
    scenario::{self, Transport},
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

/// One way for workers to obtain connections.
pub trait Strategy {
    /// Opens the listeners, and makes whatever else the workers share, before the fork.
    fn open(&mut self, site: Site) -> Result<Listeners>;

    /// The name of the process that the strategy needs besides the workers, if any.
    fn helper(&self) -> Option<&'static str> {
        None
    }

    /// What that process does, after the fork. It gets the first listener.
    fn take_helper(&mut self, _listener: Listener) -> Option<Box<dyn Helper>> {
        None
    }

    /// The acceptor of one worker, after the fork.
    fn acceptor(&mut self, worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>>;

    /// The receiver of one worker, after the fork, where the listeners are sockets of UDP. Scenarios allow it only for
    /// strategies that `scenario::Strategy::takes_datagrams`.
    fn receiver(&mut self, _worker: usize, _listener: Listener) -> Result<Box<dyn Receiver>> {
        bail!("the strategy has no meaning for datagrams")
    }
}

/// A process besides the workers.
pub trait Helper {
    /// Runs from the barrier until the phase changes. Returns its errors.
    fn run(self: Box<Self>, context: &HelperContext<'_>, meter: &mut Meter<'_>) -> Result<Vec<ErrorCount>>;
}

/// What a helper sees of the trial.
pub struct HelperContext<'a> {
    /// The control block: the phase, and the workers' counters.
    pub control: &'a Control,
    /// Becomes readable when the phase changes.
    pub wake: &'a EventFd,
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

    /// Takes the event source out again, for a while: the worker cannot take connections now, and must not be woken
    /// for them over and over.
    fn deregister(&mut self) -> io::Result<()>;

    /// The worker is about to wait for events. Returns the longest it may; `None` for as long as it takes.
    fn before_wait(&mut self) -> io::Result<Option<Duration>> {
        Ok(None)
    }

    /// The wait has ended with so many events for the loop.
    fn woke(&mut self, _events: usize) {}

    /// A wake-up's accepts, or receptions, ended before there was nothing more. An event source that reports changes
    /// only must see to it that it reports the rest.
    fn left_some(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A worker's source of connections.
pub trait Acceptor: Source {
    /// The next connection; fails with `WouldBlock` when there is none.
    fn accept(&mut self) -> io::Result<Accepted>;

    /// A connection of this acceptor's has been closed.
    fn closed(&mut self) {}

    /// The accepts of a wake-up are over, if it had any; what was accepted is served next.
    fn after_accepts(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Takes nothing more from the kernel, and hands out what it had taken already.
    fn stop(&mut self) -> io::Result<Vec<Accepted>> {
        Ok(Vec::new())
    }
}

/// A worker's source of datagrams.
pub trait Receiver: Source {
    /// The socket to receive on, and to reply from.
    fn socket(&self) -> &Socket;
}

/// Tries whether this kernel lets this user run a strategy, in a network namespace of the caller's own: opens it for two
/// workers and makes the acceptor, or receiver, of one. Fails with the reason and the remedy.
pub fn try_out(strategy: scenario::Strategy, site: Site) -> Result<()> {
    let mut strategy = build(strategy);
    let listener = strategy.open(Site { workers: 2, ..site })?.take(0);
    match site.transport {
        Transport::Tcp => strategy.acceptor(0, listener).map(drop),
        Transport::Udp => strategy.receiver(0, listener).map(drop),
    }
}

/// Builds a scenario's strategy.
pub fn build(strategy: scenario::Strategy) -> Box<dyn Strategy> {
    match strategy {
        scenario::Strategy::SharedBlocking => Box::new(shared_blocking::SharedBlocking),
        scenario::Strategy::SharedEpoll => Box::new(shared_epoll::SharedEpoll),
        scenario::Strategy::SharedEpollEdge => Box::new(shared_epoll_edge::SharedEpollEdge),
        scenario::Strategy::SharedEpollExclusive => Box::new(shared_epoll_exclusive::SharedEpollExclusive),
        scenario::Strategy::SharedAcceptMutex { delay } => {
            Box::new(shared_accept_mutex::SharedAcceptMutex { delay, mutex: None })
        }
        scenario::Strategy::SharedUring => Box::new(shared_uring::SharedUring),
        scenario::Strategy::Reuseport => Box::new(reuseport::Reuseport),
        scenario::Strategy::ReuseportUring => Box::new(reuseport_uring::ReuseportUring),
        scenario::Strategy::ReuseportCpu => Box::new(reuseport_cpu::ReuseportCpu),
        scenario::Strategy::Dispatcher { dispatch } => Box::new(dispatcher::Dispatcher::new(dispatch)),
        scenario::Strategy::ReuseportRoundRobin => Box::new(reuseport_round_robin::ReuseportRoundRobin),
        scenario::Strategy::ReuseportRandom => Box::new(reuseport_random::ReuseportRandom),
        scenario::Strategy::ReuseportLeast => Box::new(reuseport_least::ReuseportLeast::default()),
        scenario::Strategy::ReuseportHermes { hang, theta } => {
            Box::new(reuseport_hermes::ReuseportHermes::new(hang, theta))
        }
        scenario::Strategy::ReuseportIncomingCpu { cpus } => {
            Box::new(reuseport_incoming_cpu::ReuseportIncomingCpu { cpus })
        }
    }
}
