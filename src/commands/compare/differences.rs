//! Differences between two records' machines and scenarios.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value as Json;

use crate::stats::Record;

/// Ignored: these keys identify the run rather than its conditions.
const OF_THE_RUN: [&str; 5] = ["calibration", "command", "schema", "queue_sample_ns", "seed"];
const OF_THE_SCENARIO: [&str; 2] = ["name", "question"];
const ABSENT: &str = "unset";

/// A key whose values differ.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    /// Dotted path.
    pub key: String,
    /// The baseline's value.
    pub a: String,
    /// The other's.
    pub b: String,
}

/// Differences in `host.json`.
pub fn of_hosts(a: &Record, b: &Record) -> Vec<Difference> {
    differences(&a.host, &b.host, &OF_THE_RUN)
}

/// Differences in `scenario.toml`.
pub fn of_scenarios(a: &Record, b: &Record) -> Vec<Difference> {
    let table = |record: &Record| {
        let table = record.scenario.parse::<toml::Table>().unwrap_or_default();
        serde_json::to_value(table).unwrap_or_default()
    };
    differences(&table(a), &table(b), &OF_THE_SCENARIO)
}

fn differences(a: &Json, b: &Json, except: &[&str]) -> Vec<Difference> {
    let (a, b) = (flat(&without(a, except)), flat(&without(b, except)));
    let keys: BTreeSet<&String> = a.iter().chain(&b).map(|(key, _)| key).collect();
    let value = |of: &[(String, String)], key: &str| {
        of.iter().find(|(known, _)| known == key).map_or_else(|| ABSENT.to_owned(), |(_, value)| value.clone())
    };
    keys.into_iter()
        .map(|key| Difference { key: key.clone(), a: value(&a, key), b: value(&b, key) })
        .filter(|difference| difference.a != difference.b)
        .collect()
}

fn without(value: &Json, except: &[&str]) -> Json {
    let mut value = value.clone();
    if let Json::Object(map) = &mut value {
        map.retain(|key, _| !except.contains(&key.as_str()));
    }
    value
}

/// Values by dotted path.
fn flat(value: &Json) -> Vec<(String, String)> {
    let Json::Object(map) = value else { return vec![(String::new(), crate::report::plain(value))] };
    let below = map.iter().flat_map(|(key, value)| {
        flat(value).into_iter().map(move |(rest, value)| {
            let path = if rest.is_empty() { key.clone() } else { format!("{key}.{rest}") };
            (path, value)
        })
    });
    below.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_differ_are_found_by_path() {
        let a = json!({"kernel": "6.12", "sysctls": {"somaxconn": "4096", "tcp_tw_reuse": "2"}, "command": ["x"],
            "calibration": {"seed": 1}});
        let b = json!({"kernel": "6.18", "sysctls": {"somaxconn": "4096"}, "command": ["y"], "calibration": null});
        let found = differences(&a, &b, &OF_THE_RUN);
        let found: Vec<_> = found.iter().map(|one| (&one.key[..], &one.a[..], &one.b[..])).collect();
        assert_eq!(found, [("kernel", "6.12", "6.18"), ("sysctls.tcp_tw_reuse", "2", "unset")]);
    }
}
