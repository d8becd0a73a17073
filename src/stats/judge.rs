//! The rules that give verdicts on several trials together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{
    metrics::Metric,
    precision::Precision,
    summary::CellSummary,
    validity::{Drift, drift_over, two_groups},
};
use crate::{
    record::{Grounds, Outcome, TrialRecord, VerdictName},
    scenario::label,
};

/// A verdict on several trials together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunVerdict {
    /// Name of the verdict.
    pub name: VerdictName,
    /// The cell's swept values; `null` for a verdict on the whole run.
    pub cell: Option<Map<String, Json>>,
    /// What it rests on, in numbers.
    pub detail: String,
}

impl RunVerdict {
    fn new(cell: Option<&Map<String, Json>>, grounds: &Grounds) -> Self {
        Self { name: grounds.name(), cell: cell.cloned(), detail: grounds.to_string() }
    }
}

/// The verdicts on a run whose trials come cell by cell.
pub(super) fn judge(
    trials: &[Vec<&TrialRecord>],
    cells: &[CellSummary],
    metric: &Metric,
    precision: Option<&Precision>,
    is_emulated: bool,
) -> Vec<RunVerdict> {
    let wide = precision.and_then(|precision| Some(RunVerdict::new(Some(&precision.widest), &wide(precision)?)));
    if is_emulated {
        // How its times scatter says nothing.
        return [RunVerdict::new(None, &Grounds::Emulated {})].into_iter().chain(wide).collect();
    }
    // A search's trials differ from repetition to repetition on purpose.
    let searched = |trials: &&Vec<&TrialRecord>| trials.iter().any(|trial| trial.search.is_some());
    let valid = |trials: &Vec<&TrialRecord>| -> Vec<(usize, f64)> {
        let valid = trials.iter().filter(|trial| trial.outcome == Outcome::Valid);
        valid.filter_map(|trial| Some((trial.repetition, metric.read(trial)?))).collect()
    };
    let over_time: Vec<_> = trials.iter().filter(|trials| !searched(trials)).map(valid).collect();
    let drift = drift(&over_time, metric).map(|grounds| RunVerdict::new(None, &grounds));
    let bimodal = cells.iter().filter_map(|cell| {
        let grounds = bimodal(label(&cell.cell), &cell.metrics.get(metric.name)?.values, metric)?;
        Some(RunVerdict::new(Some(&cell.cell), &grounds))
    });
    drift.into_iter().chain(bimodal).chain(wide).collect()
}

/// Each cell's values by repetition.
fn drift(cells: &[Vec<(usize, f64)>], metric: &Metric) -> Option<Grounds> {
    let Drift { change, p_value } = drift_over(cells)?;
    Some(Grounds::DriftOverRepetitions { metric: metric.label, change, p_value })
}

fn bimodal(cell: String, values: &[f64], metric: &Metric) -> Option<Grounds> {
    let (low, high) = two_groups(values)?;
    let low_trials = values.iter().filter(|value| (*value - low).abs() < (*value - high).abs()).count();
    let (metric, low, high) = (metric.label, metric.unit.show(low), metric.unit.show(high));
    Some(Grounds::Bimodal { cell, metric, low_trials, trials: values.len(), low, high })
}

fn wide(precision: &Precision) -> Option<Grounds> {
    let Precision { relative_error: asked, reached, trials, .. } = *precision;
    (!precision.narrow).then(|| Grounds::IntervalWide { cell: label(&precision.widest), asked, reached, trials })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{fixture, metrics::metric_named},
        *,
    };

    #[test]
    fn an_emulated_run_has_one_verdict_and_its_times_none() {
        let metric = metric_named("accepted_per_s").unwrap();
        let trial = |number| TrialRecord { cell_index: 0, ..fixture::trial(number, &json!({}), Outcome::Valid) };
        let trials: Vec<TrialRecord> = (0..9).map(trial).collect();
        let verdicts = |is_emulated| judge(&[trials.iter().collect()], &[], metric, None, is_emulated);
        let names = |is_emulated| verdicts(is_emulated).iter().map(|one| one.name).collect::<Vec<_>>();
        assert_eq!(names(false), [VerdictName::DriftOverRepetitions]);
        assert_eq!(names(true), [VerdictName::Emulated]);
    }

    #[test]
    fn a_run_that_drifts() {
        let metric = metric_named("accepted_per_s").unwrap();
        let over = |repetitions, slope: f64| {
            let cell: Vec<_> = (0..repetitions).map(|n| (n, 100.0 + slope * n as f64)).collect();
            drift(&[cell], metric).map(|grounds| grounds.to_string())
        };
        // Of 5! orders, two are monotone: p = 0.017.
        let said = "accepts: +4.0 % from the first repetition to the last, over all cells (p = 0.017)";
        assert_eq!(over(5, 1.0).as_deref(), Some(said));
        assert!(over(30, 1.0).unwrap().ends_with("over all cells (p < 0.0001)"));
        assert_eq!(over(4, 1.0), None, "too few repetitions");
        assert_eq!(over(5, 0.7), None, "under 3 %");
    }

    #[test]
    fn a_cell_of_two_kinds() {
        let metric = metric_named("accepted_per_s").unwrap();
        let said = |values: &[f64]| bimodal("workers=2".to_owned(), values, metric).map(|grounds| grounds.to_string());
        assert_eq!(said(&[100.0, 100.0, 100.0, 150.0, 150.0, 150.0]), None, "too few trials");
        let groups = said(&[100.0, 150.0, 100.0, 100.0, 150.0, 100.0, 150.0]).unwrap();
        assert_eq!(groups, "workers=2: accepts: 4 of 7 trials lie near 100/s, the others near 150/s");
    }

    #[test]
    fn intervals_that_stay_wide() {
        let widest = serde_json::from_str(r#"{"workers": 2}"#).unwrap();
        let precision = Precision { relative_error: 0.02, reached: Some(0.031), widest, trials: 9, narrow: false };
        let said = |precision: Precision| wide(&precision).map(|grounds| grounds.to_string());
        assert_eq!(said(Precision { narrow: true, ..precision.clone() }), None);
        let few = said(Precision { reached: None, ..precision.clone() }).unwrap();
        assert_eq!(few, "workers=2: ±2.0 % was asked for; 9 valid trials give no interval");
        assert_eq!(said(precision).unwrap(), "workers=2: ±2.0 % was asked for; 9 valid trials reached ±3.1 %");
    }
}
