//! Shared by CSV exporters: columns of swept values, and the text of a table.

use anyhow::{Context, Result};
use csv::Writer;
use serde_json::{Map, Value as Json};

use super::ranking::plain;

/// Names of the swept values of all cells, in the order of the matrix.
pub fn swept<'a>(cells: impl Iterator<Item = &'a Map<String, Json>>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for name in cells.flat_map(Map::keys) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

/// Headings of their columns: `cell.<name>`, which no other column starts with.
pub fn columns(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("cell.{name}")).collect()
}

/// A cell's values in these columns.
pub fn swept_values(names: &[&str], cell: &Map<String, Json>) -> Vec<String> {
    names.iter().map(|name| cell.get(*name).map_or_else(String::new, plain)).collect()
}

/// A table as CSV.
pub fn text(rows: impl IntoIterator<Item = Vec<String>>) -> Result<String> {
    let mut writer = Writer::from_writer(Vec::new());
    rows.into_iter().try_for_each(|row| writer.write_record(row)).context("writing CSV")?;
    String::from_utf8(writer.into_inner().context("writing CSV")?).context("writing CSV")
}
