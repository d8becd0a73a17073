//! The trial's rate from its beginning on.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Sparkline,
};

use super::{
    Palette,
    text::{put, row},
};
use crate::{live::model::TrialModel, report::format::thousands};

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, trial: &TrialModel, palette: Palette) {
    let most = trial.course.iter().map(|(_, rate)| *rate).max().unwrap_or(0);
    let title = match most {
        0 => format!("{} of this trial", trial.unit()),
        most => format!("{} of this trial, {} at most", trial.unit(), thousands(most as f64)),
    };
    put(frame, row(area, 0), Line::from(Span::styled(title, palette.faint())));
    let plot = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let points = points(trial, usize::from(plot.width));
    frame.render_widget(Sparkline::default().data(&points).max(most.max(1)).style(palette.bar()), plot);
}

/// A rate for each column up to now. Where the trial's length is known, it takes the whole width; else, and beyond that length,
/// the newest rates are shown.
fn points(trial: &TrialModel, columns: usize) -> Vec<u64> {
    let course = &trial.course;
    let Some((last_s, _)) = course.last().copied() else { return Vec::new() };
    let whole_s = trial.length.map_or(0.0, |length| length.as_secs_f64());
    if whole_s < last_s {
        return course.iter().skip(course.len().saturating_sub(columns)).map(|(_, rate)| *rate).collect();
    }
    let at_s = |column: usize| (column as f64 + 0.5) / columns as f64 * whole_s;
    let rate_at = |at_s: f64| course[course.partition_point(|(then_s, _)| *then_s < at_s)].1;
    (0..columns).map(at_s).take_while(|at_s| *at_s <= last_s).map(rate_at).collect()
}
