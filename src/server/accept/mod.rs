//! The seam between the worker loop and the ways of obtaining connections: one strategy a file.
//!
//! A strategy acts twice. Before the fork, [`Strategy::open`] makes what all workers share. In each worker,
//! [`Strategy::acceptor`] turns the worker's part into an [`Acceptor`], which puts its event source into the worker's
//! own epoll instance under [`TOKEN`]; the loop calls it whenever that token comes up, and knows nothing else.

mod epoll;
mod reuseport;
mod shared_epoll;
mod shared_epoll_edge;
mod shared_epoll_exclusive;

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use mio::{Registry, Token, net::TcpStream};

use super::{ListenError, Listeners};
use crate::scenario;

/// The token under which an acceptor's events arrive.
pub const TOKEN: Token = Token(0);

/// One way for workers to obtain connections.
pub trait Strategy {
    /// Opens the listeners, before the fork.
    fn open(&self, address: SocketAddr, backlog: i32, workers: usize) -> Result<Listeners, ListenError>;

    /// The acceptor of one worker, after the fork.
    fn acceptor(&self, listener: TcpListener) -> Box<dyn Acceptor>;
}

/// A worker's source of connections.
pub trait Acceptor {
    /// Adds the event source to the worker's epoll instance, under [`TOKEN`].
    fn register(&mut self, registry: &Registry) -> io::Result<()>;

    /// Takes the event source out again, for a while: the worker cannot take connections now, and must not be woken
    /// for them over and over.
    fn deregister(&mut self) -> io::Result<()>;

    /// The next connection, non-blocking; fails with `WouldBlock` when there is none.
    fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)>;

    /// A wake-up's accepts ended before `accept` had nothing more. An event source that reports changes only must
    /// see to it that it reports the rest.
    fn left_some(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Builds a strategy by its name in scenarios.
pub fn build(strategy: scenario::Strategy) -> Box<dyn Strategy> {
    match strategy {
        scenario::Strategy::SharedEpoll => Box::new(shared_epoll::SharedEpoll),
        scenario::Strategy::SharedEpollEdge => Box::new(shared_epoll_edge::SharedEpollEdge),
        scenario::Strategy::SharedEpollExclusive => Box::new(shared_epoll_exclusive::SharedEpollExclusive),
        scenario::Strategy::Reuseport => Box::new(reuseport::Reuseport),
    }
}
