//! A record in a few numbers: each cell's medians with intervals, comparisons of cells, and verdicts.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{
    comparison::{Compared, compare_all},
    estimate::{Bootstrap, LEVEL, RESAMPLES, TRIALS_FOR_INTERVAL, ascending, median},
    judge::{self, RunVerdict},
    metrics::{METRICS, Metric, metric_named, per},
    precision::{self, Precision},
    rank_sum::RankSum,
    record::Record,
    search::{self, Found},
};
use crate::record::{Outcome, SCHEMA, Stage, TrialRecord, Values, VerdictName, WaitMethod};

/// `summary.json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Version of the schema.
    pub schema: u32,
    /// Name of the scenario.
    pub scenario: String,
    /// The machine, from `host.json`.
    pub host: Json,
    /// The metric that ranks the cells: the scenario's `metric`, or with `auto` one that fits what was run.
    pub metric: String,
    /// What `low` and `high` of metrics and comparisons are.
    pub interval: IntervalMethod,
    /// In the order of the scenario's matrix.
    pub cells: Vec<CellSummary>,
    /// Pairs of cells that differ in one swept key, metric by metric.
    pub comparisons: Vec<Comparison>,
    /// Verdicts on the run as a whole, or on all trials of a cell together.
    pub verdicts: Vec<RunVerdict>,
    /// With `[search]`: the result for each combination of the other swept values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<Found>,
    /// With `[stop]`: whether intervals became as narrow as asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
}

/// How intervals were computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IntervalMethod {
    /// `bootstrap-percentile`: of the median, or of the ratio or difference of two medians.
    pub method: String,
    /// Confidence level.
    pub level: f64,
    /// Resamples.
    pub resamples: usize,
    /// Their seed: the record's.
    pub seed: u64,
    /// With fewer trials, `low` and `high` are the smallest and the largest value.
    pub trials_at_least: usize,
}

/// One cell.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CellSummary {
    /// Swept values by short name.
    pub cell: Map<String, Json>,
    /// Trials whose figures are in `metrics`.
    pub valid: usize,
    /// Trials that ran, but whose figures must not be used.
    pub invalid: usize,
    /// Trials that did not run to their end.
    pub failed: usize,
    /// Verdicts on its trials, with the number of trials that have them.
    pub verdicts: BTreeMap<VerdictName, usize>,
    /// `sock_ops` if accept waits are exact, `connect-call` if they are upper bounds; `null` without any.
    pub accept_wait_method: Option<WaitMethod>,
    /// Mean length of each stage over the first replies of all valid trials, ns. They add up to the mean response.
    pub stage_means_ns: IndexMap<Stage, f64>,
    /// Each worker's share of all accepts, in the order in which workers registered. Medians over the valid trials; empty without
    /// connections.
    pub share_by_rank: Vec<f64>,
    /// By name: the metrics that any valid trial has.
    pub metrics: IndexMap<String, Values>,
}

/// Two cells compared by a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// By name.
    pub metric: String,
    /// The first cell's swept values.
    pub a: Map<String, Json>,
    /// The second cell's swept values.
    pub b: Map<String, Json>,
    /// By how much they differ, and whether that was shown.
    #[serde(flatten)]
    pub compared: Compared,
}

impl CellSummary {
    /// Whether its accept waits are upper bounds.
    pub fn waits_are_bounds(&self) -> bool {
        self.accept_wait_method == Some(WaitMethod::ConnectCall)
    }

    /// Whether a metric's values are upper bounds.
    pub fn bounds(&self, metric: &Metric) -> bool {
        metric.is_accept_wait() && self.waits_are_bounds()
    }
}

impl Summary {
    /// The comparison of cell `b` with cell `a` by a metric; `None` if they were not compared.
    pub fn between(&self, metric: &str, a: &Map<String, Json>, b: &Map<String, Json>) -> Option<Compared> {
        self.comparisons.iter().filter(|comparison| comparison.metric == metric).find_map(|comparison| {
            if comparison.a == *a && comparison.b == *b {
                return Some(comparison.compared.clone());
            }
            (comparison.a == *b && comparison.b == *a).then(|| comparison.compared.reversed())
        })
    }
}

/// With more pairs than this, each cell is compared only with the first of those that differ from it in the same key.
const PAIRS_LIMIT: usize = 2_000;

/// Summarizes a record.
pub fn summarize(record: &Record) -> Summary {
    let mut bootstrap = Bootstrap::new(record.whole.seed);
    let groups = groups(&record.trials);
    let cells: Vec<CellSummary> = groups.iter().map(|trials| cell(trials, &mut bootstrap)).collect();
    let metric = ranking_metric(record, &cells);
    let precision = precision::of(record, &cells, metric);
    let verdicts = judge::judge(&groups, &cells, metric, precision.as_ref());
    Summary {
        schema: SCHEMA,
        scenario: record.trials.first().map_or_else(String::new, |trial| trial.scenario.clone()),
        host: record.host.clone(),
        metric: metric.name.to_owned(),
        interval: IntervalMethod {
            method: "bootstrap-percentile".to_owned(),
            level: LEVEL,
            resamples: RESAMPLES,
            seed: record.whole.seed,
            trials_at_least: TRIALS_FOR_INTERVAL,
        },
        comparisons: compare_cells(&cells, record.whole.seed),
        cells,
        verdicts,
        searches: search::found(record),
        precision,
    }
}

/// The trials of each cell, in the order of the matrix. In a search, each value tried is a cell.
fn groups(trials: &[TrialRecord]) -> Vec<Vec<&TrialRecord>> {
    let mut cells: Vec<(usize, f64, Vec<&TrialRecord>)> = Vec::new();
    for trial in trials {
        let tried = trial.search.as_ref().map_or(0.0, |search| search.value);
        match cells.iter_mut().find(|(index, value, _)| *index == trial.cell_index && *value == tried) {
            Some((_, _, trials)) => trials.push(trial),
            None => cells.push((trial.cell_index, tried, vec![trial])),
        }
    }
    cells.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
    cells.into_iter().map(|(_, _, trials)| trials).collect()
}

fn cell(trials: &[&TrialRecord], bootstrap: &mut Bootstrap) -> CellSummary {
    let with = |outcome| trials.iter().filter(move |trial| trial.outcome == outcome);
    let mut verdicts = BTreeMap::new();
    for verdict in trials.iter().flat_map(|trial| &trial.verdicts) {
        *verdicts.entry(verdict.name).or_default() += 1;
    }
    let metrics = METRICS.iter().filter_map(|metric| {
        let values = with(Outcome::Valid).filter_map(|trial| (metric.read)(trial)).collect();
        Some((metric.name.to_owned(), bootstrap.estimate(values)?))
    });
    CellSummary {
        cell: trials[0].cell.clone(),
        metrics: metrics.collect(),
        valid: with(Outcome::Valid).count(),
        invalid: with(Outcome::Invalid).count(),
        failed: with(Outcome::Failed).count(),
        verdicts,
        accept_wait_method: with(Outcome::Valid)
            .find(|trial| trial.latency_ns.accept_wait.count > 0)
            .and_then(|trial| trial.latency_ns.accept_wait.method),
        stage_means_ns: stage_means_ns(trials),
        share_by_rank: share_by_rank(trials),
    }
}

/// The mean of each stage over all valid trials.
fn stage_means_ns(trials: &[&TrialRecord]) -> IndexMap<Stage, f64> {
    let mut sums: IndexMap<Stage, (f64, u64)> = IndexMap::new();
    for trial in trials.iter().filter(|trial| trial.outcome == Outcome::Valid) {
        for (stage, figures) in &trial.stages_ns {
            let (sum, count) = sums.entry(*stage).or_default();
            *sum += figures.mean as f64 * figures.count as f64;
            *count += figures.count;
        }
    }
    sums.into_iter().map(|(stage, (sum, count))| (stage, sum / count as f64)).collect()
}

/// Each worker's share of all accepts in the order of registration: the median over the valid trials.
fn share_by_rank(trials: &[&TrialRecord]) -> Vec<f64> {
    let valid = || trials.iter().filter(|trial| trial.outcome == Outcome::Valid && trial.connections.accepted > 0);
    let share = |trial: &TrialRecord, rank: usize| {
        let worker = trial.workers.iter().find(|worker| worker.registration_rank == rank)?;
        per(worker.total.accepted as f64, trial.connections.accepted as f64)
    };
    let ranks = valid().map(|trial| trial.workers.len()).max().unwrap_or(0);
    (0..ranks)
        .filter_map(|rank| median(&ascending(&valid().filter_map(|trial| share(trial, rank)).collect::<Vec<_>>())))
        .collect()
}

/// The metric that ranks the cells: the scenario's, or one that fits what was run.
fn ranking_metric(record: &Record, cells: &[CellSummary]) -> &'static Metric {
    /// What a scenario may be about, most specific first. Accepts per second are informative only in a closed loop: in an open
    /// loop they are what was offered.
    const FITTING: [&str; 7] = [
        "connect_p50_ns_at_75",
        "ports_wall",
        "follow_up_max_ns",
        "fault_not_accepted",
        "accept_wait_p99_ns",
        "accepted_per_s",
        "receive_wait_p99_ns",
    ];
    let has = |name: &str| cells.iter().any(|cell| cell.metrics.contains_key(name));
    let open = has("offered_per_s");
    let fits = |name: &&&str| has(name) && (open || **name != "accept_wait_p99_ns");
    let named = record.whole.metric.as_ref().or(record.whole.search.as_ref().map(|search| &search.metric));
    named
        .and_then(|name| metric_named(name))
        .or_else(|| metric_named(FITTING.iter().find(fits)?))
        .unwrap_or(&METRICS[0])
}

/// Whether two metrics of cells may be compared: exact accept waits and upper bounds never are.
pub fn comparable(metric: &Metric, a: &CellSummary, b: &CellSummary) -> bool {
    !metric.is_accept_wait() || a.accept_wait_method == b.accept_wait_method
}

/// Compares the cells that differ in exactly one swept key. Holm's correction is over all pairs of a metric.
pub fn compare_cells(cells: &[CellSummary], seed: u64) -> Vec<Comparison> {
    let (mut bootstrap, mut tests) = (Bootstrap::new(seed), RankSum::new(seed));
    let names: Vec<&Map<String, Json>> = cells.iter().map(|cell| &cell.cell).collect();
    let pairs = compared_pairs(&names);
    let mut comparisons = Vec::new();
    for metric in METRICS.iter().filter(|metric| metric.compared) {
        let samples: Vec<&[f64]> =
            cells.iter().map(|cell| cell.metrics.get(metric.name).map_or(&[][..], |values| &values.values)).collect();
        let known = |(a, b): &(usize, usize)| {
            !samples[*a].is_empty() && !samples[*b].is_empty() && comparable(metric, &cells[*a], &cells[*b])
        };
        let pairs: Vec<(usize, usize)> = pairs.iter().copied().filter(known).collect();
        let compared = compare_all(&samples, &pairs, &mut bootstrap, &mut tests);
        comparisons.extend(pairs.into_iter().zip(compared).map(|((a, b), compared)| Comparison {
            metric: metric.name.to_owned(),
            a: cells[a].cell.clone(),
            b: cells[b].cell.clone(),
            compared,
        }));
    }
    comparisons
}

/// The pairs of cells that are compared: those that differ in exactly one key.
pub fn compared_pairs(cells: &[&Map<String, Json>]) -> Vec<(usize, usize)> {
    // The cells of a line differ only in one key.
    let mut lines: IndexMap<(&String, String), Vec<usize>> = IndexMap::new();
    for (number, cell) in cells.iter().enumerate() {
        for key in cell.keys() {
            let others: Vec<_> = cell.iter().filter(|(other, _)| *other != key).collect();
            lines.entry((key, format!("{others:?}"))).or_default().push(number);
        }
    }
    let all = lines.values().map(|line| line.len() * (line.len() - 1) / 2).sum::<usize>();
    let opposite = |line: &[usize]| if all > PAIRS_LIMIT { 1 } else { line.len() };
    let mut pairs: Vec<(usize, usize)> = lines
        .values()
        .flat_map(|line| (0..opposite(line)).flat_map(move |a| line[a + 1..].iter().map(move |b| (line[a], *b))))
        .collect();
    pairs.sort_unstable();
    pairs
}
