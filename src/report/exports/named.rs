//! The cells' figures under names for tools that know neither scenarios nor cells.

use std::collections::{HashMap, HashSet};

use crate::{
    record::Values,
    scenario::label,
    stats::{CellSummary, Metric, Summary},
};

/// Characters of the longest name: Bencher takes 1,024.
const LONGEST: usize = 1_000;

/// A cell's name, its metrics, and their values over its valid trials.
pub struct Named<'a> {
    /// `tail: strategy=reuseport workers=2`; no two cells have the same.
    pub name: String,
    pub cell: &'a CellSummary,
    pub figures: Vec<(&'static Metric, &'a Values)>,
}

/// All cells, in the order of the matrix.
pub fn named(summary: &Summary) -> Vec<Named<'_>> {
    let plain = |cell: &CellSummary| -> String {
        let text = format!("{}: {}", summary.scenario, label(&cell.cell)).replace(['\n', '\t'], " ");
        text.chars().take(LONGEST).collect()
    };
    let names = unique(&summary.cells, plain, |name, hash| format!("{name} ({hash})"));
    let of = |(cell, name): (_, String)| {
        let cell: &CellSummary = cell;
        let figure = |metric: &&'static Metric| Some((*metric, cell.metrics.get(metric.name)?));
        Named { name, cell, figures: summary.metrics.iter().filter_map(figure).collect() }
    };
    summary.cells.iter().zip(names).map(of).collect()
}

/// A name for each cell, unique whatever its case. Where several would have the same, each gets a hash of its swept values: a cell keeps
/// its name in whatever order the values are swept.
pub(super) fn unique(
    cells: &[CellSummary],
    plain: impl Fn(&CellSummary) -> String,
    with_hash: impl Fn(&str, &str) -> String,
) -> Vec<String> {
    let plain: Vec<String> = cells.iter().map(plain).collect();
    let mut bearers: HashMap<String, usize> = HashMap::new();
    for name in &plain {
        *bearers.entry(name.to_ascii_lowercase()).or_default() += 1;
    }
    let mut taken: HashSet<String> = bearers.keys().cloned().collect();
    let mut name = |(plain, cell): (String, &CellSummary)| {
        if bearers[&plain.to_ascii_lowercase()] == 1 {
            return plain;
        }
        let values = serde_json::Value::Object(cell.cell.clone()).to_string();
        // The first, as good as always.
        let mut tries = (0..).map(|attempt| with_hash(&plain, &format!("{:08x}", hash(&format!("{values}{attempt}")))));
        tries.find(|name| taken.insert(name.to_ascii_lowercase())).unwrap_or_default()
    };
    plain.into_iter().zip(cells).map(&mut name).collect()
}

/// FNV-1a of 32 bits, which is the same in every version.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::Outcome,
        stats::{fixture, summarize},
    };

    #[test]
    fn a_hash_is_the_same_in_every_version() {
        // Of the reference implementation's test vectors.
        assert_eq!([hash(""), hash("a"), hash("foobar")], [0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968]);
    }

    #[test]
    fn names_are_unique_lines_of_bounded_length() {
        let cells =
            [json!({"a": "x b=1"}), json!({"a": "x", "b": 1}), json!({"a": "y\nz"}), json!({"a": "é".repeat(2_000)})];
        let trial = |(number, cell): (usize, &serde_json::Value)| {
            let mut trial = fixture::trial(number, cell, Outcome::Valid);
            trial.cell_index = number;
            trial
        };
        let summary = summarize(&fixture::record(cells.iter().enumerate().map(trial).collect()));
        let names: Vec<String> = named(&summary).into_iter().map(|of| of.name).collect();
        assert!(names[0].starts_with("made-up: a=x b=1 (") && names[1].starts_with("made-up: a=x b=1 ("), "{names:?}");
        assert_ne!(names[0], names[1]);
        assert_eq!(names[2], "made-up: a=y z");
        assert_eq!(names[3].chars().count(), LONGEST);
    }
}
