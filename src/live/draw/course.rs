//! The trial's rate over its course.

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
use crate::{format::thousands, live::model::TrialModel};

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, trial: &TrialModel, palette: Palette) {
    let most = trial.course.iter().map(|(_, rate)| *rate).max().unwrap_or(0);
    let title = match most {
        0 => format!("{} over this trial", trial.unit()),
        most => format!("{} over this trial, highest {}", trial.unit(), thousands(most as f64)),
    };
    put(frame, row(area, 0), Line::from(Span::styled(title, palette.faint())));
    let plot = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let points = points(trial, usize::from(plot.width));
    frame.render_widget(Sparkline::default().data(&points).max(most.max(1)).style(palette.bar()), plot);
}

/// A rate for each column so far: the highest in the column's time. A trial of known length takes the whole width; of others,
/// the newest rates are shown.
fn points(trial: &TrialModel, columns: usize) -> Vec<u64> {
    let course = &trial.course;
    let Some((last_s, _)) = course.last().copied() else { return Vec::new() };
    let Some(length) = trial.length else {
        return course.iter().skip(course.len().saturating_sub(columns)).map(|(_, rate)| *rate).collect();
    };
    let column_s = length.as_secs_f64().max(last_s) / columns as f64;
    let first_after = |at_s: f64| course.partition_point(|(then_s, _)| *then_s < at_s);
    let rate = |column: usize| {
        let (from, to) = (first_after(column as f64 * column_s), first_after((column + 1) as f64 * column_s));
        // A column without a look of its own shows the one that covers its time.
        course[from..to.max(from + 1).min(course.len())].iter().map(|(_, rate)| *rate).max().unwrap_or(0)
    };
    (0..columns).take_while(|column| *column as f64 * column_s < last_s).map(rate).collect()
}
