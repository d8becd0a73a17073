//! Compares runs: the same cells in two or more records.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{
    comparison::{Compared, compare_all},
    estimate::Bootstrap,
    metrics::{Better, Metric},
    rank_sum::RankSum,
    summary::{CellSummary, Summary, comparable},
};
use crate::record::Values;

/// A run compared with the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgainstBaseline {
    /// Cells that both runs have.
    pub cells: Vec<CellPair>,
    /// Swept values of cells that only the baseline has.
    pub only_in_baseline: Vec<Map<String, Json>>,
    /// Swept values of cells that only this run has.
    pub only_here: Vec<Map<String, Json>>,
}

/// A cell in both runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CellPair {
    /// Its swept values.
    pub cell: Map<String, Json>,
    /// Whether the baseline's accept waits are upper bounds. They are then compared only with upper bounds.
    pub bounds: bool,
    /// Metric by metric.
    pub metrics: Vec<MetricPair>,
    /// Metrics that are not compared because only one run has them, or because accept waits are exact in one run and upper bounds
    /// in the other.
    pub not_compared: Vec<String>,
}

/// A metric of a cell in both runs: `a` in the baseline, `b` in the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricPair {
    /// By name.
    pub metric: String,
    /// In the baseline.
    pub a: Values,
    /// In the run.
    pub b: Values,
    /// By how much they differ, and whether that was shown.
    #[serde(flatten)]
    pub compared: Compared,
}

impl MetricPair {
    /// How much worse the run's median is, as a part of the baseline's; negative if better, infinite if the baseline's is 0.
    pub fn worse_by(&self, metric: &Metric) -> f64 {
        let change = (self.b.median - self.a.median) / self.a.median.abs();
        let change = if change.is_nan() { 0.0 } else { change };
        if metric.better == Better::Higher { -change } else { change }
    }

    /// Whether the run was shown to be worse.
    pub fn is_shown_worse(&self, metric: &Metric) -> bool {
        self.compared.verdict.is_shown() && self.worse_by(metric) > 0.0
    }
}

/// Compares runs with a baseline. Holm's correction for a metric is over all cells of all runs.
pub fn compare_runs(baseline: &Summary, runs: &[&Summary], metrics: &[&Metric]) -> Vec<AgainstBaseline> {
    let find = |summary: &'_ Summary, cell: &Map<String, Json>| summary.cells.iter().position(|one| one.cell == *cell);
    let mut results: Vec<AgainstBaseline> = runs
        .iter()
        .map(|run| {
            let only = |these: &Summary, those: &Summary| {
                let missing = these.cells.iter().filter(|cell| find(those, &cell.cell).is_none());
                missing.map(|cell| cell.cell.clone()).collect()
            };
            let both = baseline.cells.iter().filter(|cell| find(run, &cell.cell).is_some());
            let pair = |cell: &CellSummary| CellPair {
                cell: cell.cell.clone(),
                bounds: cell.waits_are_bounds(),
                metrics: Vec::new(),
                not_compared: Vec::new(),
            };
            AgainstBaseline {
                cells: both.map(pair).collect(),
                only_in_baseline: only(baseline, run),
                only_here: only(run, baseline),
            }
        })
        .collect();
    let (mut bootstrap, mut tests) = (Bootstrap::new(baseline.interval.seed), RankSum::new(baseline.interval.seed));
    for metric in metrics {
        // For each comparison: the run, the cell in it, and the two cells compared.
        let mut places = Vec::new();
        for (number, (run, result)) in runs.iter().zip(&mut results).enumerate() {
            for (place, pair) in result.cells.iter_mut().enumerate() {
                let cell = |summary: &'_ Summary| find(summary, &pair.cell).map(|at| summary.cells[at].clone());
                let (Some(a), Some(b)) = (cell(baseline), cell(run)) else { continue };
                match (a.metrics.get(metric.name), b.metrics.get(metric.name)) {
                    (Some(of_a), Some(of_b)) if comparable(metric, &a, &b) => {
                        places.push((number, place, of_a.clone(), of_b.clone()));
                    }
                    (None, None) => {}
                    _ => pair.not_compared.push(metric.name.to_owned()),
                }
            }
        }
        let samples: Vec<&[f64]> = places.iter().flat_map(|(_, _, a, b)| [&a.values[..], &b.values[..]]).collect();
        let pairs: Vec<(usize, usize)> = (0..places.len()).map(|pair| (2 * pair, 2 * pair + 1)).collect();
        let compared = compare_all(&samples, &pairs, &mut bootstrap, &mut tests);
        for ((run, place, a, b), compared) in places.into_iter().zip(compared) {
            results[run].cells[place].metrics.push(MetricPair { metric: metric.name.to_owned(), a, b, compared });
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{Difference, fixture, metric_named, summarize, synthetic::Noise},
        *,
    };
    use crate::record::{Outcome, TrialRecord};

    const EXPERIMENTS: usize = 1_500;
    const METRICS: [&str; 2] = ["accepted_per_s", "accept_wait_p99"];

    /// Runs of four cells whose metrics vary by 5 %.
    struct Machine {
        template: Summary,
        noise: Noise,
    }

    impl Machine {
        fn new() -> Self {
            let trial = |cell| TrialRecord {
                cell_index: cell,
                ..fixture::trial(cell, &json!({ "workers": cell }), Outcome::Valid)
            };
            let template = summarize(&fixture::record((0..4).map(trial).collect()));
            Self { template, noise: Noise::new(17) }
        }

        fn run(&mut self, trials: usize, level: f64) -> Summary {
            let mut summary = self.template.clone();
            for values in summary.cells.iter_mut().flat_map(|cell| cell.metrics.values_mut()) {
                values.values = self.noise.sample(trials, values.median * level, 0.05, false);
            }
            summary
        }

        /// What a run at some level shows against another at level 1, metric by metric.
        fn verdicts(&mut self, trials: usize, level: f64) -> [Vec<Difference>; 2] {
            let metrics = METRICS.map(|name| metric_named(name).unwrap());
            let (a, b) = (self.run(trials, 1.0), self.run(trials, level));
            let result = &compare_runs(&a, &[&b], &metrics)[0];
            metrics.map(|metric| {
                let pairs = result.cells.iter().flat_map(|cell| &cell.metrics);
                pairs.filter(|pair| pair.metric == metric.name).map(|pair| pair.compared.verdict).collect()
            })
        }
    }

    #[test]
    #[cfg_attr(debug_assertions, ignore = "takes minutes without --release")]
    fn simulated_runs_raise_few_false_alarms() {
        let mut machine = Machine::new();
        for trials in [5, 10] {
            let mut alarms = [0; 2];
            for _ in 0..EXPERIMENTS {
                for (alarms, verdicts) in alarms.iter_mut().zip(machine.verdicts(trials, 1.0)) {
                    assert_eq!(verdicts.len(), 4);
                    // Any of the four cells counts: the correction is over all of them.
                    *alarms += usize::from(verdicts.iter().any(|verdict| verdict.is_shown()));
                }
            }
            for alarms in alarms {
                assert!(alarms as f64 <= 0.06 * EXPERIMENTS as f64, "{alarms} of {EXPERIMENTS} with {trials} trials");
            }
        }
    }

    #[test]
    fn simulated_runs_hide_no_difference() {
        let mut machine = Machine::new();
        let mut found = 0;
        for _ in 0..100 {
            let verdicts = machine.verdicts(10, 1.2).concat();
            found += verdicts.iter().filter(|verdict| **verdict == Difference::BHigher).count();
        }
        assert!(found >= 760, "found {found} of 800 true differences of a fifth");
    }
}
