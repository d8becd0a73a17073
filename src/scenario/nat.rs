//! Source NAT in front of the clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{
    keys,
    model::{Network, Protocol, Transport},
    settings::Settings,
};

/// The first of the clients' IPv4 addresses: 100.64.0.0/10 is for networks behind a carrier's NAT (RFC 6598).
const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
/// The first of their IPv6 addresses, unique local ones (RFC 4193).
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x6e61, 0x74, 0, 0, 0, 0, 1);

/// Clients whose source addresses are translated to a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nat {
    /// At least one.
    pub clients: u32,
    pub ports: NatPorts,
    /// Ports to choose from, from 1024 on; `None` for the kernel's choice.
    pub port_count: Option<u16>,
}

/// How the translated port is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum NatPorts {
    /// The client's own, if it is free.
    Kept,
    /// From a start that a secret hash of the connection chooses.
    Random,
    /// By chance.
    FullyRandom,
}

impl Nat {
    /// The clients' addresses, of the family of this one.
    pub fn addresses(self, family: IpAddr) -> Vec<IpAddr> {
        let address = |number: u32| match family {
            IpAddr::V4(_) => IpAddr::V4((CLIENT_V4.to_bits() + number).into()),
            IpAddr::V6(_) => IpAddr::V6((CLIENT_V6.to_bits() + u128::from(number)).into()),
        };
        (0..self.clients).map(address).collect()
    }

    /// What a scenario that fills no ports says, without a look at whether it can be.
    pub(super) fn peek(settings: &Settings<'_>) -> Option<Self> {
        let clients = settings.peek(keys::NAT_CLIENTS);
        let count = settings.peek(keys::NAT_PORT_COUNT);
        let port_count = u16::try_from(count).ok().filter(|count| *count > 0);
        (clients > 0 && !settings.is_unix()).then(|| Self {
            clients,
            ports: settings.peek(keys::NAT_PORTS),
            port_count,
        })
    }

    pub(super) fn read(settings: &Settings<'_>, network: Network, protocol: Protocol) -> Option<Self> {
        if settings.is_unix() || settings.get(keys::NAT_CLIENTS) == 0 {
            return None;
        }
        settings.get(keys::NAT_PORTS);
        settings.get(keys::NAT_PORT_COUNT);
        let key = keys::NAT_CLIENTS;
        if network != Network::Veth {
            let problem =
                "NAT is between the clients' network and the server's, which are one here: set network = \"veth\"";
            settings.conflict(key, &[keys::NETWORK], problem);
        }
        if protocol.has(Transport::Udp) {
            let problem = "flows of datagrams are told apart by their clients' addresses, which NAT hides: set protocol = \"tcp\"";
            settings.conflict(key, &[keys::PROTOCOL], problem);
        }
        Self::peek(settings)
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::{Plan, Source};

    fn read(text: &str) -> Result<Plan, String> {
        Plan::read(&Source { name: "t", text }, &[]).map_err(|error| error.to_string())
    }

    #[test]
    fn clients_have_addresses_of_the_server_s_family() {
        for (address, last) in [("198.18.0.1", "100.64.1.44"), ("2001:2::1", "fd00:6e61:74::12c")] {
            let text = format!(
                "network = \"veth\"\naddress = \"{address}\"\nload.source_ports = \"bind-no-port\"\nnat.clients = 300"
            );
            let plan = read(&text).unwrap();
            let sources = plan.cells[0].scenario.sources().addresses;
            assert_eq!((sources.len(), sources[299]), (300, last.parse().unwrap()));
        }
    }

    #[test]
    fn what_nat_cannot_do_is_refused_with_the_reason() {
        for (text, says) in [
            ("nat.clients = 2\nload.source_ports = \"bind-no-port\"", "`nat.clients`: NAT is between"),
            ("network = \"veth\"\nnat.clients = 2", "`load.source_ports`: \"kernel\" leaves the address"),
            ("nat.ports = \"random\"", "`nat.ports` has no effect without `nat.clients`: set that"),
            (
                "network = \"veth\"\nprotocol = \"udp\"\nnat.clients = 2\nload.source_ports = \"bind-no-port\"",
                "`nat.clients`: flows of datagrams",
            ),
            (
                "network = \"veth\"\nnat.clients = 2\nload.source_ports = \"bind-no-port\"\nload.source_addresses = \"198.18.0.0\"",
                "`load.source_addresses`: with NAT",
            ),
            ("kind = \"ports\"\nnat.clients = 2\nload.source_ports = \"bind-no-port\"", "`nat.clients` has no effect"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
