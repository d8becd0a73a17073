//! Accept queues, read by sock_diag: for a listening socket the kernel gives the queue's length and limit.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
};

use anyhow::{Context, Result, bail};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags, nlas::Nla},
};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};

use crate::sys::clock;

/// An accept queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queue {
    /// Connections waiting (`idiag_rqueue`).
    pub length: u32,
    /// The backlog in force (`idiag_wqueue`): the queue holds one more.
    pub limit: u32,
    /// Segments dropped by this listener so far (`sk_drops` of INET_DIAG_SKMEMINFO): what ListenDrops counts of it.
    pub drops: u32,
}

impl Queue {
    /// Whether there is no room: the kernel's test is `>`.
    pub fn is_full(&self) -> bool {
        self.limit > 0 && self.length > self.limit
    }
}

/// Reads the accept queues of one port's listeners. Its requests and answers use the same buffers each time.
pub struct QueueReader {
    socket: Socket,
    request: Vec<u8>,
    answer: Vec<u8>,
    family: u8,
    port: u16,
}

impl QueueReader {
    /// A reader for the listeners on an address's port, in the caller's network namespace.
    pub fn new(address: SocketAddr) -> Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG).context("socket(NETLINK_SOCK_DIAG)")?;
        socket.bind_auto().context("bind of the sock_diag socket")?;
        socket.connect(&NetlinkAddr::new(0, 0)).context("connect of the sock_diag socket")?;
        let (family, mut socket_id) =
            if address.is_ipv4() { (AF_INET, SocketId::new_v4()) } else { (AF_INET6, SocketId::new_v6()) };
        socket_id.source_port = address.port();
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let query = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::SKMEMINFO,
            states: StateFlags::LISTEN,
            socket_id,
        };
        let mut packet = NetlinkMessage::new(header, SockDiagMessage::InetRequest(query).into());
        packet.finalize();
        let mut request = vec![0; packet.buffer_len()];
        packet.serialize(&mut request);
        Ok(Self { socket, request, answer: vec![0; 65_536], family, port: address.port() })
    }

    /// The queues now, by the inode of their listener.
    pub fn read(&mut self) -> Result<HashMap<u32, Queue>> {
        self.socket.send(&self.request, 0).context("sending to sock_diag")?;
        let mut queues = HashMap::new();
        loop {
            let length = self.socket.recv(&mut &mut self.answer[..], 0).context("receiving from sock_diag")?;
            let mut rest = &self.answer[..length];
            while !rest.is_empty() {
                let message =
                    NetlinkMessage::<SockDiagMessage>::deserialize(rest).context("decoding a sock_diag answer")?;
                let step = (message.header.length as usize).next_multiple_of(4).min(rest.len());
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(queues),
                    NetlinkPayload::Error(error) => bail!("sock_diag refused: {error}"),
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                        let header = response.header;
                        if header.family == self.family && header.socket_id.source_port == self.port {
                            let drops = response.nlas.iter().find_map(|nla| match nla {
                                Nla::MemInfo(memory) => Some(memory.drops),
                                _ => None,
                            });
                            let (length, limit) = (header.recv_queue, header.send_queue);
                            queues.insert(header.inode, Queue { length, limit, drops: drops.unwrap_or(0) });
                        }
                    }
                    _ => {}
                }
                if step == 0 {
                    bail!("sock_diag sent a message without length");
                }
                rest = &rest[step..];
            }
        }
    }
}

/// What a sample of one listener's queue costs on this machine: the median of a hundred, in nanoseconds.
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
