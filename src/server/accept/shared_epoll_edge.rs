//! `shared-epoll-edge`: every worker waits edge-triggered on one inherited listener, as mio itself would.

use anyhow::Result;

use super::{Acceptor, Receiver, Strategy, epoll};
use crate::server::{Listener, Listeners, Site};

pub(super) struct SharedEpollEdge;

impl Strategy for SharedEpollEdge {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        Ok(Listeners::shared(site)?)
    }

    fn acceptor(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::EDGE)))
    }

    fn receiver(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Receiver>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::EDGE)))
    }
}
