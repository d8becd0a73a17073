//! Requests to the kernel's routing tables, devices and addresses: rtnetlink(7).

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
    rule::{RuleAttribute, RuleMessage, RulePortRange},
};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_ROUTE};

use super::rtmessage::{Answer, Request};

/// The shortest message: struct nlmsghdr.
const HEADER_BYTES: usize = 16;

/// A packet, as far as routing is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// IPPROTO_TCP or IPPROTO_UDP: rules may look at it, and at the ports.
    pub protocol: u8,
    /// The source address; `None` if the kernel is to choose it.
    pub source: Option<IpAddr>,
    /// 0 for any that no rule looks at.
    pub source_port: u16,
    /// Its port may be 0, like the source's.
    pub destination: SocketAddr,
}

/// The route that the kernel would take.
#[derive(Debug, Clone)]
pub struct Route {
    /// Where it leads.
    pub kind: RouteType,
    /// The source address that the kernel would choose; `None` if the packet has one.
    pub source: Option<IpAddr>,
}

/// What changes where packets go: devices, addresses, routes and rules.
const ROUTING_GROUPS: [u32; 7] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV6_RULE,
];

/// The routing tables of the network namespace that it was opened in.
#[derive(Debug)]
pub struct Routing {
    socket: Socket,
}

impl Routing {
    /// Those of the calling process's network namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&NetlinkAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// The route that the kernel would take for a packet that a process of the caller's user sends. Fails with the errno that sending it
    /// would cause, such as ENETUNREACH.
    pub fn route(&self, packet: &Packet) -> io::Result<Route> {
        let mut request = RouteMessage::default();
        let destination = packet.destination.ip();
        let (family, bits) = family(&destination);
        (request.header.address_family, request.header.destination_prefix_length) = (family, bits);
        request.attributes =
            vec![RouteAttribute::Destination(destination.into()), RouteAttribute::IpProto(packet.protocol)];
        for (port, attribute) in [
            (packet.source_port, RouteAttribute::Sport as fn(u16) -> RouteAttribute),
            (packet.destination.port(), RouteAttribute::Dport),
        ] {
            request.attributes.extend((port > 0).then(|| attribute(port)));
        }
        if let Some(source) = packet.source {
            request.header.source_prefix_length = bits;
            request.attributes.push(RouteAttribute::Source(source.into()));
        }
        self.send(Request::GetRoute(request), 0)?;
        match self.receive()?.messages.pop() {
            Some(Answer::NewRoute(route)) => {
                let source = route.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::PrefSource(RouteAddress::Inet(source)) => Some(IpAddr::from(*source)),
                    RouteAttribute::PrefSource(RouteAddress::Inet6(source)) => Some(IpAddr::from(*source)),
                    _ => None,
                });
                Ok(Route { kind: route.header.kind, source })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Ports that stand for all that the rules of an address's family can tell apart: of each range that a rule names its first port,
    /// and the one after its last.
    pub fn ruled_ports(&self, address: &IpAddr) -> io::Result<BTreeSet<u16>> {
        let mut request = RuleMessage::default();
        request.header.family = family(address).0;
        self.send(Request::GetRule(request), NLM_F_DUMP)?;
        let mut ports = BTreeSet::new();
        loop {
            let answers = match self.receive() {
                // A kernel without policy routing has no rules.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {
                    return Ok(ports);
                }
                answers => answers?,
            };
            for answer in answers.messages {
                let Answer::NewRule(rule) = answer else { return Err(unexpected(&answer)) };
                ports.extend(rule.attributes.iter().flat_map(borders));
            }
            if answers.last {
                return Ok(ports);
            }
        }
    }

    /// Sends a request.
    fn send(&self, request: Request, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut packet = NetlinkMessage::new(header, request.into());
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// Receives one datagram.
    fn receive(&self) -> io::Result<Answers> {
        let (bytes, _) = self.socket.recv_from_full()?;
        read(&bytes)
    }
}

/// Reads one datagram of the kernel's. Fails with the error that it reports, if any.
pub fn read(bytes: &[u8]) -> io::Result<Answers> {
    let mut rest = bytes;
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let message = NetlinkMessage::<Answer>::deserialize(rest).map_err(io::Error::other)?;
        // Each message is padded to a multiple of four bytes, and none is shorter than its header.
        let length = (message.header.length as usize).max(HEADER_BYTES).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
        match message.payload {
            // An error without a code is the acknowledgement.
            NetlinkPayload::Error(error) => {
                let Some(code) = error.code else { return Ok(Answers { messages, last: true }) };
                return Err(io::Error::from_raw_os_error(code.get().saturating_neg()));
            }
            NetlinkPayload::Done(_) => return Ok(Answers { messages, last: true }),
            NetlinkPayload::InnerMessage(message) => messages.push(message),
            other => return Err(unexpected(&other)),
        }
    }
    Ok(Answers { messages, last: false })
}

/// What one datagram of the kernel's has; none but its end is left of an acknowledgement.
pub struct Answers {
    pub messages: Vec<Answer>,
    /// Whether it ends the answer to a request for a list.
    last: bool,
}

/// Notices changes of what [`Routing`] reads.
#[derive(Debug)]
pub struct RoutingChanges {
    socket: Socket,
}

impl RoutingChanges {
    /// Changes from now on, in the calling process's network namespace.
    pub fn watch() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        for group in ROUTING_GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Self { socket })
    }

    /// Whether there was one since the last call. Neither allocates nor waits.
    pub fn any(&self) -> bool {
        let mut any = false;
        // What changed is of no interest: a message may be cut off. ENOBUFS means that there were too many to keep.
        let mut start = [0; 16];
        loop {
            match self.socket.recv(&mut &mut start[..], libc::MSG_DONTWAIT) {
                Ok(_) => any = true,
                Err(error) => return any || error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }
}

/// Asks the kernel to create a new object in the calling process's network namespace.
pub fn create(object: Request) -> io::Result<()> {
    let routing = Routing::open()?;
    routing.send(object, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)?;
    match routing.receive()?.messages.pop() {
        None => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn family(address: &IpAddr) -> (AddressFamily, u8) {
    if address.is_ipv4() { (AddressFamily::Inet, 32) } else { (AddressFamily::Inet6, 128) }
}

/// The ports at which a rule begins and ceases to match.
fn borders(attribute: &RuleAttribute) -> impl Iterator<Item = u16> + use<> {
    let range = match attribute {
        RuleAttribute::SourcePortRange(range) | RuleAttribute::DestinationPortRange(range) => Some(*range),
        _ => None,
    };
    range.into_iter().flat_map(|RulePortRange { start, end }| [Some(start), end.checked_add(1)]).flatten()
}

fn unexpected(answer: &impl std::fmt::Debug) -> io::Error {
    io::Error::other(format!("unexpected rtnetlink answer {answer:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_known_by_the_ports_at_its_borders() {
        let of = |range| borders(&range).collect::<Vec<u16>>();
        assert_eq!(of(RuleAttribute::SourcePortRange(RulePortRange { start: 80, end: 80 })), [80, 81]);
        assert_eq!(of(RuleAttribute::DestinationPortRange(RulePortRange { start: 1_024, end: 65_535 })), [1_024]);
        assert_eq!(of(RuleAttribute::Priority(80)), [0; 0]);
    }
}
