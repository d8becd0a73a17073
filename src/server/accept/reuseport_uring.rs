//! `reuseport-uring`: a listener per worker, each with an io_uring multishot accept of its worker.

use anyhow::Result;

use super::{Acceptor, Strategy, uring};
use crate::server::{Listener, Listeners, Site};

pub(super) struct ReuseportUring;

impl Strategy for ReuseportUring {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        Ok(Listeners::group(site)?)
    }

    fn acceptor(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(uring::UringAcceptor::new(listener)?))
    }
}
