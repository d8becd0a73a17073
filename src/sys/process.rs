//! Forked child processes that talk to their parent through one pipe and never outlive it.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        resource::{UsageWho, getrusage},
        signal::{SigHandler, SigSet, Signal, kill, killpg, signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, getpid, getppid, pipe2, setpgid, setsid},
};

use super::{clock::CpuUse, limits, namespace};

/// How often to look whether a child has ended that cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

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
    let (read, write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|error| limits::explained("pipe2", error))?;
    let parent = getpid();
    // SAFETY: this is the only thread (checked above, and no other thread can start one), so the child may run any code.
    match unsafe { fork() }.map_err(|error| limits::explained("fork", error))? {
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

/// Makes a child ignore what asks a whole process group to end: Ctrl-C, a closed terminal, and timeout(1). That is up to its
/// parent, which first has it report.
fn own_signals() {
    for number in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM] {
        // SAFETY: the disposition runs no code of this process.
        let _ = unsafe { signal(number, SigHandler::SigIgn) };
    }
}

/// Makes the kernel kill this process when `parent` dies; fails if it is already dead.
pub fn die_with(parent: Pid) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died between fork and prctl; then no signal comes.
    if getppid() == parent { Ok(()) } else { Err(io::Error::other("the parent process has ended")) }
}

/// Lets this process outlive its parent, for example to end what it has started itself.
pub fn outlive_parent() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(None)?)
}

/// The kernel's number of signals (_NSIG), on every architecture that Rust supports but MIPS.
const SIGNALS: libc::c_int = 64;

/// Starts a program as a shell would in the foreground of a fresh terminal: every signal has its default action and none is blocked, it
/// leads its own session, and it inherits no descriptor but its standard ones. Its input is empty, and both of its outputs go to
/// `output`. An ordinary user's program runs as that user, even if the calling process is root in a user namespace. It is killed when the
/// calling process dies. A program without a slash is looked up in PATH; one with a relative path, in
/// `folder`, where it starts, and whose path it finds in an environment variable. `open_files` is its limit, if it is to have another one.
pub fn start(
    program: &str,
    arguments: &[String],
    (folder, variable): (&Path, &str),
    output: OwnedFd,
    open_files: Option<u64>,
) -> io::Result<Pid> {
    let parent = getpid();
    let user = namespace::OuterIds::read()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .env(variable, folder)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let set_up = move || {
        setsid()?;
        if let Some(user) = &user {
            user.resume()?;
        }
        die_with(parent)?;
        // The kernel's `struct sigaction` for the default action: all zeros, and shorter than this on every architecture.
        let default = [0_u64; 16];
        for number in 1..=SIGNALS {
            // The C library refuses to touch two signals of its own, which may be ignored all the same.
            // SAFETY: the kernel reads the struct, and the action runs no code. SIGKILL and SIGSTOP are refused: they have no other.
            unsafe { libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), 0, size_of::<u64>()) };
        }
        SigSet::empty().thread_set_mask()?;
        // The standard library reports a failed exec over a descriptor of its own, which exec closes too.
        // SAFETY: the call takes three integers.
        match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) } {
            0 => open_files.map_or(Ok(()), limits::set_open_files),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec, the closure makes system calls only.
    let child = unsafe { command.pre_exec(set_up) }.spawn().map_err(|error| {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(limited @ (Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => {
                limits::explained("fork", limited)
            }
            _ => error,
        }
    })?;
    Ok(Pid::from_raw(child.id() as i32))
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

/// Reaps the children of a process group that have ended, adopted orphans among them. Returns true once there are none in the group.
pub fn reap_group(leader: Pid) -> bool {
    let group = Pid::from_raw(-leader.as_raw());
    loop {
        match waitpid(group, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return false,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return true,
        }
    }
}

/// Kills a process group of this process's children, unless it has no member left.
pub fn kill_group(leader: Pid) {
    let _ = killpg(leader, Signal::SIGKILL);
}

/// Sends a signal to a child of this process, if it still exists.
pub fn send_signal(pid: Pid, signal: Signal) {
    let _ = kill(pid, signal);
}

/// Sends a signal to any process.
pub fn signal_any(pid: Pid, signal: Signal) -> io::Result<()> {
    Ok(kill(pid, signal)?)
}

/// The most memory that this process had resident, in bytes.
pub fn peak_resident_bytes() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage of oneself takes no failing argument");
    u64::try_from(usage.max_rss()).unwrap_or(0) << 10
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

/// Sleeps until a child, which has not been reaped, has ended, for no longer than `at_most`. May return early: see whether it has.
pub fn nap_until_ended(child: Pid, at_most: Duration) {
    match descriptor(child) {
        // Readable once the process has ended.
        Ok(process) => {
            let _ = poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], poll_timeout(at_most));
        }
        // No descriptor is left.
        Err(_) => std::thread::sleep(at_most.min(LOOK_AGAIN)),
    }
}

/// A descriptor for a child: pidfd_open(2), since Linux 5.3.
fn descriptor(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if opened == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(opened as i32) })
}

/// Whether a descriptor stands for the same open file in two processes: kcmp(2). `None` if the kernel or this user's privileges do not
/// tell, or one of the two does not have it.
pub fn share_file(one: i32, other: i32, descriptor: i32) -> Option<bool> {
    const KCMP_FILE: libc::c_int = 0;
    // SAFETY: the call takes five integers.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILE, descriptor, descriptor) };
    (order >= 0).then_some(order == 0)
}

/// Reaps a child that has ended, whichever it is: `Ok(None)` if none has, `Err(ECHILD)` once there are no children.
pub fn reap_any() -> nix::Result<Option<(Pid, End)>> {
    let end = wait4(Pid::from_raw(-1), libc::WNOHANG)?;
    Ok(end.and_then(|end| Some((end.status.ok()?.pid()?, end))))
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
    Ok(Some(End { status: WaitStatus::from_raw(Pid::from_raw(waited), status), cpu }))
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
