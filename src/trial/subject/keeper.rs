//! Keeps a command and everything that it forks: a process of its own, which outlives the trial's process by as long as it takes to end
//! all of them and to remove their folder.

use std::{
    fs::File,
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::signal::Signal,
    unistd::{Pid, pipe2},
};
use serde::{Deserialize, Serialize};

use super::{folder::Folder, keeping::keep};
use crate::{
    ipc::{
        board::{Board, Phases, Words},
        family::{Account, Family, Patience},
    },
    observe::processes,
    record::{Done, Exit},
    sys::process,
};

/// How long a server may take to end after the signal that asks it to. Then it is killed.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long the keeper may take beyond that.
const END_PATIENCE: Duration = Duration::from_secs(10);
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// What the trial's process writes to the lifeline to have the server stopped, and to have done what has the number that follows.
pub(super) const STOP: u8 = b's';
pub(super) const DEMAND: u8 = b'a';

/// A command to start.
pub(super) struct Order {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Files of its folder: relative name and contents.
    pub files: Vec<(String, String)>,
    /// What stands for each name in braces, in words and files alike. The keeper adds `dir`, the folder.
    pub values: Vec<(&'static str, String)>,
    pub stop_signal: Signal,
    /// The limit of open files of each of its processes; `None` for the keeper's own.
    pub open_files: Option<u64>,
    /// What may be asked of it while it runs, by number.
    pub demands: Vec<Demand>,
}

/// What a keeper can do to its server: to the youngest process that is not the child of another one of the server's.
pub(super) enum Demand {
    /// Send it a signal.
    Signal(Signal),
    /// Run a command in the server's folder, where it is `{pid}`.
    Run(Vec<String>),
}

/// How the command stands, as the keeper sees it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Word {
    /// Its process id; 0 until it is started.
    Pid,
    /// Whether it has failed, or been killed: 0 or 1. Programs that daemonise end well.
    Failed,
}

impl Words for Word {
    const COUNT: usize = Self::Failed as usize + 1;

    fn place(self) -> usize {
        self as usize
    }
}

/// The keeper goes through no phases: its lifeline tells it what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Always {
    Keeping,
}

impl Phases for Always {
    const ALL: &'static [Self] = &[Self::Keeping];
}

/// The keeper's account of a command that has ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    /// How the process that was started ended by itself; `None` if it ran until it was stopped.
    pub exit: Option<Exit>,
    /// What the command wrote to its standard outputs.
    pub output: String,
    /// The ends of the log files in its folder.
    pub logs: String,
    /// Whether any of it had to be killed.
    pub killed: bool,
    /// What became of each demand, in order.
    pub done: Vec<Done>,
}

/// A command that was started, and its keeper.
pub(super) struct Keeper {
    family: Family<Kept>,
    board: Arc<Board<Always, Word>>,
    /// The keeper ends everything once this is closed, as it is when this process dies.
    lifeline: Option<File>,
    /// Keeps others from removing what is the keeper's, even if that is killed.
    _folder: Folder,
}

impl Keeper {
    /// Forks a keeper, which starts the command, in this folder if it already has one.
    pub fn start(order: Order, folder: Option<Folder>) -> Result<Self> {
        // If the keeper is killed, its orphans come to this process.
        process::adopt_orphans().context("prctl(PR_SET_CHILD_SUBREAPER)")?;
        let board = Arc::new(Board::new().context("mapping shared memory")?);
        let folder = folder.map_or_else(Folder::make, Ok)?;
        let (read, write) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
        let (mut ours, theirs) = (Some(File::from(write)), File::from(read));
        let mut family = Family::default();
        let shared = Arc::clone(&board);
        family.fork("lb:keeper", "the server's command", |_| {
            // A copy of it would keep the pipe open.
            ours.take();
            process::outlive_parent().context("prctl(PR_SET_PDEATHSIG)")?;
            process::adopt_orphans().context("prctl(PR_SET_CHILD_SUBREAPER)")?;
            keep(&folder, order, theirs, &shared)
        })?;
        Ok(Self { family, board, lifeline: ours, _folder: folder })
    }

    /// The process id of the keeper, from which everything that the command forks descends.
    pub fn pid(&self) -> i32 {
        self.family.pids().next().expect("a keeper is forked with its family")
    }

    /// The process id of the process that was started; `None` until it is.
    pub fn command_pid(&self) -> Option<i32> {
        i32::try_from(self.board.get(Word::Pid)).ok().filter(|pid| *pid > 0)
    }

    /// Whether the process that was started has failed, or been killed.
    pub fn has_failed(&self) -> bool {
        self.board.get(Word::Failed) > 0
    }

    /// Fails if the command could not be started, or nothing of it is left.
    pub fn check_running(&mut self) -> Result<()> {
        self.family.check_running()
    }

    /// Has one of the order's demands met, unless the server has ended, and the keeper with it.
    pub fn demand(&mut self, number: u32) -> Result<()> {
        let lifeline = self.lifeline.as_mut().context("the server's keeper is being ended")?;
        let [a, b, c, d] = number.to_le_bytes();
        match lifeline.write_all(&[DEMAND, a, b, c, d]) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.context("asking the server's keeper"),
        }
    }

    /// Stops the server, kills what does not end, and returns the keeper's account.
    pub fn stop(mut self) -> Account<Kept> {
        if let Some(lifeline) = &mut self.lifeline {
            // Fails only if the keeper has ended.
            let _ = lifeline.write_all(&[STOP]);
        }
        self.end(STOP_GRACE + END_PATIENCE)
    }

    /// Kills the server, and returns the keeper's account.
    pub fn kill(mut self) -> Result<Kept> {
        self.lifeline = None;
        self.end(END_PATIENCE).into_report()
    }

    fn end(&mut self, at_most: Duration) -> Account<Kept> {
        let waited = self.family.wait(Patience::of(at_most), || ());
        // If it is late, closing the lifeline is the last that can be done.
        self.lifeline = None;
        if waited.is_err() {
            let _ = self.family.wait(Patience::of(END_PATIENCE), || ());
        }
        std::mem::take(&mut self.family).finish_one()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.lifeline = None;
        // Dropping the family would kill a keeper that is still at work.
        let _ = self.family.wait(Patience::of(END_PATIENCE), || ());
    }
}

/// Kills what a keeper that was killed has left to this process, which has ended all of its own children.
pub fn end_orphans() {
    let own = std::process::id() as i32;
    let since = Instant::now();
    while !matches!(process::reap_any(), Err(Errno::ECHILD)) && since.elapsed() < END_PATIENCE {
        for pid in processes::descendants(own) {
            process::send_signal(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
