//! Which listeners to count.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::sys::{namespace::Namespace, unix::SERVER_END};

/// The listeners to count.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Inode of their network namespace.
    pub netns: u64,
    /// Their addresses: a connection counts if it was made to one of them. An unspecified address stands for all of its family, on a
    /// listener of that family. If there are none, every TCP listener counts.
    pub listeners: Vec<SocketAddr>,
    /// Whether they are Unix sockets, for which [`SERVER_END`] stands: see [`Accepts::listen`](super::Accepts::listen).
    pub on_unix: bool,
}

/// Whose connections are ours.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ours<'a> {
    /// Those that these processes of this host establish.
    pub processes: &'a [i32],
    /// Those that come from these addresses.
    pub hosts: &'a [IpAddr],
}

/// `struct host` of `src/bpf/observe.h`.
pub type Host = [u8; 16];

/// `struct endpoint` of `src/bpf/observe.h`.
pub type Endpoint = [u8; 20];

/// Families of entries that stand for more than one address, as in `src/bpf/observe.h`.
const EXACTLY: u16 = 0;
const SOME_IPV4: u16 = 0xfff4;
const SOME: u16 = 0xffff;

impl Filter {
    /// These listeners in the calling process's network namespace.
    pub fn here(listeners: Vec<SocketAddr>) -> anyhow::Result<Self> {
        Ok(Self { netns: Namespace::current()?.inode()?, listeners, on_unix: false })
    }

    /// Listeners on Unix sockets.
    pub fn unix() -> anyhow::Result<Self> {
        Ok(Self { on_unix: true, ..Self::here(vec![SERVER_END])? })
    }

    /// Whether a listener with this address may take connections that count.
    pub(super) fn admits(&self, listener: SocketAddr) -> bool {
        self.listeners.is_empty() || self.listeners.iter().any(|wanted| meet(*wanted, listener))
    }

    /// The entries that programs look for.
    pub(super) fn entries(&self) -> Vec<Endpoint> {
        self.listeners.iter().flat_map(|listener| entries(*listener)).collect()
    }
}

/// An address as programs look for it.
pub(super) fn host(address: IpAddr) -> Host {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Whether a connection to `wanted` may belong to `listener`, as `listens` of `src/bpf/observe.h` has it.
fn meet(wanted: SocketAddr, listener: SocketAddr) -> bool {
    let (address, at) = (wanted.ip().to_canonical(), listener.ip().to_canonical());
    let is_met = match (address.is_unspecified(), at.is_unspecified()) {
        (false, false) => address == at,
        (true, false) => address.is_ipv4() == at.is_ipv4(),
        // Every address of IPv6 may include those of IPv4.
        (_, true) => at.is_ipv6() || address.is_ipv4(),
    };
    is_met && wanted.port() == listener.port()
}

fn entries(listener: SocketAddr) -> Vec<Endpoint> {
    let (address, port) = (listener.ip().to_canonical(), listener.port());
    let nowhere = Ipv6Addr::UNSPECIFIED;
    let whole = match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => endpoint(nowhere, port, libc::AF_INET as u16),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => endpoint(nowhere, port, libc::AF_INET6 as u16),
        IpAddr::V4(v4) => endpoint(v4.to_ipv6_mapped(), port, EXACTLY),
        IpAddr::V6(v6) => endpoint(v6, port, EXACTLY),
    };
    // A listener on every address of IPv4 takes connections to some of IPv4's; one on every address of IPv6, perhaps to both.
    let some_ipv4 = address.is_ipv4().then(|| endpoint(nowhere, port, SOME_IPV4));
    [Some(whole), some_ipv4, Some(endpoint(nowhere, port, SOME))].into_iter().flatten().collect()
}

fn endpoint(address: Ipv6Addr, port: u16, family: u16) -> Endpoint {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&address.octets());
    bytes[16..18].copy_from_slice(&port.to_ne_bytes());
    bytes[18..].copy_from_slice(&family.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_every_address_take_connections_to_each() {
        for (wanted, listener, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "[::]:80", true),
            ("127.0.0.1:80", "[::1]:80", false),
            ("[::1]:80", "[::]:80", true),
            ("[::1]:80", "0.0.0.0:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "127.0.0.1:80", false),
        ] {
            let filter = Filter { netns: 1, listeners: vec![wanted.parse().unwrap()], on_unix: false };
            assert_eq!(filter.admits(listener.parse().unwrap()), expected, "{wanted} {listener}");
        }
        assert!(Filter { netns: 1, listeners: Vec::new(), on_unix: false }.admits("[::1]:80".parse().unwrap()));
    }

    #[test]
    fn programs_know_addresses_of_ipv4_as_mapped() {
        assert_eq!(host("10.0.0.1".parse().unwrap()), host("::ffff:10.0.0.1".parse().unwrap()));
        assert_eq!(host("fd00::1".parse().unwrap())[..2], [0xfd, 0]);
    }

    #[test]
    fn an_unspecified_address_stands_for_its_family() {
        let found = |listener: &str| entries(listener.parse().unwrap());
        let some = endpoint(Ipv6Addr::UNSPECIFIED, 80, SOME);
        let some_ipv4 = endpoint(Ipv6Addr::UNSPECIFIED, 80, SOME_IPV4);
        let of = |address: &str, family| endpoint(address.parse().unwrap(), 80, family);
        assert_eq!(found("127.0.0.1:80"), [of("::ffff:127.0.0.1", EXACTLY), some_ipv4, some]);
        assert_eq!(found("[::ffff:127.0.0.1]:80"), found("127.0.0.1:80"));
        assert_eq!(found("0.0.0.0:80"), [of("::", libc::AF_INET as u16), some_ipv4, some]);
        assert_eq!(found("[::]:80"), [of("::", libc::AF_INET6 as u16), some]);
        assert_eq!(found("[::1]:80"), [of("::1", EXACTLY), some]);
    }
}
