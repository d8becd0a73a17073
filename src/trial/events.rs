//! Carries out the scenario's events, and records the effects of each.

use std::{iter, sync::Arc};

use anyhow::{Context, Result};

use super::{losses::Losses, sampler::Sampler, subject::Subject};
use crate::{
    context::{Side, TrialContext, Waits},
    ipc::{
        control::{Control, Count, LoaderCount, Window},
        ledger::{Ledger, Receivers},
    },
    load,
    observe::counters::CounterReader,
    record::{Counts, EventDatagrams, EventRow, Generation, LatencySummary, Migrated},
    scenario::{Act, Event, Scenario, Transport, Waiting},
    sys::clock,
};

pub(super) struct Events {
    scenario: Arc<Scenario>,
    control: Arc<Control>,
    ledger: Option<Arc<Ledger>>,
    waits: Waits,
    /// Whether the load is on this host: loaders elsewhere do not know when an event goes on, and what they count is known late.
    with_load: bool,
    /// The server's network namespace.
    counters: CounterReader,
    /// Who last received datagrams of each flow, as of the latest event that changes workers.
    receivers: Receivers,
    /// The latest event that changed workers.
    last_change: Option<usize>,
    start_ns: u64,
    /// What is still to be done, the next one last.
    ahead: Vec<Due>,
    /// By event: the state when it began.
    before: Vec<Option<Standing>>,
    /// By event: its effects.
    rows: Vec<EventRow>,
    /// The event of another server whose effects still show: until the next one, whatever happens is its doing.
    last_of_other: Option<usize>,
}

struct Due {
    at_ns: u64,
    event: usize,
    begins: bool,
}

/// The state at one instant.
#[derive(Clone)]
struct Standing {
    at_ns: u64,
    /// Connections established, by the loaders' count.
    established: u64,
    /// Attempts that failed before they were established.
    unconnected: u64,
    /// Connections accepted by any worker; `None` if nobody counts them.
    accepted: Option<u64>,
    /// Connections open at all workers; `None` if nobody counts them.
    open: Option<u64>,
    /// What concerns the event's worker, if it has one.
    own: Option<OwnStanding>,
    /// What another server has lost; `None` of our own.
    losses: Option<Losses>,
    /// By member: accepts, and their waits if these are exact; empty unless the event changes workers.
    members: Vec<(u64, Option<Counts>)>,
    /// Connections that the kernel moved to other listeners; `None` if it does not count them.
    migrated: Option<Migrated>,
}

/// The state of an event's worker.
#[derive(Clone)]
struct OwnStanding {
    /// Connections accepted by the worker.
    accepted: u64,
    /// Connections waiting for this worker alone; `None` if unknowable.
    waiting: Option<u64>,
    /// Open connections of the worker.
    open: u64,
    /// Datagrams sent by loaders, datagrams received by the worker, and bytes in its socket; `None` without datagrams.
    datagrams: Option<(u64, u64, u64)>,
}

impl Events {
    pub fn new(context: &TrialContext, window: Window) -> Result<Self> {
        let TrialContext { scenario, control, ledger, waits, .. } = context;
        let crew = scenario.crew();
        let mut counters = CounterReader::default();
        counters.add_namespace().context("opening /proc/self/net/netstat")?;
        let at_ns = |offset| window.start_ns.saturating_add(clock::nanoseconds(offset));
        let mut ahead = Vec::new();
        for (number, event) in scenario.events.iter().enumerate() {
            ahead.push(Due { at_ns: at_ns(event.at), event: number, begins: true });
            if let Some(over) = event.over() {
                ahead.push(Due { at_ns: at_ns(over), event: number, begins: false });
            }
        }
        // At the same instant, ends come before begins.
        ahead.sort_by_key(|due| std::cmp::Reverse((due.at_ns, due.begins)));
        let row = |(place, event): (usize, &Event)| EventRow {
            event: event.number,
            occurrence: event.occurrence,
            kind: event.act.kind(),
            how: event.act.how(),
            worker: if event.act == Act::Join { crew.brought_by(place).next() } else { event.act.worker() },
            ..EventRow::default()
        };
        Ok(Self {
            rows: scenario.events.iter().enumerate().map(row).collect(),
            before: vec![None; scenario.events.len()],
            last_of_other: None,
            scenario: Arc::clone(scenario),
            control: Arc::clone(control),
            ledger: ledger.clone(),
            waits: *waits,
            with_load: context.side == Side::Whole,
            counters,
            receivers: Receivers::default(),
            last_change: None,
            start_ns: window.start_ns,
            ahead,
        })
    }

    /// When something is due next.
    pub fn next_ns(&self) -> Option<u64> {
        self.ahead.last().map(|due| due.at_ns)
    }

    /// Does what is due.
    pub fn act(&mut self, now_ns: u64, subject: &mut dyn Subject, sampler: &mut Sampler) -> Result<()> {
        let scenario = Arc::clone(&self.scenario);
        while let Some(due) = self.ahead.pop_if(|due| due.at_ns <= now_ns) {
            let act = &scenario.events[due.event].act;
            let standing = self.standing(due.event, subject, sampler)?;
            if let Some(last) = self.last_of_other.take_if(|_| due.begins) {
                self.close(last, &standing);
            }
            if due.begins {
                self.last_of_other = Some(due.event).filter(|_| !scenario.subject.is_own());
                // A worker burns by itself, and says when it began.
                if !matches!(act, Act::Burn { .. }) {
                    self.control.event_begins(due.event, standing.at_ns);
                }
                self.before[due.event] = Some(standing);
                if act.changes_workers() {
                    self.note_flows();
                    self.last_change = Some(due.event);
                }
                subject.begin_event(due.event, act)?;
            } else {
                self.close(due.event, &standing);
                self.control.event_is_over(due.event, standing.at_ns);
                subject.end_event(act);
            }
        }
        for event in 0..self.rows.len() {
            let over_ns = self.before[event].as_ref().and_then(|_| subject.passage(event)?.over_ns);
            if let Some(over_ns) = over_ns {
                let standing = Standing { at_ns: over_ns, ..self.standing(event, subject, sampler)? };
                self.control.event_is_over(event, over_ns);
                self.close_passage(event, &standing, subject);
            }
        }
        Ok(())
    }

    /// How it stands now. What loaders established is read before what members accepted, so that nothing that was accepted meanwhile
    /// counts as waiting.
    fn standing(&mut self, event: usize, subject: &mut dyn Subject, sampler: &mut Sampler) -> Result<Standing> {
        let own = self.rows[event].worker.map(|worker| self.own_standing(worker, subject, sampler)).transpose()?;
        let migrated = self.migrated()?;
        let at_ns = clock::monotonic_ns();
        let established = self.control.loader_total(LoaderCount::Established);
        let unconnected = self.control.loader_total(LoaderCount::Unconnected);
        let losses = (self.with_load && !self.scenario.subject.is_own()).then(|| Losses::read(&self.control));
        subject.refresh()?;
        let changes = self.scenario.events[event].act.changes_workers();
        Ok(Standing {
            at_ns,
            established,
            unconnected,
            accepted: subject.total(Count::Accepted),
            open: subject.total(Count::Open),
            own,
            losses,
            members: if changes { self.of_members(subject) } else { Vec::new() },
            migrated,
        })
    }

    /// By member: accepts, and their waits if these are exact.
    fn of_members(&self, subject: &dyn Subject) -> Vec<(u64, Option<Counts>)> {
        let member = |member| {
            let (accepted, waits) = self.control.accepts_and_waits(member);
            (accepted, self.waits.exact.then(|| load::counts(waits.into_iter())))
        };
        (0..subject.members()).map(member).collect()
    }

    fn migrated(&mut self) -> Result<Option<Migrated>> {
        let counters = self.counters.read().context("reading /proc/self/net/netstat")?;
        let count = |name| counters.get(name).copied();
        let (success, failure) = (count("TCPMigrateReqSuccess"), count("TCPMigrateReqFailure"));
        Ok(success.zip(failure).map(|(success, failure)| Migrated { success, failure }))
    }

    fn own_standing(&self, worker: usize, subject: &dyn Subject, sampler: &mut Sampler) -> Result<OwnStanding> {
        let count = |count| subject.count(worker, count).unwrap_or(0);
        let server = &self.scenario.server;
        let waiting = match server.strategy.waiting(worker, server.workers) {
            Waiting::Never => Some(0),
            Waiting::InQueue => Some(sampler.queue_of(worker, subject)?),
            Waiting::HandedOver => Some(count(Count::Assigned).saturating_sub(count(Count::Accepted))),
            Waiting::Unseen => None,
        };
        let sent = self.control.loader_total(LoaderCount::Sent);
        let datagrams = sampler.datagram_bytes_of(worker, subject)?.map(|bytes| (sent, count(Count::Datagrams), bytes));
        Ok(OwnStanding { accepted: count(Count::Accepted), waiting, open: count(Count::Open), datagrams })
    }

    /// Fills in the row of an event that lasts as long as it takes.
    fn close_passage(&mut self, event: usize, after: &Standing, subject: &dyn Subject) {
        let (Some(passage), Some(before)) = (subject.passage(event), self.before[event].clone()) else { return };
        self.close(event, after);
        let row = &mut self.rows[event];
        row.drain_s = passage.drain_ns.map(|drain_ns| drain_ns as f64 / 1e9);
        row.queued = passage.queued.filter(|_| self.scenario.protocol.has(Transport::Tcp));
        let method = self.waits.method();
        if self.scenario.protocol.has(Transport::Tcp) {
            row.generations = passage
                .generations
                .into_iter()
                .map(|(generation, members)| {
                    let mut accepted = 0;
                    let mut waits = self.waits.exact.then(|| load::counts(iter::empty()));
                    for member in members {
                        let (Some(after), before) = (after.members.get(member), before.members.get(member)) else {
                            continue;
                        };
                        accepted += after.0 - before.map_or(0, |before| before.0);
                        if let (Some(waits), Some(after)) = (&mut waits, &after.1) {
                            let before = before.and_then(|before| before.1.as_ref());
                            waits.add(&before.map_or_else(|| after.clone(), |before| after.since(before)));
                        }
                    }
                    let accept_wait = waits.map(|waits| LatencySummary::of_waits(&waits, 0, method));
                    Generation { generation, accepted, accept_wait }
                })
                .collect();
        }
    }

    /// Counts the flows that went on since the latest change of workers began, and those that moved.
    fn note_flows(&mut self) {
        let Some(ledger) = self.ledger.as_ref().filter(|_| self.scenario.protocol.has(Transport::Udp)) else { return };
        let flows = self.receivers.update(ledger.take_receivers());
        if let Some(event) = self.last_change.take() {
            self.rows[event].flows = Some(flows);
        }
    }

    /// Fills in an event's row at the end of the event or of the load.
    fn close(&mut self, number: usize, after: &Standing) {
        let Some(before) = self.before[number].take() else { return };
        let row = &mut self.rows[number];
        // A worker starts to burn in its next round of the loop, and records when.
        let begun_ns = self.control.event(number).begun_ns.max(before.at_ns);
        row.at_s = begun_ns.saturating_sub(self.start_ns) as f64 / 1e9;
        row.lasted_s = after.at_ns.saturating_sub(begun_ns) as f64 / 1e9;
        let has_tcp = self.scenario.protocol.has(Transport::Tcp);
        if has_tcp {
            row.established = after.established.saturating_sub(before.established);
            row.unconnected = after.unconnected.saturating_sub(before.unconnected);
            let accepted = after.accepted.filter(|_| self.with_load);
            row.not_accepted = accepted.map(|accepted| after.established.saturating_sub(accepted));
            row.open = before.own.as_ref().map_or(before.open, |own| Some(own.open));
            row.migrated = before.migrated.zip(after.migrated).map(|(before, after)| Migrated {
                success: after.success.saturating_sub(before.success),
                failure: after.failure.saturating_sub(before.failure),
            });
        }
        if let Some((before, after)) = before.losses.zip(after.losses) {
            row.lost = after.since(&before);
        }
        let Some((before, after)) = before.own.zip(after.own.as_ref()) else { return };
        // A killed worker's queue is gone, and nothing more arrives there.
        let killed = matches!(self.scenario.events[number].act, Act::Kill { .. });
        if has_tcp {
            let accepted = after.accepted.saturating_sub(before.accepted);
            row.accepted = Some(accepted);
            row.arrived = before
                .waiting
                .zip(after.waiting)
                .map(|(before, after)| accepted + if killed { 0 } else { after.saturating_sub(before) });
            let known = self.with_load && row.established > 0;
            row.share = row.arrived.filter(|_| known).map(|n| n as f64 / row.established as f64);
            row.stranded = if killed { before.waiting } else { after.waiting };
        }
        row.datagrams = before.datagrams.zip(after.datagrams).map(|(before, after)| EventDatagrams {
            sent: after.0.saturating_sub(before.0),
            received: after.1.saturating_sub(before.1),
            queue_bytes: if killed { before.2 } else { after.2 },
        });
    }

    /// The load has ended, and with it every event still in progress. Stalled workers stay stopped: they must not accept anything
    /// before the queues are counted.
    pub fn finish(mut self, subject: &mut dyn Subject, sampler: &mut Sampler) -> Result<Vec<EventRow>> {
        for number in 0..self.rows.len() {
            if self.before[number].is_some() {
                let standing = self.standing(number, subject, sampler)?;
                if subject.passage(number).is_some() {
                    self.close_passage(number, &standing, subject);
                } else {
                    self.close(number, &standing);
                }
            }
        }
        self.note_flows();
        if self.with_load && self.scenario.subject.is_own() && self.scenario.protocol.has(Transport::Tcp) {
            for (number, row) in self.rows.iter_mut().enumerate() {
                row.lost = self.control.losses(number);
            }
        }
        // An event that was due after the load's end did not happen.
        let control = Arc::clone(&self.control);
        let happened = |number: usize| control.event(number).begun_ns != 0;
        Ok(self.rows.into_iter().enumerate().filter(|(number, _)| happened(*number)).map(|(_, row)| row).collect())
    }
}
