//! `reuseport-hermes`: workers publish what they have to do, and an eBPF program leaves out those that have too much, or
//! that hang (Hermes, SIGCOMM 2025).
//!
//! A worker publishes by writing to memory that the program reads: no system call. It lets its loop come round four times
//! per `server.hermes_hang` at least, so that an idle worker is told from a hung one.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use super::{Acceptor, Receiver, Strategy, bpf};
use crate::{
    server::{Listener, Listeners, Site},
    sys::clock,
};

pub(super) struct ReuseportHermes {
    hang: Duration,
    theta: f64,
    /// Made before the fork.
    states: Option<Arc<bpf::States>>,
}

impl ReuseportHermes {
    pub(super) fn new(hang: Duration, theta: f64) -> Self {
        Self { hang, theta, states: None }
    }

    fn member(&self, worker: usize, listener: Listener) -> Result<bpf::PublishingListener> {
        bpf::PublishingListener::new(listener, self.states.as_ref(), worker, Some(self.hang / 4))
    }
}

impl Strategy for ReuseportHermes {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        let object = aya::include_bytes_aligned!("../../bpf/hermes.bpf.o");
        let globals =
            [("hang_ns", clock::nanoseconds(self.hang)), ("theta_permille", (self.theta * 1_000.0).round() as u64)];
        let (listeners, states) = bpf::open("hermes", object, site, &globals)?;
        self.states = states;
        Ok(listeners)
    }

    fn acceptor(&mut self, worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(self.member(worker, listener)?))
    }

    fn receiver(&mut self, worker: usize, listener: Listener) -> Result<Box<dyn Receiver>> {
        Ok(Box::new(self.member(worker, listener)?))
    }
}
