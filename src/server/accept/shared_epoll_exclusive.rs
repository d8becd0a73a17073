//! `shared-epoll-exclusive`: one inherited listener, and the kernel wakes one waiting worker per arrival.

use std::net::TcpListener;

use anyhow::Result;

use super::{Acceptor, Site, Strategy, epoll};
use crate::server::Listeners;

pub(super) struct SharedEpollExclusive;

impl Strategy for SharedEpollExclusive {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        Ok(Listeners::shared(site.address, site.backlog)?)
    }

    fn acceptor(&mut self, _worker: usize, listener: TcpListener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollAcceptor::new(listener, epoll::EXCLUSIVE)))
    }
}
