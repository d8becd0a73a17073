//! Whether intervals are as narrow as a scenario's `stop.relative_error` asks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{metrics::Metric, record::Record, summary::CellSummary};
use crate::{
    record::{IntervalKind, Values},
    scenario::{Stop, Until},
};

/// How narrow the intervals of the headline's metric became.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Precision {
    /// The scenario's `stop.relative_error`.
    pub relative_error: f64,
    /// Half the widest cell's interval ÷ its median; `null` while there are too few trials for an interval, or
    /// an end of it was not reached.
    pub reached: Option<f64>,
    /// That cell.
    pub widest: Map<String, Json>,
    /// Valid trials of that cell.
    pub trials: usize,
    /// Whether the intervals of all cells are as narrow as asked.
    pub narrow: bool,
}

/// Half an interval's width ÷ its median; `None` if it is not a confidence interval.
fn relative_error(values: &Values) -> Option<f64> {
    let half = (values.high - values.low) / 2.0;
    let error = if half == 0.0 { 0.0 } else { half / values.median.abs() };
    (values.interval == IntervalKind::Bootstrap && error.is_finite()).then_some(error)
}

/// How narrow the intervals are; `None` if the scenario does not ask or no trial is valid.
pub(super) fn of(record: &Record, cells: &[CellSummary], metric: &Metric) -> Option<Precision> {
    let Stop { until: Until::Precise(asked), .. } = *record.whole.stop.as_ref()? else { return None };
    let known = cells.iter().filter_map(|cell| Some((cell, relative_error(cell.metrics.get(metric.name)?))));
    let width = |error: Option<f64>| error.unwrap_or(f64::INFINITY);
    let (cell, reached) = known.max_by(|(_, one), (_, other)| width(*one).total_cmp(&width(*other)))?;
    Some(Precision {
        relative_error: asked,
        reached,
        widest: cell.cell.clone(),
        trials: cell.valid,
        narrow: width(reached) <= asked,
    })
}
