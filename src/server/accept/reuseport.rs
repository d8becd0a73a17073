//! `reuseport`: a listener per worker; the kernel's hash of the 4-tuple picks one for each connection.

use std::net::TcpListener;

use anyhow::Result;

use super::{Acceptor, Site, Strategy, epoll};
use crate::server::Listeners;

pub(super) struct Reuseport;

impl Strategy for Reuseport {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        Ok(Listeners::group(site.address, site.backlog, site.workers)?)
    }

    fn acceptor(&mut self, _worker: usize, listener: TcpListener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollAcceptor::new(listener, epoll::LEVEL)))
    }
}
