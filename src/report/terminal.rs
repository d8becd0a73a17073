//! The report on a terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table, TableStyle, presets};

use super::Model;

/// The whole report as text.
pub fn render(model: &Model) -> String {
    let mut text = String::new();
    if !model.question.is_empty() {
        text += &format!("{}\n", model.question);
    }
    let mut table = table(model, presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    text += &format!("{table}\n");
    for line in model.legend.iter().chain(&model.conditions) {
        text += &format!("{line}\n");
    }
    for note in &model.notes {
        text += &format!("! {note}\n");
    }
    text
}

/// The model's table in one of comfy-table's presets, numbers right-aligned.
pub(super) fn table(model: &Model, style: TableStyle) -> Table {
    let mut table = Table::new();
    table.load_style(style).set_header(&model.head).add_rows(&model.rows);
    for (i, column) in table.column_iter_mut().enumerate() {
        if i >= model.labels && i + 1 < model.head.len() {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
