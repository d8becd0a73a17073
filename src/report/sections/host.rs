//! The machine or the hosts of a job, the sysctls, and the command that repeats the run. What of it a terminal and Markdown show are the
//! conditions, which a file of their own puts together.

use maud::html;
use serde_json::Value as Json;

use super::{Content, conditions, effective::Effective, job::Job};
use crate::{
    format,
    report::{Ranked, claims::capital, html::parts::folded, plain},
};

/// Parts of `host.json` that are shown elsewhere, or not at all.
const SEPARATE: [&str; 6] = ["calibration", "command", "hosts", "netfilter", "sysctls", "schema"];

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let record = ranked.record;
    let host = &record.host;
    let text = |name: &str| host.get(name).map_or_else(|| "?".to_owned(), plain);
    let facts = facts(host);
    let job = Job::of(host);
    let (own, network) = match &job {
        None => ("Host", "Sysctls of the network, before the scenario's own"),
        Some(_) => ("Host of rank 0", "Sysctls of its network"),
    };
    let by = if job.is_some() { ", with what chooses the same hosts (on others, without `address` in it)" } else { "" };
    let launcher = job.as_ref().map_or_else(String::new, Job::start);
    let effective = Effective::of(record);
    let sysctls = host.get("sysctls").and_then(Json::as_object).into_iter().flatten();
    let sysctls = sysctls.filter(|(name, _)| conditions::matters(&effective, name));
    let figure = html! {
        div.pair {
            div { h3 { (own) } dl { @for (name, value) in facts { dt { (label(name)) } dd { (fact(name, value)) } } } }
            div { h3 { (network) } dl { @for (name, value) in sysctls { dt { (name) } dd { (shown(value)) } } } }
        }
        @if let Some(job) = &job {
            h3 { "All hosts" }
            ul { @for line in job.in_words() { li { (capital(&line)) } } }
        }
        h3 { "Run it again" }
        p { @if job.is_some() { "The command as each host ran it:" } @else { "The command as run:" } }
        pre { (command(host)) }
        @if record.whole.search.is_some() {
            p { "To repeat the search from this folder" (by) " (its trials depend on what they find):" }
        } @else {
            p { "To run the same trials in the same order with the same arrivals, from this folder" (by) ":" }
        }
        pre { (launcher) "listenbench run scenario.toml --out again" }
        (folded("scenario.toml, with all effective values", &html! { pre { (record.scenario) } }))
    };
    Some(Content {
        title: "Host and how to repeat it".to_owned(),
        finding: match &job {
            None => format!("Linux {}, {} processors ({})", text("kernel"), text("cpus_allowed"), text("cpu")),
            Some(job) => job.finding(),
        },
        figure: Some(figure),
        conditions: conditions::of(record, &effective),
        ..Content::default()
    })
}

/// Facts about the machine that are not shown elsewhere. Those that are `null` are unknown and left out.
fn facts(host: &Json) -> impl Iterator<Item = (&String, &Json)> {
    let all = host.as_object().into_iter().flatten();
    all.filter(|(name, value)| !SEPARATE.contains(&name.as_str()) && !value.is_null())
}

/// A fact's name without its unit.
fn label(name: &str) -> String {
    let name = name.strip_suffix("_bytes").or_else(|| name.strip_suffix("_ns")).unwrap_or(name);
    name.replace('_', " ")
}

/// A fact with its unit, and its thousands apart. Seeds and user ids are names.
fn fact(name: &str, value: &Json) -> String {
    match value {
        Json::Object(parts) => {
            parts.iter().map(|(name, value)| format!("{name} {}", fact(name, value))).collect::<Vec<_>>().join(", ")
        }
        Json::Number(number) if !["seed", "uid"].contains(&name) => {
            let value = number.as_f64().unwrap_or(f64::NAN);
            match name {
                _ if name.ends_with("_bytes") => format::gibibytes(value),
                _ if name.ends_with("_ns") => format::duration(value),
                _ => format::thousands(value),
            }
        }
        other => shown(other),
    }
}

/// A value as it stands, which for a sysctl can be copied.
fn shown(value: &Json) -> String {
    match value {
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
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_null_is_no_fact() {
        let names = |host: Json| facts(&host).map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(serde_json::json!({ "kernel": "6.12", "experiment": null, "sysctls": {} })), ["kernel"]);
        assert_eq!(names(serde_json::json!({ "kernel": "6.12", "experiment": "ab" })), ["kernel", "experiment"]);
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        let host = serde_json::json!({ "command": ["listenbench", "run", "--set", "matrix.load.rate=[1, 2]", "it's"] });
        assert_eq!(command(&host), "listenbench run --set 'matrix.load.rate=[1, 2]' 'it'\\''s'");
    }

    #[test]
    fn facts_have_units() {
        let fact = |name, value| format!("{} {}", label(name), fact(name, &value));
        assert_eq!(fact("open_files", json!({"hard": 20_000, "soft": 10})), "open files hard 20,000, soft 10");
        assert_eq!(fact("memory_bytes", json!(25_276_514_304_u64)), "memory 23.5 GiB");
        assert_eq!(fact("queue_sample_ns", json!(30_095)), "queue sample 30.1 µs");
        assert_eq!(fact("seed", json!(123_456)), "seed 123456");
        assert_eq!(fact("kernel", json!("6.12")), "kernel 6.12");
    }
}
