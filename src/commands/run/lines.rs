//! `run --json`: lines on standard output, for programs.

use std::path::Path;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use super::super::{Lines, say_json};
use crate::{
    record::TrialRecord,
    report::{Report, SummaryFile},
};

/// A line of `run --json`: each trial as it ends and, when a record is complete, its summary.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::commands) enum Line<'a> {
    /// A trial has ended.
    Trial {
        /// The record's folder.
        record: String,
        /// The trial, as in the record's trials.jsonl.
        trial: &'a TrialRecord,
    },
    /// A record is complete, even if the run was interrupted.
    Summary {
        /// The record's folder.
        record: String,
        /// The summary, as in the record's summary.json.
        summary: SummaryFile<'a>,
    },
}

/// Prints a trial that has ended.
pub(super) fn trial(folder: &Path, trial: &TrialRecord) -> Result<()> {
    say_json(&Line::Trial { record: folder.display().to_string(), trial }, Lines::One)
}

/// Prints a record's summary.
pub(super) fn summary(folder: &Path, report: &Report<'_>) -> Result<()> {
    say_json(&Line::Summary { record: folder.display().to_string(), summary: SummaryFile::of(report) }, Lines::One)
}
