//! Errors counted by step and cause, in shared memory: what a process has counted outlives it.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use strum::{EnumCount, VariantArray};

use super::increase;
use crate::{
    record::{Cause, ErrorCount, Step},
    sys::shared::SharedSlice,
};

/// The errors of several processes, each of which alone counts its own.
#[derive(Debug)]
pub struct Tallies(SharedSlice<[[AtomicU64; Cause::PLACES]; Step::COUNT]>);

impl Tallies {
    /// Room for the errors of so many processes.
    pub fn new(processes: usize) -> io::Result<Self> {
        SharedSlice::new(processes).map(Self)
    }

    /// Counts an error of a process.
    pub fn add(&self, process: usize, step: Step, cause: impl Into<Cause>) {
        self.add_many(process, step, cause, 1);
    }

    /// Counts an error of a process that happened so many times.
    pub fn add_many(&self, process: usize, step: Step, cause: impl Into<Cause>, times: u64) {
        increase(&self.0[process][step as usize][cause.into().place()], times);
    }

    /// Takes over counts of errors, each in place of the process's own.
    pub fn take_over(&self, process: usize, errors: &[ErrorCount]) {
        for error in errors {
            self.0[process][error.phase as usize][error.errno.place()].store(error.count, Relaxed);
        }
    }

    /// The errors of a process, in the form used in records.
    pub fn counts(&self, process: usize) -> Vec<ErrorCount> {
        let steps = Step::VARIANTS.iter().zip(&self.0[process]);
        let all = steps.flat_map(|(step, counts)| {
            let counts = counts.iter().map(|count| count.load(Relaxed)).enumerate();
            counts.map(|(place, count)| ErrorCount { phase: *step, errno: Cause::at(place), count })
        });
        ErrorCount::merged(all.filter(|error| error.count > 0))
    }
}
