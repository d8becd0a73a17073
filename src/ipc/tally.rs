//! Errors counted by step and cause.

use std::collections::BTreeMap;

use crate::record::{Cause, ErrorCount, Step};

/// Counts errors. Only the first error of each kind allocates.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<(Step, Cause), u64>);

impl Tally {
    pub fn add(&mut self, step: Step, cause: impl Into<Cause>) {
        *self.0.entry((step, cause.into())).or_default() += 1;
    }

    /// The counts in the form used in records.
    pub fn counts(&self) -> Vec<ErrorCount> {
        self.0.iter().map(|(&(phase, errno), &count)| ErrorCount { phase, errno, count }).collect()
    }
}
