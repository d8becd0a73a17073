//! Socket options and states that the safe crates do not cover.

use std::{
    io, mem,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::unix::UnixAddress;

/// States of the kernel's include/net/tcp_states.h: not connected, and SYN sent.
const TCP_CLOSE: u8 = 7;
const TCP_SYN_SENT: u8 = 2;

/// Whether a socket has a connection that is not fully closed: for TCP, a state other than CLOSE. A Unix socket keeps its peer as long as it
/// is open.
pub fn has_connection(socket: &impl AsFd) -> io::Result<bool> {
    match tcp_state(socket) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Ok(SockRef::from(&socket.as_fd()).peer_addr().is_ok())
        }
        state => Ok(state? != TCP_CLOSE),
    }
}

/// Whether a TCP socket has not yet received the answer to its SYN, or not even sent the SYN.
pub fn is_connecting(socket: &impl AsFd) -> io::Result<bool> {
    Ok(tcp_state(socket)? == TCP_SYN_SENT)
}

/// Connects to a Unix socket, and closes the connection.
pub fn reach(address: &UnixAddress) -> io::Result<()> {
    unix(address)?.connect(&address.sockaddr()?)
}

/// How many segments of the socket's connection the kernel has sent again; of a connection just established, or not yet: SYNs.
pub fn retransmissions(socket: &impl AsFd) -> io::Result<u32> {
    Ok(tcp_info(socket)?.tcpi_total_retrans)
}

/// How many connections wait in a listener's queue.
pub fn queue_length(listener: &impl AsFd) -> io::Result<u64> {
    // The kernel shows it in this field of a listener (net/ipv4/tcp.c, tcp_get_info).
    Ok(u64::from(tcp_info(listener)?.tcpi_unacked))
}

/// An address of an IPv6 socket as IPv4 has it, if it is one of IPv4's.
#[inline]
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

fn tcp_state(socket: &impl AsFd) -> io::Result<u8> {
    Ok(tcp_info(socket)?.tcpi_state)
}

/// getsockopt TCP_INFO.
fn tcp_info(socket: &impl AsFd) -> io::Result<libc::tcp_info> {
    // SAFETY: tcp_info is plain C data for which all-zero is a valid value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`, and the descriptor is open while borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &mut length,
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(info) }
}

/// A socket for connections by IP, non-blocking: of MPTCP, or of TCP.
pub fn stream(domain: Domain, multipath: bool) -> io::Result<Socket> {
    let protocol = multipath.then_some(Protocol::MPTCP);
    Socket::new(domain, Type::STREAM.nonblocking().cloexec(), protocol)
}

/// A Unix socket for connections to an address, or for its listener, non-blocking.
pub fn unix(address: &UnixAddress) -> io::Result<Socket> {
    let kind = if address.has_messages() { Type::SEQPACKET } else { Type::STREAM };
    Socket::new(Domain::UNIX, kind.nonblocking().cloexec(), None)
}

/// Whether a connection is by MPTCP. It is not if the other end did not ask for it, or answered without; of a socket of IPPROTO_MPTCP one says
/// that it fell back. `None` of one that the peer has reset too early to tell: before any data has arrived, the kernel makes it plain TCP's then.
pub fn is_multipath(socket: &impl AsFd) -> Option<bool> {
    /// From the kernel's include/linux/socket.h and include/uapi/linux/mptcp.h.
    const SOL_MPTCP: libc::c_int = 284;
    const MPTCP_INFO: libc::c_int = 1;
    const MPTCP_INFO_FLAG_FALLBACK: u32 = 1;
    /// The beginning of `struct mptcp_info`.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        subflows: [u8; 8],
        flags: u32,
    }
    let mut info = Info::default();
    let mut length = size_of::<Info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`, which any bytes make valid, and the descriptor is open while borrowed.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), SOL_MPTCP, MPTCP_INFO, (&raw mut info).cast(), &mut length)
    };
    if result == 0 {
        return Some(info.flags & MPTCP_INFO_FLAG_FALLBACK == 0);
    }
    // What accept(2) returns for a client without MPTCP is a socket of TCP itself.
    let is_plain = SockRef::from(socket).protocol().is_ok_and(|protocol| protocol == Some(Protocol::TCP));
    (is_plain || has_connection(socket).unwrap_or(true)).then_some(false)
}

/// The number by which BPF programs know the calling process's network namespace: getsockopt SO_NETNS_COOKIE (Linux 5.14).
pub fn network_cookie() -> io::Result<u64> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM.cloexec(), None)?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `cookie`, and the descriptor is open until `socket` is dropped.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &mut length,
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// Disconnects a TCP socket so that it can be used for another connection (connect(2) to AF_UNSPEC). The peer gets a
/// reset, as from a close with SO_LINGER 0: the kernel calls tcp_disconnect in both cases. A port chosen by the kernel
/// is released; options stay.
pub fn disconnect(socket: &impl AsFd) -> io::Result<()> {
    // SAFETY: sockaddr is plain C data for which all-zero is a valid value.
    let mut nowhere: libc::sockaddr = unsafe { mem::zeroed() };
    nowhere.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
    // SAFETY: the kernel reads one sockaddr, which lives until the call returns, and the descriptor is open while borrowed.
    let result = unsafe {
        libc::connect(socket.as_fd().as_raw_fd(), &raw const nowhere, size_of::<libc::sockaddr>() as libc::socklen_t)
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes accept on a listener return a connection only once its first data has arrived, or after about this many seconds. A client's
/// socket acknowledges the server's SYN-ACK only together with its first data (tcp_rcv_synsent_state_process), or after 200 ms
/// (setsockopt TCP_DEFER_ACCEPT).
pub fn set_defer_accept(socket: &impl AsFd, seconds: u32) -> io::Result<()> {
    set_tcp_option(socket, libc::TCP_DEFER_ACCEPT, seconds)
}

/// Accepts data in the SYN, for at most this many pending connections (setsockopt TCP_FASTOPEN).
pub fn set_fastopen(listener: &impl AsFd, queue: u32) -> io::Result<()> {
    set_tcp_option(listener, libc::TCP_FASTOPEN, queue)
}

fn set_tcp_option(socket: &impl AsFd, option: libc::c_int, value: u32) -> io::Result<()> {
    let value = libc::c_int::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    set_option(socket, libc::IPPROTO_TCP, option, value)
}

fn set_option(socket: &impl AsFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one int, which lives until the call returns, and the descriptor is open while borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How many datagrams a socket has lost so far because its buffer was full (getsockopt SO_MEMINFO, Linux 4.12).
pub fn datagrams_lost(socket: &impl AsFd) -> io::Result<u32> {
    /// From the kernel's include/uapi/linux/sock_diag.h: SK_MEMINFO_DROPS, and how many values there are up to it.
    const DROPS: usize = 8;
    let mut values = [0_u32; DROPS + 1];
    let mut length = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `values`, and the descriptor is open while borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(values[DROPS]) }
}

/// Keeps datagrams from arriving at a socket, and leaves what has arrived: binds it to a network device that does not exist, which takes it out of
/// its SO_REUSEPORT group and out of every lookup (setsockopt SO_BINDTOIFINDEX, Linux 5.1; net/core/sock.c, sock_bindtoindex_locked, and
/// net/ipv4/udp.c, udp_lib_rehash and compute_score). connect(2) would do so too, but makes lookups in the group slower from then on. An
/// ordinary user cannot where the socket is bound to a device.
pub fn end_delivery(socket: &impl AsFd) -> io::Result<()> {
    /// From the kernel's include/uapi/asm-generic/socket.h.
    const SO_BINDTOIFINDEX: libc::c_int = 62;
    // The kernel does not look for it.
    set_option(socket, libc::SOL_SOCKET, SO_BINDTOIFINDEX, libc::c_int::MAX)
}

/// Narrows the range from which connect(2) chooses the socket's port (setsockopt IP_LOCAL_PORT_RANGE, Linux 6.3). Only
/// the part inside sysctl ip_local_port_range takes effect.
pub fn set_local_port_range(socket: &impl AsFd, low: u16, high: u16) -> io::Result<()> {
    /// From the kernel's include/uapi/linux/in.h; used at level IP for IPv6, too.
    const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
    let value = u32::from(high) << 16 | u32::from(low);
    set_option(socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, value as libc::c_int)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn nothing_arrives_any_more_where_delivery_has_ended() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let mut address: SocketAddr = address.parse().unwrap();
            let mut sockets = Vec::new();
            for _ in 0..2 {
                let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).unwrap();
                socket.set_reuse_port(true).unwrap();
                socket.set_nonblocking(true).unwrap();
                socket.bind(&address.into()).unwrap();
                address = socket.local_addr().unwrap().as_socket().unwrap();
                sockets.push(socket);
            }
            let localhost = if address.is_ipv4() { "127.0.0.1" } else { "::1" };
            // The hash chooses by the sender's port.
            let senders: Vec<_> = (0..64).map(|_| std::net::UdpSocket::bind((localhost, 0)).unwrap()).collect();
            let all_send = || {
                senders.iter().for_each(|from| assert_eq!(from.send_to(b"x", (localhost, address.port())).unwrap(), 1));
            };
            let drain = |socket: &Socket| std::iter::from_fn(|| (&*socket).read(&mut [0]).ok()).count();
            all_send();
            end_delivery(&sockets[0]).unwrap();
            all_send();
            let [ended, other] = [0, 1].map(|number| drain(&sockets[number]));
            assert!((1..64).contains(&ended) && ended + other == 128, "{address}: {ended} and {other}");
            all_send();
            assert_eq!([0, 1].map(|number| drain(&sockets[number])), [0, 64], "{address}");
        }
    }

    #[test]
    fn connections_are_by_mptcp_if_both_ends_ask() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        if stream(Domain::IPV4, true).is_err() {
            // A kernel without it.
            return;
        }
        let socket = |multipath| {
            let socket = stream(Domain::IPV4, multipath).unwrap();
            socket.set_nonblocking(false).unwrap();
            socket
        };
        for (server, client) in [(true, true), (true, false), (false, true), (false, false)] {
            let (listener, connected) = (socket(server), socket(client));
            listener.bind(&any.into()).unwrap();
            listener.listen(1).unwrap();
            connected.connect(&listener.local_addr().unwrap()).unwrap();
            let accepted = listener.accept().unwrap().0;
            let expected = Some(server && client);
            assert_eq!((is_multipath(&connected), is_multipath(&accepted)), (expected, expected), "{server} {client}");
        }
    }
}
