//! Where the cost of a connect leaves the flat part of its curve.

use crate::record::PortsStep;

/// Part of the curve that is taken to be flat, where it begins.
const FLAT_PART: usize = 4;
/// A step is off the flat part when its median is so many times the flat part's …
const TIMES: u64 = 3;
/// … and longer by so much, lest the noise of microseconds count.
const MORE_NS: u64 = 20_000;

/// The connections open at the first step after which no step is flat any more; `None` where the curve stays flat, or has
/// too few steps.
///
/// The flat level is the median of the step medians of the first quarter of the curve.
pub fn knee(curve: &[PortsStep]) -> Option<u64> {
    let mut flat: Vec<u64> = curve.iter().take(curve.len() / FLAT_PART).map(|step| step.connect_p50_ns).collect();
    flat.sort_unstable();
    let level_ns = *flat.get(flat.len() / 2)?;
    let is_flat = |step: &PortsStep| step.connect_p50_ns < (TIMES * level_ns).max(level_ns + MORE_NS);
    let last_flat = curve.iter().rposition(is_flat)?;
    // One steep step at the very end is the wall's, not a knee.
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
        // A hump is no knee, and neither is the last step alone.
        assert_eq!(knee(&curve(&[30, 31, 30, 900, 950, 32, 30, 31, 30, 30])), None);
        assert_eq!(knee(&curve(&[30, 31, 30, 30, 30, 32, 30, 31, 30, 900])), None);
        assert_eq!(knee(&curve(&[1, 2, 1, 2, 1, 9, 15, 16, 17, 18])), None);
        assert_eq!(knee(&[]), None);
    }
}
