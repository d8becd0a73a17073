//! `reuseport-cpu`: a listener per worker; a classic BPF program picks number (receiving processor mod workers).
//!
//! The receiving processor is the one that handled the SYN: on loopback, the client's own.

use std::net::TcpListener;

use anyhow::{Context, Result};

use super::{Acceptor, Site, Strategy, epoll};
use crate::{server::Listeners, sys::reuseport_bpf};

pub(super) struct ReuseportCpu;

impl Strategy for ReuseportCpu {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        let listeners = Listeners::group(site.address, site.backlog, site.workers)?;
        // Member k of the group is worker k's: members are numbered in listen(2) order.
        reuseport_bpf::pick_by_cpu(listeners.any(), site.workers as u32)
            .context("setsockopt SO_ATTACH_REUSEPORT_CBPF; kernels from 4.5 on have it")?;
        Ok(listeners)
    }

    fn acceptor(&mut self, _worker: usize, listener: TcpListener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollAcceptor::new(listener, epoll::LEVEL)))
    }
}
