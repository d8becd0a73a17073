//! Ports that no client can have, because a socket listens on them or is bound to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result};

use super::Group;
use crate::{
    observe::{ports::Range, sockets},
    scenario::{Network, Scenario, Selection, Transport},
};

/// The addresses that sockets hold in the loaders' network: the server's own, once it listens, and on the host those of other
/// programs.
pub fn bound(scenario: &Scenario) -> Result<Vec<SocketAddr>> {
    let mut bound = Vec::new();
    if scenario.network != Network::Veth {
        bound.extend_from_slice(scenario.destinations());
    }
    if scenario.network == Network::Host {
        let all = sockets::read(Transport::Tcp, None).context("reading this machine's sockets")?;
        bound.extend(all.iter().filter(|socket| socket.is_bound_only()).map(|socket| socket.local));
    }
    Ok(bound)
}

/// The ports of a range that each group may use beside the sockets that hold these addresses.
pub fn usable(range: &Range, selection: Selection, groups: &[Group], bound: &[SocketAddr]) -> Vec<u64> {
    let of = |group: &Group| {
        let bars = |at: &&SocketAddr| range.is_usable(at.port()) && bars(selection, group, at.ip());
        let taken: BTreeSet<u16> = bound.iter().filter(bars).map(SocketAddr::port).collect();
        range.usable() - taken.len() as u64
    };
    groups.iter().map(of).collect()
}

/// The connections that all groups can have at once, by what each may use. bind to port 0 takes a port of its source address for every
/// destination, so groups with one source share its ports.
pub fn capacity(selection: Selection, groups: &[Group], usable: &[u64]) -> u64 {
    let mut sources = BTreeMap::new();
    for (group, usable) in groups.iter().zip(usable) {
        let ports = match selection {
            Selection::BindZero => (group.source, None),
            _ => (group.source, Some(group.number)),
        };
        let fewest = sources.entry(ports).or_insert(*usable);
        *fewest = (*fewest).min(*usable);
    }
    sources.into_values().sum()
}

/// Whether a group cannot use a port because a socket at this address holds it.
fn bars(selection: Selection, group: &Group, bound: IpAddr) -> bool {
    match selection {
        // connect's search passes over every port that a socket was bound to, whatever their addresses (kernel,
        // __inet_hash_connect).
        Selection::Kernel | Selection::BindNoPort | Selection::RangeWindow => true,
        // bind minds only sockets with which it would share an address.
        Selection::BindZero | Selection::Explicit => {
            bound.is_unspecified()
                || group.source.map_or(bound.is_ipv4() == group.destination.is_ipv4(), |source| source == bound)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_zero_has_one_port_space_a_source_address() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let pairs = ["127.0.0.2", "127.0.0.3"]
            .into_iter()
            .flat_map(|source| ["127.0.0.1:80", "127.0.0.1:81"].map(|to| (source, to)));
        let groups: Vec<Group> = pairs
            .enumerate()
            .map(|(number, (source, to))| Group { number, source: source.parse().ok(), destination: at(to) })
            .collect();
        for (selection, expected) in
            [(Selection::BindZero, 99 + 98), (Selection::BindNoPort, 398), (Selection::Explicit, 398)]
        {
            assert_eq!(capacity(selection, &groups, &[100, 99, 101, 98]), expected, "{}", selection.name());
        }
    }

    #[test]
    fn a_bound_port_is_lost_to_those_who_would_share_it() {
        let range = Range::parse("40000 40099", "40010-40019").unwrap();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let groups = |sources: &[&str]| -> Vec<Group> {
            let group = |(number, source): (usize, &&str)| Group {
                number,
                source: source.parse().ok(),
                destination: at("127.0.0.1:40005"),
            };
            sources.iter().enumerate().map(group).collect()
        };
        let both = groups(&["127.0.0.1", "127.0.0.2"]);
        let any = groups(&["the kernel picks"]);
        let of = |selection, groups: &[Group], bound: &[&str]| {
            usable(&range, selection, groups, &bound.iter().map(|text| at(text)).collect::<Vec<_>>())
        };
        use Selection::{BindNoPort, BindZero, Explicit, Kernel, RangeWindow};
        for selection in [Kernel, BindNoPort, RangeWindow] {
            assert_eq!(of(selection, &any, &[]), [90]);
            assert_eq!(of(selection, &any, &["127.0.0.1:40005"]), [89]);
            // Not inside, reserved, twice the same port, another address, another family.
            let bound = [
                "127.0.0.1:80",
                "127.0.0.1:40010",
                "127.0.0.1:40005",
                "127.0.0.2:40005",
                "127.0.0.2:40006",
                "[::1]:40007",
            ];
            assert_eq!(of(selection, &both, &bound), [87, 87]);
        }
        for selection in [BindZero, Explicit] {
            assert_eq!(of(selection, &both, &["127.0.0.1:40005"]), [89, 90]);
            assert_eq!(of(selection, &both, &["0.0.0.0:40005"]), [89, 89]);
            assert_eq!(of(selection, &any, &["127.0.0.2:40005", "[::1]:40006"]), [89]);
        }
    }
}
