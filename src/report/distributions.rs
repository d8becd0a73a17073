//! Distributions from `histograms.hlog`: the merged histogram of each cell's valid trials, and each trial's
//! percentiles.

use std::collections::{BTreeMap, HashMap};

use crate::{
    record::{
        Counts, Outcome, TrialRecord,
        histograms::{Name, Part},
    },
    scenario::label,
    stats::{Record, Summary},
};

/// Metrics whose distributions are in reports.
const METRICS: [&str; 4] = ["accept_wait", "response", "receive_wait", "connect"];
/// The metric of each population whose distribution is in reports.
const OF_POPULATIONS: &str = "response";
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

/// By metric, `response` or, of a population, `kept.response`; then by the summary's cell.
#[derive(Debug, Default)]
pub struct Distributions(pub BTreeMap<String, BTreeMap<usize, Distribution>>);

/// A metric of a cell's valid trials.
#[derive(Debug)]
pub struct Distribution {
    /// The values of all trials.
    pub merged: Counts,
    /// Attempts beside them that were due in these trials and have no value.
    pub lost: u64,
    /// Each trial's curve, for accept waits, receive waits and what populations have.
    pub trials: Vec<Curve>,
}

/// A trial's percentiles.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Number of values.
    pub count: u64,
    /// The values at [`grid`] of that number and of what was lost, ns.
    pub values: Vec<f64>,
}

/// Merges the histograms of each cell's trials.
pub struct Collector {
    /// By trial.
    places: HashMap<usize, Place>,
    collected: Vec<Collected>,
    distributions: Distributions,
}

/// A metric that is collected.
struct Collected {
    key: String,
    population: Option<String>,
    metric: &'static str,
}

impl Collected {
    /// All of a record with these populations.
    fn all(populations: &[&str]) -> Vec<Self> {
        let of_trials = METRICS.map(|metric| Self { key: metric.to_owned(), population: None, metric });
        let of_populations = populations.iter().map(|population| Self {
            key: of_population(population, OF_POPULATIONS),
            population: Some((*population).to_owned()),
            metric: OF_POPULATIONS,
        });
        of_trials.into_iter().chain(of_populations).collect()
    }

    /// Whether trials have a curve each.
    fn is_curved(&self) -> bool {
        self.population.is_some() || [ACCEPT_WAIT, "receive_wait"].contains(&self.metric)
    }

    /// A trial's attempts beside the values that have none.
    fn lost(&self, trial: &TrialRecord) -> u64 {
        let latencies = match &self.population {
            None => Some(&trial.latency_ns),
            Some(name) => trial.populations().iter().find(|load| load.name == *name).map(|load| &load.latency_ns),
        };
        let of = latencies.map(|all| match self.metric {
            ACCEPT_WAIT => &all.accept_wait,
            "response" => &all.response,
            "connect" => &all.connect,
            _ => &all.receive_wait,
        });
        of.map_or(0, |of| of.lost)
    }
}

/// The key of a population's metric.
pub fn of_population(population: &str, metric: &str) -> String {
    format!("{population}.{metric}")
}

/// What the collector knows of a trial.
struct Place {
    cell: usize,
    /// Whether it measured accept waits as the cell does.
    same_method: bool,
    /// What each collected metric has lost.
    lost: Vec<u64>,
    /// Which of them have their curve: a damaged log may come back to a trial.
    curved: Vec<bool>,
}

impl Distributions {
    /// A metric of a cell, if any valid trial has it.
    pub fn of(&self, metric: &str, cell: usize) -> Option<&Distribution> {
        self.0.get(metric)?.get(&cell)
    }
}

/// Merges a log's parts into one histogram per trial and metric. Only one trial's are in memory at a time.
pub struct Merger {
    collector: Collector,
    /// The trial of the latest parts, and their sums by metric.
    trial: usize,
    sums: BTreeMap<String, Counts>,
}

impl Merger {
    pub fn new(record: &Record, summary: &Summary) -> Self {
        Self { collector: Collector::new(record, summary), trial: 0, sums: BTreeMap::new() }
    }

    /// Adds a part, in the log's order.
    pub fn add(&mut self, part: Part<'_>) {
        if part.trial != self.trial {
            self.end_trial();
            self.trial = part.trial;
        }
        let Name { population, metric, .. } = part.name;
        let is_of = |one: &&Collected| {
            one.metric == metric && one.population.as_deref().is_none_or(|name| population == Some(name))
        };
        for Collected { key, .. } in self.collector.collected.iter().filter(is_of) {
            match self.sums.get_mut(key) {
                None => drop(self.sums.insert(key.clone(), part.counts.clone())),
                Some(sum) => sum.add(&part.counts),
            }
        }
    }

    fn end_trial(&mut self) {
        for (metric, sum) in std::mem::take(&mut self.sums) {
            self.collector.add(self.trial, &metric, &sum);
        }
    }

    pub fn distributions(mut self) -> Distributions {
        self.end_trial();
        self.collector.distributions()
    }
}

impl Collector {
    pub fn new(record: &Record, summary: &Summary) -> Self {
        let cells: HashMap<String, usize> =
            summary.cells.iter().enumerate().map(|(number, cell)| (label(&cell.cell), number)).collect();
        let collected = Collected::all(&record.populations());
        let valid = record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid);
        let places = valid.filter_map(|trial| {
            let cell = *cells.get(&label(&trial.cell))?;
            // Exact waits and upper bounds are never mixed.
            let same = trial.latency_ns.accept_wait.method == summary.cells[cell].accept_wait_method;
            let lost = collected.iter().map(|one| one.lost(trial)).collect();
            Some((trial.trial, Place { cell, same_method: same, lost, curved: vec![false; collected.len()] }))
        });
        Self { places: places.collect(), collected, distributions: Distributions::default() }
    }

    /// Adds a trial's histogram.
    pub fn add(&mut self, trial: usize, metric: &str, part: &Counts) {
        let Some(Place { cell, same_method, lost, curved }) = self.places.get_mut(&trial) else { return };
        let Some(at) = self.collected.iter().position(|one| one.key == metric) else { return };
        if part.is_empty() || metric == ACCEPT_WAIT && !*same_method {
            return;
        }
        let lost = lost[at];
        let curve = (self.collected[at].is_curved() && !std::mem::replace(&mut curved[at], true)).then(|| {
            let quantiles: Vec<f64> = grid(part.len(), lost).iter().map(|rarity| 1.0 - 1.0 / rarity).collect();
            Curve { count: part.len(), values: values_at(part, lost, &quantiles) }
        });
        let cells = self.distributions.0.entry(metric.to_owned()).or_default();
        match cells.get_mut(&*cell) {
            None => {
                let trials = curve.into_iter().collect();
                cells.insert(*cell, Distribution { merged: part.clone(), lost: 0, trials });
            }
            Some(distribution) => {
                distribution.merged.add(part);
                distribution.trials.extend(curve);
            }
        }
    }

    /// The merged histograms.
    pub fn distributions(mut self) -> Distributions {
        // A trial without any value has no histogram, but may have lost all the more.
        for (metric, cells) in &mut self.distributions.0 {
            let Some(at) = self.collected.iter().position(|one| one.key == *metric) else { continue };
            for Place { cell, same_method, lost, .. } in self.places.values() {
                if let (Some(of), true) = (cells.get_mut(cell), metric != ACCEPT_WAIT || *same_method) {
                    of.lost += lost[at];
                }
            }
        }
        self.distributions
    }
}

/// 1/(1 − q) of the points of a curve of `count` values beside which `lost` attempts have none, ascending: it ends with the values. A
/// longer curve has the same points and more.
pub fn grid(count: u64, lost: u64) -> Vec<f64> {
    let due = count + lost;
    let even = (0..=POINTS * NINES).map(|i| 10_f64.powf(f64::from(i) / f64::from(POINTS)));
    let named = NAMED.iter().map(|(_, q)| rarity(*q));
    let reached = |rarity: &f64| (BEGIN..=due as f64).contains(rarity) && rank(1.0 - 1.0 / rarity, due) <= count;
    let mut grid: Vec<f64> = even.chain(named).chain([BEGIN]).filter(reached).collect();
    grid.sort_unstable_by(f64::total_cmp);
    grid.dedup_by(|one, other| (*one / *other - 1.0).abs() < 1e-6);
    grid
}

/// 1/(1 − q), without floating-point noise.
pub fn rarity(q: f64) -> f64 {
    (1e6 / (1.0 - q)).round() / 1e6
}

/// How many attempts this share of all is.
fn rank(quantile: f64, due: u64) -> u64 {
    ((quantile * due as f64).ceil() as u64).clamp(1, due.max(1))
}

/// A histogram's values at ascending quantiles, in one pass. Each is the smallest recorded value that at least this share of all
/// attempts does not exceed. They end with the values.
pub fn values_at(histogram: &Counts, lost: u64, quantiles: &[f64]) -> Vec<f64> {
    let due = histogram.len() + lost;
    let mut values = Vec::with_capacity(quantiles.len());
    let mut passed = 0;
    for (value, count) in histogram.recorded() {
        passed += count;
        while values.len() < quantiles.len() {
            if passed < rank(quantiles[values.len()], due) {
                break;
            }
            values.push(value as f64);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
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
        let quantiles: Vec<f64> = grid(histogram.len(), 0).iter().map(|rarity| 1.0 - 1.0 / rarity).collect();
        let expected: Vec<f64> = quantiles.iter().map(|q| histogram.value_at_quantile(*q) as f64).collect();
        assert_eq!(values_at(&Counts::of(&histogram), 0, &quantiles), expected);
    }

    #[test]
    fn a_curve_ends_with_its_values() {
        assert!(grid(1, 0).is_empty());
        // Of 1,000 due, 40 are lost: the 96th percentile is the last with a value.
        let short = grid(960, 40);
        assert!(short.last().is_some_and(|last| *last <= 25.0) && short.contains(&20.0), "{short:?}");
        let long = histogram((1..=960).map(|i| i * 1_000));
        let values = values_at(&Counts::of(&long), 40, &[0.5, 0.95, 0.97]);
        assert!(values.len() == 2 && long.equivalent(values[1] as u64, 950_000), "{values:?}");
        let grid = grid(1_000, 0);
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
                let counts = Counts::of(&histogram([trial as u64 * 1_000 + 1_000]));
                collector.add(trial, "response", &counts);
                collector.add(trial, "accept_wait", &counts);
            }
            collector.distributions()
        };
        let all = collect(&record);
        let response = all.of("response", 0).unwrap();
        assert_eq!((response.merged.len(), response.trials.len()), (2, 0));
        assert_eq!(all.of("accept_wait", 0).unwrap().trials.len(), 2);
        assert!(response.merged.max().abs_diff(3_000) <= 3);
        assert!(all.of("response", 1).is_none() && all.of("connect", 0).is_none());
        record.raw.trials[2].latency_ns.accept_wait.method = Some(WaitMethod::ConnectCall);
        assert_eq!(collect(&record).of("accept_wait", 0).unwrap().merged.len(), 1, "another method");
    }
}
