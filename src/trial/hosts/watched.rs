//! What a load host's kernel and machine counted during its part of a trial.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::LoaderAccount;
use crate::{
    context::Side,
    ipc::control::Window,
    observe::counters::SocketReader,
    record::{Conntrack, LoaderRow, NetworkRules, Sockets, TrialRecord},
    sys::namespace::Namespace,
    trial::{
        networks::Networks,
        tracking::TrackingWatch,
        watch::{self, KernelWatch, MachineWatch},
    },
};

/// What was counted, as the conductor hears it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// The number of the network namespace, which is the same for ranks that share it.
    pub network: u64,
    /// Growth of kernel counters over the whole trial, and over the measured window.
    kernel: BTreeMap<String, u64>,
    kernel_measured: BTreeMap<String, u64>,
    /// Shares of the machine's processor time that the hypervisor and other processes had.
    pub steal_share: f64,
    pub others_share: f64,
    /// The most sockets, and the most ports in use or in TIME_WAIT, at once among the samples.
    sockets: Sockets,
    pub ports: u64,
    /// Connection tracking there, if it tracked any connection, and the rules that packets met.
    conntrack: Vec<Conntrack>,
    rules: Vec<NetworkRules>,
}

/// Counts it.
pub struct Watcher {
    kernel: KernelWatch,
    machine: MachineWatch,
    reader: SocketReader,
    sockets: Sockets,
    ports: u64,
    tracking: TrackingWatch,
}

impl Watcher {
    /// Starts counting.
    pub fn begin(networks: &Networks, window: Window) -> Result<Self> {
        let mut kernel = KernelWatch::begin(networks)?;
        kernel.expect(window);
        Ok(Self {
            kernel,
            machine: MachineWatch::begin()?,
            reader: SocketReader::open().context("opening /proc/self/net/sockstat")?,
            sockets: Sockets::default(),
            ports: 0,
            tracking: TrackingWatch::begin(networks, Side::Load)?,
        })
    }

    /// Reads counters if an edge of the window has been passed.
    pub fn pass(&mut self, now_ns: u64) -> Result<()> {
        self.kernel.pass(now_ns)
    }

    /// Samples sockets.
    pub fn sample(&mut self) -> Result<()> {
        let sockets = self.reader.read().context("reading /proc/self/net/sockstat")?;
        self.ports = self.ports.max((sockets.in_use + sockets.time_wait).max(sockets.udp));
        self.sockets.peak(&sockets);
        self.tracking.sample()
    }

    /// Ends with the load, whose loaders these were.
    pub fn end(mut self, accounts: &[LoaderAccount]) -> Result<Watched> {
        self.kernel.end_window()?;
        let loader = |account: &LoaderAccount| LoaderRow {
            cpu_user_ns: account.cpu.user_ns,
            cpu_system_ns: account.cpu.system_ns,
            ..LoaderRow::default()
        };
        let mut part = TrialRecord { loaders: accounts.iter().map(loader).collect(), ..TrialRecord::default() };
        self.kernel.end(&mut part)?;
        let available_ns = self.machine.end(&mut part)?;
        self.tracking.end(&mut part)?;
        Ok(Watched {
            network: Namespace::current()?.inode().context("reading /proc/self/ns/net")?,
            steal_share: part.cpu_steal_share,
            others_share: watch::others_share(&part, available_ns),
            kernel: part.kernel,
            kernel_measured: part.kernel_measured,
            sockets: self.sockets,
            ports: self.ports,
            conntrack: part.conntrack,
            rules: part.rules,
        })
    }
}

/// Adds what load hosts counted in networks of their own to a trial, whose ports are theirs.
pub fn add<'a>(networks: impl Iterator<Item = &'a Watched>, record: &mut TrialRecord) {
    let mut peaks: Option<(Sockets, u64)> = None;
    for watched in networks {
        let sums = [(&mut record.kernel, &watched.kernel), (&mut record.kernel_measured, &watched.kernel_measured)];
        for (sum, part) in sums {
            for (name, growth) in part {
                let sum = sum.entry(name.clone()).or_default();
                *sum = sum.saturating_add(*growth);
            }
        }
        let (sockets, ports) = peaks.get_or_insert_default();
        sockets.peak(&watched.sockets);
        *ports = (*ports).max(watched.ports);
        record.conntrack.extend(watched.conntrack.iter().cloned());
        record.rules.extend(watched.rules.iter().cloned());
    }
    if let Some((sockets, ports)) = peaks {
        (record.sockets_peak, record.ports_peak) = (sockets, ports);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_added_up_and_ports_are_those_of_the_host_with_the_most() {
        let watched = |retransmitted, ports| Watched {
            kernel: [("RetransSegs".to_owned(), retransmitted)].into(),
            kernel_measured: [("RetransSegs".to_owned(), 1)].into(),
            sockets: Sockets { in_use: ports, ..Sockets::default() },
            ports,
            ..Watched::default()
        };
        let server = || TrialRecord {
            kernel: [("ListenDrops".to_owned(), 3), ("RetransSegs".to_owned(), 4)].into(),
            ports_peak: 99,
            ..TrialRecord::default()
        };
        let mut record = server();
        add([watched(5, 10), watched(6, 20)].iter(), &mut record);
        assert_eq!(record.kernel, [("ListenDrops".to_owned(), 3), ("RetransSegs".to_owned(), 15)].into());
        assert_eq!(record.kernel_measured, [("RetransSegs".to_owned(), 2)].into());
        assert_eq!((record.ports_peak, record.sockets_peak.in_use), (20, 20));
        // Where all share the server's network, what was counted there is all.
        let mut record = server();
        add([].iter(), &mut record);
        assert_eq!((record.kernel["RetransSegs"], record.ports_peak), (4, 99));
    }
}
