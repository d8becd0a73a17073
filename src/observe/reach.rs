//! Where packets to an address would go, by the kernel's own routing in the calling process's network namespace. Nothing is sent to
//! find out.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context, Result, bail};
use netlink_packet_route::route::RouteType;

use crate::{
    scenario::Transport,
    sys::rtnetlink::{Packet, Routing},
};

/// Where packets to an address would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// They stay in this network: RTN_LOCAL, or a loopback address while the loopback device is down, which leads nowhere else.
    Local,
    /// They leave this network for a single host, or would as soon as there is a route.
    Remote,
    /// A multicast or broadcast address: they could reach any number of hosts.
    Many,
    /// The wildcard address, which is not a destination.
    Wildcard,
    /// A link-local address of IPv6, which says nothing without its link.
    Link,
}

impl Reach {
    fn by(kind: &RouteType) -> Self {
        match kind {
            RouteType::Local => Self::Local,
            RouteType::Broadcast | RouteType::Multicast => Self::Many,
            _ => Self::Remote,
        }
    }

    /// What is wrong with sending packets there, as the end of a sentence; `None` if nothing is.
    pub fn objection(self) -> Option<&'static str> {
        match self {
            Self::Local => None,
            Self::Remote => {
                Some("not local by the routes of this network (`ip route get`): packets to it would leave this machine")
            }
            Self::Many => Some("a multicast or broadcast address, which is not that of a single host"),
            Self::Wildcard => {
                Some("the wildcard address, which is not that of a host: it stands for all of a listener's addresses")
            }
            Self::Link => Some("a link-local address, which exists on one link only"),
        }
    }
}

/// The routes of the network that the process was in when it opened them.
pub struct Routes {
    routing: Routing,
    /// Ports that stand for all that the rules of IPv4 and IPv6 can tell apart.
    ports: BTreeSet<u16>,
}

impl Routes {
    /// Those of the calling process's network.
    pub fn open() -> Result<Self> {
        let routing = Routing::open().context("socket(NETLINK_ROUTE)")?;
        // 0 is none that a rule names.
        let mut ports = BTreeSet::from([0]);
        for any in [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()] {
            ports.extend(routing.ruled_ports(&any).context("asking the kernel for its routing rules (RTM_GETRULE)")?);
        }
        Ok(Self { routing, ports })
    }

    /// Where packets to `to` would go, from `source` or else from the address that the kernel would choose.
    pub fn reach(&self, transport: Transport, source: Option<IpAddr>, to: SocketAddr) -> Result<Reach> {
        let source = source.map(|source| SocketAddr::new(source, 0));
        Ok(self.way(transport, source, to)?.0)
    }

    /// Where the packets of a connection would go: those to its server, and the server's to its client, which has the address `source`
    /// or else the one that the kernel would choose.
    pub fn reach_of_both(&self, transport: Transport, source: Option<IpAddr>, server: SocketAddr) -> Result<BothWays> {
        let (there, client) = self.way(transport, source.map(|source| SocketAddr::new(source, 0)), server)?;
        let back = match client {
            Some(client) if there == Reach::Local => {
                let (reach, _) = self.way(transport, Some(server), SocketAddr::new(client, 0))?;
                Some((client, reach))
            }
            _ => None,
        };
        Ok(BothWays { there, back })
    }

    /// Where packets would go, by any port where one is 0, and their source address, if there is one.
    fn way(&self, transport: Transport, source: Option<SocketAddr>, to: SocketAddr) -> Result<(Reach, Option<IpAddr>)> {
        // An IPv4-mapped address is IPv4's.
        let destination = SocketAddr::new(to.ip().to_canonical(), to.port());
        let from = source.map(|source| source.ip().to_canonical());
        let by_address = match destination.ip() {
            address if address.is_unspecified() => Some(Reach::Wildcard),
            address if address.is_multicast() || address == Ipv4Addr::BROADCAST => Some(Reach::Many),
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(Reach::Link),
            _ => None,
        };
        if let Some(reach) = by_address {
            return Ok((reach, from));
        }
        let ports = |known: u16| if known == 0 { self.ports.iter().copied().collect() } else { vec![known] };
        let mut chosen = from;
        for source_port in ports(source.map_or(0, |source| source.port())) {
            for port in ports(destination.port()) {
                let destination = SocketAddr::new(destination.ip(), port);
                let ask =
                    |source| self.ask(&Packet { protocol: protocol(transport), source, source_port, destination });
                let (mut reach, by_kernel) = ask(from)?;
                // Once the kernel has chosen the source address, it asks the rules again, which may look at it.
                if let (Reach::Local, None, Some(by_kernel)) = (reach, from, by_kernel) {
                    reach = ask(Some(by_kernel))?.0;
                }
                if reach != Reach::Local {
                    return Ok((reach, chosen));
                }
                chosen = chosen.or(by_kernel);
            }
        }
        Ok((Reach::Local, chosen))
    }

    /// Where one packet would go, and the source address that the kernel would choose.
    fn ask(&self, packet: &Packet) -> Result<(Reach, Option<IpAddr>)> {
        let destination = packet.destination.ip();
        match self.routing.route(packet) {
            Ok(route) => Ok((Reach::by(&route.kind), route.source)),
            Err(error) if is_unroutable(&error) && destination.is_loopback() => Ok((Reach::Local, None)),
            Err(error) if is_unroutable(&error) => Ok((Reach::Remote, None)),
            Err(error) => {
                Err(error).with_context(|| format!("asking the kernel for the route to {destination} (RTM_GETROUTE)"))
            }
        }
    }
}

/// Where the packets of a connection would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BothWays {
    /// The client's.
    pub there: Reach,
    /// The client's address, and where the server's packets to it would go; `None` where the client's do not stay, or have no route.
    pub back: Option<(IpAddr, Reach)>,
}

/// Demands that connections of this process to a listener of its own stay in its network: with the loopback device down, even those to a
/// loopback address may not.
pub fn demand_local(listener: SocketAddr) -> Result<()> {
    let ways = Routes::open()?.reach_of_both(Transport::Tcp, None, listener)?;
    let objections = [ways.there.objection(), ways.back.and_then(|(_, reach)| reach.objection())];
    if let Some(objection) = objections.into_iter().flatten().next() {
        bail!("{} is {objection}; bring up the loopback device: `ip link set lo up`", listener.ip());
    }
    Ok(())
}

fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => libc::IPPROTO_TCP as u8,
        Transport::Udp => libc::IPPROTO_UDP as u8,
    }
}

/// Whether an error means that the destination has no route, from the given source if any.
fn is_unroutable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL | libc::ENODEV | libc::EAGAIN)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(to: &str) -> Reach {
        Routes::open().unwrap().reach(Transport::Udp, None, to.parse().unwrap()).unwrap()
    }

    #[test]
    fn only_addresses_of_this_machine_are_local() {
        for (to, expected) in [
            ("127.0.0.1:80", Reach::Local),
            ("127.9.8.7:80", Reach::Local),
            ("[::1]:80", Reach::Local),
            ("[::ffff:127.0.0.1]:80", Reach::Local),
            // TEST-NET-1 (RFC 5737) and the documentation prefix (RFC 3849): nobody's.
            ("192.0.2.1:80", Reach::Remote),
            ("[::ffff:192.0.2.1]:80", Reach::Remote),
            ("[2001:db8::1]:80", Reach::Remote),
            ("[fe80::1]:80", Reach::Link),
            ("[fe80::1%1]:80", Reach::Link),
            ("239.1.1.1:80", Reach::Many),
            ("[::ffff:239.1.1.1]:80", Reach::Many),
            ("[ff02::1%1]:80", Reach::Many),
            ("255.255.255.255:80", Reach::Many),
            ("127.255.255.255:80", Reach::Many),
            ("0.0.0.0:80", Reach::Wildcard),
            ("[::]:80", Reach::Wildcard),
            ("[::ffff:0.0.0.0]:80", Reach::Wildcard),
        ] {
            assert_eq!(reach(to), expected, "{to}");
        }
    }
}
