//! The newest log lines that fit, newest last.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};
use textwrap::Options;

use super::{
    Palette,
    text::{cut, put, row},
};
use crate::live::{
    log::{Line as LogLine, Mark},
    model::Model,
};

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let title = format!("── log {}", "─".repeat(usize::from(area.width).saturating_sub(7)));
    put(frame, row(area, 0), Line::from(Span::styled(title, palette.faint())));
    let room = usize::from(area.height).saturating_sub(1);
    let mut lines: Vec<Line<'_>> = Vec::new();
    for entry in model.log.newest() {
        let mut block = block(entry, usize::from(area.width), palette);
        if lines.is_empty() {
            block.truncate(room);
        }
        if lines.len() + block.len() > room {
            break;
        }
        lines.splice(0..0, block);
    }
    if lines.is_empty() {
        lines.push(Line::from(Span::styled("  no trial has ended yet", palette.faint())));
    }
    for (number, line) in lines.into_iter().enumerate() {
        put(frame, row(area, number as u16 + 1), line);
    }
}

/// An entry as lines: its sign, its head and the wrapped text.
fn block(entry: &LogLine, columns: usize, palette: Palette) -> Vec<Line<'static>> {
    let (sign, sign_style, head_style) = match entry.mark {
        Mark::Ended => ("·", palette.faint(), palette.strong()),
        Mark::Advice => ("!", palette.caution(), palette.strong()),
        Mark::Bad => ("✗", palette.bad(), palette.bad()),
        Mark::Note => ("·", palette.faint(), palette.strong()),
    };
    let head = if entry.head.is_empty() { String::new() } else { format!("{}: ", entry.head) };
    let text = format!("{head}{}", entry.text);
    let room = columns.saturating_sub(2);
    let text = if entry.brief { cut(&text, room) } else { text };
    let wrapped = textwrap::wrap(&text, Options::new(room).subsequent_indent("  "));
    let lines = wrapped.iter().enumerate().map(|(number, line)| match line.strip_prefix(head.trim_end()) {
        Some(rest) if number == 0 => Line::from(vec![
            Span::styled(format!("{sign} "), sign_style),
            Span::styled(head.trim_end().to_owned(), head_style),
            Span::raw(rest.to_owned()),
        ]),
        _ if number == 0 => Line::from(vec![Span::styled(format!("{sign} "), sign_style), Span::raw(line.to_string())]),
        _ => Line::from(format!("  {line}")),
    });
    lines.collect()
}
