//! Carries out the scenario's faults, and records the effects of each.

use std::sync::Arc;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::{sampler::Sampler, subject::Subject};
use crate::{
    ipc::control::{Control, Count, LoaderCount, Window},
    record::{EventDatagrams, EventRow},
    scenario::{Fault, FaultKind, Scenario, Transport, Waiting},
    sys::clock,
};

pub(super) struct Faults {
    scenario: Arc<Scenario>,
    control: Arc<Control>,
    start_ns: u64,
    /// Pending acts, the next one last.
    ahead: Vec<Act>,
    /// By fault: the state when it began.
    before: Vec<Option<Standing>>,
    /// By fault: its effects.
    rows: Vec<EventRow>,
}

struct Act {
    at_ns: u64,
    fault: usize,
    begins: bool,
}

/// The state at one instant.
#[derive(Clone)]
struct Standing {
    at_ns: u64,
    /// Connections established, by the loaders' count.
    established: u64,
    /// Connections accepted by any worker.
    accepted: u64,
    /// Connections accepted by the fault's worker.
    own_accepted: u64,
    /// Connections waiting for this worker alone; `None` if unknowable.
    own_waiting: Option<u64>,
    /// Open connections of the worker.
    own_open: u64,
    /// Datagrams sent by loaders, datagrams received by the worker, and bytes in its socket; `None` without datagrams.
    datagrams: Option<(u64, u64, u64)>,
}

impl Faults {
    pub fn new(scenario: &Arc<Scenario>, control: &Arc<Control>, window: Window) -> Self {
        let at_ns = |offset| window.start_ns.saturating_add(clock::nanoseconds(offset));
        let mut ahead = Vec::new();
        for (number, fault) in scenario.faults.iter().enumerate() {
            ahead.push(Act { at_ns: at_ns(fault.at), fault: number, begins: true });
            if let Some(over) = fault.over() {
                ahead.push(Act { at_ns: at_ns(over), fault: number, begins: false });
            }
        }
        // At the same instant, ends come before begins.
        ahead.sort_by_key(|act| std::cmp::Reverse((act.at_ns, act.begins)));
        let row = |fault: &Fault| EventRow {
            event: fault.number,
            kind: fault.kind.event(),
            worker: fault.worker,
            ..EventRow::default()
        };
        Self {
            rows: scenario.faults.iter().map(row).collect(),
            before: vec![None; scenario.faults.len()],
            scenario: Arc::clone(scenario),
            control: Arc::clone(control),
            start_ns: window.start_ns,
            ahead,
        }
    }

    /// When the next act is due.
    pub fn next_ns(&self) -> Option<u64> {
        self.ahead.last().map(|act| act.at_ns)
    }

    /// Carries out the acts that are due.
    pub fn act(&mut self, now_ns: u64, subject: &mut dyn Subject, sampler: &mut Sampler) -> Result<()> {
        while let Some(act) = self.ahead.pop_if(|act| act.at_ns <= now_ns) {
            let fault = self.scenario.faults[act.fault];
            let standing = self.standing(fault.worker, subject, sampler)?;
            if act.begins {
                self.begin(act.fault, fault, standing, subject);
            } else {
                self.close(act.fault, &standing);
                self.control.fault_is_over(act.fault, standing.at_ns);
                if matches!(fault.kind, FaultKind::Stall(_)) {
                    subject.signal(fault.worker, Signal::SIGCONT);
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, number: usize, fault: Fault, standing: Standing, subject: &mut dyn Subject) {
        match fault.kind {
            FaultKind::Stall(_) => subject.signal(fault.worker, Signal::SIGSTOP),
            FaultKind::Kill => subject.signal(fault.worker, Signal::SIGKILL),
            // The worker burns by itself.
            FaultKind::Burn(_) => {}
        }
        if !matches!(fault.kind, FaultKind::Burn(_)) {
            self.control.fault_begins(number, standing.at_ns);
        }
        self.before[number] = Some(standing);
    }

    fn standing(&self, worker: usize, subject: &dyn Subject, sampler: &mut Sampler) -> Result<Standing> {
        let count = |count| subject.count(worker, count).unwrap_or(0);
        let server = &self.scenario.server;
        let own_waiting = match server.strategy.waiting(worker, server.workers) {
            Waiting::Never => Some(0),
            Waiting::InQueue => Some(sampler.queue_of(worker, subject)?),
            Waiting::HandedOver => Some(count(Count::HandedOver).saturating_sub(count(Count::Accepted))),
            Waiting::Unseen => None,
        };
        let sent = self.control.loader_total(LoaderCount::Sent);
        let datagrams = sampler.datagram_bytes_of(worker, subject)?.map(|bytes| (sent, count(Count::Datagrams), bytes));
        Ok(Standing {
            at_ns: clock::monotonic_ns(),
            established: self.control.loader_total(LoaderCount::Established),
            accepted: subject.total(Count::Accepted).unwrap_or(0),
            own_accepted: count(Count::Accepted),
            own_waiting,
            own_open: count(Count::Open),
            datagrams,
        })
    }

    /// Fills in a fault's row at the end of the fault or of the load.
    fn close(&mut self, number: usize, after: &Standing) {
        let Some(before) = self.before[number].take() else { return };
        let fault = self.scenario.faults[number];
        let row = &mut self.rows[number];
        // A worker starts to burn in its next round of the loop, and records when.
        let begun_ns = self.control.fault(number).begun_ns.max(before.at_ns);
        row.at_s = begun_ns.saturating_sub(self.start_ns) as f64 / 1e9;
        row.lasted_s = after.at_ns.saturating_sub(begun_ns) as f64 / 1e9;
        if self.scenario.protocol.has(Transport::Tcp) {
            row.established = after.established.saturating_sub(before.established);
            row.accepted = after.own_accepted.saturating_sub(before.own_accepted);
            row.arrived = before.own_waiting.zip(after.own_waiting).map(|(before, after)| {
                // A killed worker's queue is gone, and nothing more arrives there.
                row.accepted + if fault.kind == FaultKind::Kill { 0 } else { after.saturating_sub(before) }
            });
            row.share = row.arrived.filter(|_| row.established > 0).map(|n| n as f64 / row.established as f64);
            row.stranded = if fault.kind == FaultKind::Kill { before.own_waiting } else { after.own_waiting };
            row.not_accepted = after.established.saturating_sub(after.accepted);
            row.open = before.own_open;
        }
        row.datagrams = before.datagrams.zip(after.datagrams).map(|(before, after)| EventDatagrams {
            sent: after.0.saturating_sub(before.0),
            received: after.1.saturating_sub(before.1),
            queue_bytes: if fault.kind == FaultKind::Kill { before.2 } else { after.2 },
        });
    }

    /// The load has ended, and with it every fault still in progress. Stalled workers stay stopped: they must not accept anything
    /// before the queues are counted.
    pub fn finish(mut self, subject: &dyn Subject, sampler: &mut Sampler) -> Result<Vec<EventRow>> {
        for number in 0..self.rows.len() {
            if self.before[number].is_some() {
                let standing = self.standing(self.scenario.faults[number].worker, subject, sampler)?;
                self.close(number, &standing);
            }
        }
        // A fault that was due after the load's end did not happen.
        let control = Arc::clone(&self.control);
        let happened = |number: usize| control.fault(number).begun_ns != 0;
        Ok(self.rows.into_iter().enumerate().filter(|(number, _)| happened(*number)).map(|(_, row)| row).collect())
    }
}
