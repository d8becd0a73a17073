//! The cells' medians so far.

use crate::format::plural;
use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};
use textwrap::core::display_width;

use super::{
    Palette,
    text::{cut, put, row},
};
use crate::live::model::Model;

const GAP: usize = 2;
/// The fewest columns left for a cell's name.
const NAME: usize = 16;

/// Rows of the whole table, with its head and a blank row before it; 0 before the first trial has ended.
pub(super) fn rows(model: &Model) -> u16 {
    if model.results.len() == 0 { 0 } else { u16::try_from(model.results.len() + 2).unwrap_or(u16::MAX) }
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let (heads, rows) = model.results.table();
    let wide = |column: usize| {
        let values = rows.iter().map(|row| display_width(&row[column]));
        values.max().unwrap_or(0).max(display_width(heads[column]))
    };
    let mut widths: Vec<usize> = (1..heads.len()).map(wide).collect();
    let room = usize::from(area.width);
    while NAME + widths.iter().map(|width| width + GAP).sum::<usize>() > room {
        widths.pop();
    }
    let name = wide(0).min(room - widths.iter().map(|width| width + GAP).sum::<usize>());
    let line = |texts: &[String]| {
        let mut line = cut(&texts[0], name);
        line += &" ".repeat(name.saturating_sub(display_width(&line)));
        for (text, width) in texts[1..].iter().zip(&widths) {
            line += &" ".repeat(GAP + width.saturating_sub(display_width(text)));
            line += text;
        }
        line
    };
    let mut heads: Vec<String> = heads.into_iter().map(str::to_owned).collect();
    "medians so far".clone_into(&mut heads[0]);
    put(frame, row(area, 1), Line::from(Span::styled(line(&heads), palette.faint())));
    let places = usize::from(area.height).saturating_sub(2);
    let shown = if rows.len() > places { places.saturating_sub(1) } else { rows.len() };
    for (number, texts) in rows.iter().take(shown).enumerate() {
        put(frame, row(area, number as u16 + 2), Line::from(line(texts)));
    }
    if shown < rows.len() {
        let more = format!("… and {}", plural(rows.len() - shown, "more cell"));
        put(frame, row(area, shown as u16 + 2), Line::from(Span::styled(more, palette.faint())));
    }
}
