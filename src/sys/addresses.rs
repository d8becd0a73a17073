//! This host's addresses, as getifaddrs(3) lists them, and others for a network of one's own.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
};

use anyhow::{Context, Result};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
};
use nix::{
    ifaddrs::getifaddrs,
    net::if_::{InterfaceFlags, if_nametoindex},
    sys::socket::SockaddrStorage,
};

use super::{rtmessage::Request, rtnetlink::create};

/// Makes an address one of the calling process's network namespace, which must be the process's own: on the loopback device, from where
/// packets leave by any other.
pub fn add_to_loopback(address: IpAddr) -> Result<()> {
    let mut message = AddressMessage::default();
    let (family, bits) = if address.is_ipv4() { (AddressFamily::Inet, 32) } else { (AddressFamily::Inet6, 128) };
    (message.header.family, message.header.prefix_len) = (family, bits);
    message.header.index = if_nametoindex("lo").context("if_nametoindex of lo")?;
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    create(Request::NewAddress(message)).with_context(|| format!("RTM_NEWADDR of {address} on lo"))
}

/// The addresses at which other hosts may reach this one, those that its default routes use first. Loopback addresses are included only
/// if there are no others; link-local addresses, which need a device name, are always left out.
pub fn own() -> io::Result<Vec<IpAddr>> {
    let mut own: Vec<IpAddr> = routed().collect();
    let mut loopback = Vec::new();
    for interface in getifaddrs()?.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP)) {
        let Some(address) = interface.address.as_ref().and_then(ip) else { continue };
        let list = if interface.flags.contains(InterfaceFlags::IFF_LOOPBACK) || address.is_loopback() {
            &mut loopback
        } else {
            &mut own
        };
        if !needs_device(address) && !list.contains(&address) {
            list.push(address);
        }
    }
    Ok(if own.is_empty() { loopback } else { own })
}

/// The source addresses towards the addresses of documentation (RFC 5737, RFC 3849), which no network has a closer route to. Nothing is
/// sent.
fn routed() -> impl Iterator<Item = IpAddr> {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let elsewhere: [IpAddr; 2] = [[192, 0, 2, 1].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()];
    let source = |(any, elsewhere)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((elsewhere, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|source: &IpAddr| !source.is_loopback() && !needs_device(*source))
    };
    any.into_iter().zip(elsewhere).filter_map(source)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

/// Whether an address is of one link only, so that connecting to it requires the name of a device.
fn needs_device(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_can_be_bound_and_are_listed_once() {
        let own = own().unwrap();
        assert!(!own.is_empty());
        for (number, address) in own.iter().enumerate() {
            UdpSocket::bind((*address, 0)).unwrap();
            assert!(!own[..number].contains(address), "{own:?}");
        }
        assert!(own.iter().all(|address| address.is_loopback()) || !own.iter().any(|address| address.is_loopback()));
    }

    #[test]
    fn addresses_of_one_link_are_left_out() {
        for (address, needed) in [("fe80::1", true), ("fd00::1", false), ("169.254.1.1", false), ("::1", false)] {
            assert_eq!(needs_device(address.parse().unwrap()), needed, "{address}");
        }
    }
}
