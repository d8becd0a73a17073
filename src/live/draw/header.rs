//! The run and the trial: names, position in the run, time left.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};
use textwrap::core::display_width;

use super::{
    Palette,
    text::{bar, cut, pair, put, row},
};
use crate::{
    format::thousands,
    live::{
        model::{Model, TrialModel},
        waiting,
    },
};

pub(super) const ROWS: u16 = 4;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let place = place(model);
    let room = usize::from(area.width).saturating_sub(display_width(&place) + 2);
    let title = cut(&format!("listenbench  {}", model.scenario), room);
    pair(frame, row(area, 0), Span::styled(title, palette.strong()), Span::raw(place));
    let question = cut(&model.question, usize::from(area.width));
    put(frame, row(area, 1), Line::from(Span::styled(question, palette.faint())));
    let Some(trial) = &model.trial else { return };
    let which = format!("repetition {}", trial.repetition);
    let room = usize::from(area.width).saturating_sub(display_width(&which) + 2);
    pair(
        frame,
        row(area, 2),
        Span::styled(cut(&trial.cell, room), palette.strong()),
        Span::styled(which, palette.faint()),
    );
    gauge(frame, row(area, 3), trial, palette);
}

/// `trial 2 (3 of 20), 41s left`: the number as in the record, from 0, and the position in the run.
fn place(model: &Model) -> String {
    let Some(trial) = model.trial.as_ref().filter(|_| !model.position.is_empty()) else { return String::new() };
    let left = model.left.as_ref().map_or_else(String::new, |left| format!(", {left}"));
    format!("trial {} ({}){left}", trial.number, model.position)
}

/// `measuring  ▕██████      ▏ 1.2 s of 3.3 s`
fn gauge(frame: &mut Frame<'_>, area: Rect, trial: &TrialModel, palette: Palette) {
    const STAGE: usize = 10;
    const AMOUNT: usize = 32;
    let (stage, fraction, amount) = how_far(trial);
    let amount = cut(&amount, AMOUNT);
    let columns = usize::from(area.width).saturating_sub(STAGE + 3 + display_width(&amount) + 1);
    put(
        frame,
        area,
        Line::from(vec![
            Span::raw(format!("{stage:<STAGE$} ")),
            Span::styled("▕", palette.faint()),
            Span::styled(bar(fraction, columns), palette.bar()),
            Span::styled("▏", palette.faint()),
            Span::raw(format!(" {amount}")),
        ]),
    );
}

/// The stage, the part done, and the same in words.
fn how_far(trial: &TrialModel) -> (&'static str, f64, String) {
    let Some(seen) = &trial.seen else { return ("set-up", 0.0, String::new()) };
    let stage = waiting::name(seen.stage);
    if let Some(ports) = seen.ports {
        let fraction = if ports.capacity == 0 { 0.0 } else { ports.open as f64 / ports.capacity as f64 };
        let [open, capacity] = [ports.open, ports.capacity].map(|count| thousands(count as f64));
        return (stage, fraction, format!("{open} of {capacity} ports open"));
    }
    let shown = |span: Duration| format!("{:.1} s", span.as_secs_f64());
    match (trial.length, trial.connections) {
        (Some(length), _) if seen.elapsed > length => {
            (stage, 1.0, format!("{}, load ended at {}", shown(seen.elapsed), shown(length)))
        }
        (Some(length), _) => {
            let fraction = seen.elapsed.as_secs_f64() / length.as_secs_f64().max(1e-9);
            let left = shown(length.saturating_sub(seen.elapsed));
            (stage, fraction, format!("{} of {}, {left} left", shown(seen.elapsed), shown(length)))
        }
        (None, Some(count)) => {
            let all = thousands(count as f64);
            let ended = seen.completed + seen.failed;
            let (done, word) = if seen.attempted < count { (seen.attempted, "started") } else { (ended, "ended") };
            (stage, done as f64 / count.max(1) as f64, format!("{} of {all} {word}", thousands(done as f64)))
        }
        (None, None) => (stage, 0.0, shown(seen.elapsed)),
    }
}
