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
        match text(&origin.folder(source).join(name)) {
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

/// Why the text of a ruleset cannot be used; `None` if nft decides.
pub(super) fn objection(text: &str) -> Option<String> {
    if let Some(at) = text.find('\0') {
        let line = text[..at].matches('\n').count() + 1;
        return Some(format!("line {line} has a NUL byte, after which nft reads nothing: remove it"));
    }
    let words = text.split(|c: char| c.is_whitespace() || c == '{').filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    if words.windows(3).any(|three| three == ["table", "inet", "listenbench"]) {
        return Some("has a table `inet listenbench`, the name of the generated one: rename it".to_owned());
    }
    let line = including(text)?;
    Some(format!(
        "line {line} includes another file, whose text a record would lack: put that in its place, or name a file with what `nft list ruleset` prints \
         where all of it is loaded"
    ))
}

/// The line with the first `include` that is a statement: neither in a comment nor in quotes.
fn including(text: &str) -> Option<usize> {
    let statements = |line: &str| {
        let (mut outside, mut is_quoted) = (String::new(), false);
        for c in line.chars() {
            match c {
                '"' => is_quoted = !is_quoted,
                '#' if !is_quoted => break,
                _ => {}
            }
            // A quote ends a word as a space does.
            outside.push(if c == '"' || is_quoted { ' ' } else { c });
        }
        outside
    };
    let has = |line: &str| {
        let outside = statements(line);
        outside.split([';', '{', '}']).any(|one| one.split_whitespace().next() == Some("include"))
    };
    text.lines().position(has).map(|before| before + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_include_is_found_where_it_is_a_statement() {
        for (text, expected) in [
            ("add table inet t\ninclude \"/etc/more.nft\"\n", Some(2)),
            ("table inet t { include\"a\"; }", Some(1)),
            ("\tinclude 'a'", Some(1)),
            ("# include \"a\"\nadd table inet include\n", None),
            ("add rule t c counter comment \"a; include b\"", None),
            ("", None),
        ] {
            assert_eq!(including(text), expected, "{text}");
        }
        assert!(objection("include \"a\"").unwrap().starts_with("line 1 includes another file, "));
    }

    #[test]
    fn what_nft_would_not_read_or_would_merge_is_refused() {
        assert!(objection("add table inet t\n\0add table inet u").unwrap().starts_with("line 2 has a NUL byte"));
        for ours in [
            "table inet listenbench {\n}",
            "add chain inet t c\nadd table  inet\tlistenbench",
            "table inet listenbench{}",
        ] {
            assert!(objection(ours).unwrap().contains("rename it"), "{ours}");
        }
        assert_eq!(objection("table inet listenbench_2 {}\ntable ip listenbench {}"), None);
    }
}
