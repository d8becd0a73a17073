//! The loader's loop: starts what is due, abandons what has waited too long, and carries the engine's events to the sessions and the
//! sessions' actions to the engine until the load is done.

mod start;

use anyhow::Result;

use super::{
    clock::Clock,
    dialler::Dialler,
    engine::{Close, Engine},
    observer::Observer,
    pacer::Pacer,
    session::{Action, Ending, Shared, Wait},
    table::Table,
};
use crate::{
    ipc::control::Window,
    record::Cause,
    scenario::{CloseBy, CloseHow, Load, Mode, Pacer as Pacing, Sockets},
    sys::clock,
};

/// How many connections may start before the loop checks for events again.
const STARTS_AT_ONCE: usize = 64;
/// How long before a start a spinning pacer stops sleeping: a timer may be this late.
const SPIN_NS: u64 = 1_000_000;
/// How often the loop checks for time-outs.
const SWEEP_NS: u64 = 100_000_000;
/// A closed loop's pause after a failed connection: without it, refusals that cost nothing would make a busy loop.
const ERROR_PAUSE_NS: u64 = 10_000_000;

/// A loader at work.
pub(super) struct Driver<E, O, C> {
    engine: E,
    clock: C,
    table: Table,
    shared: Shared<O>,
    pacer: Pacer,
    dialler: Dialler,
    window: Window,
    settings: Settings,
    /// Fraction of a flow that is owed by the scenario's share: the next start is a flow once this reaches one.
    flows_owed: f64,
    next_sweep_ns: u64,
    /// When the follow-up is due; `None` once it is sent.
    follow_up_ns: Option<u64>,
    /// When follow-ups without a reply are abandoned.
    follow_up_ends_ns: Option<u64>,
}

/// The scenario's settings for the driver.
#[derive(Debug, Clone, Copy)]
struct Settings {
    requests: u32,
    udp_share: f64,
    connect_timeout_ns: u64,
    reply_timeout_ns: u64,
    /// How long before a start it stays awake.
    awake_ns: u64,
    /// How completed connections close, and how failed ones do.
    close_completed: Close,
    close_failed: Close,
}

impl Settings {
    fn of(load: &Load) -> Self {
        let spins = matches!(load.mode, Mode::Open { pacer: Pacing::Spin, .. });
        let resets = load.close_by == CloseBy::Client && load.close_how == CloseHow::Rst;
        let close_failed = if resets { Close::Rst } else { Close::Fin };
        Self {
            requests: load.requests,
            udp_share: load.udp_share,
            connect_timeout_ns: clock::nanoseconds(load.connect_timeout),
            reply_timeout_ns: clock::nanoseconds(load.reply_timeout),
            awake_ns: if spins { SPIN_NS } else { 0 },
            // A failed connection's socket may still receive data, so it is not recycled.
            close_completed: if load.sockets == Sockets::Recycled { Close::Recycle } else { close_failed },
            close_failed,
        }
    }
}

/// The parts that a driver is built from.
pub(super) struct Parts<E, O, C> {
    pub engine: E,
    pub clock: C,
    pub table: Table,
    pub shared: Shared<O>,
    pub pacer: Pacer,
    pub dialler: Dialler,
    pub window: Window,
}

impl<E: Engine, O: Observer, C: Clock> Driver<E, O, C> {
    pub fn new(parts: Parts<E, O, C>, load: &Load) -> Self {
        let Parts { engine, clock, table, shared, pacer, dialler, window } = parts;
        let start_ns = window.start_ns;
        Self {
            engine,
            clock,
            table,
            shared,
            pacer,
            dialler,
            window,
            settings: Settings::of(load),
            flows_owed: 0.0,
            next_sweep_ns: start_ns + SWEEP_NS,
            follow_up_ns: load.follow_up.map(|after| start_ns + clock::nanoseconds(after)),
            follow_up_ends_ns: None,
        }
    }

    /// Runs until the load is done, its deadline passes, or the user interrupts it.
    pub fn run(&mut self) -> Result<()> {
        while self.turn()? {}
        Ok(())
    }

    /// The results of the load.
    pub fn into_parts(self) -> (Shared<O>, Pacer) {
        (self.shared, self.pacer)
    }

    /// One round of the loop; false at the load's end.
    fn turn(&mut self) -> Result<bool> {
        let now_ns = self.clock.now_ns();
        if now_ns >= self.window.deadline_ns {
            self.shared.report.gave_up = true;
            self.give_up(Cause::Deadline, now_ns);
            return Ok(false);
        }
        if self.shared.observer.is_interrupted() {
            self.give_up(Cause::Interrupted, now_ns);
            return Ok(false);
        }
        if self.follow_up_ns.is_some_and(|due_ns| due_ns <= now_ns) {
            self.follow_up(now_ns)?;
        }
        self.release_held(now_ns);
        if now_ns >= self.next_sweep_ns {
            self.sweep(now_ns);
        }
        self.start_due(now_ns)?;
        if self.table.is_empty() && self.pacer.next().is_none() {
            return Ok(false);
        }
        let next_ns = self.next_ns();
        self.engine.wait((next_ns > now_ns).then_some(next_ns))?;
        self.handle_events()?;
        Ok(true)
    }

    /// When the loop next has something to do besides handling events.
    fn next_ns(&self) -> u64 {
        let start_ns = self.pacer.next().map(|next_ns| next_ns.saturating_sub(self.settings.awake_ns));
        let hold_ends_ns = self.table.longest(Wait::Hold).map(|key| self.table[key].hold_until_ns());
        [start_ns, hold_ends_ns, self.follow_up_ns]
            .into_iter()
            .flatten()
            .fold(self.next_sweep_ns.min(self.window.deadline_ns), u64::min)
    }

    fn start_due(&mut self, now_ns: u64) -> Result<()> {
        for _ in 0..STARTS_AT_ONCE {
            if self.pacer.next().is_none_or(|next| next > now_ns) {
                break;
            }
            if let Some(intended_ns) = self.pacer.take() {
                self.start(intended_ns)?;
            }
        }
        Ok(())
    }

    fn handle_events(&mut self) -> Result<()> {
        while let Some(event) = self.engine.next()? {
            let (key, now_ns) = (event.key, event.now_ns);
            let action = self.table[key].on_event(&mut self.shared, event.kind, now_ns);
            if std::mem::take(&mut self.shared.stamp_in_doubt) && self.engine.has_connection(key) {
                self.shared.report.stamps_impossible += 1;
            }
            self.carry_out(key, action, now_ns);
        }
        Ok(())
    }

    /// Carries out a session's decision. Returns whether its connection goes on.
    fn carry_out(&mut self, key: usize, action: Action, now_ns: u64) -> bool {
        let action = if let Action::Send(wait) = action { self.send(key, wait, now_ns) } else { action };
        match action {
            Action::Wait(wait) => self.table.wait(key, wait),
            Action::Continue | Action::Send(_) => {}
            Action::Complete => self.end(key, Ok(()), now_ns),
            Action::Fail(step, cause) => self.end(key, Err((step, cause)), now_ns),
        }
        !matches!(action, Action::Complete | Action::Fail(..))
    }

    /// Sends what a session has written, and returns the next action.
    fn send(&mut self, key: usize, wait: Option<Wait>, now_ns: u64) -> Action {
        if let Some(wait) = wait {
            self.table.wait(key, wait);
        }
        let session = &mut self.table[key];
        match self.engine.send(key, &self.shared.out) {
            Ok(taken) => {
                session.on_taken(&mut self.shared, taken);
                Action::Continue
            }
            Err(error) => session.on_send_failed(&mut self.shared, Cause::from(&error), now_ns),
        }
    }

    /// Counts a connection's end and closes it.
    fn end(&mut self, key: usize, ending: Ending, now_ns: u64) {
        let mut session = self.table.take(key);
        self.shared.ended(&mut session, ending, now_ns);
        self.dialler.freed(self.shared.ends.group(&session), session.port());
        self.pacer.freed(if ending.is_ok() { now_ns } else { now_ns + ERROR_PAUSE_NS });
        let how = match ending {
            _ if session.is_flow() => Close::Fin,
            Ok(()) => self.settings.close_completed,
            Err(_) => self.settings.close_failed,
        };
        self.engine.close(key, how);
    }

    fn release_held(&mut self, now_ns: u64) {
        // All holds are equally long, so they end in the order in which they began.
        while let Some(key) = self.table.longest(Wait::Hold) {
            let session = &self.table[key];
            if session.hold_until_ns() > now_ns {
                return;
            }
            let action = session.on_hold_over();
            if self.carry_out(key, action, now_ns) {
                self.table.leave(key);
            }
        }
    }

    /// Sends one more request on every connection that is held.
    fn follow_up(&mut self, now_ns: u64) -> Result<()> {
        let Some(due_ns) = self.follow_up_ns.take() else { return Ok(()) };
        self.shared.follow_up_ns = due_ns;
        for key in self.table.keys(|session| session.is_holding()) {
            let asked_ns = self.clock.now_ns();
            let action = self.table[key].on_follow_up(&mut self.shared, asked_ns);
            if self.carry_out(key, action, now_ns) {
                self.engine.watch(key)?;
            }
        }
        self.follow_up_ends_ns = Some(self.clock.now_ns() + self.settings.reply_timeout_ns);
        Ok(())
    }

    /// Ends connections that have waited longer than the scenario allows.
    fn sweep(&mut self, now_ns: u64) {
        self.next_sweep_ns = now_ns + SWEEP_NS;
        let limits = [(Wait::Connect, self.settings.connect_timeout_ns), (Wait::Reply, self.settings.reply_timeout_ns)];
        for (wait, limit_ns) in limits {
            while let Some(key) = self.table.longest(wait)
                && now_ns.saturating_sub(self.table[key].waiting_since_ns()) >= limit_ns
            {
                self.abandon(key, Cause::TIMED_OUT, now_ns);
            }
        }
        if self.follow_up_ends_ns.is_some_and(|ends_ns| ends_ns <= now_ns) {
            self.follow_up_ends_ns = None;
            for key in self.table.keys(|session| session.awaits_follow_up()) {
                self.abandon(key, Cause::TIMED_OUT, now_ns);
            }
        }
    }

    fn give_up(&mut self, cause: Cause, now_ns: u64) {
        for key in self.table.keys(|_| true) {
            self.abandon(key, cause, now_ns);
        }
    }

    /// Abandons a connection, and counts it by the state it has reached.
    fn abandon(&mut self, key: usize, cause: Cause, now_ns: u64) {
        let session = &mut self.table[key];
        if session.is_connecting() && self.engine.settle(key) {
            session.on_settled(&mut self.shared, now_ns);
        }
        let step = session.step();
        self.end(key, Err((step, cause)), now_ns);
    }
}

#[cfg(test)]
mod tests;
