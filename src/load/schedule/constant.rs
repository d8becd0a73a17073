//! Starts at equal intervals.

/// Yields starts at equal intervals, the first at once.
#[derive(Debug)]
pub(super) struct ConstantStarts {
    /// Starts per second.
    rate: f64,
    /// Those yielded.
    number: u64,
}

impl ConstantStarts {
    pub fn new(rate: f64) -> Self {
        Self { rate, number: 0 }
    }

    pub fn next(&mut self) -> f64 {
        let at_ns = self.number as f64 * 1e9 / self.rate;
        self.number += 1;
        at_ns
    }
}
