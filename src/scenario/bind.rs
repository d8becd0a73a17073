//! Where our own server's listeners are bound, which need not be where its clients connect to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{
    keys::{self, AnyKey},
    model::Network,
    settings::Settings,
};
use crate::sys::veth;

/// The most addresses that a server may be bound to, as in `src/bpf/reuseport.h`.
pub const MOST_BOUND: usize = 16;

/// The loopback device.
pub const LOOPBACK: &str = "lo";

/// What our own server's listeners are bound to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bind {
    /// Local addresses, in order; none if it is the address that clients connect to.
    pub addresses: Vec<IpAddr>,
    /// Whether listeners on every address of IPv6 leave IPv4 alone; `None` for the kernel's default.
    pub v6only: Option<bool>,
    /// The network device that they are bound to, if any.
    pub device: Option<String>,
}

impl Bind {
    /// The local addresses of a server whose clients connect to this one.
    pub fn bound(&self, address: SocketAddr) -> Vec<SocketAddr> {
        if self.addresses.is_empty() {
            return vec![address];
        }
        self.addresses.iter().map(|ip| SocketAddr::new(*ip, address.port())).collect()
    }

    /// Reads what a server whose clients connect to an address is bound to.
    pub(super) fn read(settings: &Settings<'_>, network: Network, address: IpAddr) -> Self {
        if settings.is_unix() {
            return Self::default();
        }
        let addresses = settings.get(keys::SERVER_BIND);
        let of_ipv6 = |ip: &IpAddr| ip.is_ipv6() && ip.is_unspecified();
        let has_any = if addresses.is_empty() { of_ipv6(&address) } else { addresses.iter().any(of_ipv6) };
        let v6only = if has_any { settings.get(keys::SERVER_V6ONLY) } else { None };
        let device = settings.get(keys::SERVER_DEVICE).map(std::borrow::Cow::into_owned);
        let bind = Self { addresses, v6only, device };
        if let Some((key, problem)) = bind.objection(network, Some(address)) {
            let others: [&dyn AnyKey; 4] = [keys::SERVER_BIND, keys::ADDRESS, keys::NETWORK, keys::SERVER_V6ONLY];
            settings.conflict(key, &others, problem);
        }
        bind
    }

    /// What is wrong with it, and which key says so, in a network and if clients connect to this address, should there be any.
    pub fn objection(&self, network: Network, clients_to: Option<IpAddr>) -> Option<(&'static dyn AnyKey, String)> {
        let of_addresses = self.addresses.iter().find_map(|ip| out_of_place(*ip, network, clients_to));
        let of_addresses = of_addresses.or_else(|| self.overlap());
        if let Some(problem) = of_addresses {
            return Some((keys::SERVER_BIND, problem));
        }
        if let Some(problem) = clients_to.and_then(|address| self.missed(address)) {
            return Some(problem);
        }
        let device = self.device.as_deref()?;
        let (arrives_at, others) = match network {
            Network::Namespace => (LOOPBACK, ""),
            Network::Veth => (veth::DEVICE, " (the other device is `lo`)"),
            Network::Host => return None,
        };
        let network: &'static str = network.into();
        let problem = || {
            format!(
                "with network = \"{network}\", what clients send arrives at `{arrives_at}`, not at {device:?}{others}: use \"{arrives_at}\""
            )
        };
        (device != arrives_at).then(|| (keys::SERVER_DEVICE as &dyn AnyKey, problem()))
    }

    /// Two listeners that cannot both be there, as one of them takes what the other is for.
    fn overlap(&self) -> Option<String> {
        let any = self.addresses.iter().filter(|ip| ip.is_unspecified());
        any.flat_map(|any| self.addresses.iter().filter(move |ip| *ip != any).map(move |ip| (any, ip))).find_map(
            |(any, ip)| {
                if any.is_ipv4() == ip.is_ipv4() {
                    return Some(format!("{any} includes {ip}: leave out one of the two"));
                }
                let takes_both = any.is_ipv6() && self.v6only != Some(true);
                takes_both.then(|| {
                    format!(
                        "a listener on {any} takes IPv4 too, and so includes {ip}: set {} = true, or leave out {ip}",
                        keys::SERVER_V6ONLY.path()
                    )
                })
            },
        )
    }

    /// Whether one of its listeners takes connections to an address, as far as the scenario decides.
    fn takes(&self, address: IpAddr) -> bool {
        let takes = |bound: &IpAddr| match bound {
            bound if !bound.is_unspecified() => *bound == address,
            IpAddr::V4(_) => address.is_ipv4(),
            IpAddr::V6(_) => address.is_ipv6() || self.v6only != Some(true),
        };
        self.addresses.is_empty() || self.addresses.iter().any(takes)
    }

    /// What keeps clients that connect to an address from it.
    fn missed(&self, address: IpAddr) -> Option<(&'static dyn AnyKey, String)> {
        // An IPv4-mapped address is IPv4's.
        let address = address.to_canonical();
        if address.is_unspecified() || self.takes(address) {
            return None;
        }
        if (Self { v6only: None, ..self.clone() }).takes(address) {
            let problem = format!(
                "clients connect to {address}, and listeners on :: leave IPv4 alone: set false, add 0.0.0.0 to {}, or set an IPv6 `{}`",
                keys::SERVER_BIND.path(),
                keys::ADDRESS.path()
            );
            return Some((keys::SERVER_V6ONLY, problem));
        }
        let all: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        let problem = format!(
            "clients connect to {address}, and no listener on {} takes that: add it, or set another `{}`",
            all.join(", "),
            keys::ADDRESS.path()
        );
        Some((keys::SERVER_BIND, problem))
    }
}

/// What is wrong with a local address.
fn out_of_place(ip: IpAddr, network: Network, clients_to: Option<IpAddr>) -> Option<String> {
    let no_host = match ip {
        IpAddr::V4(v4) => v4 == Ipv4Addr::BROADCAST,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            return Some(format!("{ip} is a link-local address, which exists on one link only: use another"));
        }
        IpAddr::V6(v6) => {
            if let Some(v4) = v6.to_ipv4_mapped() {
                return Some(format!("{ip} is an IPv4 address in IPv6's form: write {v4}"));
            }
            false
        }
    };
    if no_host || ip.is_multicast() {
        return Some(format!(
            "{ip} is a multicast or broadcast address, which is not that of a single host: use another"
        ));
    }
    if ip.is_unspecified() || ip.is_loopback() {
        return None;
    }
    match network {
        Network::Namespace => Some(format!(
            "{ip} is not a loopback address, and network = \"netns\" has no others: use one, 0.0.0.0 or ::, or network = \"host\" for \
             an address of this machine"
        )),
        Network::Veth if clients_to != Some(ip) => Some(format!(
            "network = \"veth\" gives the server's device `address` and no other: use that, a loopback address, 0.0.0.0 or ::, not {ip}"
        )),
        Network::Veth | Network::Host => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objection(addresses: &[&str], v6only: Option<bool>, address: &str) -> Option<(&'static str, String)> {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let bind = Bind { addresses, v6only, device: None };
        let found = bind.objection(Network::Host, Some(address.parse().unwrap()));
        found.map(|(key, problem)| (key.path(), problem))
    }

    #[test]
    fn a_listener_must_take_what_clients_connect_to() {
        for (addresses, v6only, address, expected) in [
            (&[][..], None, "127.0.0.1", None),
            (&["0.0.0.0"], None, "127.0.0.1", None),
            (&["0.0.0.0"], None, "::1", Some("server.bind")),
            (&["::"], None, "127.0.0.1", None),
            (&["::"], Some(false), "127.0.0.1", None),
            (&["::"], Some(true), "127.0.0.1", Some("server.v6only")),
            (&["::"], Some(true), "::ffff:127.0.0.1", Some("server.v6only")),
            (&["::"], Some(true), "::1", None),
            (&["::", "0.0.0.0"], Some(true), "127.0.0.1", None),
            (&["::1"], None, "127.0.0.1", Some("server.bind")),
            (&["127.0.0.2", "127.0.0.3"], None, "127.0.0.3", None),
            (&["127.0.0.2", "127.0.0.3"], None, "127.0.0.1", Some("server.bind")),
        ] {
            let found = objection(addresses, v6only, address);
            assert_eq!(found.as_ref().map(|(path, _)| *path), expected, "{addresses:?} {v6only:?} {address} {found:?}");
        }
    }

    #[test]
    fn no_listener_takes_what_another_is_for() {
        for (addresses, v6only, expected) in [
            (["0.0.0.0", "127.0.0.1"], None, true),
            (["127.0.0.1", "0.0.0.0"], None, true),
            (["::", "::1"], Some(true), true),
            (["::", "0.0.0.0"], None, true),
            (["0.0.0.0", "::"], Some(false), true),
            (["0.0.0.0", "::"], Some(true), false),
            (["127.0.0.1", "::"], Some(true), false),
            (["127.0.0.1", "::1"], None, false),
        ] {
            let found = objection(&addresses, v6only, "127.0.0.1");
            assert_eq!(found.is_some(), expected, "{addresses:?} {v6only:?} {found:?}");
        }
    }

    #[test]
    fn a_device_is_one_where_clients_packets_arrive() {
        let address: IpAddr = "198.18.0.1".parse().unwrap();
        let objects = |device: &str, network| {
            let bind = Bind { device: Some(device.to_owned()), ..Bind::default() };
            bind.objection(network, Some(address)).is_some()
        };
        assert!(!objects("lo", Network::Namespace) && objects("veth0", Network::Namespace));
        assert!(objects("lo", Network::Veth) && !objects("veth0", Network::Veth));
        assert!(!objects("eth7", Network::Host), "that depends on the machine");
    }
}
