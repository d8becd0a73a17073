//! Processes and threads, as /proc shows them.

use std::{collections::HashMap, ffi::OsStr, path::Path};

use procfs::process::{Process, all_processes};

use super::file;
use crate::{format, sys::clock::CpuUse};

/// A thread at one moment; a process is its first thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The command name, as in /proc/PID/task/TID/comm.
    pub comm: String,
    /// The state's letter: `R`, `S`, `D`, `T` (stopped), `t` (stopped by a tracer), `Z` …
    pub state: char,
    /// Process id of the parent.
    pub parent: i32,
}

impl Task {
    /// `None` once it is gone.
    pub fn read(pid: i32, tid: i32) -> Option<Self> {
        let stat = Process::new(pid).ok()?.task_from_tid(tid).ok()?.stat().ok()?;
        Some(Self { comm: format::one_line(&stat.comm), state: stat.state, parent: stat.ppid })
    }
}

/// When a process began, in the kernel's ticks since the boot; `None` once it is gone.
pub fn started(pid: i32) -> Option<u64> {
    Some(Process::new(pid).ok()?.stat().ok()?.starttime)
}

/// Whether a task in this state runs no instruction until somebody continues it: stopped by a signal (SIGSTOP, SIGTSTP) or a tracer.
pub fn is_stopped(state: char) -> bool {
    matches!(state, 'T' | 't')
}

/// All processes, by ascending id.
pub fn all() -> Vec<i32> {
    all_processes().into_iter().flatten().flatten().map(|process| process.pid).collect()
}

/// The descendants of a process, parents before their children. One whose parent ends just then may be missing.
pub fn descendants(of: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for process in all_processes().into_iter().flatten().flatten() {
        if let Ok(stat) = process.stat() {
            children.entry(stat.ppid).or_default().push(stat.pid);
        }
    }
    let mut found = children.remove(&of).unwrap_or_default();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        found.extend(children.remove(process).unwrap_or_default());
        next += 1;
    }
    found
}

/// The processes that belong to a folder, by name and id, as far as this user may look: those with its path in a variable of their
/// environment, and those that are inside, without a terminal, in a session whose leader is inside too or has ended.
pub fn belonging(variable: &str, folder: &Path) -> Vec<(String, i32)> {
    let is_inside = |process: &Process| process.cwd().is_ok_and(|cwd| cwd.starts_with(folder));
    let is_marked = |process: &Process| {
        let environment = process.environ().unwrap_or_default();
        environment.get(OsStr::new(variable)).is_some_and(|value| Path::new(value) == folder)
    };
    let own = std::process::id() as i32;
    let others = all_processes().into_iter().flatten().flatten().filter(|process| process.pid != own);
    let found = others.filter_map(|process| {
        let stat = process.stat().ok().filter(|stat| !matches!(stat.state, 'Z' | 'X'))?;
        let leader = || Process::new(stat.session).ok().filter(|leader| leader.is_alive());
        let was_left = || stat.tty_nr == 0 && is_inside(&process) && leader().is_none_or(|leader| is_inside(&leader));
        (is_marked(&process) || was_left()).then(|| (format::one_line(&stat.comm), process.pid))
    });
    found.collect()
}

/// The threads of a process; none once it is gone.
pub fn threads(pid: i32) -> Vec<i32> {
    let tasks = Process::new(pid).and_then(|process| process.tasks());
    tasks.into_iter().flatten().flatten().map(|task| task.tid).collect()
}

/// What a thread has used of the processors since it began; `None` once it is gone.
pub fn thread_use(pid: i32, tid: i32) -> Option<CpuUse> {
    let of = |name: &str| file::read(format!("/proc/{pid}/task/{tid}/{name}")).ok();
    let (stat, status) = (of("stat")?, of("status")?);
    // Ticks tell user mode from the kernel, but are too coarse for their sum, which schedstat has in nanoseconds.
    let (user, system) = ticks(&stat)?;
    let tick_ns = 1_000_000_000 / procfs::ticks_per_second();
    let sum_ns = of("schedstat").and_then(|text| text.split_whitespace().next()?.parse().ok());
    let sum_ns = sum_ns.unwrap_or((user + system) * tick_ns);
    let user_ns = (u128::from(sum_ns) * u128::from(user)).checked_div(u128::from(user + system)).unwrap_or(0) as u64;
    let switches = |kind: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix("_ctxt_switches:"));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    };
    Some(CpuUse {
        user_ns,
        system_ns: sum_ns - user_ns,
        voluntary_switches: switches("voluntary"),
        involuntary_switches: switches("nonvoluntary"),
    })
}

/// Ticks in user mode and in the kernel, of a line of /proc/PID/stat: `pid (command) state …`, where a command may hold anything.
pub fn ticks(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    use super::*;

    #[test]
    fn ticks_stand_behind_a_command_of_any_name() {
        let line = "12 (a) 9 (b) c) S 1 12 12 0 -1 4194560 90 0 0 0 34 56 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(line), Some((34, 56)));
        assert_eq!(ticks("12 (a) S 1"), None);
    }

    #[test]
    fn this_thread_has_used_time_and_a_dead_one_none() {
        let own = nix::unistd::gettid().as_raw();
        let before = thread_use(std::process::id() as i32, own).unwrap();
        let mut sum = 0_u64;
        while thread_use(std::process::id() as i32, own).unwrap().user_ns <= before.user_ns {
            (0..100_000_u64).for_each(|n| sum = std::hint::black_box(sum.wrapping_add(n)));
        }
        assert!(thread_use(i32::MAX, i32::MAX).is_none());
    }

    #[test]
    fn a_stopped_process_is_seen_as_such() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = child.id() as i32;
        let signal = |signal| kill(Pid::from_raw(pid), signal).unwrap();
        let wait_for = |stopped| while is_stopped(Task::read(pid, pid).unwrap().state) != stopped {};
        signal(Signal::SIGSTOP);
        wait_for(true);
        signal(Signal::SIGCONT);
        wait_for(false);
        signal(Signal::SIGKILL);
        child.wait().unwrap();
        assert_eq!(Task::read(pid, pid), None);
        let own = Task::read(std::process::id() as i32, nix::unistd::gettid().as_raw()).unwrap();
        assert_eq!((own.state, own.parent), ('R', nix::unistd::getppid().as_raw()));
    }

    #[test]
    fn a_process_belongs_to_the_folder_that_its_environment_names() {
        let folder = tempfile::tempdir().unwrap();
        let start = |marked: &Path| {
            std::process::Command::new("sleep").arg("60").env("LISTENBENCH_TEST_FOLDER", marked).spawn().unwrap()
        };
        let mut children = [folder.path(), Path::new("/")].map(start);
        let found = belonging("LISTENBENCH_TEST_FOLDER", folder.path());
        assert_eq!(found, [("sleep".to_owned(), children[0].id() as i32)]);
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(belonging("LISTENBENCH_TEST_FOLDER", folder.path()), []);
    }

    #[test]
    fn a_child_descends_from_its_parent() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (own, pid) = (std::process::id() as i32, child.id() as i32);
        assert!(descendants(own).contains(&pid));
        assert_eq!((descendants(pid), Task::read(pid, pid).unwrap().parent), (vec![], own));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Task::read(pid, pid), None);
    }
}
