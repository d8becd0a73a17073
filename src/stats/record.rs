//! A run read from disk, with the scenario it answers. Summaries and reports access a run only through this.

use std::{collections::HashSet, ops::Deref};

use thiserror::Error;

use crate::{
    record::{self, RawRecord, TrialRecord, VerdictName, reader::SCENARIO},
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

    /// Whether somebody ended the run during a trial.
    pub fn was_interrupted(&self) -> bool {
        let verdicts = || self.trials.iter().flat_map(|trial| &trial.verdicts);
        verdicts().any(|verdict| verdict.name == VerdictName::Interrupted)
    }

    /// What the scenario plans, of which trials are missing; `None` if its plan cannot be read.
    pub fn unrun(&self) -> Option<Unrun> {
        let plan = Plan::read(&Source { name: SCENARIO, text: &self.raw.scenario }, &[]).ok()?;
        let is_known = self.whole.stop.is_none() && self.whole.search.is_none();
        let known: HashSet<_> = self.trials.iter().map(|trial| trial.cell_index).collect();
        let unrun = plan.cells.iter().enumerate().filter(|(index, _)| !known.contains(index));
        Some(Unrun {
            planned: is_known.then_some(plan.trials.len()),
            cells: unrun.map(|(_, cell)| cell.label()).collect(),
        })
    }
}

/// What a record may lack.
#[derive(Debug)]
pub struct Unrun {
    /// The number of trials that were planned, if that was known in advance.
    pub planned: Option<usize>,
    /// The cells of which no trial was run, by their labels.
    pub cells: Vec<String>,
}

impl Deref for Record {
    type Target = RawRecord;

    fn deref(&self) -> &RawRecord {
        &self.raw
    }
}
