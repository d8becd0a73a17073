//! The machine, its sysctls, and the command that repeats the run.

use maud::html;
use serde_json::Value as Json;

use super::Content;
use crate::{
    report::{Ranked, html::parts::folded, plain},
    stats::Record,
};

/// Parts of `host.json` that are shown elsewhere, or not at all.
const SEPARATE: [&str; 4] = ["calibration", "command", "sysctls", "schema"];

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let record = ranked.record;
    let host = &record.host;
    let text = |name: &str| host.get(name).map_or_else(|| "?".to_owned(), plain);
    let facts = host.as_object().into_iter().flatten().filter(|(name, _)| !SEPARATE.contains(&name.as_str()));
    let sysctls = host.get("sysctls").and_then(Json::as_object).into_iter().flatten();
    let figure = html! {
        div.pair {
            div { h3 { "Host" } dl { @for (name, value) in facts { dt { (name.replace('_', " ")) } dd { (shown(value)) } } } }
            div { h3 { "Sysctls of the network used" } dl { @for (name, value) in sysctls { dt { (name) } dd { (shown(value)) } } } }
        }
        h3 { "Run it again" }
        p { "The command as run:" }
        pre { (command(host)) }
        @if record.whole.search.is_some() {
            p { "To repeat the search from this folder (its trials depend on what they find):" }
        } @else {
            p { "To run the same trials in the same order with the same arrivals, from this folder:" }
        }
        pre { "listenbench run scenario.toml --out again" }
        (folded("scenario.toml, with all effective values", &html! { pre { (record.scenario) } }))
    };
    Some(Content {
        title: "Host and how to repeat it".to_owned(),
        finding: format!("Linux {}, {} processors ({})", text("kernel"), text("cpus_allowed"), text("cpu")),
        figure: Some(figure),
        conditions: conditions(record),
        ..Content::default()
    })
}

fn conditions(record: &Record) -> Vec<String> {
    let host = &record.host;
    let text = |name: &str| host.get(name).map_or_else(String::new, plain);
    let sysctl = |name: &str| host["sysctls"].get(name).map_or_else(|| "?".to_owned(), plain);
    let written = record
        .scenario
        .parse::<toml::Table>()
        .ok()
        .and_then(|table| table.get("sysctl").and_then(toml::Value::as_table).cloned())
        .unwrap_or_default();
    let written: Vec<String> = written.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let changed =
        if written.is_empty() { String::new() } else { format!("; the scenario sets {}", written.join(", ")) };
    vec![
        format!("kernel {}, {} processors ({})", text("kernel"), text("cpus_allowed"), text("cpu")),
        format!(
            "network {}: ports {}, tcp_tw_reuse {}, somaxconn {}{changed}",
            text("network"),
            sysctl("ip_local_port_range"),
            sysctl("tcp_tw_reuse"),
            sysctl("somaxconn")
        ),
        format!("seed {}, {}, revision {}", text("seed"), text("tool"), text("revision")),
    ]
}

/// A value for display.
fn shown(value: &Json) -> String {
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
        assert_eq!(shown(&serde_json::json!({"hard": 20_000, "soft": 10})), "hard 20000, soft 10");
    }
}
