//! `reuseport-random`: an eBPF program hands each connection to a worker at random.

use std::net::TcpListener;

use anyhow::Result;

use super::{Acceptor, Site, Strategy, bpf, epoll};
use crate::server::Listeners;

pub(super) struct ReuseportRandom;

impl Strategy for ReuseportRandom {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        let object = aya::include_bytes_aligned!("../../bpf/random.bpf.o");
        Ok(bpf::open("random", object, site, &[])?.0)
    }

    fn acceptor(&mut self, _worker: usize, listener: TcpListener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollAcceptor::new(listener, epoll::LEVEL)))
    }
}
