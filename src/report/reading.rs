//! A record read from its folder, and the files derived from it. `run` writes them when it ends, `report` at any time.

use anyhow::Result;

use super::{
    Document, Ranked,
    distributions::{Distributions, Merger},
    exports,
};
use crate::{
    record::{Audit, Unwritten, histograms},
    stats::{self, ReadError, Record, Summary},
    sys::{folder::Folder, parallel},
};

/// A record with everything derived from it.
pub struct Reading {
    pub record: Record,
    /// Distributions of latencies, by metric and cell.
    pub distributions: Distributions,
    /// Medians, intervals, comparisons, verdicts.
    pub summary: Summary,
    /// What of the record's files is missing or unreadable, or contradicts the rest, a clause each.
    pub flaws: Vec<String>,
}

impl Reading {
    /// Reads a record's folder.
    pub fn of(folder: &Folder) -> Result<Self, ReadError> {
        let record = Record::read(folder)?;
        let (summary, mut audit) = parallel::both(|| stats::summarize(&record), || Audit::new(&record.trials));
        let mut merger = Merger::new(&record, &summary);
        let unreadable = histograms::for_each(folder, |part| {
            audit.add(&part);
            // A sum would count every value twice.
            if !part.name.is_sum() {
                merger.add(part);
            }
        })?;
        let mut flaws = record.flaws.clone();
        flaws.extend(audit.compare(&record.trials, unreadable));
        Ok(Self { distributions: merger.distributions(), summary, record, flaws })
    }

    /// Whether the record is damaged.
    pub fn is_damaged(&self) -> bool {
        !self.flaws.is_empty()
    }

    pub fn report(&self) -> Report<'_> {
        let ranked = Ranked::of(self);
        Report { document: Document::of(&ranked), ranked }
    }
}

/// A record's report, ready to be written in all forms.
pub struct Report<'a> {
    pub ranked: Ranked<'a>,
    pub document: Document,
}

impl Report<'_> {
    /// Writes all files derived from the record into its folder. Returns their names.
    pub fn write(&self, folder: &Folder) -> Result<Vec<String>> {
        folder.sweep();
        let files = self.files()?;
        for (name, text) in &files {
            folder.replace(name, text.as_bytes()).map_err(|error| Unwritten::derived(folder, name, error))?;
        }
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }

    /// All files derived from the record: name and text.
    pub fn files(&self) -> Result<Vec<(String, String)>> {
        exports::files(self)
    }
}
