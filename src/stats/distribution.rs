//! How evenly connections spread over members, and whether chance explains it.
//!
//! Where each draw falls on a random member, the draws by member are multinomial with equal probabilities. What a draw is depends on
//! who decides ([`Draws`]): a 4-tuple that the kernel hashes lands on the same member whenever it occurs, so each distinct one is
//! drawn once, however many connections it has.

use std::cmp::Ordering;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ChiSquared, ContinuousCDF};

use crate::record::{Distribution, Draws, Spread};

/// From this number of draws on, χ² has its limiting law nearly enough: Koehler and Larntz (1980) ask for at least 3 members,
/// 10 draws, and draws² ÷ members of at least 10; with 2 members, the steps of χ² still show at fewer draws.
const LIMIT_LAW_FROM: u64 = 100;
/// For fewer draws, p-values come from this many simulated spreads.
const SIMULATED: usize = 10_000;

/// How the accepts of all members are distributed; `None` without any. `drawn` are the draws by member, if chance decides.
///
/// - imbalance = max ÷ mean;
/// - Jain's index = (Σx)² ÷ (n·Σx²): 1 when all are equal, 1/n when one has all (Jain, Chiu, Hawe 1984).
pub fn distribution(accepted: &[u64], drawn: Option<(Draws, Vec<u64>)>) -> Option<Distribution> {
    let total: u64 = accepted.iter().sum();
    if total == 0 {
        return None;
    }
    let squares: f64 = accepted.iter().map(|x| (*x as f64).powi(2)).sum();
    let whole = Distribution {
        imbalance: accepted.iter().copied().max().unwrap_or(0) as f64 * accepted.len() as f64 / total as f64,
        jain: (total as f64).powi(2) / (accepted.len() as f64 * squares),
        ..Distribution::default()
    };
    let spread = drawn.and_then(|(draws, by_member)| spread(draws, by_member));
    Some(match spread {
        None => whole,
        Some(Spread { draws, draws_count, draws_by_member, chi_squared, p_value }) => Distribution {
            draws: Some(draws),
            draws_count: Some(draws_count),
            chi_squared: Some(chi_squared),
            p_value: Some(p_value),
            draws_by_member,
            ..whole
        },
    })
}

/// The draws of several trials of a cell together; `None` if chance decided in none.
pub fn pooled<'a>(trials: impl Iterator<Item = &'a Distribution>) -> Option<Spread> {
    let mut together: Option<(Draws, Vec<u64>)> = None;
    for trial in trials {
        let (Some(draws), new) = (trial.draws, trial.new_draws()) else { continue };
        let (_, sums) = together.get_or_insert_with(|| (draws, Vec::new()));
        sums.resize(sums.len().max(new.len()), 0);
        for (sum, draws) in sums.iter_mut().zip(new) {
            *sum += draws;
        }
    }
    let (draws, by_member) = together?;
    spread(draws, by_member)
}

/// `None` if nothing was drawn, or there is nobody to choose from.
fn spread(draws: Draws, draws_by_member: Vec<u64>) -> Option<Spread> {
    let draws_count: u64 = draws_by_member.iter().sum();
    if draws_count == 0 || draws_by_member.len() < 2 {
        return None;
    }
    let members = draws_by_member.len();
    let chi_squared = chi_squared(sum_of_squares(&draws_by_member), draws_count, members);
    let p_value = if draws_count < LIMIT_LAW_FROM {
        simulated(&draws_by_member, draws_count)
    } else {
        ChiSquared::new(members as f64 - 1.0).map_or(1.0, |law| law.sf(chi_squared))
    };
    Some(Spread { draws, draws_count, draws_by_member, chi_squared, p_value })
}

fn sum_of_squares(draws: &[u64]) -> u128 {
    draws.iter().map(|x| u128::from(*x).pow(2)).sum()
}

/// χ² = Σ(x−m)²/m against equal shares m = n/k, that is, k·Σx²/n − n.
fn chi_squared(squares: u128, draws: u64, members: usize) -> f64 {
    (squares * members as u128 - u128::from(draws).pow(2)) as f64 / draws as f64
}

/// The mid-p-value of few draws: the probability of a larger χ², and half of that of the same. With so few, χ² has few values; the
/// whole probability of the same would make p-values too large on average, while mid-p-values have a mean of ½ (Lancaster 1961). By
/// simulation, in which the observed spread counts as one, so p is never 0 (Davison and Hinkley 1997).
fn simulated(observed: &[u64], draws: u64) -> f64 {
    let squares = sum_of_squares(observed);
    // The same spread has the same p-value whenever it is computed.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let (mut larger, mut same) = (0, 1);
    let mut spread = vec![0_u64; observed.len()];
    for _ in 0..SIMULATED {
        spread.fill(0);
        for _ in 0..draws {
            spread[rng.random_range(0..observed.len())] += 1;
        }
        match sum_of_squares(&spread).cmp(&squares) {
            Ordering::Greater => larger += 1,
            Ordering::Equal => same += 1,
            Ordering::Less => {}
        }
    }
    (f64::from(larger) + 0.5 * f64::from(same)) / (SIMULATED + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(by_member: &[u64]) -> Distribution {
        distribution(by_member, Some((Draws::Tuples, by_member.to_vec()))).unwrap()
    }

    #[test]
    fn known_spreads() {
        assert_eq!(distribution(&[0, 0], Some((Draws::Connections, vec![0, 0]))), None);
        let one = drawn(&[40, 0, 0, 0]);
        assert_eq!((one.imbalance, one.jain, one.chi_squared), (4.0, 0.25, Some(120.0)));
        assert!(one.p_value.unwrap() < 1e-4);
        // χ² = 2·(50²/450) = 11.11 with 1 degree of freedom: p = 0.000858 (tables).
        let two = drawn(&[500, 400]);
        assert!((two.chi_squared.unwrap() - 11.111).abs() < 1e-3 && (two.p_value.unwrap() - 0.000_858).abs() < 1e-5);
        assert_eq!((two.draws, two.draws_count), (Some(Draws::Tuples), Some(900)));
    }

    #[test]
    fn few_draws_have_mid_p_values() {
        // Of 6 draws on 2 members, by enumeration of the 64 ways: 3:3 20 times, 4:2 30, 5:1 12, 6:0 twice.
        for (draws, p) in [([3, 3], 54.0 / 64.0), ([2, 4], 29.0 / 64.0), ([5, 1], 8.0 / 64.0), ([0, 6], 1.0 / 64.0)] {
            let found = drawn(&draws).p_value.unwrap();
            // Five standard deviations of 10,000 simulated spreads.
            assert!((found - p).abs() < 0.025, "{draws:?}: {found}, not {p}");
            assert_eq!(drawn(&draws).p_value, Some(found));
        }
        // On both sides of the border, the same spread has nearly the same p-value: 0.3161 at χ² = 1.005 (tables).
        let (below, above) = (drawn(&[54, 45]).p_value.unwrap(), drawn(&[55, 45]).p_value.unwrap());
        assert!((below - 0.366).abs() < 0.03 && (above - 0.3173).abs() < 1e-3, "{below} {above}");
    }

    #[test]
    fn the_draws_count_and_not_the_accepts() {
        let accepted = distribution(&[300, 100], Some((Draws::Tuples, vec![2, 2]))).unwrap();
        assert_eq!((accepted.imbalance, accepted.chi_squared, accepted.draws_count), (1.5, Some(0.0), Some(4)));
    }

    #[test]
    fn without_chance_there_is_no_p_value() {
        let steered = distribution(&[30, 10], None).unwrap();
        assert_eq!((steered.imbalance, steered.draws, steered.p_value), (1.5, None, None));
        // One member leaves nothing to chance.
        assert_eq!(drawn(&[7]).p_value, None);
        assert_eq!(pooled([&steered].into_iter()), None);
    }

    #[test]
    fn pooled_draws_are_the_new_ones() {
        let first = drawn(&[30, 10]);
        let again = Distribution { new_draws_by_member: vec![0, 2], ..drawn(&[30, 12]) };
        let both = pooled([&first, &again].into_iter()).unwrap();
        assert_eq!((both.draws_count, &both.draws_by_member[..]), (42, &[30, 12][..]));
        assert_eq!(pooled([&first, &first].into_iter()).unwrap().draws_by_member, [60, 20]);
    }
}
