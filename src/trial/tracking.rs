//! Watches netfilter in a trial's networks: the rules that packets meet, and the table of tracked connections.

use anyhow::Result;

use super::networks::Networks;
use crate::{
    context::Side,
    observe::{rules, tracking::Tracking},
    record::{NetworkRules, TrialRecord, Whose},
};

/// Watches the networks of a trial.
pub(super) struct TrackingWatch {
    tables: Vec<Tracking>,
    rules: Vec<NetworkRules>,
}

impl TrackingWatch {
    /// Begins before the load, once all rules have been loaded. `side`: which of server and loaders are on this host.
    pub fn begin(networks: &Networks, side: Side) -> Result<Self> {
        let mut watch = Self { tables: Vec::new(), rules: Vec::new() };
        match side {
            Side::Whole if networks.shared() => watch.add(Whose::Shared),
            Side::Whole | Side::Server => watch.add(Whose::Server),
            Side::Load => watch.add(Whose::Loaders),
        }
        if !networks.shared() {
            networks.for_loaders(|| {
                watch.add(Whose::Loaders);
                Ok(())
            })?;
        }
        Ok(watch)
    }

    /// Adds the network of the calling process.
    fn add(&mut self, network: Whose) {
        self.rules.extend(rules::of_network(network));
        self.tables.extend(Tracking::begin(network));
    }

    /// Samples the tables.
    pub fn sample(&mut self) -> Result<()> {
        self.tables.iter_mut().try_for_each(|table| table.sample().map(drop))
    }

    /// Enters what was seen in the record. Only now are entries listed, where there are any.
    pub fn end(self, record: &mut TrialRecord) -> Result<()> {
        record.rules = self.rules;
        for mut table in self.tables {
            record.conntrack.extend(table.so_far()?.map(|seen| table.list(seen)));
        }
        Ok(())
    }
}
