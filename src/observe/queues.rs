//! Accept queues, read through sock_diag: the kernel reports the length and limit of each listener's queue.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
};

use anyhow::{Context, Result};
use netlink_packet_sock_diag::{
    constants::{AF_INET, AF_INET6},
    inet::StateFlags,
};
use serde::Serialize;

use super::sockets::{self, SockDiag};
use crate::{scenario::Transport, sys::clock};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Connections waiting (`idiag_rqueue`).
    pub length: u32,
    /// The effective backlog (`idiag_wqueue`); the queue holds one more.
    pub limit: u32,
    /// Segments this listener has dropped so far (`sk_drops` of INET_DIAG_SKMEMINFO): its part of ListenDrops.
    pub drops: u32,
}

impl Queue {
    /// Whether the queue is full: the kernel's test is `>`.
    pub fn is_full(&self) -> bool {
        self.limit > 0 && self.length > self.limit
    }
}

/// Reads the accept queues of one port's listeners, reusing its buffers.
pub struct QueueReader {
    question: SockDiag,
    family: u8,
    port: u16,
}

impl QueueReader {
    /// A reader for the listeners on an address's port in the current network namespace.
    pub fn new(address: SocketAddr) -> Result<Self> {
        let question = SockDiag::new(Transport::Tcp, StateFlags::LISTEN, address)?;
        let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
        Ok(Self { question, family, port: address.port() })
    }

    /// The queues by their listener's inode.
    pub fn read(&mut self) -> Result<HashMap<u32, Queue>> {
        let mut queues = HashMap::new();
        self.question.each(|response| {
            let header = &response.header;
            if header.family == self.family && header.socket_id.source_port == self.port {
                let drops = sockets::memory(response).map_or(0, |memory| memory.drops);
                let (length, limit) = (header.recv_queue, header.send_queue);
                queues.insert(header.inode, Queue { length, limit, drops });
            }
        })?;
        Ok(queues)
    }
}

/// The median cost of sampling one listener's queue on this machine, over a hundred samples, in nanoseconds.
pub fn sample_cost_ns() -> Result<u64> {
    let listener = TcpListener::bind("127.0.0.1:0").context("bind 127.0.0.1")?;
    let mut reader = QueueReader::new(listener.local_addr().context("getsockname")?)?;
    let mut costs = Vec::with_capacity(100);
    for _ in 0..100 {
        let before_ns = clock::monotonic_ns();
        reader.read()?;
        costs.push(clock::monotonic_ns() - before_ns);
    }
    costs.sort_unstable();
    Ok(costs[costs.len() / 2])
}
