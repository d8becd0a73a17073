//! Many starts at once, then none.

use std::time::Duration;

use crate::sys::clock;

/// Yields bursts at equal intervals, the first at once.
#[derive(Debug)]
pub(super) struct BurstStarts {
    /// Starts at one instant.
    size: u64,
    every_ns: f64,
    /// Those yielded.
    number: u64,
}

impl BurstStarts {
    pub fn new(size: u64, every: Duration) -> Self {
        Self { size, every_ns: clock::nanoseconds(every) as f64, number: 0 }
    }

    pub fn next(&mut self) -> f64 {
        let at_ns = (self.number / self.size) as f64 * self.every_ns;
        self.number += 1;
        at_ns
    }
}
