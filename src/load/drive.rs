//! The loader's loop: start what is due, give up what has waited too long, let the engine handle events, until all is done.

use anyhow::Result;

use super::{
    connection::{Connection, Phase},
    engine::Engine,
    exchange::Progress,
    work::Work,
};
use crate::{
    ipc::{control::Phase as ControlPhase, tally::Cause},
    scenario::{Mode, Pacer as Pacing},
    sys::clock,
};

/// Starts in one go, before events are looked at again.
const STARTS_AT_ONCE: usize = 64;
/// The last stretch before a start, which a pacer that spins does not sleep through: a timer may be as late.
const SPIN_NS: u64 = 1_000_000;
/// How often time-outs are looked for.
const SWEEP_NS: u64 = 100_000_000;

/// A loader's work in the hands of its engine.
pub(super) struct Drive<'a> {
    work: &'a mut Work,
    engine: &'a mut dyn Engine,
    next_sweep_ns: u64,
    /// When the follow-up is due, until it is done.
    follow_up_ns: Option<u64>,
    /// How long before a start it stays awake.
    awake_ns: u64,
}

impl<'a> Drive<'a> {
    pub fn new(work: &'a mut Work, engine: &'a mut dyn Engine) -> Self {
        let load = &work.loader.scenario.load;
        let spins = matches!(load.mode, Mode::Open { pacer: Pacing::Spin, .. });
        let start_ns = work.window.start_ns;
        Self {
            next_sweep_ns: start_ns + SWEEP_NS,
            follow_up_ns: load.follow_up.map(|after| start_ns + clock::nanoseconds(after)),
            awake_ns: if spins { SPIN_NS } else { 0 },
            work,
            engine,
        }
    }

    /// Until the load is done, its deadline has come, or somebody has ended it.
    pub fn run(&mut self) -> Result<()> {
        loop {
            let now_ns = clock::monotonic_ns();
            if now_ns >= self.work.window.deadline_ns {
                self.work.report.gave_up = true;
                self.give_up(Cause::Deadline, now_ns);
                return Ok(());
            }
            if self.work.loader.control.phase() != ControlPhase::Running {
                self.give_up(Cause::Interrupted, now_ns);
                return Ok(());
            }
            if self.follow_up_ns.is_some_and(|due_ns| due_ns <= now_ns) {
                self.follow_up(now_ns)?;
            }
            self.release_held(now_ns);
            if now_ns >= self.next_sweep_ns {
                self.sweep(now_ns);
            }
            self.start_due(now_ns)?;
            if self.work.connections.is_empty() && self.work.pacer.next().is_none() {
                return Ok(());
            }
            let next_ns = self.next_ns();
            self.engine.turn(self.work, (next_ns > now_ns).then_some(next_ns))?;
        }
    }

    /// When there is something to do again besides events.
    fn next_ns(&self) -> u64 {
        let start_ns = self.work.pacer.next().map(|next_ns| next_ns.saturating_sub(self.awake_ns));
        [start_ns, self.work.held.front().map(|held| held.0), self.follow_up_ns]
            .into_iter()
            .flatten()
            .fold(self.next_sweep_ns.min(self.work.window.deadline_ns), u64::min)
    }

    fn start_due(&mut self, now_ns: u64) -> Result<()> {
        for _ in 0..STARTS_AT_ONCE {
            if self.work.pacer.next().is_none_or(|next| next > now_ns) {
                break;
            }
            if let Some(intended_ns) = self.work.pacer.take() {
                self.engine.start(self.work, intended_ns)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, key: usize, progress: Progress, now_ns: u64) {
        end(self.work, self.engine, key, progress, now_ns);
    }

    fn release_held(&mut self, now_ns: u64) {
        while let Some(&(until_ns, key, id)) = self.work.held.front() {
            if until_ns > now_ns {
                return;
            }
            self.work.held.pop_front();
            // The slot may hold a later connection, if the server closed the held one early; and one whose follow-up is
            // under way ends with that.
            let held = |connection: &Connection| connection.id == id && connection.phase == Phase::Holding;
            if self.work.connections.get(key).is_some_and(held) {
                self.end(key, Progress::Completed, now_ns);
            }
        }
    }

    /// One request more on every connection that is held.
    fn follow_up(&mut self, now_ns: u64) -> Result<()> {
        let Some(due_ns) = self.follow_up_ns.take() else { return Ok(()) };
        for key in self.keys(|connection| connection.phase == Phase::Holding) {
            let connection = &mut self.work.connections[key];
            connection.phase = Phase::Exchanging;
            connection.following_up = true;
            connection.waiting_since_ns = now_ns;
            connection.response_from_ns = due_ns;
            connection.service_from_ns = clock::monotonic_ns();
            let progress = self.work.ask(key);
            if progress == Progress::Goes {
                self.engine.asked(self.work, key)?;
            } else {
                self.end(key, progress, now_ns);
            }
        }
        Ok(())
    }

    /// Ends what has waited longer than the scenario allows.
    fn sweep(&mut self, now_ns: u64) {
        self.next_sweep_ns = now_ns + SWEEP_NS;
        let load = &self.work.loader.scenario.load;
        let connect_ns = clock::nanoseconds(load.connect_timeout);
        let reply_ns = clock::nanoseconds(load.reply_timeout);
        let late = self.keys(|connection| {
            let limit_ns = match connection.phase {
                Phase::Connecting => connect_ns,
                Phase::Exchanging | Phase::AwaitingClose => reply_ns,
                Phase::Holding => u64::MAX,
            };
            now_ns.saturating_sub(connection.waiting_since_ns) >= limit_ns
        });
        for key in late {
            self.abandon(key, Cause::TIMED_OUT, now_ns);
        }
    }

    fn give_up(&mut self, cause: Cause, now_ns: u64) {
        for key in self.keys(|_| true) {
            self.abandon(key, cause, now_ns);
        }
    }

    fn abandon(&mut self, key: usize, cause: Cause, now_ns: u64) {
        let progress = self.work.abandon(key, cause, now_ns);
        self.end(key, progress, now_ns);
    }

    fn keys(&self, which: impl Fn(&Connection) -> bool) -> Vec<usize> {
        self.work.connections.iter().filter(|(_, connection)| which(connection)).map(|(key, _)| key).collect()
    }
}

/// Ends a connection: counts it, and has it closed.
pub(super) fn end(work: &mut Work, engine: &mut (impl Engine + ?Sized), key: usize, progress: Progress, now_ns: u64) {
    let connection = work.end(key, progress, now_ns);
    engine.close(work, key, connection, progress == Progress::Completed);
}
