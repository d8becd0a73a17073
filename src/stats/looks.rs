//! When a run looks at its results, and at which level it may claim a difference then.
//!
//! Whoever tests after every repetition and stops at the first p-value below the level finds a difference sooner or later, whether there is
//! one or not. A run with `stop.difference` therefore looks after numbers of repetitions that are fixed before its first trial, and the
//! level is divided evenly among the looks (Bonferroni). Whichever of them ends the run, the probability that it claims any difference
//! that does not exist is at most the sum over the looks: the level itself, however the looks and the comparisons depend on each other.

use super::SIGNIFICANCE;
use crate::scenario::{Stop, Until, Whole};

/// Each look comes after about this many times the repetitions of the one before. Fewer looks leave each a higher level; more of them end a
/// run closer to the repetition at which it could have ended.
const GROWTH: f64 = 1.5;

/// The numbers of repetitions after which a run looks at its results, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looks(Vec<usize>);

impl Looks {
    /// Of a scenario. One whose results do not decide when it ends looks once.
    pub fn of(whole: &Whole) -> Self {
        match whole.stop {
            Some(Stop { until: Until::Decided(_), max_repetitions }) => {
                Self::between(whole.repetitions, max_repetitions)
            }
            _ => Self::once(whole.repetitions_at_most()),
        }
    }

    /// A single one.
    pub fn once(repetitions: usize) -> Self {
        Self(vec![repetitions])
    }

    /// From the fewest repetitions to the most in equal ratios, as near to [`GROWTH`] as they can be.
    fn between(fewest: usize, most: usize) -> Self {
        let (fewest, most) = (fewest.min(most) as f64, most as f64);
        let steps = ((most / fewest).ln() / GROWTH.ln()).round().max(if most > fewest { 1.0 } else { 0.0 });
        let after = |step: usize| (fewest * (most / fewest).powf(step as f64 / steps.max(1.0))).round() as usize;
        let mut looks: Vec<usize> = (0..=steps as usize).map(after).collect();
        looks.dedup();
        Self(looks)
    }

    /// The numbers of repetitions.
    pub fn after(&self) -> &[usize] {
        &self.0
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The level of each.
    pub fn level(&self) -> f64 {
        SIGNIFICANCE / self.count() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_grow_by_half_from_the_fewest_repetitions_to_the_most() {
        for ((fewest, most), expected) in [
            ((7, 30), &[7, 10, 14, 21, 30][..]),
            ((6, 30), &[6, 9, 13, 20, 30]),
            ((7, 10), &[7, 10]),
            ((7, 8), &[7, 8]),
            ((5, 5), &[5]),
            ((1, 3), &[1, 1, 2, 3]),
        ] {
            let mut expected = expected.to_vec();
            expected.dedup();
            assert_eq!(Looks::between(fewest, most).after(), expected, "{fewest} to {most}");
        }
    }

    #[test]
    fn only_a_run_that_its_results_may_end_divides_its_level() {
        let looks = |text: &str| Looks::of(&Whole::parse("test.toml", text).unwrap());
        assert_eq!(looks("repetitions = 9"), Looks::once(9));
        assert_eq!(looks("stop = { relative_error = 0.1, max_repetitions = 20 }"), Looks::once(20));
        let several = looks("stop = { difference = 0.1, min_repetitions = 8, max_repetitions = 18 }");
        assert_eq!((several.after(), several.level()), (&[8, 12, 18][..], SIGNIFICANCE / 3.0));
    }
}
