//! The report as Markdown.

use comfy_table::{CellAlignment, Table, presets};

use super::{Document, Grid, sections::Content};
use crate::format::harmless;

/// The whole report as Markdown.
pub fn render(document: &Document) -> String {
    let mut text = format!("# {}\n\n", plain(&document.title));
    if !document.question.is_empty() {
        text += &format!("{}\n\n", plain(&document.question));
    }
    for (place, answer) in document.answers.iter().enumerate() {
        text += &format!("**{}**\n\n", plain(&answer.sentence));
        // What qualifies one answer qualifies all.
        let verdicts = answer.verdicts.iter().filter(|_| place == 0);
        text.extend(verdicts.chain(&answer.evidence).map(|line| item(line)));
        text.push('\n');
    }
    if let Some(stopped) = &document.stopped {
        text += &format!("{}\n\n", plain(stopped));
    }
    let sections = || document.sections.iter();
    for grid in sections().flat_map(Content::text_tables) {
        if !grid.title.is_empty() {
            text += &format!("\n## {}\n\n", plain(&grid.title));
        }
        text += &format!("{}\n", table(grid));
    }
    text += &list("How to read it", sections().flat_map(Content::text_notes));
    text += &list("What happened", sections().flat_map(|content| &content.events));
    text += &list("Conditions", sections().flat_map(|content| &content.conditions));
    text
}

fn list<'a>(title: &str, lines: impl Iterator<Item = &'a String>) -> String {
    let lines: String = lines.map(|line| item(line)).collect();
    if lines.is_empty() { lines } else { format!("\n## {title}\n\n{lines}") }
}

/// One table.
pub fn table(grid: &Grid) -> Table {
    let mut table = Table::new();
    let rows = grid.rows.iter().map(|row| row.iter().map(|text| plain(text)));
    table.load_style(presets::ASCII_MARKDOWN).set_header(grid.head.iter().map(|head| plain(head))).add_rows(rows);
    for column in table.column_iter_mut().skip(grid.labels).take(grid.head.len() - grid.labels - grid.words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// An entry of a list.
pub fn item(line: &str) -> String {
    format!("- {}\n", plain(line))
}

/// A text on a single line, as plain text: without anything that Markdown takes for more than that, or that would end the cell of a
/// table. Names come from scenarios and processes.
pub fn plain(text: &str) -> String {
    let text = harmless(text);
    let text = text.trim();
    let mut escaped = String::with_capacity(text.len());
    let mut before = ' ';
    let mut rest = text.char_indices().peekable();
    while let Some((place, c)) = rest.next() {
        let next = rest.peek().map_or(' ', |(_, next)| *next);
        let is_special = match c {
            '\\' | '`' | '*' | '[' | ']' | '|' | '~' => true,
            // Within a word, as in `accept_wait`, it is none.
            '_' => !(before.is_alphanumeric() && next.is_alphanumeric()),
            // A tag or an address, rather than "p < 0.01".
            '<' => next.is_ascii_alphabetic() || "/!?".contains(next),
            // An entity.
            '&' => next.is_ascii_alphanumeric() || next == '#',
            // A picture's link is one by its bracket; what begins a line may be a heading, a list, a quotation or a rule.
            '#' | '>' | '+' | '-' | '=' => place == 0,
            // A numbered list.
            '.' | ')' => place > 0 && (next == ' ') && text[..place].bytes().all(|digit| digit.is_ascii_digit()),
            _ => false,
        };
        if is_special {
            escaped.push('\\');
        }
        escaped.push(if matches!(c, '\n' | '\t') { ' ' } else { c });
        before = c;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_text_holds_it_stays_a_text() {
        for (text, escaped) in [
            ("a|b\nc <i>", "a\\|b c \\<i>"),
            ("< 0.001, <0.5, é <", "< 0.001, <0.5, é <"),
            ("[x](javascript:1) ![y](z)", "\\[x\\](javascript:1) !\\[y\\](z)"),
            ("`t0.accept_wait` is _not_ **bold**", "\\`t0.accept_wait\\` is \\_not\\_ \\*\\*bold\\*\\*"),
            ("# one\n# two", "\\# one # two"),
            ("- x", "\\- x"),
            ("  > x", "\\> x"),
            ("1. x", "1\\. x"),
            ("1.5 ms", "1.5 ms"),
            ("−0.5, a-b", "−0.5, a-b"),
            ("&lt;script&#62; a & b", "\\&lt;script\\&#62; a & b"),
            ("a\\|b", "a\\\\\\|b"),
            ("a\u{1b}[31m\u{202e}b", "a\u{fffd}\\[31m\u{fffd}b"),
            ("", ""),
        ] {
            assert_eq!(plain(text), escaped);
        }
    }
}
