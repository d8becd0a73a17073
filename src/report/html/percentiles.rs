//! Accept wait by percentile: a panel for each group of competing cells, all on one scale.

use maud::{Markup, html};

use super::parts::{folded, legend, notes, plot, section as titled, table};
use crate::report::{
    charts::{Subject, percentiles::percentiles},
    plot::{NARROW, WIDE},
};

/// More panels are folded.
const OPEN: usize = 6;

/// The section; `None` where nobody waited.
pub fn section(subject: &Subject<'_>) -> Option<Markup> {
    let chart = percentiles(subject)?;
    let forms = if chart.figures.len() == 1 { &[WIDE, NARROW][..] } else { &[NARROW] };
    let drawn: Vec<Markup> = chart.figures.iter().map(|figure| plot(figure, forms)).collect();
    let panels = |from: usize, to: usize| html! { div.panels[chart.figures.len() > 1] { @for panel in &drawn[from..to] { (panel) } } };
    let open = drawn.len().min(OPEN);
    let body = html! {
        (legend(chart.figures.iter().flat_map(|figure| &figure.lines)))
        (panels(0, open))
        @if drawn.len() > open { (folded(&format!("{} more settings", drawn.len() - open), &panels(open, drawn.len()))) }
        (notes(&chart.notes))
        (table(&chart.table))
    };
    Some(titled(&chart.subject, &chart.title, &body))
}
