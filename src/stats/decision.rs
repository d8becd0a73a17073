//! Whether a run has decided what its scenario's `stop.difference` asks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    comparison::Difference,
    looks::Looks,
    metrics::Metric,
    record::Record,
    standing::standing,
    summary::{CellSummary, Comparison, competing},
};
use crate::{
    record::Values,
    scenario::{Stop, Until},
};

/// What is known of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// A difference.
    Shown,
    /// That one of the size asked about would have been shown.
    Smaller,
    /// Neither.
    Open,
}

impl Known {
    pub(super) fn of(verdict: Difference, showable_ratio: Option<f64>, difference: f64) -> Self {
        match verdict {
            verdict if verdict.is_shown() => Self::Shown,
            Difference::NoDifferenceShown if showable_ratio.is_some_and(|ratio| ratio <= 1.0 + difference) => {
                Self::Smaller
            }
            _ => Self::Open,
        }
    }
}

/// How far a run has decided which differences from the best there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// The scenario's `stop.difference`.
    pub difference: f64,
    /// The numbers of repetitions after which the run was to look at its results. Each look may claim differences at a level of 0.05
    /// divided by their number.
    pub looks: Vec<usize>,
    /// Repetitions that every cell completed.
    pub repetitions: usize,
    /// The look that ended the run, from 1; `null` if it ended between two of them.
    pub look: Option<usize>,
    /// Comparisons of a cell with the best of its group, over all sampled answers.
    pub comparisons: usize,
    /// Those that show a difference.
    pub shown: usize,
    /// Those that show none, but would have if the difference were at least the scenario's.
    pub smaller: usize,
    /// The smallest ratio of medians, higher ÷ lower, that all comparisons without a shown difference could have shown, each with the
    /// scatter of its own trials; `null` if there are none, or if one of them could not have shown any.
    pub showable_ratio: Option<f64>,
    /// Comparisons of that kind that could not be made, because no valid trial of one of both cells has the answer, or because they measured it
    /// in different ways.
    pub missing: usize,
    /// Whether all comparisons are decided, `shown` or `smaller`, and none is `missing`.
    pub decided: bool,
}

impl Decision {
    /// Comparisons that are not decided.
    pub fn undecided(&self) -> usize {
        self.comparisons - self.shown - self.smaller
    }

    /// Whether more trials would decide nothing: all comparisons that can be made are decided.
    pub fn is_over(&self) -> bool {
        self.undecided() == 0
    }
}

/// What is decided; `None` if the scenario does not ask.
pub(super) fn of(
    record: &Record,
    repetitions: usize,
    cells: &[CellSummary],
    asked: &[&Metric],
    comparisons: &[Comparison],
) -> Option<Decision> {
    let Stop { until: Until::Decided(difference), .. } = *record.whole.stop.as_ref()? else { return None };
    let looks = Looks::of(&record.whole).after().to_vec();
    let look = looks.iter().position(|look| *look == repetitions).map(|place| place + 1);
    let pairs =
        asked.iter().filter(|metric| metric.is_tested()).flat_map(|metric| with_best(cells, metric, comparisons));
    let (mut shown, mut smaller, mut showable, mut all) = (0, 0, Vec::new(), 0);
    for Pair { comparison, is_constant } in pairs {
        all += 1;
        // Values that never differ leave nothing to show, even where they are 0 and have no ratio.
        let ratio = if is_constant { Some(1.0) } else { comparison.compared.showable_ratio };
        let known = Known::of(comparison.compared.verdict, ratio, difference);
        shown += usize::from(known == Known::Shown);
        smaller += usize::from(known == Known::Smaller);
        if known != Known::Shown {
            showable.push(ratio);
        }
    }
    let names: Vec<_> = cells.iter().map(|cell| &cell.cell).collect();
    let with_best: usize = competing(&names, &record.whole.compare).iter().map(|group| group.len() - 1).sum();
    let missing = asked.iter().filter(|metric| metric.is_tested()).count() * with_best - all;
    let largest = showable.into_iter().reduce(|one, other| Some(one?.max(other?))).flatten();
    Some(Decision {
        difference,
        looks,
        repetitions,
        look,
        comparisons: all,
        shown,
        smaller,
        showable_ratio: largest,
        missing,
        decided: shown + smaller == all && missing == 0,
    })
}

/// A cell compared with the best of those that it competes with.
struct Pair<'a> {
    comparison: &'a Comparison,
    /// Whether all values of both are the same.
    is_constant: bool,
}

/// Each cell but the best, in the order of the cells: what a ranking by the metric compares.
fn with_best<'a>(
    cells: &'a [CellSummary],
    metric: &'a Metric,
    comparisons: &'a [Comparison],
) -> impl Iterator<Item = Pair<'a>> {
    let values = move |cell: &'a CellSummary| cell.metrics.get(metric.name);
    let number = |of: &serde_json::Map<_, _>| cells.iter().position(|cell| cell.cell == *of);
    let compared: Vec<(usize, usize, &Comparison)> = comparisons
        .iter()
        .filter(|comparison| comparison.metric == metric.name)
        .filter_map(|comparison| Some((number(&comparison.a)?, number(&comparison.b)?, comparison)))
        .collect();
    let is_better = move |one: usize, other: usize| {
        let standing = |cell: usize| standing(metric, values(&cells[cell]), cells[cell].valid > 0);
        standing(one).order(&standing(other)).then(one.cmp(&other)).is_lt()
    };
    (0..cells.len()).filter_map(move |cell| {
        let others = compared.iter().filter(|(a, b, _)| *a == cell || *b == cell);
        let others = others.map(|(a, b, comparison)| (if *a == cell { *b } else { *a }, *comparison));
        let better = others.filter(|(other, _)| is_better(*other, cell));
        let (best, comparison) = better.reduce(|one, other| if is_better(other.0, one.0) { other } else { one })?;
        let is_constant = is_constant(values(&cells[cell])?, values(&cells[best])?);
        Some(Pair { comparison, is_constant })
    })
}

fn is_constant(one: &Values, other: &Values) -> bool {
    let first = one.values.first();
    one.values.iter().chain(&other.values).all(|value| Some(value) == first)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{fixture, summarize},
        *,
    };
    use crate::{record::Outcome, stats::Summary};

    /// Three strategies: the second one's responses take three times as long as the others', which have values of their own only by `scatter`.
    fn summary(difference: f64, repetitions: u64, base: u64, scatter: u64) -> Summary {
        summarize(&record(difference, repetitions, base, scatter))
    }

    fn record(difference: f64, repetitions: u64, base: u64, scatter: u64) -> Record {
        let cells = [("one", 1), ("other", 3), ("third", 1)].into_iter().enumerate();
        let of_cell = |(index, (strategy, times)): (usize, (&str, u64))| {
            let trial = move |repetition: u64| {
                let mut trial = fixture::trial(repetition as usize, &json!({ "strategy": strategy }), Outcome::Valid);
                trial.cell_index = index;
                let response = &mut trial.latency_ns.response;
                (response.due, response.count) = (9, 9);
                response.p99 = Some(times * base + scatter * repetition);
                trial
            };
            (0..repetitions).map(trial).collect::<Vec<_>>()
        };
        let mut record = fixture::record(cells.flat_map(of_cell).collect());
        record.whole.answers = vec!["response_p99".to_owned(), "ports_wall".to_owned()];
        record.whole.repetitions = 7;
        record.whole.stop = Some(Stop { until: Until::Decided(difference), max_repetitions: 10 });
        record
    }

    #[test]
    fn what_is_shown_or_too_small_to_matter_is_decided() {
        let summary = summary(0.1, 7, 1_000, 1);
        let decision = summary.decision.unwrap();
        assert_eq!((&decision.looks[..], decision.look, decision.repetitions), (&[7, 10][..], Some(1), 7));
        // Each is compared with the best alone, and an exact answer is not tested.
        assert_eq!((decision.comparisons, decision.shown, decision.smaller), (2, 1, 1));
        assert!(decision.decided && decision.is_over() && decision.missing == 0);
        assert!(decision.showable_ratio.is_some_and(|ratio| (1.0..1.01).contains(&ratio)), "{decision:?}");
        // Two of 3432 orders are as extreme; Holm's correction is over three pairs, and there are two looks.
        let shown = summary.comparisons.iter().find(|one| one.compared.verdict.is_shown()).unwrap();
        assert!((shown.compared.p_adjusted - 2.0 * 3.0 * 2.0 / 3432.0).abs() < 1e-9, "{shown:?}");
    }

    #[test]
    fn a_difference_that_would_not_have_been_shown_is_open() {
        let decision = summary(0.001, 7, 1_000, 1).decision.unwrap();
        assert_eq!((decision.shown, decision.smaller, decision.undecided(), decision.decided), (1, 0, 1, false));
        // Three trials of each are too few for anything.
        let few = summary(0.1, 3, 1_000, 1).decision.unwrap();
        assert_eq!((few.look, few.undecided(), few.showable_ratio), (None, 2, None));
    }

    #[test]
    fn what_no_valid_trial_has_measured_is_missing_and_holds_nothing_up() {
        let decision = |without: &[usize]| {
            let mut record = record(0.1, 7, 1_000, 1);
            let lacking = record.raw.trials.iter_mut().filter(|trial| without.contains(&trial.cell_index));
            lacking.for_each(|trial| trial.outcome = Outcome::Failed);
            let decision = summarize(&record).decision.unwrap();
            (decision.comparisons, decision.missing, decision.is_over(), decision.decided)
        };
        assert_eq!(decision(&[]), (2, 0, true, true));
        assert_eq!(decision(&[1]), (1, 1, true, false));
        assert_eq!(decision(&[0, 1]), (0, 2, true, false));
    }

    #[test]
    fn values_that_never_differ_leave_nothing_to_decide() {
        let decision = summary(0.1, 7, 0, 0).decision.unwrap();
        assert_eq!((decision.smaller, decision.decided, decision.showable_ratio), (2, true, Some(1.0)));
    }
}
