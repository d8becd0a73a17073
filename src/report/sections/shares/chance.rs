//! The spread that chance allows if each draw falls on a random worker.

use statrs::distribution::{Binomial, DiscreteCDF};

use super::share;
use crate::{
    format::percent,
    record::{Distribution, Draws, Spread},
};

/// Highest probability of finding by chance alone that chance does not explain a cell.
const LEVEL: f64 = 0.05;

/// What chance explains in a cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Chance {
    /// What it distributes.
    draws: Draws,
    /// The shares that chance allows in the trial with the fewest draws, which has the widest band.
    pub trial_band: (f64, f64),
    /// Number of valid trials with draws.
    pub trials: usize,
    /// Whether the trials draw independently: not where the kernel's hash is the same in all of them.
    pub trials_are_independent: bool,
    /// Number of trials in which some worker is outside the trial's own band.
    pub outside: usize,
    /// Each worker's share of all trials' draws together.
    pub drawn: Vec<f64>,
    /// The shares of these that chance allows.
    pub pooled_band: (f64, f64),
    /// Whether some worker is outside of that.
    pub pooled_is_outside: bool,
}

impl Chance {
    /// Of the trials of a cell; `None` if chance did not decide.
    pub(super) fn of(trials: &[&Distribution], pooled: Option<&Spread>) -> Option<Self> {
        let pooled = pooled?;
        let drawn: Vec<&[u64]> =
            trials.iter().filter(|trial| trial.draws.is_some()).map(|trial| &trial.draws_by_member[..]).collect();
        let k = pooled.draws_by_member.len();
        let fewest = drawn.iter().map(|draws| draws.iter().sum()).min()?;
        let trials_are_independent = trials.iter().all(|trial| trial.new_draws_by_member.is_empty());
        // Two looks, at the trials one by one and together, share the level.
        let level = if drawn.len() > 1 && trials_are_independent { LEVEL / 2.0 } else { LEVEL };
        Some(Self {
            draws: pooled.draws,
            trial_band: band(fewest, k, LEVEL),
            trials: drawn.len(),
            trials_are_independent,
            outside: drawn.iter().filter(|draws| is_outside(draws, LEVEL)).count(),
            drawn: pooled.draws_by_member.iter().map(|draws| share(*draws, pooled.draws_count)).collect(),
            pooled_band: band(pooled.draws_count, k, level),
            pooled_is_outside: is_outside(&pooled.draws_by_member, level),
        })
    }

    /// What is to be said of a spread that chance does not explain.
    pub(super) fn finding(&self, what: &str) -> String {
        if !self.pooled_is_outside {
            let (outside, trials) = (self.outside, self.trials);
            return format!(
                "spreads {what} less evenly than chance would: {outside} of {trials} trials are outside the band"
            );
        }
        let (low, high) = self.pooled_band;
        let off = |share: &f64| (low - share).max(share - high);
        let furthest = self.drawn.iter().enumerate().max_by(|(_, one), (_, other)| off(one).total_cmp(&off(other)));
        let (worker, part) = furthest.map_or((0, 0.0), |(worker, part)| (worker, *part));
        let drawn = if self.draws == Draws::Tuples { "4-tuples" } else { what };
        let [part, low, high] = [part, low, high].map(percent);
        format!("gives {part} of all {drawn} to worker {worker}, where chance allows {low} to {high}")
    }

    /// Whether chance explains all of it.
    pub fn explains(&self) -> bool {
        let one_by_one =
            self.trials == 1 || !self.trials_are_independent || is_chance(self.outside, self.trials, LEVEL / 2.0);
        one_by_one && !self.pooled_is_outside
    }
}

/// The band that holds the shares of all k workers at once with a probability of at least 1 − `level` if each of n draws falls on a
/// random worker. Each worker's count is Binomial(n, 1/k) and is outside its quantiles at α/2k and 1 − α/2k with a probability of at
/// most α/k (Bonferroni).
fn band(n: u64, k: usize, level: f64) -> (f64, f64) {
    let tail = level / (2.0 * k as f64);
    match Binomial::new(1.0 / k as f64, n) {
        Ok(law) if n > 0 && k > 1 => {
            (law.inverse_cdf(tail) as f64 / n as f64, law.inverse_cdf(1.0 - tail) as f64 / n as f64)
        }
        _ => (0.0, 1.0),
    }
}

/// Whether the fewest or the most draws of any worker are outside the band, without searching for its ends: x is below the quantile
/// at p exactly if P(X ≤ x) is below p.
fn is_outside(draws: &[u64], level: f64) -> bool {
    let (n, k) = (draws.iter().sum(), draws.len());
    let (fewest, most) = (draws.iter().min().copied().unwrap_or(0), draws.iter().max().copied().unwrap_or(0));
    let tail = level / (2.0 * k as f64);
    let Ok(law) = Binomial::new(1.0 / k as f64, n) else { return false };
    law.cdf(fewest) < tail || most > 0 && law.cdf(most - 1) >= 1.0 - tail
}

/// Whether chance explains the number of trials outside bands that 5 % miss, but for a probability of `level`.
fn is_chance(outside: usize, trials: usize, level: f64) -> bool {
    Binomial::new(LEVEL, trials as u64).is_ok_and(|law| outside as u64 <= law.inverse_cdf(1.0 - level))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats;

    #[test]
    fn the_band_of_240_draws_on_4_workers() {
        // Binomial(240, 1/4): mean 60, deviation 6.71; the quantiles at 0.625 % and 99.375 % are 44 and 77 (summed exactly).
        let (low, high) = band(240, 4, LEVEL);
        assert_eq!((low * 240.0, high * 240.0), (44.0, 77.0));
        for (draws, outside) in [([44, 59, 60, 77], false), ([43, 77, 60, 60], true), ([60, 60, 42, 78], true)] {
            assert_eq!(is_outside(&draws, LEVEL), outside, "{draws:?}");
        }
        assert_eq!((band(240, 1, LEVEL), band(0, 4, LEVEL)), ((0.0, 1.0), (0.0, 1.0)));
    }

    #[test]
    fn one_trial_in_twenty_may_miss() {
        assert!(is_chance(0, 1, LEVEL) && !is_chance(1, 1, LEVEL));
        assert!(is_chance(1, 5, LEVEL) && !is_chance(2, 5, LEVEL));
        assert!(is_chance(17, 250, LEVEL) && !is_chance(30, 250, LEVEL));
        // Binomial(40, 0.05): P(X ≥ 5) = 4.8 %, P(X ≥ 6) = 1.4 %.
        assert!(is_chance(5, 40, LEVEL / 2.0) && !is_chance(6, 40, LEVEL / 2.0));
    }

    fn of(trials: &[Distribution]) -> Chance {
        let trials: Vec<&Distribution> = trials.iter().collect();
        Chance::of(&trials, stats::pooled(trials.iter().copied()).as_ref()).unwrap()
    }

    fn trial(draws: [u64; 2]) -> Distribution {
        stats::distribution(&draws, Some((Draws::Tuples, draws.to_vec()))).unwrap()
    }

    #[test]
    fn a_single_trial_is_judged_by_its_band() {
        // Binomial(100, 1/2) at 1.25 %: 39 to 61.
        assert!(of(&[trial([39, 61])]).explains());
        let beyond = of(&[trial([38, 62])]);
        assert!(!beyond.explains() && beyond.outside == 1 && beyond.pooled_is_outside);
        assert_eq!(beyond.trial_band, beyond.pooled_band);
    }

    #[test]
    fn several_trials_are_judged_one_by_one_and_together() {
        let leaning = of(&vec![trial([42, 58]); 10]);
        assert_eq!((leaning.outside, leaning.pooled_is_outside, leaning.explains()), (0, true, false));
        let swinging = of(&[trial([30, 70]), trial([70, 30]), trial([30, 70]), trial([70, 30])]);
        assert_eq!((swinging.outside, swinging.pooled_is_outside, swinging.explains()), (4, false, false));
        assert!(of(&[trial([30, 70]), trial([60, 40])]).outside == 1);
    }

    #[test]
    fn trials_that_share_a_hash_are_one_draw() {
        let first = Distribution { new_draws_by_member: vec![35, 65], ..trial([35, 65]) };
        let again = Distribution { new_draws_by_member: vec![15, 0], ..trial([48, 65]) };
        let chance = of(&[first.clone(), again.clone(), Distribution { new_draws_by_member: vec![0, 0], ..again }]);
        assert!(!chance.trials_are_independent && chance.explains(), "{chance:?}");
        assert_eq!(chance.drawn, [50.0 / 115.0, 65.0 / 115.0]);
        // The first alone is not by chance.
        assert!(!of(&[first]).explains());
    }
}
