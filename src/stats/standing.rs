//! The order of cells in a ranking by a metric.

use std::cmp::Ordering;

use super::metrics::{Better, Metric};
use crate::record::Values;

/// A cell's place among others: the least is the best.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    class: u8,
    badness: f64,
    lost: f64,
}

impl Standing {
    /// Orders two cells; `Equal` where the metric does not tell them apart.
    pub fn order(&self, other: &Self) -> Ordering {
        let medians = self.badness.total_cmp(&other.badness);
        self.class.cmp(&other.class).then(medians).then(self.lost.total_cmp(&other.lost))
    }
}

/// The standing of a cell with these values, or without any. Of medians that were not reached, the one with fewer lost attempts is better; a
/// limit that was not met is better than any that was; what has no valid trial is last.
pub fn standing(metric: &Metric, values: Option<&Values>, is_valid: bool) -> Standing {
    let (class, badness, lost) = match (values, metric.better) {
        (None, _) if is_valid && metric.is_limit() => (0, 0.0, 0.0),
        (Some(values), Better::Lower) => (1, values.median, values.lost()),
        (Some(values), Better::Higher | Better::Neither) => (1, -values.median, values.lost()),
        (None, _) if is_valid => (2, 0.0, 0.0),
        (None, _) => (3, 0.0, 0.0),
    };
    Standing { class, badness, lost }
}
