//! `reuseport-round-robin`: an eBPF program hands connection n to worker n mod workers.

use std::net::TcpListener;

use anyhow::Result;

use super::{Acceptor, Site, Strategy, bpf, epoll};
use crate::server::Listeners;

pub(super) struct ReuseportRoundRobin;

impl Strategy for ReuseportRoundRobin {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        let object = aya::include_bytes_aligned!("../../bpf/round_robin.bpf.o");
        Ok(bpf::open("round_robin", object, site, &[])?.0)
    }

    fn acceptor(&mut self, _worker: usize, listener: TcpListener) -> Result<Box<dyn Acceptor>> {
        Ok(Box::new(epoll::EpollAcceptor::new(listener, epoll::LEVEL)))
    }
}
