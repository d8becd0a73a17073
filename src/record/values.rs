//! A metric over several trials: its median and the interval around it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A metric over the valid trials of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Values {
    /// Median of `values`; the mean of the two middle values if their number is even.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// What `low` and `high` are.
    pub interval: IntervalKind,
    /// One value per valid trial, in order of repetition.
    pub values: Vec<f64>,
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
