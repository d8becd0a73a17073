//! A probe beside our own workers, which count themselves: what is seen from outside can be compared with what they say.

use std::iter;

use anyhow::{Context, Result};

use super::outside::Probing;
use crate::{
    ipc::control::Window,
    load,
    observe::accepts::{Filter, MemberSeen, Ours, Snapshot},
    record::{LatencySummary, ProbeRow, ProbedMember, WaitEnd, WaitMethod},
    scenario::{Probe, Scenario},
};

/// A probe that counts what our own workers accept.
pub struct Beside {
    probing: Probing,
    /// Whether it sees how these workers accept.
    sees: bool,
    /// What was counted in all, once the workers have stopped.
    end: Option<Snapshot>,
}

impl Beside {
    /// Attaches a probe if the scenario asks for one.
    pub fn attach(scenario: &Scenario, ours: Ours<'_>) -> Result<Option<Self>> {
        if matches!(scenario.probe, Probe::Auto | Probe::Off) {
            return Ok(None);
        }
        let mut probing = Probing::attach(scenario.probe, &Filter::here(vec![scenario.address])?)?;
        let mut sees = scenario.server.strategy.calls_accept();
        if let Some(accepts) = &mut probing.accepts {
            accepts.ours(ours)?;
            sees |= accepts.sees_rings();
        }
        Ok(Some(Self { probing, sees, end: None }))
    }

    /// Waits are measured as the workers measure them: of connections established since the window began.
    pub fn expect(&self, window: Window) {
        if let Some(accepts) = &self.probing.accepts {
            accepts.measure(window);
        }
    }

    /// Sees who accepts while they still have their listeners: without BTF, it takes these to know what they accept on.
    pub fn see(&mut self) -> Result<()> {
        self.read().map(drop)
    }

    /// The workers have stopped.
    pub fn end(&mut self) -> Result<()> {
        self.end = self.read()?;
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Snapshot>> {
        let snapshot =
            self.probing.accepts.as_mut().map(|accepts| accepts.read().context("reading the probe's counts"));
        snapshot.transpose()
    }

    /// What it saw of the workers and, last, of the helper process.
    pub fn row(&self, workers: &[i32], helper: Option<i32>) -> ProbeRow {
        let Probing { level, missing, .. } = &self.probing;
        let mut row = ProbeRow { level: *level, missing: missing.clone(), ..ProbeRow::default() };
        let Some(end) = &self.end else { return row };
        let sum = |of: fn(&MemberSeen) -> u64| end.members.iter().map(of).sum();
        row.accepts = self.sees.then(|| sum(|seen| seen.accepted));
        row.unstamped = self.knows_connections().then(|| sum(|seen| seen.unstamped));
        row.lost_events = Some(end.lost_events);
        row.missed_runs = Some(end.missed_runs);
        row.aged_out = Some(end.aged_out);
        row.reset_in_queue = end.reset_in_queue;
        let workers = workers.iter().enumerate().map(|(number, pid)| (Some(number), *pid));
        let all = workers.chain(helper.map(|pid| (None, pid)));
        row.members = all.map(|(member, pid)| self.member(member, pid, &end.members)).collect();
        row
    }

    /// Whether it tells apart the connections that these workers accept.
    fn knows_connections(&self) -> bool {
        self.sees && self.probing.knows_connections()
    }

    /// What all threads of a process did.
    fn member(&self, member: Option<usize>, pid: i32, seen: &[MemberSeen]) -> ProbedMember {
        let threads: Vec<&MemberSeen> = seen.iter().filter(|seen| seen.pid == pid).collect();
        let sum = |of: fn(&MemberSeen) -> u64| threads.iter().map(|seen| of(seen)).sum();
        let mut waits = load::counts(iter::empty());
        threads.iter().for_each(|thread| waits.add(&thread.waits));
        let mut accepting = threads.iter().filter(|seen| seen.accepted > 0).peekable();
        let by_ring = accepting.peek().is_some() && accepting.all(|seen| seen.ends == WaitEnd::Completion);
        let ends = if by_ring { WaitEnd::Completion } else { WaitEnd::Accept };
        let knows = self.knows_connections();
        let accept_wait =
            LatencySummary { ends: Some(ends), ..LatencySummary::of_waits(&waits, 0, WaitMethod::Tracepoint) };
        ProbedMember {
            member,
            pid,
            accepted: self.sees.then(|| sum(|seen| seen.accepted)),
            accept_eagain: self.sees.then(|| sum(|seen| seen.eagain)),
            open_peak: knows.then(|| sum(|seen| seen.open_peak)),
            accept_wait: knows.then_some(accept_wait),
        }
    }
}
