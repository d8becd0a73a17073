//! Statistics of records: pure functions, with the trial as the unit.

mod comparison;
mod distribution;
mod estimate;
#[cfg(test)]
pub mod fixture;
mod holm;
mod judge;
mod knee;
mod metrics;
mod precision;
mod rank_sum;
mod record;
mod runs;
pub mod search;
mod summary;
#[cfg(test)]
mod synthetic;
mod validity;

pub use comparison::{Compared, Difference, SIGNIFICANCE};
pub use distribution::distribution;
pub use estimate::{Bootstrap, ascending, median};
pub use knee::knee;
pub use metrics::{Better, Column, METRICS, Metric, Unit, metric_named};
pub use rank_sum::RankSum;
pub use record::{ReadError, Record};
pub use runs::{AgainstBaseline, CellPair, MetricPair, compare_runs};
#[cfg(test)]
pub use summary::compare_cells;
pub use summary::{CellSummary, Comparison, Summary, compared_pairs, summarize};
pub use validity::drift_within;
