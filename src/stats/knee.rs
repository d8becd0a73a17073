//! Finds where the cost of a connect leaves the flat part of its curve.

use crate::record::PortsStep;

/// The part of the curve, from its start, that is taken as flat.
const FLAT_PART: usize = 4;
/// A step is steep if its median is this many times the flat level …
const TIMES: u64 = 2;
/// … and exceeds it by this much, so that noise of microseconds does not count.
const MORE_NS: u64 = 20_000;
/// The end of the curve, in steps. The rise lasts if most of them are steep, or at least the last two: one alone, at the very end,
/// belongs to the wall, and others before a flat end are noise.
const END: usize = 4;

/// Open connections at the last step before the curve becomes steep; `None` if it has no lasting rise or too few steps.
///
/// The flat level is the median of the step medians of the first quarter of the curve. Steps scatter, so the knee is where the
/// fewest are on the wrong side: steep before it or flat after it.
pub fn knee(curve: &[PortsStep]) -> Option<u64> {
    let mut flat: Vec<u64> = curve.iter().take(curve.len() / FLAT_PART).map(|step| step.connect_p50_ns).collect();
    flat.sort_unstable();
    let level_ns = *flat.get(flat.len() / 2)?;
    let is_steep = |step: &PortsStep| step.connect_p50_ns >= (TIMES * level_ns).max(level_ns + MORE_NS);
    // How many steps are on the right side if the knee is behind the first so many.
    let mut right: Vec<usize> = vec![curve.iter().filter(|step| is_steep(step)).count()];
    for step in curve {
        let last = right[right.len() - 1];
        right.push(if is_steep(step) { last - 1 } else { last + 1 });
    }
    let most = *right.iter().max()?;
    let before = right.iter().position(|count| *count == most)?;
    let end = &curve[curve.len().saturating_sub(END)..];
    let most_are_steep = 2 * end.iter().filter(|step| is_steep(step)).count() > END;
    let last_are_steep = end.iter().rev().take(2).filter(|step| is_steep(step)).count() == 2;
    (before > 0 && (most_are_steep || last_are_steep)).then(|| curve[before - 1].connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(medians_us: &[u64]) -> Vec<PortsStep> {
        let step = |(number, us): (usize, &u64)| PortsStep {
            connections: 10 * (number as u64 + 1),
            connect_p50_ns: 1_000 * us,
            ..PortsStep::default()
        };
        medians_us.iter().enumerate().map(step).collect()
    }

    #[test]
    fn the_knee_is_where_the_curve_becomes_steep() {
        assert_eq!(knee(&curve(&[30, 31, 30, 90, 30, 32, 900, 950, 940, 920])), Some(60));
        // Steps that scatter around the threshold do not move it.
        assert_eq!(knee(&curve(&[18, 18, 19, 18, 18, 56, 56, 37, 55, 57])), Some(50));
        // A hump is not a knee, and neither is the last step alone.
        assert_eq!(knee(&curve(&[30, 31, 30, 900, 950, 32, 30, 31, 30, 30])), None);
        assert_eq!(knee(&curve(&[30, 31, 30, 30, 30, 32, 30, 31, 30, 900])), None);
        // Neither is a hump near the end: the last steps are flat again.
        assert_eq!(knee(&curve(&[22, 21, 22, 20, 21, 22, 22, 2_960, 90, 26])), None);
        assert_eq!(knee(&curve(&[22, 21, 22, 20, 21, 22, 22, 22, 2_960, 90, 26, 22])), None);
        assert_eq!(knee(&curve(&[22, 21, 22, 20, 21, 22, 22, 2_960, 26, 90])), None);
        // Two steep steps at the very end are a rise, and a single flat step among the last does not end one.
        assert_eq!(knee(&curve(&[22, 21, 22, 20, 21, 22, 22, 22, 900, 950])), Some(80));
        assert_eq!(knee(&curve(&[30, 31, 30, 30, 30, 32, 900, 950, 940, 30])), Some(60));
        assert_eq!(knee(&curve(&[1, 2, 1, 2, 1, 9, 15, 16, 17, 18])), None);
        assert_eq!(knee(&[]), None);
    }
}
