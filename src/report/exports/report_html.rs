//! `report.html`: the report as a page.

use super::{Exporter, Render};
use crate::report::html;

pub(super) const EXPORTER: Exporter =
    Exporter { name: "report.html", render: Render::File(|report| Ok(Some(html::render(&report.document)))) };
