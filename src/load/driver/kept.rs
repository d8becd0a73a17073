//! Connections that are kept, and send requests when these are due.

use anyhow::Result;

use super::{Driver, ERROR_PAUSE_NS};
use crate::{
    ipc::control::LoaderCount,
    load::{
        clock::Clock,
        driver::start::Due,
        engine::Engine,
        kept::{Moment, Opens, State},
        observer::Observer,
        session::{Hold, Rest},
    },
    scenario::Transport,
};

impl<E: Engine, O: Observer, C: Clock> Driver<E, O, C> {
    /// Does what is due on a slot.
    pub(super) fn serve_slot(&mut self, slot: u32, now_ns: u64) -> Result<()> {
        let kept = self.pacer.kept();
        let state = kept.state(slot);
        match (state, kept.take(slot, now_ns)) {
            (State::Busy, _) => unreachable!("a busy slot is not served"),
            (State::Closed, Moment::End) => Ok(()),
            // Only an idle connection is replaced.
            (State::Closed, Moment::Replacement) => unreachable!("a closed slot has no connection to replace"),
            (State::Idle { key, .. }, Moment::End | Moment::Replacement) => {
                self.end(key, Ok(()), now_ns);
                Ok(())
            }
            (State::Idle { key, since_ns }, Moment::Request { due_ns }) => {
                self.plan(due_ns);
                self.note_queued(due_ns.max(since_ns));
                self.ask(key, due_ns, since_ns)
            }
            // Only a closed connection has a request to make again.
            (State::Idle { key, since_ns }, Moment::Again { due_ns }) => self.ask(key, due_ns, since_ns),
            (State::Closed, Moment::Request { due_ns }) => {
                self.plan(due_ns);
                self.note_queued(due_ns);
                self.open(slot, due_ns, true)
            }
            (State::Closed, Moment::Again { due_ns }) => self.open(slot, due_ns, false),
        }
    }

    /// Sends a request on a connection that has been idle since then.
    fn ask(&mut self, key: usize, due_ns: u64, since_ns: u64) -> Result<()> {
        let slot = self.pacer.kept().slot(key);
        self.pacer.kept().asks(slot);
        let (now_ns, measured) = (self.clock.now_ns(), self.window.measures(due_ns));
        if measured {
            self.record_lag(due_ns.max(since_ns), now_ns);
            self.shared.account.add(LoaderCount::InTime, u64::from(now_ns < self.window.measure_to_ns));
        }
        let action = self.table[key].on_due(&mut self.shared, due_ns, measured, now_ns);
        if self.carry_out(key, action, now_ns) {
            self.engine.watch(key)?;
        }
        Ok(())
    }

    /// Opens a slot's connection, for a request that is due.
    fn open(&mut self, slot: u32, due_ns: u64, scheduled: bool) -> Result<()> {
        let opens = self.pacer.kept().take_opens(slot);
        self.shared.account.add(LoaderCount::Reconnected, u64::from(opens == Opens::Continuing));
        self.shared.account.add(LoaderCount::Replaced, u64::from(opens == Opens::Replacing));
        let measured = self.window.measures(due_ns);
        self.begin(
            Transport::Tcp,
            Due { intended_ns: due_ns, requests: 1, hold: Hold::OfPolicy, measured, scheduled, slot: Some(slot) },
        )
    }

    /// A slot's connection has failed before it was established. What is due by now had no connection to go out on.
    pub(super) fn lose_overdue(&mut self, slot: u32, now_ns: u64) {
        while let Some(due_ns) = self.pacer.kept().take_overdue(slot, now_ns) {
            self.plan(due_ns);
            self.lose_request(due_ns);
        }
        self.pacer.kept().closed(slot, now_ns + ERROR_PAUSE_NS);
    }

    /// A slot's connection has ended, and with it perhaps what had no other connection to go out on.
    pub(super) fn slot_ended(&mut self, key: usize, (ok, loses): (bool, bool), now_ns: u64) {
        let kept = self.pacer.kept();
        let slot = kept.slot(key);
        kept.think(slot, now_ns);
        match (ok, loses) {
            (false, true) => self.lose_overdue(slot, now_ns),
            // At its end, a connection is not opened again.
            (true, _) if kept.is_over(slot) => {}
            (true, _) => kept.continues(slot, now_ns),
            (false, false) => kept.closed(slot, now_ns + ERROR_PAUSE_NS),
        }
    }

    /// The server has closed a connection with a request on its way.
    pub(super) fn slot_renewed(&mut self, key: usize, rest: Rest, now_ns: u64) {
        let kept = self.pacer.kept();
        let slot = kept.slot(key);
        kept.ask_again(slot, rest.since_ns);
        kept.continues(slot, now_ns);
    }

    /// Counts the requests that were due in the window and will never be made.
    pub(super) fn lose_all_requests(&mut self) {
        while let Some(due_ns) = self.pacer.kept().take_again() {
            self.shared.account.add(LoaderCount::LostResponses, u64::from(self.window.measures(due_ns)));
        }
        while let Some(due_ns) = self.pacer.kept().take_any() {
            self.plan(due_ns);
            self.lose_request(due_ns);
        }
    }

    fn lose_request(&self, due_ns: u64) {
        let lost = u64::from(self.window.measures(due_ns));
        self.shared.account.add(LoaderCount::LostStarts, lost);
        self.shared.account.add(LoaderCount::LostResponses, lost);
    }
}
