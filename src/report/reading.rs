//! A record as read from its folder, and the files that are made from it. `run` writes them when it ends, `report` at any time.

use std::path::Path;

use anyhow::Result;

use super::{Document, Ranked, distributions::Distributions, exports};
use crate::{
    record::write_derived,
    stats::{self, ReadError, Record, Summary},
};

/// A record with what follows from it.
pub struct Reading {
    /// As it is on disk.
    pub record: Record,
    /// Of some latencies, by metric and cell.
    pub distributions: Distributions,
    /// Medians, intervals, comparisons, verdicts.
    pub summary: Summary,
}

impl Reading {
    /// Reads a record's folder.
    pub fn of(folder: &Path) -> Result<Self, ReadError> {
        let record = Record::read(folder)?;
        let summary = stats::summarize(&record);
        Ok(Self { distributions: Distributions::read(folder, &record, &summary)?, summary, record })
    }

    /// Its report.
    pub fn report(&self) -> Report<'_> {
        let ranked = Ranked::of(self);
        Report { document: Document::of(&ranked), ranked }
    }
}

/// A record's report, ready to be written in all its forms.
pub struct Report<'a> {
    /// What it is made from.
    pub ranked: Ranked<'a>,
    /// What it says.
    pub document: Document,
}

impl Report<'_> {
    /// Writes all files that are made from the record into its folder. Returns their names.
    pub fn write(&self, folder: &Path) -> Result<Vec<String>> {
        let files = exports::files(self)?;
        files.iter().try_for_each(|(name, text)| write_derived(folder, name, text))?;
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }
}
