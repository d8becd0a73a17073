//! `reuseport-incoming-cpu`: a listener per worker, each marked with a processor (SO_INCOMING_CPU); the kernel prefers the
//! listener whose processor received the SYN.
//!
//! Worker k's listener is marked with the k-th processor of `server.incoming_cpu`, or of those that this process may use,
//! counted round. Where several are
//! marked with one, or none, the hash decides among them.

use anyhow::{Context, Result};

use super::{Acceptor, Receiver, Strategy, epoll};
use crate::{
    server::{Listener, Listeners, Site},
    sys::affinity,
};

pub(super) struct ReuseportIncomingCpu {
    /// The scenario's list, if it has one.
    pub cpus: Option<Vec<usize>>,
}

impl Strategy for ReuseportIncomingCpu {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        let listeners = Listeners::group(site)?;
        let cpus = match self.cpus.take() {
            Some(cpus) => cpus,
            None => affinity::allowed_cpus().context("sched_getaffinity")?,
        };
        for (worker, socket) in listeners.each().enumerate() {
            socket
                .set_cpu_affinity(cpus[worker % cpus.len()])
                .context("setsockopt SO_INCOMING_CPU; for listeners, kernels from 6.2 on have it")?;
        }
        Ok(listeners)
    }

    fn acceptor(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::LEVEL)))
    }

    fn receiver(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Receiver>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::LEVEL)))
    }
}
