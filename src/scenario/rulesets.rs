//! The files of rulesets that a scenario names, read when the scenario is read: its record repeats the run without them.

use std::{
    collections::BTreeSet,
    fs::{self, File as Opened},
    io::Read,
    path::Path,
};

use toml::{Table, Value};

use super::{
    error::{Origin, Problem},
    file::{Entry, File},
    keys::{AnyKey, FIREWALL_FILES, FIREWALL_RULES},
};

/// A longer text is a mistake.
const BYTES_LIMIT: u64 = 4 << 20;

/// Adds the texts of all rulesets that are named and not there yet. Paths are relative to the scenario file, or to the working directory in
/// an override.
pub(super) fn read(file: &mut File, source: &str) {
    let (names, texts) = (FIREWALL_RULES.path(), FIREWALL_FILES.path());
    let fixed = file.values.get(names).into_iter();
    let in_variants = file.variants.iter().filter_map(|variant| variant.values.get(names));
    let swept = file.matrix.iter().filter(|(path, _)| path == names).flat_map(|(_, entries)| entries);
    let named: Vec<Entry> = fixed.chain(in_variants).chain(swept).cloned().collect();
    let known = match file.values.get(texts) {
        Some(Entry { value: Value::Table(table), .. }) => table.clone(),
        // Whatever else it is, it is refused later.
        Some(_) => return,
        None => Table::new(),
    };
    let (mut all, mut unreadable) = (known.clone(), BTreeSet::new());
    for Entry { value, origin } in named {
        let Some(name) = value.as_str().filter(|name| !name.is_empty() && !all.contains_key(*name)) else { continue };
        let from = match origin {
            Origin::Override(_) | Origin::Words(_) => Path::new(""),
            Origin::Line(_) | Origin::File => Path::new(source).parent().unwrap_or(Path::new("")),
        };
        match text(&from.join(name)) {
            Ok(text) => drop(all.insert(name.to_owned(), Value::String(text))),
            Err(problem) if unreadable.insert(name.to_owned()) => {
                file.problems.push(Problem::new(origin, format_args!("`{names}`: {problem}")));
                file.unknown.insert(names.to_owned());
            }
            Err(_) => {}
        }
    }
    if all.len() > known.len() {
        let origin = file.values.get(texts).map_or(Origin::File, |entry| entry.origin.clone());
        file.values.insert(texts.to_owned(), Entry { value: Value::Table(all), origin });
    }
}

fn text(path: &Path) -> Result<String, String> {
    let wrong = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let is_file = fs::metadata(path).map_err(|error| wrong(&error))?.is_file();
    if !is_file {
        return Err(wrong(&"is not a file"));
    }
    let mut text = String::new();
    let file = Opened::open(path).map_err(|error| wrong(&error))?;
    file.take(BYTES_LIMIT + 1).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    if text.len() as u64 > BYTES_LIMIT {
        return Err(wrong(&format_args!("is longer than {BYTES_LIMIT} bytes")));
    }
    Ok(text)
}
