//! All TCP listeners of a network namespace, read through sock_diag.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use netlink_packet_sock_diag::inet::{InetResponse, StateFlags};

use super::{
    queues::Queue,
    sockets::{self, SockDiag},
};
use crate::scenario::Transport;

/// A listening socket. The sockets of a reuseport group share their place and differ in inode and cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub place: Place,
    /// As in `/proc/PID/fd`. The kernel may use it again.
    pub inode: u32,
    /// The kernel's number for the socket, which it gives when it is first asked and never uses again.
    pub cookie: u64,
    pub queue: Queue,
}

/// Where a listener listens: what connections it can get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The local address; that of an IPv6 socket at an IPv4-mapped address is shown as IPv4.
    pub address: SocketAddr,
    /// Whether a socket at the IPv6 wildcard address takes IPv4 connections too (IPV6_V6ONLY is off).
    pub dual_stack: bool,
    /// Index of the network device it is bound to (SO_BINDTODEVICE); 0 if none.
    pub device: u32,
}

impl Place {
    /// The place of a socket that is bound to an address and no device. A socket at IPv6's wildcard address takes IPv4, too.
    pub fn at(address: SocketAddr) -> Self {
        let dual_stack = address.is_ipv6() && address.ip().is_unspecified();
        Self { address, dual_stack, device: 0 }
    }

    /// Whether a socket at an address of the same port shares with this one what is sent here, or has a part of it for itself.
    pub fn is_shared_by(&self, other: IpAddr) -> bool {
        let (own, other) = (self.address.ip().to_canonical(), other.to_canonical());
        match own {
            own if !own.is_unspecified() => own == other,
            IpAddr::V4(_) => other.is_ipv4(),
            IpAddr::V6(_) => other.is_ipv6() || self.dual_stack,
        }
    }

    /// How well it fits connections to an address, 0 being best: the kernel prefers listeners of the very address to those of its
    /// family's wildcard, and these to IPv6's. `None` if it gets none of them.
    pub fn fit(&self, to: SocketAddr) -> Option<usize> {
        let (own, to_ip) = (self.address.ip().to_canonical(), to.ip().to_canonical());
        match own {
            _ if self.address.port() != to.port() => None,
            own if own == to_ip => Some(0),
            own if !own.is_unspecified() => None,
            own if own.is_ipv4() == to_ip.is_ipv4() => Some(1),
            _ => self.dual_stack.then_some(2),
        }
    }

    /// The places that get connections to an address.
    pub fn of_connections_to(to: SocketAddr, places: impl Iterator<Item = Self>) -> Vec<Self> {
        let fits: Vec<(usize, Self)> = places.filter_map(|place| Some((place.fit(to)?, place))).collect();
        let best = fits.iter().map(|(fit, _)| *fit).min();
        fits.into_iter().filter(|(fit, _)| Some(*fit) == best).map(|(_, place)| place).collect()
    }
}

/// Reads all listeners of one network namespace, reusing its buffers.
pub struct ListenerReader {
    /// One for each family.
    questions: Vec<SockDiag>,
}

impl ListenerReader {
    /// A reader for the calling process's current network namespace.
    pub fn new() -> Result<Self> {
        let wildcards = [IpAddr::from([0; 4]), IpAddr::from([0_u16; 8])].map(|any| SocketAddr::new(any, 0));
        let questions = wildcards.into_iter().map(|of| SockDiag::new(Transport::Tcp, StateFlags::LISTEN, of));
        Ok(Self { questions: questions.collect::<Result<_>>().context(sockets::REMEDY)? })
    }

    /// The listeners, by place and cookie.
    pub fn read(&mut self) -> Result<Vec<Listener>> {
        let mut listeners = Vec::new();
        for question in &mut self.questions {
            question
                .each(|response| listeners.push(Listener::of(response)))
                .with_context(|| format!("cannot read this network namespace's listeners: {}", sockets::REMEDY))?;
        }
        listeners.sort_unstable_by_key(|listener| (listener.place, listener.cookie));
        Ok(listeners)
    }
}

impl Listener {
    fn of(response: &InetResponse) -> Self {
        let header = &response.header;
        let id = &header.socket_id;
        let any_ipv6 = id.source_address.is_ipv6() && id.source_address.is_unspecified();
        let dual_stack = any_ipv6 && !sockets::ipv6_only(response);
        let drops = sockets::memory(response).map_or(0, |memory| memory.drops);
        Self {
            place: Place {
                address: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
                dual_stack,
                device: id.interface_id,
            },
            inode: header.inode,
            cookie: u64::from_ne_bytes(id.cookie),
            queue: Queue { length: header.recv_queue, limit: header.send_queue, drops },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn a_wildcard_is_shared_by_every_address_of_its_families() {
        for (own, other, expected) in [
            (place("127.0.0.1:80", false), "127.0.0.1", true),
            (place("127.0.0.1:80", false), "::ffff:127.0.0.1", true),
            (place("127.0.0.1:80", false), "0.0.0.0", false),
            (place("0.0.0.0:80", false), "127.0.0.1", true),
            (place("0.0.0.0:80", false), "::", false),
            (place("[::]:80", true), "127.0.0.1", true),
            (place("[::]:80", true), "::1", true),
            (place("[::]:80", false), "127.0.0.1", false),
            (place("[::1]:80", false), "::", false),
        ] {
            assert_eq!(own.is_shared_by(other.parse().unwrap()), expected, "{own:?} {other}");
        }
    }

    fn place(address: &str, dual_stack: bool) -> Place {
        Place { address: address.parse().unwrap(), dual_stack, device: 0 }
    }

    #[test]
    fn the_kernel_prefers_the_nearer_listener() {
        let (exact, any) = (place("127.0.0.1:80", false), place("0.0.0.0:80", false));
        let (dual, six) = (place("[::]:80", true), place("[::]:80", false));
        let of = |to: &str, places: &[Place]| Place::of_connections_to(to.parse().unwrap(), places.iter().copied());
        assert_eq!(of("127.0.0.1:80", &[any, exact, dual]), [exact]);
        assert_eq!(of("[::ffff:127.0.0.1]:80", &[any, exact, dual]), [exact]);
        assert_eq!(of("127.0.0.2:80", &[any, exact, dual]), [any]);
        assert_eq!(of("127.0.0.2:80", &[exact, dual]), [dual]);
        assert_eq!(of("127.0.0.2:80", &[exact, six]), []);
        assert_eq!(of("[::1]:80", &[any, exact, six]), [six]);
        assert_eq!(of("0.0.0.0:80", &[any, exact]), [any], "the listener itself");
        assert_eq!(of("127.0.0.1:81", &[any, exact, dual]), []);
    }

    #[test]
    fn listeners_are_told_apart() {
        let group = [0; 3].map(|_| {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket
        });
        group[0].bind(&SocketAddr::from(([0; 16], 0)).into()).unwrap();
        let address = group[0].local_addr().unwrap().as_socket().unwrap();
        group[1].bind(&address.into()).unwrap();
        group[2].set_only_v6(true).unwrap();
        // Of the very port, but not of the group: it takes IPv6 alone.
        group[2].bind(&address.into()).unwrap();
        let backlogs = [3, 5, 7];
        group.iter().zip(backlogs).for_each(|(socket, backlog)| socket.listen(backlog).unwrap());
        let _waiting = TcpStream::connect((std::net::Ipv6Addr::LOCALHOST, address.port())).unwrap();

        let all = ListenerReader::new().unwrap().read().unwrap();
        let here: Vec<&Listener> = all.iter().filter(|one| one.place.address.port() == address.port()).collect();
        let [v6_only, duals @ ..] = &here[..] else { panic!("{here:?}") };
        assert_eq!((v6_only.queue.limit, v6_only.place.dual_stack), (7, false));
        let mut limits: Vec<u32> = duals.iter().map(|one| one.queue.limit).collect();
        limits.sort_unstable();
        assert_eq!((&limits[..], duals.iter().all(|one| one.place.dual_stack)), (&[3, 5][..], true));
        assert!(duals[0].inode != duals[1].inode && duals[0].cookie != duals[1].cookie);
        assert_eq!(here.iter().map(|one| one.queue.length).sum::<u32>(), 1);
    }
}
