//! A worker's listeners in its epoll instance.
//!
//! mio registers everything edge-triggered and does not know EPOLLEXCLUSIVE, so the listener is added to mio's own epoll
//! instance by hand; its events come out of `Poll::poll` like all others. Every epoll strategy registers this way;
//! otherwise a comparison of strategies would also compare ways of registering.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use mio::{Events, Registry};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::{Accepted, Acceptor, Receiver, Source, Taken, place, token};
use crate::{scenario::Trigger, server::Listener};

pub(super) struct EpollListener {
    listener: Listener,
    flags: EpollFlags,
    /// A second descriptor of mio's epoll instance, once it is known. It stays: a worker that has none left could get no other.
    epoll: Option<Epoll>,
    /// Whether the listener is in the epoll instance.
    is_added: bool,
}

impl EpollListener {
    pub(super) fn new(listener: Listener, trigger: Trigger) -> Self {
        let flags = EpollFlags::EPOLLIN
            | match trigger {
                Trigger::Level => EpollFlags::empty(),
                Trigger::Edge => EpollFlags::EPOLLET,
                Trigger::Exclusive => EpollFlags::EPOLLEXCLUSIVE,
            };
        Self { listener, flags, epoll: None, is_added: false }
    }

    /// Takes the descriptor that it needs to be registered.
    pub(super) fn prepare(&mut self, registry: &Registry) -> io::Result<()> {
        if self.epoll.is_none() {
            self.epoll = Some(Epoll(registry.as_fd().try_clone_to_owned()?));
        }
        Ok(())
    }

    fn event(&self, place: usize) -> EpollEvent {
        EpollEvent::new(self.flags, token(self.listener.transport(), place).0 as u64)
    }
}

impl Source for EpollListener {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        self.prepare(registry)?;
        if let Some(epoll) = &self.epoll {
            for (place, socket) in self.listener.descriptors().enumerate() {
                epoll.add(socket, self.event(place))?;
            }
            self.is_added = true;
        }
        Ok(())
    }

    fn deregister(&mut self) -> io::Result<()> {
        if let (true, Some(epoll)) = (std::mem::take(&mut self.is_added), &self.epoll) {
            self.listener.descriptors().try_for_each(|socket| epoll.delete(socket))?;
        }
        Ok(())
    }

    fn woke(&mut self, events: &Events, _: usize) {
        let transport = self.listener.transport();
        self.listener.report(events.iter().filter_map(|event| place(transport, event.token())));
    }

    fn left_some(&mut self) -> io::Result<()> {
        if let (true, Some(epoll)) = (self.is_added && self.flags.contains(EpollFlags::EPOLLET), &self.epoll) {
            // EPOLL_CTL_MOD makes epoll look again, and report a queue that is not empty as if it had just been filled.
            for (place, socket) in self.listener.descriptors().enumerate() {
                epoll.modify(socket, &mut self.event(place))?;
            }
        }
        Ok(())
    }
}

impl Acceptor for EpollListener {
    fn accept(&mut self) -> io::Result<Option<Taken>> {
        self.listener.accept().map(|(stream, peer)| Some(Taken::Own(Accepted::now(stream, Some(peer)))))
    }

    fn has_another(&self) -> bool {
        self.listener.has_another()
    }

    fn listeners(&self) -> Vec<BorrowedFd<'_>> {
        self.listener.descriptors().collect()
    }
}

impl Receiver for EpollListener {
    fn listener(&mut self) -> &mut Listener {
        &mut self.listener
    }
}
