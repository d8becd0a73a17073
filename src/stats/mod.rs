//! Pure mathematics on records. The unit is the trial.

mod distribution;
mod knee;
mod summary;

pub use distribution::distribution;
pub use knee::knee;
pub use summary::{CellSummary, METRICS, Metric, Summary, Values, summarize};
