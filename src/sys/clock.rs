//! Clocks. All times of a trial are nanoseconds of CLOCK_MONOTONIC, which all processes of the machine share.

use std::{io, time::Duration};

use nix::{
    sys::{
        prctl,
        resource::{UsageWho, getrusage},
        time::{TimeSpec, TimeValLike},
    },
    time::{ClockId, ClockNanosleepFlags, clock_getcpuclockid, clock_gettime, clock_nanosleep},
    unistd::Pid,
};

/// Now, in nanoseconds of CLOCK_MONOTONIC.
#[inline]
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// CPU time used by the calling thread, in nanoseconds.
#[inline]
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time used by all threads of another process, in nanoseconds; `None` once it is gone.
pub fn process_cpu_ns(pid: i32) -> Option<u64> {
    let now = clock_gettime(clock_getcpuclockid(Pid::from_raw(pid)).ok()?).ok()?;
    Some(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

#[inline]
fn read(clock: ClockId) -> u64 {
    // Both clocks exist on every Linux with namespaces; a failure would mean a broken libc.
    let now = clock_gettime(clock).expect("clock_gettime of a standard clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Sleeps until an instant of CLOCK_MONOTONIC, or returns at once if it has passed. Signals do not end the sleep.
pub fn sleep_until(instant_ns: u64) {
    let until = TimeSpec::nanoseconds(instant_ns as i64);
    while clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &until).is_err() {}
}

/// Makes the calling process's timeouts expire on time. By default the kernel may delay them by 50 µs to combine
/// wake-ups (PR_SET_TIMERSLACK).
pub fn be_exact() -> io::Result<()> {
    Ok(prctl::set_timerslack(1)?)
}

/// A duration in nanoseconds; saturates at about 584 years.
pub fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Processor time and context switches of a process since its start.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuUse {
    /// Nanoseconds in user mode (µs resolution).
    pub user_ns: u64,
    /// Nanoseconds in the kernel (µs resolution).
    pub system_ns: u64,
    /// Number of times the process went to sleep.
    pub voluntary_switches: u64,
    /// Number of times another process took its processor.
    pub involuntary_switches: u64,
}

/// The calling process's use, from getrusage(2).
pub fn cpu_use() -> CpuUse {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage(RUSAGE_SELF) takes no failing argument");
    CpuUse {
        user_ns: usage.user_time().num_microseconds() as u64 * 1_000,
        system_ns: usage.system_time().num_microseconds() as u64 * 1_000,
        voluntary_switches: usage.voluntary_context_switches() as u64,
        involuntary_switches: usage.involuntary_context_switches() as u64,
    }
}
