//! Paths as scenarios write them: which key they name, and which one a misspelt path may mean.

use std::borrow::Cow;

use toml::Value;

use super::{AnyKey, all, domain::shown, is_of_all_loads};
use crate::suggest;

/// The table of sysctls, whose keys have any name.
pub(in crate::scenario) const SYSCTL: &str = "sysctl";

/// The table that may be repeated: its keys belong to an instance, as in `event.0.at`.
pub(in crate::scenario) const EVENTS: &str = "event";

/// The table of the load, which may be repeated too: the keys of several populations belong to a name, as in `load.kept.rate`.
pub(in crate::scenario) const LOADS: &str = "load";

/// The tables that take effect only if one of their keys is set.
pub(in crate::scenario) const STOP: &str = "stop";
/// See [`STOP`].
pub(in crate::scenario) const SEARCH: &str = "search";

/// The tables of what packets pass in a trial's own networks.
pub(in crate::scenario) const FIREWALL: &str = "firewall";
/// See [`FIREWALL`].
pub(in crate::scenario) const NAT: &str = "nat";

/// What precedes a table's keys.
pub(in crate::scenario) fn prefix(table: &str) -> String {
    format!("{table}.")
}

/// The key that a path of a scenario names.
pub(in crate::scenario) fn find(path: &str) -> Option<&'static dyn AnyKey> {
    if below(path, SYSCTL).is_some_and(|name| !name.is_empty()) {
        return Some(&Sysctl);
    }
    let general = match below(path, EVENTS) {
        Some(rest) => {
            let (instance, leaf) = rest.split_once('.')?;
            instance.parse::<usize>().ok()?;
            Cow::Owned(format!("{EVENTS}.{leaf}"))
        }
        None => match population(path) {
            Some((_, leaf)) => Cow::Owned(format!("{LOADS}.{leaf}")),
            None => Cow::Borrowed(path),
        },
    };
    let is_known = !(general != path && is_of_all_loads(&general));
    all().find(|key| is_known && key.path() == general)
}

/// The population and the key's last part in a path: `kept` and `rate` of `load.kept.rate`.
pub(in crate::scenario) fn population(path: &str) -> Option<(&str, &str)> {
    let (name, leaf) = below(path, LOADS)?.split_once('.')?;
    (may_name_population(name) && !is_leaf_of_load(name)).then_some((name, leaf))
}

/// Whether a path is that of a population: `load.kept`.
pub(in crate::scenario) fn is_population(path: &str) -> bool {
    below(path, LOADS).is_some_and(|name| may_name_population(name) && !is_leaf_of_load(name))
}

/// Whether a population may have a name, but for names of keys.
pub(in crate::scenario) fn may_name_population(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(allowed)
}

/// Whether a word is the last part of a key of the load.
pub(in crate::scenario) fn is_leaf_of_load(word: &str) -> bool {
    all().any(|key| below(key.path(), LOADS) == Some(word))
}

/// Whether a path is that of a table and not of a key.
pub(in crate::scenario) fn is_table(path: &str) -> bool {
    if path == SYSCTL || below(path, SYSCTL).is_some() {
        return true;
    }
    match below(path, EVENTS) {
        Some(instance) => instance.parse::<usize>().is_ok(),
        None => all().any(|key| below(key.path(), path).is_some()),
    }
}

/// Whether a path is an instance of a general one, as `event.0.at` is of `event.at`.
pub(in crate::scenario) fn is_of_instance(path: &str, general: &str) -> bool {
    path != general && find(path).is_some_and(|key| key.path() == general)
}

/// The number of the instance that a path belongs to: 3 of `event.3.at`.
pub(in crate::scenario) fn instance(path: &str) -> Option<usize> {
    below(path, EVENTS)?.split_once('.')?.0.parse().ok()
}

fn below<'a>(path: &'a str, table: &str) -> Option<&'a str> {
    path.strip_prefix(table)?.strip_prefix('.')
}

/// The last part of a path.
pub(in crate::scenario) fn leaf(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

/// The known key or table most similar to a misspelt one.
pub(in crate::scenario) fn nearest(path: &str) -> Option<&'static str> {
    // What events were called before they could do more than harm.
    if path == "fault" || below(path, "fault").is_some() {
        return Some(EVENTS);
    }
    let table = |key: &'static str| key.split_once('.').map(|(table, _)| table);
    let known = all().map(AnyKey::path);
    // An event's keys resemble others, and are written in their own tables.
    let keys = known.filter(|key| below(key, EVENTS).is_some() == below(path, EVENTS).is_some());
    // A path with a dot has its table already.
    let tables = all().filter_map(|key| table(key.path())).chain([SYSCTL, "matrix"]).filter(|_| !path.contains('.'));
    let alike = |known: &str| suggest::similarity(known, path);
    // Putting a key in the wrong table is as common as misspelling it.
    let keys = keys.map(|key| (suggest::similarity(leaf(key), leaf(path)).max(alike(key)), key));
    keys.chain(tables.map(|table| (alike(table), table)))
        .filter(|(alike, _)| *alike > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, path)| path)
}

/// A sysctl of the trial's namespaces, under any name.
struct Sysctl;

impl AnyKey for Sysctl {
    fn path(&self) -> &'static str {
        SYSCTL
    }

    fn meaning(&self) -> &'static str {
        "A sysctl of the trial's network namespaces."
    }

    fn domain(&self) -> String {
        "integer or string".to_owned()
    }

    fn default_toml(&self) -> Option<Value> {
        None
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        if value.is_integer() || value.is_str() {
            return Ok(());
        }
        Err(format!("must be an integer or a string, not {}", shown(value)))
    }

    fn takes_list(&self) -> bool {
        false
    }

    fn lists_strings(&self) -> bool {
        false
    }

    fn words(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_key_meant() {
        for (slip, meant) in [
            ("server.worker", Some("server.workers")),
            ("workers", Some("server.workers")),
            ("serach", Some("search")),
            ("event.0.worke", Some("event.worker")),
            ("server.strategyy", Some("server.strategy")),
            ("server.foo", None),
            ("stop.foo", None),
            ("zzz", None),
        ] {
            assert_eq!(nearest(slip), meant, "{slip}");
        }
    }

    #[test]
    fn paths_name_keys_and_tables() {
        for (path, key, table) in [
            ("server.workers", true, false),
            ("server", false, true),
            ("event.0.at", true, false),
            ("event.0", false, true),
            ("event.at", false, false),
            ("event.x.at", false, false),
            ("load.kept.rate", true, false),
            ("load.kept.rat", false, false),
            ("load.rate.rate", false, false),
            ("load.Kept.rate", false, false),
            // What holds for all populations is none's.
            ("load.kept.duration", false, false),
            ("load.duration", true, false),
            ("sysctl.net.ipv4.tcp_rmem", true, true),
            ("sysctl", false, true),
            ("seed", true, false),
            ("serve", false, false),
        ] {
            assert_eq!((find(path).is_some(), is_table(path)), (key, table), "{path}");
        }
    }
}
