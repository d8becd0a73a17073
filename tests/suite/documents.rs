//! The project's own pages: short enough to be read, and every link leads somewhere.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

tests! {
    nothing [the_readme_is_one_page, the_readme_repeats_no_other_page, tables_hold_phrases, links_lead_somewhere]
}

/// The most characters that fit into two lines of a table's widest column.
const LONGEST_CELL: usize = 200;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages of the project, without those of records.
fn pages() -> Vec<PathBuf> {
    let folders = ["", "bench-configs", "results", "scripts"].map(|folder| root().join(folder));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let pages: Vec<PathBuf> = files.filter(|file| file.extension().is_some_and(|it| it == "md")).collect();
    assert!(pages.len() > 5, "{pages:?}");
    pages
}

/// The lines of a page outside blocks of code, each with its number.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut code = false;
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    });
    lines.map(|(number, line)| (number + 1, line)).collect()
}

/// The cells of a table's row.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_matches('|').replace("\\|", "\u{1}");
    row.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

/// What GitHub makes of headings: the anchors that links may name.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let Some(heading) = line.strip_prefix('#').map(|line| line.trim_start_matches('#').trim()) else { continue };
        let kept = heading.to_lowercase().replace(' ', "-");
        let anchor: String = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
        let again = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(again).find(|name| !anchors.contains(name));
        anchors.insert(free.unwrap());
    }
    anchors
}

/// The targets of a line's links, those in code aside.
fn links(line: &str) -> Vec<&str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// Whether the published crate has a file or a folder. Its Debian package has the same documents, and `scripts/check-package` follows
/// their links.
fn is_shipped(file: &Path) -> bool {
    let manifest: toml::Table = include_str!("../../Cargo.toml").parse().unwrap();
    let file = file.strip_prefix(root()).unwrap().to_str().unwrap().trim_end_matches('/');
    // Links lead up from a folder of the root, and no further.
    let file = file.split_once("/../").map_or(file, |(_, file)| file);
    let patterns = manifest["package"]["include"].as_array().unwrap();
    patterns.iter().map(|pattern| pattern.as_str().unwrap().trim_start_matches('/')).any(|pattern| {
        match pattern.split_once('*') {
            None => file.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Some((start, end)) => {
                let name = file.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
                name.is_some_and(|name| !name.contains('/'))
            }
        }
    })
}

fn the_readme_is_one_page() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let lines = text.lines().count();
    assert!(lines <= 140, "README.md has {lines} lines; what is longer than a page has a file of its own");
    let (start, _) = text.split_once("\n## Your own server").unwrap();
    let first = start.lines().position(|line| line == "cargo run --release -- run").expect("no first command");
    assert!(first < 40, "the first result is on line {first}, beyond one screen");
}

/// What is said at length elsewhere is not copied: two copies of a sentence drift apart.
fn the_readme_repeats_no_other_page() {
    let sentences = |page: &Path| -> BTreeSet<String> {
        let text = fs::read_to_string(page).unwrap();
        let lines = prose(&text).into_iter().map(|(_, line)| line).filter(|line| !line.starts_with(['|', '#']));
        let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
        let text = words.join(" ").replace([';', ':'], ".");
        text.split(". ").map(|sentence| sentence.trim_matches(['-', '*', ' ', '.']).to_owned()).collect()
    };
    let readme = root().join("README.md");
    let own: BTreeSet<String> =
        sentences(&readme).into_iter().filter(|sentence| sentence.split(' ').count() > 5).collect();
    assert!(own.len() > 20, "{own:?}");
    for page in pages().into_iter().filter(|page| *page != readme) {
        let others = sentences(&page);
        let twice: Vec<&String> = own.intersection(&others).collect();
        assert!(twice.is_empty(), "README.md and {} both say: {twice:#?}", page.display());
    }
}

fn tables_hold_phrases() {
    assert_eq!(cells(r"| a | `b\|c` |"), ["a", "`b|c`"]);
    let mut long = String::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (number, line) in prose(&text).into_iter().filter(|(_, line)| line.starts_with('|')) {
            for cell in cells(line).iter().filter(|cell| cell.chars().count() > LONGEST_CELL) {
                long += &format!("{}:{number}: {} characters: {cell}\n", page.display(), cell.chars().count());
            }
        }
    }
    assert!(
        long.is_empty(),
        "what takes more than {LONGEST_CELL} characters gets a heading instead of a cell:\n{long}"
    );
}

fn links_lead_somewhere() {
    assert_eq!(links("[a](b.md#c), [d](#e)"), ["b.md#c", "#e"]);
    assert!(anchors("# `run`: a B\n## x\n## x\n").is_superset(&["run-a-b", "x", "x-1"].map(str::to_owned).into()));
    let shipped = |file: &str| is_shipped(&root().join(file));
    assert!(shipped("README.md") && shipped("results/reference/report.png") && shipped("scripts/../results/CI.md"));
    assert!(!shipped("Cargo.lock") && !shipped("scripts/fuzz") && !shipped("tests/a/README.md"));
    let mut broken = String::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (number, line) in prose(&text) {
            for link in links(line).into_iter().filter(|link| !link.contains("://")) {
                let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
                let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
                let found = match anchor {
                    None => target.exists(),
                    Some(anchor) => fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor)),
                };
                if !found || is_shipped(&page) && !is_shipped(&target) {
                    broken += &format!("{}:{number}: {link}\n", page.display());
                }
            }
        }
    }
    assert!(broken.is_empty(), "links to nowhere, or to what `include` in Cargo.toml leaves out:\n{broken}");
}
