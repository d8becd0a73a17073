//! Changes in series of runs: where the runs before differ from those after.
//!
//! The unit is the run, by the median of its trials. Every split of a series with at least [`SIDE`] runs on either side is tested with
//! the permutation test of ranks, and Holm's correction spans all splits of all series, so the chance of any false claim among them is at
//! most [`SIGNIFICANCE`]. The test assumes that runs could come in any order if nothing had changed: drift shows as a change, too, and
//! nothing here says what caused one.

use std::cmp::Ordering;

use super::{
    comparison::SIGNIFICANCE,
    design::RECORDS,
    estimate::{ascending, median},
    holm::holm,
    rank_sum::RankSum,
};

/// The fewest runs on either side of a change.
pub const SIDE: usize = RECORDS;

/// Of longer series only the latest runs are tested: p-values are exact up to here.
pub const LATEST: usize = 60;

/// What the test of a series shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Course {
    /// The strongest change: at most one is claimed in a series.
    Change(Change),
    /// Chance alone would produce such a series often enough.
    NoChangeShown,
    /// Not even a complete separation of its runs could be shown.
    TooFewRuns,
}

/// A change that is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The number of runs before it.
    pub before: usize,
    /// The median of the runs before it that were tested.
    pub from: f64,
    /// The median of the runs after it.
    pub to: f64,
    /// After Holm's correction.
    pub p_adjusted: f64,
}

/// All series of a page.
#[derive(Debug)]
pub struct Courses {
    /// In the order of the series.
    pub courses: Vec<Course>,
    /// The number of tests that the correction spans.
    pub tests: usize,
    /// The runs that a series needs, if all that have too few had as many; `None` if none has too few.
    pub needed: Option<usize>,
}

/// Tests all series, each in order of time.
pub fn courses(series: &[&[f64]]) -> Courses {
    let mut tests = RankSum::new(1);
    let mut found: Vec<(usize, usize, f64, Ordering)> = Vec::new();
    for (number, values) in series.iter().enumerate() {
        let first = values.len().saturating_sub(LATEST);
        for before in first + SIDE..(values.len() + 1).saturating_sub(SIDE) {
            let test = tests.test(&values[first..before], &values[before..]);
            found.push((number, before, test.p_value, test.direction));
        }
    }
    let adjusted = holm(&found.iter().map(|(_, _, p, _)| *p).collect::<Vec<_>>());
    let count = found.len();
    let mut courses: Vec<Course> = series.iter().map(|values| without_change(values.len(), count)).collect();
    for ((number, before, _, direction), p_adjusted) in found.into_iter().zip(adjusted) {
        let values = series[number];
        let first = values.len().saturating_sub(LATEST);
        let middle = |values: &[f64]| median(&ascending(values)).unwrap_or(f64::NAN);
        let (from, to) = (middle(&values[first..before]), middle(&values[before..]));
        // A difference in ranks that the medians contradict is of no use to a reader.
        let agrees = from.partial_cmp(&to) == Some(direction.reverse());
        if p_adjusted > SIGNIFICANCE || !agrees {
            continue;
        }
        let is_stronger = match &courses[number] {
            Course::Change(other) => p_adjusted < other.p_adjusted,
            Course::NoChangeShown | Course::TooFewRuns => true,
        };
        if is_stronger {
            courses[number] = Course::Change(Change { before, from, to, p_adjusted });
        }
    }
    let needed = courses.contains(&Course::TooFewRuns).then(|| needed(series));
    Courses { courses, tests: count, needed }
}

fn without_change(runs: usize, tests: usize) -> Course {
    if could_show(runs, tests) { Course::NoChangeShown } else { Course::TooFewRuns }
}

/// Whether so many tests leave a series of so many runs a chance: that of a complete separation in its middle.
fn could_show(runs: usize, tests: usize) -> bool {
    let runs = runs.min(LATEST);
    runs >= 2 * SIDE && RankSum::smallest_p(runs / 2, runs.div_ceil(2)) * tests as f64 <= SIGNIFICANCE
}

/// The fewest runs with which any change could be shown in every series.
fn needed(series: &[&[f64]]) -> usize {
    let splits = |runs: usize| (runs.min(LATEST) + 1).saturating_sub(2 * SIDE);
    let tests = |least: usize| series.iter().map(|values| splits(values.len().max(least))).sum();
    (2 * SIDE..LATEST).find(|runs| could_show(*runs, tests(*runs))).unwrap_or(LATEST)
}

#[cfg(test)]
mod tests {
    use super::{super::synthetic::Noise, *};

    fn steps(before: usize, after: usize) -> Vec<f64> {
        let of = |level: f64| move |i: usize| level + (i * 7 % 5) as f64 / 10.0;
        (0..before).map(of(100.0)).chain((0..after).map(of(140.0))).collect()
    }

    #[test]
    fn a_step_is_found_where_it_is() {
        let (step, flat) = (steps(5, 5), steps(10, 0));
        let Courses { courses, tests, needed } = super::courses(&[&step, &flat]);
        let Course::Change(change) = &courses[0] else { panic!("{courses:?}") };
        // Ten runs have three splits; the best possible is 2 of 252 orders.
        assert_eq!((change.before, tests, needed), (5, 6, None));
        assert!((change.p_adjusted - 6.0 * 2.0 / 252.0).abs() < 1e-12, "{change:?}");
        assert!(change.from < 101.0 && change.to >= 140.0, "{change:?}");
        assert_eq!(courses[1], Course::NoChangeShown);
    }

    #[test]
    fn too_few_runs_claim_nothing() {
        let few = steps(3, 4);
        let of_few = courses(&[&few]);
        assert_eq!((of_few.courses, of_few.tests, of_few.needed), (vec![Course::TooFewRuns], 0, Some(8)));
        // Eight runs have one split, and 2 of 70 orders are as extreme: enough for one series, not for two.
        let eight = steps(4, 4);
        assert!(matches!(courses(&[&eight]).courses[0], Course::Change(Change { before: 4, .. })));
        let two = courses(&[&eight, &eight]);
        assert_eq!(two.courses, [Course::TooFewRuns, Course::TooFewRuns]);
        // Two series of nine: four tests, 2 of 126.
        assert_eq!(two.needed, Some(10));
        assert!(!could_show(9, 4) && could_show(10, 6));
        assert!(courses(&[]).courses.is_empty() && courses(&[&[]]).courses == [Course::TooFewRuns]);
    }

    #[test]
    fn only_the_latest_runs_of_a_long_series_are_tested() {
        let long = steps(70, 40);
        let found = courses(&[&long]);
        let Course::Change(change) = &found.courses[0] else { panic!("{found:?}") };
        assert_eq!((change.before, found.tests), (70, 60 + 1 - 8));
        // A change before the latest is out of sight.
        assert_eq!(courses(&[&steps(20, 80)]).courses, [Course::NoChangeShown]);
    }

    /// How often is any change claimed where none is?
    #[test]
    fn false_changes_are_as_rare_as_the_level_says() {
        const EXPERIMENTS: usize = 400;
        let mut noise = Noise::new(5);
        for (runs, series) in [(12, 1), (20, 4)] {
            let claims = (0..EXPERIMENTS).filter(|_| {
                let all: Vec<Vec<f64>> = (0..series).map(|_| noise.sample(runs, 100.0, 0.05, true)).collect();
                let all: Vec<&[f64]> = all.iter().map(Vec::as_slice).collect();
                courses(&all).courses.iter().any(|course| matches!(course, Course::Change(_)))
            });
            let share = claims.count() as f64 / EXPERIMENTS as f64;
            assert!(share <= 0.075, "{series} series of {runs} runs: {share}");
        }
    }
}
