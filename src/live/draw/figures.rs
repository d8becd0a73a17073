//! The trial's figures.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    Palette,
    text::{put, row},
};
use crate::{
    format::{duration, percent, thousands},
    live::{model::TrialModel, seen::Seen},
    scenario::Transport,
};

pub(super) const ROWS: u16 = 2;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, trial: &TrialModel, palette: Palette) {
    let Some(seen) = &trial.seen else { return };
    let mut large = Figures::new(palette);
    large.add(trial.unit(), thousands(trial.rate));
    if let Some(ports) = seen.ports {
        large.add("open", thousands(ports.open as f64));
        if ports.capacity > 0 {
            large.add("fill", percent(ports.open as f64 / ports.capacity as f64));
        }
        large.add("wall", (if ports.wall { "reached" } else { "not reached" }).to_owned());
        return put(frame, row(area, 0), large.line);
    }
    // Another server's accepts are in the record.
    if !seen.is_anothers() {
        large.wait(seen);
    }
    large.count("failed", seen.failed, true);
    put(frame, row(area, 0), large.line);

    let mut small = Figures::new(palette);
    small.plain = true;
    if seen.protocol.has(Transport::Tcp) {
        small.count("attempted", seen.attempted, false);
        small.count("established", seen.established, false);
        small.count("completed", seen.completed, false);
        if !seen.is_anothers() {
            small.count("open", seen.open(), false);
            small.count("dropped", seen.dropped, true);
        }
    } else {
        small.count("flows", seen.attempted, false);
        small.count("completed", seen.completed, false);
    }
    if seen.protocol.has(Transport::Udp) {
        small.count("sent", seen.sent, false);
    }
    put(frame, row(area, 1), small.line);
}

/// A line of names and values.
struct Figures {
    line: Line<'static>,
    palette: Palette,
    /// Whether values are not highlighted.
    plain: bool,
}

impl Figures {
    fn new(palette: Palette) -> Self {
        Self { line: Line::default(), palette, plain: false }
    }

    fn name(&mut self, name: &str) {
        let gap = match (self.line.spans.is_empty(), self.plain) {
            (true, _) => "",
            (false, true) => "  ",
            (false, false) => "    ",
        };
        self.line.push_span(Span::styled(format!("{gap}{name} "), self.palette.faint()));
    }

    fn add(&mut self, name: &str, value: String) {
        self.name(name);
        self.line.push_span(if self.plain { Span::raw(value) } else { Span::styled(value, self.palette.strong()) });
    }

    /// A count. One that should be 0 is highlighted if it is not.
    fn count(&mut self, name: &str, count: u64, bad: bool) {
        let text = thousands(count as f64);
        if bad && count > 0 {
            self.name(name);
            self.line.push_span(Span::styled(text, self.palette.bad()));
        } else {
            self.add(name, text);
        }
    }

    fn wait(&mut self, seen: &Seen) {
        let name = if seen.protocol.has(Transport::Tcp) { "accept wait" } else { "receive wait" };
        let (p50, p99) = match seen.waits {
            Some(waits) => {
                let bound = if waits.bound { "≤ " } else { "" };
                let shown = |ns: u64| format!("{bound}{}", duration(ns as f64));
                (shown(waits.p50_ns), shown(waits.p99_ns))
            }
            None => ("–".to_owned(), "–".to_owned()),
        };
        self.add(&format!("{name} p50"), p50);
        self.line.push_span(Span::styled("  p99 ", self.palette.faint()));
        self.line.push_span(Span::styled(p99, self.palette.strong()));
    }
}
