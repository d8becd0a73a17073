//! Searches for the highest value of a key that keeps a limit: doubling, bisection, confirmation.
//!
//! [`next`] depends only on what has been observed, so a search can be replayed from a record.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{
    estimate::{ascending, median},
    metrics::{Better, Metric, Unit, metric_of},
    record::Record,
};
use crate::{
    record::{Outcome, TrialRecord, VerdictName},
    scenario::{
        Limit, Search,
        keys::{self, AnyKey},
    },
};

/// The lowest value tried is the first one divided by this.
const LOWEST_PART: f64 = 1_024.0;
/// A cell whose trials fail this often has no answer.
const FAILURES: usize = 2;

/// What is searched for.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// The metric that must keep the limit.
    pub metric: &'static Metric,
    /// The limit, in the metric's unit.
    pub limit: f64,
    /// The bracket is narrow enough at this part of its lower end.
    pub precision: f64,
    /// Number of trials that confirm each end.
    pub confirmations: usize,
    /// The highest value tried.
    pub highest: f64,
    /// Whether values are whole numbers.
    pub whole: bool,
    /// The search ends after this many trials.
    pub max_trials: usize,
}

impl Goal {
    /// From the scenario. An error names the key and the remedy.
    pub fn of(
        search: &Search,
        repetitions: usize,
        populations: &[&str],
    ) -> Result<Self, (&'static dyn AnyKey, String)> {
        let metric =
            metric_of(&search.metric, populations).map_err(|problem| (keys::SEARCH_METRIC as &dyn AnyKey, problem))?;
        if metric.better == Better::Neither {
            let problem = format!("{} has no better direction: choose another metric", metric.name);
            return Err((keys::SEARCH_METRIC, problem));
        }
        let limit = match (&search.limit, metric.unit) {
            (Limit::Duration(span), Unit::Nanoseconds) => span.as_nanos() as f64,
            (Limit::Duration(span), Unit::Seconds) => span.as_secs_f64(),
            (Limit::Number(number), unit) if !matches!(unit, Unit::Nanoseconds | Unit::Seconds) => *number,
            (Limit::Duration(_), _) => {
                return Err((keys::SEARCH_LIMIT, format!("{} is not a time: give a number", metric.name)));
            }
            (Limit::Number(_), _) => {
                let problem = format!("{} is a time: give a duration such as \"1ms\"", metric.name);
                return Err((keys::SEARCH_LIMIT, problem));
            }
        };
        Ok(Self {
            metric,
            limit,
            precision: search.precision,
            confirmations: repetitions,
            highest: search.highest,
            whole: search.whole,
            max_trials: search.max_trials,
        })
    }

    fn keeps(&self, figure: f64) -> bool {
        if self.metric.better == Better::Higher { figure >= self.limit } else { figure <= self.limit }
    }

    /// The figure of a trial that did not sustain the value.
    fn worst(&self) -> f64 {
        if self.metric.better == Better::Higher { f64::NEG_INFINITY } else { f64::INFINITY }
    }
}

/// What a trial says about the value that it tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Observed {
    /// The metric's value; infinitely bad if the offered load was not sustained.
    Figure(f64),
    /// Nothing usable.
    Nothing,
}

/// A trial of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attempt {
    /// The value tried.
    pub value: f64,
    /// What it showed.
    pub observed: Observed,
}

impl Attempt {
    fn of(goal: &Goal, trial: &TrialRecord) -> Option<Self> {
        let value = trial.search.as_ref()?.value;
        let has = |names: &[VerdictName]| trial.verdicts.iter().any(|verdict| names.contains(&verdict.name));
        let overloaded = match trial.outcome {
            // Not everything offered was served, or it never ended: no percentile of the rest makes up for that.
            Outcome::Valid => has(&[VerdictName::RateUnmet, VerdictName::Errors]),
            Outcome::Invalid => has(&[VerdictName::Deadline]),
            Outcome::Failed => false,
        };
        let figure = goal.metric.read(trial).filter(|_| trial.outcome == Outcome::Valid);
        let observed = match figure {
            _ if overloaded => Observed::Figure(goal.worst()),
            Some(figure) => Observed::Figure(figure),
            None => Observed::Nothing,
        };
        Some(Self { value, observed })
    }
}

/// The state of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SearchStatus {
    /// Both ends of the bracket are confirmed.
    Confirmed,
    /// Even the highest value allowed keeps the limit.
    NoEndFound,
    /// Not even the lowest value tried keeps the limit.
    NothingWithin,
    /// The number of trials allowed was reached.
    TrialsExhausted,
    /// Its trials failed, or were invalid.
    Failed,
    /// The run ended first.
    Unfinished,
}

/// The next step of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// A trial with this value.
    Try(f64),
    /// Nothing: the search has ended.
    Done(SearchStatus),
}

/// A value with the observations of its trials.
struct Tried {
    value: f64,
    figures: Vec<f64>,
}

/// The highest value within the limit, and the lowest beyond it. Values above that are ignored.
struct Bracket {
    within: Option<Tried>,
    beyond: Option<Tried>,
}

fn bracket(goal: &Goal, attempts: &[Attempt]) -> Bracket {
    let mut tried: Vec<Tried> = Vec::new();
    for attempt in attempts {
        let Observed::Figure(figure) = attempt.observed else { continue };
        match tried.iter_mut().find(|tried| tried.value == attempt.value) {
            Some(tried) => tried.figures.push(figure),
            None => tried.push(Tried { value: attempt.value, figures: vec![figure] }),
        }
    }
    tried.sort_by(|one, other| one.value.total_cmp(&other.value));
    let keeps = |tried: &Tried| median(&ascending(&tried.figures)).is_some_and(|figure| goal.keeps(figure));
    let mut bracket = Bracket { within: None, beyond: None };
    for one in tried {
        if !keeps(&one) {
            bracket.beyond = Some(one);
            break;
        }
        bracket.within = Some(one);
    }
    bracket
}

/// The next step of a search, given its first value and its attempts so far.
pub fn next(goal: &Goal, first: f64, attempts: &[Attempt]) -> Next {
    let failures = attempts.iter().filter(|attempt| attempt.observed == Observed::Nothing).count();
    if failures >= FAILURES {
        return Next::Done(SearchStatus::Failed);
    }
    let wanted = match bracket(goal, attempts) {
        Bracket { within: None, beyond: None } => Ok(first),
        Bracket { within: Some(within), beyond: None } if within.value >= goal.highest => {
            confirm(goal, &[within]).ok_or(SearchStatus::NoEndFound)
        }
        Bracket { within: Some(within), beyond: None } => Ok((2.0 * within.value).min(goal.highest)),
        Bracket { within: None, beyond: Some(beyond) } => {
            let lower = rounded(goal, beyond.value / 2.0);
            let end = lower < first / LOWEST_PART || lower >= beyond.value;
            if end { confirm(goal, &[beyond]).ok_or(SearchStatus::NothingWithin) } else { Ok(lower) }
        }
        Bracket { within: Some(within), beyond: Some(beyond) } => {
            let middle = rounded(goal, (within.value * beyond.value).sqrt());
            let wide = beyond.value > within.value * (1.0 + goal.precision);
            if wide && middle > within.value && middle < beyond.value {
                Ok(middle)
            } else {
                confirm(goal, &[within, beyond]).ok_or(SearchStatus::Confirmed)
            }
        }
    };
    match wanted {
        Ok(_) if attempts.len() >= goal.max_trials => Next::Done(SearchStatus::TrialsExhausted),
        Ok(value) => Next::Try(value),
        Err(status) => Next::Done(status),
    }
}

/// A value that has too few trials.
fn confirm(goal: &Goal, ends: &[Tried]) -> Option<f64> {
    ends.iter().find(|end| end.figures.len() < goal.confirmations).map(|end| end.value)
}

/// Rounded to three digits, or to a whole number.
fn rounded(goal: &Goal, value: f64) -> f64 {
    if goal.whole {
        return value.round().max(1.0);
    }
    // Through its decimal digits, so that a record gives back exactly the same number.
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// The result of a search: a row of `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Found {
    /// The swept values of the combination, without the variable.
    pub cell: Map<String, Json>,
    /// The key that was varied.
    pub variable: String,
    /// By name.
    pub metric: String,
    /// In the metric's unit.
    pub limit: f64,
    /// The highest value that keeps the limit by the median of its trials; `null` if none was found.
    pub within: Option<f64>,
    /// The median of the metric there.
    pub within_figure: Option<f64>,
    /// The lowest value that does not; `null` if none was found.
    pub beyond: Option<f64>,
    /// The median of the metric there; `null` also if the offered load was not sustained.
    pub beyond_figure: Option<f64>,
    /// How the search ended.
    pub status: SearchStatus,
    /// Trials it took.
    pub trials: usize,
}

/// The attempts of one cell's search, in order.
pub fn attempts(goal: &Goal, trials: &[TrialRecord], cell_index: usize) -> Vec<Attempt> {
    let own = trials.iter().filter(|trial| trial.cell_index == cell_index);
    own.filter_map(|trial| Attempt::of(goal, trial)).collect()
}

/// The results of a record's searches.
pub(super) fn found(record: &Record) -> Vec<Found> {
    let Some(search) = &record.whole.search else { return Vec::new() };
    let Ok(goal) = Goal::of(search, record.whole.repetitions, &record.populations()) else { return Vec::new() };
    let mut cells: Vec<usize> = record.trials.iter().map(|trial| trial.cell_index).collect();
    cells.sort_unstable();
    cells.dedup();
    cells.into_iter().filter_map(|cell| found_of(record, search, &goal, cell)).collect()
}

fn found_of(record: &Record, search: &Search, goal: &Goal, cell_index: usize) -> Option<Found> {
    let trial = record.trials.iter().find(|trial| trial.cell_index == cell_index)?;
    let searched = trial.search.as_ref()?;
    let attempts = attempts(goal, &record.trials, cell_index);
    let status = match next(goal, searched.value, &attempts) {
        Next::Done(status) => status,
        Next::Try(_) => SearchStatus::Unfinished,
    };
    let bracket = bracket(goal, &attempts);
    let figure = |tried: &Option<Tried>| {
        let figures = &tried.as_ref()?.figures;
        median(&ascending(figures)).filter(|figure| figure.is_finite())
    };
    let mut cell = trial.cell.clone();
    cell.shift_remove(&searched.name);
    Some(Found {
        cell,
        variable: search.variable.to_owned(),
        metric: goal.metric.name.to_owned(),
        limit: goal.limit,
        within: bracket.within.as_ref().map(|tried| tried.value),
        within_figure: figure(&bracket.within),
        beyond: bracket.beyond.as_ref().map(|tried| tried.value),
        beyond_figure: figure(&bracket.beyond),
        status,
        trials: attempts.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{metrics::metric_named, synthetic::Noise},
        *,
    };

    fn goal(whole: bool) -> Goal {
        Goal {
            metric: metric_named("accept_wait_p99").unwrap(),
            limit: 1e6,
            precision: 0.05,
            confirmations: 3,
            highest: 1e6,
            whole,
            max_trials: 60,
        }
    }

    /// Searches against a made-up machine.
    fn search(goal: &Goal, first: f64, mut machine: impl FnMut(f64) -> Observed) -> (SearchStatus, Vec<Attempt>) {
        let mut attempts = Vec::new();
        loop {
            match next(goal, first, &attempts) {
                Next::Done(status) => return (status, attempts),
                Next::Try(value) => attempts.push(Attempt { value, observed: machine(value) }),
            }
            assert!(attempts.len() <= goal.max_trials);
        }
    }

    #[test]
    fn the_bracket_holds_the_true_rate_and_both_ends_are_confirmed() {
        for (truth, first) in [(12_345.0, 1_000.0), (700.0, 40_000.0), (1_000.0, 1_000.0)] {
            let machine = |rate: f64| Observed::Figure(if rate <= truth { 5e5 } else { 2e6 });
            let (status, attempts) = search(&goal(false), first, machine);
            assert_eq!(status, SearchStatus::Confirmed);
            let Bracket { within: Some(within), beyond: Some(beyond) } = bracket(&goal(false), &attempts) else {
                panic!()
            };
            assert!(within.value <= truth && truth < beyond.value && beyond.value / within.value <= 1.05 + 1e-9);
            assert_eq!((within.figures.len(), beyond.figures.len()), (3, 3));
            assert!(attempts.len() < 25, "{}", attempts.len());
        }
    }

    #[test]
    fn one_false_alarm_does_not_decide() {
        let mut calls = 0;
        // The first trial at a low rate goes wrong.
        let machine = |rate: f64| {
            calls += 1;
            Observed::Figure(if calls == 1 || rate > 9_000.0 { f64::INFINITY } else { 5e5 })
        };
        let (status, attempts) = search(&goal(false), 4_000.0, machine);
        assert_eq!(status, SearchStatus::Confirmed);
        let within = bracket(&goal(false), &attempts).within.unwrap().value;
        assert!((8_500.0..=9_000.0).contains(&within), "{within}");
    }

    #[test]
    fn noise_around_the_limit_leaves_the_answer_near_it() {
        let mut noise = Noise::new(9);
        let mut far = 0;
        for _ in 0..200 {
            // The wait grows with the square of the rate: the limit is met at 10,000.
            let machine = |rate: f64| Observed::Figure(noise.sample(1, 1e6 * (rate / 1e4).powi(2), 0.1, false)[0]);
            let (_, attempts) = search(&goal(false), 1_000.0, machine);
            let within = bracket(&goal(false), &attempts).within.unwrap().value;
            far += usize::from(!(8_500.0..=11_500.0).contains(&within));
        }
        assert!(far <= 4, "{far} of 200 answers are off by more than 15 %");
    }

    #[test]
    fn searches_without_an_answer_end_and_say_why() {
        let status = |whole, first, machine: fn(f64) -> Observed| search(&goal(whole), first, machine).0;
        assert_eq!(status(false, 1_000.0, |_| Observed::Figure(1.0)), SearchStatus::NoEndFound);
        assert_eq!(status(false, 1_000.0, |_| Observed::Figure(1e9)), SearchStatus::NothingWithin);
        assert_eq!(status(true, 64.0, |_| Observed::Figure(1e9)), SearchStatus::NothingWithin);
        assert_eq!(status(false, 1_000.0, |_| Observed::Nothing), SearchStatus::Failed);
        let short = Goal { max_trials: 5, ..goal(false) };
        let (status, attempts) = search(&short, 1.0, |rate| Observed::Figure(if rate < 5e5 { 1.0 } else { 1e9 }));
        assert_eq!((status, attempts.len()), (SearchStatus::TrialsExhausted, 5));
    }

    #[test]
    fn values_have_exactly_three_digits() {
        for (value, digits) in [(57.282_196, 57.3), (1_414.213, 1_410.0), (0.012_345, 0.012_3), (1e6, 1e6)] {
            assert_eq!(rounded(&goal(false), value), digits);
        }
    }

    #[test]
    fn whole_numbers_stay_whole_and_their_bracket_closes() {
        let (status, attempts) =
            search(&goal(true), 4.0, |value| Observed::Figure(if value <= 11.0 { 1.0 } else { 1e9 }));
        assert_eq!(status, SearchStatus::Confirmed);
        assert!(attempts.iter().all(|attempt| attempt.value.fract() == 0.0));
        let Bracket { within, beyond } = bracket(&goal(true), &attempts);
        assert_eq!((within.unwrap().value, beyond.unwrap().value), (11.0, 12.0));
    }
}
