//! Named variants: cells that a matrix cannot make, such as our strategies beside other servers.

use std::collections::HashMap;

use indexmap::IndexMap;
use toml::Value;

use super::{
    error::Origin,
    file::{Entry, innermost},
    keys::{AnyKey, LOAD_CONNECTIONS, LOAD_DURATION, paths},
    population::Population,
};

/// The table of variants, and the swept name in their cells.
pub(super) const PATH: &str = "variant";

/// A named set of values.
#[derive(Debug, Clone)]
pub(super) struct Variant {
    pub name: String,
    /// Where it begins.
    pub origin: Origin,
    /// Its values by dotted path, in the order of the file.
    pub values: IndexMap<String, Entry>,
    /// Where each of its tables begins.
    pub tables: HashMap<String, Origin>,
    /// The populations that it loads the server with, in place of the scenario's; none for those.
    pub populations: Vec<Population>,
    /// Whether it is to be run.
    pub chosen: bool,
}

impl Variant {
    pub(super) fn new(name: String, origin: Origin) -> Self {
        Self { name, origin, values: IndexMap::new(), tables: HashMap::new(), populations: Vec::new(), chosen: true }
    }

    /// Whether what the scenario sets for all variants does not hold for this one: because it sets the same key, another
    /// bound of the load, or other events or populations.
    pub(super) fn replaces(&self, path: &str) -> bool {
        let (connections, duration) = (LOAD_CONNECTIONS.path(), LOAD_DURATION.path());
        let events = paths::prefix(paths::EVENTS);
        self.values.contains_key(path)
            || !self.populations.is_empty() && paths::population(path).is_some()
            || path == duration && self.values.contains_key(connections)
            || path == connections && self.values.contains_key(duration)
            || path.starts_with(&events) && self.values.keys().any(|path| path.starts_with(&events))
    }

    /// Where the innermost of its tables that hold a key begins, or else the variant.
    pub(super) fn table_of(&self, path: &str) -> &Origin {
        innermost(&self.tables, path).unwrap_or(&self.origin)
    }
}

/// What is wrong with a variant's name.
pub(super) fn misnamed(name: &str) -> Option<&'static str> {
    const LONGEST: usize = 60;
    if name.trim().is_empty() {
        return Some("has an empty name");
    }
    if name.trim() != name || name.chars().any(char::is_control) {
        return Some("must have a name without line breaks and without spaces around it");
    }
    (name.chars().count() > LONGEST).then_some("must have a name of at most 60 characters")
}

/// A variant's name in an override: names that look like numbers need no quotes.
pub(super) fn name_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
