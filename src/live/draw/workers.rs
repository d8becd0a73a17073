//! A row for each worker: its rate, share and queue.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{
    Palette,
    text::{bar, put, row},
};
use crate::{
    format::{percent, plural, thousands},
    ipc::control::ListenerSeen,
    live::{
        model::{TrialModel, taken},
        seen::Seen,
    },
};

/// Columns: worker, rate, share, queue, open.
const WORKER: usize = 6;
const RATE: usize = 11;
const SHARE: usize = 8;
const QUEUE: usize = 22;
const OPEN: usize = 8;

/// Rows for all workers, with the head.
pub(super) fn rows(trial: &TrialModel) -> u16 {
    let workers = trial.seen.as_ref().map_or(0, |seen| seen.workers.len());
    if workers == 0 { 0 } else { u16::try_from(workers + 1).unwrap_or(u16::MAX) }
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, trial: &TrialModel, palette: Palette) {
    let Some(seen) = &trial.seen else { return };
    let columns = usize::from(area.width).saturating_sub(WORKER + 2 + RATE + SHARE + QUEUE + OPEN);
    let queue = if seen.shares_listener() { "shared queue / limit" } else { "queue / limit" };
    let head = format!(
        "{:>WORKER$}  {:<columns$}{:>RATE$}{:>SHARE$}{queue:>QUEUE$}{:>OPEN$}",
        "worker",
        "",
        trial.unit(),
        "share",
        "open"
    );
    put(frame, row(area, 0), Line::from(Span::styled(head, palette.faint())));
    let room = usize::from(area.height).saturating_sub(1);
    let shown = if seen.workers.len() > room { room.saturating_sub(1) } else { seen.workers.len() };
    let busiest = trial.rates.iter().copied().fold(0.0, f64::max);
    for number in 0..shown {
        let rate = trial.rates.get(number).copied().unwrap_or(0.0);
        let part = if busiest > 0.0 { rate / busiest } else { 0.0 };
        let worker = &seen.workers[number];
        let line = Line::from(vec![
            Span::raw(format!("{number:>WORKER$}  ")),
            Span::styled(bar(part, columns), palette.bar()),
            Span::raw(format!("{:>RATE$}{:>SHARE$}", thousands(rate), share(seen, number))),
            queue_now(worker.listener, palette),
            Span::raw(format!("{:>OPEN$}", thousands(worker.open as f64))),
        ]);
        put(frame, row(area, number as u16 + 1), line);
    }
    if shown < seen.workers.len() {
        let more = format!("{:>WORKER$}  and {}", "…", plural(seen.workers.len() - shown, "more worker"));
        put(frame, row(area, shown as u16 + 1), Line::from(Span::styled(more, palette.faint())));
    }
}

/// A worker's share of all accepts so far.
fn share(seen: &Seen, number: usize) -> String {
    let of = |worker: usize| taken(seen.protocol, seen.workers[worker].accepted, seen.workers[worker].datagrams);
    let all: u64 = (0..seen.workers.len()).map(of).sum();
    if all == 0 { "–".to_owned() } else { percent(of(number) as f64 / all as f64) }
}

/// `12 / 4,096`, highlighted if full.
fn queue_now(listener: Option<ListenerSeen>, palette: Palette) -> Span<'static> {
    match listener {
        None => Span::raw(format!("{:>QUEUE$}", "–")),
        Some(ListenerSeen { length, limit, .. }) => {
            let text = format!("{} / {}", thousands(length as f64), thousands(limit as f64));
            // The kernel's own test for a full queue.
            let style = if length > limit { palette.bad() } else { Style::new() };
            Span::styled(format!("{text:>QUEUE$}"), style)
        }
    }
}
