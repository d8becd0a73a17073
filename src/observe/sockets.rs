//! Sockets of a network namespace, read through sock_diag: `struct inet_diag_msg` of include/uapi/linux/inet_diag.h.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, anyhow, bail};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP},
    inet::{
        ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
        nlas::{MemInfo, Nla},
    },
    unix::{self, ShowFlags, UnixRequest, UnixResponse},
};
use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};
use serde::Serialize;

use super::listeners::Place;
use crate::scenario::Transport;

/// Remedy if sock_diag fails.
pub const REMEDY: &str =
    "load the modules inet_diag, tcp_diag, udp_diag and unix_diag, or allow NETLINK_SOCK_DIAG in the sandbox";

/// A sock_diag request that can be sent repeatedly, reusing its buffers.
pub struct SockDiag {
    socket: Netlink,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl SockDiag {
    /// Prepares a request for the sockets over IPv4 or IPv6 (the family of `of`) in these states, in the current
    /// network namespace. A nonzero port in `of` restricts it to that local port. Fails if the sandbox forbids such
    /// sockets.
    pub fn new(transport: Transport, states: StateFlags, of: SocketAddr) -> Result<Self> {
        Self::between(transport, states, of, 0)
    }

    /// The same, restricted to a remote port as well if that is not zero.
    fn between(transport: Transport, states: StateFlags, of: SocketAddr, remote_port: u16) -> Result<Self> {
        let (family, mut socket_id) =
            if of.is_ipv4() { (AF_INET, SocketId::new_v4()) } else { (AF_INET6, SocketId::new_v6()) };
        socket_id.source_port = of.port();
        socket_id.destination_port = remote_port;
        let protocol = match transport {
            Transport::Tcp => IPPROTO_TCP,
            Transport::Udp => IPPROTO_UDP,
        };
        let query = InetRequest { family, protocol, extensions: ExtensionFlags::SKMEMINFO, states, socket_id };
        Self::asking(SockDiagMessage::InetRequest(query))
    }

    /// Prepares a request for the Unix sockets that listen in the current network namespace.
    pub fn of_unix() -> Result<Self> {
        let query = UnixRequest {
            state_flags: unix::StateFlags::LISTEN,
            inode: 0,
            show_flags: ShowFlags::NAME | ShowFlags::VFS | ShowFlags::RQLEN,
            cookie: [0xff; 8],
        };
        Self::asking(SockDiagMessage::UnixRequest(query))
    }

    fn asking(query: SockDiagMessage) -> Result<Self> {
        let mut socket = Netlink::new(NETLINK_SOCK_DIAG).context("socket(NETLINK_SOCK_DIAG)")?;
        socket.bind_auto().context("bind of the sock_diag socket")?;
        socket.connect(&NetlinkAddr::new(0, 0)).context("connect of the sock_diag socket")?;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut packet = NetlinkMessage::new(header, query.into());
        packet.finalize();
        let mut request = vec![0; packet.buffer_len()];
        packet.serialize(&mut request);
        Ok(Self { socket, request, answer: vec![0; 65_536] })
    }

    /// Sends the request and visits every socket of the answer. Fails if the kernel refuses, for example because a
    /// module is missing.
    pub fn each(&mut self, mut visit: impl FnMut(&InetResponse)) -> Result<()> {
        self.each_answer(&mut |message| {
            if let SockDiagMessage::InetResponse(response) = message {
                visit(&response);
            }
        })
    }

    /// The same of Unix sockets.
    pub fn each_unix(&mut self, mut visit: impl FnMut(&UnixResponse)) -> Result<()> {
        self.each_answer(&mut |message| {
            if let SockDiagMessage::UnixResponse(response) = message {
                visit(&response);
            }
        })
    }

    fn each_answer(&mut self, visit: &mut impl FnMut(SockDiagMessage)) -> Result<()> {
        self.socket.send(&self.request, 0).context("sending to sock_diag")?;
        loop {
            let length = self.socket.recv(&mut &mut self.answer[..], 0).context("receiving from sock_diag")?;
            if each_in(&self.answer[..length], visit)? {
                return Ok(());
            }
        }
    }
}

/// Visits every socket of a piece of an answer. Returns whether it is the last piece.
pub fn each_in(answer: &[u8], visit: &mut impl FnMut(SockDiagMessage)) -> Result<bool> {
    let mut rest = answer;
    while !rest.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).context("decoding a sock_diag answer")?;
        let step = (message.header.length as usize).next_multiple_of(4).min(rest.len());
        match message.payload {
            // A dump that cannot start ends with an error.
            NetlinkPayload::Done(done) if done.code < 0 => return Err(refused(done.code)),
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return Err(refused(error.raw_code())),
            NetlinkPayload::InnerMessage(message) => visit(message),
            _ => {}
        }
        if step == 0 {
            bail!("sock_diag sent a message of length 0");
        }
        rest = &rest[step..];
    }
    Ok(false)
}

/// What a negative errno says. No kernel sends the lowest, whose sign cannot be changed.
fn refused(code: i32) -> anyhow::Error {
    anyhow!("sock_diag refused: {}", std::io::Error::from_raw_os_error(code.saturating_neg()))
}

/// The families of sockets that get what is sent to places, as wildcard addresses with the port of the places.
pub(super) fn one_of_each_family(places: &[Place]) -> impl Iterator<Item = SocketAddr> {
    let port = places.first().map_or(0, |place| place.address.port());
    let has_v4 = places.iter().any(|place| place.address.is_ipv4() || place.dual_stack);
    let has_v6 = places.iter().any(|place| place.address.is_ipv6());
    let v4 = has_v4.then(|| SocketAddr::from(([0; 4], port)));
    let v6 = has_v6.then(|| SocketAddr::from(([0_u16; 8], port)));
    v4.into_iter().chain(v6)
}

/// The socket's memory (INET_DIAG_SKMEMINFO), if reported: sockets in TIME_WAIT have none.
pub fn memory(response: &InetResponse) -> Option<&MemInfo> {
    response.nlas.iter().find_map(|nla| match nla {
        Nla::MemInfo(memory) => Some(memory),
        _ => None,
    })
}

/// Whether it takes IPv6 only (INET_DIAG_SKV6ONLY). Otherwise an IPv6 socket on the wildcard address also gets what is sent over IPv4.
pub fn ipv6_only(response: &InetResponse) -> bool {
    response.nlas.contains(&Nla::SkV6Only(true))
}

/// A socket state of include/net/tcp_states.h. UDP sockets use two: ESTABLISHED if connected, otherwise CLOSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "&'static str")]
pub struct State(u8);

impl State {
    /// Both sides may send.
    pub const ESTABLISHED: Self = Self(1);
    /// Closed, but the kernel still reserves its 4-tuple.
    pub const TIME_WAIT: Self = Self(6);
    /// Not connected: for TCP, bound without listening.
    pub const CLOSE: Self = Self(7);
    /// Closed by the peer, but not by the program.
    pub const CLOSE_WAIT: Self = Self(8);
    pub const LISTEN: Self = Self(10);

    /// The kernel's name, without `TCP_`.
    pub fn name(self) -> &'static str {
        match self.0 {
            1 => "ESTABLISHED",
            2 => "SYN_SENT",
            3 => "SYN_RECV",
            4 => "FIN_WAIT1",
            5 => "FIN_WAIT2",
            6 => "TIME_WAIT",
            7 => "CLOSE",
            8 => "CLOSE_WAIT",
            9 => "LAST_ACK",
            10 => "LISTEN",
            11 => "CLOSING",
            _ => "UNKNOWN",
        }
    }
}

impl From<State> for &'static str {
    fn from(state: State) -> Self {
        state.name()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// The local address. IPv4 addresses of IPv6 sockets are shown as IPv4, because both share one port space.
    pub local: SocketAddr,
    /// The peer's address; unspecified with port 0 if there is none.
    pub remote: SocketAddr,
    /// Index of the network device it is bound to; 0 if none.
    pub interface: u32,
    pub state: State,
    /// The inode, as in `/proc/PID/fd`; 0 without a descriptor: in TIME_WAIT, or not yet accepted.
    pub inode: u32,
    /// For a listener, connections in the accept queue; otherwise bytes received but not yet read.
    pub received: u32,
    /// For a listener, the effective backlog; otherwise bytes not yet acknowledged.
    pub sending: u32,
    /// For a listener, segments dropped so far; for UDP, datagrams lost so far (`sk_drops`).
    pub drops: u32,
    /// The receive buffer's size, in bytes (`sk_rcvbuf`).
    pub receive_buffer: u32,
}

impl Socket {
    /// Whether it listens, or is bound without having a peer.
    pub fn is_bound_only(&self) -> bool {
        self.remote.port() == 0
    }

    /// The socket of an answer.
    pub fn of(response: &InetResponse) -> Self {
        let header = &response.header;
        let id = &header.socket_id;
        let address = |ip: IpAddr, port| SocketAddr::new(ip.to_canonical(), port);
        let (drops, receive_buffer) =
            memory(response).map_or((0, 0), |memory| (memory.drops, memory.receive_queue_max));
        Self {
            local: address(id.source_address, id.source_port),
            remote: address(id.destination_address, id.destination_port),
            interface: id.interface_id,
            state: State(header.state),
            inode: header.inode,
            received: header.recv_queue,
            sending: header.send_queue,
            drops,
            receive_buffer,
        }
    }
}

/// Reads the sockets of the current network namespace over IPv4 and IPv6 in all states, including those that are only
/// bound (since Linux 6.8), with one local port or any. On a busy machine sockets come and go during the read. The
/// error includes a remedy.
pub fn read(transport: Transport, port: Option<u16>) -> Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    let unspecified: [IpAddr; 2] = [[0; 4].into(), [0_u16; 8].into()];
    for family in unspecified {
        // All bits: the crate's names lack TCPF_BOUND_INACTIVE.
        let states = StateFlags::from_bits_retain(!0);
        SockDiag::new(transport, states, SocketAddr::new(family, port.unwrap_or(0)))
            .and_then(|mut question| question.each(|response| sockets.push(Socket::of(response))))
            .with_context(|| format!("cannot read this network namespace's sockets: {REMEDY}"))?;
    }
    sockets.retain(|socket| port.is_none_or(|port| socket.local.port() == port));
    Ok(sockets)
}

/// Reads the sockets that are connected to an address, in all states. Those whose descriptors are closed are among them.
pub fn read_to(transport: Transport, remote: SocketAddr) -> Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    let unspecified: [IpAddr; 2] = [[0; 4].into(), [0_u16; 8].into()];
    // An IPv6 socket may be connected to an IPv4 address.
    for family in unspecified.into_iter().filter(|family| family.is_ipv6() || remote.is_ipv4()) {
        SockDiag::between(transport, StateFlags::from_bits_retain(!0), SocketAddr::new(family, 0), remote.port())
            .and_then(|mut question| question.each(|response| sockets.push(Socket::of(response))))
            .with_context(|| format!("cannot read this network namespace's sockets: {REMEDY}"))?;
    }
    sockets.retain(|socket| socket.remote == remote);
    Ok(sockets)
}
