//! `shared-epoll-exclusive`: one inherited listener, and the kernel wakes one waiting worker per arrival.

use anyhow::Result;

use super::{Acceptor, Receiver, Strategy, epoll};
use crate::server::{Listener, Listeners, Site};

pub(super) struct SharedEpollExclusive;

impl Strategy for SharedEpollExclusive {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        Ok(Listeners::shared(site)?)
    }

    fn acceptor(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::EXCLUSIVE)))
    }

    fn receiver(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Receiver>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::EXCLUSIVE)))
    }
}
