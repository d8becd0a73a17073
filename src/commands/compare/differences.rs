//! Differences between records' machines and scenarios.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexSet;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value as Json;

use crate::{
    record::{Host, HostRole},
    stats::Record,
};

/// Ignored: these keys identify the run rather than its conditions.
const OF_THE_RUN: [&str; 7] = ["boot", "calibration", "command", "experiment", "schema", "queue_sample_ns", "seed"];
const OF_THE_SCENARIO: [&str; 3] = ["name", "question", "seed"];
/// The facts about netfilter, and those about the table of tracked connections that are of the moment.
const NETFILTER: &str = "netfilter";
const CONNTRACK: &str = "/netfilter/conntrack";
const OF_THE_MOMENT: [&str; 2] = ["entries", "counts"];
/// What stands for the contents of all traces that a record replayed.
const TRACES: &str = "SHA-256 of what was replayed";
/// Most hosts of a role that are named.
const NAMED: usize = 8;
const ABSENT: &str = "unset";
/// The value of a table by itself.
const PRESENT: &str = "set";

/// A key whose values differ.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    /// Dotted path.
    pub key: String,
    /// The baseline's value, or its records' values.
    pub a: String,
    /// The new side's.
    pub b: String,
}

impl Difference {
    /// `kernel: 6.12 versus 6.18`; where both sides mix the same values, `kernel: 6.12, 6.18 on both sides`. Whole texts, such as those
    /// of files, are not shown.
    pub fn in_words(&self) -> String {
        let Self { key, a, b } = self;
        if a.contains('\n') || b.contains('\n') {
            return match (&a[..], &b[..]) {
                (_, ABSENT) => format!("{key}: only in a"),
                (ABSENT, _) => format!("{key}: only in b"),
                _ => format!("{key} differs"),
            };
        }
        if a == b { format!("{key}: {a} on both sides") } else { format!("{key}: {a} versus {b}") }
    }
}

/// Differences in `host.json` between any two of the records.
pub fn of_hosts(base: &[Record], new: &[Record]) -> Vec<Difference> {
    let host = |record: &Record| {
        let mut host = record.host.clone();
        // Why not is a matter of one machine, and not always put in the same words.
        if let Some(stamps) = host.get_mut("accept_stamps").filter(|stamps| *stamps != Host::STAMPS_ALLOWED) {
            *stamps = "not permitted".into();
        }
        if let Some(Json::Object(table)) = host.pointer_mut(CONNTRACK) {
            table.retain(|key, _| !OF_THE_MOMENT.contains(&&key[..]));
        }
        by_rank(&mut host);
        host
    };
    let mut hosts = [base, new].map(|records| records.iter().map(host).collect::<Vec<_>>());
    // Of jobs of other sizes, each host of the larger one would be a difference.
    let sizes: BTreeSet<usize> =
        hosts.iter().flatten().map(|host| host["hosts"].as_object().map_or(1, serde_json::Map::len)).collect();
    if sizes.len() > 1 {
        hosts.iter_mut().flatten().for_each(|host| host["hosts"] = who(host).into());
    }
    // Records of before it was known say nothing of it.
    if hosts.iter().flatten().any(|host| host.get(NETFILTER).is_none()) {
        hosts.iter_mut().flatten().filter_map(Json::as_object_mut).for_each(|host| _ = host.remove(NETFILTER));
    }
    let [base, new] = hosts;
    differences(&base, &new, &OF_THE_RUN)
}

/// Who did what: `3 hosts (server on host0; load on host1, host2)`.
fn who(host: &Json) -> String {
    let Some(hosts) = host["hosts"].as_object() else { return "one machine did it all".to_owned() };
    let names = |role: HostRole| -> Vec<String> {
        let of = hosts.values().filter(|one| one["role"] == role.name());
        of.filter_map(|one| Some(one["name"].as_str()?.to_owned())).take(NAMED).collect()
    };
    let [servers, load] = [HostRole::Server, HostRole::Load].map(|role| names(role).join(", "));
    format!("{} hosts (server on {servers}; load on {load})", hosts.len())
}

/// Lets the hosts of a job be known by their ranks. What the file's top level says of rank 0 is not said twice.
fn by_rank(host: &mut Json) {
    let Some(hosts) = host.get_mut("hosts").map(Json::take) else { return };
    let mut by_rank = serde_json::Map::new();
    for (place, mut entry) in hosts.as_array().into_iter().flatten().cloned().enumerate() {
        if let Json::Object(entry) = &mut entry {
            let of_no_condition = |key: &String| key == "rank" || OF_THE_RUN.contains(&&key[..]);
            entry.retain(|key, _| {
                !of_no_condition(key) && (place > 0 || ["name", "role", "addresses"].contains(&&key[..]))
            });
        }
        by_rank.insert(format!("rank {place}"), entry);
    }
    host["hosts"] = by_rank.into();
}

/// Differences in `scenario.toml` between any two of the records.
pub fn of_scenarios(base: &[Record], new: &[Record]) -> Vec<Difference> {
    let table = |record: &Record| {
        let table = record.scenario.parse::<toml::Table>().unwrap_or_default();
        let mut table = serde_json::to_value(table).unwrap_or_default();
        // Whatever their names, traces are the same if their contents are.
        let replays = record.trials.iter().flat_map(|trial| &trial.loads).filter_map(|load| load.replay.as_ref());
        let digest = |sha256: &str| sha256.chars().take(12).collect::<String>() + "…";
        let contents: BTreeSet<String> = replays.map(|replay| digest(&replay.sha256)).collect();
        if !contents.is_empty() {
            table[TRACES] = contents.into_iter().collect::<Vec<String>>().join(" and ").into();
        }
        table
    };
    let tables = |records: &[Record]| records.iter().map(table).collect::<Vec<_>>();
    differences(&tables(base), &tables(new), &OF_THE_SCENARIO)
}

fn differences(base: &[Json], new: &[Json], except: &[&str]) -> Vec<Difference> {
    let flat = |values: &[Json]| -> Vec<BTreeMap<String, String>> {
        values.iter().map(|value| flat(&without(value, except)).into_iter().collect()).collect()
    };
    let (base, new) = (flat(base), flat(new));
    let keys: BTreeSet<&String> = base.iter().chain(&new).flat_map(BTreeMap::keys).collect();
    let values = |of: &[BTreeMap<String, String>], key: &str| -> IndexSet<String> {
        of.iter().map(|values| values.get(key).map_or_else(|| ABSENT.to_owned(), String::clone)).collect()
    };
    let text = |values: &IndexSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let mut found: Vec<Difference> = keys
        .into_iter()
        .map(|key| (key, values(&base, key), values(&new, key)))
        .filter(|(_, a, b)| a != b || a.len() > 1)
        // As sets: the same values in another order are the same.
        .map(|(key, a, b)| Difference { key: key.clone(), a: text(&a), b: text(if a == b { &a } else { &b }) })
        .collect();
    // What one side lacks as a whole is not listed part by part.
    let wholes: Vec<String> = found.iter().map(|one| format!("{}.", one.key)).collect();
    found.retain(|one| !wholes.iter().any(|whole| one.key.starts_with(whole)));
    found
}

fn without(value: &Json, except: &[&str]) -> Json {
    let mut value = value.clone();
    if let Json::Object(map) = &mut value {
        map.retain(|key, _| !except.contains(&key.as_str()));
    }
    value
}

/// Values by dotted path. A list of tables with names, such as the variants of a scenario, is known by these: each has a value, and
/// so have its parts.
fn flat(value: &Json) -> Vec<(String, String)> {
    let named = |entry: &Json| Some((entry["name"].as_str()?.to_owned(), without(entry, &["name"])));
    let by_name = value.as_array().filter(|list| !list.is_empty()).and_then(|list| list.iter().map(named).collect());
    if let Some(entries) = by_name {
        let entries: Vec<(String, Json)> = entries;
        let parts = |(name, entry): &(String, Json)| {
            let below = flat(entry).into_iter().map(|(path, value)| (format!("{name}.{path}"), value));
            [(name.clone(), PRESENT.to_owned())].into_iter().chain(below).collect::<Vec<_>>()
        };
        return entries.iter().flat_map(parts).collect();
    }
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
    use std::slice::from_ref;

    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_differ_are_found_by_path() {
        let a = json!({"kernel": "6.12", "sysctls": {"somaxconn": "4096", "tcp_tw_reuse": "2"}, "command": ["x"],
            "calibration": {"seed": 1}});
        let b = json!({"kernel": "6.18", "sysctls": {"somaxconn": "4096"}, "command": ["y"], "calibration": null});
        let found = |base: &[&Json], new: &[&Json]| -> Vec<(String, String, String)> {
            let clone = |values: &[&Json]| values.iter().copied().cloned().collect::<Vec<_>>();
            let found = differences(&clone(base), &clone(new), &OF_THE_RUN);
            found.into_iter().map(|one| (one.key, one.a, one.b)).collect()
        };
        let of = |key: &str, a: &str, b: &str| (key.to_owned(), a.to_owned(), b.to_owned());
        let (kernel, reuse) = (of("kernel", "6.12", "6.18"), of("sysctls.tcp_tw_reuse", "2", "unset"));
        assert_eq!(found(&[&a], &[&b]), [kernel, reuse]);
        assert_eq!(found(&[&a, &a], &[&a]), []);
        // What differs within a side differs too.
        let (kernel, reuse) =
            (of("kernel", "6.12, 6.18", "6.12, 6.18"), of("sysctls.tcp_tw_reuse", "2, unset", "2, unset"));
        assert_eq!(found(&[&a, &b], &[&a, &b]), [kernel.clone(), reuse.clone()]);
        assert_eq!(found(&[&a, &b], &[&b, &a]), [kernel, reuse], "in another order");
    }

    #[test]
    fn hosts_are_compared_by_rank() {
        let job = |kernels: &[&str]| {
            let host = |(rank, kernel): (usize, &&str)| json!({"rank": rank, "name": "n", "kernel": kernel, "boot": kernel, "uid": 0});
            let mut host = json!({"kernel": kernels[0], "launcher": "x", "hosts": kernels.iter().enumerate().map(host).collect::<Vec<_>>()});
            by_rank(&mut host);
            host
        };
        let words = |a: &Json, b: &Json| -> Vec<String> {
            differences(from_ref(a), from_ref(b), &OF_THE_RUN).iter().map(Difference::in_words).collect()
        };
        let base = job(&["6.1", "6.1", "6.1"]);
        assert_eq!(words(&base, &base), [""; 0]);
        assert_eq!(words(&base, &job(&["6.1", "6.1", "6.18"])), ["hosts.rank 2.kernel: 6.1 versus 6.18"]);
        assert_eq!(words(&base, &job(&["6.18", "6.1", "6.1"])), ["kernel: 6.1 versus 6.18"]);
        // Of another number of hosts, only who did what.
        let mut named = json!({"hosts": [{"name": "a", "role": "server"}, {"name": "b", "role": "load"}, {"name": "c", "role": "load"}]});
        by_rank(&mut named);
        assert_eq!(who(&named), "3 hosts (server on a; load on b, c)");
        assert_eq!(who(&json!({"kernel": "6.1"})), "one machine did it all");
    }

    #[test]
    fn variants_are_compared_by_name_and_files_are_not_printed() {
        let scenario = |variants: Json, file: &str| json!({"variant": variants, "server": {"files": {"a.conf": file}}});
        let variant = |name: &str, command: &str| json!({"name": name, "server": {"command": command, "app": "http"}});
        let a = scenario(json!([variant("shared", "nginx"), variant("own", "x")]), "one\n");
        let b = scenario(json!([variant("shared", "nginx -q")]), "two\n");
        let found = differences(from_ref(&a), from_ref(&b), &OF_THE_SCENARIO);
        let words: Vec<String> = found.iter().map(Difference::in_words).collect();
        assert_eq!(
            words,
            [
                "server.files.a.conf differs",
                "variant.own: set versus unset",
                "variant.shared.server.command: nginx versus nginx -q"
            ]
        );
        let found = differences(&[a], &[json!({"server": {}})], &OF_THE_SCENARIO);
        let words: Vec<String> = found.iter().map(Difference::in_words).collect();
        assert_eq!(
            words,
            ["server.files.a.conf: only in a", "variant.own: set versus unset", "variant.shared: set versus unset"]
        );
        assert_eq!(differences(from_ref(&b), from_ref(&b), &OF_THE_SCENARIO), []);
    }

    #[test]
    fn seeds_identify_runs_and_are_no_difference() {
        let scenario = |seed: u32, rate: u32| json!({"name": "n", "seed": seed, "load": {"rate": rate}});
        let side = [scenario(1, 5), scenario(2, 5)];
        assert_eq!(differences(&side, &side, &OF_THE_SCENARIO), []);
        assert_eq!(differences(&side[..1], &side[1..], &OF_THE_SCENARIO), []);
        let faster = [scenario(1, 6), scenario(2, 6)];
        let found = differences(&side, &faster, &OF_THE_SCENARIO);
        assert_eq!(found.iter().map(Difference::in_words).collect::<Vec<_>>(), ["load.rate: 5 versus 6"]);
        let mixed = [scenario(1, 5), scenario(2, 6)];
        let found = differences(&mixed, &mixed, &OF_THE_SCENARIO);
        assert_eq!(found.iter().map(Difference::in_words).collect::<Vec<_>>(), ["load.rate: 5, 6 on both sides"]);
    }
}
