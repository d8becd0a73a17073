//! Starts at random, at a rate that changes linearly.

use rand_chacha::ChaCha8Rng;

use super::exponential;
use crate::scenario::Ramp;

/// Yields the starts of a Poisson process whose rate changes linearly: those of one with rate 1, at the times at which the ramp's
/// integral reaches them. The inversion of the integrated rate is exact; see Çinlar, "Introduction to Stochastic Processes" (1975),
/// chapter 4.7, and for this rate Lewis and Shedler, "Simulation of nonhomogeneous Poisson processes by thinning", Naval Research
/// Logistics 26 (1979).
#[derive(Debug)]
pub(super) struct RampStarts {
    ramp: Ramp,
    /// Starts expected until the one yielded last.
    expected: f64,
}

impl RampStarts {
    pub fn new(ramp: Ramp) -> Self {
        Self { ramp, expected: 0.0 }
    }

    pub fn next(&mut self, rng: &mut ChaCha8Rng) -> f64 {
        self.expected += exponential(rng);
        self.ramp.when(self.expected) * 1e9
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
    fn a_ramp_from_nothing_has_a_quarter_of_its_starts_in_its_first_half() {
        let over = Duration::from_secs(20);
        for (from, to, halves) in [(0.0, 2_000.0, [5_000.0, 15_000.0]), (2_000.0, 0.0, [15_000.0, 5_000.0])] {
            let starts = starts(&Arrivals::Ramp(Ramp { from, to, over }), 20, 1);
            for (begin_s, expected) in [0.0, 10.0].into_iter().zip(halves) {
                // A Poisson count has the variance of its mean.
                let count = within(&starts, begin_s, begin_s + 10.0);
                assert!((count - expected).abs() < 5.0 * f64::sqrt(expected), "{from} to {to}: {count}");
            }
        }
    }

    #[test]
    fn gaps_are_exponentially_distributed_in_the_time_of_the_integrated_rate() {
        for (from, to) in [(0.0, 1_000.0), (1_000.0, 0.0), (300.0, 700.0)] {
            let ramp = Ramp { from, to, over: Duration::from_secs(20) };
            assert_poisson(&starts(&Arrivals::Ramp(ramp), 20, 1), |at_s| ramp.expected_by(at_s));
        }
    }
}
