//! Forked children that report to their parent: forking them, noticing when one dies, collecting what they send, and ending
//! them.
//!
//! A child runs a body, sends what the body returns, and exits. Whatever a child sent before it died is kept, and dropping a family
//! kills its children.

use std::{
    collections::BTreeMap,
    fs::File,
    marker::PhantomData,
    ops::Range,
    os::fd::AsFd,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::signal::Signal,
    unistd::getpid,
};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

pub use super::message::Sender;
use super::message::{Inbox, Message};
use crate::{
    record::{Counts, Exit},
    sys::{
        clock::CpuUse,
        process::{self, Child, End},
    },
};

/// How often a waiting parent reports progress, and checks for a signal that arrived just before it began to wait.
const TICK: Duration = Duration::from_millis(100);
/// How often a parent polls for what does not wake it. Only outside the measured window.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How long a child may take to exit once it has nothing more to say, and its descendants to end once it is gone. Then they are killed.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for children, and the flag that cuts the wait short.
#[derive(Debug, Clone, Copy)]
pub struct Patience<'a> {
    at_most: Duration,
    interrupted: Option<&'a AtomicBool>,
}

/// Why a wait ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Cut {
    /// The user interrupted it.
    #[error("interrupted")]
    Interrupted,
    /// It took too long.
    #[error(
        "gave up after {0:?}: the process was stopped, or the machine is too busy for it; try again when it is not"
    )]
    TooLong(Duration),
}

/// A wait in progress.
#[derive(Debug)]
pub struct Wait<'a> {
    patience: Patience<'a>,
    since: Instant,
}

impl<'a> Patience<'a> {
    /// Patience for this long.
    pub fn of(at_most: Duration) -> Self {
        Self { at_most, interrupted: None }
    }

    /// The same, but only until `interrupted` is set.
    pub fn unless(self, interrupted: &'a AtomicBool) -> Self {
        Self { interrupted: Some(interrupted), ..self }
    }

    /// Begins a wait that may last this long.
    pub fn begin(self) -> Wait<'a> {
        Wait { patience: self, since: Instant::now() }
    }
}

impl Wait<'_> {
    /// Fails once the wait is to end.
    pub fn check(&self) -> Result<(), Cut> {
        if self.patience.interrupted.is_some_and(|interrupted| interrupted.load(Relaxed)) {
            return Err(Cut::Interrupted);
        }
        if self.left().is_zero() { Err(Cut::TooLong(self.patience.at_most)) } else { Ok(()) }
    }

    /// How much of it is left.
    pub fn left(&self) -> Duration {
        self.patience.at_most.saturating_sub(self.since.elapsed())
    }

    /// Until when to sleep at most before the next [`Self::check`].
    pub fn nap(&self) -> Duration {
        self.left().min(TICK)
    }
}

/// Waits until `done` returns true. Fails if `check` fails, or with a [`Cut`].
pub fn wait_until(patience: Patience<'_>, done: impl FnMut() -> bool, check: impl FnMut() -> Result<()>) -> Result<()> {
    wait_by(sleep, patience, done, check)
}

/// The same, with a `nap` that takes no longer than it is told, and ends once `done` may return true.
pub fn wait_by(
    nap: impl Fn(Duration),
    patience: Patience<'_>,
    mut done: impl FnMut() -> bool,
    mut check: impl FnMut() -> Result<()>,
) -> Result<()> {
    let wait = patience.begin();
    while !done() {
        check()?;
        wait.check()?;
        nap(LOOK_AGAIN);
    }
    Ok(())
}

/// Runs `body` in a forked child and returns its result: for work that would change the calling process, such as entering a
/// namespace. The child leads a process group. By the time this returns it is gone, and so are its descendants of that group if the
/// caller adopts them ([`process::adopt_orphans`]).
pub fn ask<R: Serialize + DeserializeOwned>(
    name: &'static str,
    patience: Patience<'_>,
    body: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let mut family = Family::default();
    family.fork_leader(name, name, |_| body())?;
    family.wait(patience, || ()).with_context(|| name)?;
    family.finish_one().into_report()
}

/// Children of one kind, whose bodies return an `R`.
#[derive(Debug)]
pub struct Family<R> {
    members: Vec<Member>,
    report: PhantomData<R>,
}

impl<R> Default for Family<R> {
    fn default() -> Self {
        Self { members: Vec::new(), report: PhantomData }
    }
}

#[derive(Debug)]
struct Member {
    /// Name in messages, such as `worker 0`.
    name: String,
    child: Child,
    leads_group: bool,
    inbox: Inbox,
    /// Whether it has closed its pipe, which a process does last.
    closed: bool,
    /// Whether it was killed because it did not exit in time.
    hung: bool,
    end: Option<End>,
}

/// The account of a child that has ended.
#[derive(Debug)]
pub struct Account<R> {
    /// Name in messages.
    pub name: String,
    pub pid: i32,
    /// How it ended, or the error its body returned.
    pub exit: Exit,
    /// The CPU time it used.
    pub cpu: CpuUse,
    /// What its body returned; `None` if it died first.
    pub report: Option<R>,
    /// Histograms it sent, by name.
    pub histograms: BTreeMap<String, Counts>,
}

impl<R> Account<R> {
    /// Its report. If there is none, fails with its body's error or with how it ended.
    pub fn into_report(self) -> Result<R> {
        let failure = self.failure();
        self.report.context(failure)
    }

    fn failure(&self) -> String {
        match &self.exit {
            Exit::Other(error) => error.clone(),
            exit => format!("{} (pid {}) ended early: {exit}", self.name, self.pid),
        }
    }
}

impl<R: Serialize + DeserializeOwned> Family<R> {
    /// Forks a child that runs `body`. Process lists show it as `process` (at most 15 bytes), messages as `name`.
    pub fn fork(
        &mut self,
        process: &str,
        name: impl Into<String>,
        body: impl FnOnce(&mut Sender<File>) -> Result<R>,
    ) -> Result<()> {
        self.fork_member(process, name.into(), false, body)
    }

    /// Like [`Self::fork`], but the child leads a process group: its descendants in that group are ended too, if this process adopts
    /// them ([`process::adopt_orphans`]).
    pub fn fork_leader(
        &mut self,
        process: &str,
        name: impl Into<String>,
        body: impl FnOnce(&mut Sender<File>) -> Result<R>,
    ) -> Result<()> {
        self.fork_member(process, name.into(), true, body)
    }

    fn fork_member(
        &mut self,
        process: &str,
        name: String,
        leads_group: bool,
        body: impl FnOnce(&mut Sender<File>) -> Result<R>,
    ) -> Result<()> {
        let child = process::spawn(process, |pipe| {
            if leads_group {
                // Done here and in the parent, so that neither goes on before it is.
                process::lead_group(getpid());
            }
            let mut sender = Sender::new(pipe);
            let sent = body(&mut sender).and_then(|report| sender.json(&report)).or_else(|error| sender.error(&error));
            i32::from(sent.is_err())
        })
        .with_context(|| format!("forking {name}"))?;
        if leads_group {
            process::lead_group(child.pid);
        }
        let inbox = Inbox::default();
        self.members.push(Member { name, child, leads_group, inbox, closed: false, hung: false, end: None });
        Ok(())
    }

    /// Fails if a child has ended: with its own error, or with how it ended.
    pub fn check_running(&mut self) -> Result<()> {
        self.notice_ends();
        let Some(member) = self.members.iter_mut().find(|member| member.end.is_some()) else { return Ok(()) };
        let account: Account<R> = member.account();
        let failure = anyhow!(account.failure());
        // How it ended names it already.
        Err(if matches!(account.exit, Exit::Other(_)) { failure.context(account.name) } else { failure })
    }

    /// Waits for all children, kills those that do not end in time, and returns the accounts of all.
    pub fn finish(mut self, patience: Patience<'_>) -> Vec<Account<R>> {
        if self.wait(patience, || ()).is_err() {
            self.kill_hung();
        }
        self.members.iter_mut().map(Member::account).collect()
    }

    /// Returns the account of an only child, which has nothing more to say or was killed.
    pub fn finish_one(mut self) -> Account<R> {
        self.members[0].account()
    }
}

impl<R> Family<R> {
    /// Number of children, running or not.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn pids(&self) -> impl Iterator<Item = i32> {
        self.members.iter().map(|member| member.child.pid.as_raw())
    }

    /// Sends a signal to a child, unless it has ended.
    pub fn signal(&self, number: usize, signal: Signal) {
        self.members[number].signal(signal);
    }

    /// How many of these children are still running.
    pub fn running(&mut self, numbers: Range<usize>) -> usize {
        self.notice_ends();
        self.members[numbers].iter().filter(|member| member.end.is_none()).count()
    }

    /// The numbers of those that have ended.
    pub fn ended(&mut self) -> impl Iterator<Item = usize> {
        self.notice_ends();
        self.members.iter().enumerate().filter(|(_, member)| member.end.is_some()).map(|(number, _)| number)
    }

    fn notice_ends(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.end.is_none()) {
            member.end = process::ended(member.child.pid);
        }
    }

    /// Reads what children send, for no longer than `at_most`. Returns true once all have ended. A signal ends the wait early.
    pub fn drain(&mut self, at_most: Duration) -> bool {
        let mut open: Vec<&mut Member> = self.members.iter_mut().filter(|member| !member.closed).collect();
        if open.is_empty() {
            return true;
        }
        let mut ready: Vec<PollFd<'_>> =
            open.iter().map(|member| PollFd::new(member.child.pipe.as_fd(), PollFlags::POLLIN)).collect();
        if poll(&mut ready, process::poll_timeout(at_most)).unwrap_or(0) == 0 {
            return false;
        }
        let readable: Vec<bool> = ready.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        for (member, _) in open.iter_mut().zip(readable).filter(|(_, readable)| *readable) {
            member.read();
        }
        self.members.iter().all(|member| member.closed)
    }

    /// Waits until all have ended, calling `tick` up to ten times a second.
    pub fn wait(&mut self, patience: Patience<'_>, mut tick: impl FnMut()) -> Result<(), Cut> {
        let wait = patience.begin();
        let mut next_tick = Instant::now() + TICK;
        while !self.drain(next_tick.saturating_duration_since(Instant::now()).min(wait.left())) {
            wait.check()?;
            if Instant::now() >= next_tick {
                self.close_ended();
                tick();
                // Do not make up for missed ticks.
                next_tick = Instant::now() + TICK;
            }
        }
        Ok(())
    }

    /// Reads the rest of what children sent that have ended. A descendant may keep a pipe open beyond that.
    fn close_ended(&mut self) {
        self.notice_ends();
        self.members.iter_mut().filter(|member| member.end.is_some()).for_each(Member::read_rest);
    }

    /// Kills the children that have not ended when told to, and notes that.
    pub fn kill_hung(&mut self) {
        for member in self.members.iter_mut().filter(|member| !member.closed) {
            member.hung = true;
            member.signal(Signal::SIGKILL);
        }
    }

    /// Kills all children still running.
    pub fn kill(&self) {
        self.members.iter().for_each(|member| member.signal(Signal::SIGKILL));
    }
}

impl<R> Drop for Family<R> {
    fn drop(&mut self) {
        self.kill();
        self.members.iter_mut().for_each(|member| {
            member.reap();
        });
    }
}

impl Member {
    /// Does nothing once the process has been reaped: its id may belong to another process by then.
    fn signal(&self, signal: Signal) {
        if self.end.is_none() {
            process::send_signal(self.child.pid, signal);
        }
    }

    /// Reads a part of what the pipe holds, blocking if it is empty.
    fn read(&mut self) {
        // Nothing more will come from a pipe that cannot be read.
        self.closed = self.inbox.read_from(&mut self.child.pipe).unwrap_or(true);
    }

    /// Reads all that the child, which has ended, has written.
    fn read_rest(&mut self) {
        let is_readable = |member: &Self| {
            let mut fds = [PollFd::new(member.child.pipe.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, 0_u8).is_ok_and(|ready| ready > 0)
        };
        while !self.closed && is_readable(self) {
            self.read();
        }
        self.closed = true;
    }

    /// Waits for the child to end, and for its process group. Kills what takes too long, which a stopped process would do for good.
    fn reap(&mut self) -> &End {
        let pid = self.child.pid;
        if self.end.is_none() {
            self.end = within(EXIT_PATIENCE, |left| process::nap_until_ended(pid, left), || process::ended(pid));
        }
        self.hung |= self.end.is_none();
        self.signal(Signal::SIGKILL);
        let reap_group = || within(EXIT_PATIENCE, |_| sleep(LOOK_AGAIN), || process::reap_group(pid).then_some(()));
        if self.leads_group && reap_group().is_none() {
            process::kill_group(pid);
            reap_group();
        }
        self.end.get_or_insert_with(|| process::wait(pid))
    }

    /// Waits for the child to end, and returns its account.
    fn account<R: DeserializeOwned>(&mut self) -> Account<R> {
        let End { status, cpu } = self.reap().clone();
        self.read_rest();
        let Message { report, histograms, error } = self.inbox.open();
        let exit = match (Exit::from(status), error) {
            (Exit::Ok, Some(error)) => Exit::Other(error),
            (exit, _) if self.hung => Exit::Other(format!("did not end when told to: {exit}")),
            (exit, _) => exit,
        };
        Account { name: self.name.clone(), pid: self.child.pid.as_raw(), exit, cpu, report, histograms }
    }
}

/// Polls until there is a result, but no longer than this. `nap` is told how much of it is left.
fn within<T>(at_most: Duration, nap: impl Fn(Duration), mut poll: impl FnMut() -> Option<T>) -> Option<T> {
    let since = Instant::now();
    loop {
        let result = poll();
        let left = at_most.saturating_sub(since.elapsed());
        if result.is_some() || left.is_zero() {
            return result;
        }
        nap(left);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const LONG: Patience<'_> = Patience { at_most: Duration::MAX, interrupted: None };

    #[test]
    fn a_wait_ends_once_its_condition_holds() {
        let looks = Cell::new(0);
        let done = || looks.replace(looks.get() + 1) == 3;
        wait_until(LONG, done, || Ok(())).unwrap();
        assert_eq!(looks.get(), 4);
    }

    #[test]
    fn a_wait_ends_when_a_child_has_died() {
        let error = wait_until(LONG, || false, || Err(anyhow!("worker 0 ended early"))).unwrap_err();
        assert_eq!(error.to_string(), "worker 0 ended early");
    }

    #[test]
    fn a_wait_ends_on_timeout_or_interrupt() {
        let patience = Patience::of(Duration::from_millis(2));
        let error = wait_until(patience, || false, || Ok(())).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Cut::TooLong(Duration::from_millis(2))));
        let interrupted = AtomicBool::new(true);
        let error = wait_until(LONG.unless(&interrupted), || false, || Ok(())).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Cut::Interrupted));
        let mut family: Family<()> = Family::default();
        assert_eq!(family.wait(LONG.unless(&interrupted), || ()), Ok(()), "no child is left to wait for");
    }
}
