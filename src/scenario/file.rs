//! A scenario's text and overrides, flattened to `dotted.path → value`. Each value has its place in the scenario and is
//! allowed by its key; problems are collected for the error.

use std::{
    collections::{HashMap, HashSet},
    iter,
    path::{Path, PathBuf},
};

use indexmap::IndexMap;
use serde::Deserialize;
use toml::{
    Spanned, Table, Value,
    de::{DeArray, DeTable, DeValue, ValueDeserializer},
};

use super::{
    arrivals::csv,
    error::{Origin, Problem, ScenarioError},
    folder,
    keys::{
        self, AnyKey, FIREWALL_FILES, HIGHEST_RATE, HOSTS_SERVER, HOSTS_SERVERS, LOAD_CONNECTIONS, LOAD_DURATION,
        LOAD_RATES, LOAD_TRACE, LOAD_TRUST, REPETITIONS, SERVER_CERTIFICATE, SERVER_FILES, SERVER_PRIVATE_KEY, paths,
        quoted, shortened,
    },
    limits,
    population::{self, Population},
    rulesets,
    variant::{self, Variant},
};
use crate::suggest;

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
    /// The variants, of which the chosen ones are swept more slowly than the matrix.
    pub variants: Vec<Variant>,
    /// The populations of `[[load]]`; none for a single `[load]`.
    pub populations: Vec<Population>,
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
    file.read_files(source);
    rulesets::read(&mut file, source);
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

/// Where a key is written.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In its own table.
    Fixed,
    /// In the table `matrix`.
    Matrix,
    /// Below the [[variant]] of this number.
    Variant(usize),
}

impl Reader {
    fn line(&self, spanned: &Spanned<impl Sized>) -> Origin {
        Origin::Line(self.lines.at(spanned.span().start))
    }

    fn top(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            let origin = self.line(name);
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("matrix", DeValue::Table(matrix)) => self.table("", matrix, Place::Matrix),
                (variant::PATH, DeValue::Array(tables)) if tables.len() > limits::VARIANTS => {
                    self.wrong(
                        origin,
                        format_args!(
                            "{} variants are more than the {} that a scenario may have: remove some [[variant]]",
                            tables.len(),
                            limits::VARIANTS
                        ),
                    );
                }
                ("matrix", _) => self.wrong(origin, "`matrix` must be a table of lists: [matrix]"),
                (variant::PATH, DeValue::Array(tables)) if tables.iter().all(|table| table.get_ref().is_table()) => {
                    tables.iter().for_each(|table| self.variant(table));
                }
                (variant::PATH, _) => {
                    self.wrong(origin, "`variant` must be a list of tables: write [[variant]] above each");
                }
                (path, _) => self.outermost(path, origin, value, Place::Fixed),
            }
        }
        let fixed = self.file.values.iter().map(|(path, entry)| (path, entry, "set both to one value"));
        let variants = self.file.variants.iter().flat_map(|variant| &variant.values);
        let set = fixed.chain(variants.map(|(path, entry)| (path, entry, "set both in a [[variant]]")));
        let both = set.filter_map(|(path, entry, how)| {
            let (_, swept) = self.file.matrix.iter().find(|(swept, _)| swept == path)?;
            let Origin::Line(line) = swept.first()?.origin else { return None };
            let problem =
                format_args!("`{path}` is {how} and to a list on line {line}: keep one of the two").to_string();
            Some((path.clone(), Problem::new(entry.origin.clone(), problem)))
        });
        let both: Vec<(String, Problem)> = both.collect();
        for (path, problem) in both {
            self.file.unknown.insert(path);
            self.file.problems.push(problem);
        }
    }

    /// A key or table that is in no other table than perhaps a variant's.
    fn outermost(&mut self, path: &str, origin: Origin, value: &Spanned<DeValue<'_>>, place: Place) {
        match value.get_ref() {
            DeValue::Array(tables) if path == paths::EVENTS && tables.len() > limits::EVENTS => {
                self.wrong(
                    origin,
                    format_args!(
                        "{} events are more than the {} that a scenario may have: remove some [[event]]",
                        tables.len(),
                        limits::EVENTS
                    ),
                );
            }
            DeValue::Array(tables)
                if path == paths::EVENTS && tables.iter().all(|table| table.get_ref().is_table()) =>
            {
                for (number, table) in tables.iter().enumerate() {
                    self.event(&format!("{}.{number}", paths::EVENTS), table, place);
                }
            }
            _ if path == paths::EVENTS => {
                self.wrong(origin, "`event` must be a list of tables: write [[event]] above each");
            }
            DeValue::Array(tables) if path == paths::LOADS => self.loads(&origin, tables, place),
            _ => self.entry(path, origin, value, place),
        }
    }

    /// The tables of `[[load]]`.
    fn loads(&mut self, origin: &Origin, tables: &DeArray<'_>, place: Place) {
        if tables.is_empty() || tables.len() > limits::POPULATIONS {
            let most = limits::POPULATIONS;
            let problem = format_args!("`load` must have 1 to {most} tables [[load]], not {}", tables.len());
            return self.wrong(origin.clone(), problem.to_string());
        }
        for table in tables {
            let DeValue::Table(keys) = table.get_ref() else {
                return self
                    .wrong(origin.clone(), "`load` must be a table or a list of tables: write [load] or [[load]]");
            };
            let name = keys.iter().find(|(key, _)| key.get_ref() == "name").map(|(_, value)| value);
            let (line, name) = match name.map(|name| (self.line(name), name.get_ref())) {
                Some((line, DeValue::String(name))) => (line, name.to_string()),
                Some((line, _)) => {
                    self.wrong(line, "this [[load]] must have a string as its name");
                    continue;
                }
                None => {
                    let problem = "this [[load]] has no name: write name = \"…\" below it";
                    self.wrong(self.line(table), problem);
                    continue;
                }
            };
            let others = match place {
                Place::Variant(number) => &self.file.variants[number].populations,
                Place::Fixed | Place::Matrix => &self.file.populations,
            };
            let twin = others.iter().find(|other| other.name == name).map(|other| &other.origin);
            let problem = match twin {
                Some(Origin::Line(first)) => {
                    Some(format!("is called \"{name}\" like the one on line {first}: give it another name"))
                }
                _ => population::misnamed(&name),
            };
            if let Some(problem) = problem {
                self.wrong(line, format_args!("this [[load]] {problem}"));
                continue;
            }
            let begins = self.line(table);
            self.file.tables_of(place).insert(format!("{}{name}", paths::prefix(paths::LOADS)), begins);
            self.file.populations_of(place).push(Population { name: name.clone(), origin: line });
            for (key, value) in keys.iter().filter(|(key, _)| key.get_ref() != "name") {
                let origin = self.line(key);
                self.entry(&population::path(&name, key.get_ref()), origin, value, place);
            }
        }
    }

    fn variant(&mut self, table: &Spanned<DeValue<'_>>) {
        let origin = self.line(table);
        let DeValue::Table(keys) = table.get_ref() else { return };
        let name = keys.iter().find(|(key, _)| key.get_ref() == "name").map(|(_, value)| value);
        let named = match name.map(|name| (self.line(name), name.get_ref())) {
            None => Err((origin.clone(), "has no name: write name = \"…\" below [[variant]]".to_owned())),
            Some((line, DeValue::String(name))) => match variant::misnamed(name) {
                Some(problem) => Err((line, problem.to_owned())),
                None => match self.file.variants.iter().find(|other| other.name == **name) {
                    Some(Variant { origin: Origin::Line(first), .. }) => {
                        Err((line, format!("is called \"{name}\" like the one on line {first}: give it another name")))
                    }
                    _ => Ok(name.to_string()),
                },
            },
            Some((line, _)) => Err((line, "must have a string as its name".to_owned())),
        };
        let name = named.unwrap_or_else(|(origin, problem)| {
            self.wrong(origin, format_args!("this variant {problem}"));
            format!("variant {}", self.file.variants.len())
        });
        let number = self.file.variants.len();
        self.file.variants.push(Variant::new(name, origin));
        for (name, value) in keys.iter().filter(|(key, _)| key.get_ref() != "name") {
            let origin = self.line(name);
            self.outermost(name.get_ref(), origin, value, Place::Variant(number));
        }
    }

    fn event(&mut self, path: &str, table: &Spanned<DeValue<'_>>, place: Place) {
        let origin = self.line(table);
        self.file.tables_of(place).insert(path.to_owned(), origin.clone());
        match table.get_ref() {
            DeValue::Table(keys) if !keys.is_empty() => self.table(&paths::prefix(path), keys, place),
            _ => self.wrong(origin, format_args!("`{path}.at` is missing: this [[event]] is empty")),
        }
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>, place: Place) {
        for (name, value) in table {
            let origin = self.line(name);
            self.entry(&format!("{prefix}{}", name.get_ref()), origin, value, place);
        }
    }

    fn entry(&mut self, path: &str, origin: Origin, value: &Spanned<DeValue<'_>>, place: Place) {
        if let DeValue::Table(table) = value.get_ref()
            && (paths::is_table(path) || paths::is_population(path))
        {
            // An empty section sets nothing; in place of a value, an empty table is a mistake.
            match place {
                Place::Matrix if table.is_empty() => {
                    return self
                        .wrong(origin, format_args!("`matrix.{path}` must be a list of values, not an empty table"));
                }
                _ if table.is_empty() && path.starts_with(&paths::prefix(paths::SYSCTL)) => {
                    return self
                        .wrong(origin, format_args!("`{path}`: must be an integer or a string, not an empty table"));
                }
                _ => {}
            }
            self.file.tables_of(place).insert(path.to_owned(), origin);
            return self.table(&paths::prefix(path), table, place);
        }
        if !self.file.knows(path, &origin) {
            return;
        }
        let list = match value.get_ref() {
            DeValue::Array(items) if matches!(place, Place::Matrix) => Some(items),
            DeValue::Array(items) if !is_one(path, items.iter().map(|item| kind(item.get_ref()))) => Some(items),
            _ => None,
        };
        match (place, list) {
            (Place::Matrix, None) => self.wrong(origin, format_args!("`matrix.{path}` must be a list of values")),
            (Place::Variant(_), Some(_)) => {
                let problem = "must have one value in a [[variant]]: sweep it in [matrix], or write another variant";
                self.wrong(origin, format_args!("`{path}` {problem}"));
            }
            (Place::Variant(_), None) if keys::is_of_whole(path) => {
                let problem = "applies to the whole scenario and cannot differ between variants";
                self.wrong(origin, format_args!("`{path}` {problem}"));
            }
            (Place::Matrix | Place::Fixed, Some(items)) => {
                let values = items.iter().filter_map(|item| self.read(path, item)).collect();
                let shown = if matches!(place, Place::Matrix) { format!("matrix.{path}") } else { path.to_owned() };
                self.file.sweep(&shown, path, origin, values);
            }
            (Place::Fixed | Place::Variant(_), None) => {
                let Some(entry) = self.read(path, value) else { return };
                let values = match place {
                    Place::Variant(number) => &mut self.file.variants[number].values,
                    _ => &mut self.file.values,
                };
                if let Some(Entry { origin: Origin::Line(line), .. }) = values.insert(path.to_owned(), entry) {
                    self.wrong(origin, format_args!("`{path}` is set twice, first on line {line}"));
                }
            }
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
        innermost(&self.tables, path)
    }

    /// The variants to run; none if the scenario has none.
    pub(super) fn chosen(&self) -> impl Iterator<Item = &Variant> {
        self.variants.iter().filter(|variant| variant.chosen)
    }

    /// Each variant, or `None` for a scenario without any.
    pub(super) fn all_variants(&self) -> impl Iterator<Item = Option<&Variant>> {
        let none = self.variants.is_empty().then_some(None);
        none.into_iter().chain(self.variants.iter().map(Some))
    }

    /// What is swept, slowest first.
    pub(super) fn swept(&self) -> Vec<&str> {
        let variant = self.chosen().next().map(|_| variant::PATH);
        variant.into_iter().chain(self.matrix.iter().map(|(path, _)| &path[..])).collect()
    }

    /// Sweeps the server of a job over its server hosts, slowest, unless the scenario chooses among them.
    pub(super) fn sweep_servers(&mut self) {
        let path = HOSTS_SERVER.path();
        let chosen = self.matrix.iter().any(|(swept, _)| swept == path)
            || self.unswept().any(|values| values.contains_key(path))
            || self.unknown.contains(path);
        let Some(Entry { value, origin }) = self.values.get(HOSTS_SERVERS.path()).filter(|_| !chosen) else { return };
        let several = HOSTS_SERVERS.parse(value).unwrap_or(1).min(HOSTS_SERVERS.max());
        if several > 1 {
            let entry = |rank: usize| Entry { value: Value::Integer(rank as i64), origin: origin.clone() };
            let ranks = (0..several).map(entry).collect();
            self.matrix.insert(0, (path.to_owned(), ranks));
        }
    }

    fn tables_of(&mut self, place: Place) -> &mut HashMap<String, Origin> {
        match place {
            Place::Variant(number) => &mut self.variants[number].tables,
            Place::Fixed | Place::Matrix => &mut self.tables,
        }
    }

    fn populations_of(&mut self, place: Place) -> &mut Vec<Population> {
        match place {
            Place::Variant(number) => &mut self.variants[number].populations,
            Place::Fixed | Place::Matrix => &mut self.populations,
        }
    }

    /// All values that are not swept: the fixed ones, and those of each variant.
    fn unswept(&mut self) -> impl Iterator<Item = &mut IndexMap<String, Entry>> {
        iter::once(&mut self.values).chain(self.variants.iter_mut().map(|variant| &mut variant.values))
    }

    fn wrong(&mut self, origin: &Origin, problem: impl std::fmt::Display) {
        self.problems.push(Problem::new(origin.clone(), problem));
    }

    /// Whether a path names a key; reports a problem if not.
    fn knows(&mut self, path: &str, origin: &Origin) -> bool {
        if path.chars().nth(limits::PATH_CHARACTERS).is_some() {
            let begin: String = path.chars().take(60).collect();
            self.wrong(origin, format_args!("unknown key `{begin}…`, which is longer than any key"));
            return false;
        }
        if paths::find(path).is_some() {
            return true;
        }
        let of_all = paths::population(path).map(|(name, leaf)| population::path(name, leaf));
        if let Some(of_all) = of_all.filter(|of_all| keys::is_of_all_loads(of_all)) {
            self.wrong(origin, format_args!("`{path}` holds for all populations: write `{of_all}`"));
        } else if path == "matrix" {
            let problem = "has lists of values, and is a table of the file only: give its keys lists, e.g. `server.workers=[1, 2]`";
            self.wrong(origin, format_args!("`{path}` {problem}"));
        } else if path == variant::PATH {
            let problem = "variants are tables: write [[variant]] above each; --set variant=NAME chooses among them";
            self.wrong(origin, format_args!("`{path}`: {problem}"));
        } else if paths::is_table(path) {
            self.wrong(origin, format_args!("`{path}` is a table: set its keys, e.g. `{}`", example(path)));
        } else if let Some(leaf) = path.strip_prefix(&paths::prefix(paths::EVENTS))
            && !leaf.contains('.')
        {
            let first = format!("{}.0", paths::EVENTS);
            self.wrong(origin, format_args!("`{path}`: events are counted from 0: write `{first}.{leaf}`"));
        } else {
            // An error lists no more problems than these.
            let near = if self.problems.len() < limits::PROBLEMS { paths::nearest(path) } else { None };
            let hint = near.map_or_else(String::new, |near| {
                let of_load = near.strip_prefix(&paths::prefix(paths::LOADS));
                let near = match (of_load, paths::population(path)) {
                    (Some(leaf), Some((name, _))) => population::path(name, leaf),
                    _ if near == paths::EVENTS => format!("[[{near}]]"),
                    _ if paths::is_table(near) => format!("[{near}]"),
                    _ => near.to_owned(),
                };
                format!("; did you mean `{near}`?")
            });
            self.wrong(origin, format_args!("unknown key `{path}`{hint} (`listenbench explain` lists all keys)"));
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
        if path == SERVER_FILES.path() {
            self.unknown.insert(path.to_owned());
            let problem = "is one set of files and cannot be swept: give each set a [[variant]]";
            return self.wrong(&origin, format_args!("`{shown}` {problem}"));
        }
        if is_of(path, LOAD_RATES) {
            self.unknown.insert(path.to_owned());
            let problem = "is one table and cannot be swept: give each table a [[variant]]";
            return self.wrong(&origin, format_args!("`{shown}` {problem}"));
        }
        if path == FIREWALL_FILES.path() {
            self.unknown.insert(path.to_owned());
            let problem = "is one set of texts and cannot be swept: sweep `firewall.rules`, which names them";
            return self.wrong(&origin, format_args!("`{shown}` {problem}"));
        }
        if values.is_empty() {
            return self.wrong(&origin, format_args!("`{shown}` is an empty list: nothing would run"));
        }
        if self.matrix.len() == limits::SWEPT_KEYS {
            return self.wrong(
                &origin,
                format_args!(
                    "`{shown}`: no more than {} keys can be swept: set this one to a single value",
                    limits::SWEPT_KEYS
                ),
            );
        }
        let mut seen = HashSet::new();
        let twice = values.iter().find(|entry| !seen.insert(entry.value.to_string()));
        if let Some(Entry { value, origin }) = twice.cloned() {
            return self.wrong(&origin, format_args!("`{shown}` lists {} twice", shortened(&value)));
        }
        if self.matrix.iter().any(|(swept, _)| swept == path) {
            return self.wrong(&origin, format_args!("`{path}` is swept twice: keep one of the two lists"));
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
        if path == variant::PATH {
            return self.choose(&origin, value);
        }
        if !self.knows(path, &origin) {
            return;
        }
        self.remove(path);
        if value.is_empty() {
            // Back to the default, and ignored by modes that don't use it.
            return;
        }
        // An explicit bound replaces the other kind of bound in the scenario's file; of two overrides, one would be ignored silently.
        let (connections, duration) = (LOAD_CONNECTIONS.path(), LOAD_DURATION.path());
        for (given, other) in [(connections, duration), (duration, connections)] {
            if path == given {
                self.displace(|path| path == other);
            }
        }
        // So does a number of repetitions the rule that would decide it, and vice versa.
        let (repetitions, stop) = (REPETITIONS.path(), paths::prefix(paths::STOP));
        if path == repetitions {
            self.displace(|path| path.starts_with(&stop));
        } else if path.starts_with(&stop) {
            self.displace(|path| path == repetitions);
        }
        let value = parse(value);
        let value = match value {
            Value::Array(items) if !is_one(path, items.iter().map(|item| (item.is_integer(), item.is_str()))) => {
                let entries = items.into_iter().map(|value| Entry { value, origin: origin.clone() }).collect();
                return self.sweep(path, path, origin, entries);
            }
            value => value,
        };
        self.values.insert(path.to_owned(), Entry { value, origin });
    }

    /// Removes what the file says about these paths.
    fn displace(&mut self, paths: impl Fn(&str) -> bool) {
        let stays = |path: &str, origin: &Origin| !paths(path) || !origin.is_of_file();
        self.unswept().for_each(|values| values.retain(|path, entry| stays(path, &entry.origin)));
        self.matrix.retain(|(path, values)| values.first().is_none_or(|first| stays(path, &first.origin)));
    }

    fn remove(&mut self, path: &str) {
        self.unswept().for_each(|values| drop(values.shift_remove(path)));
        self.matrix.retain(|(swept, _)| swept != path);
    }

    /// `variant=name`: runs one variant, or those of a list. An empty name takes all variants out.
    fn choose(&mut self, origin: &Origin, names: &str) {
        if names.is_empty() {
            return self.variants.clear();
        }
        if self.variants.is_empty() {
            return self.wrong(origin, "this scenario has no [[variant]]");
        }
        let names = match (self.variants.iter().any(|variant| variant.name == names), parse(names)) {
            (false, Value::Array(items)) => items.iter().map(variant::name_of).collect(),
            (false, value) => vec![variant::name_of(&value)],
            (true, _) => vec![names.to_owned()],
        };
        if names.is_empty() {
            return self.wrong(origin, "is an empty list: nothing would run");
        }
        let known: Vec<&str> = self.variants.iter().map(|variant| &variant.name[..]).collect();
        if let Some(unknown) = names.iter().find(|name| !known.contains(&&name[..])) {
            let meant = suggest::hint(unknown, known.iter().copied());
            let problem = format!("unknown variant \"{unknown}\"; this scenario has {}{meant}", quoted(&known));
            return self.wrong(origin, problem);
        }
        for variant in &mut self.variants {
            variant.chosen = names.contains(&variant.name);
        }
    }

    /// Replaces the names of files by what they contain: of a folder, its files by their names and contents, and of a table of rates, its
    /// rows. Of other files, the path becomes an absolute one.
    fn read_files(&mut self, source: &str) {
        let mut wrong: Vec<(String, Problem)> = Vec::new();
        let mut read = |path: &String, Entry { value, origin }: &mut Entry| {
            let contents = value.as_str().and_then(|name| contents(path, origin.folder(source), name));
            match contents {
                Some(Ok(contents)) => *value = contents,
                Some(Err(problem)) => {
                    wrong.push((path.clone(), Problem::new(origin.clone(), format_args!("`{path}`: {problem}"))));
                    return false;
                }
                None => {}
            }
            true
        };
        self.unswept().for_each(|values| values.retain(&mut read));
        for (path, entries) in &mut self.matrix {
            entries.retain_mut(|entry| read(path, entry));
        }
        for (path, problem) in wrong {
            self.unknown.insert(path);
            self.problems.push(problem);
        }
    }

    /// Removes values that their keys do not allow, and those of populations that do not exist.
    pub(super) fn check(&mut self) {
        self.check_populations();
        let Self { values, matrix, variants, problems, unknown, .. } = self;
        let mut allowed = |path: &String, entry: &Entry| {
            let problem = paths::find(path).and_then(|key| key.check(&entry.value).err());
            if let Some(problem) = &problem {
                problems.push(Problem::new(entry.origin.clone(), format_args!("`{path}`: {problem}")));
                unknown.insert(path.clone());
            }
            problem.is_none()
        };
        for values in iter::once(values).chain(variants.iter_mut().map(|variant| &mut variant.values)) {
            values.retain(|path, entry| allowed(path, entry));
        }
        for (path, entries) in matrix.iter_mut() {
            entries.retain(|entry| allowed(path, entry));
        }
        matrix.retain(|(_, entries)| !entries.is_empty());
    }

    fn check_populations(&mut self) {
        let mut wrong: Vec<(String, Problem)> = Vec::new();
        let mut check = |path: &String, origin: &Origin, populations: &[Population]| {
            if let Some(problem) = population::misplaced(path, populations) {
                wrong.push((path.clone(), Problem::new(origin.clone(), format_args!("`{path}`: {problem}"))));
            }
        };
        // What the scenario sets for all variants may be for one of them.
        let all: Vec<&[Population]> = self.all_variants().map(|variant| population::of(self, variant)).collect();
        let fixed = |path: &str| {
            let fits = |populations: &&&[Population]| population::misplaced(path, populations).is_none();
            all.iter().find(fits).or(all.first()).copied().unwrap_or_default()
        };
        for (path, origin) in self.origins() {
            check(path, origin, fixed(path));
        }
        for variant in &self.variants {
            for (path, entry) in &variant.values {
                check(path, &entry.origin, population::of(self, Some(variant)));
            }
        }
        for (path, problem) in wrong {
            self.remove(&path);
            self.problems.push(problem);
            self.unknown.insert(path);
        }
    }
}

/// Whether a list is one value of the key rather than several values to sweep; given of each item whether it is an integer, and whether
/// it is a string.
fn is_one(path: &str, mut items: impl Iterator<Item = (bool, bool)>) -> bool {
    let Some(key) = paths::find(path).filter(|key| key.takes_list()) else { return false };
    keys::is_of_whole(path)
        || is_of(path, LOAD_RATES)
        || items.all(|(integer, string)| integer || string && key.lists_strings())
}

/// What stands in place of a name where that of a file or folder is expected; `None` for other keys. A name is relative to `from`.
fn contents(path: &str, from: &Path, name: &str) -> Option<Result<Value, String>> {
    let key = paths::find(path)?.path();
    let is_one_of = |keys: &[&dyn AnyKey]| keys.iter().any(|one| one.path() == key);
    Some(match name {
        "" if key == SERVER_FILES.path() => Err("is an empty string: name a folder, or leave it out".to_owned()),
        "" if key == LOAD_RATES.path() => Err("is an empty string: name a CSV file, or leave it out".to_owned()),
        name if key == SERVER_FILES.path() => folder::table(&from.join(name)).map(Value::Table),
        name if key == LOAD_RATES.path() => csv::table(&from.join(name), HIGHEST_RATE),
        "-" if key == LOAD_TRACE.path() => {
            Err("`-` is standard input, which can be read once, and a run could not be repeated: name a file"
                .to_owned())
        }
        "" => return None,
        name if is_one_of(&[LOAD_TRACE, LOAD_TRUST, SERVER_CERTIFICATE, SERVER_PRIVATE_KEY]) => {
            let absolute = std::path::absolute(from.join(name)).map_err(|error| format!("{name}: {error}"));
            let text = |path: PathBuf| path.into_os_string().into_string();
            absolute.and_then(|path| {
                text(path).map(Value::String).map_err(|path| format!("{} is not UTF-8", path.display()))
            })
        }
        _ => return None,
    })
}

/// Whether a path is that of a key of the load, of a population or of all of it.
fn is_of(path: &str, key: &dyn AnyKey) -> bool {
    paths::find(path).is_some_and(|found| found.path() == key.path())
}

fn kind(item: &DeValue<'_>) -> (bool, bool) {
    (item.is_integer(), item.is_str())
}

/// Where the innermost of the tables that hold a key begins.
pub(super) fn innermost<'a>(tables: &'a HashMap<String, Origin>, path: &str) -> Option<&'a Origin> {
    fn outer<'a>(path: &&'a str) -> Option<&'a str> {
        path.rsplit_once('.').map(|(table, _)| table)
    }
    iter::successors(outer(&path), outer).find_map(|table| tables.get(table))
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
    let bare = |text: &str| toml(text).unwrap_or_else(|| Value::String(text.to_owned()));
    toml(text).unwrap_or_else(|| match text.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        Some(list) => Value::Array(list.split(',').map(|item| bare(item.trim())).collect()),
        None => Value::String(text.to_owned()),
    })
}
