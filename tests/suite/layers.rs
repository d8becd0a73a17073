//! No folder of `src` imports one that comes after it: the order is that of the crate's front page.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

tests! {
    nothing [
        imports_are_found_in_groups_and_paths,
        no_module_imports_upwards,
        the_contributor_sees_the_same_layers,
        every_key_is_read,
        tests_are_listed_not_marked,
        records_are_written_through_their_folder,
        no_script_evaluates_text,
        everything_is_printed_as_text,
    ]
}

/// The modules, bottom first, as the table of the crate's front page has them. A module imports only from those before it.
fn layers(front_page: &str) -> Vec<&str> {
    // A module that is not in every build has no link.
    let row = |line| str::strip_prefix(line, "//! | [`").or_else(|| str::strip_prefix(line, "//! | `"));
    let rows = front_page.lines().filter_map(row);
    let modules = rows.map(|row| row.split('`').next().unwrap()).map(|name| name.strip_prefix("mod@").unwrap_or(name));
    modules.chain(["main"]).collect()
}

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

fn imports_are_found_in_groups_and_paths() {
    let source = "use crate::{ipc::{a, b::{c}}, scenario::X, sys};\nfn f() { crate::record::g() } // crate::no\n";
    assert_eq!(imports(source), ["ipc", "scenario", "sys", "record", "no"]);
    assert_eq!(imports("    // use crate::live;\nuse crate::load;\n"), ["load"]);
}

fn no_module_imports_upwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let front_page = fs::read_to_string(root.join("main.rs")).unwrap();
    let layers = layers(&front_page);
    let layer = |name: &str| layers.iter().position(|layer| *layer == name);
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

fn the_contributor_sees_the_same_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `src/")?.split('`').next());
    let listed: Vec<&str> = rows.map(|row| row.trim_end_matches(".rs")).filter(|row| *row != "bpf").collect();
    let front_page = fs::read_to_string(root.join("src/main.rs")).unwrap();
    let layers = layers(&front_page);
    assert_eq!(listed, layers[..layers.len() - 1], "CONTRIBUTING.md lists the modules of the crate's front page");
}

/// The compiler does not notice a key that is declared and never read, since the list of all keys names it.
fn every_key_is_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (declaring, reading): (Vec<_>, Vec<_>) =
        sources(&root).into_iter().partition(|path| path.starts_with(root.join("scenario/keys")));
    let text = |paths: Vec<PathBuf>| paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect::<String>();
    let (declaring, reading) = (text(declaring), text(reading));
    let names: Vec<&str> = declaring
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(": "))
        .map(|(name, _)| name)
        .filter(|name| name.len() > 1 && name.chars().all(|c| c.is_ascii_uppercase() || "_0123456789".contains(c)))
        .collect();
    assert!(names.len() > 60, "{names:?}");
    let read: HashSet<String> = reading.split("keys::").skip(1).map(word).collect();
    let unread: Vec<&&str> = names.iter().filter(|name| !read.contains(**name)).collect();
    assert!(unread.is_empty(), "nothing reads {unread:?}");
}

/// Where a harness is the crate's own, the compiler drops what is marked so without a word.
fn tests_are_listed_not_marked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for path in sources(&root) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.lines().any(|line| line.trim() == "#[test]"), "{}", path.display());
    }
}

/// What is in a record may come from anybody, so its files are created and replaced in `sys::folder` alone, which follows no link.
fn records_are_written_through_their_folder() {
    const WITH_RECORDS: [&str; 6] = ["record", "stats", "watch", "report", "live", "commands"];
    // A new file that the user names, and the schemas that a test renews.
    const OTHERS: [&str; 2] = ["commands/calibrate.rs", "commands/schemas.rs"];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in WITH_RECORDS.iter().flat_map(|module| sources(&src.join(module))) {
        let name = file.strip_prefix(&src).unwrap().to_str().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        let writes = ["fs::write(", "File::create", "OpenOptions", "fs::rename(", "File::options"];
        let found = writes.iter().find(|call| text.contains(*call));
        assert!(OTHERS.contains(&name) || found.is_none(), "{name} calls {}: use sys::folder", found.unwrap());
    }
}

/// Metadata, records and what programs print come from others: a script takes them for text.
fn no_script_evaluates_text() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for word in ["eval", "exec(", "os.system", "shell=True", "pickle", "yaml.load", "getoutput", "os.popen"] {
            let whole = |(at, _): (usize, &str)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            assert!(!text.match_indices(word).any(whole), "{} has {word}", path.display());
        }
    }
}

/// Texts from outside may hold escape sequences, so whatever is printed goes through the few functions that take it for text.
fn everything_is_printed_as_text() {
    // Lines on either output; lines of progress; a whole screen; and two that only ask whether it is a terminal.
    const PRINTING: [&str; 5] =
        ["commands/mod.rs", "live/mod.rs", "live/canvas.rs", "commands/observe/mod.rs", "report/terminal.rs"];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in sources(&src) {
        let name = file.strip_prefix(&src).unwrap().to_str().unwrap();
        if PRINTING.contains(&name) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        // The build script's output is for cargo, and a fuzzer's for who runs it.
        let is_apart = name.starts_with(&format!("{APART}/")) || name.starts_with("fuzz/");
        let found = ["print!(", "println!(", "stdout()", "stderr()"].iter().find(|call| text.contains(*call));
        assert!(is_apart || found.is_none(), "{name} has {}: print through commands::say or note", found.unwrap());
    }
    let printed = |name: &str| fs::read_to_string(src.join(name)).unwrap().matches("harmless").count();
    assert!(PRINTING[..3].iter().all(|name| printed(name) > 0));
}
