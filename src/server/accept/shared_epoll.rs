//! `shared-epoll`: every worker waits level-triggered on one inherited listener; an arrival wakes them all.

use std::net::TcpListener;

use anyhow::Result;

use super::{Acceptor, Site, Strategy, epoll};
use crate::server::Listeners;

pub(super) struct SharedEpoll;

impl Strategy for SharedEpoll {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        Ok(Listeners::shared(site.address, site.backlog)?)
    }

    fn acceptor(&mut self, _worker: usize, listener: TcpListener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollAcceptor::new(listener, epoll::LEVEL)))
    }
}
