//! The spread that chance allows if each connection goes to a random worker.

use statrs::distribution::{Binomial, DiscreteCDF};

/// Highest probability that any worker of a trial is outside the band by chance.
const LEVEL: f64 = 0.05;

/// The band that holds the shares of all k workers at once with a probability of at least 95 % if each of n connections goes to
/// a random worker. Each worker's count is Binomial(n, 1/k) and is outside its quantiles at α/2k and 1 − α/2k with a
/// probability of at most α/k (Bonferroni), α = 5 %.
pub(super) fn band(n: u64, k: usize) -> (f64, f64) {
    if n == 0 || k < 2 {
        return (0.0, 1.0);
    }
    let tail = LEVEL / (2.0 * k as f64);
    let Ok(law) = Binomial::new(1.0 / k as f64, n) else { return (0.0, 1.0) };
    (law.inverse_cdf(tail) as f64 / n as f64, law.inverse_cdf(1.0 - tail) as f64 / n as f64)
}

/// Whether the fewest or the most of any worker are outside the band, without searching for its ends: x is below the quantile
/// at p exactly if P(X ≤ x) is below p.
pub(super) fn is_outside(n: u64, k: usize, fewest: u64, most: u64) -> bool {
    let tail = LEVEL / (2.0 * k as f64);
    let Ok(law) = Binomial::new(1.0 / k as f64, n) else { return false };
    law.cdf(fewest) < tail || most > 0 && law.cdf(most - 1) >= 1.0 - tail
}

/// Whether chance explains the number of trials outside bands that 5 % miss: it does up to that number's 95 % quantile.
pub(super) fn is_chance(outside: usize, trials: usize) -> bool {
    Binomial::new(LEVEL, trials as u64).is_ok_and(|law| outside as u64 <= law.inverse_cdf(1.0 - LEVEL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_band_of_240_connections_on_4_workers() {
        // Binomial(240, 1/4): mean 60, deviation 6.71; the quantiles at 0.625 % and 99.375 % are 44 and 77 (summed exactly).
        let (low, high) = band(240, 4);
        assert_eq!((low * 240.0, high * 240.0), (44.0, 77.0));
        for (fewest, most, outside) in [(44, 77, false), (43, 60, true), (60, 78, true)] {
            assert_eq!(is_outside(240, 4, fewest, most), outside, "{fewest} to {most}");
        }
        assert_eq!(band(240, 1), (0.0, 1.0));
        assert_eq!(band(0, 4), (0.0, 1.0));
    }

    #[test]
    fn one_trial_in_twenty_may_miss() {
        assert!(is_chance(0, 1) && !is_chance(1, 1));
        assert!(is_chance(1, 5) && !is_chance(2, 5));
        assert!(is_chance(17, 250) && !is_chance(30, 250));
    }
}
