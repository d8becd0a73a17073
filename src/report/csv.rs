//! Shared by CSV exporters: columns of swept values, and the text of a table.

use std::borrow::Cow;

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

/// The columns of swept values.
pub struct Swept<'a> {
    /// Each swept value's name, in the order of the matrix, and whether it is a duration.
    names: Vec<(&'a str, bool)>,
}

impl<'a> Swept<'a> {
    /// The swept values of all cells.
    pub fn of(cells: impl Iterator<Item = &'a Map<String, Json>> + Clone) -> Self {
        let is_duration = |name| cells.clone().filter_map(|cell| cell.get(name)).any(|v| nanoseconds(v).is_some());
        Self { names: swept(cells.clone()).into_iter().map(|name| (name, is_duration(name))).collect() }
    }

    /// The headings: `cell.<name>`, which no other column starts with, and for a duration `cell.<name>_ns`, its nanoseconds.
    pub fn columns(&self) -> Vec<String> {
        let of = |(name, is_duration): &(&str, bool)| {
            let nanoseconds = is_duration.then(|| format!("cell.{name}_ns"));
            std::iter::once(format!("cell.{name}")).chain(nanoseconds)
        };
        self.names.iter().flat_map(of).collect()
    }

    /// A cell's values in these columns.
    pub fn values(&self, cell: &Map<String, Json>) -> Vec<String> {
        let of = |(name, is_duration): &(&str, bool)| {
            let value = cell.get(*name);
            let number = || value.and_then(nanoseconds).map_or_else(String::new, |ns| ns.to_string());
            std::iter::once(value.map_or_else(String::new, plain)).chain(is_duration.then(number))
        };
        self.names.iter().flat_map(of).collect()
    }
}

/// The nanoseconds of a duration such as `"1m 5s"`; `None` for any other value.
fn nanoseconds(value: &Json) -> Option<u128> {
    humantime::parse_duration(value.as_str()?).ok().map(|duration| duration.as_nanos())
}

/// A figure; empty if it was not reached.
pub fn figure(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { String::new() }
}

/// A table as CSV.
pub fn text(rows: impl IntoIterator<Item = Vec<String>>) -> Result<String> {
    let mut writer = Writer::from_writer(Vec::new());
    let mut write = |row: Vec<String>| writer.write_record(row.iter().map(|field| no_formula(field).into_owned()));
    rows.into_iter().try_for_each(&mut write).context("writing CSV")?;
    String::from_utf8(writer.into_inner().context("writing CSV")?).context("writing CSV")
}

/// A field that no spreadsheet takes for a formula: an apostrophe comes before a text that begins like one. Numbers stay numbers.
fn no_formula(field: &str) -> Cow<'_, str> {
    // A sign may be in full width, too.
    let begins_formula = |c| matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '\t' | '\r' | '\n');
    let is_number = || field.parse::<f64>().is_ok_and(f64::is_finite);
    if field.trim_start_matches(' ').starts_with(begins_formula) && !is_number() {
        format!("'{field}").into()
    } else {
        field.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_field_is_a_formula() {
        let fields =
            ["=1+1", "+1+1", "-x", "@SUM(A1)", "\t=1", "  =1", "＝1", "-inf", "-1.5e3", "+7", "reuseport", "a=b", ""];
        let safe = [
            "'=1+1",
            "'+1+1",
            "'-x",
            "'@SUM(A1)",
            "'\t=1",
            "'  =1",
            "'＝1",
            "'-inf",
            "-1.5e3",
            "+7",
            "reuseport",
            "a=b",
            "",
        ];
        let text = text([fields.map(str::to_owned).to_vec()]).unwrap();
        assert_eq!(text.trim_end().split(',').collect::<Vec<_>>(), safe);
    }

    #[test]
    fn durations_have_a_column_of_numbers_too() {
        let cells = [
            json!({"hold": "", "strategy": "reuseport", "workers": 1}),
            json!({"hold": "1m 5s", "strategy": "shared-epoll", "rate": 0.5}),
            json!({"hold": "0s"}),
            json!({"hold": "250us"}),
        ];
        let cells: Vec<Map<String, Json>> = cells.iter().map(|cell| cell.as_object().unwrap().clone()).collect();
        let swept = Swept::of(cells.iter());
        assert_eq!(swept.columns(), ["cell.hold", "cell.hold_ns", "cell.strategy", "cell.workers", "cell.rate"]);
        let rows: Vec<String> = cells.iter().map(|cell| swept.values(cell).join(",")).collect();
        assert_eq!(rows, [",,reuseport,1,", "1m 5s,65000000000,shared-epoll,,0.5", "0s,0,,,", "250us,250000,,,"]);
    }
}
