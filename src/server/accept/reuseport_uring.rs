//! `reuseport-uring`: a listener per worker, each with an io_uring multishot accept of its worker.

use std::net::TcpListener;

use anyhow::Result;

use super::{Acceptor, Site, Strategy, uring};
use crate::server::Listeners;

pub(super) struct ReuseportUring;

impl Strategy for ReuseportUring {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        Ok(Listeners::group(site.address, site.backlog, site.workers)?)
    }

    fn acceptor(&mut self, _worker: usize, listener: TcpListener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(uring::UringAcceptor::new(listener)?))
    }
}
