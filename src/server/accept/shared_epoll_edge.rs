//! `shared-epoll-edge`: every worker waits edge-triggered on one inherited listener, as mio itself would.

use std::net::TcpListener;

use anyhow::Result;

use super::{Acceptor, Site, Strategy, epoll};
use crate::server::Listeners;

pub(super) struct SharedEpollEdge;

impl Strategy for SharedEpollEdge {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        Ok(Listeners::shared(site.address, site.backlog)?)
    }

    fn acceptor(&mut self, _worker: usize, listener: TcpListener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollAcceptor::new(listener, epoll::EDGE)))
    }
}
