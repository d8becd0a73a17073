//! `summary.json`: the summary itself.

use anyhow::Context;

use super::{Exporter, Render};

pub(super) const EXPORTER: Exporter = Exporter {
    name: "summary.json",
    render: Render::File(|report| {
        let text = serde_json::to_string_pretty(report.ranked.summary).context("writing the summary as JSON")?;
        Ok(Some(text + "\n"))
    }),
};
