//! Errors counted by step and cause.

use std::collections::BTreeMap;

use crate::record::{Cause, ErrorCount, Step};

/// Counts. Only the first error of a kind allocates.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<(Step, Cause), u64>);

impl Tally {
    /// Counts one error.
    pub fn add(&mut self, step: Step, cause: impl Into<Cause>) {
        *self.0.entry((step, cause.into())).or_default() += 1;
    }

    /// The counts, as records have them.
    pub fn counts(&self) -> Vec<ErrorCount> {
        self.0.iter().map(|(&(phase, errno), &count)| ErrorCount { phase, errno, count }).collect()
    }
}
