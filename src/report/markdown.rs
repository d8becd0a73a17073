//! The report as Markdown: `summary.md`.

use comfy_table::presets;

use super::{Model, terminal};

/// The whole report as Markdown.
pub fn render(model: &Model) -> String {
    let mut text = format!("# {}\n\n", model.title);
    if !model.question.is_empty() {
        text += &format!("{}\n\n", model.question);
    }
    text += &format!("{}\n", terminal::table(model, presets::ASCII_MARKDOWN));
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
