//! The report as Markdown.

use comfy_table::{CellAlignment, Table, presets};

use super::{Document, Grid, sections::Content};

/// The whole report as Markdown.
pub fn render(document: &Document) -> String {
    let mut text = format!("# {}\n\n", document.title);
    if !document.question.is_empty() {
        text += &format!("{}\n\n", document.question);
    }
    text += &format!("**{}**\n\n", document.answer.sentence);
    text.extend(document.answer.evidence.iter().map(|line| format!("- {line}\n")));
    text.push('\n');
    let sections = || document.sections.iter();
    for grid in sections().flat_map(Content::text_tables) {
        if !grid.title.is_empty() {
            text += &format!("\n## {}\n\n", grid.title);
        }
        text += &format!("{}\n", table(grid));
    }
    text += &list("How to read it", sections().flat_map(Content::text_notes));
    text += &list("What happened", sections().flat_map(|content| &content.events));
    text += &list("Conditions", sections().flat_map(|content| &content.conditions));
    text
}

fn list<'a>(title: &str, lines: impl Iterator<Item = &'a String>) -> String {
    let lines: String = lines.map(|line| format!("- {line}\n")).collect();
    if lines.is_empty() { lines } else { format!("\n## {title}\n\n{lines}") }
}

/// One table.
pub fn table(grid: &Grid) -> Table {
    let mut table = Table::new();
    // A cell in Markdown is a single line.
    let head = grid.head.iter().map(|head| head.replace('\n', " "));
    table.load_style(presets::ASCII_MARKDOWN).set_header(head).add_rows(&grid.rows);
    for column in table.column_iter_mut().skip(grid.labels).take(grid.head.len() - grid.labels - grid.words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
