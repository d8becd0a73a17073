//! Made-up values with a known truth, for tests of the statistics.

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// A seeded source of noise.
pub struct Noise(ChaCha8Rng);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A standard normal value (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.0.random::<f64>(), self.0.random::<f64>());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// A trial's value: lognormal around a median with a relative deviation. With `heavy` tails, one in ten is five times as far
    /// off.
    fn value(&mut self, median: f64, deviation: f64, heavy: bool) -> f64 {
        let outlier = heavy && self.0.random::<f64>() < 0.1;
        median * (self.normal() * deviation * if outlier { 5.0 } else { 1.0 }).exp()
    }

    /// The numbers below a count in random order.
    pub fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut self.0);
        order
    }

    /// Several of them.
    pub fn sample(&mut self, count: usize, median: f64, deviation: f64, heavy: bool) -> Vec<f64> {
        (0..count).map(|_| self.value(median, deviation, heavy)).collect()
    }
}
