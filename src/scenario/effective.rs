//! The scenario with every effective value. Reading it again gives the same plan.

use indexmap::IndexMap;
use toml::{Table, Value};

use super::{
    file::Entry,
    keys::paths,
    settings::Log,
    variant::{self, Variant},
};

/// What reading the cells of one variant used.
pub(super) struct Reading<'a> {
    /// `None` in a scenario without variants.
    pub variant: Option<&'a Variant>,
    pub log: Log,
}

impl Reading<'_> {
    /// Whether its cells are to be run.
    pub(super) fn runs(&self) -> bool {
        self.variant.is_none_or(|variant| variant.chosen)
    }

    /// Whether its cells use the value that the scenario sets for all variants.
    pub(super) fn uses_fixed(&self, path: &str) -> bool {
        self.log.uses(path) && !self.variant.is_some_and(|variant| variant.replaces(path))
    }
}

/// Flat values by path.
type Values = IndexMap<String, Value>;

/// The effective values: those of all cells, and those that some variants have alone.
pub(super) struct Effective<'a> {
    common: Values,
    variants: Vec<(&'a str, Values)>,
    /// Whether variants have lists of populations of their own, and so each of them its list.
    populated: bool,
    matrix: &'a [(String, Vec<Entry>)],
}

impl<'a> Effective<'a> {
    pub(super) fn new(whole: &Log, readings: &[Reading<'a>], matrix: &'a [(String, Vec<Entry>)]) -> Self {
        let unswept = |log: &Log| {
            let mut values = log.effective();
            values.retain(|path, _| !matrix.iter().any(|(swept, _)| swept == path));
            values
        };
        let run = || readings.iter().filter(|reading| reading.runs());
        let mut all: Vec<Values> = run().map(|reading| unswept(&reading.log)).collect();
        let mut shared = all.first().cloned().unwrap_or_default();
        shared.retain(|path, value| all.iter().all(|values| values.get(path) == Some(value)));
        // A list of tables belongs to one place.
        let events = paths::prefix(paths::EVENTS);
        let is_event = |path: &String| path.starts_with(&events);
        if all.iter().any(|values| values.keys().any(|path| is_event(path) && !shared.contains_key(path))) {
            shared.retain(|path, _| !is_event(path));
        }
        let populated = run().any(|reading| reading.variant.is_some_and(|variant| !variant.populations.is_empty()));
        if populated {
            shared.retain(|path, _| paths::population(path).is_none());
        }
        all.iter_mut().for_each(|values| values.retain(|path, _| !shared.contains_key(path)));
        let mut common = unswept(whole);
        common.extend(shared);
        let named = run().zip(all).filter_map(|(reading, values)| Some((reading.variant?.name.as_str(), values)));
        Self { common, variants: named.collect(), populated, matrix }
    }

    /// A value that all cells use.
    pub(super) fn of_all(&self, path: &str) -> Option<&Value> {
        self.common.get(path)
    }

    pub(super) fn to_toml(&self) -> String {
        let mut root = nested(&self.common, true);
        if !self.matrix.is_empty() {
            let values = |entries: &[Entry]| Value::Array(entries.iter().map(|entry| entry.value.clone()).collect());
            let table = self.matrix.iter().map(|(path, entries)| (path.clone(), values(entries))).collect();
            root.insert("matrix".to_owned(), Value::Table(table));
        }
        let variant = |(name, values): &(&str, Values)| {
            let mut table = Table::from_iter([("name".to_owned(), Value::String((*name).to_owned()))]);
            table.extend(nested(values, self.populated));
            Value::Table(table)
        };
        if !self.variants.is_empty() {
            let variants = self.variants.iter().map(variant).collect();
            root.insert(variant::PATH.to_owned(), Value::Array(variants));
        }
        toml::to_string(&root).expect("TOML values serialize")
    }
}

/// Flat values as nested tables. `listed`: populations are a list of tables, not values for those of another list.
fn nested(values: &Values, listed: bool) -> Table {
    let mut root = Table::new();
    let mut sections: IndexMap<&str, Table> = IndexMap::new();
    let mut populations: IndexMap<&str, Table> = IndexMap::new();
    let mut events: Vec<Table> = Vec::new();
    for (path, value) in values {
        if let Some((name, leaf)) = paths::population(path) {
            let named = || Table::from_iter([("name".to_owned(), Value::String(name.to_owned()))]);
            let table = populations.entry(name).or_insert_with(|| if listed { named() } else { Table::new() });
            table.insert(leaf.to_owned(), value.clone());
            continue;
        }
        let Some((table, name)) = path.split_once('.') else {
            root.insert(path.clone(), value.clone());
            continue;
        };
        let (table, name) = match name.split_once('.') {
            Some((number, name)) if table == paths::EVENTS => {
                let number: usize = number.parse().expect("events are numbered");
                events.resize(events.len().max(number + 1), Table::new());
                (&mut events[number], name)
            }
            _ => (sections.entry(table).or_default(), name),
        };
        table.insert(name.to_owned(), value.clone());
    }
    if !events.is_empty() {
        root.insert(paths::EVENTS.to_owned(), Value::Array(events.into_iter().map(Value::Table).collect()));
    }
    if listed && let Some((_, first)) = populations.first_mut() {
        // What holds for all of them can be set in any.
        first.extend(sections.shift_remove(paths::LOADS).unwrap_or_default());
        let tables = populations.into_values().map(Value::Table).collect();
        root.insert(paths::LOADS.to_owned(), Value::Array(tables));
    } else if !populations.is_empty() {
        let named = populations.into_iter().map(|(name, table)| (name.to_owned(), Value::Table(table)));
        sections.entry(paths::LOADS).or_default().extend(named);
    }
    root.extend(sections.into_iter().map(|(name, table)| (name.to_owned(), Value::Table(table))));
    root
}
