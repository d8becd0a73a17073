//! `reuseport`: a listener per worker; the kernel's hash of the 4-tuple picks one for each connection.

use anyhow::Result;

use super::{Acceptor, Receiver, Strategy, epoll};
use crate::server::{Listener, Listeners, Site};

pub(super) struct Reuseport;

impl Strategy for Reuseport {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        Ok(Listeners::group(site)?)
    }

    fn acceptor(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::LEVEL)))
    }

    fn receiver(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Receiver>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::LEVEL)))
    }
}
