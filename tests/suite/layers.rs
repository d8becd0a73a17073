//! No folder of `src` imports one that comes after it: the order is that of the crate's front page.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Bottom first. A folder, or file, imports only from those before it.
const LAYERS: [&str; 17] = [
    "sys",
    "format",
    "record",
    "ipc",
    "scenario",
    "stats",
    "observe",
    "context",
    "server",
    "load",
    "trial",
    "calibrate",
    "report",
    "live",
    "cli",
    "commands",
    "main",
];

/// The build script is a program of its own.
const APART: &str = "build";

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let sources = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    sources.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// The modules of the crate that a source names: in `use crate::{…}` with its groups, or in the text as `crate::x`.
fn imports(source: &str) -> Vec<String> {
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut modules = Vec::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            None => modules.push(word(after)),
            Some(group) => {
                let mut depth = 0;
                let mut expected = true;
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => expected = true,
                        c if expected && c.is_alphabetic() => {
                            modules.push(word(&group[at..]));
                            expected = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    modules
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn imports_are_found_in_groups_and_paths() {
    let source = "use crate::{ipc::{a, b::{c}}, scenario::X, sys};\nfn f() { crate::record::g() } // crate::no\n";
    assert_eq!(imports(source), ["ipc", "scenario", "sys", "record", "no"]);
    assert_eq!(imports("    // use crate::live;\nuse crate::load;\n"), ["load"]);
}

#[test]
fn no_module_imports_upwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layer = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let mut upwards = Vec::new();
    for path in sources(&root) {
        let place = path.strip_prefix(&root).unwrap();
        let name = place.iter().next().unwrap().to_string_lossy().replace(".rs", "");
        if name == APART {
            continue;
        }
        let own = layer(&name).unwrap_or_else(|| panic!("{name} has no place among the layers"));
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            if layer(&import).is_none_or(|other| other > own) {
                upwards.push(format!("{} imports {import}", place.display()));
            }
        }
    }
    assert!(upwards.is_empty(), "{}", upwards.join("\n"));
}
