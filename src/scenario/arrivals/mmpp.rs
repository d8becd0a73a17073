//! Two rates of starts that alternate at random.

use std::time::Duration;

/// A Markov-modulated Poisson process with two states: starts come by a Poisson process whose rate is now low, now high, and each
/// state lasts for an exponentially distributed time. See Fischer and Meier-Hellstern, "The Markov-modulated Poisson process (MMPP)
/// cookbook", Performance Evaluation 18 (1993).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mmpp {
    /// Starts per second in the state with fewer of them; may be 0.
    pub low: f64,
    /// Starts per second in the other state; more than 0.
    pub high: f64,
    /// Mean time in the low state; not zero.
    pub dwell_low: Duration,
    /// Mean time in the high state; not zero.
    pub dwell_high: Duration,
}

impl Mmpp {
    /// The share of time in the high state, from 0 to 1.
    pub fn high_share(&self) -> f64 {
        let (low_s, high_s) = (self.dwell_low.as_secs_f64(), self.dwell_high.as_secs_f64());
        high_s / (low_s + high_s)
    }

    /// Mean starts per second.
    pub fn mean(&self) -> f64 {
        let share = self.high_share();
        self.high.mul_add(share, self.low * (1.0 - share))
    }

    /// The mean time from one beginning of the high state to the next.
    pub fn cycle(&self) -> Duration {
        self.dwell_low.saturating_add(self.dwell_high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_rate_weighs_each_rate_by_its_share_of_time() {
        let ms = Duration::from_millis;
        let mmpp = Mmpp { low: 500.0, high: 5_500.0, dwell_low: ms(900), dwell_high: ms(100) };
        assert!((mmpp.high_share() - 0.1).abs() < 1e-12 && (mmpp.mean() - 1_000.0).abs() < 1e-9, "{}", mmpp.mean());
        assert_eq!(mmpp.cycle(), ms(1_000));
    }
}
