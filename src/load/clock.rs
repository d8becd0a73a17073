//! The loader's clock, so that tests can set the time.

use crate::sys;

/// A source of the current time.
pub(super) trait Clock {
    /// Now, in nanoseconds of CLOCK_MONOTONIC.
    fn now_ns(&self) -> u64;
}

/// CLOCK_MONOTONIC itself.
pub(super) struct Monotonic;

impl Clock for Monotonic {
    #[inline]
    fn now_ns(&self) -> u64 {
        sys::clock::monotonic_ns()
    }
}
