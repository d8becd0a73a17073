//! `summary.json`: the summary, with the answers to the scenario's question.

use anyhow::Context;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Exporter, Render};
use crate::{
    json,
    report::{Answer, Report},
    stats::Summary,
};

/// `summary.json`.
#[derive(Serialize, JsonSchema)]
pub struct SummaryFile<'a> {
    /// What each metric that the question asks about says, the headline first.
    answers: &'a [Answer],
    #[serde(flatten)]
    summary: &'a Summary,
}

impl<'a> SummaryFile<'a> {
    /// The summary of a report's record.
    pub fn of(report: &'a Report<'_>) -> Self {
        Self { answers: &report.document.answers, summary: report.ranked.summary }
    }
}

pub(super) const EXPORTER: Exporter = Exporter {
    name: "summary.json",
    render: Render::File(|report| {
        let text = json::lines(&SummaryFile::of(report)).context("writing the summary as JSON")?;
        Ok(Some(text + "\n"))
    }),
};
