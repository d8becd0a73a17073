//! A record read from its folder, and the files derived from it. `run` writes them when it ends, `report` at any time.

use std::path::Path;

use anyhow::Result;

use super::{Document, Ranked, distributions::Distributions, exports};
use crate::{
    record::write_derived,
    stats::{self, ReadError, Record, Summary},
};

/// A record with everything derived from it.
pub struct Reading {
    pub record: Record,
    /// Distributions of latencies, by metric and cell.
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
    pub fn write(&self, folder: &Path) -> Result<Vec<String>> {
        let files = exports::files(self)?;
        files.iter().try_for_each(|(name, text)| write_derived(folder, name, text))?;
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }
}
