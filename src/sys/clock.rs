//! Clocks. All times of a trial are nanoseconds of CLOCK_MONOTONIC, which all processes of the machine share.

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    sys::{
        prctl,
        resource::{UsageWho, getrusage},
        time::{TimeSpec, TimeValLike},
    },
    time::{ClockId, ClockNanosleepFlags, clock_getcpuclockid, clock_gettime, clock_nanosleep},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// Now, in nanoseconds of CLOCK_MONOTONIC.
#[inline]
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// How far CLOCK_MONOTONIC of this process is ahead of the kernel's own, which BPF programs read: other than 0 only in a time namespace.
pub fn ahead_of_kernel_ns() -> i64 {
    // A kernel without time namespaces has no such file.
    offset_ns(&std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default())
}

/// The offset of CLOCK_MONOTONIC in the text of `timens_offsets`: name, seconds, nanoseconds.
pub fn offset_ns(text: &str) -> i64 {
    let numbers = text.lines().find_map(|line| line.strip_prefix("monotonic"));
    let mut numbers = numbers.unwrap_or_default().split_whitespace().map(|number| number.parse().unwrap_or(0_i64));
    let mut next = || numbers.next().unwrap_or(0);
    next().saturating_mul(1_000_000_000).saturating_add(next())
}

/// Now, as the machine's calendar has it. What is set before 1970, as on a board without a battery, counts as 1970: neither RFC 3339 in
/// records nor the names of their folders can express it.
pub fn wall() -> SystemTime {
    #[allow(clippy::disallowed_methods, reason = "the one place")]
    since_1970(SystemTime::now())
}

fn since_1970(now: SystemTime) -> SystemTime {
    now.max(UNIX_EPOCH)
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

/// Processor time and context switches of a process or thread since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Time for which the calling thread was ready to run and waited for a processor, in nanoseconds; `None` if the kernel does not count it.
pub fn run_queue_wait_ns() -> Option<u64> {
    // CPU time, waiting time, time slices.
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split_whitespace().nth(1)?.parse().ok()
}

/// The calling process's use, from getrusage(2).
pub fn cpu_use() -> CpuUse {
    usage(UsageWho::RUSAGE_SELF)
}

/// The calling thread's use, likewise.
pub fn thread_cpu_use() -> CpuUse {
    usage(UsageWho::RUSAGE_THREAD)
}

fn usage(who: UsageWho) -> CpuUse {
    let usage = getrusage(who).expect("getrusage of oneself takes no failing argument");
    CpuUse {
        user_ns: usage.user_time().num_microseconds() as u64 * 1_000,
        system_ns: usage.system_time().num_microseconds() as u64 * 1_000,
        voluntary_switches: usage.voluntary_context_switches() as u64,
        involuntary_switches: usage.involuntary_context_switches() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calendar_before_1970_still_has_a_name() {
        let second = Duration::from_secs(1);
        for (now, expected) in [
            (UNIX_EPOCH - second * 86_400, "1970-01-01T00:00:00Z"),
            (UNIX_EPOCH - Duration::from_nanos(1), "1970-01-01T00:00:00Z"),
            (UNIX_EPOCH, "1970-01-01T00:00:00Z"),
            (UNIX_EPOCH + second, "1970-01-01T00:00:01Z"),
        ] {
            assert_eq!(humantime::format_rfc3339_seconds(since_1970(now)).to_string(), expected);
        }
    }

    #[test]
    fn a_time_namespace_shifts_the_clock() {
        assert_eq!(offset_ns("monotonic           0         0\nboottime            0         0\n"), 0);
        assert_eq!(
            offset_ns("monotonic       86400 500000000\nboottime         172800         0\n"),
            86_400_500_000_000
        );
        // The kernel keeps the nanoseconds positive.
        assert_eq!(offset_ns("monotonic          -2 500000000\nboottime            0         0\n"), -1_500_000_000);
        assert_eq!(offset_ns(""), 0);
    }
}
