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

/// A forked child, and the reading end of its pipe. The pipe's end of file means that the child is gone.
#[derive(Debug)]
pub struct Child {
    /// Process id.
    pub pid: Pid,
    /// What the child writes.
    pub pipe: File,
}

/// Forks a child that runs `body` with the writing end of its pipe and exits with the code `body` returns (101 after
/// a panic). It is killed when its parent dies, and shows as `name` (15 bytes at most) in process lists.
///
/// Fails if the calling process has more than one thread: the child would inherit the other threads' locks, held for good.
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
                    // The name is only for people who read process lists.
                    let _ = prctl::set_name(&name);
                }
                body(write.into())
            }))
            .unwrap_or(101);
            // SAFETY: _exit never returns and runs nothing of the parent's: no atexit handler, no buffered output.
            unsafe { libc::_exit(code) }
        }
    }
}

/// The number of threads in the calling process.
fn threads() -> io::Result<usize> {
    let tasks = "/proc/self/task";
    let entries = fs::read_dir(tasks).map_err(|error| io::Error::new(error.kind(), format!("{tasks}: {error}")))?;
    Ok(entries.count())
}

/// A span for poll(2), rounded up to its milliseconds, so that waiting for an instant is not a busy loop just before it.
pub fn poll_timeout(at_most: Duration) -> PollTimeout {
    PollTimeout::try_from(at_most.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
}

/// A child leaves Ctrl-C, and a closed terminal, to its parent, which ends it, and is ended by SIGTERM whatever handler it has inherited.
fn own_signals() {
    let ignored = [Signal::SIGINT, Signal::SIGHUP].map(|number| (number, SigHandler::SigIgn));
    for (number, action) in ignored.into_iter().chain([(Signal::SIGTERM, SigHandler::SigDfl)]) {
        // SAFETY: neither disposition runs any code of this process.
        let _ = unsafe { signal(number, action) };
    }
}

/// Has the kernel kill this process when `parent` dies; fails when it has died already.
pub fn die_with(parent: Pid) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died between fork and prctl, and then no signal comes.
    if getppid() == parent { Ok(()) } else { Err(io::Error::other("the parent process is gone")) }
}

/// Makes this process the reaper of descendants whose parent dies, so that it can wait for all of them.
pub fn adopt_orphans() -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    Ok(())
}

/// Makes a child the leader of a process group of its own, which its descendants will belong to: a terminal's Ctrl-C
/// then does not reach them, and [`reap_group`] can wait for them and nobody else.
pub fn lead_group(child: Pid) {
    // Fails only when the child has gone already.
    let _ = setpgid(child, child);
}

/// Waits for all children in a process group, adopted orphans included.
pub fn reap_group(leader: Pid) {
    let group = Pid::from_raw(-leader.as_raw());
    loop {
        match waitpid(group, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Sends a signal to a child of this process. One that is gone already is no error.
pub fn send_signal(pid: Pid, signal: Signal) {
    let _ = kill(pid, signal);
}

/// How a child ended, and the processor time it had used.
#[derive(Debug, Clone)]
pub struct End {
    /// What wait4(2) returned.
    pub status: nix::Result<WaitStatus>,
    /// Since the process began.
    pub cpu: CpuUse,
}

/// How a child ended, without waiting; `None` while it runs.
pub fn ended(pid: Pid) -> Option<End> {
    match wait4(pid, libc::WNOHANG) {
        Ok(None) => None,
        Ok(Some(end)) => Some(end),
        Err(error) => Some(End { status: Err(error), cpu: CpuUse::default() }),
    }
}

/// Waits for a child and says how it ended.
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

/// wait4(2): waitpid that also tells what the child had used, which nobody can ask a dead process for.
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
