//! `summary.md`: the report in Markdown.

use super::{Exporter, Render};
use crate::report::markdown;

pub(super) const EXPORTER: Exporter =
    Exporter { name: "summary.md", render: Render::File(|report| Ok(Some(markdown::render(&report.document)))) };
