//! A scenario's text and overrides, flattened to `dotted.path → value`. Each value has its place in the scenario and is
//! allowed by its key; problems are collected for the error.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use serde::Deserialize;
use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::{
    error::{Origin, Problem, ScenarioError},
    keys::{self, AnyKey, LOAD_CONNECTIONS, LOAD_DURATION, paths},
};

/// A value and its place in the scenario.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub value: Value,
    pub origin: Origin,
}

/// A scenario file before its cells are read.
#[derive(Debug, Default)]
pub(super) struct File {
    /// Fixed values by dotted path, in the order of the file.
    pub values: IndexMap<String, Entry>,
    /// Swept keys with their values, first key slowest.
    pub matrix: Vec<(String, Vec<Entry>)>,
    /// Where each table begins.
    pub tables: HashMap<String, Origin>,
    pub problems: Vec<Problem>,
    /// Keys without a known value, because it is wrong or the key is probably misspelt.
    pub unknown: HashSet<String>,
}

/// Reads the text and applies the overrides `key=value`. Fails if the text is not TOML; all other problems are
/// collected in the result.
pub(super) fn read(source: &str, text: &str, overrides: &[String]) -> Result<File, ScenarioError> {
    let mut reader = Reader { lines: Lines::of(text), file: File::default() };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let origin = error.span().map_or(Origin::File, |span| Origin::Line(reader.lines.at(span.start)));
        reader.file.problems.push(Problem::new(origin, format_args!("not TOML: {}", error.message())));
    }
    // The rest can still be read after a repeated key, but not after other errors.
    if errors.iter().any(|error| error.message() != "duplicate key") {
        return Err(ScenarioError::of(source, reader.file.problems));
    }
    reader.top(table.get_ref());
    let mut file = reader.file;
    for text in overrides {
        file.apply(text);
    }
    file.check();
    Ok(file)
}

/// Where lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// The line of a byte, from 1.
    fn at(&self, byte: usize) -> usize {
        self.0.partition_point(|newline| *newline < byte) + 1
    }
}

struct Reader {
    lines: Lines,
    file: File,
}

impl Reader {
    fn line(&self, spanned: &Spanned<impl Sized>) -> Origin {
        Origin::Line(self.lines.at(spanned.span().start))
    }

    fn top(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            let origin = self.line(name);
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("matrix", DeValue::Table(matrix)) => self.table("", matrix, true),
                ("matrix", _) => self.wrong(origin, "`matrix` must be a table of lists: [matrix]"),
                (paths::FAULTS, DeValue::Array(tables)) if tables.iter().all(|table| table.get_ref().is_table()) => {
                    for (number, table) in tables.iter().enumerate() {
                        let path = format!("{}.{number}", paths::FAULTS);
                        self.fault(&path, table);
                    }
                }
                (paths::FAULTS, _) => {
                    self.wrong(origin, "`fault` must be a list of tables: write [[fault]] above each");
                }
                (path, _) => self.entry(path, origin, value, false),
            }
        }
        let both = self.file.matrix.iter().filter_map(|(path, _)| self.file.values.get_key_value(path));
        let both = both.map(|(path, entry)| {
            let problem =
                format_args!("`{path}` is set both directly and in [matrix]: keep one of the two").to_string();
            Problem::new(entry.origin.clone(), problem)
        });
        let both: Vec<Problem> = both.collect();
        self.file.problems.extend(both);
    }

    fn fault(&mut self, path: &str, table: &Spanned<DeValue<'_>>) {
        let origin = self.line(table);
        self.file.tables.insert(path.to_owned(), origin.clone());
        match table.get_ref() {
            DeValue::Table(keys) if !keys.is_empty() => self.table(&paths::prefix(path), keys, false),
            _ => self.wrong(origin, format_args!("`{path}.at` is missing: this [[fault]] is empty")),
        }
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>, swept: bool) {
        for (name, value) in table {
            let origin = self.line(name);
            self.entry(&format!("{prefix}{}", name.get_ref()), origin, value, swept);
        }
    }

    fn entry(&mut self, path: &str, origin: Origin, value: &Spanned<DeValue<'_>>, swept: bool) {
        if let DeValue::Table(table) = value.get_ref()
            && paths::is_table(path)
        {
            self.file.tables.insert(path.to_owned(), origin);
            self.table(&paths::prefix(path), table, swept);
        } else if !self.file.knows(path, &origin) {
        } else if swept {
            let values = match value.get_ref() {
                DeValue::Array(items) => items.iter().filter_map(|item| self.read(path, item)).collect(),
                _ => return self.wrong(origin, format_args!("`matrix.{path}` must be a list of values")),
            };
            self.file.sweep(&format!("matrix.{path}"), path, origin, values);
        } else if let Some(entry) = self.read(path, value)
            && let Some(first) = self.file.values.insert(path.to_owned(), entry)
        {
            let Origin::Line(line) = first.origin else { unreachable!("overrides come later") };
            self.wrong(origin, format_args!("`{path}` is set twice, first on line {line}"));
        }
    }

    fn read(&mut self, path: &str, value: &Spanned<DeValue<'_>>) -> Option<Entry> {
        let origin = self.line(value);
        match Value::deserialize(ValueDeserializer::from(value.clone())) {
            Ok(value) => Some(Entry { value, origin }),
            Err(error) => {
                self.file.unknown.insert(path.to_owned());
                self.wrong(origin, format_args!("`{path}`: {}", error.message()));
                None
            }
        }
    }

    fn wrong(&mut self, origin: Origin, problem: impl std::fmt::Display) {
        self.file.problems.push(Problem::new(origin, problem));
    }
}

impl File {
    /// Where keys are set.
    pub(super) fn origins(&self) -> impl Iterator<Item = (&String, &Origin)> {
        let fixed = self.values.iter().map(|(path, entry)| (path, &entry.origin));
        let swept = self.matrix.iter().filter_map(|(path, values)| Some((path, &values.first()?.origin)));
        fixed.chain(swept)
    }

    /// Where the innermost table that holds a key begins.
    pub(super) fn table_of(&self, path: &str) -> Option<&Origin> {
        fn outer<'a>(path: &&'a str) -> Option<&'a str> {
            path.rsplit_once('.').map(|(table, _)| table)
        }
        std::iter::successors(outer(&path), outer).find_map(|table| self.tables.get(table))
    }

    fn wrong(&mut self, origin: &Origin, problem: impl std::fmt::Display) {
        self.problems.push(Problem::new(origin.clone(), problem));
    }

    /// Whether a path names a key; reports a problem if not.
    fn knows(&mut self, path: &str, origin: &Origin) -> bool {
        if paths::find(path).is_some() {
            return true;
        }
        if paths::is_table(path) {
            self.wrong(origin, format_args!("`{path}` is a table: set its keys, e.g. `{}`", example(path)));
        } else if let Some(leaf) = path.strip_prefix(&paths::prefix(paths::FAULTS))
            && !leaf.contains('.')
        {
            let first = format!("{}.0", paths::FAULTS);
            self.wrong(origin, format_args!("`{path}`: faults are counted from 0: write `{first}.{leaf}`"));
        } else {
            let near = paths::nearest(path);
            let hint = near.map_or_else(String::new, |near| {
                let near = if paths::is_table(near) { format!("[{near}]") } else { near.to_owned() };
                format!("; did you mean `{near}`?")
            });
            self.wrong(origin, format_args!("unknown key `{path}`{hint} (bench-configs/README.md lists all keys)"));
            self.unknown.extend(near.map(str::to_owned));
        }
        false
    }

    /// Sweeps a key. `shown` is how the scenario writes it.
    fn sweep(&mut self, shown: &str, path: &str, origin: Origin, values: Vec<Entry>) {
        if keys::is_of_whole(path) {
            return self
                .wrong(&origin, format_args!("`{shown}`: `{path}` applies to the whole scenario and cannot be swept"));
        }
        if values.is_empty() {
            return self.wrong(&origin, format_args!("`{shown}` is an empty list: nothing would run"));
        }
        let mut seen = HashSet::new();
        let twice = values.iter().find(|entry| !seen.insert(entry.value.to_string()));
        if let Some(Entry { value, origin }) = twice.cloned() {
            return self.wrong(&origin, format_args!("`{shown}` lists {value} twice"));
        }
        self.matrix.push((path.to_owned(), values));
    }

    /// `key=value`: a list sweeps the key, and an empty value takes it out.
    fn apply(&mut self, text: &str) {
        let origin = Origin::Override(text.into());
        let Some((path, value)) = text.split_once('=') else {
            return self.wrong(&origin, "expects key=value, e.g. --set server.workers=4");
        };
        let (path, value) = (path.trim(), value.trim());
        if !self.knows(path, &origin) {
            return;
        }
        self.remove(path);
        if value.is_empty() {
            // Back to the default, and ignored by modes that don't use it.
            return;
        }
        let value = parse(value);
        let one = |items: &[Value]| {
            paths::find(path).is_some_and(|key| key.takes_list()) && items.iter().all(Value::is_integer)
        };
        let value = match value {
            Value::Array(items) if !one(&items) => {
                let entries = items.into_iter().map(|value| Entry { value, origin: origin.clone() }).collect();
                return self.sweep(path, path, origin, entries);
            }
            value => value,
        };
        // An explicit bound replaces the other kind of bound.
        let (connections, duration) = (LOAD_CONNECTIONS.path(), LOAD_DURATION.path());
        for (given, other) in [(connections, duration), (duration, connections)] {
            if path == given {
                self.remove(other);
            }
        }
        self.values.insert(path.to_owned(), Entry { value, origin });
    }

    fn remove(&mut self, path: &str) {
        self.values.shift_remove(path);
        self.matrix.retain(|(swept, _)| swept != path);
    }

    /// Removes values that their keys do not allow.
    pub(super) fn check(&mut self) {
        let Self { values, matrix, problems, unknown, .. } = self;
        let mut allowed = |path: &String, entry: &Entry| {
            let problem = paths::find(path).and_then(|key| key.check(&entry.value).err());
            if let Some(problem) = &problem {
                problems.push(Problem::new(entry.origin.clone(), format_args!("`{path}`: {problem}")));
                unknown.insert(path.clone());
            }
            problem.is_none()
        };
        values.retain(|path, entry| allowed(path, entry));
        for (path, entries) in matrix.iter_mut() {
            entries.retain(|entry| allowed(path, entry));
        }
        matrix.retain(|(_, entries)| !entries.is_empty());
    }
}

/// A key of a table, for errors.
fn example(table: &str) -> String {
    let prefix = paths::prefix(table);
    let in_table = |path: &&str| {
        path.starts_with(&prefix) || paths::is_of_instance(&format!("{prefix}{}", paths::leaf(path)), path)
    };
    match keys::all().map(|key| key.path()).find(in_table) {
        Some(path) => format!("{prefix}{}", paths::leaf(path)),
        None => format!("{prefix}tcp_tw_reuse"),
    }
}

/// TOML if valid, otherwise a bare string or a list of bare strings: strategy names and durations are strings, and
/// quoting them again inside a shell's quotes is a nuisance.
fn parse(text: &str) -> Value {
    let toml = |text: &str| format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    toml(text).unwrap_or_else(|| match text.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        Some(list) => Value::Array(list.split(',').map(|item| parse(item.trim())).collect()),
        None => Value::String(text.to_owned()),
    })
}
