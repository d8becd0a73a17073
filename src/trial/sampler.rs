//! Samples of a trial's course: accepts, open connections and queue lengths, every 100 ms.

use std::{collections::HashMap, sync::Arc};

use crate::{
    ipc::control::{Control, Count},
    observe::queues::{Queue, QueueReader},
    record::Series,
};

/// Distance of samples, in milliseconds.
pub(super) const INTERVAL_MS: u64 = 100;
/// A trial of more samples keeps the first ones: a record's size has a bound.
const ROWS_LIMIT: usize = 36_000;

pub(super) struct Sampler {
    control: Arc<Control>,
    queues: QueueReader,
    inodes: Vec<u32>,
    accepted_before: Vec<u64>,
    series: Series,
    /// By worker: longest queue seen, and the limit.
    peaks: Vec<Queue>,
}

impl Sampler {
    pub(super) fn new(control: &Arc<Control>, queues: QueueReader, inodes: &[u32]) -> Self {
        Self {
            control: Arc::clone(control),
            queues,
            inodes: inodes.to_vec(),
            accepted_before: vec![0; inodes.len()],
            series: Series { interval_ms: INTERVAL_MS, ..Series::default() },
            peaks: vec![Queue::default(); inodes.len()],
        }
    }

    /// Takes a row. Returns the queues by listener.
    pub(super) fn sample(&mut self) -> anyhow::Result<HashMap<u32, Queue>> {
        let queues = self.queues.read()?;
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
        if self.series.accepted.len() < ROWS_LIMIT {
            self.series.accepted.push(accepted);
            self.series.queue_depth.push(depths);
            self.series.open.push(open);
        }
        Ok(queues)
    }

    pub(super) fn finish(self) -> (Series, Vec<Queue>) {
        (self.series, self.peaks)
    }
}
