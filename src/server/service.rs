//! Service times: the CPU time that a worker burns per request.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::spin::Spinner;
use crate::{scenario::ServiceTime, sys::clock};

/// Draws service times and burns them.
#[derive(Debug)]
pub(super) struct Service {
    time: ServiceTime,
    rng: ChaCha8Rng,
    /// `None` if there is nothing to burn.
    spinner: Option<Spinner>,
}

impl Service {
    /// Each combination of `seed` and `stream` has its own random generator. Calibrates if there is anything to burn, so make it
    /// before the trial starts.
    pub(super) fn new(time: ServiceTime, seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        let spinner = (!time.is_zero()).then(Spinner::calibrated);
        Self { time, rng, spinner }
    }

    /// Burns the next request's CPU time.
    #[inline]
    pub(super) fn burn(&mut self) {
        let time_ns = self.draw();
        if let (1.., Some(spinner)) = (time_ns, &mut self.spinner) {
            spinner.burn(time_ns);
        }
    }

    fn draw(&mut self) -> u64 {
        let pick = |time: Duration| clock::nanoseconds(time);
        match self.time {
            ServiceTime::Fixed(time) => pick(time),
            // Inverse transform: −mean·ln(1−u) with u uniform in [0, 1).
            ServiceTime::Exponential(mean) => (-(1.0 - self.rng.random::<f64>()).ln() * mean.as_nanos() as f64) as u64,
            ServiceTime::Bimodal { short, long, long_share } => {
                pick(if self.rng.random::<f64>() < long_share { long } else { short })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(time: ServiceTime, count: usize) -> Vec<u64> {
        let mut service = Service::new(time, 1, 2);
        (0..count).map(|_| service.draw()).collect()
    }

    #[test]
    fn service_times_have_the_means_and_shares_asked_for() {
        let mean = Duration::from_micros(200);
        assert_eq!(draws(ServiceTime::Fixed(mean), 2), [200_000, 200_000]);
        let drawn = draws(ServiceTime::Exponential(mean), 100_000);
        let average = drawn.iter().sum::<u64>() as f64 / drawn.len() as f64;
        // The standard error of the mean is 200 µs/√100000 = 0.63 µs.
        assert!((average - 200_000.0).abs() < 5.0 * 633.0, "{average}");
        let bimodal = ServiceTime::Bimodal { short: Duration::ZERO, long: mean, long_share: 0.1 };
        let long = draws(bimodal, 100_000).iter().filter(|time| **time == 200_000).count() as f64;
        // Binomial: sd √(n·p·q) = 95.
        assert!((long - 10_000.0).abs() < 5.0 * 95.0, "{long}");
    }
}
