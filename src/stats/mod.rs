//! Pure mathematics on records. The unit is the trial.

mod distribution;
mod summary;

pub use distribution::distribution;
pub use summary::{CellSummary, METRICS, Metric, Summary, Values, summarize};
