//! `reuseport-round-robin`: an eBPF program hands connection n to worker n mod workers.

use anyhow::Result;

use super::{Acceptor, Receiver, Strategy, bpf, epoll};
use crate::server::{Listener, Listeners, Site};

pub(super) struct ReuseportRoundRobin;

impl Strategy for ReuseportRoundRobin {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        let object = aya::include_bytes_aligned!("../../bpf/round_robin.bpf.o");
        Ok(bpf::open("round_robin", object, site, &[])?.0)
    }

    fn acceptor(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::LEVEL)))
    }

    fn receiver(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Receiver>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::LEVEL)))
    }
}
