//! The report as Markdown: `summary.md`.

use comfy_table::{CellAlignment, Table, presets};

use super::{Grid, Model};

/// The whole report as Markdown.
pub fn render(model: &Model) -> String {
    let mut text = format!("# {}\n\n", model.title);
    if !model.question.is_empty() {
        text += &format!("{}\n\n", model.question);
    }
    text += &format!("**{}**\n\n", model.answer.sentence);
    text.extend(model.answer.evidence.iter().map(|line| format!("- {line}\n")));
    text.push('\n');
    for grid in &model.tables {
        if !grid.title.is_empty() {
            text += &format!("\n## {}\n\n", grid.title);
        }
        text += &format!("{}\n", table(grid));
    }
    for (title, lines) in
        [("How to read it", &model.legend), ("What happened", &model.notes), ("Conditions", &model.conditions)]
    {
        if !lines.is_empty() {
            text += &format!("\n## {title}\n\n");
            text.extend(lines.iter().map(|line| format!("- {line}\n")));
        }
    }
    text
}

/// One table.
pub fn table(grid: &Grid) -> Table {
    let mut table = Table::new();
    // A cell of Markdown is one line.
    let head = grid.head.iter().map(|head| head.replace('\n', " "));
    table.load_style(presets::ASCII_MARKDOWN).set_header(head).add_rows(&grid.rows);
    for column in table.column_iter_mut().skip(grid.labels).take(grid.head.len() - grid.labels - grid.words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
