//! Watches the table of tracked connections of one network namespace over some time.

use anyhow::Result;

use super::conntrack::{self, TableReader};
use crate::{
    format::causes,
    record::{Conntrack, ConntrackTable, Whose},
};

/// Watches a table.
#[derive(Debug)]
pub struct Tracking {
    network: Whose,
    reader: TableReader,
    before: ConntrackTable,
    peak: u64,
}

impl Tracking {
    /// Begins in the calling process's network namespace; `None` if connection tracking is not loaded.
    pub fn begin(network: Whose) -> Option<Self> {
        let before = conntrack::read()?;
        Some(Self { network, reader: TableReader::open()?, peak: before.entries, before })
    }

    /// Takes a sample. Returns the number of entries.
    pub fn sample(&mut self) -> Result<u64> {
        let entries = self.reader.entries()?;
        self.peak = self.peak.max(entries);
        Ok(entries)
    }

    /// What was seen since the beginning, without the states of the entries; `None` if nothing was tracked.
    pub fn so_far(&mut self) -> Result<Option<Conntrack>> {
        let after = self.sample()?;
        let Self { network, before, peak, .. } = *self;
        let counts = before.counts.zip(self.reader.counts()).map(|(before, after)| after.since(before));
        if peak == 0 && counts.is_none_or(|counts| counts == Default::default()) {
            return Ok(None);
        }
        Ok(Some(Conntrack {
            network,
            before: before.entries,
            peak,
            after,
            limit: before.limit,
            counts,
            time_wait_s: before.time_wait_s,
            ..Conntrack::default()
        }))
    }

    /// Adds the states of the entries, which takes a while if there are many.
    pub fn list(&self, seen: Conntrack) -> Conntrack {
        match self.reader.states() {
            Ok(states) => Conntrack { tcp_states: Some(states.tcp), other_protocols: Some(states.others), ..seen },
            Err(why) => Conntrack { states_missing: Some(causes(&why)), ..seen },
        }
    }
}
