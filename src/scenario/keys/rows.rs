//! The rows of a table of rates.

use std::borrow::Cow;

use toml::Value;

use super::{
    domain::{Domain, shown},
    load::HIGHEST_RATE,
};
use crate::scenario::arrivals::{ROWS_LIMIT, Row, objection};

/// Rows of a time and a rate. The name of a file has been replaced by its rows when the scenario was read.
#[derive(Debug, Clone, Copy)]
pub struct Rows;

/// No rows, where none are set.
pub(super) const NO_ROWS: Cow<'static, [Row]> = Cow::Borrowed(&[]);

impl Domain for Rows {
    type Value = Cow<'static, [Row]>;

    fn parse(&self, value: &Value) -> Result<Self::Value, String> {
        let wrong = || {
            format!("must be a CSV file's name or a list of rows, such as [[0, 100], [60, 200]], not {}", shown(value))
        };
        let written = value.as_array().filter(|rows| !rows.is_empty()).ok_or_else(wrong)?;
        if written.len() > ROWS_LIMIT {
            return Err(format!("has more than {ROWS_LIMIT} rows"));
        }
        let mut rows: Vec<Row> = Vec::with_capacity(written.len());
        for (row, number) in written.iter().zip(1..) {
            let read = row_of(row).ok_or_else(|| {
                format!("row {number} must be a time and a rate, such as [60, 200], not {}", shown(row))
            })?;
            if let Some(problem) = objection(rows.last().copied(), read, HIGHEST_RATE) {
                return Err(format!("row {number}: {problem}"));
            }
            rows.push(read);
        }
        Ok(Cow::Owned(rows))
    }

    fn to_toml(&self, value: &Self::Value) -> Option<Value> {
        let row = |(time_s, rate): &Row| Value::Array(vec![Value::Float(*time_s), Value::Float(*rate)]);
        (!value.is_empty()).then(|| Value::Array(value.iter().map(row).collect()))
    }

    fn describe(&self) -> String {
        "CSV file or list of rows".to_owned()
    }

    fn takes_list(&self) -> bool {
        true
    }
}

fn row_of(value: &Value) -> Option<Row> {
    let number = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
    let [time_s, rate] = &value.as_array()?[..] else { return None };
    Some((number(time_s)?, number(rate)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_pairs_of_numbers() {
        let of = |toml: &str| Rows.parse(&format!("v = {toml}").parse::<toml::Table>().unwrap()["v"]);
        let rows = of("[[0, 100], [60.5, 0.25]]").unwrap();
        assert_eq!(rows[..], [(0.0, 100.0), (60.5, 0.25)]);
        assert_eq!(Rows.parse(&Rows.to_toml(&rows).unwrap()), Ok(rows));
        for (toml, problem) in [
            ("5", "must be a CSV file's name or a list of rows, such as [[0, 100], [60, 200]], not 5"),
            ("[]", "not []"),
            ("[0, 1]", "row 1 must be a time and a rate, such as [60, 200], not 0"),
            ("[[0, 1], [2]]", "row 2 must be a time and a rate"),
            ("[[0, \"1\"]]", "row 1 must be"),
            ("[[0, 1], [0, 2]]", "row 2: times must ascend, and 0 s follows 0 s"),
            ("[[0, -1]]", "row 1: the rate must be"),
            ("[[nan, 1]]", "row 1: the time must be"),
        ] {
            let error = of(toml).unwrap_err();
            assert!(error.contains(problem), "{toml}: {error}");
        }
    }
}
