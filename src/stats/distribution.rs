//! How evenly connections spread over workers.

use statrs::distribution::{ChiSquared, ContinuousCDF};

use crate::record::{Distribution, Draws};

/// How the accepts of all workers are distributed; `None` without any.
///
/// - imbalance = max ÷ mean;
/// - Jain's index = (Σx)² ÷ (n·Σx²): 1 when all are equal, 1/n when one has all (Jain, Chiu, Hawe 1984);
/// - χ² = Σ(x−m)²/m against equal shares m, with n−1 degrees of freedom. SO_REUSEPORT's hash assigns connections
///   to workers at random, so a p-value near 0 means that the spread is not multinomial.
pub fn distribution(accepted: &[u64], draws: Draws) -> Option<Distribution> {
    let total: u64 = accepted.iter().sum();
    if total == 0 {
        return None;
    }
    let count = accepted.len() as f64;
    let mean = total as f64 / count;
    let squares: f64 = accepted.iter().map(|x| (*x as f64).powi(2)).sum();
    let chi_squared = accepted.iter().map(|x| (*x as f64 - mean).powi(2) / mean).sum();
    // One worker leaves nothing to chance.
    let p_value = ChiSquared::new(count - 1.0).map_or(1.0, |law| law.sf(chi_squared));
    Some(Distribution {
        draws,
        imbalance: accepted.iter().copied().max().unwrap_or(0) as f64 / mean,
        jain: (total as f64).powi(2) / (count * squares),
        chi_squared,
        p_value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_spreads() {
        assert_eq!(distribution(&[0, 0], Draws::Connections), None);
        let even = distribution(&[10, 10, 10, 10], Draws::Connections).unwrap();
        assert_eq!((even.imbalance, even.jain, even.chi_squared, even.p_value), (1.0, 1.0, 0.0, 1.0));
        let one = distribution(&[40, 0, 0, 0], Draws::Connections).unwrap();
        assert_eq!((one.imbalance, one.jain, one.chi_squared), (4.0, 0.25, 120.0));
        assert!(one.p_value < 1e-20);
        // χ² = 2·(5²/45) = 1.111 with 1 degree of freedom: p = 0.2918 (tables).
        let two = distribution(&[50, 40], Draws::Connections).unwrap();
        assert!((two.chi_squared - 1.1111).abs() < 1e-4 && (two.p_value - 0.2918).abs() < 1e-3, "{two:?}");
        assert_eq!(distribution(&[7], Draws::Connections).unwrap().p_value, 1.0);
    }
}
