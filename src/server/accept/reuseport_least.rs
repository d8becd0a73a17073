//! `reuseport-least`: an eBPF program hands each connection to the worker with the fewest, open or on their way.

use std::sync::Arc;

use anyhow::Result;

use super::{Acceptor, Strategy, bpf};
use crate::server::{Listener, Listeners, Site};

#[derive(Default)]
pub(super) struct ReuseportLeast {
    /// Made before the fork.
    states: Option<Arc<bpf::States>>,
}

impl Strategy for ReuseportLeast {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        let object = aya::include_bytes_aligned!("../../bpf/least.bpf.o");
        let (listeners, states) = bpf::open("least", object, site, &[])?;
        self.states = states;
        Ok(listeners)
    }

    fn acceptor(&mut self, worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(bpf::PublishingListener::new(listener, self.states.as_ref(), worker, None)?))
    }
}
