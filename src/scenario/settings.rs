//! One cell's values by key. Remembers which keys were read, and collects contradictions.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeSet, HashSet},
    fmt::Display,
    ops::RangeInclusive,
};

use indexmap::IndexMap;
use toml::Value;

use super::{
    error::{Origin, Problem},
    file::{Entry, File},
    keys::{self, AnyKey, Domain, Integer, Key, LOAD, Listens, is_of_all_loads, paths},
    population,
    variant::Variant,
};

/// Swept keys with the values of one cell.
pub(super) type Swept<'a> = Vec<(&'a str, &'a Entry)>;

/// Typed access to one cell's values.
pub(super) struct Settings<'a> {
    file: &'a File,
    variant: Option<&'a Variant>,
    swept: Swept<'a>,
    log: &'a Log,
    /// The instance of a table whose keys are read, such as `event.0`.
    instance: Option<String>,
}

/// Which keys a scenario's cells use, and the problems found.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Keys that some cell uses, with their effective values.
    used: RefCell<IndexMap<String, Option<Value>>>,
    /// Keys whose default differs between cells.
    differing: RefCell<HashSet<String>>,
    problems: RefCell<Vec<Problem>>,
}

impl Log {
    /// Whether some cell uses a key.
    pub(super) fn uses(&self, path: &str) -> bool {
        self.used.borrow().contains_key(path)
    }

    /// Removes and returns the problems.
    pub(super) fn take_problems(&self) -> Vec<Problem> {
        self.problems.take()
    }

    /// The effective values. A default that depends on a swept key (`address` if `network` is swept) is left out, so
    /// that it still depends on it when the result is read again.
    pub(super) fn effective(&self) -> IndexMap<String, Value> {
        let (used, differing) = (self.used.borrow(), self.differing.borrow());
        used.iter()
            .filter(|(path, _)| !differing.contains(*path))
            .filter_map(|(path, value)| Some((path.clone(), value.clone()?)))
            .collect()
    }

    /// Records that a key is used. `value` is computed only if it is not yet known or `depends` on the cell.
    fn used(&self, path: &str, depends: bool, value: impl FnOnce() -> Option<Value>) {
        let mut used = self.used.borrow_mut();
        match used.get(path) {
            None => drop(used.insert(path.to_owned(), value())),
            Some(known) if depends => {
                if *known != value() {
                    self.differing.borrow_mut().insert(path.to_owned());
                }
            }
            Some(_) => {}
        }
    }
}

impl<'a> Settings<'a> {
    pub(super) fn new(file: &'a File, swept: Swept<'a>, log: &'a Log) -> Self {
        Self { file, variant: None, swept, log, instance: None }
    }

    /// The same with what a variant sets.
    pub(super) fn in_variant(self, variant: Option<&'a Variant>) -> Self {
        Self { variant, ..self }
    }

    /// The same values, with the table's keys read from one instance: `event.at` from `event.0.at`.
    pub(super) fn of_instance(&self, table: &str, number: usize) -> Self {
        Self { swept: self.swept.clone(), instance: Some(format!("{table}.{number}")), ..*self }
    }

    /// The same values, with the load's keys read from one of several populations: `load.rate` from `load.kept.rate`. What holds for
    /// all populations is read from `load` itself.
    pub(super) fn of_population(&self, name: &str) -> Self {
        Self { swept: self.swept.clone(), instance: Some(format!("{}.{name}", paths::LOADS)), ..*self }
    }

    /// The values of each population; these ones where a single `[load]` is all.
    pub(super) fn of_loads(&self) -> Vec<(Option<&'a str>, Self)> {
        let named = population::of(self.file, self.variant).iter();
        let named: Vec<_> = named.map(|one| (Some(&one.name[..]), self.of_population(&one.name))).collect();
        if named.is_empty() { vec![(None, Self { swept: self.swept.clone(), instance: None, ..*self })] } else { named }
    }

    fn path(&self, key: &dyn AnyKey) -> Cow<'static, str> {
        let path = key.path();
        if is_of_all_loads(path) {
            return Cow::Borrowed(path);
        }
        let leaf = self.instance.as_ref().and_then(|instance| {
            let table = instance.split_once('.')?.0;
            Some(format!("{instance}{}", path.strip_prefix(table).filter(|leaf| leaf.starts_with('.'))?))
        });
        leaf.map_or(Cow::Borrowed(path), Cow::Owned)
    }

    fn entry(&self, path: &str) -> Option<&'a Entry> {
        let swept = self.swept.iter().find(|(swept, _)| *swept == path).map(|(_, entry)| *entry);
        swept.or_else(|| match self.variant {
            Some(variant) if variant.replaces(path) => variant.values.get(path),
            _ => self.file.values.get(path),
        })
    }

    /// All values set below a table, by their paths.
    fn entries(&self, table: &str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let prefix = paths::prefix(table);
        let variant = self.variant;
        let fixed = self.file.values.iter().filter(move |(path, _)| !variant.is_some_and(|one| one.replaces(path)));
        let set = fixed.chain(variant.into_iter().flat_map(|variant| &variant.values));
        let set = set.map(|(path, entry)| (path.as_str(), entry));
        set.chain(self.swept.iter().copied()).filter(move |(path, _)| path.starts_with(&prefix))
    }

    /// A key's value.
    pub(super) fn get<D: Domain>(&self, key: &Key<D>) -> D::Value {
        self.value(key, || key.default(), false)
    }

    /// The value of a key that is about networks. Where the server listens on a Unix socket, it is the default, and the key is of no use.
    pub(super) fn get_of_networks<D: Domain>(&self, key: &Key<D>) -> D::Value {
        if self.is_unix() { key.default() } else { self.get(key) }
    }

    /// Whether the server listens on a Unix socket.
    pub(super) fn is_unix(&self) -> bool {
        matches!(self.peek(keys::ADDRESS), Listens::On(_))
    }

    /// Whether it is one of messages, each of which arrives whole.
    pub(super) fn has_messages(&self) -> bool {
        matches!(self.peek(keys::ADDRESS), Listens::On(unix) if unix.has_messages())
    }

    /// A key's value, with a default that depends on other keys.
    pub(super) fn get_or<D: Domain>(&self, key: &Key<D>, default: D::Value) -> D::Value {
        self.value(key, || default, true)
    }

    fn value<D: Domain>(&self, key: &Key<D>, default: impl FnOnce() -> D::Value, depends: bool) -> D::Value {
        let path = self.path(key);
        if let Some(entry) = self.entry(&path) {
            self.log.used(&path, depends, || Some(entry.value.clone()));
            return parse(key, entry);
        }
        let value = default();
        self.log.used(&path, depends, || key.to_toml(&value));
        value
    }

    /// A key's value, without recording its use.
    pub(super) fn peek<D: Domain>(&self, key: &Key<D>) -> D::Value {
        self.entry(&self.path(key)).map_or_else(|| key.default(), |entry| parse(key, entry))
    }

    /// A number from a range narrowed by other keys; `why` follows the range in the error.
    pub(super) fn get_within<T>(
        &self,
        key: &Key<Integer<T>>,
        range: RangeInclusive<T>,
        others: &[&dyn AnyKey],
        why: &str,
    ) -> T
    where
        Integer<T>: Domain<Value = T>,
        T: Copy + PartialOrd + Display,
    {
        let value = self.get(key);
        if !range.contains(&value) {
            let (low, high) = (range.start(), range.end());
            self.conflict(key, others, format_args!("must be an integer from {low} to {high} {why}, not {value}"));
        }
        value
    }

    /// Whether the scenario sets the key rather than leaving it to its default.
    pub(super) fn is_set(&self, key: &dyn AnyKey) -> bool {
        self.entry(&self.path(key)).is_some()
    }

    /// Whether the key's value is one of several.
    pub(super) fn is_swept(&self, key: &dyn AnyKey) -> bool {
        let path = self.path(key);
        self.swept.iter().any(|(swept, _)| *swept == path)
    }

    /// Whether the scenario sets any key of a table.
    pub(super) fn has_table(&self, table: &str) -> bool {
        self.entries(table).next().is_some()
    }

    /// The number of a table's instances, which are counted from 0 without gaps.
    pub(super) fn instances(&self, table: &str) -> usize {
        let number = |path: &str| path.split('.').nth(1)?.parse::<usize>().ok();
        let numbers: BTreeSet<usize> = self.entries(table).filter_map(|(path, _)| number(path)).collect();
        if let Some((number, place)) = numbers.iter().zip(0..).find(|(number, place)| *number != place) {
            let problem = format_args!("there is no {table}.{place}: they are counted from 0, without gaps");
            self.wrong(&format!("{table}.{number}"), &[], problem);
            self.keep(table);
            return 0;
        }
        numbers.len()
    }

    /// Marks all keys of the instance as used.
    pub(super) fn keep_instance(&self) {
        self.keep(self.instance.as_deref().expect("settings of an instance"));
    }

    fn keep(&self, table: &str) {
        for (path, entry) in self.entries(table) {
            self.log.used(path, false, || Some(entry.value.clone()));
        }
    }

    /// The sysctls to write: name as written, value.
    pub(super) fn sysctls(&self) -> Vec<(String, String)> {
        let sysctl = |(path, entry): (&str, &Entry)| {
            self.log.used(path, false, || Some(entry.value.clone()));
            let name = path.split_once('.')?.1.to_owned();
            Some((name, entry.value.as_str().map_or_else(|| entry.value.to_string(), str::to_owned)))
        };
        self.entries(paths::SYSCTL).filter_map(sysctl).collect()
    }

    /// Reports a problem with a sysctl.
    pub(super) fn refuse_sysctl(&self, name: &str, problem: &str) {
        self.wrong(&format!("{}.{name}", paths::SYSCTL), &[], problem);
    }

    /// Reports a key whose value contradicts others, unless one of them is wrong itself and could be the cause.
    pub(super) fn conflict(&self, key: &dyn AnyKey, others: &[&dyn AnyKey], problem: impl Display) {
        self.wrong(&self.path(key), others, problem);
    }

    fn wrong(&self, path: &str, others: &[&dyn AnyKey], problem: impl Display) {
        let unknown = |path: &str| {
            let unknown = &self.file.unknown;
            unknown.contains(path) || unknown.iter().any(|known| paths::is_of_instance(path, known))
        };
        let others: Vec<Cow<'_, str>> = others.iter().map(|other| self.path(*other)).collect();
        if unknown(path) || others.iter().any(|other| unknown(other)) {
            return;
        }
        let set = |path: &str| self.entry(path).map(|entry| entry.origin.clone());
        let origin = set(path)
            .or_else(|| others.iter().find_map(|other| set(other)))
            .or_else(|| self.variant.map(|variant| variant.table_of(path).clone()))
            .or_else(|| self.file.table_of(path).cloned())
            .unwrap_or(Origin::File);
        let problem = self.in_population(problem.to_string());
        self.log.problems.borrow_mut().push(Problem::new(origin, format_args!("`{path}`: {problem}")));
    }

    /// A text that names keys of the load, with their paths in the population whose values these are.
    fn in_population(&self, text: String) -> String {
        let Some(("load", name)) = self.instance.as_ref().and_then(|instance| instance.split_once('.')) else {
            return text;
        };
        LOAD.iter()
            .map(|key| key.path())
            .filter(|path| text.contains(path))
            .fold(text.clone(), |text, path| text.replace(path, &population::path(name, paths::leaf(path))))
    }
}

/// Values that keys don't allow have been removed before cells are read.
fn parse<D: Domain>(key: &Key<D>, entry: &Entry) -> D::Value {
    key.parse(&entry.value).expect("values were checked when the file was read")
}
