//! Whether figures may be trusted: drift within a trial and over a run, and values that fall into two groups.

use std::collections::BTreeMap;

use statrs::function::erf::erfc;

use super::estimate::{ascending, median};
use crate::record::{Change, limits};

/// Rows of each half.
const ROWS: usize = 5;
/// Up to this many repetitions, orders are counted; beyond, the normal distribution is accurate enough.
const EXACT: usize = 60;
/// The smaller of two groups of trials has at least this many, …
const GROUP: usize = 2;
/// … and the groups' means are this far apart, relative to the mean of all.
const APART: f64 = 0.1;

/// Whether the first and the second half of a trial's rows differ by more than their scatter explains.
pub fn drift_within(rows: &[f64]) -> Option<Change> {
    let (first, second) = rows.split_at(rows.len() / 2);
    if first.len() < ROWS {
        return None;
    }
    let ((before, before_variance), (after, after_variance)) = (mean_and_variance(first), mean_and_variance(second));
    let error = (before_variance / first.len() as f64 + after_variance / second.len() as f64).sqrt();
    let change = (after - before).abs();
    (change > limits::DRIFT_IN_TRIAL * before.max(after) && change > limits::DRIFT_STANDARD_ERRORS * error)
        .then_some(Change { before, after })
}

fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, squares / (values.len() - 1).max(1) as f64)
}

/// Drift over the repetitions of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// Relative change from the first repetition to the last, by the median slope (Theil 1950, Sen 1968).
    pub change: f64,
    /// Of Mann and Kendall's test: the share of orders with as strong a trend.
    pub p_value: f64,
}

/// Whether the machine became faster or slower over a run: each cell's values (repetition, value) are brought to the cell's
/// own median, since a drift touches all cells of a block alike, and the blocks' means are tested for a trend.
pub fn drift_over(cells: &[Vec<(usize, f64)>]) -> Option<Drift> {
    let mut blocks: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for cell in cells {
        let values: Vec<f64> = cell.iter().map(|(_, value)| *value).collect();
        let middle = median(&ascending(&values)).filter(|middle| *middle > 0.0);
        let usable = |value: &f64| *value > 0.0 && value.is_finite();
        let Some(middle) = middle.filter(|_| values.iter().all(usable)) else { continue };
        for (repetition, value) in cell {
            blocks.entry(*repetition).or_default().push((value / middle).ln());
        }
    }
    let means: Vec<(f64, f64)> =
        blocks.into_iter().map(|(block, logs)| (block as f64, logs.iter().sum::<f64>() / logs.len() as f64)).collect();
    if means.len() < limits::DRIFT_REPETITIONS {
        return None;
    }
    let pairs = || (0..means.len()).flat_map(|i| (i + 1..means.len()).map(move |j| (i, j)));
    let slopes: Vec<f64> = pairs().map(|(i, j)| (means[j].1 - means[i].1) / (means[j].0 - means[i].0)).collect();
    let p_value = kendall_p(means.len(), slopes.iter().filter(|slope| **slope < 0.0).count());
    let slope = median(&ascending(&slopes))?;
    let change = (slope * (means[means.len() - 1].0 - means[0].0)).exp() - 1.0;
    (p_value <= limits::DRIFT_LEVEL && change.abs() >= limits::DRIFT_OVER_REPETITIONS)
        .then_some(Drift { change, p_value })
}

/// The share of the orders of n values that have at most this many inversions, or at least as many as their mirrors:
/// the two-sided p-value of Kendall's rank correlation with time, for values without ties.
fn kendall_p(n: usize, inversions: usize) -> f64 {
    let most = n * (n - 1) / 2;
    let fewer = inversions.min(most - inversions);
    if n > EXACT { near_kendall_p(n, fewer) } else { exact_kendall_p(n, fewer) }
}

/// By counting the orders. Takes time as the cube of n.
fn exact_kendall_p(n: usize, fewer: usize) -> f64 {
    // Orders of k values by their inversions: the k-th value can come before 0 to k − 1 others.
    let mut shares = vec![1.0];
    for values in 2..=n {
        let mut window = 0.0;
        let next = (0..shares.len() + values - 1).map(|inversions| {
            window += shares.get(inversions).unwrap_or(&0.0);
            window -= inversions.checked_sub(values).and_then(|before| shares.get(before)).unwrap_or(&0.0);
            window / values as f64
        });
        shares = next.collect();
    }
    (2.0 * shares[..=fewer].iter().sum::<f64>()).min(1.0)
}

/// By the normal distribution, corrected for continuity (Kendall 1938): the variance of the concordant pairs less the discordant
/// is n(n − 1)(2n + 5)/18.
fn near_kendall_p(n: usize, fewer: usize) -> f64 {
    let n = n as f64;
    let surplus = n * (n - 1.0) / 2.0 - 2.0 * fewer as f64;
    let z = (surplus - 1.0).max(0.0) / (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    erfc(z / std::f64::consts::SQRT_2)
}

/// The means of two groups into which values fall, if they do: the split of the ordered values that explains most of their
/// variance (Otsu 1979) explains nearly all of it. A hint, not a test.
pub fn two_groups(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < limits::BIMODAL_TRIALS || !values.iter().all(|value| value.is_finite()) {
        return None;
    }
    let sorted = ascending(values);
    let (mean, variance) = mean_and_variance(&sorted);
    let total = variance * (sorted.len() - 1) as f64;
    let between = |split: usize| {
        let (low, high) = sorted.split_at(split);
        [low, high].iter().map(|group| group.len() as f64 * (mean_and_variance(group).0 - mean).powi(2)).sum::<f64>()
    };
    let split = (GROUP..=sorted.len() - GROUP).max_by(|a, b| between(*a).total_cmp(&between(*b)))?;
    let (low, high) = sorted.split_at(split);
    let (low, high) = (mean_and_variance(low).0, mean_and_variance(high).0);
    (between(split) > limits::BIMODAL_EXPLAINED * total && high - low > APART * mean.abs()).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::{super::synthetic::Noise, *};

    #[test]
    fn many_values_are_judged_as_exactly_as_few() {
        for fewer in [450, 500, 540, 580, 612] {
            let (exact, near) = (exact_kendall_p(50, fewer), near_kendall_p(50, fewer));
            assert!((exact - near).abs() < 0.002 && (exact / near - 1.0).abs() < 0.1, "{fewer}: {exact} {near}");
        }
        // Four values: one order in 24 has no inversion, and one has all.
        assert_eq!(exact_kendall_p(4, 0), 2.0 / 24.0);
    }

    #[test]
    fn halves_that_differ_are_told_from_scatter() {
        let rows = |before: f64, after: f64| -> Vec<f64> {
            (0..20).map(|i| if i < 10 { before } else { after } + f64::from(i % 3)).collect()
        };
        assert_eq!(drift_within(&rows(100.0, 100.0)), None);
        assert_eq!(drift_within(&rows(100.0, 105.0)), None, "below a tenth");
        let drift = drift_within(&rows(100.0, 150.0)).unwrap();
        assert!(drift.before < 102.0 && drift.after > 149.0);
        assert_eq!(drift_within(&[1.0, 9.0]), None, "too few rows");
        assert_eq!(drift_within(&[0.0; 20]), None);
        let mut noise = Noise::new(4);
        let alarms = (0..1_000).filter(|_| drift_within(&noise.sample(20, 40.0, 0.16, false)).is_some()).count();
        assert!(alarms <= 10, "{alarms} of 1000");
    }

    #[test]
    fn trends_by_kendall() {
        // n = 5: 1 of 120 orders has no inversion, 4 have one, and as many are their mirrors.
        assert!((kendall_p(5, 0) - 2.0 / 120.0).abs() < 1e-12);
        assert!((kendall_p(5, 9) - 10.0 / 120.0).abs() < 1e-12);
        assert_eq!(kendall_p(4, 3), 1.0);
    }

    #[test]
    fn a_machine_that_slows_down_is_found_and_noise_is_not() {
        let cells = |slope: f64, noise: &mut Noise| -> Vec<Vec<(usize, f64)>> {
            let trial = |repetition: usize, level: f64, scatter: f64| {
                (repetition, level * scatter * (slope * repetition as f64).exp())
            };
            let cell = |level: f64, noise: &mut Noise| {
                let scatter = noise.sample(10, 1.0, 0.03, false);
                scatter.into_iter().enumerate().map(|(r, scatter)| trial(r, level, scatter)).collect()
            };
            [50_000.0, 60_000.0, 2_000.0].iter().map(|level| cell(*level, noise)).collect()
        };
        let mut noise = Noise::new(6);
        let found = drift_over(&cells(-0.02, &mut noise)).unwrap();
        assert!(found.change < -0.1 && found.change > -0.25 && found.p_value <= 0.05, "{found:?}");
        let alarms = (0..500).filter(|_| drift_over(&cells(0.0, &mut noise)).is_some()).count();
        assert!(alarms <= 30, "{alarms} of 500");
        assert_eq!(drift_over(&[vec![(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0)]]), None, "too few repetitions");
    }

    #[test]
    fn two_groups_are_found_and_one_is_not() {
        let mut noise = Noise::new(7);
        let mut both = noise.sample(5, 100.0, 0.01, false);
        both.extend(noise.sample(4, 150.0, 0.01, false));
        let (low, high) = two_groups(&both).unwrap();
        assert!((low - 100.0).abs() < 3.0 && (high - 150.0).abs() < 4.0);
        for (count, heavy) in [(7, false), (10, false), (20, false), (30, false)] {
            let alarms = (0..2_000).filter(|_| two_groups(&noise.sample(count, 100.0, 0.2, heavy)).is_some()).count();
            assert!(alarms <= 40, "{count}: {alarms} of 2000");
        }
        assert_eq!(two_groups(&[5.0; 12]), None);
        assert_eq!(two_groups(&[[5.0; 4], [f64::INFINITY; 4]].concat()), None, "not reached in half of the trials");
        assert_eq!(two_groups(&[1.0, 1.0, 2.0, 2.0]), None, "too few values");
    }
}
