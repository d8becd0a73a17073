//! The scenario of each trial, by the record's effective values.

use crate::{
    record::{TrialRecord, reader::SCENARIO},
    scenario::{Cell, Plan, Scenario, Source},
    stats::Record,
};

/// The cells of a record's scenario.
pub(super) struct Effective {
    cells: Vec<Cell>,
    /// The key that a search varies.
    searched: Option<String>,
}

impl Effective {
    /// Without cells if the scenario cannot be read.
    pub fn of(record: &Record) -> Self {
        let plan = Plan::read(&Source { name: SCENARIO, text: &record.scenario }, &[]);
        let searched = record.whole.search.as_ref().map(|search| search.variable.clone());
        Self { cells: plan.map_or_else(|_| Vec::new(), |plan| plan.cells), searched }
    }

    /// A trial's scenario, with what is swept in it. That of a search has the value from which the search began.
    pub fn of_trial(&self, trial: &TrialRecord) -> Option<OfTrial<'_>> {
        let is_its =
            |cell: &&Cell| cell.values.iter().all(|(name, value)| trial.cell.get(name.as_str()) == Some(value));
        let cell = self.cells.get(trial.cell_index).filter(is_its).or_else(|| self.cells.iter().find(is_its))?;
        Some(OfTrial { cell, searched: self.searched.as_deref() })
    }

    /// Whether all cells use Unix sockets.
    pub fn is_unix(&self) -> bool {
        !self.cells.is_empty() && self.cells.iter().all(|cell| cell.scenario.unix.is_some())
    }
}

/// The scenario of a trial.
pub(super) struct OfTrial<'a> {
    cell: &'a Cell,
    searched: Option<&'a str>,
}

impl<'a> OfTrial<'a> {
    /// For tests of what is said of a scenario.
    #[cfg(test)]
    pub fn of(cell: &'a Cell) -> Self {
        Self { cell, searched: None }
    }

    pub fn scenario(&self) -> &'a Scenario {
        &self.cell.scenario
    }

    /// Whether a key of this name is swept, of some population at least.
    pub fn sweeps(&self, name: &str) -> bool {
        let mut paths = self.cell.swept.iter().map(|(path, _)| &path[..]).chain(self.searched);
        paths.any(|path| path.rsplit('.').next() == Some(name))
    }
}
