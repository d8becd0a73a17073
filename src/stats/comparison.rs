//! Compares two cells: how much they differ, and whether a difference was shown.

use std::cmp::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{EnumMessage, IntoStaticStr, VariantArray};

use super::{
    estimate::{Bootstrap, Interval, Side, ascending, median},
    holm::holm,
    rank_sum::RankSum,
};

/// A difference is shown if its adjusted p-value is at most this.
pub const SIGNIFICANCE: f64 = 0.05;

/// What a comparison of two cells shows.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, EnumMessage, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Difference {
    /// The first cell's values are higher.
    AHigher,
    /// The second cell's values are higher.
    BHigher,
    /// Chance alone would produce such a difference often enough.
    NoDifferenceShown,
    /// There are too few trials to show any difference.
    TooFewTrials,
}

impl Difference {
    /// All of them by their names in JSON, each with what it means.
    pub fn explained() -> impl Iterator<Item = (&'static str, &'static str)> {
        Self::VARIANTS.iter().map(|one| (one.into(), one.get_documentation().unwrap_or_default()))
    }

    /// Whether a difference is shown.
    pub fn is_shown(self) -> bool {
        matches!(self, Self::AHigher | Self::BHigher)
    }
}

/// The figures of a comparison of `b` with `a`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Compared {
    /// Median of b ÷ median of a; `null` if either has values that are not positive, or too few for an interval.
    pub ratio: Option<f64>,
    /// Lower end of the ratio's 95 % bootstrap interval.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// Median of b − median of a, with its interval, in the metric's unit.
    pub difference: Option<Interval>,
    /// p-value of the permutation test on these two cells alone.
    pub p_value: f64,
    /// The same, adjusted for all comparisons of its family (Holm) and for all looks at the results that the run could have ended with: the
    /// verdict's basis.
    pub p_adjusted: f64,
    /// What the comparison shows.
    pub verdict: Difference,
    /// Unless there were too few trials: the smallest ratio of medians, higher ÷ lower, that the test would have shown in
    /// these very values, moved apart, whichever of the two were higher; `null` if it would have shown none. New values with that true
    /// ratio would not always show it.
    pub showable_ratio: Option<f64>,
}

impl Compared {
    /// The same with a and b exchanged.
    pub fn reversed(&self) -> Self {
        let inverse = |ratio: Option<f64>| ratio.map(|ratio| 1.0 / ratio);
        Self {
            ratio: inverse(self.ratio),
            low: inverse(self.high),
            high: inverse(self.low),
            difference: self.difference.map(|of| Interval { value: -of.value, low: -of.high, high: -of.low }),
            verdict: match self.verdict {
                Difference::AHigher => Difference::BHigher,
                Difference::BHigher => Difference::AHigher,
                other => other,
            },
            ..self.clone()
        }
    }
}

/// What the tests of a pair found.
pub(super) struct Tested {
    p_value: f64,
    p_adjusted: f64,
    pub verdict: Difference,
    /// The p-value that would have shown a difference in this pair; `None` if no outcome could have had one.
    pub level: Option<f64>,
}

fn median_of(values: &[f64]) -> Option<f64> {
    median(&ascending(values))
}

/// What Holm's correction would make of one pair's p-value if it were smaller and all others unchanged.
struct BestCase {
    /// In ascending order.
    p_values: Vec<f64>,
    /// The adjusted p-value of the k-th smallest: no later one can be lower.
    reached: Vec<f64>,
}

impl BestCase {
    fn of(p_values: &[f64]) -> Self {
        let p_values = ascending(p_values);
        let count = p_values.len();
        let mut largest = 0.0_f64;
        let reached = p_values.iter().enumerate().map(|(before, p)| {
            largest = largest.max(p * (count - before) as f64);
            largest
        });
        Self { reached: reached.collect(), p_values }
    }

    /// How many smaller ones there are.
    fn before(&self, p: f64) -> usize {
        self.p_values.partition_point(|other| *other < p)
    }

    fn factor(&self, p: f64) -> f64 {
        (self.p_values.len() - self.before(p)).max(1) as f64
    }

    fn adjusted(&self, p: f64) -> f64 {
        let before = self.before(p);
        let least = before.checked_sub(1).map_or(0.0, |last| self.reached[last]);
        least.max(p * self.factor(p)).min(1.0)
    }
}

/// Compares pairs of samples, given by their numbers, and corrects for the number of pairs and of looks. No sample of a pair may be empty.
pub fn compare_all(
    samples: &[&[f64]],
    pairs: &[(usize, usize)],
    looks: usize,
    bootstrap: &mut Bootstrap,
    tests: &mut RankSum,
) -> Vec<Compared> {
    let tested = test_all(samples, pairs, looks, tests);
    // Each sample is resampled once, however many pairs it is in.
    let mut resampled = |side| -> Vec<_> { samples.iter().map(|values| bootstrap.resampled(values, side)).collect() };
    let (ones, others) = (resampled(Side::One), resampled(Side::Other));
    let compared = |((a, b), tested): (&(usize, usize), Tested)| {
        let both = ones[*a].as_ref().zip(others[*b].as_ref());
        let (ratio, difference): (Option<Interval>, Option<Interval>) =
            both.map_or((None, None), |(one, other)| one.ratio_and_difference(other));
        Compared {
            ratio: ratio.map(|ratio| ratio.value),
            low: ratio.map(|ratio| ratio.low),
            high: ratio.map(|ratio| ratio.high),
            difference,
            p_value: tested.p_value,
            p_adjusted: tested.p_adjusted,
            verdict: tested.verdict,
            showable_ratio: tested.level.and_then(|level| tests.showable_ratio(samples[*a], samples[*b], level)),
        }
    };
    pairs.iter().zip(tested).map(compared).collect()
}

/// Tests such pairs, without sizes.
pub(super) fn test_all(samples: &[&[f64]], pairs: &[(usize, usize)], looks: usize, tests: &mut RankSum) -> Vec<Tested> {
    let for_looks = |p: f64| (p * looks as f64).min(1.0);
    let results: Vec<_> = pairs.iter().map(|(a, b)| tests.test(samples[*a], samples[*b])).collect();
    let p_values: Vec<f64> = results.iter().map(|test| test.p_value).collect();
    let adjusted = holm(&p_values);
    let best_case = BestCase::of(&p_values);
    let judged = pairs.iter().zip(&results).zip(adjusted.into_iter().map(for_looks));
    let judged = judged.map(|(((a, b), test), p_adjusted)| {
        let (a, b) = (samples[*a], samples[*b]);
        let smallest = RankSum::smallest_p(a.len(), b.len());
        let verdict = if p_adjusted <= SIGNIFICANCE {
            // A difference in ranks that the medians contradict is of no use to a reader.
            match (test.direction, median_of(a).partial_cmp(&median_of(b))) {
                (Ordering::Greater, Some(Ordering::Less)) => Difference::BHigher,
                (Ordering::Less, Some(Ordering::Greater)) => Difference::AHigher,
                _ => Difference::NoDifferenceShown,
            }
        } else if for_looks(best_case.adjusted(smallest)) > SIGNIFICANCE {
            Difference::TooFewTrials
        } else {
            Difference::NoDifferenceShown
        };
        let level = SIGNIFICANCE / looks as f64 / best_case.factor(smallest);
        let level = (verdict != Difference::TooFewTrials).then_some(level);
        Tested { p_value: test.p_value, p_adjusted, verdict, level }
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use super::{super::synthetic::Noise, *};

    fn compared(pairs: &[(&[f64], &[f64])]) -> Vec<Compared> {
        all(pairs, &mut Bootstrap::new(1), &mut RankSum::new(1))
    }

    fn all(pairs: &[(&[f64], &[f64])], bootstrap: &mut Bootstrap, tests: &mut RankSum) -> Vec<Compared> {
        let samples: Vec<&[f64]> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
        let numbers: Vec<(usize, usize)> = (0..pairs.len()).map(|pair| (2 * pair, 2 * pair + 1)).collect();
        compare_all(&samples, &numbers, 1, bootstrap, tests)
    }

    #[test]
    fn a_difference_is_shown_in_its_direction() {
        let (low, high) = ([1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 2.4]);
        let results = compared(&[(&low, &high), (&high, &low), (&low, &low)]);
        assert_eq!(results[0].verdict, Difference::BHigher);
        assert_eq!(results[1].verdict, Difference::AHigher);
        assert_eq!(results[2].verdict, Difference::NoDifferenceShown);
        assert!((results[0].ratio.unwrap() - 2.2 / 1.2).abs() < 1e-12);
        assert!((results[0].p_value - 2.0 / 252.0).abs() < 1e-12);
        assert!((results[0].p_adjusted - 6.0 / 252.0).abs() < 1e-12);
        assert!(results[2].showable_ratio.unwrap() > 1.2, "{results:?}");
    }

    #[test]
    fn a_reversed_comparison_says_the_same() {
        let (low, high) = ([1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 2.4]);
        let there = compared(&[(&low, &high)]).remove(0);
        let back = there.reversed();
        assert_eq!(back.verdict, Difference::AHigher);
        assert!((back.ratio.unwrap() * there.ratio.unwrap() - 1.0).abs() < 1e-12);
        assert!(back.low.unwrap() <= back.ratio.unwrap() && back.ratio.unwrap() <= back.high.unwrap());
        assert!((back.difference.unwrap().value + there.difference.unwrap().value).abs() < 1e-12);
    }

    #[test]
    fn too_few_trials_are_reported_whatever_the_difference() {
        let results = compared(&[(&[1.0, 1.1, 1.2], &[9.0, 9.1, 9.2])]);
        assert_eq!((results[0].verdict, results[0].ratio), (Difference::TooFewTrials, None));
        // Five against five are enough for at most six comparisons: 7 × 2/252 > 0.05.
        let (low, high) = ([1.0, 1.1, 1.2, 1.3, 1.4], [1.05, 1.15, 1.25, 1.35, 1.45]);
        assert_eq!(compared(&[(&low[..], &high[..]); 6])[0].verdict, Difference::NoDifferenceShown);
        assert_eq!(compared(&[(&low[..], &high[..]); 7])[0].verdict, Difference::TooFewTrials);
    }

    #[test]
    fn few_trials_in_one_pair_are_too_few_only_if_holm_says_so() {
        // Ten trials in one pair, four in the other: once the first is shown, the second has the whole level to itself.
        let many: Vec<f64> = (0..10).map(f64::from).collect();
        let apart: Vec<f64> = (20..30).map(f64::from).collect();
        let (four, mixed) = ([1.0, 2.0, 3.0, 5.0], [4.0, 6.0, 7.0, 8.0]);
        let results = compared(&[(&many, &apart), (&four, &mixed)]);
        assert_eq!(results[0].verdict, Difference::BHigher);
        assert_eq!(results[1].verdict, Difference::NoDifferenceShown);
        assert_eq!(compared(&[(&many, &many), (&four, &mixed)])[1].verdict, Difference::TooFewTrials);
    }

    /// How often is anything shown when cells are compared with themselves?
    #[test]
    fn false_alarms_are_as_rare_as_the_level_says() {
        const EXPERIMENTS: usize = 1_000;
        let (mut noise, mut bootstrap, mut tests) = (Noise::new(21), Bootstrap::new(1), RankSum::new(1));
        for (trials, cells, heavy) in [(5, 2, false), (5, 4, false), (10, 2, true), (10, 4, false), (20, 6, true)] {
            let alarms = (0..EXPERIMENTS).filter(|_| {
                let cells: Vec<Vec<f64>> = (0..cells).map(|_| noise.sample(trials, 100.0, 0.05, heavy)).collect();
                let pairs: Vec<(&[f64], &[f64])> = (0..cells.len())
                    .flat_map(|a| (a + 1..cells.len()).map(move |b| (a, b)))
                    .map(|(a, b)| (&cells[a][..], &cells[b][..]))
                    .collect();
                all(&pairs, &mut bootstrap, &mut tests).iter().any(|result| result.verdict.is_shown())
            });
            let share = alarms.count() as f64 / EXPERIMENTS as f64;
            assert!(share <= 0.06, "{trials} trials of {cells} cells, heavy {heavy}: {share}");
        }
    }

    #[test]
    fn ten_trials_with_five_percent_noise_show_a_difference_of_a_fifth() {
        const EXPERIMENTS: usize = 1_000;
        let (mut noise, mut bootstrap, mut tests) = (Noise::new(22), Bootstrap::new(1), RankSum::new(1));
        for heavy in [false, true] {
            let found = (0..EXPERIMENTS).filter(|_| {
                let (a, b) = (noise.sample(10, 100.0, 0.05, heavy), noise.sample(10, 120.0, 0.05, heavy));
                all(&[(&a, &b)], &mut bootstrap, &mut tests)[0].verdict == Difference::BHigher
            });
            let share = found.count() as f64 / EXPERIMENTS as f64;
            assert!(share >= 0.95, "heavy {heavy}: {share}");
        }
    }
}
