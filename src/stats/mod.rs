//! Statistics of records: pure functions, with the trial as the unit.

mod changes;
mod comparison;
mod decision;
mod design;
mod distribution;
mod estimate;
#[cfg(test)]
pub mod fixture;
mod holm;
mod judge;
mod knee;
mod looks;
mod metrics;
mod precision;
mod rank_sum;
mod record;
mod runs;
pub mod search;
#[cfg(test)]
mod sequential;
mod standing;
mod summary;
#[cfg(test)]
mod synthetic;
mod validity;
mod waits;

pub use changes::{Change, Course, Courses, LATEST, SIDE, courses};
pub use comparison::{Compared, Difference, SIGNIFICANCE};
pub use decision::Decision;
pub use design::{Design, RECORDS};
pub use distribution::distribution;
#[cfg(test)]
pub use distribution::pooled;
pub use estimate::{Bootstrap, VALUES_FOR_RATIO, ascending, median};
pub use knee::knee;
pub use looks::Looks;
pub use metrics::{
    Better, Column, Kind, METRICS, Metric, Unit, metric_named, metrics_named, metrics_with, ports_taken, unknown_metric,
};
pub use rank_sum::RankSum;
pub use record::{ReadError, Record};
pub use runs::{AgainstBaseline, Asked, CellPair, MetricPair, NotCompared, Trials, Verdict, WhyNot, compare_runs};
pub use standing::standing;
#[cfg(test)]
pub use summary::compare_cells;
pub use summary::{CellSummary, Comparison, Summary, asks_about_failures, summarize, tests_between, tests_of};
pub use validity::drift_within;
pub use waits::{Waits, until};
