//! Compares runs: the same cells in the records of two sides.

use std::{collections::BTreeMap, ops::Deref};

use indexmap::{IndexMap, IndexSet};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value as Json};
use strum::{EnumMessage, IntoStaticStr, VariantArray};

use super::{
    comparison::{self, Compared, compare_all},
    design::{self, Design, RECORDS},
    estimate::{Bootstrap, Interval, ascending, median},
    metrics::{Better, Metric},
    rank_sum::RankSum,
    summary::{CellSummary, Summary, comparable},
    waits::Waits,
};
use crate::record::{Attempts, Values, VerdictName};

/// The new side compared with the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AgainstBaseline {
    /// How the runs were made.
    pub design: Design,
    /// Whether the processor of any run was emulated: then only counts are judged.
    pub emulated: bool,
    /// The number of comparisons that Holm's correction is over: the cells of both sides × the sampled metrics asked about.
    pub tests: usize,
    /// With fewer trials a side, or records or boots where they are the unit, none of these could show a difference.
    pub needed: usize,
    /// Cells that both sides have.
    pub cells: Vec<CellPair>,
    /// Swept values of cells that only the baseline has.
    pub only_in_base: Vec<Map<String, Json>>,
    /// Swept values of cells that only the new side has.
    pub only_in_new: Vec<Map<String, Json>>,
}

/// A cell that both sides have: `a` in the baseline, `b` in the new side.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CellPair {
    /// Its swept values.
    pub cell: Map<String, Json>,
    /// Whether the baseline's accept waits are upper bounds. They are then compared only with upper bounds.
    pub bounds: bool,
    /// The baseline's trials.
    pub a: Trials,
    /// The new side's trials.
    pub b: Trials,
    /// Metric by metric.
    pub metrics: Vec<MetricPair>,
    /// Metrics that cannot be compared.
    pub not_compared: Vec<NotCompared>,
}

/// A cell's trials in all records of a side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Trials {
    /// Trials whose figures are used.
    pub valid: usize,
    /// Trials that ran, but whose figures must not be used.
    pub invalid: usize,
    /// Trials that did not run to their end.
    pub failed: usize,
    /// Verdicts, with the number of trials that have them.
    pub verdicts: BTreeMap<VerdictName, usize>,
}

/// A metric that cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NotCompared {
    /// By name.
    pub metric: String,
    /// Why not.
    pub why: WhyNot,
    /// What the baseline's accept waits are, if they cannot be compared; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a_waits: Option<String>,
    /// What the new side's are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b_waits: Option<String>,
}

impl NotCompared {
    fn of(metric: &Metric, why: WhyNot, (a, b): (&Side<'_>, &Side<'_>)) -> Self {
        let waits = |side: &Side<'_>| {
            let all: IndexSet<String> =
                side.iter().filter_map(|cell| Waits::of_metric(metric, cell)).map(|waits| waits.to_string()).collect();
            (why == WhyNot::MeasuredDifferently).then(|| all.into_iter().collect::<Vec<_>>().join(" and "))
        };
        Self { metric: metric.name.to_owned(), why, a_waits: waits(a), b_waits: waits(b) }
    }
}

/// Why a metric cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhyNot {
    /// No valid trial of the baseline has it.
    MissingInBase,
    /// No valid trial of the new side has it.
    MissingInNew,
    /// No valid trial has it.
    Missing,
    /// Accept waits are exact in some records and upper bounds in others, or end at different events.
    MeasuredDifferently,
}

/// A metric of a cell on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MetricPair {
    /// By name.
    pub metric: String,
    /// In the baseline: its trials, or the medians of its records or boots.
    pub a: Values,
    /// In the new side.
    pub b: Values,
    /// Median of b ÷ median of a; `null` if a has values that are not positive, or either side has fewer than four values.
    pub ratio: Option<f64>,
    /// Lower end of the ratio's 95 % bootstrap interval. Of separate runs it covers the trials' scatter, and no drift between runs.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// Median of b − median of a, with its interval, in the metric's unit.
    pub difference: Option<Interval>,
    /// p-value of the permutation test on this cell and metric alone; `null` if it was not tested.
    pub p_value: Option<f64>,
    /// The same, adjusted for all `tests` (Holm).
    pub p_adjusted: Option<f64>,
    /// What the comparison shows.
    pub verdict: Verdict,
    /// If no difference was shown: the smallest ratio of medians, higher ÷ lower, that the test would have shown in these very
    /// values, moved apart. New values with that true ratio would not always show it.
    pub showable_ratio: Option<f64>,
}

/// What a comparison of two sides shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, EnumMessage, IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Verdict {
    /// The baseline's values are higher.
    AHigher,
    /// The new side's values are higher.
    BHigher,
    /// An exact metric has the same value on both sides.
    Same,
    /// Chance alone would produce such a difference often enough, or the values of an exact metric overlap.
    NoDifferenceShown,
    /// No difference could have been shown, however large: there are too few trials, or records or boots where they are the
    /// unit.
    TooFew,
    /// The question is not about this metric: its figures are shown, and nothing is claimed.
    NotTested,
    /// The runs were separate, and a difference between them may be drift.
    NotAttributable,
    /// The processor was emulated, and its times say nothing about a real one.
    Emulated,
}

impl Verdict {
    /// Its name in JSON.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// All of them by their names in JSON, each with what it means.
    pub fn explained() -> impl Iterator<Item = (&'static str, &'static str)> {
        Self::VARIANTS.iter().map(|one| (one.as_str(), one.get_documentation().unwrap_or_default()))
    }

    /// Whether a difference is shown.
    pub fn is_shown(self) -> bool {
        matches!(self, Self::AHigher | Self::BHigher)
    }

    fn of(tested: comparison::Difference) -> Self {
        match tested {
            comparison::Difference::AHigher => Self::AHigher,
            comparison::Difference::BHigher => Self::BHigher,
            comparison::Difference::NoDifferenceShown => Self::NoDifferenceShown,
            comparison::Difference::TooFewTrials => Self::TooFew,
        }
    }

    /// What one trial settles needs no test, and counts have none: it differs if all values of one side are higher.
    fn of_exact(a: &[f64], b: &[f64]) -> Self {
        let ((a_low, a_high), (b_low, b_high)) = (range(a), range(b));
        if b_low > a_high {
            Self::BHigher
        } else if a_low > b_high {
            Self::AHigher
        } else if a_low == a_high && b_low == b_high {
            Self::Same
        } else {
            Self::NoDifferenceShown
        }
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

impl MetricPair {
    /// How much worse the new side's median is, as a part of the baseline's; negative if better, infinite if the baseline's is 0.
    pub fn worse_by(&self, metric: &Metric) -> f64 {
        worse(self.a.median, self.b.median, metric)
    }

    /// The same with the ends of its interval; `None` if there is none. An exact metric's ends are its extremes.
    pub fn worse_within(&self, metric: &Metric) -> Option<(f64, f64)> {
        let ordered = |one: f64, other: f64| (one.min(other), one.max(other));
        let from_1 = |ratio: f64| if metric.better == Better::Higher { 1.0 - ratio } else { ratio - 1.0 };
        if !metric.is_tested() {
            let ((a_low, a_high), (b_low, b_high)) = (range(&self.a.values), range(&self.b.values));
            return Some(ordered(worse(a_low, b_high, metric), worse(a_high, b_low, metric)));
        }
        if let (Some(low), Some(high)) = (self.low, self.high) {
            return Some(ordered(from_1(low), from_1(high)));
        }
        let (a, b) = (self.a.median, self.b.median);
        if a.is_finite() && b.is_infinite() {
            // No longer reached: beyond any limit, if it is shown.
            return Some((f64::INFINITY, f64::INFINITY));
        }
        let never = |values: &[f64]| values.iter().all(|value| value.is_infinite());
        if never(&self.a.values) && self.b.values.iter().all(|value| value.is_finite()) {
            // Reached at last: within any limit.
            return Some((f64::NEG_INFINITY, f64::NEG_INFINITY));
        }
        let Interval { low, high, .. } = self.difference?;
        Some(ordered(worse(a, a + low, metric), worse(a, a + high, metric)))
    }

    /// Whether the new side was shown to be worse.
    pub fn is_shown_worse(&self, metric: &Metric) -> bool {
        self.verdict.is_shown() && self.worse_by(metric) > 0.0
    }
}

/// How much worse `b` is than `a`, as a part of `a`.
fn worse(a: f64, b: f64, metric: &Metric) -> f64 {
    let change = match (a, b) {
        _ if a == b => 0.0,
        // From a percentile that is not reached to one that is.
        _ if a.is_infinite() => f64::NEG_INFINITY,
        _ => (b - a) / a.abs(),
    };
    if metric.better == Better::Higher { -change } else { change }
}

/// What is to be compared.
pub struct Asked<'a> {
    /// The metrics that the question is about: they are tested.
    pub tested: &'a [&'static Metric],
    /// More metrics, whose figures are shown.
    pub shown: &'a [&'static Metric],
}

/// A cell on one side, in each of its records that has it.
type Side<'a> = Vec<Part<'a>>;

/// A cell in one record.
struct Part<'a> {
    cell: &'a CellSummary,
    /// The boots that the record is of: its machine's, or those of all hosts by rank.
    boots: Vec<Option<&'a str>>,
}

impl Deref for Part<'_> {
    type Target = CellSummary;

    fn deref(&self) -> &CellSummary {
        self.cell
    }
}

/// Compares two sides, each of at least one run.
pub fn compare_runs(design: Design, base: &[Summary], new: &[Summary], asked: &Asked<'_>) -> AgainstBaseline {
    let cells = |runs: &'_ [Summary]| -> IndexSet<Vec<(String, Json)>> {
        let cells = runs.iter().flat_map(|run| &run.cells);
        cells.map(|cell| cell.cell.clone().into_iter().collect()).collect()
    };
    let (in_base, in_new) = (cells(base), cells(new));
    let map = |cell: &Vec<(String, Json)>| cell.iter().cloned().collect::<Map<_, _>>();
    let sides: Vec<(Side<'_>, Side<'_>)> =
        in_base.intersection(&in_new).map(map).map(|cell| (parts(base, &cell), parts(new, &cell))).collect();
    let is_emulated = base.iter().chain(new).any(Summary::is_emulated);
    let seed = base[0].interval.seed;
    let (mut bootstrap, mut tests) = (Bootstrap::new(seed), RankSum::new(seed));
    let mut pairs: Vec<CellPair> = sides.iter().map(|(a, b)| CellPair::of(a, b)).collect();
    let mut counted = 0;
    let (sampled, exact): (Vec<&Metric>, Vec<&Metric>) = asked.tested.iter().partition(|metric| metric.is_tested());
    let families: [(&[&Metric], bool, bool); 3] =
        [(&sampled, true, true), (&exact, true, false), (asked.shown, false, false)];
    for (metrics, is_asked, is_tested) in families {
        // For each comparison: the metric, the cell, and both sides' values.
        let mut found: Vec<(&Metric, usize, Values, Values)> = Vec::new();
        for metric in metrics {
            for (place, (a, b)) in sides.iter().enumerate() {
                match values(design, metric, a, b, &mut bootstrap) {
                    Ok((a, b)) => found.push((metric, place, a, b)),
                    Err(WhyNot::Missing) if !is_asked => {}
                    Err(why) => pairs[place].not_compared.push(NotCompared::of(metric, why, (a, b))),
                }
            }
        }
        let samples: Vec<&[f64]> = found.iter().flat_map(|(_, _, a, b)| [&a.values[..], &b.values[..]]).collect();
        let numbers: Vec<(usize, usize)> = (0..found.len()).map(|pair| (2 * pair, 2 * pair + 1)).collect();
        let compared = compare_all(&samples, &numbers, 1, &mut bootstrap, &mut tests);
        if is_tested {
            counted = found.len();
        }
        for ((metric, place, a, b), compared) in found.into_iter().zip(compared) {
            pairs[place].metrics.push(judged((design, is_emulated), metric, (a, b), compared, is_tested));
        }
    }
    for pair in &mut pairs {
        // Cells list metrics in the order asked.
        let order = |name: &str| asked.tested.iter().chain(asked.shown).position(|metric| metric.name == name);
        pair.metrics.sort_by_key(|pair| order(&pair.metric));
    }
    let least = if design == Design::Interleaved { 1 } else { RECORDS };
    AgainstBaseline {
        design,
        emulated: is_emulated,
        tests: counted,
        needed: RankSum::trials_needed(counted, comparison::SIGNIFICANCE).max(least),
        cells: pairs,
        only_in_base: in_base.difference(&in_new).map(map).collect(),
        only_in_new: in_new.difference(&in_base).map(map).collect(),
    }
}

/// A cell in each of a side's records that has it.
fn parts<'a>(runs: &'a [Summary], cell: &Map<String, Json>) -> Side<'a> {
    let part = |run: &'a Summary| {
        Some(Part { cell: run.cells.iter().find(|one| one.cell == *cell)?, boots: design::boots(run) })
    };
    runs.iter().filter_map(part).collect()
}

impl CellPair {
    fn of(a: &Side<'_>, b: &Side<'_>) -> Self {
        Self {
            cell: a[0].cell.cell.clone(),
            bounds: a[0].waits_are_bounds(),
            a: Trials::of(a),
            b: Trials::of(b),
            metrics: Vec::new(),
            not_compared: Vec::new(),
        }
    }
}

impl Trials {
    fn of(side: &Side<'_>) -> Self {
        let mut trials = Self::default();
        for cell in side {
            trials.valid += cell.valid;
            trials.invalid += cell.invalid;
            trials.failed += cell.failed;
            for (name, count) in &cell.verdicts {
                *trials.verdicts.entry(*name).or_default() += count;
            }
        }
        trials
    }
}

/// A metric's values on both sides: of all trials, or the median of each record or boot where these are the unit.
fn values(
    design: Design,
    metric: &Metric,
    a: &Side<'_>,
    b: &Side<'_>,
    bootstrap: &mut Bootstrap,
) -> Result<(Values, Values), WhyNot> {
    let of = |side: &Side<'_>| -> Vec<f64> {
        let records = side.iter().filter_map(|part| Some((&part.boots, part.metrics.get(metric.name)?)));
        let medians = || records.clone().filter_map(|(boot, values)| Some((boot, median(&ascending(&values.values))?)));
        match design {
            Design::Records => medians().map(|(_, median)| median).collect(),
            Design::Boots | Design::FewBoots => {
                let mut boots: IndexMap<_, Vec<f64>> = IndexMap::new();
                medians().for_each(|(boot, median)| boots.entry(boot).or_default().push(median));
                boots.values().filter_map(|medians| median(&ascending(medians))).collect()
            }
            Design::Interleaved | Design::Separate => records.flat_map(|(_, values)| values.values.clone()).collect(),
        }
    };
    let has = |part: &&Part<'_>| part.metrics.contains_key(metric.name);
    let mut all = a.iter().chain(b).filter(has);
    if let Some(first) = all.next()
        && !all.all(|cell| comparable(metric, first, cell))
    {
        return Err(WhyNot::MeasuredDifferently);
    }
    let mut estimate = |side: &Side<'_>| {
        let attempts = side.iter().filter_map(|cell| cell.metrics.get(metric.name)?.attempts);
        let attempts = attempts.reduce(|one, other| Attempts { due: one.due + other.due, lost: one.lost + other.lost });
        Some(Values { attempts, ..bootstrap.estimate(of(side))? })
    };
    match (estimate(a), estimate(b)) {
        (Some(a), Some(b)) => Ok((a, b)),
        (None, Some(_)) => Err(WhyNot::MissingInBase),
        (Some(_), None) => Err(WhyNot::MissingInNew),
        (None, None) => Err(WhyNot::Missing),
    }
}

fn judged(
    (design, is_emulated): (Design, bool),
    metric: &Metric,
    (a, b): (Values, Values),
    compared: Compared,
    is_tested: bool,
) -> MetricPair {
    let fewest = a.values.len().min(b.values.len());
    let verdict = if is_emulated && metric.is_timed() {
        Verdict::Emulated
    } else if !metric.is_tested() {
        Verdict::of_exact(&a.values, &b.values)
    } else if !is_tested {
        Verdict::NotTested
    } else if !design.claims() {
        Verdict::NotAttributable
    } else if design != Design::Interleaved && fewest < RECORDS {
        // Not all records have it.
        Verdict::TooFew
    } else {
        Verdict::of(compared.verdict)
    };
    let is_judged = is_tested && !matches!(verdict, Verdict::NotAttributable | Verdict::TooFew | Verdict::Emulated);
    MetricPair {
        metric: metric.name.to_owned(),
        a,
        b,
        ratio: compared.ratio,
        low: compared.low,
        high: compared.high,
        difference: compared.difference,
        p_value: is_judged.then_some(compared.p_value),
        p_adjusted: is_judged.then_some(compared.p_adjusted),
        verdict,
        showable_ratio: compared.showable_ratio.filter(|_| verdict == Verdict::NoDifferenceShown && is_tested),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{fixture, metric_named, summarize, synthetic::Noise},
        *,
    };
    use crate::record::{Outcome, TrialRecord};

    /// Experiments of each design.
    const EXPERIMENTS: usize = 400;
    const METRICS: [&str; 2] = ["accepted_per_s", "accept_wait_p99"];

    /// Runs of one cell whose metrics vary by 5 % from trial to trial, and by 5 % more from run to run.
    struct Machine {
        template: Summary,
        noise: Noise,
    }

    impl Machine {
        fn new(cells: usize) -> Self {
            let trial = |cell| TrialRecord {
                cell_index: cell,
                ..fixture::trial(cell, &json!({ "workers": cell }), Outcome::Valid)
            };
            let template = summarize(&fixture::record((0..cells).map(trial).collect()));
            Self { template, noise: Noise::new(17) }
        }

        /// A run at a level, on a machine that drifts between runs.
        fn run(&mut self, trials: usize, level: f64, drift: f64) -> Summary {
            let mut summary = self.template.clone();
            for values in summary.cells.iter_mut().flat_map(|cell| cell.metrics.values_mut()) {
                let today = self.noise.sample(1, 1.0, drift, false)[0];
                values.values = self.noise.sample(trials, values.median * level * today, 0.05, false);
            }
            summary
        }

        fn runs(&mut self, count: usize, level: f64, drift: f64) -> Vec<Summary> {
            (0..count).map(|_| self.run(5, level, drift)).collect()
        }
    }

    fn compared(design: Design, base: &[Summary], new: &[Summary]) -> AgainstBaseline {
        let tested = METRICS.map(|name| metric_named(name).unwrap());
        compare_runs(design, base, new, &Asked { tested: &tested, shown: &[] })
    }

    fn claims(against: &AgainstBaseline) -> usize {
        let pairs = against.cells.iter().flat_map(|cell| &cell.metrics);
        pairs.filter(|pair| pair.verdict.is_shown()).count()
    }

    /// In how many of the experiments anything is claimed.
    fn false_claims(mut experiment: impl FnMut() -> AgainstBaseline) -> f64 {
        (0..EXPERIMENTS).filter(|_| claims(&experiment()) > 0).count() as f64 / EXPERIMENTS as f64
    }

    #[test]
    fn a_percentile_that_is_reached_at_last_is_better_whatever_the_limit() {
        let mut machine = Machine::new(1);
        let reached = machine.run(5, 1.0, 0.0);
        let mut lost = reached.clone();
        for values in lost.cells.iter_mut().filter_map(|cell| cell.metrics.get_mut("accept_wait_p99_ns")) {
            values.values = vec![f64::INFINITY; 5];
            values.median = f64::INFINITY;
        }
        let metric = metric_named("accept_wait_p99").unwrap();
        let worsening = |base: &Summary, new: &Summary| {
            let against = compared(Design::Interleaved, std::slice::from_ref(base), std::slice::from_ref(new));
            let pair = against.cells[0].metrics.iter().find(|pair| pair.metric == metric.name).unwrap();
            (pair.worse_by(metric), pair.worse_within(metric))
        };
        let (less, more) = (f64::NEG_INFINITY, f64::INFINITY);
        assert_eq!(worsening(&lost, &reached), (less, Some((less, less))));
        assert_eq!(worsening(&reached, &lost), (more, Some((more, more))));
    }

    #[test]
    #[cfg_attr(debug_assertions, ignore = "takes minutes without --release")]
    fn a_scenario_against_itself_is_rarely_claimed_to_differ() {
        let mut machine = Machine::new(1);
        // Interleaved: what drifts drifts on both sides alike.
        let interleaved = false_claims(|| {
            let (base, new) = (machine.runs(1, 1.0, 0.0), machine.runs(1, 1.0, 0.0));
            compared(Design::Interleaved, &base, &new)
        });
        assert!(interleaved <= 0.06, "{interleaved}");
        // Runs that drift between each other, six against six: five trials of each would look like thirty.
        let records = false_claims(|| {
            let (base, new) = (machine.runs(6, 1.0, 0.05), machine.runs(6, 1.0, 0.05));
            compared(Design::Records, &base, &new)
        });
        assert!(records <= 0.06, "{records}");
        // Were the trial the unit, a third would be claimed.
        let naive = false_claims(|| {
            let (base, new) = (machine.runs(1, 1.0, 0.05), machine.runs(1, 1.0, 0.05));
            compared(Design::Interleaved, &base, &new)
        });
        assert!(naive > 0.1, "{naive}");
        let separate = false_claims(|| {
            let (base, new) = (machine.runs(3, 1.0, 0.05), machine.runs(3, 1.5, 0.05));
            compared(Design::Separate, &base, &new)
        });
        assert_eq!(separate, 0.0);
    }

    #[test]
    fn a_true_difference_is_found() {
        let mut machine = Machine::new(1);
        let mut found = [0, 0];
        for _ in 0..40 {
            let (base, new) = (machine.run(10, 1.0, 0.0), machine.run(10, 1.2, 0.0));
            found[0] += claims(&compared(Design::Interleaved, &[base], &[new]));
            let (base, new) = (machine.runs(6, 1.0, 0.02), machine.runs(6, 1.2, 0.02));
            found[1] += claims(&compared(Design::Records, &base, &new));
        }
        assert!(found.iter().all(|found| *found >= 72), "{found:?} of 80 differences of a fifth");
    }

    #[test]
    fn four_records_a_side_suffice_for_one_comparison_and_not_for_two() {
        let mut machine = Machine::new(1);
        let (base, new) = (machine.runs(4, 1.0, 0.0), machine.runs(4, 2.0, 0.0));
        let one = Asked { tested: &[metric_named("accept_wait_p99").unwrap()], shown: &[] };
        let against = compare_runs(Design::Records, &base, &new, &one);
        let pair = &against.cells[0].metrics[0];
        assert_eq!((against.tests, against.needed, pair.verdict), (1, 4, Verdict::BHigher));
        assert!((pair.p_value.unwrap() - 2.0 / 70.0).abs() < 1e-9, "{pair:?}");
        assert_eq!((pair.a.values.len(), against.cells[0].a.valid), (4, 4));
        let against = compared(Design::Records, &base, &new);
        assert_eq!((against.tests, against.needed), (2, 5));
        assert!(against.cells[0].metrics.iter().all(|pair| pair.verdict == Verdict::TooFew && pair.p_value.is_none()));
        assert!(against.cells[0].metrics.iter().all(|pair| pair.ratio.is_some() && pair.high.is_some()));
    }

    /// Each run's kernel and boot.
    fn booted(runs: Vec<Summary>, kernel: &str, runs_per_boot: usize) -> Vec<Summary> {
        let of_boot = |(number, run): (usize, Summary)| {
            let boot = format!("{kernel}-{}", number / runs_per_boot);
            Summary { host: json!({ "kernel": kernel, "boot": boot, "virtualization": "kvm" }), ..run }
        };
        runs.into_iter().enumerate().map(of_boot).collect()
    }

    fn by_boot(base: &[Summary], new: &[Summary]) -> AgainstBaseline {
        let tested = [metric_named("accept_wait_p99").unwrap()];
        compare_runs(Design::of(base, new), base, new, &Asked { tested: &tested, shown: &[] })
    }

    /// Boots at a level, each with several runs that share what this boot happens to be like.
    fn boots(machine: &mut Machine, count: usize, level: f64) -> Vec<Summary> {
        const RUNS: usize = 3;
        let of_boot = |machine: &mut Machine| {
            let luck = machine.noise.sample(1, level, 0.05, false)[0];
            machine.runs(RUNS, luck, 0.0)
        };
        let runs = (0..count).flat_map(|_| of_boot(machine)).collect();
        booted(runs, &format!("kernel-{level}-{count}"), RUNS)
    }

    #[test]
    fn boots_of_two_kernels_are_the_unit_and_their_records_are_not() {
        let mut machine = Machine::new(1);
        let (base, new) = (boots(&mut machine, 5, 1.0), boots(&mut machine, 6, 1.5));
        let against = by_boot(&base, &new);
        let pair = &against.cells[0].metrics[0];
        assert_eq!((against.design, pair.a.values.len(), pair.b.values.len()), (Design::Boots, 5, 6));
        assert_eq!((pair.verdict, against.cells[0].a.valid), (Verdict::BHigher, 15));
        // Twelve records of four boots, and three boots: too few whatever they say.
        let against = by_boot(&boots(&mut machine, 3, 1.0), &boots(&mut machine, 4, 9.0));
        let pair = &against.cells[0].metrics[0];
        assert_eq!((against.design, pair.verdict, pair.p_value), (Design::FewBoots, Verdict::NotAttributable, None));
        // The same kernel under two names is rarely claimed to differ, although records of a boot are alike.
        let alarms = false_claims(|| {
            let (base, new) = (boots(&mut machine, 5, 1.0), boots(&mut machine, 6, 1.0));
            by_boot(&base, &new)
        });
        assert!(alarms <= 0.06, "{alarms}");
    }

    #[test]
    fn an_emulated_processor_leaves_counts_to_compare() {
        let mut machine = Machine::new(1);
        let (base, mut new) = (boots(&mut machine, 5, 1.0), boots(&mut machine, 6, 3.0));
        new[0].host["virtualization"] = json!("emulated");
        let named = ["accept_wait_p99", "valid_share"].map(|name| metric_named(name).unwrap());
        let against = compare_runs(Design::of(&base, &new), &base, &new, &Asked { tested: &named, shown: &[] });
        let pairs: Vec<_> = against.cells[0].metrics.iter().map(|pair| (&pair.metric[..], pair.verdict)).collect();
        assert_eq!(pairs, [("accept_wait_p99_ns", Verdict::Emulated), ("valid_share", Verdict::BHigher)]);
        assert!(against.emulated && against.cells[0].metrics[0].p_adjusted.is_none());
    }

    #[test]
    fn what_a_trial_settles_is_not_tested() {
        assert_eq!(Verdict::of_exact(&[28_231.0], &[28_231.0, 28_231.0]), Verdict::Same);
        assert_eq!(Verdict::of_exact(&[28_231.0], &[28_232.0]), Verdict::BHigher);
        assert_eq!(Verdict::of_exact(&[9.0, 10.0], &[7.0, 8.0]), Verdict::AHigher);
        assert_eq!(Verdict::of_exact(&[9.0, 10.0], &[9.0, 9.0]), Verdict::NoDifferenceShown);
    }

    #[test]
    fn worse_is_relative_to_the_baseline_and_has_a_direction() {
        let (lower, higher) = (metric_named("accept_wait_p99").unwrap(), metric_named("accepted_per_s").unwrap());
        let near = |found: f64, known: f64| (found - known).abs() < 1e-12;
        assert!(near(worse(100.0, 115.0, lower), 0.15) && near(worse(100.0, 115.0, higher), -0.15));
        assert_eq!((worse(0.0, 0.0, lower), worse(0.0, 1.0, lower)), (0.0, f64::INFINITY));
        assert_eq!(worse(f64::INFINITY, f64::INFINITY, lower), 0.0);
    }
}
