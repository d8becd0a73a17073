//! A record in a few numbers: each cell's medians with intervals, comparisons of cells, and verdicts.

use std::collections::{BTreeMap, HashSet};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{
    comparison::{Compared, compare_all},
    decision::{self, Decision},
    distribution::pooled,
    estimate::{Bootstrap, LEVEL, RESAMPLES, TRIALS_FOR_INTERVAL, ascending, median},
    judge::{self, RunVerdict},
    looks::Looks,
    metrics::{Metric, metric_named, metric_of, metrics_named, metrics_with, per},
    precision::{self, Precision},
    rank_sum::RankSum,
    record::Record,
    search::{self, Found},
    waits::Waits,
};
use crate::{
    record::{
        Attempts, EventKind, Outcome, SCHEMA, Spread, Stage, TrialRecord, Values, VerdictName, Virtualization, WaitEnd,
        WaitMethod,
    },
    scenario::{App, Cell, Plan, Protocol, Scenario, Transport},
};

/// `summary.json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Summary {
    /// Version of the schema.
    pub schema: u32,
    /// Name of the scenario.
    pub scenario: String,
    /// The machine, from `host.json`.
    pub host: Json,
    /// The metrics that the question asks about, the headline's first: the scenario's `answers`, or with `auto` those that fit
    /// what was run. Never empty.
    #[serde(skip)]
    pub asked: Vec<&'static Metric>,
    /// All metrics that its cells may have: the trial's, and then those of each of several populations. Their order is that of columns.
    #[serde(skip)]
    pub metrics: Vec<&'static Metric>,
    /// The swept keys whose values compete, by short name: comparisons are between cells that differ in nothing else.
    pub compare: Vec<String>,
    /// What `low` and `high` of metrics and comparisons are.
    pub interval: IntervalMethod,
    /// In the order of the scenario's matrix.
    pub cells: Vec<CellSummary>,
    /// Pairs of cells that differ only in the keys of `compare`, metric by metric. Exact metrics are not tested; on an emulated
    /// processor, nothing is.
    pub comparisons: Vec<Comparison>,
    /// Verdicts on the run as a whole, or on all trials of a cell together.
    pub verdicts: Vec<RunVerdict>,
    /// With `[search]`: the result for each combination of the other swept values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<Found>,
    /// With `stop.relative_error`: whether intervals became as narrow as asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// With `stop.difference`: the looks at the results, which of them ended the run, and what it decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The repetitions that every cell completed.
    #[serde(skip)]
    pub repetitions: usize,
    /// When the results could have ended the run.
    #[serde(skip)]
    pub looks: Looks,
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
    /// What ends its accept waits; `null` without any, and if that differs between members.
    pub accept_wait_ends: Option<WaitEnd>,
    /// `sock_ops` or `tracepoint` if accept waits are exact, `connect-call` if they are upper bounds; `null` without any.
    pub accept_wait_method: Option<WaitMethod>,
    /// Mean length of each stage over the first replies of all valid trials, ns. They add up to the mean response.
    pub stage_means_ns: IndexMap<Stage, f64>,
    /// Each worker's share of all accepts, in the order in which workers registered. Medians over the valid trials; empty without
    /// connections.
    pub share_by_rank: Vec<f64>,
    /// Where chance decides which worker a connection goes to (without connections: a datagram flow): the draws of all valid trials
    /// together; `null` elsewhere.
    pub spread: Option<Spread>,
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
    /// The comparisons that Holm's correction is over.
    pub family: Family,
    /// By how much they differ, and whether that was shown.
    #[serde(flatten)]
    pub compared: Compared,
}

/// Comparisons that are corrected together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// All pairs of cells, by all sampled metrics that the scenario answers with.
    Answers,
    /// All pairs of cells by this metric alone; the scenario does not list it among its answers.
    Metric,
}

impl CellSummary {
    /// The number of its trials, whatever became of them.
    pub fn trials(&self) -> usize {
        self.valid + self.invalid + self.failed
    }

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

    /// Whether its processor was emulated, so that only counts are judged.
    pub fn is_emulated(&self) -> bool {
        is_emulated(&self.host)
    }

    /// Whether nothing was repeated, so that no difference was to be tested.
    pub fn is_one_trial_per_cell(&self) -> bool {
        self.cells.iter().all(|cell| cell.trials() <= 1)
    }

    /// The number of comparisons that those by a metric are corrected for.
    pub fn tests(&self, metric: &str) -> usize {
        let of_metric = |comparison: &&Comparison| comparison.metric == metric;
        match self.comparisons.iter().find(of_metric).map(|comparison| comparison.family) {
            None => 0,
            Some(Family::Metric) => self.comparisons.iter().filter(of_metric).count(),
            Some(Family::Answers) => {
                self.comparisons.iter().filter(|comparison| comparison.family == Family::Answers).count()
            }
        }
    }
}

/// By `host.json`.
fn is_emulated(host: &Json) -> bool {
    host["virtualization"] == Virtualization::Emulated.name()
}

/// With more pairs than this, each cell is compared only with the first of those that it competes with.
const PAIRS_LIMIT: usize = 2_000;

/// Summarizes a record.
pub fn summarize(record: &Record) -> Summary {
    let mut bootstrap = Bootstrap::new(record.whole.seed);
    let groups = groups(&record.trials);
    let populations = record.populations();
    let metrics = metrics_with(&populations);
    let cells: Vec<CellSummary> = groups.iter().map(|trials| cell(trials, &metrics, &mut bootstrap)).collect();
    let asked = asked(record, &populations, &cells);
    let headline = asked[0];
    let precision = precision::of(record, &cells, headline);
    let is_emulated = is_emulated(&record.host);
    let verdicts = judge::judge(&groups, &cells, headline, precision.as_ref(), is_emulated);
    let looks = Looks::of(&record.whole);
    let comparisons = if is_emulated {
        Vec::new()
    } else {
        compare_cells(&cells, &record.whole.compare, (&asked, &metrics), (record.whole.seed, looks.count()))
    };
    let repetitions = groups.iter().map(Vec::len).min().unwrap_or(0);
    let decision = decision::of(record, repetitions, &cells, &asked, &comparisons);
    Summary {
        schema: SCHEMA,
        scenario: record.trials.first().map_or_else(String::new, |trial| trial.scenario.clone()),
        host: record.host.clone(),
        interval: IntervalMethod {
            method: "bootstrap-percentile".to_owned(),
            level: LEVEL,
            resamples: RESAMPLES,
            seed: record.whole.seed,
            trials_at_least: TRIALS_FOR_INTERVAL,
        },
        comparisons,
        compare: record.whole.compare.clone(),
        asked,
        metrics,
        cells,
        verdicts,
        searches: search::found(record),
        precision,
        decision,
        repetitions,
        looks,
    }
}

/// The trials of each cell, in the order of the matrix. In a search, each value tried is a cell.
fn groups(trials: &[TrialRecord]) -> Vec<Vec<&TrialRecord>> {
    let mut cells: IndexMap<(usize, u64), (usize, f64, Vec<&TrialRecord>)> = IndexMap::new();
    for trial in trials {
        let (index, tried) = (trial.cell_index, trial.search.as_ref().map_or(0.0, |search| search.value));
        cells.entry((index, tried.to_bits())).or_insert((index, tried, Vec::new())).2.push(trial);
    }
    let mut cells: Vec<_> = cells.into_values().collect();
    cells.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
    cells.into_iter().map(|(_, _, trials)| trials).collect()
}

fn cell(trials: &[&TrialRecord], metrics: &[&Metric], bootstrap: &mut Bootstrap) -> CellSummary {
    let with = |outcome| trials.iter().filter(move |trial| trial.outcome == outcome);
    let mut verdicts = BTreeMap::new();
    for verdict in trials.iter().flat_map(|trial| &trial.verdicts) {
        *verdicts.entry(verdict.name).or_default() += 1;
    }
    let metrics = metrics.iter().filter_map(|metric| {
        let counted = trials.iter().filter(|trial| metric.of_all_trials || trial.outcome == Outcome::Valid);
        let values = counted.filter_map(|trial| metric.read(trial)).collect();
        let all = || with(Outcome::Valid).filter_map(|trial| metric.latencies(trial));
        let attempts = all()
            .next()
            .is_some()
            .then(|| Attempts { due: all().map(|of| of.due).sum(), lost: all().map(|of| of.lost).sum() });
        Some((metric.name.to_owned(), Values { attempts, ..bootstrap.estimate(values)? }))
    });
    let waits = Waits::of(with(Outcome::Valid).copied());
    CellSummary {
        cell: trials[0].cell.clone(),
        metrics: metrics.collect(),
        valid: with(Outcome::Valid).count(),
        invalid: with(Outcome::Invalid).count(),
        failed: with(Outcome::Failed).count(),
        verdicts,
        accept_wait_method: waits.method,
        accept_wait_ends: waits.ends,
        stage_means_ns: stage_means_ns(trials),
        share_by_rank: share_by_rank(trials),
        spread: spread(trials),
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

/// Each worker's share of all accepts in the order of registration: the median over the valid trials, of those whose workers were all there
/// from beginning to end.
fn share_by_rank(trials: &[&TrialRecord]) -> Vec<f64> {
    let is_told = |trial: &TrialRecord| trial.outcome == Outcome::Valid && !trial.changed_members();
    let valid = || trials.iter().filter(|trial| is_told(trial) && trial.connections.accepted > Some(0));
    let share = |trial: &TrialRecord, rank: usize| {
        let worker = trial.workers.iter().find(|worker| worker.registration_rank == Some(rank))?;
        per(worker.total.accepted? as f64, trial.connections.accepted? as f64)
    };
    let ranks = valid().map(|trial| trial.workers.len()).max().unwrap_or(0);
    (0..ranks)
        .filter_map(|rank| median(&ascending(&valid().filter_map(|trial| share(trial, rank)).collect::<Vec<_>>())))
        .collect()
}

/// What fell by chance in all valid trials: connections, or if there were none, datagram flows.
fn spread(trials: &[&TrialRecord]) -> Option<Spread> {
    let valid = || trials.iter().filter(|trial| trial.outcome == Outcome::Valid);
    if valid().any(|trial| trial.distribution.is_some()) {
        pooled(valid().filter_map(|trial| trial.distribution.as_ref()))
    } else {
        pooled(valid().filter_map(|trial| trial.flow_distribution.as_ref()))
    }
}

/// The metrics that the question asks about: the scenario's, or those that fit what was run.
fn asked(record: &Record, populations: &[&str], cells: &[CellSummary]) -> Vec<&'static Metric> {
    let whole = &record.whole;
    let named = match &whole.search {
        Some(search) => metric_of(&search.metric, populations).into_iter().collect(),
        None => metrics_named(&whole.answers, populations).unwrap_or_default(),
    };
    let has = |name: &str| cells.iter().any(|cell| cell.metrics.contains_key(name));
    // Of a worker that only stalls, burns or dies, the question is another one.
    let replaces = || replaces(record.trials.iter().flat_map(|trial| &trial.events).map(|event| event.kind));
    let has = |name: &str| has(name) && (name != LOST || replaces());
    if named.is_empty() { fitting(populations, has) } else { named }
}

/// The number of tests that a plan's comparisons take: its pairs of cells × its sampled answers, as in the report of a run whose
/// trials are all valid.
pub fn tests_of(plan: &Plan) -> usize {
    let cells: Vec<&Map<String, Json>> = plan.cells.iter().map(|cell| &cell.values).collect();
    compared_pairs(&cells, &plan.whole.compare).len() * sampled_answers(plan)
}

/// The number of tests that a comparison of two plans' runs takes: the cells they have in common × the first one's sampled answers.
pub fn tests_between(one: &Plan, other: &Plan) -> usize {
    // Maps are equal whatever the order of their keys.
    let values = |cell: &Cell| {
        let sorted: BTreeMap<&String, &Json> = cell.values.iter().collect();
        format!("{sorted:?}")
    };
    let others: HashSet<String> = other.cells.iter().map(values).collect();
    one.cells.iter().filter(|cell| others.contains(&values(cell))).count() * sampled_answers(one)
}

/// What clients feel whose requests are answered, and those that make none.
const RESPONSE: &str = "response_p99_ns";
const CONNECT: &str = "connect_p99_ns";
/// What a change of workers is about.
const LOST: &str = "event_lost";

/// Whether any of these events replaces workers, or may.
fn replaces(mut kinds: impl Iterator<Item = EventKind>) -> bool {
    kinds.any(|kind| matches!(kind, EventKind::Leave | EventKind::Reload | EventKind::Signal | EventKind::Exec))
}

/// The metrics that a plan's question asks about.
fn asked_of(plan: &Plan) -> Vec<&'static Metric> {
    let populations = plan.populations();
    let named = metrics_named(&plan.whole.answers, &populations).unwrap_or_default();
    let has = |name: &str| plan.cells.iter().any(|cell| is_expected(name, &cell.scenario));
    if named.is_empty() { fitting(&populations, has) } else { named }
}

/// The number of sampled metrics that a plan's question asks about.
fn sampled_answers(plan: &Plan) -> usize {
    sampled(&asked_of(plan)).len()
}

/// Whether a plan's question is about what fails, so that trials in which much does are no accident.
pub fn asks_about_failures(plan: &Plan) -> bool {
    asked_of(plan).iter().any(|metric| metric.tells_failures)
}

/// Whether the trials of a scenario will have a metric, of those that may fit a question.
fn is_expected(name: &str, scenario: &Scenario) -> bool {
    let (mut loads, protocol) = (scenario.loads.iter(), scenario.protocol);
    let is_silent = scenario.server.app == App::Connect;
    // Of each of several populations.
    if name.ends_with(".response_p99_ns") || name.ends_with(".connect_p99_ns") {
        return name.ends_with(".connect_p99_ns") == is_silent;
    }
    match (name, &scenario.fill) {
        ("recovered_after_s", fill) => fill.as_ref().is_some_and(|fill| fill.recover_permille.is_some()),
        (name, Some(_)) => name.starts_with("ports_") || name.starts_with("connect_p50_"),
        ("offered_per_s", None) => loads.all(|load| load.mode.has_schedule()),
        ("follow_up_max_ns", None) => loads.any(|load| load.follow_up.is_some()),
        ("event_not_accepted" | "stranded", None) => !scenario.events.is_empty() && protocol.has(Transport::Tcp),
        ("event_lost", None) => {
            replaces(scenario.events.iter().map(|event| event.act.kind())) && protocol.has(Transport::Tcp)
        }
        ("event_datagram_share", None) => !scenario.events.is_empty() && protocol.has(Transport::Udp),
        ("flows_unanswered", None) => protocol.has(Transport::Udp),
        ("rebound_stay_share", None) => loads.any(|load| load.rebind_after > 0),
        ("response_p99_ns", None) => !is_silent,
        ("connect_p99_ns", None) => protocol.has(Transport::Tcp),
        ("accept_wait_p99_ns" | "accepted_per_s", None) => protocol.has(Transport::Tcp),
        ("receive_wait_p99_ns" | "datagrams_per_s", None) => protocol.has(Transport::Udp),
        ("udp_response_p99_ns", None) => protocol == Protocol::Both,
        _ => false,
    }
}

/// The metrics that are tested: exact ones are settled by any trial.
fn sampled<'a>(metrics: &[&'a Metric]) -> Vec<&'a Metric> {
    metrics.iter().copied().filter(|metric| metric.is_tested()).collect()
}

/// What a scenario may be about, most specific first. The offered rate answers nothing: in an open loop clients feel the strategy in
/// their responses, in a closed loop it decides how many are served.
fn fitting(populations: &[&str], has: impl Fn(&str) -> bool) -> Vec<&'static Metric> {
    // Each population is somebody whom the strategy serves; their responses together would be nobody's.
    let of_population = |name: &&str| {
        let of = |metric: &str| metric_named(&format!("{name}.{metric}")).filter(|metric| has(metric.name));
        of(RESPONSE).or_else(|| of(CONNECT))
    };
    let of_populations: Vec<_> = populations.iter().filter_map(of_population).collect();
    if !of_populations.is_empty() {
        return of_populations;
    }
    const PORTS: [&str; 4] = ["recovered_after_s", "ports_knee", "ports_wall", "connect_p50_ns_at_75"];
    const HELD: [&str; 2] = ["follow_up_max_ns", "response_p99_ns"];
    const EVENTS: [&str; 4] = ["event_not_accepted", "stranded", "flows_unanswered", "response_p99_ns"];
    const CHANGES: [&str; 2] = [LOST, "response_p99_ns"];
    const FLOW_EVENTS: [&str; 2] = ["flows_unanswered", "response_p99_ns"];
    const REBOUND: [&str; 2] = ["rebound_stay_share", "response_p99_ns"];
    const OPEN: [&str; 4] = ["response_p99_ns", "accept_wait_p99_ns", "udp_response_p99_ns", "receive_wait_p99_ns"];
    const CLOSED: [&str; 4] = ["accepted_per_s", "accept_wait_p99_ns", "datagrams_per_s", "receive_wait_p99_ns"];
    let kinds: [(&str, &[&str]); 7] = [
        ("ports_wall", &PORTS),
        ("follow_up_max_ns", &HELD),
        (LOST, &CHANGES),
        ("event_not_accepted", &EVENTS),
        ("event_datagram_share", &FLOW_EVENTS),
        ("rebound_stay_share", &REBOUND),
        ("offered_per_s", &OPEN),
    ];
    let fitting = kinds.into_iter().find(|(only_here, _)| has(only_here)).map_or(&CLOSED[..], |(_, metrics)| metrics);
    // Clients that say nothing have a handshake and no response.
    let silent = !has(RESPONSE) && has(CONNECT);
    let stand_in = |name: &'static str| if silent && name == RESPONSE { CONNECT } else { name };
    let known: Vec<_> = fitting.iter().copied().map(stand_in).filter(|name| has(name)).collect();
    // Where no trial is valid, any metric is as good.
    let any = || vec![if silent { CONNECT } else { fitting[0] }];
    let known = if known.is_empty() { any() } else { known };
    known.into_iter().filter_map(metric_named).collect()
}

/// Whether a metric of two cells may be compared: accept waits may only if they were measured alike and end at the same event.
pub fn comparable(metric: &Metric, a: &CellSummary, b: &CellSummary) -> bool {
    let waits = Waits::of_metric(metric, a).zip(Waits::of_metric(metric, b));
    waits.is_none_or(|(a, b)| a.are_like(b))
}

/// Compares the cells that differ only in the keys that compete. Holm's correction is over all pairs and all answers; every other
/// metric is corrected over its own pairs. All are corrected for the number of looks.
pub fn compare_cells(
    cells: &[CellSummary],
    compare: &[String],
    (answers, all): (&[&Metric], &[&Metric]),
    (seed, looks): (u64, usize),
) -> Vec<Comparison> {
    let (mut bootstrap, mut tests) = (Bootstrap::new(seed), RankSum::new(seed));
    let names: Vec<&Map<String, Json>> = cells.iter().map(|cell| &cell.cell).collect();
    let pairs = compared_pairs(&names, compare);
    let is_answer = |metric: &Metric| answers.iter().any(|answer| answer.name == metric.name);
    let mut family = |kind: Family, metrics: &[&Metric]| -> Vec<Comparison> {
        let values =
            |metric: &Metric, cell: &CellSummary| cell.metrics.get(metric.name).map(|values| values.values.clone());
        let samples: Vec<Vec<f64>> = metrics
            .iter()
            .flat_map(|metric| cells.iter().map(|cell| values(metric, cell).unwrap_or_default()))
            .collect();
        let samples: Vec<&[f64]> = samples.iter().map(Vec::as_slice).collect();
        // For each comparison: the metric, and the places of the two samples.
        let places: Vec<(&Metric, usize, usize)> = metrics
            .iter()
            .enumerate()
            .flat_map(|(place, metric)| pairs.iter().map(move |(a, b)| (*metric, place * cells.len(), *a, *b)))
            .filter(|(metric, _, a, b)| comparable(metric, &cells[*a], &cells[*b]))
            .map(|(metric, before, a, b)| (metric, before + a, before + b))
            .filter(|(_, a, b)| !samples[*a].is_empty() && !samples[*b].is_empty())
            .collect();
        let numbers: Vec<(usize, usize)> = places.iter().map(|(_, a, b)| (*a, *b)).collect();
        let compared = compare_all(&samples, &numbers, looks, &mut bootstrap, &mut tests);
        let comparisons = places.into_iter().zip(compared).map(|((metric, a, b), compared)| Comparison {
            metric: metric.name.to_owned(),
            a: names[a % cells.len()].clone(),
            b: names[b % cells.len()].clone(),
            family: kind,
            compared,
        });
        comparisons.collect()
    };
    let mut comparisons = family(Family::Answers, &sampled(answers));
    for metric in all.iter().filter(|metric| metric.is_compared() && !is_answer(metric)) {
        comparisons.extend(family(Family::Metric, &[metric]));
    }
    comparisons
}

/// The cells that compete with each other, group by group: those that differ only in the keys that compete.
pub(super) fn competing(cells: &[&Map<String, Json>], compare: &[String]) -> Vec<Vec<usize>> {
    let mut groups: IndexMap<String, Vec<usize>> = IndexMap::new();
    for (number, cell) in cells.iter().enumerate() {
        let conditions: Vec<_> = cell.iter().filter(|(key, _)| !compare.contains(key)).collect();
        groups.entry(format!("{conditions:?}")).or_default().push(number);
    }
    groups.into_values().collect()
}

/// The pairs of cells that are compared: all of those that compete, or, of too many, each with the first of its group.
pub fn compared_pairs(cells: &[&Map<String, Json>], compare: &[String]) -> Vec<(usize, usize)> {
    let groups = competing(cells, compare);
    let all = groups.iter().map(|group| group.len() * (group.len() - 1) / 2).sum::<usize>();
    let opposite = |group: &[usize]| if all > PAIRS_LIMIT { 1 } else { group.len() };
    let mut pairs: Vec<(usize, usize)> = groups
        .iter()
        .flat_map(|group| (0..opposite(group)).flat_map(move |a| group[a + 1..].iter().map(move |b| (group[a], *b))))
        .collect();
    pairs.sort_unstable();
    pairs
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{Difference, fixture},
        *,
    };
    use crate::{record::EventRow, scenario::Source};

    fn plan(text: &str) -> Plan {
        Plan::read(&Source { name: "made-up.toml", text }, &[]).unwrap()
    }

    /// Two strategies at three service times, five trials each: the second strategy's accept waits and responses are longer.
    fn tail() -> Summary {
        let mut trials = Vec::new();
        for (place, time) in ["0us", "200us", "2ms"].into_iter().enumerate() {
            for (strategy, times) in [("one", 1), ("other", 3)] {
                for repetition in 0..5_u64 {
                    let cell = json!({ "strategy": strategy, "service_time": time });
                    let mut trial = fixture::trial(trials.len(), &cell, Outcome::Valid);
                    trial.cell_index = 2 * place + usize::from(times > 1);
                    let ns = 1_000 * times * (1 + place as u64) + repetition;
                    trial.latency_ns.accept_wait.p99 = Some(ns);
                    trial.latency_ns.response = trial.latency_ns.accept_wait.clone();
                    trials.push(trial);
                }
            }
        }
        let mut record = fixture::record(trials);
        record.whole.answers = vec!["response_p99".to_owned(), "accept_wait_p99".to_owned(), "ports_wall".to_owned()];
        summarize(&record)
    }

    #[test]
    fn conditions_are_not_compared_and_five_trials_suffice_for_three_pairs_and_two_answers() {
        let summary = tail();
        let of = |metric: &'static str| summary.comparisons.iter().filter(move |one| one.metric == metric);
        assert_eq!((of("response_p99_ns").count(), of("accept_wait_p99_ns").count()), (3, 3));
        assert_eq!(summary.tests("response_p99_ns"), 6);
        for comparison in of("response_p99_ns").chain(of("accept_wait_p99_ns")) {
            assert_eq!(comparison.a["service_time"], comparison.b["service_time"]);
            assert_eq!((comparison.family, comparison.compared.verdict), (Family::Answers, Difference::BHigher));
            // 2 of 252 orders are as extreme, and six comparisons are corrected for.
            assert!((comparison.compared.p_value - 2.0 / 252.0).abs() < 1e-9, "{comparison:?}");
            assert!((comparison.compared.p_adjusted - 12.0 / 252.0).abs() < 1e-9, "{comparison:?}");
        }
        // A metric that is not an answer is corrected within its own family, and what one trial settles is not tested.
        assert!(of("accepted_per_s").all(|comparison| comparison.family == Family::Metric));
        assert_eq!((summary.tests("accepted_per_s"), summary.tests("ports_wall")), (3, 0));
    }

    #[test]
    fn waits_that_end_differently_are_not_compared() {
        let trial = |number: usize, strategy: &str, ends| {
            let mut trial = fixture::trial(number, &json!({ "strategy": strategy }), Outcome::Valid);
            trial.cell_index = number % 2;
            trial.latency_ns.accept_wait.ends = Some(ends);
            trial
        };
        let record = |ends| fixture::record(vec![trial(0, "one", WaitEnd::Serving), trial(1, "other", ends)]);
        let waits = |ends| {
            let summary = summarize(&record(ends));
            summary.comparisons.iter().filter(|comparison| comparison.metric.starts_with("accept_wait_")).count()
        };
        assert!(waits(WaitEnd::Serving) > 0);
        assert_eq!(waits(WaitEnd::Accept), 0);
    }

    const RELOAD: &str = "[[event]]\nkind = \"reload\"\nat = \"500ms\"\n";
    const STALL: &str = "[[event]]\nkind = \"stall\"\nworker = 1\nat = \"500ms\"\nfor = \"100ms\"\n";

    #[test]
    fn a_change_of_workers_is_about_what_it_loses() {
        for (kind, expected) in [
            (EventKind::Reload, &["event_lost", "response_p99_ns"][..]),
            (EventKind::Leave, &["event_lost", "response_p99_ns"]),
            (EventKind::Stall, &["event_not_accepted", "stranded", "response_p99_ns"]),
        ] {
            let mut trial = fixture::trial(0, &json!({}), Outcome::Valid);
            let lost = crate::record::Lost { reset_in_queue: Some(0), refused: Some(0), cut: Some(0) };
            let event = EventRow { kind, lost, not_accepted: Some(1), stranded: Some(1), ..EventRow::default() };
            trial.events = vec![event];
            let response = &mut trial.latency_ns.response;
            (response.due, response.count, response.p99) = (9, 9, Some(1_000));
            let asked = summarize(&fixture::record(vec![trial])).asked;
            assert_eq!(asked.iter().map(|metric| metric.name).collect::<Vec<_>>(), expected, "{kind}");
        }
        let plan = plan(RELOAD);
        assert_eq!(asked_of(&plan)[0].name, "event_lost");
        assert!(asks_about_failures(&plan));
    }

    #[test]
    fn shares_of_workers_that_come_and_go_are_not_told() {
        let mut trial = fixture::trial(0, &json!({}), Outcome::Valid);
        let worker = |rank| crate::record::MemberRow {
            registration_rank: Some(rank),
            total: crate::record::WorkerCounts { accepted: Some(5), ..Default::default() },
            ..Default::default()
        };
        (trial.workers, trial.connections.accepted) = (vec![worker(0), worker(1)], Some(10));
        assert_eq!(share_by_rank(&[&trial]), [0.5, 0.5]);
        trial.events = vec![EventRow { kind: EventKind::Leave, ..EventRow::default() }];
        assert!(share_by_rank(&[&trial]).is_empty());
        trial.events.clear();
        trial.workers[1].generation = 1;
        assert!(share_by_rank(&[&trial]).is_empty(), "others took their place in another server");
    }

    #[test]
    fn the_plan_counts_the_tests_that_the_report_makes() {
        let swept = "[matrix]\nserver.strategy = [\"shared-epoll\", \"reuseport\", \"shared-blocking\"]\n";
        for (text, tests) in [
            // Handshakes stand in for responses, which silent clients do not have.
            (format!("server.app = \"connect\"\nload.mode = \"open\"\n{swept}"), 3 * 2),
            // Closed loop: accepts and accept waits.
            (swept.to_owned(), 3 * 2),
            (format!("answers = [\"accepted_per_s\", \"ports_wall\"]\n{swept}"), 3),
            (format!("{swept}server.workers = [1, 2]"), 2 * 3 * 2),
            (format!("compare = [\"server.workers\"]\n{swept}server.workers = [1, 2]"), 3 * 2),
            (format!("compare = [\"server.workers\", \"server.strategy\"]\n{swept}server.workers = [1, 2]"), 15 * 2),
            ("kind = \"ports\"\nanswers = [\"ports_wall\"]\n[matrix]\nports.steps = [20, 30]".to_owned(), 0),
            // Losses are counted, not tested; stranded connections are tested.
            (format!("{swept}{RELOAD}"), 3),
            (format!("{swept}{STALL}"), 3 * 3),
            (String::new(), 0),
        ] {
            assert_eq!(tests_of(&plan(&text)), tests, "{text}");
        }
    }
}
