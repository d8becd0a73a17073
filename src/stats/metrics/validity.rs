//! Whether trials can be used.

use super::{Better::Higher, Metric, Unit::Share, exact};
use crate::record::Outcome;

pub(super) const METRICS: &[Metric] = &[exact(
    "valid_share",
    "share of valid trials",
    "Valid trials ÷ all trials of the cell.",
    Share,
    Higher,
    |trial| Some(f64::from(u8::from(trial.outcome == Outcome::Valid))),
)
.of_all_trials()];
