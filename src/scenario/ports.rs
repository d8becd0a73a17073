//! Source ports and addresses of clients, and scenarios that are about ports.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{error::ScenarioError, model::Network, settings::Settings};

/// How client sockets get their source addresses and ports. `load::source` has a file for each selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// How a port is chosen.
    pub selection: Selection,
    /// Addresses to connect from, in turn; empty where the kernel picks.
    pub addresses: Vec<IpAddr>,
}

/// How a source port is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// By connect.
    Kernel,
    /// By bind to port 0.
    BindZero,
    /// By connect, after bind has set the address (IP_BIND_ADDRESS_NO_PORT).
    BindNoPort,
    /// By connect, within a window (IP_LOCAL_PORT_RANGE).
    RangeWindow,
    /// By the program.
    Explicit,
}

impl Selection {
    /// All, by the key's values.
    pub const ALL: [(&'static str, Self); 5] = [
        ("kernel", Self::Kernel),
        ("bind-zero", Self::BindZero),
        ("bind-no-port", Self::BindNoPort),
        ("range-window", Self::RangeWindow),
        ("explicit", Self::Explicit),
    ];

    /// The name in scenarios.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("?", |(name, _)| name)
    }
}

/// A scenario that fills the ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// Where to connect to, in turn.
    pub destinations: Vec<SocketAddr>,
    /// Stop at this part of the capacity, in thousandths; `None` for the wall.
    pub until_permille: Option<u32>,
    /// Points of the curve.
    pub steps: usize,
    /// After the wall and the end of all connections: which part of the capacity must be had again, in thousandths.
    pub recover_permille: Option<u32>,
    /// Longest time to wait for that.
    pub recover_within: Duration,
}

/// More addresses than this are a slip.
const ADDRESSES_LIMIT: usize = 256;

impl Sources {
    pub(super) fn read(settings: &Settings<'_>, network: Network, target: IpAddr) -> Result<Self, ScenarioError> {
        let selection = settings.choice("load.source_ports", &Selection::ALL)?;
        let path = "load.source_addresses";
        let text = settings.string(path)?;
        let addresses = if text.is_empty() { Vec::new() } else { addresses(settings, path, &text)? };
        if !addresses.is_empty() && selection == Selection::Kernel {
            return Err(settings.wrong(
                path,
                "load.source_ports = \"kernel\" leaves the address to connect: take \"bind-no-port\", or another",
            ));
        }
        if let Some(address) = addresses.iter().find(|address| address.is_ipv4() != target.is_ipv4()) {
            return Err(settings.wrong(path, format_args!("{address} is not of the family of `address`, {target}")));
        }
        let own = |address: &IpAddr| match network {
            // All of 127.0.0.0/8 is local.
            Network::Namespace => address.is_loopback(),
            Network::Veth => crate::sys::veth::neighbour(target) == *address,
            Network::Host => true,
        };
        if let Some(address) = addresses.iter().find(|address| !own(address)) {
            return Err(settings.wrong(path, format_args!("the loaders' network has no address {address}")));
        }
        Ok(Self { selection, addresses })
    }
}

impl Fill {
    pub(super) fn read(settings: &Settings<'_>, target: SocketAddr) -> Result<Self, ScenarioError> {
        let hosts = match settings.string("ports.destination_addresses")? {
            text if text.is_empty() => vec![target.ip()],
            text => addresses(settings, "ports.destination_addresses", &text)?,
        };
        let numbers = match settings.string("ports.destination_ports")? {
            text if text.is_empty() => vec![target.port()],
            text => port_numbers(settings, "ports.destination_ports", &text)?,
        };
        if let Some(host) = hosts.iter().find(|host| host.is_ipv4() != target.is_ipv4()) {
            return Err(
                settings.wrong("ports.destination_addresses", format_args!("{host} is not of `address`'s family"))
            );
        }
        let permille = |share: f64| (share * 1_000.0).round() as u32;
        let until = settings.number("ports.until", 0.001..=1.0)?;
        let recover = settings.number("ports.recover", 0.0..=1.0)?;
        Ok(Self {
            destinations: hosts
                .iter()
                .flat_map(|host| numbers.iter().map(|port| SocketAddr::new(*host, *port)))
                .collect(),
            until_permille: (until < 1.0).then(|| permille(until)),
            steps: settings.integer("ports.steps", 10..=1_000_u32)? as usize,
            recover_permille: (recover > 0.0).then(|| permille(recover)),
            recover_within: settings.span("ports.recover_within")?,
        })
    }
}

/// `127.0.0.2`, `127.0.0.2-127.0.0.9`, `127.0.1.0/28`, or several of these with commas between.
fn addresses(settings: &Settings<'_>, path: &str, text: &str) -> Result<Vec<IpAddr>, ScenarioError> {
    let wrong = |part: &str| {
        settings.wrong(
            path,
            format_args!("\"{part}\" is no address, range (a-b) or network (a/n) of {ADDRESSES_LIMIT} at most"),
        )
    };
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (low, high) = bounds(part).ok_or_else(|| wrong(part))?;
        let count = high.checked_sub(low).filter(|more| *more < ADDRESSES_LIMIT as u128).ok_or_else(|| wrong(part))?;
        let v4 = part.contains('.');
        all.extend((0..=count).map(|offset| {
            let bits = low + offset;
            if v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) }
        }));
    }
    if let Some(i) = (1..all.len()).find(|&i| all[..i].contains(&all[i])) {
        return Err(settings.wrong(path, format_args!("names {} twice", all[i])));
    }
    if all.len() > ADDRESSES_LIMIT {
        return Err(wrong(text));
    }
    Ok(all)
}

/// First and last address of a part, as numbers.
fn bounds(part: &str) -> Option<(u128, u128)> {
    let bits = |text: &str| match text.trim().parse().ok()? {
        IpAddr::V4(v4) => Some((u128::from(v4.to_bits()), 32_u32)),
        IpAddr::V6(v6) => Some((v6.to_bits(), 128)),
    };
    if let Some((low, high)) = part.split_once('-') {
        let (low, high) = (bits(low)?, bits(high)?);
        return (low.1 == high.1).then_some((low.0, high.0));
    }
    if let Some((address, length)) = part.split_once('/') {
        let ((address, width), length) = (bits(address)?, length.parse::<u32>().ok()?);
        let hosts = width.checked_sub(length).filter(|hosts| *hosts <= 8)?;
        let mask = (1_u128 << hosts) - 1;
        return Some((address & !mask, address | mask));
    }
    bits(part).map(|(address, _)| (address, address))
}

/// `7000`, `7000-7003`, or several of these with commas between.
fn port_numbers(settings: &Settings<'_>, path: &str, text: &str) -> Result<Vec<u16>, ScenarioError> {
    let wrong = || settings.wrong(path, format_args!("\"{text}\" is no list of ports such as \"7000-7003,8000\""));
    let mut all: Vec<u16> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (u16, u16) = (low.parse().map_err(|_| wrong())?, high.parse().map_err(|_| wrong())?);
        if low == 0 || high < low || usize::from(high - low) >= ADDRESSES_LIMIT {
            return Err(wrong());
        }
        all.extend(low..=high);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}
