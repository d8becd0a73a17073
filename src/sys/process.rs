//! Forked child processes that talk to their parent through one pipe and never outlive it.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::PollTimeout,
    sys::{
        prctl,
        signal::{SigHandler, Signal, kill, signal},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, getpid, getppid, pipe2, setpgid},
};

use super::clock::CpuUse;

/// A forked child and the reading end of its pipe, whose end of file means that the child has ended.
#[derive(Debug)]
pub struct Child {
    pub pid: Pid,
    /// Carries what the child writes.
    pub pipe: File,
}

/// Forks a child that runs `body` with the writing end of its pipe and exits with the returned code (101 after a
/// panic). It is killed when its parent dies, and appears as `name` (at most 15 bytes) in process lists.
///
/// Fails if the calling process has more than one thread: the child would inherit locks that other threads hold and
/// never release.
pub fn spawn(name: &str, body: impl FnOnce(File) -> i32) -> io::Result<Child> {
    let threads = threads()?;
    if threads != 1 {
        return Err(io::Error::other(format!("cannot fork `{name}` from a process with {threads} threads")));
    }
    let (read, write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let parent = getpid();
    // SAFETY: this is the only thread (checked above, and no other thread can start one), so the child may run any code.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(write);
            Ok(Child { pid: child, pipe: read.into() })
        }
        ForkResult::Child => {
            drop(read);
            let code = catch_unwind(AssertUnwindSafe(|| {
                if die_with(parent).is_err() {
                    return 1;
                }
                own_signals();
                if let Ok(name) = CString::new(name) {
                    // The name only helps people reading process lists.
                    let _ = prctl::set_name(&name);
                }
                body(write.into())
            }))
            .unwrap_or(101);
            // SAFETY: _exit never returns and runs none of the parent's atexit handlers or buffered output.
            unsafe { libc::_exit(code) }
        }
    }
}

fn threads() -> io::Result<usize> {
    let tasks = "/proc/self/task";
    let entries = fs::read_dir(tasks).map_err(|error| io::Error::new(error.kind(), format!("{tasks}: {error}")))?;
    Ok(entries.count())
}

/// A timeout for poll(2), rounded up to milliseconds, so that waiting for an instant does not spin just before it.
pub fn poll_timeout(at_most: Duration) -> PollTimeout {
    PollTimeout::try_from(at_most.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
}

/// Makes a child ignore Ctrl-C and a closed terminal, which are up to its parent, and die from SIGTERM whatever handler
/// it inherited.
fn own_signals() {
    let ignored = [Signal::SIGINT, Signal::SIGHUP].map(|number| (number, SigHandler::SigIgn));
    for (number, action) in ignored.into_iter().chain([(Signal::SIGTERM, SigHandler::SigDfl)]) {
        // SAFETY: neither disposition runs any code of this process.
        let _ = unsafe { signal(number, action) };
    }
}

/// Makes the kernel kill this process when `parent` dies; fails if it is already dead.
pub fn die_with(parent: Pid) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died between fork and prctl; then no signal comes.
    if getppid() == parent { Ok(()) } else { Err(io::Error::other("the parent process has ended")) }
}

/// Makes this process adopt descendants whose parent dies, so that it can wait for all of them.
pub fn adopt_orphans() -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    Ok(())
}

/// Makes a child lead its own process group, which its descendants inherit: a terminal's Ctrl-C does not reach them,
/// and [`reap_group`] can wait for exactly them.
pub fn lead_group(child: Pid) {
    // Fails only if the child has already ended.
    let _ = setpgid(child, child);
}

/// Waits for all children in a process group, including adopted orphans.
pub fn reap_group(leader: Pid) {
    let group = Pid::from_raw(-leader.as_raw());
    loop {
        match waitpid(group, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Sends a signal to a child of this process, if it still exists.
pub fn send_signal(pid: Pid, signal: Signal) {
    let _ = kill(pid, signal);
}

/// How a child ended, and its use of the processors.
#[derive(Debug, Clone)]
pub struct End {
    /// The status from wait4(2).
    pub status: nix::Result<WaitStatus>,
    /// Use since the process started.
    pub cpu: CpuUse,
}

/// How a child ended, without waiting; `None` if it is still running.
pub fn ended(pid: Pid) -> Option<End> {
    match wait4(pid, libc::WNOHANG) {
        Ok(None) => None,
        Ok(Some(end)) => Some(end),
        Err(error) => Some(End { status: Err(error), cpu: CpuUse::default() }),
    }
}

/// Waits for a child to end.
pub fn wait(pid: Pid) -> End {
    loop {
        match wait4(pid, 0) {
            Err(Errno::EINTR) => {}
            Err(error) => return End { status: Err(error), cpu: CpuUse::default() },
            Ok(Some(end)) => return end,
            Ok(None) => {}
        }
    }
}

/// wait4(2): like waitpid, but also returns the child's resource usage, which cannot be read once it is reaped.
fn wait4(pid: Pid, options: libc::c_int) -> nix::Result<Option<End>> {
    let mut status = 0;
    // SAFETY: rusage is plain C data for which all-zero is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one int and one rusage, both of which live until the call returns.
    let waited = unsafe { libc::wait4(pid.as_raw(), &raw mut status, options, &raw mut usage) };
    if waited == -1 {
        return Err(Errno::last());
    }
    if waited == 0 {
        return Ok(None);
    }
    let nanoseconds = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
    let cpu = CpuUse {
        user_ns: nanoseconds(usage.ru_utime),
        system_ns: nanoseconds(usage.ru_stime),
        voluntary_switches: usage.ru_nvcsw as u64,
        involuntary_switches: usage.ru_nivcsw as u64,
    };
    Ok(Some(End { status: WaitStatus::from_raw(pid, status), cpu }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_several_threads_does_not_fork() {
        // The test harness keeps its own thread while this one runs.
        let error = std::thread::spawn(|| spawn("lb:test", |_pipe| 0).unwrap_err()).join().unwrap();
        assert!(error.to_string().starts_with("cannot fork `lb:test` from a process with "), "{error}");
    }
}
