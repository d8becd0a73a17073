//! What the machine and its networks count during a trial, as differences between its start and its end.

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

use super::networks::Networks;
use crate::{
    ipc::control::Window,
    observe::counters::{self, CounterReader, Counters, CpuTicks},
    record::{ObserverRow, Softnet, TrialRecord},
    sys::clock::{self, CpuUse},
};

/// Watches the kernel's counters over the whole trial and over the measured window.
pub(super) struct KernelWatch {
    counters: CounterReader,
    before: Counters,
    /// Edges of the window not passed yet, the next one last.
    ahead: Vec<u64>,
    at_borders: Vec<Counters>,
}

impl KernelWatch {
    /// Starts counting in the trial's networks.
    pub fn begin(networks: &Networks) -> Result<Self> {
        let mut counters = CounterReader::default();
        networks.in_each(|| counters.add_namespace().context("opening /proc/self/net"))?;
        let before = counters.read().context("reading /proc/self/net")?;
        Ok(Self { counters, before, ahead: Vec::new(), at_borders: Vec::with_capacity(2) })
    }

    /// Sets the measured window.
    pub fn expect(&mut self, window: Window) {
        self.ahead = vec![window.measure_to_ns, window.measure_from_ns];
    }

    /// When the window's next edge is due.
    pub fn next_ns(&self) -> Option<u64> {
        self.ahead.last().copied()
    }

    /// Reads the counters if an edge has been passed.
    pub fn pass(&mut self, now_ns: u64) -> Result<()> {
        while self.ahead.pop_if(|border_ns| *border_ns <= now_ns).is_some() {
            self.at_borders.push(self.counters.read().context("reading /proc/self/net")?);
        }
        Ok(())
    }

    /// The load has ended, and with it an open-ended window.
    pub fn end_window(&mut self) -> Result<()> {
        self.pass(u64::MAX)
    }

    /// Enters the counts in the record.
    pub fn end(mut self, record: &mut TrialRecord) -> Result<()> {
        let after = self.counters.read().context("reading /proc/self/net")?;
        record.kernel = counters::difference(&self.before, &after);
        record.kernel_measured = counters::difference(&self.at_borders[0], &self.at_borders[1]);
        Ok(())
    }
}

/// Watches the machine's processors, the packets they could not receive, and the trial's own process.
pub(super) struct MachineWatch {
    own: CpuUse,
    softnet: Softnet,
    ticks: CpuTicks,
    at_ns: u64,
}

impl MachineWatch {
    /// Starts counting.
    pub fn begin() -> Result<Self> {
        Ok(Self {
            own: clock::cpu_use(),
            softnet: counters::softnet().context("reading /proc/net/softnet_stat")?,
            ticks: CpuTicks::read().context("reading /proc/stat")?,
            at_ns: clock::monotonic_ns(),
        })
    }

    /// Enters the counts in the record, and returns the processor time that was available, in nanoseconds.
    pub fn end(self, record: &mut TrialRecord) -> Result<u64> {
        let now = Self::begin()?;
        record.machine = now.ticks.since(&self.ticks);
        record.cpu_steal_share = record.machine.steal;
        record.softnet = now.softnet.since(&self.softnet);
        record.observer = ObserverRow {
            cpu_user_ns: now.own.user_ns - self.own.user_ns,
            cpu_system_ns: now.own.system_ns - self.own.system_ns,
        };
        Ok((now.at_ns - self.at_ns).saturating_mul(online_cpus()))
    }
}

/// The share of this machine's processors that was busy but not with the trial's processes, whose use the record has.
pub(super) fn others_share(record: &TrialRecord, available_ns: u64) -> f64 {
    let workers: u64 = record.workers.iter().filter_map(|worker| worker.total.cpu_ns()).sum();
    let helper = record.helper.as_ref().and_then(|helper| helper.total.cpu_ns()).unwrap_or(0);
    let upstream = record.upstream.as_ref().map_or(0, |upstream| upstream.cpu_user_ns + upstream.cpu_system_ns);
    let is_here = |host: Option<usize>| {
        host.is_none_or(|rank| record.hosts.iter().any(|host| host.rank == rank && host.shares_machine))
    };
    let loaders = record.loaders.iter().filter(|loader| is_here(loader.host));
    let loaders: u64 = loaders.map(|loader| loader.cpu_user_ns + loader.cpu_system_ns).sum();
    let observer = record.observer.cpu_user_ns + record.observer.cpu_system_ns;
    if available_ns == 0 {
        return 0.0;
    }
    (record.machine.busy - (workers + helper + upstream + observer + loaders) as f64 / available_ns as f64).max(0.0)
}

/// Number of processors in /proc/stat.
fn online_cpus() -> u64 {
    sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().and_then(|count| u64::try_from(count).ok()).unwrap_or(1)
}
