//! Draws times that differ: how long a client thinks, and how long it keeps a connection.

use std::f64::consts::TAU;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{
    scenario::{Distribution, Times},
    sys::clock,
};

/// The most 32-bit words of the random generator that one draw takes.
pub(super) const WORDS: u128 = 4;

/// Draws a time, in nanoseconds.
///
/// By inverse transform from u uniform in [0, 1), but for the normal deviate of lognormal times, which is that of Box and Muller, "A note
/// on the generation of random normal deviates" (1958). The parameters follow from the mean m: exp(µ + σ²/2) = m of lognormal times, and
/// α·x/(α − 1) = m of Pareto times, of which x is the shortest.
pub(super) fn draw_ns(times: Times, rng: &mut ChaCha8Rng) -> f64 {
    let mean_ns = clock::nanoseconds(times.mean) as f64;
    // In (0, 1], so that its logarithm is finite.
    let mut uniform = || 1.0 - rng.random::<f64>();
    match times.distribution {
        Distribution::Fixed => mean_ns,
        Distribution::Exponential => -uniform().ln() * mean_ns,
        Distribution::Lognormal { sigma } => {
            let normal = (-2.0 * uniform().ln()).sqrt() * (TAU * uniform()).cos();
            mean_ns * (sigma * normal - sigma * sigma / 2.0).exp()
        }
        Distribution::Pareto { alpha } => {
            let shortest_ns = mean_ns * (alpha - 1.0) / alpha;
            shortest_ns * uniform().powf(-1.0 / alpha)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng;

    use super::*;

    const COUNT: usize = 100_000;

    fn drawn(distribution: Distribution) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let times = Times { mean: Duration::from_micros(1), distribution };
        (0..COUNT).map(|_| draw_ns(times, &mut rng)).collect()
    }

    #[test]
    fn times_have_their_mean_and_their_share_beyond_it() {
        // With µ = −σ²/2, a lognormal time is longer than m if the normal deviate is more than σ/2; beyond 3.5, the variance of
        // Pareto's is (mean²)/(α(α − 2)).
        for (distribution, relative_sd, longer) in [
            (Distribution::Exponential, 1.0, 0.367_88),
            (Distribution::Lognormal { sigma: 1.0 }, 1.310_8, 0.308_54),
            (Distribution::Lognormal { sigma: 0.5 }, 0.532_9, 0.401_29),
            (Distribution::Pareto { alpha: 3.5 }, 0.436_4, f64::powf(2.5 / 3.5, 3.5)),
        ] {
            let drawn = drawn(distribution);
            let count = COUNT as f64;
            let mean = drawn.iter().sum::<f64>() / count;
            assert!((mean - 1_000.0).abs() < 5.0 * 1_000.0 * relative_sd / count.sqrt(), "{distribution:?}: {mean}");
            let beyond = drawn.iter().filter(|time| **time > 1_000.0).count() as f64;
            let deviation = (count * longer * (1.0 - longer)).sqrt();
            assert!((beyond - count * longer).abs() < 5.0 * deviation, "{distribution:?}: {beyond}");
        }
        assert!(drawn(Distribution::Fixed).iter().all(|time| *time == 1_000.0));
    }

    #[test]
    fn heavy_tails_are_finite_and_begin_where_they_should() {
        let drawn = drawn(Distribution::Pareto { alpha: 1.5 });
        assert!(drawn.iter().all(|time| time.is_finite() && *time >= 333.3));
        // A share of 2^−1.5 is longer than twice the shortest.
        let (longer, share) = (drawn.iter().filter(|time| **time > 2_000.0 / 3.0).count() as f64, f64::powf(2.0, -1.5));
        let deviation = (COUNT as f64 * share * (1.0 - share)).sqrt();
        assert!((longer - COUNT as f64 * share).abs() < 5.0 * deviation, "{longer}");
    }

    #[test]
    fn a_draw_takes_no_more_words_than_are_set_aside() {
        for distribution in [
            Distribution::Fixed,
            Distribution::Exponential,
            Distribution::Lognormal { sigma: 1.0 },
            Distribution::Pareto { alpha: 2.0 },
        ] {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            draw_ns(Times { mean: Duration::from_secs(1), distribution }, &mut rng);
            assert!(rng.get_word_pos() <= WORDS, "{distribution:?}: {}", rng.get_word_pos());
        }
    }
}
