//! Time series: small charts beside each other, a row a cell.

use maud::{Markup, html};

use super::parts::{bare_table, folded, legend, notes, plot, section as titled};
use crate::report::{
    charts::{
        Subject,
        series::{CellSeries, series},
    },
    plot::SMALL,
};

/// More cells are folded.
const OPEN: usize = 6;

/// The section; `None` without workers' series.
pub fn section(subject: &Subject<'_>) -> Option<Markup> {
    let chart = series(subject)?;
    let drawn: Vec<Markup> = chart.cells.iter().map(cell).collect();
    let lines = chart.cells.iter().flat_map(|cell| &cell.figures).filter(|figure| figure.lines.len() > 1);
    let open = drawn.len().min(OPEN);
    let body = html! {
        (legend(lines.flat_map(|figure| &figure.lines)))
        @for cell in &drawn[..open] { (cell) }
        @if drawn.len() > open { (folded(&format!("{} more cells", drawn.len() - open), &html! { @for cell in &drawn[open..] { (cell) } })) }
        (notes(&chart.notes))
    };
    Some(titled("Over time, per worker", &chart.title, &body))
}

fn cell(cell: &CellSeries) -> Markup {
    html! {
        div.group {
            h3 { (cell.name) " " span.said { (cell.trial) } }
            @if !cell.faults.is_empty() { p.faults { @for fault in &cell.faults { span.key { (fault) } " " } } }
            div.panels { @for figure in &cell.figures { (plot(figure, &[SMALL])) } }
            (folded(&format!("Numbers: {} intervals", cell.table.rows.len()), &bare_table(&cell.table)))
        }
    }
}
