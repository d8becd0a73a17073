//! Source ports and addresses of clients, and scenarios that are about ports.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{keys, model::Network, nat::Nat, settings::Settings};
use crate::sys::veth;

/// How client sockets get their source addresses and ports. `load::source` has a file for each selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// How a port is chosen.
    pub selection: Selection,
    /// Addresses to connect from, in turn; empty if the kernel picks.
    pub addresses: Vec<IpAddr>,
}

/// How a source port is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Selection {
    /// By connect(2).
    Kernel,
    /// By bind(2) to port 0.
    BindZero,
    /// By connect, after bind has set the address (IP_BIND_ADDRESS_NO_PORT).
    BindNoPort,
    /// By connect, within a window (IP_LOCAL_PORT_RANGE).
    RangeWindow,
    /// By the program.
    Explicit,
}

impl Selection {
    /// The name in scenarios.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A scenario that fills the ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// Where to connect to, in turn.
    pub destinations: Vec<SocketAddr>,
    /// The share of the capacity at which to stop, in thousandths; `None` for the wall.
    pub until_permille: Option<u32>,
    /// Points of the curve.
    pub steps: usize,
    /// The share of the capacity that must be available again after everything is closed, in thousandths.
    pub recover_permille: Option<u32>,
    /// The longest time to wait for that.
    pub recover_within: Duration,
}

impl Sources {
    pub(super) fn read(settings: &Settings<'_>, network: Network, target: IpAddr) -> Self {
        if settings.is_unix() {
            // Whichever process a client is of has its numbers.
            return Self { selection: keys::LOAD_SOURCE_PORTS.default(), addresses: Vec::new() };
        }
        let selection = settings.get(keys::LOAD_SOURCE_PORTS);
        let key = keys::LOAD_SOURCE_ADDRESSES;
        let addresses = settings.get(key);
        if let Some(nat) = Nat::peek(settings) {
            if selection == Selection::Kernel {
                let problem = "\"kernel\" leaves the address to connect(2), and clients behind NAT (`nat.clients`) have one each: use \"bind-no-port\" or another";
                settings.conflict(keys::LOAD_SOURCE_PORTS, &[keys::NAT_CLIENTS], problem);
            }
            if !addresses.is_empty() {
                let problem = "with NAT (`nat.clients`), clients have addresses of their own: remove it";
                settings.conflict(key, &[keys::NAT_CLIENTS], problem);
            }
            return Self { selection, addresses: nat.addresses(target) };
        }
        if !addresses.is_empty() && selection == Selection::Kernel {
            settings.conflict(
                key,
                &[keys::LOAD_SOURCE_PORTS],
                "load.source_ports = \"kernel\" leaves the address to connect(2): use \"bind-no-port\" or another",
            );
        }
        let own = |address: &IpAddr| match network {
            // All of 127.0.0.0/8 is local.
            Network::Namespace => address.is_loopback(),
            Network::Veth => veth::neighbour(target) == *address,
            Network::Host => true,
        };
        if let Some(address) = addresses.iter().find(|address| address.is_ipv4() != target.is_ipv4()) {
            settings.conflict(key, &[keys::ADDRESS], other_family(*address, target));
        } else if let Some(address) = addresses.iter().find(|address| !own(address)) {
            let problem = format_args!("{address} is not an address of the loaders' network").to_string();
            settings.conflict(key, &[keys::NETWORK, keys::ADDRESS], problem);
        }
        Self { selection, addresses }
    }
}

fn other_family(address: IpAddr, target: IpAddr) -> String {
    format!("{address} is not of the same family as `address`, {target}")
}

impl Fill {
    pub(super) fn read(settings: &Settings<'_>, target: SocketAddr) -> Self {
        let key = keys::PORTS_DESTINATION_ADDRESSES;
        let mut hosts = settings.get(key);
        if hosts.is_empty() {
            hosts.push(target.ip());
        }
        if let Some(host) = hosts.iter().find(|host| host.is_ipv4() != target.is_ipv4()) {
            settings.conflict(key, &[keys::ADDRESS], other_family(*host, target.ip()));
        }
        let mut numbers = settings.get(keys::PORTS_DESTINATION_PORTS);
        if numbers.is_empty() {
            numbers.push(target.port());
        }
        let permille = |share: f64| (share * 1_000.0).round() as u32;
        let (until, recover) = (settings.get(keys::PORTS_UNTIL), settings.get(keys::PORTS_RECOVER));
        Self {
            destinations: hosts
                .iter()
                .flat_map(|host| numbers.iter().map(|port| SocketAddr::new(*host, *port)))
                .collect(),
            until_permille: (until < 1.0).then(|| permille(until)),
            steps: settings.get(keys::PORTS_STEPS),
            recover_permille: (recover > 0.0).then(|| permille(recover)),
            recover_within: settings.get(keys::PORTS_RECOVER_WITHIN),
        }
    }
}
