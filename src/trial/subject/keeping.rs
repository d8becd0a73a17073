//! The keeper's process: starts a command, does to it what the trial asks for, and ends it with everything that descends from it.

use std::{
    collections::HashSet,
    fs::{self, File, Permissions},
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, poll},
    sys::signal::Signal,
    unistd::{Pid, pipe2},
};

use super::{
    folder::{Folder, VARIABLE},
    keeper::{Always, DEMAND, Demand, Kept, LOOK_AGAIN, Order, STOP, STOP_GRACE, Word},
    output::{self, Output},
};
use crate::{
    ipc::board::Board,
    observe::processes::{self, Task},
    record::{Done, Exit},
    sys::process,
};

/// How often a server that is stopping is searched for processes that have not got the signal.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Starts the command, and ends with everything that descends from it.
pub(super) fn keep(folder: &Folder, order: Order, mut lifeline: File, board: &Board<Always, Word>) -> Result<Kept> {
    let kept = keep_in(folder.path(), order, &mut lifeline, board);
    // Nothing is left that could write there.
    let removed = folder.remove();
    let kept = kept?;
    removed.map(|()| kept)
}

fn keep_in(folder: &Path, order: Order, lifeline: &mut File, board: &Board<Always, Word>) -> Result<Kept> {
    let value = |name: &str| order.value(name, folder);
    populate(folder, order.files.iter().map(|(name, contents)| (&name[..], substitute(contents, value))))?;
    let words: Vec<String> = order.words.iter().map(|word| substitute(word, value)).collect();
    let [program, arguments @ ..] = &words[..] else { bail!("`server.command` is empty") };
    let (output, write) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("fcntl")?;
    let (mut ended, wakes) = UnixStream::pair().context("socketpair")?;
    ended.set_nonblocking(true).context("fcntl")?;
    signal_hook::low_level::pipe::register(libc::SIGCHLD, wakes).context("handling SIGCHLD")?;
    let outputs = write.try_clone().context("dup")?;
    let pid = process::start(program, arguments, (folder, VARIABLE), write, order.open_files)
        .map_err(|error| not_started("server.command", program, &error))?;
    board.set(Word::Pid, pid.as_raw() as u64);
    let mut keeping = Keeping {
        pid,
        folder,
        order: &order,
        board,
        outputs,
        output: Output::default(),
        kept: Kept::default(),
        running: Vec::new(),
        stopping: None,
        ending: false,
    };
    let mut output = File::from(output);
    while keeping.reap() {
        let mut fds = [lifeline.as_fd(), ended.as_fd(), output.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let at_most = keeping
            .stopping
            .as_ref()
            .map_or(Duration::MAX, |stopping| STOP_GRACE.saturating_sub(stopping.since.elapsed()).min(ASK_AGAIN));
        if at_most.is_zero() {
            break;
        }
        let ready: Vec<bool> = match poll(&mut fds, process::poll_timeout(at_most)) {
            Ok(_) => fds.iter().map(|fd| fd.any().unwrap_or(false)).collect(),
            Err(Errno::EINTR) => continue,
            Err(_) => break,
        };
        if ready[1] {
            while ended.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
        }
        if ready[2] && keeping.output.read_from(&mut output).is_err() {
            break;
        }
        if ready[0] {
            let (mut word, mut number) = ([0], [0; 4]);
            match lifeline.read(&mut word) {
                Ok(1) if word == [STOP] => keeping.stop(order.stop_signal),
                Ok(1) if word == [DEMAND] && lifeline.read_exact(&mut number).is_ok() => {
                    keeping.demand(u32::from_le_bytes(number) as usize);
                }
                _ => break,
            }
        }
    }
    keeping.kill_all();
    // This process can write there too, so that it has no end.
    while matches!(poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], 0_u8), Ok(1)) {
        if keeping.output.read_from(&mut output).is_err() {
            break;
        }
    }
    Ok(Kept { output: keeping.output.text(), logs: output::logs(folder), ..keeping.kept })
}

/// A command that is kept.
struct Keeping<'a> {
    pid: Pid,
    folder: &'a Path,
    order: &'a Order,
    board: &'a Board<Always, Word>,
    /// Where its processes write.
    outputs: OwnedFd,
    output: Output,
    kept: Kept,
    /// Commands of demands that have not ended: each with the number of its account, and when it began.
    running: Vec<(Pid, usize, Instant)>,
    stopping: Option<Stopping>,
    /// Whether it was asked to stop, or is being killed: how it ends then is this process's doing.
    ending: bool,
}

/// The server has been asked to stop.
struct Stopping {
    signal: Signal,
    since: Instant,
    /// Who has got the signal.
    asked: HashSet<i32>,
}

impl Keeping<'_> {
    /// Reaps what has ended. Returns false once nothing is left.
    fn reap(&mut self) -> bool {
        loop {
            match process::reap_any() {
                Ok(Some((pid, end))) => {
                    if pid == self.pid {
                        let exit = Exit::from(end.status);
                        self.board.set(Word::Failed, u64::from(!exit.is_ok()));
                        if !self.ending {
                            self.kept.exit = Some(exit);
                        }
                    } else if let Some(place) = self.running.iter().position(|(running, ..)| *running == pid) {
                        let (_, number, begun) = self.running.swap_remove(place);
                        if !self.ending {
                            let done = &mut self.kept.done[number];
                            done.exit = Some(Exit::from(end.status));
                            done.lasted_s = Some(begun.elapsed().as_secs_f64());
                        }
                    }
                }
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        self.ask_new_ones();
        true
    }

    /// Does what the trial asks for.
    fn demand(&mut self, number: usize) {
        let order = self.order;
        let done = match &order.demands[number] {
            Demand::Signal(signal) => match self.youngest() {
                Some(pid) => Done {
                    error: process::signal_any(pid, *signal)
                        .err()
                        .map(|error| format!("kill({pid}, {signal}): {error}")),
                    ..Done::default()
                },
                None => Done { error: Some("no process of the server was left".to_owned()), ..Done::default() },
            },
            Demand::Run(words) => self.run(words),
        };
        self.kept.done.push(done);
    }

    fn run(&mut self, words: &[String]) -> Done {
        let pid = self.youngest().map(|pid| pid.to_string()).unwrap_or_default();
        let value = |name: &str| if name == "pid" { Some(&pid[..]) } else { self.order.value(name, self.folder) };
        let words: Vec<String> = words.iter().map(|word| substitute(word, value)).collect();
        let begun = Instant::now();
        let started = self.outputs.try_clone().and_then(|outputs| {
            process::start(&words[0], &words[1..], (self.folder, VARIABLE), outputs, self.order.open_files)
        });
        match started {
            Ok(pid) => {
                self.running.push((pid, self.kept.done.len(), begun));
                Done::default()
            }
            Err(error) => Done {
                error: Some(format!("{:#}", not_started("event.command", &words[0], &error))),
                ..Done::default()
            },
        }
    }

    /// The youngest process at the top of the server's tree: the command itself, what it left to this process when it daemonised, or what
    /// a demand has started in its place.
    fn youngest(&self) -> Option<Pid> {
        self.on_top().max_by_key(|pid| (processes::started(*pid), *pid)).map(Pid::from_raw)
    }

    /// The processes at the top of the server's tree.
    fn on_top(&self) -> impl Iterator<Item = i32> + use<> {
        let own = std::process::id() as i32;
        let is_on_top = move |pid: &i32| Task::read(*pid, *pid).is_some_and(|task| task.parent == own);
        processes::descendants(own).into_iter().filter(is_on_top)
    }

    /// Asks the server to stop.
    fn stop(&mut self, signal: Signal) {
        self.ending = true;
        self.stopping = Some(Stopping { signal, since: Instant::now(), asked: HashSet::new() });
        self.ask_new_ones();
    }

    /// Sends the signal to the processes at the top of the tree, which end the others: the command itself, and what it left to this
    /// process when it daemonised, or when it ended just now.
    fn ask_new_ones(&mut self) {
        if self.stopping.is_none() {
            return;
        }
        let on_top: Vec<i32> = self.on_top().collect();
        let Some(stopping) = &mut self.stopping else { return };
        for pid in on_top {
            if stopping.asked.insert(pid) {
                process::send_signal(Pid::from_raw(pid), stopping.signal);
            }
        }
    }

    /// Kills every descendant, and reaps them all.
    fn kill_all(&mut self) {
        let own = std::process::id() as i32;
        if !self.reap() {
            return;
        }
        (self.ending, self.kept.killed) = (true, true);
        while self.reap() {
            for pid in processes::descendants(own) {
                process::send_signal(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Order {
    /// What stands for a name in braces.
    fn value<'a>(&'a self, name: &str, folder: &'a Path) -> Option<&'a str> {
        if name == "dir" {
            return Some(folder.to_str().expect("its name is made of text"));
        }
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| &value[..])
    }
}

fn not_started(key: &str, program: &str, error: &io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound if !program.contains('/') => ": install it, or name its path",
        io::ErrorKind::NotFound => ": name the path of a program, or of a file in `server.files`",
        io::ErrorKind::PermissionDenied => ": make it executable; a file of `server.files` is, if it begins with #!",
        _ => "",
    };
    anyhow::anyhow!("`{key}`: starting `{program}`: {error}{remedy}")
}

/// Replaces each name in braces that has a value. Other braces stay as they are.
fn substitute<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        done.push_str(before);
        let found = from[1..].split_once('}').and_then(|(name, after)| Some((value(name)?, after)));
        match found {
            Some((value, after)) => {
                done.push_str(value);
                rest = after;
            }
            None => {
                done.push('{');
                rest = &from[1..];
            }
        }
    }
    done + rest
}

/// Writes files into a folder. One that begins with `#!` becomes executable.
fn populate<'a>(folder: &Path, files: impl Iterator<Item = (&'a str, String)>) -> Result<()> {
    for (name, contents) in files {
        let path = folder.join(name);
        let mode = if contents.starts_with("#!") { 0o755 } else { 0o644 };
        let written = || -> io::Result<()> {
            let mut inside = folder.to_owned();
            for part in Path::new(name).parent().into_iter().flat_map(Path::components) {
                inside.push(part);
                if !inside.exists() {
                    fs::create_dir(&inside)?;
                    fs::set_permissions(&inside, Permissions::from_mode(0o755))?;
                }
            }
            fs::write(&path, contents)?;
            fs::set_permissions(&path, Permissions::from_mode(mode))
        };
        written().with_context(|| format!("`server.files`: writing {}", path.display()))?;
    }
    Ok(())
}
