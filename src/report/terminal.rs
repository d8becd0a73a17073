//! The report on a terminal.

use std::{
    env,
    io::{IsTerminal, stdout},
    ops::Range,
};

use comfy_table::{CellAlignment, Table, presets};
use terminal_size::{Width, terminal_size_of};

use super::{Document, Grid, sections::Content};
use crate::format::plural;

/// Line length of prose without a terminal; tables are then as wide as their numbers.
const PROSE_WIDTH: usize = 100;
/// The widest column of words: longer ones are wrapped.
const WORDS_WIDTH: usize = 60;
/// The narrowest that such a column gets, however narrow the terminal.
const WORDS_LEAST: usize = 12;
/// Further lines of evidence appear only in the files.
const EVIDENCE: usize = 12;
/// The narrowest that a column of numbers is made.
const NUMBERS_LEAST: usize = 8;
/// Border and padding of a column.
const COLUMN_EXTRA: usize = 3;

/// The whole report as text, for a terminal of `width` columns, or for no terminal.
pub fn render(document: &Document, width: Option<usize>) -> String {
    let prose = |line: &str, indent: &str| wrapped(line, width, indent) + "\n";
    let mut text = String::new();
    if !document.question.is_empty() {
        text += &prose(&document.question, "");
    }
    for (place, answer) in document.answers.iter().enumerate() {
        text += &prose(&answer.sentence, "");
        for line in answer.verdicts.iter().filter(|_| place == 0) {
            text += &prose(&format!("! {line}"), "  ");
        }
        for line in answer.evidence.iter().take(EVIDENCE) {
            text += &prose(&format!("  {line}"), "    ");
        }
        if answer.evidence.len() > EVIDENCE {
            let more = plural(answer.evidence.len() - EVIDENCE, "more line");
            text += &prose(&format!("  … {more} in summary.md"), "    ");
        }
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
    if let Some(stopped) = &document.stopped {
        text += &prose(stopped, "");
    }
    text
}

/// One table, or several if its columns do not fit side by side.
pub fn grid(grid: &Grid, width: Option<usize>) -> String {
    let grid = &with_wrapped_numbers(with_wrapped_words(grid, width), width);
    blocks(grid, width).into_iter().map(|block| format!("{}\n", table(grid, block))).collect()
}

/// The same table with its names and words wrapped so that a name and a column of words fit side by side.
fn with_wrapped_words(grid: &Grid, width: Option<usize>) -> Grid {
    let numbers = grid.labels..grid.head.len() - grid.words;
    // Half of what the borders leave is for the names.
    let room = width.map_or(usize::MAX, |width| width.saturating_sub((grid.labels + 1) * COLUMN_EXTRA + 1) / 2);
    let most = |columns: usize| (room / columns.max(1)).clamp(WORDS_LEAST, WORDS_WIDTH);
    let of_labels = most(grid.labels);
    let wrap = |(column, cell): (usize, &String)| {
        let limit = if column < grid.labels { of_labels } else { most(1) };
        if numbers.contains(&column) { cell.clone() } else { wrapped(cell, Some(limit), "") }
    };
    let row = |row: &Vec<String>| row.iter().enumerate().map(wrap).collect();
    Grid { head: row(&grid.head), rows: grid.rows.iter().map(row).collect(), ..grid.clone() }
}

/// The same table with numbers wrapped, such as a median and its interval, that do not fit even alone beside the names.
fn with_wrapped_numbers(grid: Grid, width: Option<usize>) -> Grid {
    let Some(width) = width else { return grid };
    let names: usize = (0..grid.labels).map(|column| wide(&grid, column)).sum::<usize>() + 1;
    let room = width.saturating_sub(names + COLUMN_EXTRA).max(NUMBERS_LEAST);
    let numbers = grid.labels..grid.head.len() - grid.words;
    let wrap = |(column, cell): (usize, &String)| {
        if numbers.contains(&column) { wrapped(cell, Some(room), "") } else { cell.clone() }
    };
    let row = |row: &Vec<String>| row.iter().enumerate().map(wrap).collect();
    Grid { head: row(&grid.head), rows: grid.rows.iter().map(row).collect(), ..grid.clone() }
}

/// The columns of the terminal that a column takes.
fn wide(grid: &Grid, column: usize) -> usize {
    let cells = grid.rows.iter().map(|row| row[column].as_str());
    let lines = cells.chain([grid.head[column].as_str()]).flat_map(str::lines);
    lines.map(|line| line.chars().count()).max().unwrap_or(0) + COLUMN_EXTRA
}

/// A line of prose, wrapped to the width of standard output's terminal.
pub fn prose(line: &str) -> String {
    wrapped(line, width(), "  ")
}

fn wrapped(line: &str, width: Option<usize>, indent: &str) -> String {
    // A strategy's name stays whole.
    let options =
        textwrap::Options::new(width.unwrap_or(PROSE_WIDTH)).word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(line, options.subsequent_indent(indent))
}

/// A row of text whose last column begins after `start` columns, wrapped within that column where there is a terminal.
pub fn row(line: &str, start: usize) -> String {
    width().map_or_else(|| line.to_owned(), |width| wrapped(line, Some(width), &" ".repeat(start.min(width / 2))))
}

/// The terminal's width, where standard output is one. One that does not know its size, such as a serial console, has the width that
/// `COLUMNS` says, or none.
pub fn width() -> Option<usize> {
    let out = stdout();
    if !out.is_terminal() {
        return None;
    }
    let known = terminal_size_of(out).map(|(Width(columns), _)| columns.into());
    known.or_else(|| env::var("COLUMNS").ok()?.parse().ok()).filter(|width| *width > 0)
}

/// The columns of each table: as many as fit next to the cell's name.
fn blocks(grid: &Grid, width: Option<usize>) -> Vec<Range<usize>> {
    let wide = |column: usize| wide(grid, column);
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
            answers: vec![Answer {
                metric: String::new(),
                sentence: "One is better.".to_owned(),
                evidence: vec!["By so much.".to_owned()],
                verdicts: Vec::new(),
            }],
            facts: Vec::new(),
            stopped: Some("Stopped after 7 of at most 10 repetitions, which is more than fits into a line.".to_owned()),
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
    fn long_words_are_wrapped() {
        let long = "sampled-too-rarely, in two of three trials, and another verdict that takes many words to say";
        let rows = vec![vec![
            "strategy=shared-epoll-exclusive, workers=16, service_time=200us".to_owned(),
            "62,420".to_owned(),
            long.to_owned(),
        ]];
        let long = Grid::new(["cell", "accepts/s", "verdicts"], 1, rows);
        for width in [Some(40), Some(60), Some(80), Some(120), None] {
            let text = grid(&long, width);
            let most = width.unwrap_or(2 * WORDS_WIDTH + 30);
            assert!(text.lines().all(|line| line.chars().count() <= most), "{width:?}:\n{text}");
            assert!(text.contains("62,420"), "{text}");
        }
    }

    #[test]
    fn a_number_too_wide_beside_two_names_is_wrapped() {
        let row = ["reuseport", "2ms", "9.21 ms (7.73 ms–10.1 ms)"].map(str::to_owned).to_vec();
        let narrow = Grid::new(["strategy", "service_time", "response\np99"], 0, vec![row]);
        let narrow = Grid { labels: 2, ..narrow };
        for width in [40, 60] {
            let text = grid(&narrow, Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            assert!(text.contains("9.21 ms"), "{text}");
        }
        assert!(grid(&narrow, Some(60)).contains("9.21 ms (7.73 ms–10.1 ms)"));
    }

    #[test]
    fn without_a_terminal_there_is_one_table() {
        assert_eq!(render(&document(), None).matches("reuseport").count(), 1);
        assert!(render(&document(), Some(40)).matches("reuseport").count() > 1);
    }
}
