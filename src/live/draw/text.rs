//! Lines that fit.

use ratatui::{
    Frame,
    layout::{Alignment, Rect},
    text::{Line, Span},
};
use textwrap::core::display_width;

/// Puts a line on an area's first row.
pub(super) fn put(frame: &mut Frame<'_>, area: Rect, line: Line<'_>) {
    if area.height > 0 {
        frame.render_widget(line, Rect { height: 1, ..area });
    }
}

/// One text on the left, one on the right.
pub(super) fn pair(frame: &mut Frame<'_>, area: Rect, left: Span<'_>, right: Span<'_>) {
    put(frame, area, Line::from(left));
    let width = u16::try_from(right.width()).unwrap_or(area.width).min(area.width);
    let place = Rect { x: area.x + area.width - width, width, ..area };
    put(frame, place, Line::from(right).alignment(Alignment::Right));
}

/// Row `row` of an area; empty beyond it.
pub(super) fn row(area: Rect, row: u16) -> Rect {
    let row = row.min(area.height);
    Rect { y: area.y + row, height: (area.height - row).min(1), ..area }
}

/// A text cut to a number of columns, with `…` at the cut.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if display_width(text) <= columns {
        return text.to_owned();
    }
    let mut cut = String::new();
    for character in text.chars() {
        cut.push(character);
        if display_width(&cut) > columns.saturating_sub(1) {
            cut.pop();
            break;
        }
    }
    // No blank is left before a cut between words.
    cut.truncate(cut.trim_end().len());
    if columns > 0 {
        cut.push('…');
    }
    cut
}

/// A bar of blocks, in eighths: `fraction` of the columns, the rest blank.
pub(super) fn bar(fraction: f64, columns: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (fraction.clamp(0.0, 1.0) * (columns * 8) as f64).round() as usize;
    let text = "█".repeat(eighths / 8) + PARTS[eighths % 8];
    format!("{text:<columns$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_with_a_sign() {
        assert_eq!(cut("which strategy", 20), "which strategy");
        assert_eq!(cut("which strategy", 7), "which…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("x", 0), "");
    }

    #[test]
    fn bars_have_their_width() {
        for (fraction, text) in [(0.0, "    "), (0.5, "██  "), (1.0, "████"), (2.0, "████"), (0.28, "█▏  ")]
        {
            assert_eq!(bar(fraction, 4), text, "{fraction}");
        }
    }
}
