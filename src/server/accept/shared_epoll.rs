//! `shared-epoll`: every worker waits level-triggered on one inherited listener; an arrival wakes them all.

use anyhow::Result;

use super::{Acceptor, Receiver, Strategy, epoll};
use crate::server::{Listener, Listeners, Site};

pub(super) struct SharedEpoll;

impl Strategy for SharedEpoll {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        Ok(Listeners::shared(site)?)
    }

    fn acceptor(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::LEVEL)))
    }

    fn receiver(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Receiver>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::LEVEL)))
    }
}
