//! Source NAT where packets leave the clients' network: loaded there, and counted at the end.

use anyhow::{Context, Result};

use super::{firewall, networks::Networks};
use crate::{
    observe::nftables::Listing,
    record::{self, TrialRecord},
    scenario::{
        Nat, NatPorts, Scenario,
        keys::{self, AnyKey},
    },
    sys::{nft, veth},
};

const TABLE: &str = "listenbench_nat";
/// Counts the packets that begin a connection, and are to be translated.
const BEGUN: &str = "begun";
/// The first port that is not reserved for servers.
const FIRST_PORT: u16 = 1_024;

/// NAT in force.
#[derive(Debug)]
pub(super) struct Translating {
    nat: Nat,
}

/// Loads a scenario's NAT into the loaders' network. Returns `None` if it has none, and fails with a [`firewall::NotLoaded`] if nft refuses it.
pub(super) fn load(scenario: &Scenario, networks: &Networks) -> Result<Option<Translating>> {
    let Some(nat) = scenario.nat else { return Ok(None) };
    networks.for_loaders(|| {
        nft::load("generated NAT", &text(nat)).map_err(|error| firewall::NotLoaded {
            path: keys::NAT_CLIENTS.path(),
            problem: crate::format::causes(&error),
        })?;
        Ok(Some(Translating { nat }))
    })
}

/// The rules for nft. Only the first packet of a connection comes to them.
fn text(nat: Nat) -> String {
    let how = match nat.ports {
        NatPorts::Kept => "",
        NatPorts::Random => " random",
        NatPorts::FullyRandom => " fully-random",
    };
    let range =
        nat.port_count.map_or_else(String::new, |count| format!(" to :{FIRST_PORT}-{}", FIRST_PORT - 1 + count));
    format!(
        "table inet {TABLE} {{\n\tcounter {BEGUN} {{ }}\n\tchain out {{\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n\
         \t\toifname {} meta l4proto tcp counter name {BEGUN} masquerade{range}{how}\n\t}}\n}}\n",
        veth::DEVICE
    )
}

impl Translating {
    /// Enters what NAT has counted, once no more packets are to come.
    pub fn end(self, networks: &Networks, record: &mut TrialRecord) -> Result<()> {
        let Self { nat } = self;
        let listing = networks.for_loaders(|| Listing::of_counters().context("reading the counter of NAT"))?;
        record.nat = Some(record::Nat {
            clients: nat.clients.into(),
            ports: nat.port_count.map(u64::from),
            begun: listing.packets(TABLE, BEGUN),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_says_which_ports_and_how_they_are_chosen() {
        for (ports, port_count, expected) in [
            (NatPorts::Kept, None, "masquerade\n"),
            (NatPorts::Random, Some(1), "masquerade to :1024-1024 random\n"),
            (NatPorts::FullyRandom, Some(64_512), "masquerade to :1024-65535 fully-random\n"),
        ] {
            let text = text(Nat { clients: 1, ports, port_count });
            assert!(text.contains(expected), "{text}");
        }
    }
}
