//! The rules that packets pass on their way to the server: loaded into its network, compared with what the kernel then holds, and
//! counted at the end.

mod generated;

use std::fmt;

use anyhow::{Context, Result, bail};
use thiserror::Error;

use crate::{
    observe::nftables::Listing,
    record::{self, TrialRecord},
    scenario::{
        Firewall, Scenario,
        keys::{self, AnyKey},
    },
    sys::{clock, nft},
};

use generated::{ARRIVED, Holds, PASSED, REFUSED, TABLE};

/// What errors of nft call the generated text.
const GENERATED: &str = "generated rules";

/// Rules that were not loaded.
#[derive(Debug, Error)]
pub struct NotLoaded {
    /// The path of the key that asks for them.
    pub path: &'static str,
    pub problem: String,
}

impl fmt::Display for NotLoaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.path, self.problem)
    }
}

/// Rules in force.
#[derive(Debug)]
pub(super) struct InForce {
    row: record::Firewall,
    has_generated: bool,
    /// What counters of the user's held when they were loaded, as `nft list ruleset` prints them.
    counted_before: u64,
}

/// Loads a scenario's rules into the calling process's network, which must be the server's and the trial's own. Returns `None` if it
/// has none, and fails with a [`NotLoaded`] if nft refuses them.
pub(super) fn load(scenario: &Scenario) -> Result<Option<InForce>> {
    let Firewall { ruleset, generated } = &scenario.firewall;
    let Some(key) = scenario.firewall.key() else { return Ok(None) };
    let began_ns = clock::monotonic_ns();
    if let Some(ruleset) = ruleset {
        nft::load(&ruleset.name, &ruleset.text).map_err(|error| refused(keys::FIREWALL_RULES, &error))?;
    }
    let own = |table: &str| table == TABLE;
    let before = if ruleset.is_some() { held(own).map_err(|error| refused(key, &error))? } else { Holds::default() };
    if generated.any() {
        let server = (scenario.address.ip(), scenario.address.port());
        for text in generated::texts(generated, server, scenario.protocol) {
            nft::load(GENERATED, &text).map_err(|error| refused(key, &error))?;
        }
    }
    let load_ns = clock::monotonic_ns() - began_ns;
    let listing = Listing::of_all().map_err(|error| refused(key, &error))?;
    if generated.any() {
        let expected = generated::holds(generated, scenario.protocol);
        let found =
            Holds { rules: listing.rules(own) - before.rules, elements: listing.elements(own) - before.elements };
        if found != expected {
            bail!(
                "the kernel holds {} rules and {} elements of sets where {} and {} were loaded: another program changes the rules of \
                 the trial's network, or `{}` has a table `{TABLE}`",
                found.rules,
                found.elements,
                expected.rules,
                expected.elements,
                keys::FIREWALL_RULES.path()
            );
        }
    }
    let row = record::Firewall {
        ruleset: ruleset.as_ref().map(|ruleset| ruleset.name.clone()),
        rules: listing.rules(|_| true),
        elements: listing.elements(|_| true),
        compared: generated.count.into(),
        load_ns,
        ..record::Firewall::default()
    };
    let counted_before = listing.packets_outside(TABLE).unwrap_or(0);
    Ok(Some(InForce { row, has_generated: generated.any(), counted_before }))
}

fn held(is_one: impl Fn(&str) -> bool + Copy) -> Result<Holds> {
    let listing = Listing::of_all()?;
    Ok(Holds { rules: listing.rules(is_one), elements: listing.elements(is_one) })
}

fn refused(key: &'static dyn AnyKey, error: &anyhow::Error) -> anyhow::Error {
    NotLoaded { path: key.path(), problem: crate::format::causes(error) }.into()
}

impl InForce {
    /// Enters the packets that the rules have counted, once no more are to come, and returns how many of them were datagrams that generated
    /// rules refused.
    pub fn end(self, record: &mut TrialRecord) -> Result<u64> {
        let Self { mut row, has_generated, counted_before } = self;
        // Rules of the user's may have counters without a name.
        let listing = if row.ruleset.is_some() { Listing::of_all() } else { Listing::of_counters() };
        let listing = listing.context("reading the counters of the firewall")?;
        if has_generated {
            row.passed = listing.packets(TABLE, PASSED);
            row.arrived = listing.packets(TABLE, ARRIVED);
        }
        let counted = row.ruleset.as_ref().and_then(|_| listing.packets_outside(TABLE));
        row.counted = counted.map(|packets| packets.saturating_sub(counted_before));
        record.firewall = Some(row);
        Ok(listing.packets(TABLE, REFUSED).unwrap_or(0))
    }
}
