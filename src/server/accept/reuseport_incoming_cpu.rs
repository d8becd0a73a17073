//! `reuseport-incoming-cpu`: a listener per worker, each marked with a processor (SO_INCOMING_CPU); the kernel prefers the
//! listener whose processor received the SYN.
//!
//! Worker k's listener is marked with the k-th processor that this process may use, counted round. Where several are
//! marked with one, or none, the hash decides among them.

use std::net::TcpListener;

use anyhow::{Context, Result};

use super::{Acceptor, Site, Strategy, epoll};
use crate::{server::Listeners, sys::affinity};

pub(super) struct ReuseportIncomingCpu;

impl Strategy for ReuseportIncomingCpu {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        let listeners = Listeners::group(site.address, site.backlog, site.workers)?;
        let cpus = affinity::allowed_cpus().context("sched_getaffinity")?;
        for (worker, socket) in listeners.each().enumerate() {
            socket
                .set_cpu_affinity(cpus[worker % cpus.len()])
                .context("setsockopt SO_INCOMING_CPU; for listeners, kernels from 6.2 on have it")?;
        }
        Ok(listeners)
    }

    fn acceptor(&mut self, _worker: usize, listener: TcpListener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollAcceptor::new(listener, epoll::LEVEL)))
    }
}
