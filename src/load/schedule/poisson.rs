//! Starts at random, at one rate.

use rand_chacha::ChaCha8Rng;

use super::exponential;

/// Yields the starts of a Poisson process, whose gaps are exponentially distributed.
#[derive(Debug)]
pub(super) struct PoissonStarts {
    /// Mean starts per second.
    rate: f64,
    at_ns: f64,
}

impl PoissonStarts {
    pub fn new(rate: f64) -> Self {
        Self { rate, at_ns: 0.0 }
    }

    pub fn next(&mut self, rng: &mut ChaCha8Rng) -> f64 {
        self.at_ns += exponential(rng) * 1e9 / self.rate;
        self.at_ns
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{assert_poisson, starts};
    use crate::scenario::Arrivals;

    #[test]
    fn gaps_are_exponentially_distributed() {
        assert_poisson(&starts(&Arrivals::Poisson { rate: 500.0 }, 20, 1), |at_s| at_s * 500.0);
    }
}
