//! A rate of starts that changes linearly.

use std::time::Duration;

/// The rate of a Poisson process that changes linearly over the load's time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ramp {
    /// Starts per second at the beginning.
    pub from: f64,
    /// Starts per second at the end.
    pub to: f64,
    /// Time from the beginning to the end; not zero.
    pub over: Duration,
}

impl Ramp {
    /// Mean starts per second.
    pub fn mean(&self) -> f64 {
        f64::midpoint(self.from, self.to)
    }

    /// The highest rate, in starts per second.
    pub fn peak(&self) -> f64 {
        self.from.max(self.to)
    }

    /// Starts expected in the first `at_s` seconds: the integral of the rate, from·t + (to − from)·t²/(2·over).
    pub fn expected_by(&self, at_s: f64) -> f64 {
        let at_s = at_s.clamp(0.0, self.over.as_secs_f64());
        (self.from + self.curvature() * at_s) * at_s
    }

    /// When so many starts are expected, in seconds: the inverse of [`Self::expected_by`]. Infinite if there are never so many.
    pub fn when(&self, expected: f64) -> f64 {
        // The root of a·t² + from·t = expected, written so that neither a small `a` nor a small `from` loses digits.
        let root = self.from.mul_add(self.from, 4.0 * self.curvature() * expected);
        if root < 0.0 {
            return f64::INFINITY;
        }
        let at_s = 2.0 * expected / (self.from + root.sqrt());
        if at_s < self.over.as_secs_f64() { at_s } else { f64::INFINITY }
    }

    /// Half the change of the rate per second.
    fn curvature(&self) -> f64 {
        (self.to - self.from) / (2.0 * self.over.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integral_and_its_inverse_are_those_of_a_trapezium() {
        for (from, to, halfway, end) in [
            (0.0, 100.0, 250.0, 1_000.0),
            (100.0, 0.0, 750.0, 1_000.0),
            (50.0, 50.0, 500.0, 1_000.0),
            (20.0, 60.0, 300.0, 800.0),
        ] {
            let ramp = Ramp { from, to, over: Duration::from_secs(20) };
            assert_eq!((ramp.expected_by(10.0), ramp.expected_by(20.0)), (halfway, end), "{ramp:?}");
            assert_eq!((ramp.mean() * 20.0, ramp.expected_by(99.0)), (end, end), "{ramp:?}");
            for share in [1e-9, 0.1, 0.5, 0.9, 0.999] {
                let back = ramp.expected_by(ramp.when(share * end));
                assert!((back / (share * end) - 1.0).abs() < 1e-9, "{ramp:?} {share}: {back}");
            }
            assert!((ramp.when(halfway) - 10.0).abs() < 1e-9, "{ramp:?}");
            assert_eq!(ramp.when(end * 1.001), f64::INFINITY, "{ramp:?}");
        }
    }
}
