//! Finds where the cost of a connect leaves the flat part of its curve.

use crate::record::PortsStep;

/// The part of the curve, from its start, that is taken as flat.
const FLAT_PART: usize = 4;
/// A step leaves the flat part if its median is this many times the flat level …
const TIMES: u64 = 3;
/// … and exceeds it by this much, so that noise of microseconds does not count.
const MORE_NS: u64 = 20_000;

/// Open connections at the first step from which no step is flat; `None` if the curve stays flat or has too few steps.
///
/// The flat level is the median of the step medians of the first quarter of the curve.
pub fn knee(curve: &[PortsStep]) -> Option<u64> {
    let mut flat: Vec<u64> = curve.iter().take(curve.len() / FLAT_PART).map(|step| step.connect_p50_ns).collect();
    flat.sort_unstable();
    let level_ns = *flat.get(flat.len() / 2)?;
    let is_flat = |step: &PortsStep| step.connect_p50_ns < (TIMES * level_ns).max(level_ns + MORE_NS);
    let last_flat = curve.iter().rposition(is_flat)?;
    // A single steep step at the very end belongs to the wall.
    (last_flat + 2 < curve.len()).then(|| curve[last_flat].connections)
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
    fn the_knee_is_where_flat_ends_for_good() {
        assert_eq!(knee(&curve(&[30, 31, 30, 90, 30, 32, 900, 950, 940, 920])), Some(60));
        // A hump is not a knee, and neither is the last step alone.
        assert_eq!(knee(&curve(&[30, 31, 30, 900, 950, 32, 30, 31, 30, 30])), None);
        assert_eq!(knee(&curve(&[30, 31, 30, 30, 30, 32, 30, 31, 30, 900])), None);
        assert_eq!(knee(&curve(&[1, 2, 1, 2, 1, 9, 15, 16, 17, 18])), None);
        assert_eq!(knee(&[]), None);
    }
}
