//! A run read from disk, with the scenario it answers. Summaries and reports access a run only through this.

use std::ops::Deref;

use thiserror::Error;

use crate::{
    record::{self, RawRecord, TrialRecord, reader::SCENARIO},
    scenario::{Plan, ScenarioError, Source, Whole},
    sys::folder::Folder,
};

/// A record as read from its folder.
#[derive(Debug)]
pub struct Record {
    pub raw: RawRecord,
    /// The scenario's settings for the run as a whole.
    pub whole: Whole,
}

/// Why a folder cannot be read as a record.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A file is missing, damaged, or of another version.
    #[error(transparent)]
    Files(#[from] record::ReadError),
    /// The scenario cannot be read.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

impl Record {
    /// Reads a record's folder.
    pub fn read(folder: &Folder) -> Result<Self, ReadError> {
        let raw = RawRecord::read(folder)?;
        let whole = Whole::parse(&folder.path().join(SCENARIO).display().to_string(), &raw.scenario)?;
        Ok(Self { raw, whole })
    }

    /// The names of the load's populations, in the scenario's order; empty unless there are several.
    pub fn populations(&self) -> Vec<&str> {
        let several = self.trials.iter().map(TrialRecord::populations).find(|loads| !loads.is_empty());
        several.unwrap_or_default().iter().map(|load| load.name.as_str()).collect()
    }

    /// The number of trials the scenario plans, if known in advance.
    pub fn planned(&self) -> Option<usize> {
        if self.whole.stop.is_some() || self.whole.search.is_some() {
            return None;
        }
        let plan = Plan::read(&Source { name: SCENARIO, text: &self.raw.scenario }, &[]).ok()?;
        Some(plan.trials.len())
    }
}

impl Deref for Record {
    type Target = RawRecord;

    fn deref(&self) -> &RawRecord {
        &self.raw
    }
}
