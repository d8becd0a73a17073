//! `shared-uring`: every worker has an io_uring multishot accept on one inherited listener.

use std::net::TcpListener;

use anyhow::Result;

use super::{Acceptor, Site, Strategy, uring};
use crate::server::Listeners;

pub(super) struct SharedUring;

impl Strategy for SharedUring {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        Ok(Listeners::shared(site.address, site.backlog)?)
    }

    fn acceptor(&mut self, _worker: usize, listener: TcpListener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(uring::UringAcceptor::new(listener)?))
    }
}
