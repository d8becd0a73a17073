//! The report on a terminal.

use crate::format::plural;
use std::ops::Range;

use comfy_table::{CellAlignment, Table, presets};

use super::{Document, Grid, sections::Content};

/// Line length of prose without a terminal; tables are then as wide as necessary.
const PROSE_WIDTH: usize = 120;
/// Further lines of evidence appear only in the files.
const EVIDENCE: usize = 12;
/// Border and padding of a column.
const COLUMN_EXTRA: usize = 3;

/// The whole report as text, for a terminal of `width` columns, or for no terminal.
pub fn render(document: &Document, width: Option<usize>) -> String {
    let prose = |line: &str, indent: &str| wrapped(line, width, indent) + "\n";
    let mut text = String::new();
    if !document.question.is_empty() {
        text += &prose(&document.question, "");
    }
    text += &prose(&document.answer.sentence, "");
    for line in document.answer.evidence.iter().take(EVIDENCE) {
        text += &prose(&format!("  {line}"), "    ");
    }
    if document.answer.evidence.len() > EVIDENCE {
        text += &prose(
            &format!("  … {} in summary.md", plural(document.answer.evidence.len() - EVIDENCE, "more line")),
            "    ",
        );
    }
    let sections = || document.sections.iter();
    for grid in sections().flat_map(Content::text_tables) {
        if !grid.title.is_empty() {
            text += &prose(&grid.title, "");
        }
        text += &self::grid(grid, width);
    }
    for line in sections().flat_map(Content::text_notes).chain(sections().flat_map(|content| &content.conditions)) {
        text += &prose(line, "  ");
    }
    for event in sections().flat_map(|content| &content.events) {
        text += &prose(&format!("! {event}"), "  ");
    }
    text
}

/// One table, or several if its columns do not fit side by side.
pub fn grid(grid: &Grid, width: Option<usize>) -> String {
    blocks(grid, width).into_iter().map(|block| format!("{}\n", table(grid, block))).collect()
}

/// A line of prose, wrapped to the width of standard output's terminal.
pub fn prose(line: &str) -> String {
    wrapped(line, width(), "  ")
}

fn wrapped(line: &str, width: Option<usize>, indent: &str) -> String {
    textwrap::fill(line, textwrap::Options::new(width.unwrap_or(PROSE_WIDTH)).subsequent_indent(indent))
}

/// The terminal's width, where standard output is one.
pub fn width() -> Option<usize> {
    Table::new().width().map(usize::from)
}

/// The columns of each table: as many as fit next to the cell's name.
fn blocks(grid: &Grid, width: Option<usize>) -> Vec<Range<usize>> {
    let wide = |column: usize| {
        let cells = grid.rows.iter().map(|row| row[column].as_str());
        let lines = cells.chain([grid.head[column].as_str()]).flat_map(str::lines);
        lines.map(|line| line.chars().count()).max().unwrap_or(0) + COLUMN_EXTRA
    };
    let label: usize = (0..grid.labels).map(wide).sum::<usize>() + 1;
    let room = width.unwrap_or(usize::MAX).saturating_sub(label);
    let mut blocks = Vec::new();
    let mut start = grid.labels;
    let mut used = 0;
    for column in grid.labels..grid.head.len() {
        if column > start && used + wide(column) > room {
            blocks.push(start..column);
            (start, used) = (column, 0);
        }
        used += wide(column);
    }
    blocks.push(start..grid.head.len());
    blocks
}

/// A table of the cell's name and some columns, numbers right-aligned.
fn table(grid: &Grid, columns: Range<usize>) -> Table {
    let pick = |row: &[String]| -> Vec<String> { [&row[..grid.labels], &row[columns.clone()]].concat() };
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(pick(&grid.head));
    table.add_rows(grid.rows.iter().map(|row| pick(row)));
    for (i, column) in table.column_iter_mut().enumerate().skip(grid.labels) {
        if columns.start + i - grid.labels + grid.words < grid.head.len() {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Answer, sections::In},
        *,
    };

    fn document() -> Document {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let head = ["strategy", "accepts/s", "accept wait\np50 ≤", "p99 ≤", "verdicts"];
        let rows = vec![texts(&["reuseport", "62,420", "148 µs", "1.05 ms", "cpu-steal 1/5"])];
        let legend = "A legend that is a little longer than the narrowest terminal.";
        Document {
            title: "t".to_owned(),
            question: "Which of them, and why, and under which conditions?".to_owned(),
            answer: Answer { sentence: "One is better.".to_owned(), evidence: vec!["By so much.".to_owned()] },
            facts: Vec::new(),
            missing: None,
            sections: vec![Content {
                tables: vec![(In::Text, Grid::new(head, 1, rows))],
                notes: vec![(In::Text, legend.to_owned())],
                ..Content::default()
            }],
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [40, 60, 80] {
            let text = render(&document(), Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            for part in ["62,420", "148 µs", "1.05 ms", "cpu-steal 1/5"] {
                assert_eq!(text.matches(part).count(), 1, "{width}:\n{text}");
            }
        }
    }

    #[test]
    fn without_a_terminal_there_is_one_table() {
        assert_eq!(render(&document(), None).matches("reuseport").count(), 1);
        assert!(render(&document(), Some(40)).matches("reuseport").count() > 1);
    }
}
