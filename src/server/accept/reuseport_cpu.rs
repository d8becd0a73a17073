//! `reuseport-cpu`: a listener per worker; a classic BPF program picks number (receiving processor mod workers).
//!
//! The receiving processor is the one that handled the SYN: on loopback, the client's own.

use anyhow::{Context, Result};

use super::{Acceptor, Receiver, Strategy, epoll};
use crate::{
    server::{Listener, Listeners, Site},
    sys::reuseport_bpf,
};

pub(super) struct ReuseportCpu;

impl Strategy for ReuseportCpu {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        let listeners = Listeners::group(site)?;
        // Member k of the group is worker k's: members are numbered in listen(2) order.
        reuseport_bpf::pick_by_cpu(listeners.any(), site.workers as u32)
            .context("setsockopt SO_ATTACH_REUSEPORT_CBPF; kernels from 4.5 on have it")?;
        Ok(listeners)
    }

    fn acceptor(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::LEVEL)))
    }

    fn receiver(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Receiver>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::LEVEL)))
    }
}
