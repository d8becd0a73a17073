//! The seam between the worker loop and the ways of obtaining connections.
//!
//! A strategy acts twice. Before the fork, [`Mechanism::open`] creates what its processes share: listeners, steering, locks.
//! In each worker, [`Mechanism::acceptor`] turns the worker's part into an [`Acceptor`], which puts its event source into the
//! worker's own epoll instance under [`TOKEN`]; the loop calls it whenever that token comes up, and knows nothing else. For
//! datagrams it is a [`Receiver`] under [`TOKEN_DATAGRAMS`]: strategies differ only in how they wake a worker for them.
//!
//! `steering` has the ways to choose a queue; each way to wake a worker (`epoll`, `lock`, `thread`, `uring`, `dispatcher`, `pool`) has its own
//! file. `balance` lets workers hand over what they accept, whichever way they are woken.

mod balance;
mod bpf;
mod channel;
mod dispatcher;
mod epoll;
mod helper;
mod lock;
mod mechanism;
mod pool;
mod publish;
mod steering;
mod thread;
mod uring;

use std::{io, net::SocketAddr, os::fd::BorrowedFd, time::Duration};

use mio::{Events, Registry, Token, net::TcpStream};

pub use bpf::Program;
pub use helper::Helper;
pub use mechanism::{Mechanism, Pooled, try_out};

use crate::{
    scenario::{MOST_BOUND, Transport},
    server::Listener,
    sys::{clock, socket},
};

/// The token under which an acceptor's events arrive.
pub const TOKEN: Token = Token(0);
/// The token under which a receiver's events arrive.
pub const TOKEN_DATAGRAMS: Token = Token(1);
/// The token of connections that other workers hand over.
pub const TOKEN_TAKEN_OVER: Token = Token(3);

/// The first token that is not one of these, nor of those of further listeners of a worker, which follow them.
pub const TOKENS: usize = FURTHER + 2 * (MOST_BOUND - 1);
const FURTHER: usize = 4;

/// The token of the events of a worker's listener, by its place among those that it has on several addresses.
fn token(transport: Transport, place: usize) -> Token {
    let first = match transport {
        Transport::Tcp => TOKEN,
        Transport::Udp => TOKEN_DATAGRAMS,
    };
    if place == 0 { first } else { Token(FURTHER + 2 * (place - 1) + first.0) }
}

/// The token of the first listener, if it is that of a further one.
#[inline]
pub fn kind(token: Token) -> Token {
    if (FURTHER..TOKENS).contains(&token.0) { Token((token.0 - FURTHER) % 2) } else { token }
}

/// The place of the listener of this transport whose token it is.
fn place(transport: Transport, of: Token) -> Option<usize> {
    if kind(of) != token(transport, 0) {
        return None;
    }
    Some(of.0.checked_sub(FURTHER).map_or(0, |further| further / 2 + 1))
}

/// A connection, non-blocking.
#[derive(Debug)]
pub struct Accepted {
    pub stream: TcpStream,
    /// The client's end; `None` if the client reset the connection before it could be read.
    pub peer: Option<SocketAddr>,
    /// The end of its accept wait, when the worker had it, in nanoseconds of CLOCK_MONOTONIC.
    pub accept_ns: u64,
    /// `None` if the worker's own accept returned it, or it came from a ring at an unknown time.
    pub handed_over: Option<HandedOver>,
}

/// What an acceptor has taken.
#[derive(Debug)]
pub enum Taken {
    /// A connection that the worker has accepted itself.
    Own(Accepted),
    /// A connection that another process has accepted, or a thread that accepts for all workers.
    Over(Accepted),
    /// A connection that the worker has accepted, and handed over to another.
    HandedOver,
    /// A connection that a thread of the worker's has accepted with its spare descriptor, and closed.
    Shed(Closed),
}

/// A connection that is accepted and closed already.
#[derive(Debug, Clone, Copy)]
pub struct Closed {
    /// The client's end.
    pub peer: SocketAddr,
    /// When accept(2) returned it, in nanoseconds of CLOCK_MONOTONIC.
    pub accept_ns: u64,
    /// Whether it was plain TCP.
    pub is_plain: bool,
}

impl Taken {
    /// Whether it is a connection of the worker's own by plain TCP, which on a listener of MPTCP is one that fell back.
    pub fn fell_back(&self) -> bool {
        match self {
            Self::Own(accepted) | Self::Over(accepted) => socket::is_multipath(&accepted.stream) == Some(false),
            Self::Shed(closed) => closed.is_plain,
            Self::HandedOver => false,
        }
    }
}

/// Accepts that failed in another thread for want of a descriptor: each errno, and how many.
pub type Refused = [(i32, u64); 2];

/// Where a connection was before the worker had it: accepted by a thread or process that hands connections over, or by the kernel
/// for a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOver {
    /// The wake-up in which the thread or process accepted it, in nanoseconds of CLOCK_MONOTONIC; with a ring, `returned_ns`.
    pub woke_ns: u64,
    /// When accept(2) returned it there, or the kernel completed the ring's accept.
    pub returned_ns: u64,
}

impl Accepted {
    /// A connection that the worker itself has just taken from the kernel.
    fn now(stream: TcpStream, peer: Option<SocketAddr>) -> Self {
        Self { stream, peer, accept_ns: clock::monotonic_ns(), handed_over: None }
    }

    /// A connection that the worker has just received from a thread of its own process.
    fn received(stream: TcpStream, peer: SocketAddr, handed_over: HandedOver) -> Self {
        Self { handed_over: Some(handed_over), ..Self::now(stream, Some(peer)) }
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

    /// Called when the wait has ended, with these events of the epoll instance. `pending`: all that the loop has to handle now.
    fn woke(&mut self, _events: &Events, _pending: usize) {}

    /// Called when a wake-up's accepts or receptions ended with some left. An event source that reports only changes must make sure
    /// that the rest is reported.
    fn left_some(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A worker's source of connections.
pub trait Acceptor: Source {
    /// The next connection. When there is none, accept(2) fails with `WouldBlock`, and a source that need not call it returns `None`.
    fn accept(&mut self) -> io::Result<Option<Taken>>;

    /// Whether the last call found one listener empty, and another, which the kernel has reported, is to be asked.
    fn has_another(&self) -> bool {
        false
    }

    /// Called once the worker has registered it and counted its descriptors: from now on, a thread of its own or the kernel may accept.
    fn start(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The same as [`Self::accept`] with a descriptor that has been freed for it, after an accept that failed for want of one. A source
    /// that accepts nothing more after such a failure calls accept(2) here; [`Source::left_some`] makes it go on.
    fn accept_spared(&mut self) -> io::Result<Option<Taken>> {
        self.accept()
    }

    /// Whether it receives connections from another process. One that arrives when no descriptor is left is lost.
    fn receives(&self) -> bool {
        false
    }

    /// What a thread of its own was refused since this was last called.
    fn refused(&mut self) -> Refused {
        Refused::default()
    }

    /// Called when a connection from this acceptor has been closed.
    fn closed(&mut self) {}

    /// Called after the accepts of a wake-up, if it had any; what was accepted is served next.
    fn after_accepts(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Takes nothing more from the kernel, and returns what it had already taken.
    fn stop(&mut self) -> io::Result<Vec<Taken>> {
        Ok(Vec::new())
    }

    /// The listeners that are the worker's to close.
    fn listeners(&self) -> Vec<BorrowedFd<'_>>;
}

/// A worker's source of datagrams.
pub trait Receiver: Source {
    /// The sockets to receive on, and to reply from.
    fn listener(&mut self) -> &mut Listener;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listener_has_a_token_of_its_own() {
        let mut tokens = std::collections::BTreeSet::from([Token(2), TOKEN_TAKEN_OVER]);
        for transport in [Transport::Tcp, Transport::Udp] {
            for number in 0..MOST_BOUND {
                let token = token(transport, number);
                assert!(tokens.insert(token) && token.0 < TOKENS, "{token:?}");
                let other = if transport == Transport::Tcp { Transport::Udp } else { Transport::Tcp };
                assert_eq!((place(transport, token), place(other, token)), (Some(number), None));
            }
        }
        assert_eq!(tokens.len(), TOKENS);
        assert_eq!([2, 3, TOKENS].map(|token| kind(Token(token)).0), [2, 3, TOKENS]);
    }
}
