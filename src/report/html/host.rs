//! The machine, its sysctls, and the command that repeats the run.

use maud::{Markup, html};
use serde_json::Value as Json;

use super::parts::{folded, section as titled};
use crate::report::{charts::Subject, plain};

/// Told apart from the rest, under these names.
const APART: [&str; 4] = ["calibration", "command", "sysctls", "schema"];

/// The section.
pub fn section(subject: &Subject<'_>) -> Markup {
    let host = &subject.record.host;
    let text = |name: &str| host.get(name).map_or_else(|| "?".to_owned(), plain);
    let facts = host.as_object().into_iter().flatten().filter(|(name, _)| !APART.contains(&name.as_str()));
    let sysctls = host.get("sysctls").and_then(Json::as_object).into_iter().flatten();
    let body = html! {
        div.pair {
            div { h3 { "Host" } dl { @for (name, value) in facts { dt { (name.replace('_', " ")) } dd { (told(value)) } } } }
            div { h3 { "Sysctls of the network used" } dl { @for (name, value) in sysctls { dt { (name) } dd { (told(value)) } } } }
        }
        h3 { "Run it again" }
        p { "As it was run:" }
        pre { (command(host)) }
        @if subject.record.whole.search.is_some() {
            p { "The same search, whose trials depend on what they find, from this folder:" }
        } @else {
            p { "The same trials in the same order, with the same arrivals, from this folder:" }
        }
        pre { "listenbench run scenario.toml --out again" }
        (folded("scenario.toml, with every value in force", &html! { pre { (subject.record.scenario) } }))
    };
    let title = format!("Linux {} on {} processors of {}", text("kernel"), text("cpus_allowed"), text("cpu"));
    titled("Host and how to repeat it", &title, &body)
}

/// A value as people read it.
fn told(value: &Json) -> String {
    match value {
        Json::Object(parts) => {
            parts.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
        }
        Json::String(text) if text.is_empty() => "none".to_owned(),
        other => plain(other),
    }
}

/// The command line, quoted for a shell.
fn command(host: &Json) -> String {
    let words = host.get("command").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+%@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        let host = serde_json::json!({ "command": ["listenbench", "run", "--set", "matrix.load.rate=[1, 2]", "it's"] });
        assert_eq!(command(&host), "listenbench run --set 'matrix.load.rate=[1, 2]' 'it'\\''s'");
        assert_eq!(told(&serde_json::json!({"hard": 20_000, "soft": 10})), "hard 20000, soft 10");
    }
}
