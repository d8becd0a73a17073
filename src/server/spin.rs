//! Burning CPU time in user mode, so that the split of a worker's CPU time into user and system time means something.
//!
//! The time to burn is CPU time: a worker that is preempted still has the rest of its work to do. Only a system call reads the CPU
//! clock (CLOCK_THREAD_CPUTIME_ID), so a loop of readings would spend most of its time in the kernel. This one makes turns, whose
//! number per nanosecond it knows, and reads the clock a few times per request.

use std::hint::black_box;

use crate::sys::clock;

/// How long the turns of the calibration take at least.
const CALIBRATION_NS: u64 = 1_000_000;
/// Longest stretch without a look at the clock: the processor's speed may change.
const STRETCH_NS: u64 = 1_000_000;
/// Shorter stretches are not planned cautiously, and do not correct the speed: reading the clock takes a good part of them.
const SHORT_NS: u64 = 20_000;

/// Burns CPU time.
#[derive(Debug)]
pub(super) struct Spinner {
    turns_per_ns: f64,
}

impl Spinner {
    /// Measures how fast turns are, which takes a few milliseconds.
    pub(super) fn calibrated() -> Self {
        let mut turns = 1_000;
        loop {
            let from_ns = clock::thread_cpu_ns();
            spin(turns);
            let took_ns = clock::thread_cpu_ns() - from_ns;
            if took_ns >= CALIBRATION_NS {
                return Self { turns_per_ns: turns as f64 / took_ns as f64 };
            }
            turns *= 2;
        }
    }

    /// Burns at least this much CPU time of the calling thread, and hardly more.
    pub(super) fn burn(&mut self, time_ns: u64) {
        let mut now_ns = clock::thread_cpu_ns();
        let until_ns = now_ns + time_ns;
        while now_ns < until_ns {
            let left_ns = until_ns - now_ns;
            // Not all of it at once: turns may have become slower.
            let stretch_ns = if left_ns > SHORT_NS { (left_ns - left_ns / 8).min(STRETCH_NS) } else { left_ns };
            let turns = (stretch_ns as f64 * self.turns_per_ns) as u64 + 1;
            spin(turns);
            let from_ns = std::mem::replace(&mut now_ns, clock::thread_cpu_ns());
            if stretch_ns >= SHORT_NS {
                self.turns_per_ns = turns as f64 / (now_ns - from_ns).max(1) as f64;
            }
        }
    }
}

/// Not `spin_loop`: a hypervisor may intercept its instruction.
fn spin(turns: u64) {
    let mut turned = 0_u64;
    for _ in 0..turns {
        turned = black_box(turned.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_burnt_is_what_was_asked_for_even_at_another_speed() {
        let burnt_at = |speed: f64| {
            let mut spinner = Spinner::calibrated();
            spinner.turns_per_ns *= speed;
            let from_ns = clock::thread_cpu_ns();
            for _ in 0..10 {
                spinner.burn(2_000_000);
            }
            clock::thread_cpu_ns() - from_ns
        };
        for speed in [1.0, 0.01, 3.0] {
            // The clock of a virtual machine's processor may count what its host took in the midst of a stretch.
            let burnt_ns: Vec<u64> = (0..5).map(|_| burnt_at(speed)).collect();
            assert!(burnt_ns.iter().all(|burnt_ns| *burnt_ns >= 20_000_000), "{burnt_ns:?} at {speed} times the speed");
            assert!(burnt_ns.iter().any(|burnt_ns| *burnt_ns < 60_000_000), "{burnt_ns:?} at {speed} times the speed");
        }
    }
}
