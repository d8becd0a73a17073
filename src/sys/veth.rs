//! A pair of virtual Ethernet devices that connects two network namespaces, created through rtnetlink(7).
//!
//! Their subnet has exactly two addresses: /31 (RFC 3021) or /127 (RFC 6164). One end's address therefore gives the
//! other's, and none is reserved for broadcast or routers. Each end gets a permanent neighbour entry for the other:
//! neighbour discovery would lose its first request to a device that is not quite up and retry only after a second.

use std::{
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context, Result};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};
use nix::net::if_::if_nametoindex;

use super::{
    namespace::{self, Namespace},
    rtmessage::Request,
    rtnetlink::create,
};

/// Name of the device at both ends, so that settings written for one end's device fit the other's.
pub const DEVICE: &str = "veth0";

/// The other address of the pair's subnet.
pub fn neighbour(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() ^ 1).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() ^ 1).into()),
    }
}

/// Creates a pair with one end, for the given address, in the calling process's network namespace and the other in
/// `far`. Both ends are down.
pub fn join(address: IpAddr, far: &Namespace) -> Result<()> {
    let end = |address| {
        let mut link = LinkMessage::default();
        link.attributes =
            vec![LinkAttribute::IfName(DEVICE.to_owned()), LinkAttribute::Address(link_address(address).to_vec())];
        link
    };
    let mut peer = end(neighbour(address));
    peer.attributes.push(LinkAttribute::NetNsFd(far.as_fd().as_raw_fd()));
    let mut link = end(address);
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    create(Request::NewLink(link)).context(
        "RTM_NEWLINK of a veth pair failed: this kernel has no veth devices (CONFIG_VETH, module veth), or this \
         user may not create them; use network = \"netns\"",
    )
}

/// Assigns the address to the end in the calling process's network namespace, brings it up and adds its neighbour. An
/// IPv6 address can be bound at once, without duplicate address detection.
pub fn set_up(address: IpAddr) -> Result<()> {
    let (family, prefix_len) = if address.is_ipv4() { (AddressFamily::Inet, 31) } else { (AddressFamily::Inet6, 127) };
    let index = if_nametoindex(DEVICE).with_context(|| format!("if_nametoindex of {DEVICE}"))?;
    let mut own = AddressMessage::default();
    (own.header.family, own.header.prefix_len, own.header.index) = (family, prefix_len, index);
    own.header.flags = AddressHeaderFlags::Nodad;
    // IPv4 distinguishes the local address from the peer's; on a subnet they are the same.
    own.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    create(Request::NewAddress(own)).with_context(|| {
        format!(
            "RTM_NEWADDR of {address} on {DEVICE} failed: the kernel rejects this `address`, or its protocol is disabled"
        )
    })?;
    namespace::bring_up(DEVICE).with_context(|| format!("SIOCSIFFLAGS of {DEVICE}"))?;
    let other = neighbour(address);
    let mut known = NeighbourMessage::default();
    (known.header.family, known.header.ifindex, known.header.state) = (family, index, NeighbourState::Permanent);
    known.attributes = vec![
        NeighbourAttribute::Destination(match other {
            IpAddr::V4(other) => NeighbourAddress::Inet(other),
            IpAddr::V6(other) => NeighbourAddress::Inet6(other),
        }),
        NeighbourAttribute::LinkLayerAddress(link_address(other).to_vec()),
    ];
    create(Request::NewNeighbour(known)).with_context(|| format!("RTM_NEWNEIGH of {other} on {DEVICE}"))
}

/// The link address of the end with this IP address: locally administered, and different for different addresses.
fn link_address(address: IpAddr) -> [u8; 6] {
    let last = match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    };
    [0x02, 0, 0, 0, 0, last]
}
