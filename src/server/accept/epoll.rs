//! A listener in the worker's epoll instance, with the flags that a strategy wants.
//!
//! mio registers everything edge-triggered and knows no EPOLLEXCLUSIVE, so the listener is added to mio's own epoll
//! instance by hand; its events come out of `Poll::poll` like all others. Every epoll strategy goes this way, lest a
//! comparison of strategies also compare ways of registration.

use std::{io, net::TcpListener, os::fd::AsFd};

use mio::Registry;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::{Accepted, Acceptor, TOKEN};

/// Level-triggered: reported as long as the queue holds a connection.
pub(super) const LEVEL: EpollFlags = EpollFlags::EPOLLIN;
/// Edge-triggered: reported when a connection arrives.
pub(super) const EDGE: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLET);
/// Level-triggered, and an arrival wakes one waiting epoll instance instead of all.
pub(super) const EXCLUSIVE: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLEXCLUSIVE);

pub(super) struct EpollAcceptor {
    listener: mio::net::TcpListener,
    flags: EpollFlags,
    /// A second descriptor of mio's epoll instance, once registered.
    epoll: Option<Epoll>,
}

impl EpollAcceptor {
    pub(super) fn new(listener: TcpListener, flags: EpollFlags) -> Self {
        Self { listener: mio::net::TcpListener::from_std(listener), flags, epoll: None }
    }

    fn event(&self) -> EpollEvent {
        EpollEvent::new(self.flags, TOKEN.0 as u64)
    }
}

impl Acceptor for EpollAcceptor {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        let epoll = Epoll(registry.as_fd().try_clone_to_owned()?);
        epoll.add(&self.listener, self.event())?;
        self.epoll = Some(epoll);
        Ok(())
    }

    fn deregister(&mut self) -> io::Result<()> {
        if let Some(epoll) = self.epoll.take() {
            epoll.delete(&self.listener)?;
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<Accepted> {
        self.listener.accept().map(Accepted::now)
    }

    fn left_some(&mut self) -> io::Result<()> {
        if let (true, Some(epoll)) = (self.flags.contains(EpollFlags::EPOLLET), &self.epoll) {
            // EPOLL_CTL_MOD makes epoll look again, and report a queue that is not empty as if it had just filled.
            epoll.modify(&self.listener, &mut self.event())?;
        }
        Ok(())
    }
}
