//! `reuseport-random`: an eBPF program hands each connection to a worker at random.

use anyhow::Result;

use super::{Acceptor, Receiver, Strategy, bpf, epoll};
use crate::server::{Listener, Listeners, Site};

pub(super) struct ReuseportRandom;

impl Strategy for ReuseportRandom {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        let object = aya::include_bytes_aligned!("../../bpf/random.bpf.o");
        Ok(bpf::open("random", object, site, &[])?.0)
    }

    fn acceptor(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::LEVEL)))
    }

    fn receiver(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Receiver>> {
        Ok(Box::new(epoll::EpollListener::new(listener, epoll::LEVEL)))
    }
}
