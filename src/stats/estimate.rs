//! The median of a cell's trials, with a bootstrap interval.
//!
//! The bootstrap (Efron 1979) draws samples with replacement from the values and takes the median of each; the interval holds
//! the middle of those medians (percentile method). For the median of one sample it is widened by Hesterberg's expansion, since
//! small samples make it too narrow (The American Statistician 69, 2015). The *ranks* that a resample's median falls on depend
//! only on the number of values, so they are drawn once per number and used for every metric.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::{IntervalKind, Values};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Confidence level of all intervals.
pub const LEVEL: f64 = 0.95;
/// Number of resamples: each 2.5 % tail holds a hundred.
pub const RESAMPLES: usize = 4_000;
/// With fewer values, no interval of the median reaches the level: that from the smallest to the largest covers the median with
/// a probability of 1 − 2/2ⁿ, which is 94 % for five.
pub const TRIALS_FOR_INTERVAL: usize = 5;

/// With fewer values on a side, a ratio or difference of medians has no interval.
pub const VALUES_FOR_RATIO: usize = 4;

/// A number with the ends of its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// The number.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Median of numbers in ascending order; `None` of none.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[middle - 1], upper) })
}

/// Numbers in ascending order.
pub fn ascending(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// Ranks that a resample's median lies between: twice the same one if the number of values is odd.
type Ranks = (u32, u32);

/// The ranks of every resample of so many values.
#[derive(Debug)]
struct Drawn {
    all: Vec<Ranks>,
    /// The different ones of them, and how often each was drawn.
    tallied: Vec<(Ranks, usize)>,
}

/// A resample's median.
fn between(sorted: &[f64], (lower, upper): Ranks) -> f64 {
    f64::midpoint(sorted[lower as usize], sorted[upper as usize])
}

/// Which of two samples is resampled: each has random numbers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    One,
    Other,
}

/// Bootstraps medians with a fixed seed.
#[derive(Debug)]
pub struct Bootstrap {
    seed: u64,
    ranks: HashMap<(usize, Side), Drawn>,
}

impl Bootstrap {
    /// The same seed gives the same intervals.
    pub fn new(seed: u64) -> Self {
        Self { seed, ranks: HashMap::new() }
    }

    fn ranks(&mut self, count: usize, side: Side) -> &Drawn {
        let seed = self.seed;
        self.ranks.entry((count, side)).or_insert_with(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(2 * count as u64 + u64::from(side == Side::Other));
            // How often each rank was drawn: sooner counted through than sorted.
            let mut drawn = vec![0_u32; count];
            let (below, middle) = (((count - 1) / 2) as u32, (count / 2) as u32);
            let resample = |_| {
                drawn.fill(0);
                for _ in 0..count {
                    drawn[rng.random_range(0..count as u32) as usize] += 1;
                }
                let mut passed = 0;
                let mut ranks = (0..).zip(&drawn).map(|(rank, times)| {
                    passed += times;
                    (rank, passed)
                });
                let reached = |(_, passed): &(u32, u32), place| *passed > place;
                let lower = ranks.find(|one| reached(one, below)).expect("all were drawn");
                let upper = if reached(&lower, middle) { Some(lower) } else { ranks.find(|one| reached(one, middle)) };
                (lower.0, upper.expect("all were drawn").0)
            };
            let all: Vec<Ranks> = (0..RESAMPLES).map(resample).collect();
            let mut tallied = HashMap::new();
            all.iter().for_each(|ranks| *tallied.entry(*ranks).or_default() += 1);
            Drawn { all, tallied: tallied.into_iter().collect() }
        })
    }

    /// Medians of resamples.
    fn medians(&mut self, sorted: &[f64], side: Side) -> Vec<f64> {
        self.ranks(sorted.len(), side).all.iter().map(|ranks| between(sorted, *ranks)).collect()
    }

    /// The values that all medians of resamples but a tail at each end lie between: the same as `middle` of all of them.
    fn middle(&mut self, sorted: &[f64], tail: f64) -> (f64, f64) {
        let tallied = &self.ranks(sorted.len(), Side::One).tallied;
        let mut medians: Vec<_> = tallied.iter().map(|(ranks, times)| (between(sorted, *ranks), *times)).collect();
        medians.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
        let tail = (tail * RESAMPLES as f64) as usize;
        let placed = |place| {
            let mut passed = 0;
            let reached = |(_, times): &&(f64, usize)| {
                passed += times;
                passed > place
            };
            medians.iter().find(reached).expect("as many as resamples").0
        };
        (placed(tail), placed(RESAMPLES - 1 - tail))
    }

    /// The median of values with its interval; `None` of none.
    pub fn estimate(&mut self, values: Vec<f64>) -> Option<Values> {
        let sorted = ascending(&values);
        let median = median(&sorted)?;
        let (low, high, interval) = if sorted.len() < TRIALS_FOR_INTERVAL {
            (sorted[0], sorted[sorted.len() - 1], IntervalKind::Range)
        } else {
            let (low, high) = self.middle(&sorted, expanded_tail(sorted.len()));
            (low, high, IntervalKind::Bootstrap)
        };
        Some(Values { median, low, high, interval, values, attempts: None })
    }

    /// A sample with the medians of its resamples, on one side of comparisons; `None` of too few values. With four, a ratio's interval
    /// covers the truth in 92 % of cases.
    pub(super) fn resampled(&mut self, values: &[f64], side: Side) -> Option<Resampled> {
        if values.len() < VALUES_FOR_RATIO {
            return None;
        }
        let sorted = ascending(values);
        Some(Resampled { smallest: sorted[0], median: median(&sorted)?, medians: self.medians(&sorted, side) })
    }
}

/// A sample with the medians of its resamples.
#[derive(Debug)]
pub(super) struct Resampled {
    smallest: f64,
    median: f64,
    medians: Vec<f64>,
}

impl Resampled {
    /// Another sample's median ÷ and − this one's, with intervals. The ratio is `None` if either sample has values that
    /// are not positive; either is if it, or an end of its interval, would rest on a value that is not finite.
    pub(super) fn ratio_and_difference(&self, other: &Self) -> (Option<Interval>, Option<Interval>) {
        let finite = |(one, other): &(f64, f64)| one.is_finite() && other.is_finite();
        let interval = |of: fn(f64, f64) -> f64| {
            let pairs = || self.medians.iter().copied().zip(other.medians.iter().copied());
            // An infinite median would be off the scale, but on which side, of two, nobody could say.
            if !finite(&(self.median, other.median)) || !pairs().all(|pair| finite(&pair)) {
                return None;
            }
            let (low, high) = middle(pairs().map(|(one, other)| of(one, other)).collect(), TAIL);
            Some(Interval { value: of(self.median, other.median), low, high })
        };
        // Positive values have positive medians, in every resample.
        let positive = self.smallest > 0.0 && other.smallest > 0.0;
        (if positive { interval(|one, other| other / one) } else { None }, interval(|one, other| other - one))
    }
}

/// Share of the resamples beyond each end.
const TAIL: f64 = (1.0 - LEVEL) / 2.0;

/// The same for one sample's median, with Student's quantile instead of the normal one and the variance over n − 1.
fn expanded_tail(count: usize) -> f64 {
    let freedom = (count - 1) as f64;
    let quantile = StudentsT::new(0.0, 1.0, freedom).map_or(f64::NEG_INFINITY, |law| law.inverse_cdf(TAIL));
    Normal::standard().cdf(quantile * (count as f64 / freedom).sqrt())
}

/// The values that all but a tail at each end lie between.
fn middle(mut values: Vec<f64>, tail: f64) -> (f64, f64) {
    let tail = (tail * values.len() as f64) as usize;
    let last = values.len() - 1 - tail;
    let (_, high, _) = values.select_nth_unstable_by(last, f64::total_cmp);
    let high = *high;
    let (_, low, _) = values[..=last].select_nth_unstable_by(tail, f64::total_cmp);
    (*low, high)
}

#[cfg(test)]
mod tests {
    use super::{super::synthetic::Noise, *};

    #[test]
    fn tallied_medians_have_the_middle_of_all() {
        let mut bootstrap = Bootstrap::new(1);
        for count in [5, 6, 31, 200] {
            let sorted: Vec<f64> = (0..count).map(|i| f64::from(i * i % 97).sqrt()).collect();
            let sorted = ascending(&sorted);
            for tail in [0.0, 0.01, TAIL, 0.2] {
                let all = bootstrap.medians(&sorted, Side::One);
                assert_eq!(bootstrap.middle(&sorted, tail), middle(all, tail), "{count} {tail}");
            }
        }
    }

    #[test]
    fn medians_and_intervals() {
        let mut bootstrap = Bootstrap::new(1);
        assert_eq!(bootstrap.estimate(vec![]), None);
        let odd = bootstrap.estimate(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.low, odd.high, odd.interval), (2.0, 1.0, 3.0, IntervalKind::Range));
        assert_eq!(bootstrap.estimate(vec![4.0, 1.0]).unwrap().median, 2.5);
        let five = bootstrap.estimate(vec![5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        // The median of a resample of five is its smallest value with probability 0.058: above 2.5 %.
        assert_eq!((five.median, five.low, five.high, five.interval), (3.0, 1.0, 5.0, IntervalKind::Bootstrap));
        let same = bootstrap.estimate(vec![7.0; 9]).unwrap();
        assert_eq!((same.median, same.low, same.high), (7.0, 7.0, 7.0));
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let values: Vec<f64> = (0..10).map(|i| f64::from(i * i)).collect();
        let estimate = |seed| Bootstrap::new(seed).estimate(values.clone()).unwrap();
        assert_eq!(estimate(5), estimate(5));
    }

    #[test]
    fn a_ratio_needs_positive_values_and_a_difference_does_not() {
        let mut bootstrap = Bootstrap::new(1);
        let mut side = |values: &[f64], side| bootstrap.resampled(values, side);
        let (two, three) = (side(&[2.0; 5], Side::One).unwrap(), side(&[3.0; 6], Side::Other).unwrap());
        let (ratio, difference) = two.ratio_and_difference(&three);
        assert_eq!(ratio, Some(Interval { value: 1.5, low: 1.5, high: 1.5 }));
        assert_eq!(difference, Some(Interval { value: 1.0, low: 1.0, high: 1.0 }));
        let (ratio, difference) = side(&[0.0; 5], Side::One).unwrap().ratio_and_difference(&three);
        assert_eq!((ratio, difference.unwrap().value), (None, 3.0));
        let nothing = side(&[0.0; 5], Side::Other).unwrap();
        assert_eq!(two.ratio_and_difference(&nothing).0, None, "neither way round");
        assert!(side(&[1.0; 4], Side::One).is_some() && side(&[1.0; 3], Side::One).is_none());
    }

    #[test]
    fn what_is_not_reached_has_a_median_and_no_ratio() {
        const LOST: f64 = f64::INFINITY;
        let mut bootstrap = Bootstrap::new(1);
        let few = bootstrap.estimate(vec![LOST, 1.0, 2.0]).unwrap();
        assert_eq!((few.median, few.low, few.high), (2.0, 1.0, LOST));
        assert_eq!(bootstrap.estimate(vec![1.0, LOST]).unwrap().median, LOST, "between the two is beyond any value");
        let most = bootstrap.estimate(vec![LOST, LOST, 1.0, LOST, 2.0, LOST]).unwrap();
        assert_eq!((most.median, most.low, most.high), (LOST, 1.0, LOST));
        let mut side = |values: &[f64], side| bootstrap.resampled(values, side).unwrap();
        let (reached, lost) = (side(&[1.0; 5], Side::One), side(&[LOST; 5], Side::Other));
        assert_eq!(reached.ratio_and_difference(&lost), (None, None));
        assert_eq!(lost.ratio_and_difference(&reached), (None, None));
        assert_eq!(lost.ratio_and_difference(&lost), (None, None));
        // A single trial among the lost leaves the median, but not its interval.
        let one_lost = side(&[1.0, 1.0, 1.0, 1.0, LOST], Side::Other);
        assert_eq!(reached.ratio_and_difference(&one_lost), (None, None));
    }

    /// How often the interval covers the truth, in two thousand experiments.
    #[test]
    fn intervals_cover_the_truth_as_often_as_they_say() {
        const EXPERIMENTS: usize = 2_000;
        let mut bootstrap = Bootstrap::new(3);
        let mut noise = Noise::new(11);
        for trials in [5, 6, 8, 10, 15, 20, 30] {
            for heavy in [false, true] {
                let mut covered = [0, 0];
                for _ in 0..EXPERIMENTS {
                    let mut draw = |level: f64| noise.sample(trials, level, 0.05, heavy);
                    let (one, other) = (draw(100.0), draw(120.0));
                    let of_median = bootstrap.estimate(one.clone()).unwrap();
                    covered[0] += usize::from(of_median.low <= 100.0 && 100.0 <= of_median.high);
                    let mut side = |values: &[f64], side| bootstrap.resampled(values, side).unwrap();
                    let (one, other) = (side(&one, Side::One), side(&other, Side::Other));
                    let ratio = one.ratio_and_difference(&other).0.unwrap();
                    covered[1] += usize::from(ratio.low <= 1.2 && 1.2 <= ratio.high);
                }
                let share = covered.map(|count| count as f64 / EXPERIMENTS as f64);
                // Five values reach at most 93.75 %; two thousand experiments scatter by half a percent.
                let least = if trials == 5 { 0.92 } else { 0.945 };
                let holds = |share: f64| (least..=0.985).contains(&share);
                assert!(share.into_iter().all(holds), "{trials} trials, heavy {heavy}: {share:?}");
            }
        }
    }
}
