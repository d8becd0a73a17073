//! Accept queues, read by sock_diag: for a listening socket the kernel gives the queue's length and limit.

use std::{collections::HashMap, net::SocketAddr};

use anyhow::{Context, Result, bail};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};

/// An accept queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queue {
    /// Connections waiting (`idiag_rqueue`).
    pub length: u32,
    /// The backlog in force (`idiag_wqueue`): the queue holds one more.
    pub limit: u32,
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
            extensions: ExtensionFlags::empty(),
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
                            queues.insert(header.inode, Queue { length: header.recv_queue, limit: header.send_queue });
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
