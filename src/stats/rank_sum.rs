//! The permutation test of two samples: how often would shuffled labels differ as much by chance?
//!
//! The statistic is the sum of one sample's ranks among all values, with ties sharing their mean rank (Wilcoxon 1945; Mann and
//! Whitney 1947), so a single outlier cannot make or break a difference. The null distribution is over all ways to pick that
//! many ranks: exact while enumeration is cheap, sampled with a seed beyond that.

use std::{cmp::Ordering, collections::HashMap, rc::Rc};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The null distribution is exact for up to this many values in both samples.
const EXACT_VALUES: usize = 60;
/// Number of permutations drawn beyond that.
const PERMUTATIONS: usize = 10_000;

/// The outcome of a test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// Two-sided: the share of permutations whose rank sum is at least as far from its mean.
    pub p_value: f64,
    /// Whether the second sample ranks higher than its mean under chance (`Greater`), lower, or neither.
    pub direction: Ordering,
}

/// Tests with a fixed seed; remembers null distributions.
#[derive(Debug)]
pub struct RankSum {
    seed: u64,
    known: HashMap<(usize, Vec<u32>), Rc<Null>>,
}

/// How rank sums are distributed: the probability of a sum at least as far from the mean, by distance.
#[derive(Debug)]
struct Null {
    /// By distance, in half ranks.
    at_least: Vec<f64>,
}

impl RankSum {
    /// The same seed gives the same p-values.
    pub fn new(seed: u64) -> Self {
        Self { seed, known: HashMap::new() }
    }

    /// Tests two samples. Neither may be empty.
    pub fn test(&mut self, one: &[f64], other: &[f64]) -> Test {
        let ranks = doubled_midranks(one, other);
        let (found, mean) = (sum(&ranks[..one.len()]), mean(one.len(), ranks.len()));
        let null = self.null(one.len(), ranks);
        // Rounding may add up to a little more than 1.
        Test { p_value: null.at_least[found.abs_diff(mean) as usize].min(1.0), direction: mean.cmp(&found) }
    }

    /// The smallest p-value that samples of these sizes can have: that of complete separation, without ties.
    pub fn smallest_p(one: usize, other: usize) -> f64 {
        if one == 0 || other == 0 { 1.0 } else { (2.0 / choose(one + other, one)).min(1.0) }
    }

    /// The fewest trials per cell with which any of that many comparisons could show a difference after Holm's correction.
    pub fn trials_needed(comparisons: usize, significance: f64) -> usize {
        (1..)
            .find(|trials| Self::smallest_p(*trials, *trials) * comparisons as f64 <= significance)
            .unwrap_or(usize::MAX)
    }

    /// The smallest ratio of medians, higher ÷ lower, that the test would find at a level in values with this scatter, whichever
    /// sample is the higher: both are scaled to the same median, and one is multiplied until p falls below the level. `None` if
    /// no ratio would do, values are not positive, or a median was not reached.
    pub fn showable_ratio(&mut self, one: &[f64], other: &[f64], level: f64) -> Option<f64> {
        let centred = |values: &[f64]| -> Option<Vec<f64>> {
            let sorted = super::estimate::ascending(values);
            let middle = super::estimate::median(&sorted)?;
            (sorted[0] > 0.0 && middle.is_finite()).then(|| sorted.iter().map(|value| value / middle).collect())
        };
        let (one, other) = (centred(one)?, centred(other)?);
        Some(self.showable_above(&one, &other, level)?.max(self.showable_above(&other, &one, level)?))
    }

    /// The same with the second sample as the higher one.
    fn showable_above(&mut self, one: &[f64], other: &[f64], level: f64) -> Option<f64> {
        // The rank sum changes where a value of the second overtakes one of the first.
        let overtakings = one.iter().flat_map(|a| other.iter().map(move |b| a / b));
        // Values that were not reached are overtaken by no finite one.
        let mut ratios: Vec<f64> = overtakings.filter(|ratio| *ratio >= 1.0 && ratio.is_finite()).collect();
        ratios.push(1.0);
        ratios.sort_unstable_by(f64::total_cmp);
        ratios.dedup();
        let mut found = |ratio: f64| {
            // Slightly more than a tie.
            let shifted: Vec<f64> = other.iter().map(|value| value * ratio * (1.0 + 1e-9)).collect();
            let test = self.test(one, &shifted);
            test.direction == Ordering::Greater && test.p_value <= level
        };
        let at = ratios.partition_point(|ratio| !found(*ratio));
        ratios.get(at).copied()
    }

    fn null(&mut self, one: usize, mut ranks: Vec<u32>) -> Rc<Null> {
        ranks.sort_unstable();
        let seed = self.seed;
        let null = self.known.entry((one, ranks)).or_insert_with_key(|(one, ranks)| {
            Rc::new(if ranks.len() <= EXACT_VALUES { Null::exact(*one, ranks) } else { Null::drawn(*one, ranks, seed) })
        });
        Rc::clone(null)
    }
}

impl Null {
    /// Counts the ways to pick `one` ranks by their sum, rank by rank.
    fn exact(one: usize, ranks: &[u32]) -> Self {
        let largest: usize = ranks.iter().rev().take(one).map(|rank| *rank as usize).sum();
        // ways[k][s]: subsets of k ranks with sum s.
        let mut ways = vec![vec![0.0_f64; largest + 1]; one + 1];
        ways[0][0] = 1.0;
        for (seen, rank) in ranks.iter().enumerate() {
            let rank = *rank as usize;
            for picked in (1..=one.min(seen + 1)).rev() {
                let (before, now) = ways.split_at_mut(picked);
                for (sum, way) in now[0][rank..].iter_mut().enumerate() {
                    *way += before[picked - 1][sum];
                }
            }
        }
        let all: f64 = ways[one].iter().sum();
        let weights = ways[one].iter().enumerate().map(|(sum, ways)| (sum as u64, ways / all));
        Self::of(one, ranks.len(), weights, 0.0)
    }

    /// Draws permutations. The observed one counts as a draw, so p is never 0 (Davison and Hinkley 1997).
    fn drawn(one: usize, ranks: &[u32], seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut ranks = ranks.to_vec();
        let each = 1.0 / (PERMUTATIONS + 1) as f64;
        let sums: Vec<u64> = (0..PERMUTATIONS)
            .map(|_| {
                (0..one).for_each(|place| {
                    let pick = rng.random_range(place..ranks.len());
                    ranks.swap(place, pick);
                });
                sum(&ranks[..one])
            })
            .collect();
        Self::of(one, ranks.len(), sums.into_iter().map(|sum| (sum, each)), each)
    }

    /// From sums with their probabilities, and the probability of the observed sum if it is not among them.
    fn of(one: usize, all: usize, sums: impl Iterator<Item = (u64, f64)>, found: f64) -> Self {
        let mean = mean(one, all);
        // Complete separation, either way, is this far from the mean.
        let mut at_least = vec![0.0; one * (all - one) + 1];
        for (sum, weight) in sums.filter(|(_, weight)| *weight > 0.0) {
            at_least[sum.abs_diff(mean) as usize] += weight;
        }
        let mut beyond = found;
        for weight in at_least.iter_mut().rev() {
            beyond += *weight;
            *weight = beyond;
        }
        Self { at_least }
    }
}

fn sum(ranks: &[u32]) -> u64 {
    ranks.iter().map(|rank| u64::from(*rank)).sum()
}

/// The mean sum of `one` doubled ranks among `all`: the ranks 1 to n add up to n(n + 1)/2, tied or not.
fn mean(one: usize, all: usize) -> u64 {
    (one * (all + 1)) as u64
}

/// Twice the rank of each value among all, first those of the first sample; ties share their mean rank.
fn doubled_midranks(one: &[f64], other: &[f64]) -> Vec<u32> {
    let all: Vec<f64> = one.iter().chain(other).copied().collect();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_unstable_by(|a, b| all[*a].total_cmp(&all[*b]));
    let mut ranks = vec![0; all.len()];
    for tied in order.chunk_by(|a, b| all[*a] == all[*b]).scan(0, |before, tied| {
        let first = *before;
        *before += tied.len();
        Some((first, tied))
    }) {
        let (first, tied) = tied;
        // Ranks first + 1 to first + n have the mean first + (n + 1)/2.
        tied.iter().for_each(|place| ranks[*place] = (2 * first + tied.len() + 1) as u32);
    }
    ranks
}

/// The binomial coefficient n over k.
fn choose(n: usize, k: usize) -> f64 {
    (0..k.min(n - k)).map(|i| (n - i) as f64 / (i + 1) as f64).product()
}

#[cfg(test)]
mod tests {
    use super::{super::synthetic::Noise, *};

    /// The p-value by enumerating all subsets of the ranks.
    fn by_enumeration(one: &[f64], other: &[f64]) -> f64 {
        let ranks = doubled_midranks(one, other);
        let count = ranks.len();
        let mean = ranks.iter().sum::<u32>() as f64 * one.len() as f64 / count as f64;
        let far = |sum: u32| (f64::from(sum) - mean).abs();
        let found = far(ranks[..one.len()].iter().sum());
        let (mut all, mut beyond) = (0_u32, 0_u32);
        for mask in 0_u32..1 << count {
            if mask.count_ones() as usize == one.len() {
                let sum = (0..count).filter(|place| mask >> place & 1 == 1).map(|place| ranks[place]).sum();
                all += 1;
                beyond += u32::from(far(sum) >= found - 1e-9);
            }
        }
        f64::from(beyond) / f64::from(all)
    }

    #[test]
    fn exact_p_values_of_small_fixtures() {
        let mut tests = RankSum::new(1);
        for (one, other, p) in [
            // Complete separation: 2 of the n-over-k ways are as extreme.
            (&[1.0, 2.0, 3.0][..], &[4.0, 5.0, 6.0][..], 2.0 / 20.0),
            (&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0], 2.0 / 252.0),
            (&[6.0, 7.0, 8.0, 9.0, 10.0], &[1.0, 2.0, 3.0, 4.0, 5.0], 2.0 / 252.0),
            // One pair out of order: rank sums 15, 16 and their mirrors.
            (&[1.0, 2.0, 3.0, 4.0, 6.0], &[5.0, 7.0, 8.0, 9.0, 10.0], 4.0 / 252.0),
            (&[1.0, 1.0], &[1.0, 1.0], 1.0),
            (&[1.0, 4.0], &[2.0, 3.0], 1.0),
        ] {
            let test = tests.test(one, other);
            assert!((test.p_value - p).abs() < 1e-12, "{one:?} {other:?}: {test:?}, not {p}");
        }
        let test = tests.test(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]);
        assert_eq!(test.direction, Ordering::Greater);
        assert_eq!(tests.test(&[4.0, 5.0], &[1.0, 2.0]).direction, Ordering::Less);
        assert_eq!(RankSum::smallest_p(5, 5), 2.0 / 252.0);
        // Four against four: 2/70. Five: 2/252 is enough for six comparisons, but not for seven.
        assert_eq!([1, 6, 7, 23, 24].map(|count| RankSum::trials_needed(count, 0.05)), [4, 5, 6, 6, 7]);
        assert_eq!((RankSum::smallest_p(1, 1), RankSum::smallest_p(0, 9)), (1.0, 1.0));
    }

    #[test]
    fn the_exact_distribution_is_the_enumerated_one_with_ties_too() {
        let (mut tests, mut noise) = (RankSum::new(1), Noise::new(5));
        for round in 0..60 {
            let sizes = (1 + round % 7, 1 + round % 5);
            let mut draw = |count| noise.sample(count, 10.0, 0.2, false);
            let (mut one, mut other) = (draw(sizes.0), draw(sizes.1));
            if round % 2 == 0 {
                one.iter_mut().chain(&mut other).for_each(|value| *value = value.round());
            }
            let (exact, enumerated) = (tests.test(&one, &other).p_value, by_enumeration(&one, &other));
            assert!((exact - enumerated).abs() < 1e-9, "{one:?} {other:?}: {exact} {enumerated}");
        }
    }

    #[test]
    fn drawn_p_values_are_near_the_exact_ones_and_never_0() {
        let mut noise = Noise::new(8);
        let (one, other) = (noise.sample(20, 100.0, 0.05, false), noise.sample(20, 102.5, 0.05, false));
        let ranks = doubled_midranks(&one, &other);
        let mut sorted = ranks.clone();
        sorted.sort_unstable();
        let (exact, drawn) = (Null::exact(20, &sorted), Null::drawn(20, &sorted, 4));
        for distance in (0..200).step_by(10) {
            let (exact, drawn) = (exact.at_least[distance], drawn.at_least[distance]);
            assert!((exact - drawn).abs() < 0.015, "{distance}: {exact} {drawn}");
        }
        let apart: Vec<f64> = (0..80).map(f64::from).collect();
        let p = RankSum::new(1).test(&apart[..40], &apart[40..]).p_value;
        assert!(p > 0.0 && p < 0.001, "{p}");
    }

    #[test]
    fn the_showable_ratio_is_the_smallest_that_would_have_been_found() {
        let (mut tests, mut noise) = (RankSum::new(1), Noise::new(2));
        let (one, other) = (noise.sample(10, 100.0, 0.05, false), noise.sample(10, 250.0, 0.05, false));
        let ratio = tests.showable_ratio(&one, &other, 0.05).unwrap();
        assert!(ratio > 1.0 && ratio < 1.15, "{ratio}");
        let middle =
            |values: &[f64]| super::super::estimate::median(&super::super::estimate::ascending(values)).unwrap();
        let (one_median, other_median) = (middle(&one), middle(&other));
        let shifted =
            |ratio: f64| other.iter().map(|value| value * ratio * one_median / other_median).collect::<Vec<_>>();
        let found = |tests: &mut RankSum, ratio: f64| tests.test(&one, &shifted(ratio)).p_value <= 0.05;
        // Found both ways at the ratio, but only one way just below it.
        assert!(found(&mut tests, ratio * 1.000_001) && found(&mut tests, 1.0 / (ratio * 1.000_001)));
        assert!(!(found(&mut tests, ratio * 0.999_999) && found(&mut tests, 1.0 / (ratio * 0.999_999))));
        // Three against three have no p-value below 0.1.
        assert_eq!(tests.showable_ratio(&one[..3], &other[..3], 0.05), None);
    }
    #[test]
    fn what_was_not_reached_ranks_last() {
        const LOST: f64 = f64::INFINITY;
        let mut tests = RankSum::new(1);
        let apart = tests.test(&[1.0, 2.0, 3.0, 4.0, 5.0], &[LOST; 5]);
        assert_eq!((apart.p_value, apart.direction), (2.0 / 252.0, Ordering::Greater));
        assert_eq!(tests.test(&[LOST; 4], &[LOST; 4]).p_value, 1.0, "all tied");
        let (one, other) = ([1.0, 1.1, 1.2, 1.3, LOST], [1.0, 1.1, 1.2, 1.3, 1.4]);
        let ratio = tests.showable_ratio(&one, &other, 0.05).unwrap_or(LOST);
        assert!(ratio > 1.0, "{ratio}");
        assert_eq!(tests.showable_ratio(&[LOST; 5], &other, 0.05), None);
    }
}
