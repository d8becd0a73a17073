//! The loader's loop: start what is due, give up what has waited too long, let the engine handle events, until all is done.

use anyhow::Result;

use super::{
    connection::{Connection, Exchange, Phase, Wait},
    engine::Engine,
    exchange::Progress,
    work::Work,
};
use crate::{
    ipc::control::Phase as ControlPhase,
    record::Cause,
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
    /// When what is not back of the follow-up is given up.
    follow_up_ends_ns: Option<u64>,
    /// How long before a start it stays awake.
    awake_ns: u64,
}

impl<'a> Drive<'a> {
    pub fn new(work: &'a mut Work, engine: &'a mut dyn Engine) -> Self {
        let load = &work.loader.context.scenario.load;
        let spins = matches!(load.mode, Mode::Open { pacer: Pacing::Spin, .. });
        let start_ns = work.window.start_ns;
        Self {
            next_sweep_ns: start_ns + SWEEP_NS,
            follow_up_ns: load.follow_up.map(|after| start_ns + clock::nanoseconds(after)),
            follow_up_ends_ns: None,
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
            if self.work.loader.context.control.phase() != ControlPhase::Running {
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
        let held = self.work.connections.longest(Wait::Hold);
        let hold_ends_ns = held.map(|key| self.work.connections[key].hold_until_ns);
        [start_ns, hold_ends_ns, self.follow_up_ns]
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
        // Every hold is as long, so they end in the order in which they began.
        while let Some(key) = self.work.connections.longest(Wait::Hold) {
            let connection = &self.work.connections[key];
            if connection.hold_until_ns > now_ns {
                return;
            }
            if connection.phase == Phase::Holding {
                self.end(key, Progress::Completed, now_ns);
            } else {
                // Its follow-up is under way, and it ends with that.
                self.work.connections.leave(key);
            }
        }
    }

    /// One request more on every connection that is held.
    fn follow_up(&mut self, now_ns: u64) -> Result<()> {
        let Some(due_ns) = self.follow_up_ns.take() else { return Ok(()) };
        self.work.follow_up_ns = due_ns;
        for key in self.keys(|connection| connection.phase == Phase::Holding) {
            let connection = &mut self.work.connections[key];
            // It keeps its place among those that are held: its hold goes on.
            connection.phase = Phase::Exchanging;
            connection.exchange = Exchange::FollowUp;
            connection.waiting_since_ns = clock::monotonic_ns();
            let progress = self.work.ask(key);
            if progress == Progress::Goes {
                self.engine.asked(self.work, key)?;
            } else {
                self.end(key, progress, now_ns);
            }
        }
        let asked_ns = clock::monotonic_ns();
        self.follow_up_ends_ns =
            Some(asked_ns + clock::nanoseconds(self.work.loader.context.scenario.load.reply_timeout));
        Ok(())
    }

    /// Ends what has waited longer than the scenario allows.
    fn sweep(&mut self, now_ns: u64) {
        self.next_sweep_ns = now_ns + SWEEP_NS;
        let load = &self.work.loader.context.scenario.load;
        let limits = [(Wait::Connect, load.connect_timeout), (Wait::Reply, load.reply_timeout)];
        for (wait, limit) in limits {
            let limit_ns = clock::nanoseconds(limit);
            while let Some(key) = self.work.connections.longest(wait)
                && now_ns.saturating_sub(self.work.connections[key].waiting_since_ns) >= limit_ns
            {
                self.abandon(key, Cause::TIMED_OUT, now_ns);
            }
        }
        if self.follow_up_ends_ns.is_some_and(|ends_ns| ends_ns <= now_ns) {
            self.follow_up_ends_ns = None;
            let waits = |connection: &Connection| {
                connection.exchange == Exchange::FollowUp && connection.phase == Phase::Exchanging
            };
            for key in self.keys(waits) {
                self.abandon(key, Cause::TIMED_OUT, now_ns);
            }
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
