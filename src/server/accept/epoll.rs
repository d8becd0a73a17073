//! A listener in the worker's epoll instance.
//!
//! mio registers everything edge-triggered and does not know EPOLLEXCLUSIVE, so the listener is added to mio's own epoll
//! instance by hand; its events come out of `Poll::poll` like all others. Every epoll strategy registers this way;
//! otherwise a comparison of strategies would also compare ways of registering.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use mio::Registry;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use socket2::Socket;

use super::{Accepted, Acceptor, Receiver, Source, Taken, token};
use crate::{scenario::Trigger, server::Listener};

pub(super) struct EpollListener {
    listener: Listener,
    flags: EpollFlags,
    /// A second descriptor of mio's epoll instance, once registered.
    epoll: Option<Epoll>,
}

impl EpollListener {
    pub(super) fn new(listener: Listener, trigger: Trigger) -> Self {
        let flags = EpollFlags::EPOLLIN
            | match trigger {
                Trigger::Level => EpollFlags::empty(),
                Trigger::Edge => EpollFlags::EPOLLET,
                Trigger::Exclusive => EpollFlags::EPOLLEXCLUSIVE,
            };
        Self { listener, flags, epoll: None }
    }

    fn event(&self) -> EpollEvent {
        EpollEvent::new(self.flags, token(self.listener.transport()).0 as u64)
    }
}

impl Source for EpollListener {
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

    fn left_some(&mut self) -> io::Result<()> {
        if let (true, Some(epoll)) = (self.flags.contains(EpollFlags::EPOLLET), &self.epoll) {
            // EPOLL_CTL_MOD makes epoll look again, and report a queue that is not empty as if it had just been filled.
            epoll.modify(&self.listener, &mut self.event())?;
        }
        Ok(())
    }
}

impl Acceptor for EpollListener {
    fn accept(&mut self) -> io::Result<Option<Taken>> {
        self.listener.accept().map(|(stream, peer)| Some(Taken::Own(Accepted::now(stream, Some(peer)))))
    }

    fn listener(&self) -> Option<BorrowedFd<'_>> {
        Some(self.listener.as_fd())
    }
}

impl Receiver for EpollListener {
    fn socket(&self) -> &Socket {
        self.listener.socket()
    }
}
