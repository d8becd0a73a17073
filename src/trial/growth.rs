//! How memory grows with the number of open connections.

use anyhow::{Context, Result};

use crate::{observe::memory, record::Memory};

/// Fewest connections worth a reading: slabs also grow and shrink by themselves.
const LEAST_OPEN: u64 = 1_000;
/// While connections increase, memory is read again each time their number has grown by this factor: a reading takes longer the more
/// memory there is, half a second for a hundred processes that share a hundred megabytes.
const GROWN: f64 = 2.0;
/// The number of connections has reached its plateau once it grows from one sample to the next by no more than this factor.
const PLATEAU_RATIO: f64 = 1.005;

/// Memory before any connection was open, and when most were.
pub(super) struct MemoryWatch {
    loaders: Vec<i32>,
    workers: Vec<i32>,
    before: Bytes,
    open_last: u64,
    at_peak: Option<Memory>,
}

#[derive(Clone, Copy)]
struct Bytes {
    kernel: u64,
    loaders: u64,
    workers: u64,
    shared: u64,
}

impl MemoryWatch {
    pub fn begin(loaders: Vec<i32>, workers: Vec<i32>) -> Result<Self> {
        let before = Bytes::read(&loaders, &workers)?;
        Ok(Self { loaders, workers, before, open_last: 0, at_peak: None })
    }

    /// Reads memory if the number of open connections calls for it.
    pub fn look(&mut self, open: u64) -> Result<()> {
        let last = std::mem::replace(&mut self.open_last, open);
        let most = self.at_peak.map_or(0, |peak| peak.open);
        let grown = open as f64 >= GROWN * most as f64;
        let still = open as f64 <= PLATEAU_RATIO * last as f64;
        if open < LEAST_OPEN || open <= most || !(grown || still) {
            return Ok(());
        }
        let now = Bytes::read(&self.loaders, &self.workers)?;
        self.at_peak = Some(now.since(&self.before).at(open));
        Ok(())
    }

    /// Memory at the reading with the most connections.
    pub fn end(self) -> Option<Memory> {
        self.at_peak
    }
}

impl Bytes {
    fn read(loaders: &[i32], workers: &[i32]) -> Result<Self> {
        Ok(Self {
            kernel: memory::kernel_bytes().context("reading /proc/meminfo")?,
            loaders: memory::own_bytes(loaders),
            workers: memory::own_bytes(workers),
            shared: memory::shared_bytes().context("reading /proc/meminfo")?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            kernel: self.kernel.saturating_sub(before.kernel),
            loaders: self.loaders.saturating_sub(before.loaders),
            workers: self.workers.saturating_sub(before.workers),
            shared: self.shared.saturating_sub(before.shared),
        }
    }

    /// The record of this growth, with `open` connections open.
    fn at(&self, open: u64) -> Memory {
        let user_bytes = self.loaders + self.workers + self.shared;
        let per_connection = |bytes: u64| bytes as f64 / open as f64;
        Memory {
            open,
            kernel_bytes: self.kernel,
            user_bytes,
            loader_bytes: self.loaders,
            worker_bytes: self.workers,
            shared_bytes: self.shared,
            kernel_bytes_per_connection: per_connection(self.kernel),
            user_bytes_per_connection: per_connection(user_bytes),
            loader_bytes_per_connection: per_connection(self.loaders),
            worker_bytes_per_connection: per_connection(self.workers),
            shared_bytes_per_connection: per_connection(self.shared),
        }
    }
}
