//! `shared-uring`: every worker has an io_uring multishot accept on one inherited listener.

use anyhow::Result;

use super::{Acceptor, Strategy, uring};
use crate::server::{Listener, Listeners, Site};

pub(super) struct SharedUring;

impl Strategy for SharedUring {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        Ok(Listeners::shared(site)?)
    }

    fn acceptor(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(uring::UringAcceptor::new(listener)?))
    }
}
