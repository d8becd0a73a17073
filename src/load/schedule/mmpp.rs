//! Starts at random, at two rates that alternate at random.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::exponential;
use crate::scenario::Mmpp;

/// Yields the starts of a Markov-modulated Poisson process with two states, by competing exponentials: in a state with rate λ that is
/// left at rate σ, the next event comes after an exponentially distributed time with rate λ + σ, and is a start with probability
/// λ/(λ + σ), or else the change of state. See Fischer and Meier-Hellstern, "The Markov-modulated Poisson process (MMPP) cookbook",
/// Performance Evaluation 18 (1993). The first state is drawn with the shares of time that the states have, so that the process is
/// stationary from its beginning.
#[derive(Debug)]
pub(super) struct MmppStarts {
    /// The low state's rates and then the high one's.
    states: [State; 2],
    /// The number of the present state; `None` before the first.
    state: Option<usize>,
    high_share: f64,
    at_ns: f64,
}

/// Rates per second.
#[derive(Debug, Clone, Copy)]
struct State {
    starts: f64,
    leaves: f64,
}

impl MmppStarts {
    pub fn new(mmpp: Mmpp) -> Self {
        let low = State { starts: mmpp.low, leaves: 1.0 / mmpp.dwell_low.as_secs_f64() };
        let high = State { starts: mmpp.high, leaves: 1.0 / mmpp.dwell_high.as_secs_f64() };
        Self { states: [low, high], state: None, high_share: mmpp.high_share(), at_ns: 0.0 }
    }

    pub fn next(&mut self, rng: &mut ChaCha8Rng, until_ns: f64) -> f64 {
        let mut number = self.state.unwrap_or_else(|| usize::from(rng.random::<f64>() < self.high_share));
        // States may change many times before a start.
        while self.at_ns < until_ns {
            let State { starts, leaves } = self.states[number];
            self.at_ns += exponential(rng) * 1e9 / (starts + leaves);
            if rng.random::<f64>() * (starts + leaves) < starts {
                self.state = Some(number);
                return self.at_ns;
            }
            number = 1 - number;
        }
        f64::INFINITY
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

    const SECONDS: u64 = 4_000;
    /// Long beside the states, so that the index of dispersion is near its limit.
    const WINDOW_S: f64 = 10.0;

    /// The variance of the number of starts in a window divided by its mean, as windows grow: 1 for a Poisson process. From the
    /// cookbook, for rates λ and σ as above.
    fn dispersion(Mmpp { low, high, dwell_low, dwell_high }: Mmpp) -> f64 {
        let (leaves_low, leaves_high) = (1.0 / dwell_low.as_secs_f64(), 1.0 / dwell_high.as_secs_f64());
        let sum = leaves_low + leaves_high;
        1.0 + 2.0 * (low - high).powi(2) * leaves_low * leaves_high
            / (sum.powi(2) * (low * leaves_high + high * leaves_low))
    }

    #[test]
    fn starts_have_the_mean_rate_and_the_index_of_dispersion() {
        let ms = Duration::from_millis;
        for (low, high, dwell_low, dwell_high) in
            [(50.0, 550.0, ms(90), ms(10)), (0.0, 200.0, ms(100), ms(100)), (20.0, 200.0, ms(30), ms(200))]
        {
            let mmpp = Mmpp { low, high, dwell_low, dwell_high };
            let index = dispersion(mmpp);
            let starts = starts(&Arrivals::Mmpp(mmpp), SECONDS, 1);
            let windows = (SECONDS as f64 / WINDOW_S) as usize;
            let counts: Vec<f64> = (0..windows)
                .map(|window| within(&starts, window as f64 * WINDOW_S, (window + 1) as f64 * WINDOW_S))
                .collect();
            let mean = counts.iter().sum::<f64>() / windows as f64;
            let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / (windows - 1) as f64;
            let expected = mmpp.mean() * WINDOW_S;
            // The mean of n counts of this variance; and the variance of n normally distributed ones, whose relative sd is √(2/n).
            let deviation = (expected * index / windows as f64).sqrt();
            assert!((mean - expected).abs() < 5.0 * deviation, "{mmpp:?}: mean {mean}, not {expected}");
            let found = variance / mean;
            let tolerance = 5.0 * index * (2.0 / windows as f64).sqrt();
            assert!(index > 1.5 && (found - index).abs() < tolerance, "{mmpp:?}: {found}, not {index}");
        }
    }

    #[test]
    fn two_equal_rates_are_one() {
        let second = Duration::from_secs(1);
        let mmpp = Mmpp { low: 500.0, high: 500.0, dwell_low: second, dwell_high: second / 4 };
        assert!((dispersion(mmpp) - 1.0).abs() < 1e-12);
        assert_poisson(&starts(&Arrivals::Mmpp(mmpp), 20, 1), |at_s| at_s * 500.0);
    }

    #[test]
    fn the_first_state_is_drawn_by_the_shares_of_time() {
        // A state lasts for ever here, so that there are starts only if the first is the high one.
        let (day, hour) = (Duration::from_secs(86_400), Duration::from_secs(3_600));
        let mmpp = Mmpp { low: 0.0, high: 100.0, dwell_low: 3 * day, dwell_high: day };
        let has_starts = |seed| !super::super::samples::part_of(&Arrivals::Mmpp(mmpp), 1, seed, (0, 1)).is_empty();
        let high = (0..400).filter(|seed| has_starts(*seed)).count() as f64;
        // Binomial: sd √(400·¼·¾) = 8.7.
        assert!((high - 100.0).abs() < 5.0 * 8.7, "{high}");
        // Nothing ever starts within the load's time, and that is found at once.
        let never = Mmpp { low: 0.0, high: 0.001, dwell_low: hour, dwell_high: Duration::from_millis(1) };
        assert_eq!(super::super::samples::part_of(&Arrivals::Mmpp(never), 60, 1, (0, 1)), [0.0; 0]);
    }
}
