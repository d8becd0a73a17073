//! Watches netfilter in a trial's networks: the rules that packets meet, and the table of tracked connections.

use anyhow::Result;

use super::networks::Networks;
use crate::{
    format::causes,
    observe::{
        conntrack::{self, TableReader},
        rules,
    },
    record::{Conntrack, ConntrackTable, NetworkRules, TrialRecord, Whose},
};

/// Watches the networks of a trial.
pub(super) struct TrackingWatch {
    tables: Vec<Watched>,
    rules: Vec<NetworkRules>,
}

/// The table of a network.
struct Watched {
    network: Whose,
    reader: TableReader,
    before: ConntrackTable,
    peak: u64,
}

impl TrackingWatch {
    /// Begins before the load, once all rules have been loaded.
    pub fn begin(networks: &Networks) -> Result<Self> {
        let mut watch = Self { tables: Vec::new(), rules: Vec::new() };
        if networks.shared() {
            watch.add(Whose::Shared);
        } else {
            watch.add(Whose::Server);
            networks.for_loaders(|| {
                watch.add(Whose::Loaders);
                Ok(())
            })?;
        }
        Ok(watch)
    }

    /// Adds the network of the calling process.
    fn add(&mut self, network: Whose) {
        let found = match rules::read() {
            Ok(rules) => NetworkRules { network, rules: Some(rules), missing: None },
            Err(why) => NetworkRules { network, rules: None, missing: Some(causes(&why)) },
        };
        if found.rules.as_ref().is_none_or(|rules| rules.any()) {
            self.rules.push(found);
        }
        // Without the module nothing is tracked.
        if let (Some(before), Some(reader)) = (conntrack::read(), TableReader::open()) {
            self.tables.push(Watched { network, reader, peak: before.entries, before });
        }
    }

    /// Samples the tables.
    pub fn sample(&mut self) -> Result<()> {
        for table in &mut self.tables {
            table.peak = table.peak.max(table.reader.entries()?);
        }
        Ok(())
    }

    /// Enters what was seen in the record. Only now are entries listed, where there are any.
    pub fn end(mut self, record: &mut TrialRecord) -> Result<()> {
        self.sample()?;
        record.rules = self.rules;
        for mut table in self.tables {
            record.conntrack.extend(table.end()?);
        }
        Ok(())
    }
}

impl Watched {
    /// `None` if nothing was tracked.
    fn end(&mut self) -> Result<Option<Conntrack>> {
        let Self { network, before, peak, .. } = *self;
        let counts = before.counts.zip(self.reader.counts()).map(|(before, after)| after.since(before));
        if peak == 0 && counts.is_none_or(|counts| counts == Default::default()) {
            return Ok(None);
        }
        let after = self.reader.entries()?;
        let (states, states_missing) = match self.reader.states() {
            Ok(states) => (Some(states), None),
            Err(why) => (None, Some(causes(&why))),
        };
        Ok(Some(Conntrack {
            network,
            before: before.entries,
            peak,
            after,
            limit: before.limit,
            counts,
            time_wait_s: before.time_wait_s,
            other_protocols: states.as_ref().map(|states| states.others),
            tcp_states: states.map(|states| states.tcp),
            states_missing,
        }))
    }
}
