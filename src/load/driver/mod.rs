//! The loader's loop: starts what is due, abandons what has waited too long, and carries the engine's events to the sessions and the
//! sessions' actions to the engine until the load is done.

mod kept;
mod start;

use anyhow::Result;

use self::start::is_itself;
use super::{
    busy::BusyWatch,
    clock::Clock,
    dialler::Dialler,
    engine::{Close, Engine, Kind},
    observer::Observer,
    pacer::{Pacer, Planned, Transports},
    session::{Action, Ending, Rest, Shared, Wait},
    table::Table,
};
use crate::{
    ipc::control::{LoaderCount, Window},
    record::{Cause, Step},
    scenario::{CloseBy, CloseHow, Load, Mode, Pacer as Pacing, Sockets, Transport},
    sys::clock,
};

/// How many connections may start before the loop checks for events again.
const STARTS_AT_ONCE: usize = 64;
/// How long the loop handles events before it looks at its clock again. There may be more at any time: peers may send without end.
const EVENTS_NS: u64 = 1_000_000;
/// The kernel sends a SYN again after a second (TCP_TIMEOUT_INIT), and nothing sooner than this (TCP_RTO_MIN), so handshakes that took
/// less needn't be asked about.
const FIRST_SYN_RETRY_NS: u64 = 200_000_000;
/// How long before a start a spinning pacer stops sleeping: a timer may be this late.
const SPIN_NS: u64 = 1_000_000;
/// How long a connection waits whether the server speaks first.
const UNASKED_NS: u64 = 50_000_000;
/// The loop looks around at least this often: whether it is to end early, for example.
const TICK_NS: u64 = 100_000_000;
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
    busy: BusyWatch,
    /// Starts due up to here were passed over, in favour of events, when they came due.
    passed_over_ns: u64,
    /// When the last start was due.
    last_due_ns: u64,
    /// When the last start had been made: what came due before had to wait for it.
    made_ns: u64,
    /// How long starts have taken since no event was left to handle.
    starts_ns: u64,
    settings: Settings,
    /// Requests whose connection the server has ended.
    rests: Vec<Rest>,
    transports: Transports,
    next_tick_ns: u64,
    /// When the follow-up is due; `None` once it is sent.
    follow_up_ns: Option<u64>,
    /// When follow-ups without a reply are abandoned.
    follow_up_ends_ns: Option<u64>,
}

/// The scenario's settings for the driver.
#[derive(Debug, Clone, Copy)]
struct Settings {
    connect_timeout_ns: u64,
    reply_timeout_ns: u64,
    /// Whether instants decide when starts are due, and not the ends of others.
    is_timed: bool,
    /// How long before a start it stays awake.
    awake_ns: u64,
    /// How completed connections close, and how others do.
    close_completed: Close,
    close_failed: Close,
}

impl Settings {
    fn of(load: &Load) -> Self {
        let spins = load.mode.pacer() == Some(Pacing::Spin);
        let resets = load.close_by == CloseBy::Client && load.close_how == CloseHow::Rst;
        let close_failed = if resets { Close::Rst } else { Close::Fin };
        Self {
            connect_timeout_ns: clock::nanoseconds(load.connect_timeout),
            reply_timeout_ns: clock::nanoseconds(load.reply_timeout),
            is_timed: !matches!(load.mode, Mode::Closed { .. }),
            awake_ns: if spins { SPIN_NS } else { 0 },
            // The socket of a connection that failed, or that the server ended, may still receive data, so it is not recycled.
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
        let Parts { engine, clock, table, mut shared, pacer, dialler, window } = parts;
        let start_ns = window.start_ns;
        let follow_up_ns = load.follow_up.map(|after| start_ns + clock::nanoseconds(after));
        shared.begin(window, follow_up_ns);
        Self {
            engine,
            clock,
            table,
            shared,
            pacer,
            dialler,
            window,
            busy: BusyWatch::new(window),
            passed_over_ns: 0,
            last_due_ns: 0,
            made_ns: 0,
            starts_ns: 0,
            settings: Settings::of(load),
            rests: Vec::new(),
            transports: Transports::of(load),
            next_tick_ns: start_ns + TICK_NS,
            follow_up_ns,
            follow_up_ends_ns: None,
        }
    }

    /// Runs until the load is done, its deadline passes, or it is to end early.
    pub fn run(&mut self) -> Result<()> {
        while self.turn()? {}
        Ok(())
    }

    /// The load has ended: completes its account.
    pub fn finish(self) -> Shared<O> {
        let Self { shared, pacer, .. } = self;
        self.busy.finish(self.clock.now_ns(), &shared.account);
        // Unless it was cut short, it has walked the whole schedule.
        if let (None, Some(digest)) = (pacer.next(), pacer.digest()) {
            shared.account.set(LoaderCount::Schedule, digest);
        }
        shared
    }

    /// One round of the loop; false at the load's end.
    fn turn(&mut self) -> Result<bool> {
        let now_ns = self.clock.now_ns();
        self.busy.pass(now_ns, self.has_no_start_left(), &self.shared.account);
        if now_ns >= self.window.deadline_ns {
            self.shared.account.set(LoaderCount::GaveUp, 1);
            self.give_up(Cause::Deadline, now_ns);
            self.lose_the_rest();
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
        self.end_listening(now_ns)?;
        self.end_waiting(now_ns);
        if now_ns >= self.next_tick_ns {
            self.next_tick_ns = now_ns + TICK_NS;
        }
        self.start_due(now_ns)?;
        if self.table.is_empty() && self.rests.is_empty() && self.pacer.next().is_none() {
            return Ok(false);
        }
        let next_ns = self.next_ns();
        // Starts take time.
        let now_ns = now_ns.max(self.made_ns);
        self.engine.wait((next_ns > now_ns).then_some(next_ns))?;
        self.handle_events()?;
        Ok(true)
    }

    /// Whether every start has been made. Where ends decide when the next is due, that is known only at the end.
    fn has_no_start_left(&self) -> bool {
        self.settings.is_timed && !self.pacer.is_kept() && self.pacer.next().is_none()
    }

    /// When the loop next has something to do besides handling events.
    fn next_ns(&self) -> u64 {
        let start_ns = self.pacer.next().map(|next_ns| next_ns.saturating_sub(self.settings.awake_ns));
        let rest_ns = self.rests.first().map(|rest| rest.since_ns);
        let hold_ends_ns = self.table.longest(Wait::Hold).map(|key| self.table[key].hold_until_ns());
        let silent_ns = self.table.longest(Wait::Unasked).map(|key| self.table[key].waiting_since_ns() + UNASKED_NS);
        // Until one is nearer than the tick, these change with every connection, and the timer does not.
        let [connect_ns, reply_ns] = self.limits().map(|(wait, limit_ns)| {
            Some(self.table[self.table.longest(wait)?].waiting_since_ns().saturating_add(limit_ns))
        });
        [start_ns, rest_ns, hold_ends_ns, silent_ns, connect_ns, reply_ns, self.follow_up_ns, self.follow_up_ends_ns]
            .into_iter()
            .flatten()
            .fold(self.next_tick_ns.min(self.window.deadline_ns), u64::min)
    }

    /// How long connections may wait, and for what.
    fn limits(&self) -> [(Wait, u64); 2] {
        [(Wait::Connect, self.settings.connect_timeout_ns), (Wait::Reply, self.settings.reply_timeout_ns)]
    }

    /// Makes the starts that are due. Where instants decide, that includes what comes due meanwhile, which would have to wait for events, too,
    /// unless starts have taken as long as events may.
    fn start_due(&mut self, mut now_ns: u64) -> Result<()> {
        for _ in 0..STARTS_AT_ONCE {
            if let Some(rest) = self.rests.pop() {
                self.resume(rest)?;
            } else if self.pacer.next().is_none_or(|next| next > now_ns) {
                return Ok(());
            } else if self.pacer.is_kept() {
                if let Some(slot) = self.pacer.kept().pop(now_ns) {
                    self.serve_slot(slot, now_ns)?;
                }
            } else if let Some(planned) = self.take() {
                self.note_queued(planned.at_ns);
                self.start(planned)?;
            }
            let before_ns = std::mem::replace(&mut self.made_ns, self.clock.now_ns());
            self.starts_ns += self.made_ns - before_ns.max(now_ns);
            if self.settings.is_timed && self.starts_ns < EVENTS_NS {
                now_ns = self.made_ns;
            }
        }
        self.passed_over_ns = now_ns;
        Ok(())
    }

    /// Takes the next start, and counts it if it was intended within the measured window.
    fn take(&mut self) -> Option<Planned> {
        let planned = self.pacer.take_planned()?;
        self.plan(planned.at_ns);
        Some(planned)
    }

    /// Counts what was due then, if that is in the measured window.
    fn plan(&self, intended_ns: u64) {
        if self.window.measures(intended_ns) {
            let account = &self.shared.account;
            if account.get(LoaderCount::Planned) == 0 {
                account.set(LoaderCount::FirstPlannedNs, intended_ns);
            }
            account.set(LoaderCount::LastPlannedNs, intended_ns);
            account.add(LoaderCount::Planned, 1);
        }
    }

    /// Counts a start that was due when the loop had too many others to make. Those of one burst, all due at once, are as late as a
    /// loader must be that makes one after the other.
    fn note_queued(&mut self, intended_ns: u64) {
        let is_queued = intended_ns <= self.passed_over_ns && intended_ns != self.last_due_ns;
        self.last_due_ns = intended_ns;
        if is_queued && self.window.measures(intended_ns) {
            self.shared.account.add(LoaderCount::Queued, 1);
        }
    }

    /// Handles events. Where an instant decides when the next start is due, they wait for it: a start that waits for one event after another
    /// would be late by all of them. Once starts have taken as long as events may, the events come first.
    fn handle_events(&mut self) -> Result<()> {
        let from_ns = self.clock.now_ns();
        let gives_way = self.settings.is_timed && self.starts_ns < EVENTS_NS;
        let start_ns = self.pacer.next().filter(|_| gives_way).unwrap_or(u64::MAX);
        let until_ns = start_ns.min(from_ns + EVENTS_NS);
        while self.clock.now_ns() < until_ns {
            let Some(event) = self.engine.next()? else {
                self.starts_ns = 0;
                return Ok(());
            };
            let (key, now_ns) = (event.key, event.now_ns);
            let connects = self.table[key].is_connecting() && matches!(event.kind, Kind::Connected | Kind::Ended(..));
            let before = self.shared.asking_for_multipath();
            let action = self.table[key].on_event(&mut self.shared, event.kind, now_ns);
            self.count_fallback(key, before);
            if std::mem::take(&mut self.shared.stamp_in_doubt) && self.engine.has_connection(key) {
                self.shared.account.add(LoaderCount::StampsImpossible, 1);
            }
            if connects {
                self.count_syn_retries(key, now_ns);
            }
            self.carry_out(key, action, now_ns);
        }
        if start_ns > until_ns {
            self.starts_ns = 0;
        }
        Ok(())
    }

    /// Counts a connection that asked for MPTCP and got plain TCP, if it was established after `before` was read.
    fn count_fallback(&self, key: usize, before: Option<u64>) {
        if self.shared.asking_for_multipath() == before {
            return;
        }
        match self.engine.is_multipath(key) {
            Some(true) => {}
            Some(false) => self.shared.account.add(LoaderCount::FellBack, 1),
            None => self.shared.account.add(LoaderCount::FallbackUnknown, 1),
        }
    }

    /// Counts the SYNs of a connection that the kernel has sent again, once it is known what has become of its handshake.
    fn count_syn_retries(&mut self, key: usize, now_ns: u64) {
        if now_ns.saturating_sub(self.table[key].connect_ns()) >= FIRST_SYN_RETRY_NS {
            let retries = self.engine.syn_retries(key);
            self.shared.account.add(LoaderCount::SynRetries, u64::from(retries));
            self.shared.account.add(LoaderCount::SynRetried, u64::from(retries > 0));
        }
    }

    /// Carries out a session's decision. Returns whether its connection goes on.
    fn carry_out(&mut self, key: usize, action: Action, now_ns: u64) -> bool {
        let action = match action {
            Action::Send(wait) => self.send(key, wait, now_ns),
            Action::Rebind(wait) => self.rebind(key, wait, now_ns),
            other => other,
        };
        match action {
            Action::Wait(wait) => self.table.wait(key, wait),
            Action::Continue | Action::Send(_) | Action::Rebind(_) => {}
            Action::Idle => {
                self.table.leave(key);
                self.pacer.kept().idle(key, now_ns);
            }
            Action::Complete => self.end(key, Ok(()), now_ns),
            Action::Renew(rest) => self.renew(key, rest, now_ns),
            Action::Fail(step, cause) => self.end(key, Err((step, cause)), now_ns),
        }
        !matches!(action, Action::Complete | Action::Renew(_) | Action::Fail(..))
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

    /// Gives a flow another port, as a router that translates addresses does when it has forgotten the first one, sends what its session has
    /// written from there, and returns the next action.
    fn rebind(&mut self, key: usize, wait: Option<Wait>, now_ns: u64) -> Action {
        let group = *self.shared.ends.group(&self.table[key]);
        let client = match self.engine.rebind(key, &mut self.dialler, &group) {
            Ok(client) => client,
            Err((step, error)) => return Action::Fail(step, Cause::from(&error)),
        };
        if is_itself(client, group.destination) {
            self.dialler.freed(&group, client.port());
            return Action::Fail(Step::Connect, Cause::SelfConnected);
        }
        self.table[key].on_rebound(&mut self.shared, client.port());
        self.send(key, wait, now_ns)
    }

    /// Counts a connection's end and closes it.
    fn end(&mut self, key: usize, ending: Ending, now_ns: u64) {
        let mut session = self.table.take(key);
        let was_connecting = session.is_connecting();
        let former = self.shared.former_port(&session);
        self.shared.ended(&mut session, ending, now_ns);
        for port in former.into_iter().chain([session.port()]) {
            self.dialler.freed(self.shared.ends.group(&session), port);
        }
        if self.pacer.is_kept() {
            // What is cut short by the user is not lost.
            let lost = was_connecting && !matches!(ending, Err((_, Cause::Interrupted)));
            self.slot_ended(key, (ending.is_ok(), lost), now_ns);
        } else {
            self.pacer.freed(if ending.is_ok() { now_ns } else { now_ns + ERROR_PAUSE_NS });
        }
        let how = match ending {
            _ if session.is_flow() => Close::Fin,
            Ok(()) => self.settings.close_completed,
            Err(_) => self.settings.close_failed,
        };
        if how == Close::Fin && session.part(&mut self.shared, ending.is_ok()) {
            self.engine.send_last(key, &self.shared.out);
        }
        self.engine.close(key, how);
    }

    /// Closes a connection that the server has ended, and notes what is left of its requests. In a closed loop, it keeps its slot.
    fn renew(&mut self, key: usize, rest: Rest, now_ns: u64) {
        let mut session = self.table.take(key);
        self.shared.renewed(&mut session, now_ns);
        self.dialler.freed(self.shared.ends.group(&session), session.port());
        self.engine.close(key, self.settings.close_failed);
        if self.pacer.is_kept() {
            self.slot_renewed(key, rest, now_ns);
        } else {
            self.rests.push(rest);
        }
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

    /// Asks on the connections whose server has had the time to speak first.
    fn end_listening(&mut self, now_ns: u64) -> Result<()> {
        while let Some(key) = self.table.longest(Wait::Unasked)
            && self.table[key].waiting_since_ns() + UNASKED_NS <= now_ns
        {
            let action = self.table[key].on_silence(&mut self.shared, now_ns);
            if self.carry_out(key, action, now_ns) {
                self.engine.watch(key)?;
            }
        }
        Ok(())
    }

    /// Sends one more request on every connection that is held.
    fn follow_up(&mut self, now_ns: u64) -> Result<()> {
        self.follow_up_ns = None;
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
    fn end_waiting(&mut self, now_ns: u64) {
        for (wait, limit_ns) in self.limits() {
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
        for rest in self.rests.drain(..).filter(|rest| rest.measured && cause != Cause::Interrupted) {
            self.shared.lose_start(Transport::Tcp, rest.since_ns, (rest.requests, rest.hold));
        }
    }

    /// Counts the starts that were due in the window and will never come.
    fn lose_the_rest(&mut self) {
        if self.pacer.is_kept() {
            return self.lose_all_requests();
        }
        // In a closed loop, nothing is due before something ends.
        while self.pacer.has_schedule()
            && let Some(planned) = self.take()
        {
            if self.window.measures(planned.at_ns) {
                let transport = self.transports.next();
                self.shared.account.add(LoaderCount::LostStarts, 1);
                let task = self.task_of(planned);
                self.shared.lose_start(transport, planned.at_ns, task);
            }
        }
    }

    /// Abandons a connection, and counts it by the state it has reached.
    fn abandon(&mut self, key: usize, cause: Cause, now_ns: u64) {
        if self.table[key].is_connecting() {
            // Settling forgets them.
            self.count_syn_retries(key, now_ns);
            if self.engine.settle(key) {
                let before = self.shared.asking_for_multipath();
                self.table[key].on_settled(&mut self.shared, now_ns);
                self.count_fallback(key, before);
            }
        }
        let step = self.table[key].step();
        self.end(key, Err((step, cause)), now_ns);
    }
}

#[cfg(test)]
mod tests;
