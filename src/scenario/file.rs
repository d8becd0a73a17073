//! Scenario text and overrides, flattened to `dotted.path → value`, with the swept keys apart.

use std::collections::HashMap;

use toml::{Table, Value};

use super::{
    error::ScenarioError,
    fault,
    keys::{self, SYSCTL_PREFIX},
};

/// Values by dotted path, in the order of the file.
pub(super) type Flat = toml::map::Map<String, Value>;

/// A scenario file, read but not yet judged cell by cell.
#[derive(Debug)]
pub(super) struct File {
    /// Fixed values.
    pub values: Flat,
    /// Swept keys with their values, first key slowest.
    pub matrix: Vec<(String, Vec<Value>)>,
    /// The override that a key was given by, for messages.
    pub overridden: HashMap<String, String>,
}

/// Reads the text, applies `--set key=value` overrides and refuses unknown keys.
pub(super) fn read(source: &str, text: &str, overrides: &[String]) -> Result<File, ScenarioError> {
    let table: Table = text.parse().map_err(|error| ScenarioError::new(source, format!("not TOML: {error}")))?;
    let mut file = File { values: Flat::new(), matrix: Vec::new(), overridden: HashMap::new() };
    let mut fault_tables = 0;
    for (name, value) in table {
        match (name.as_str(), value) {
            ("matrix", Value::Table(matrix)) => {
                let mut swept = Flat::new();
                flatten("", matrix, &mut swept);
                for (path, values) in swept {
                    sweep(&mut file, source, &format!("matrix.{path}"), &path, values)?;
                }
            }
            ("matrix", _) => return Err(ScenarioError::new(source, "`matrix` is a table of lists: [matrix]")),
            ("fault", value) => fault_tables = faults(source, value, &mut file.values)?,
            (_, Value::Table(table)) => flatten(&format!("{name}."), table, &mut file.values),
            (_, value) => {
                file.values.insert(name, value);
            }
        }
    }
    let paths = || file.values.keys().chain(file.matrix.iter().map(|(path, _)| path));
    if let Some(empty) = (0..fault_tables)
        .map(|number| format!("{}{number}.", fault::PREFIX))
        .find(|prefix| !paths().any(|path| path.starts_with(prefix)))
    {
        return Err(ScenarioError::new(source, format!("`{empty}at` is missing: a [[fault]] is empty")));
    }
    for path in file.values.keys() {
        known(source, path)?;
    }
    if let Some((path, _)) = file.matrix.iter().find(|(path, _)| file.values.contains_key(path)) {
        return Err(ScenarioError::new(source, format!("`{path}` is set both directly and in [matrix]: keep one")));
    }
    for text in overrides {
        apply(&mut file, text)?;
    }
    Ok(file)
}

/// `[[fault]]`: a list of tables, flattened to `fault.<number>.<name>`.
/// Returns how many there are.
fn faults(source: &str, value: Value, into: &mut Flat) -> Result<usize, ScenarioError> {
    let wrong = || ScenarioError::new(source, "`fault` is a list of tables: write [[fault]] above each");
    let Value::Array(tables) = value else { return Err(wrong()) };
    let count = tables.len();
    for (number, table) in tables.into_iter().enumerate() {
        let Value::Table(table) = table else { return Err(wrong()) };
        flatten(&format!("{}{number}.", fault::PREFIX), table, into);
    }
    Ok(count)
}

fn flatten(prefix: &str, table: Table, into: &mut Flat) {
    for (name, value) in table {
        match value {
            Value::Table(inner) => flatten(&format!("{prefix}{name}."), inner, into),
            value => {
                into.insert(format!("{prefix}{name}"), value);
            }
        }
    }
}

fn known(source: &str, path: &str) -> Result<(), ScenarioError> {
    if let Some(leaf) = path.strip_prefix(fault::PREFIX)
        && !leaf.contains('.')
    {
        let problem = format!("`{path}`: faults are counted from 0: write {}0.{leaf}", fault::PREFIX);
        return Err(ScenarioError::new(source, problem));
    }
    if keys::find(path).is_some() || path.strip_prefix(SYSCTL_PREFIX).is_some_and(|name| !name.is_empty()) {
        return Ok(());
    }
    let hint = keys::nearest(path).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    Err(ScenarioError::new(source, format!("unknown key `{path}`{hint} (bench-configs/README.md lists all keys)")))
}

fn sweep(file: &mut File, source: &str, shown: &str, path: &str, values: Value) -> Result<(), ScenarioError> {
    known(source, path)?;
    if keys::of_whole(path) {
        return Err(ScenarioError::new(source, format!("`{shown}`: `{path}` belongs to the whole scenario")));
    }
    let Value::Array(values) = values else {
        return Err(ScenarioError::new(source, format!("`{shown}` must be a list of values")));
    };
    if values.is_empty() {
        return Err(ScenarioError::new(source, format!("`{shown}` is an empty list: nothing would run")));
    }
    let single = |value: &Value| match value {
        Value::Array(_) => keys::takes_list(path),
        value => !value.is_table(),
    };
    if let Some(value) = values.iter().find(|value| !single(value)) {
        return Err(ScenarioError::new(source, format!("`{shown}` may hold single values only, not {value}")));
    }
    if let Some(i) = (1..values.len()).find(|&i| values[..i].contains(&values[i])) {
        return Err(ScenarioError::new(source, format!("`{shown}` names {} twice", values[i])));
    }
    file.matrix.push((path.to_owned(), values));
    Ok(())
}

/// TOML where it is, else a bare string, or a list of such: strategy names and durations are strings, and quoting them
/// inside a shell's quotes is a nuisance.
fn parse(text: &str) -> Value {
    let toml = |text: &str| format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    toml(text).unwrap_or_else(|| match text.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        Some(list) => Value::Array(list.split(',').map(|item| parse(item.trim())).collect()),
        None => Value::String(text.to_owned()),
    })
}

/// `key=value`: a list sweeps the key, and an empty value takes it out.
fn apply(file: &mut File, text: &str) -> Result<(), ScenarioError> {
    let source = format!("--set {text}");
    let (path, value) = text
        .split_once('=')
        .ok_or_else(|| ScenarioError::new(&source, "wants key=value, e.g. --set server.workers=4"))?;
    let (path, value) = (path.trim(), value.trim());
    known(&source, path)?;
    file.matrix.retain(|(swept, _)| swept != path);
    file.values.remove(path);
    file.overridden.insert(path.to_owned(), source.clone());
    if value.is_empty() {
        // Back to the default, and out of the way of a mode that has no use for it.
        return Ok(());
    }
    let value = parse(value);
    let a_list = |items: &[Value]| keys::takes_list(path) && items.iter().all(Value::is_integer);
    if matches!(&value, Value::Array(items) if !a_list(items)) {
        return sweep(file, &source, path, path, value);
    }
    // A bound given by hand replaces the other kind of bound.
    for (one, other) in [("load.connections", "load.duration"), ("load.duration", "load.connections")] {
        if path == one {
            file.values.remove(other);
            file.matrix.retain(|(swept, _)| swept != other);
        }
    }
    file.values.insert(path.to_owned(), value);
    Ok(())
}
