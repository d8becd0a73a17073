//! Samples of a trial's course: accepts, open connections and queue lengths, every 100 ms.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use anyhow::{Context, Result};

use super::crew::Crew;
use crate::{
    ipc::control::{Control, Count},
    observe::{
        counters::{SocketReader, Sockets},
        datagrams::{self, DatagramQueue},
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
    datagram_inodes: Vec<u32>,
    accepted_before: Vec<u64>,
    datagrams_before: Vec<u64>,
    series: Series,
    /// By worker: longest queue seen, and the limit.
    peaks: Vec<Queue>,
    /// By worker: the most bytes seen, and the losses as last seen.
    datagram_queues: Vec<DatagramQueue>,
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
    /// By worker, without datagrams none: the fullest buffer of its socket, and the losses.
    pub datagram_queues: Vec<DatagramQueue>,
    /// Losses of all sockets of datagrams together.
    pub datagrams_lost: u64,
    /// The most ports taken.
    pub ports_peak: u64,
}

impl Sampler {
    pub(super) fn new(control: &Arc<Control>, queues: QueueReader, crew: &Crew, clients: Clients) -> Self {
        let workers = control.workers();
        Self {
            control: Arc::clone(control),
            queues,
            inodes: crew.inodes().to_vec(),
            datagram_inodes: crew.datagram_inodes().to_vec(),
            accepted_before: vec![0; workers],
            datagrams_before: vec![0; workers],
            series: Series { interval_ms: INTERVAL_MS, ..Series::default() },
            peaks: vec![Queue::default(); workers],
            datagram_queues: vec![DatagramQueue::default(); crew.datagram_inodes().len()],
            listeners: crew.inodes().iter().collect::<HashSet<_>>().len() as u64,
            clients,
            ports_peak: 0,
        }
    }

    /// Takes a row.
    pub(super) fn sample(&mut self) -> Result<()> {
        self.sample_ports()?;
        let depths = self.sample_queues()?;
        let bytes = self.sample_datagram_queues()?;
        let accepted = growth(&self.control, Count::Accepted, &mut self.accepted_before);
        let datagrams = growth(&self.control, Count::Datagrams, &mut self.datagrams_before);
        if self.series.accepted.len() * self.control.workers() >= CELLS_LIMIT {
            return Ok(());
        }
        let open = (0..self.control.workers()).map(|worker| self.control.count(worker, Count::Open));
        self.series.accepted.push(accepted);
        self.series.queue_depth.push(depths);
        self.series.open.push(open.collect());
        if !self.datagram_inodes.is_empty() {
            self.series.datagrams.push(datagrams);
            self.series.receive_queue_bytes.push(bytes);
        }
        Ok(())
    }

    fn sample_ports(&mut self) -> Result<()> {
        let sockets = self.clients.sockets.read().context("reading /proc/self/net/sockstat")?;
        self.ports_peak = self.ports_peak.max(self.clients.ports_taken(sockets, self.listeners));
        Ok(())
    }

    /// The queues' lengths by worker.
    fn sample_queues(&mut self) -> Result<Vec<u64>> {
        let mut depths = vec![0; self.control.workers()];
        if self.inodes.is_empty() {
            return Ok(depths);
        }
        let queues = self.queues.read()?;
        for ((inode, peak), depth) in self.inodes.iter().zip(&mut self.peaks).zip(&mut depths) {
            let queue = queues.get(inode).copied().unwrap_or_default();
            *depth = u64::from(queue.length);
            peak.length = peak.length.max(queue.length);
            peak.limit = peak.limit.max(queue.limit);
        }
        Ok(depths)
    }

    /// The bytes in sockets of datagrams by worker.
    fn sample_datagram_queues(&mut self) -> Result<Vec<u64>> {
        if self.datagram_inodes.is_empty() {
            return Ok(Vec::new());
        }
        let sockets = datagrams::read().context("reading /proc/self/net/udp")?;
        let rows = self.datagram_inodes.iter().zip(&mut self.datagram_queues).map(|(inode, seen)| {
            // A dead worker's socket is gone, and what it lost has been seen.
            let now = sockets.get(inode).copied().unwrap_or(DatagramQueue { bytes: 0, lost: seen.lost });
            *seen = DatagramQueue { bytes: seen.bytes.max(now.bytes), lost: now.lost };
            now.bytes
        });
        Ok(rows.collect())
    }

    /// Connections waiting in all queues together; workers that share a listener share its queue.
    pub(super) fn waiting(&mut self) -> Result<u64> {
        if self.inodes.is_empty() {
            return Ok(0);
        }
        let queues = self.queues.read()?;
        let waiting = queues.iter().filter(|(inode, _)| self.inodes.contains(inode));
        Ok(waiting.map(|(_, queue)| u64::from(queue.length)).sum())
    }

    /// The length of the queue of a worker's listener now; 0 where it has none any more.
    pub(super) fn queue_of(&mut self, worker: usize) -> Result<u64> {
        let queues = self.queues.read()?;
        let queue = self.inodes.get(worker).and_then(|inode| queues.get(inode));
        Ok(queue.map_or(0, |queue| u64::from(queue.length)))
    }

    pub(super) fn finish(self) -> Samples {
        let lost: HashMap<u32, u64> =
            self.datagram_inodes.iter().copied().zip(self.datagram_queues.iter().map(|queue| queue.lost)).collect();
        Samples {
            series: self.series,
            queue_peaks: self.peaks,
            datagram_queues: self.datagram_queues,
            datagrams_lost: lost.values().sum(),
            ports_peak: self.ports_peak,
        }
    }
}

/// What a counter of each worker has grown by since it was last looked at.
fn growth(control: &Control, count: Count, before: &mut [u64]) -> Vec<u64> {
    let grown = before.iter_mut().enumerate().map(|(worker, before)| {
        let now = control.count(worker, count);
        now - std::mem::replace(before, now)
    });
    grown.collect()
}
