//! The tables of `bench-configs/README.md`, which show every key: generated from the keys, and compared with the file.

use std::{env, fmt::Write, fs, path::Path};

use super::{AnyKey, EVENT, FIREWALL, LOAD, NAT, PORTS, SERVER, TRIAL, WHOLE};
use crate::{
    ipc::receipt::{FULL_RECEIPT_BYTES, RECEIPT_BYTES},
    scenario::server::DATAGRAM_LIMIT_BYTES,
};

/// If set, the test writes the tables instead of comparing them.
const RENEW: &str = "LISTENBENCH_RENEW_KEYS";

/// The file, embedded when the test is built, so that running it does not require the sources.
const README: &str = include_str!("../../../bench-configs/README.md");

/// The tables, each by the comment that precedes it in the file.
const TABLES: [(&str, &[&dyn AnyKey]); 8] = [
    ("<!-- keys: whole scenario -->", WHOLE),
    ("<!-- keys: trial -->", TRIAL),
    ("<!-- keys: server -->", SERVER),
    ("<!-- keys: load -->", LOAD),
    ("<!-- keys: ports -->", PORTS),
    ("<!-- keys: firewall -->", FIREWALL),
    ("<!-- keys: nat -->", NAT),
    ("<!-- keys: event -->", EVENT),
];

/// What follows the tables of a place.
const END: &str = "<!-- end of keys -->";

/// The most characters of a cell.
const LONGEST_CELL: usize = 200;

/// A text for a table's cell: a long one is cut after a sentence, and leads to the heading with all of it.
pub fn cell(name: &str, text: &str) -> String {
    if text.chars().count() <= LONGEST_CELL {
        return text.to_owned();
    }
    let anchor: String = name.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
    let more = format!(" [More](#{anchor})");
    let ends = text.match_indices(". ").map(|(at, _)| at + 1);
    let fits = ends.take_while(|end| text[..*end].chars().count() + more.chars().count() <= LONGEST_CELL);
    let end =
        fits.last().unwrap_or_else(|| panic!("the first sentence of `{name}` is too long for a table's cell: {text}"));
    format!("{}{more}", &text[..end])
}

/// The heading with all of a text, if its cell has only a part.
pub fn heading(name: &str, text: &str) -> Option<String> {
    (text.chars().count() > LONGEST_CELL).then(|| format!("\n#### `{name}`\n\n{text}\n"))
}

/// A table, then what is too long for it.
fn table(keys: &[&dyn AnyKey]) -> String {
    let mut table = "| key | type, range, unit | default | meaning |\n|---|---|---|---|\n".to_owned();
    for key in keys {
        let default = key.default_toml().map_or_else(|| "none".to_owned(), |value| format!("`{value}`"));
        let meaning = cell(key.path(), key.meaning());
        writeln!(table, "| `{}` | {} | {default} | {meaning} |", key.path(), key.domain()).unwrap();
    }
    let long = keys.iter().filter_map(|key| heading(key.path(), key.meaning()));
    table + &long.collect::<String>()
}

/// The file with the tables that the keys make.
fn generated() -> String {
    TABLES.iter().fold(README.to_owned(), |text, (mark, keys)| {
        let (before, after) = text.split_once(mark).unwrap_or_else(|| panic!("no {mark} in bench-configs/README.md"));
        let (_, rest) = after.split_once(END).unwrap_or_else(|| panic!("no {END} after {mark}"));
        format!("{before}{mark}\n\n{}\n{END}{rest}", table(keys))
    })
}

#[test]
fn the_readme_documents_every_key_once() {
    let generated = generated();
    if env::var_os(RENEW).is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("bench-configs/README.md"), generated).unwrap();
        return;
    }
    assert!(
        README == generated,
        "bench-configs/README.md does not match the keys; renew its tables with {RENEW}=1 cargo test readme"
    );
}

#[test]
fn long_texts_are_cut_after_a_sentence() {
    let text = format!("One. {} end. {}", "x".repeat(150), "y".repeat(40));
    assert_eq!(cell("a.b", &text), format!("One. {} end. [More](#ab)", "x".repeat(150)));
    assert_eq!(heading("a.b", &text), Some(format!("\n#### `a.b`\n\n{text}\n")));
    let (short, long) = ("z".repeat(LONGEST_CELL), format!("One. {}", "z".repeat(LONGEST_CELL)));
    assert_eq!((cell("a", &short), heading("a", &short)), (short.clone(), None));
    assert_eq!(cell("a", &long), "One. [More](#a)");
}

/// Limits that a key's type does not show are part of its meaning.
#[test]
fn meanings_name_the_limits_that_types_do_not_show() {
    let limits: [(&dyn AnyKey, usize); 5] = [
        (super::SERVER_REQUEST_BYTES, DATAGRAM_LIMIT_BYTES),
        (super::SERVER_REPLY_BYTES, DATAGRAM_LIMIT_BYTES),
        (super::SERVER_REPLY_BYTES, RECEIPT_BYTES),
        (super::SERVER_REPLY_BYTES, FULL_RECEIPT_BYTES),
        (super::LOAD_SOURCE_ADDRESSES, super::lists::LONGEST),
    ];
    for (key, limit) in limits {
        assert!(key.meaning().contains(&limit.to_string()), "{}: {limit}", key.path());
    }
}
