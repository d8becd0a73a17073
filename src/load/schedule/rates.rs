//! Starts at random, at the rates of a table.

use rand_chacha::ChaCha8Rng;

use super::exponential;
use crate::scenario::Rates;

/// Yields the starts of a Poisson process whose rate follows a table: those of one with rate 1, at the times at which the integral of
/// the rates reaches them. This change of time is exact; see Çinlar, "Introduction to Stochastic Processes" (1975), chapter 4.7.
#[derive(Debug)]
pub(super) struct RatesStarts {
    rates: Rates,
    /// Starts expected until the one yielded last.
    expected: f64,
    /// The number of the table's step in which that one is.
    step: usize,
}

impl RatesStarts {
    pub fn new(rates: Rates) -> Self {
        Self { rates, expected: 0.0, step: 0 }
    }

    pub fn next(&mut self, rng: &mut ChaCha8Rng) -> f64 {
        self.expected += exponential(rng);
        self.rates.when(self.expected, &mut self.step) * 1e9
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::samples::{assert_poisson, starts, within},
        *,
    };
    use crate::scenario::Arrivals;

    #[test]
    fn each_row_has_its_rate_s_starts_however_fast_its_time_passes() {
        let rows = [(0.0, 400.0), (3_600.0, 0.0), (7_200.0, 2_000.0), (10_800.0, 50.0)];
        // An hour in 10 s, so that the table's four hours take 40 s.
        let rates = Rates::new(&rows, 360.0, Duration::from_secs(40));
        let starts = starts(&Arrivals::Rates(rates.clone()), 40, 1);
        for (row, (_, rate)) in rows.into_iter().enumerate() {
            let (count, expected) = (within(&starts, row as f64 * 10.0, row as f64 * 10.0 + 10.0), rate * 10.0);
            // A Poisson count has the variance of its mean.
            assert!((count - expected).abs() <= 5.0 * f64::sqrt(expected), "row {row}: {count}, not {expected}");
        }
        assert_poisson(&starts, |at_s| rates.expected_by(at_s));
    }
}
