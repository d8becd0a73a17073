//! Samples of a trial's course: accepts, open connections and queue lengths, every 100 ms.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use anyhow::{Context, Result};

use crate::{
    ipc::control::{Control, Count},
    observe::{
        counters::{SocketReader, Sockets},
        queues::{Queue, QueueReader},
    },
    record::Series,
    scenario::CloseBy,
};

/// Distance of samples, in milliseconds.
pub(super) const INTERVAL_MS: u64 = 100;
/// A trial with more samples times workers keeps the first ones: a record's size has a bound.
const CELLS_LIMIT: usize = 1_000_000;

pub(super) struct Sampler {
    control: Arc<Control>,
    queues: QueueReader,
    inodes: Vec<u32>,
    accepted_before: Vec<u64>,
    series: Series,
    /// By worker: longest queue seen, and the limit.
    peaks: Vec<Queue>,
    listeners: u64,
    clients: Clients,
    ports_peak: u64,
}

/// Where the ports that clients take are counted.
pub(super) struct Clients {
    /// The sockets of the loaders' network namespace.
    pub sockets: SocketReader,
    /// Whether the server is in the same, so that its sockets are among them.
    pub with_server: bool,
    /// Who closes first, and so has TIME_WAIT on its side.
    pub close_by: CloseBy,
}

impl Clients {
    /// Ports taken, with so many of the server's listeners.
    fn ports_taken(&self, sockets: Sockets, listeners: u64) -> u64 {
        if !self.with_server {
            return sockets.in_use + sockets.time_wait;
        }
        // On loopback both ends are in use, and listeners besides.
        let held = sockets.in_use.saturating_sub(listeners) / 2;
        // TIME_WAIT takes a port on the clients' side only.
        held + if self.close_by == CloseBy::Client { sockets.time_wait } else { 0 }
    }
}

/// All samples of a trial.
pub(super) struct Samples {
    pub series: Series,
    /// By worker: the longest queue of its listener, and the limit.
    pub queue_peaks: Vec<Queue>,
    /// The most ports taken.
    pub ports_peak: u64,
}

impl Sampler {
    pub(super) fn new(control: &Arc<Control>, queues: QueueReader, inodes: &[u32], clients: Clients) -> Self {
        Self {
            control: Arc::clone(control),
            queues,
            inodes: inodes.to_vec(),
            accepted_before: vec![0; inodes.len()],
            series: Series { interval_ms: INTERVAL_MS, ..Series::default() },
            peaks: vec![Queue::default(); inodes.len()],
            listeners: inodes.iter().collect::<HashSet<_>>().len() as u64,
            clients,
            ports_peak: 0,
        }
    }

    /// Takes a row. Returns the queues by listener.
    pub(super) fn sample(&mut self) -> Result<HashMap<u32, Queue>> {
        let queues = self.queues.read()?;
        let sockets = self.clients.sockets.read().context("reading /proc/self/net/sockstat")?;
        self.ports_peak = self.ports_peak.max(self.clients.ports_taken(sockets, self.listeners));
        let mut depths = Vec::with_capacity(self.inodes.len());
        for (inode, peak) in self.inodes.iter().zip(&mut self.peaks) {
            let queue = queues.get(inode).copied().unwrap_or_default();
            depths.push(u64::from(queue.length));
            peak.length = peak.length.max(queue.length);
            peak.limit = peak.limit.max(queue.limit);
        }
        let mut accepted = Vec::with_capacity(self.inodes.len());
        let mut open = Vec::with_capacity(self.inodes.len());
        for (worker, before) in self.accepted_before.iter_mut().enumerate() {
            let now = self.control.count(worker, Count::Accepted);
            accepted.push(now - *before);
            *before = now;
            open.push(self.control.count(worker, Count::Open));
        }
        if self.series.accepted.len() * self.inodes.len() < CELLS_LIMIT {
            self.series.accepted.push(accepted);
            self.series.queue_depth.push(depths);
            self.series.open.push(open);
        }
        Ok(queues)
    }

    pub(super) fn finish(self) -> Samples {
        Samples { series: self.series, queue_peaks: self.peaks, ports_peak: self.ports_peak }
    }
}
