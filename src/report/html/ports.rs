//! What a connect costs as the ports fill.

use anyhow::Result;
use maud::{Markup, html};

use super::parts::{legend, notes, plot, section as titled, table};
use crate::report::{
    charts::{Subject, ports::ports},
    plot::{NARROW, WIDE},
};

/// The section; `None` where no ports were filled.
pub fn section(subject: &Subject<'_>) -> Result<Option<Markup>> {
    let Some(chart) = ports(subject) else { return Ok(None) };
    let drawn = plot(&chart.figure, &[WIDE, NARROW])?;
    let body = html! {
        (legend(chart.figure.lines.iter()))
        (drawn)
        (notes(&chart.notes))
        (table(&chart.table))
    };
    Ok(Some(titled("What a connect costs as the ports fill", &chart.title, &body)))
}
