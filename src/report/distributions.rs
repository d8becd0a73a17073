//! Distributions from `histograms.hlog`: the merged histogram of each cell's valid trials, and each trial's
//! percentiles.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use hdrhistogram::Histogram;

use crate::{
    record::{Outcome, histograms},
    scenario::label,
    stats::{ReadError, Record, Summary},
};

/// Metrics whose distributions are in reports.
const METRICS: [&str; 4] = ["accept_wait", "response", "receive_wait", "connect"];
/// Metrics with a curve for each trial.
const CURVED: [&str; 2] = [ACCEPT_WAIT, "receive_wait"];
/// The metric that may be measured in two ways.
const ACCEPT_WAIT: &str = "accept_wait";

/// Percentiles in tables and hover texts: in percent, and as quantiles.
pub const NAMED: [(&str, f64); 9] = [
    ("50", 0.5),
    ("75", 0.75),
    ("90", 0.9),
    ("95", 0.95),
    ("99", 0.99),
    ("99.9", 0.999),
    ("99.99", 0.999_9),
    ("99.999", 0.999_99),
    ("99.9999", 0.999_999),
];
/// 1/(1 − q) where curves begin: strategies hardly differ below the 10th percentile.
pub const BEGIN: f64 = 1.0 / 0.9;
/// Points of a curve per nine.
const POINTS: i32 = 16;
/// Most nines of a curve.
const NINES: i32 = 7;

/// By metric, then by the summary's cell.
#[derive(Debug, Default)]
pub struct Distributions(pub BTreeMap<String, BTreeMap<usize, Distribution>>);

/// A metric of a cell's valid trials.
#[derive(Debug)]
pub struct Distribution {
    /// The values of all trials.
    pub merged: Histogram<u64>,
    /// Each trial's curve, for accept waits and receive waits.
    pub trials: Vec<Curve>,
}

/// A trial's percentiles.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Number of values.
    pub count: u64,
    /// The values at [`grid`] of that number, ns.
    pub values: Vec<f64>,
}

/// Merges the histograms of each cell's trials.
pub struct Collector {
    /// By trial: its cell, and whether it measured accept waits as the cell does.
    places: HashMap<usize, (usize, bool)>,
    distributions: Distributions,
}

impl Distributions {
    /// Reads the distributions from a record's folder.
    pub fn read(folder: &Path, record: &Record, summary: &Summary) -> Result<Self, ReadError> {
        let mut collector = Collector::new(record, summary);
        histograms::for_each_trial(folder, &METRICS, |trial, metric, part| collector.add(trial, metric, part))?;
        Ok(collector.distributions())
    }

    /// A metric of a cell, if any valid trial has it.
    pub fn of(&self, metric: &str, cell: usize) -> Option<&Distribution> {
        self.0.get(metric)?.get(&cell)
    }
}

impl Collector {
    pub fn new(record: &Record, summary: &Summary) -> Self {
        let cells: HashMap<String, usize> =
            summary.cells.iter().enumerate().map(|(number, cell)| (label(&cell.cell), number)).collect();
        let valid = record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid);
        let places = valid.filter_map(|trial| {
            let cell = *cells.get(&label(&trial.cell))?;
            // Exact waits and upper bounds are never mixed.
            let same = trial.latency_ns.accept_wait.method == summary.cells[cell].accept_wait_method;
            Some((trial.trial, (cell, same)))
        });
        Self { places: places.collect(), distributions: Distributions::default() }
    }

    /// Adds a trial's histogram.
    pub fn add(&mut self, trial: usize, metric: &str, part: Histogram<u64>) {
        let Some((cell, same_method)) = self.places.get(&trial) else { return };
        if part.is_empty() || metric == ACCEPT_WAIT && !same_method {
            return;
        }
        let curve = CURVED.contains(&metric).then(|| {
            let quantiles: Vec<f64> = grid(part.len()).iter().map(|rarity| 1.0 - 1.0 / rarity).collect();
            Curve { count: part.len(), values: values_at(&part, &quantiles) }
        });
        let cells = self.distributions.0.entry(metric.to_owned()).or_default();
        match cells.get_mut(cell) {
            None => drop(cells.insert(*cell, Distribution { merged: part, trials: curve.into_iter().collect() })),
            Some(distribution) => {
                // All have the same bounds.
                let _ = distribution.merged.add(part);
                distribution.trials.extend(curve);
            }
        }
    }

    /// The merged histograms.
    pub fn distributions(self) -> Distributions {
        self.distributions
    }
}

/// 1/(1 − q) of the points of a curve of `count` values, ascending. A longer curve has the same points and more.
pub fn grid(count: u64) -> Vec<f64> {
    let even = (0..=POINTS * NINES).map(|i| 10_f64.powf(f64::from(i) / f64::from(POINTS)));
    let named = NAMED.iter().map(|(_, q)| rarity(*q));
    let reached = |rarity: &f64| (BEGIN..=count as f64).contains(rarity);
    let mut grid: Vec<f64> = even.chain(named).chain([BEGIN]).filter(reached).collect();
    grid.sort_unstable_by(f64::total_cmp);
    grid.dedup_by(|one, other| (*one / *other - 1.0).abs() < 1e-6);
    grid
}

/// 1/(1 − q), without floating-point noise.
pub fn rarity(q: f64) -> f64 {
    (1e6 / (1.0 - q)).round() / 1e6
}

/// A histogram's values at ascending quantiles, in one pass. Each is what `Histogram::value_at_quantile` returns: the smallest
/// recorded value that at least this share of all values does not exceed.
pub fn values_at(histogram: &Histogram<u64>, quantiles: &[f64]) -> Vec<f64> {
    let total = histogram.len() as f64;
    let mut values = Vec::with_capacity(quantiles.len());
    let mut passed = 0;
    for step in histogram.iter_recorded() {
        passed += step.count_since_last_iteration();
        while values.len() < quantiles.len() {
            let wanted = ((quantiles[values.len()] * total).ceil() as u64).clamp(1, histogram.len());
            if passed < wanted {
                break;
            }
            values.push(histogram.highest_equivalent(step.value_iterated_to()) as f64);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::WaitMethod,
        stats::{self, fixture},
    };

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    #[test]
    fn one_pass_finds_what_the_histogram_says() {
        let histogram = histogram((0..5_000).map(|i| 1 + i * i * 977));
        let quantiles: Vec<f64> = grid(histogram.len()).iter().map(|rarity| 1.0 - 1.0 / rarity).collect();
        let expected: Vec<f64> = quantiles.iter().map(|q| histogram.value_at_quantile(*q) as f64).collect();
        assert_eq!(values_at(&histogram, &quantiles), expected);
    }

    #[test]
    fn a_curve_ends_with_its_values() {
        assert!(grid(1).is_empty());
        let grid = grid(1_000);
        assert_eq!(grid.last(), Some(&1_000.0));
        assert!(grid.contains(&2.0) && grid.contains(&100.0) && grid.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn only_valid_trials_of_the_cell_are_merged() {
        let cell = json!({"workers": 1});
        let outcomes = [Outcome::Valid, Outcome::Invalid, Outcome::Valid];
        let trials = (0..).zip(outcomes).map(|(number, outcome)| fixture::trial(number, &cell, outcome));
        let mut record = fixture::record(trials.collect());
        let collect = |record: &Record| {
            let mut collector = Collector::new(record, &stats::summarize(record));
            for trial in 0..4 {
                collector.add(trial, "response", histogram([trial as u64 * 1_000 + 1_000]));
                collector.add(trial, "accept_wait", histogram([trial as u64 * 1_000 + 1_000]));
            }
            collector.distributions()
        };
        let all = collect(&record);
        let response = all.of("response", 0).unwrap();
        assert_eq!((response.merged.len(), response.trials.len()), (2, 0));
        assert_eq!(all.of("accept_wait", 0).unwrap().trials.len(), 2);
        assert!(response.merged.equivalent(response.merged.max(), 3_000));
        assert!(all.of("response", 1).is_none() && all.of("connect", 0).is_none());
        record.raw.trials[2].latency_ns.accept_wait.method = Some(WaitMethod::ConnectCall);
        assert_eq!(collect(&record).of("accept_wait", 0).unwrap().merged.len(), 1, "another method");
    }
}
