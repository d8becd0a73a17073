//! Statistics of records: pure functions, with the trial as the unit.

mod comparison;
mod distribution;
mod estimate;
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

pub use comparison::{Compared, Difference, SIGNIFICANCE, compare_all};
pub use distribution::distribution;
pub use estimate::{Bootstrap, Interval, ascending, median};
pub use judge::RunVerdict;
pub use knee::knee;
pub use metrics::{Better, Column, METRICS, Metric, Unit, metric_named};
pub use precision::Precision;
pub use rank_sum::RankSum;
pub use record::{ReadError, Record};
pub use runs::{AgainstBaseline, CellPair, MetricPair, compare_runs};
pub use summary::{CellSummary, Comparison, Summary, comparable, compare_cells, compared_pairs, summarize};
pub use validity::drift_within;
