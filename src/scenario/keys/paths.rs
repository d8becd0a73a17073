//! Paths as scenarios write them: which key they name, and which one a misspelt path may mean.

use std::borrow::Cow;

use toml::Value;

use super::{AnyKey, all, domain::shown};

/// The table of sysctls, whose keys have any name.
pub(in crate::scenario) const SYSCTL: &str = "sysctl";

/// The table that may be repeated: its keys belong to an instance, as in `fault.0.at`.
pub(in crate::scenario) const FAULTS: &str = "fault";

/// The tables that take effect only if one of their keys is set.
pub(in crate::scenario) const STOP: &str = "stop";
/// See [`STOP`].
pub(in crate::scenario) const SEARCH: &str = "search";

/// What precedes a table's keys.
pub(in crate::scenario) fn prefix(table: &str) -> String {
    format!("{table}.")
}

/// The key that a path of a scenario names.
pub(in crate::scenario) fn find(path: &str) -> Option<&'static dyn AnyKey> {
    if below(path, SYSCTL).is_some_and(|name| !name.is_empty()) {
        return Some(&Sysctl);
    }
    let general = match below(path, FAULTS) {
        Some(rest) => {
            let (instance, leaf) = rest.split_once('.')?;
            instance.parse::<usize>().ok()?;
            Cow::Owned(format!("{FAULTS}.{leaf}"))
        }
        None => Cow::Borrowed(path),
    };
    all().find(|key| key.path() == general)
}

/// Whether a path is that of a table and not of a key.
pub(in crate::scenario) fn is_table(path: &str) -> bool {
    if path == SYSCTL || below(path, SYSCTL).is_some() {
        return true;
    }
    match below(path, FAULTS) {
        Some(instance) => instance.parse::<usize>().is_ok(),
        None => all().any(|key| below(key.path(), path).is_some()),
    }
}

/// Whether a path is an instance of a general one, as `fault.0.at` is of `fault.at`.
pub(in crate::scenario) fn is_of_instance(path: &str, general: &str) -> bool {
    path != general && find(path).is_some_and(|key| key.path() == general)
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
    let table = |key: &'static str| key.split_once('.').map(|(table, _)| table);
    let known = all().map(AnyKey::path);
    // A fault's keys resemble others, and are written in their own tables.
    let keys = known.filter(|key| below(key, FAULTS).is_some() == below(path, FAULTS).is_some());
    // A path with a dot has its table already.
    let tables = all().filter_map(|key| table(key.path())).chain([SYSCTL, "matrix"]).filter(|_| !path.contains('.'));
    let alike = |known: &str| strsim::jaro_winkler(known, path);
    let own_table = path.strip_suffix(leaf(path)).unwrap_or_default();
    // Putting a key in the wrong table is as common as misspelling it. A table that is right makes no key more alike.
    let keys = keys.map(|key| {
        let leaves = strsim::jaro_winkler(leaf(key), leaf(path));
        let whole = if key.strip_suffix(leaf(key)) == Some(own_table) { 0.0 } else { alike(key) };
        (leaves.max(whole), key)
    });
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
            ("fault.0.worke", Some("fault.worker")),
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
            ("fault.0.at", true, false),
            ("fault.0", false, true),
            ("fault.at", false, false),
            ("fault.x.at", false, false),
            ("sysctl.net.ipv4.tcp_rmem", true, true),
            ("sysctl", false, true),
            ("seed", true, false),
            ("serve", false, false),
        ] {
            assert_eq!((find(path).is_some(), is_table(path)), (key, table), "{path}");
        }
    }
}
