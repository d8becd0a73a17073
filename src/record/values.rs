//! A metric over several trials: its median and the interval around it.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::format::percent;

/// A metric over the valid trials of a cell. A percentile that falls among attempts that failed is infinite here, and `null` in files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Values {
    /// Median of `values`; the mean of the two middle values if their number is even.
    #[serde(deserialize_with = "reached")]
    #[schemars(with = "Option<f64>")]
    pub median: f64,
    /// Lower end of the interval.
    #[serde(deserialize_with = "reached")]
    #[schemars(with = "Option<f64>")]
    pub low: f64,
    /// Upper end of the interval.
    #[serde(deserialize_with = "reached")]
    #[schemars(with = "Option<f64>")]
    pub high: f64,
    /// What `low` and `high` are.
    pub interval: IntervalKind,
    /// One value per valid trial, in order of repetition.
    #[serde(deserialize_with = "all_reached")]
    #[schemars(with = "Vec<Option<f64>>")]
    pub values: Vec<f64>,
    /// Of a percentile: the attempts that were due in all these trials, and how many of them have no value; `null` for other metrics.
    #[serde(default)]
    pub attempts: Option<Attempts>,
}

/// Attempts of several trials together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempts {
    /// Attempts that were due.
    pub due: u64,
    /// Those of them that failed or never began.
    pub lost: u64,
}

impl Values {
    /// The part of the attempts that were lost; 0 where there are none.
    pub fn lost(&self) -> f64 {
        self.attempts.map_or(0.0, |Attempts { due, lost }| lost as f64 / due.max(1) as f64)
    }

    /// ` (1.3 % lost)`; empty if nothing was, or could be.
    pub fn lost_in_words(&self) -> String {
        let lost = self.attempts.filter(|attempts| attempts.lost > 0);
        lost.map_or_else(String::new, |Attempts { due, lost }| format!(" ({} lost)", percent(lost as f64 / due as f64)))
    }
}

/// What was not reached is `null` in files.
fn reached<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
}

fn all_reached<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let values = Vec::<Option<f64>>::deserialize(deserializer)?;
    Ok(values.into_iter().map(|value| value.unwrap_or(f64::INFINITY)).collect())
}

/// What the ends of an interval mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IntervalKind {
    /// A confidence interval of the median.
    Bootstrap,
    /// The smallest and the largest value, because there are too few values for a confidence interval.
    Range,
}

impl IntervalKind {
    /// The name used in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Range => "range",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_reached_is_null_in_files() {
        let values = Values {
            median: f64::INFINITY,
            low: 1.0,
            high: f64::INFINITY,
            interval: IntervalKind::Range,
            values: vec![1.0, f64::INFINITY, f64::INFINITY],
            attempts: Some(Attempts { due: 1_000, lost: 13 }),
        };
        let json = serde_json::to_value(&values).unwrap();
        assert!(json["median"].is_null() && json["low"] == 1.0 && json["values"][1].is_null(), "{json}");
        assert_eq!(serde_json::from_value::<Values>(json).unwrap(), values);
        assert_eq!(values.lost_in_words(), " (1.3 % lost)");
    }
}
