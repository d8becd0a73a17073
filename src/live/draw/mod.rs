//! The screen from top to bottom: the run, the trial, its figures, workers and course, the results and the log.

mod course;
mod figures;
mod header;
mod log;
pub(super) mod observed;
mod palette;
mod results;
mod text;
mod workers;

use ratatui::{
    Frame,
    layout::Rect,
    text::Span,
    widgets::{Paragraph, Wrap},
};

pub(super) use palette::Palette;
pub use palette::use_colours;

use self::text::{cut, pair};
use super::model::Model;

/// A smaller terminal shows a message instead.
const WIDTH: u16 = 80;
const HEIGHT: u16 = 24;
/// Rows reserved for the log, its title included.
const LOG_ROWS: u16 = 4;
/// The same if there are results to show.
const LOG_ROWS_BESIDE_RESULTS: u16 = 8;
const COURSE_ROWS: u16 = 3;
/// A terminal with this many rows has some to spare.
const TALL: u16 = 36;

const KEYS: &str = "q quits and keeps finished trials";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, palette: Palette) {
    let whole = frame.area();
    if whole.width < WIDTH || whole.height < HEIGHT {
        return too_small(frame, model);
    }
    let mut rest = Rect { x: whole.x + 1, width: whole.width - 2, ..whole };
    let foot = bottom(&mut rest, 1);
    let keys = if model.quitting { "quitting …" } else { KEYS };
    let waits = cut(&model.waits, usize::from(foot.width).saturating_sub(keys.len() + 2));
    pair(frame, foot, Span::styled(keys, palette.faint()), Span::styled(waits, palette.faint()));
    header::draw(frame, top(&mut rest, header::ROWS), model, palette);
    let Some(trial) = &model.trial else { return };
    top(&mut rest, 1);
    figures::draw(frame, top(&mut rest, figures::ROWS), trial, palette);
    top(&mut rest, 1);
    let workers = workers::rows(trial).min(rest.height - COURSE_ROWS - LOG_ROWS);
    if workers > 0 {
        workers::draw(frame, top(&mut rest, workers), trial, palette);
    }
    // Filling ports has no workers, so its course gets more room.
    let course = if workers == 0 { COURSE_ROWS + 3 } else { COURSE_ROWS };
    let course = if whole.height >= TALL { course + 2 } else { course };
    course::draw(frame, top(&mut rest, course), trial, palette);
    let results = results::rows(model);
    if results > 0 && rest.height >= LOG_ROWS_BESIDE_RESULTS + results.min(5) {
        let rows = results.min(rest.height - LOG_ROWS_BESIDE_RESULTS);
        results::draw(frame, top(&mut rest, rows), model, palette);
    }
    log::draw(frame, rest, model, palette);
}

fn too_small(frame: &mut Frame<'_>, model: &Model) {
    let Rect { width, height, .. } = frame.area();
    let text = format!(
        "The live view needs {WIDTH}×{HEIGHT}; this terminal is {width}×{height}. Measuring continues: trial {}{}. {KEYS}.",
        model.position,
        model.left.as_ref().map_or_else(String::new, |left| format!(", {left}")),
    );
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), frame.area());
}

/// Takes rows off the top.
fn top(area: &mut Rect, rows: u16) -> Rect {
    let rows = rows.min(area.height);
    let cut = Rect { height: rows, ..*area };
    *area = Rect { y: area.y + rows, height: area.height - rows, ..*area };
    cut
}

/// Takes rows off the bottom.
fn bottom(area: &mut Rect, rows: u16) -> Rect {
    let rows = rows.min(area.height);
    area.height -= rows;
    Rect { y: area.y + area.height, height: rows, ..*area }
}

#[cfg(test)]
mod tests;
