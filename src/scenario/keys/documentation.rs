//! The tables of `bench-configs/README.md`, which show every key: generated from the keys, and compared with the file.

use std::{env, fmt::Write, fs, path::Path};

use super::{AnyKey, FAULT, LOAD, PORTS, SERVER, TRIAL, WHOLE};
use crate::{
    ipc::receipt::{FULL_RECEIPT_BYTES, RECEIPT_BYTES},
    scenario::server::DATAGRAM_LIMIT_BYTES,
};

/// If set, the test writes the tables instead of comparing them.
const RENEW: &str = "LISTENBENCH_RENEW_KEYS";

/// The file, embedded when the test is built, so that running it does not require the sources.
const README: &str = include_str!("../../../bench-configs/README.md");

/// The tables, each by the comment that precedes it in the file.
const TABLES: [(&str, &[&dyn AnyKey]); 6] = [
    ("<!-- keys: whole scenario -->", WHOLE),
    ("<!-- keys: trial -->", TRIAL),
    ("<!-- keys: server -->", SERVER),
    ("<!-- keys: load -->", LOAD),
    ("<!-- keys: ports -->", PORTS),
    ("<!-- keys: fault -->", FAULT),
];

fn table(keys: &[&dyn AnyKey]) -> String {
    let mut table = "| key | type, range, unit | default | meaning |\n|---|---|---|---|\n".to_owned();
    for key in keys {
        let default = key.default_toml().map_or_else(|| "none".to_owned(), |value| format!("`{value}`"));
        writeln!(table, "| `{}` | {} | {default} | {} |", key.path(), key.domain(), key.meaning()).unwrap();
    }
    table
}

/// The file with the tables that the keys make.
fn generated() -> String {
    TABLES.iter().fold(README.to_owned(), |text, (mark, keys)| {
        let (before, after) = text.split_once(mark).unwrap_or_else(|| panic!("no {mark} in bench-configs/README.md"));
        let rest = after.trim_start_matches('\n').split_once("\n\n").map_or("", |(_, rest)| rest);
        format!("{before}{mark}\n\n{}\n{rest}", table(keys))
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
