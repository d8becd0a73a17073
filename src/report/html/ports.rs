//! What a connect costs as the ports fill.

use maud::{Markup, html};

use super::parts::{legend, notes, plot, section as titled, table};
use crate::report::{
    charts::{Subject, ports::ports},
    plot::{NARROW, WIDE},
};

/// The section; `None` where no ports were filled.
pub fn section(subject: &Subject<'_>) -> Option<Markup> {
    let chart = ports(subject)?;
    let body = html! {
        (legend(chart.figure.lines.iter()))
        (plot(&chart.figure, &[WIDE, NARROW]))
        (notes(&chart.notes))
        (table(&chart.table))
    };
    Some(titled("What a connect costs as the ports fill", &chart.title, &body))
}
