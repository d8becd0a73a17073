//! How memory grows with the number of open connections.

use anyhow::{Context, Result};

use crate::{observe::memory, record::Memory};

/// Fewer connections say nothing: slabs grow and shrink by themselves.
const LEAST_OPEN: u64 = 1_000;
/// While the number grows, memory is looked at again when it is so many times what it was: looking takes the longer the more
/// there is, half a second for a hundred processes that share a hundred megabytes.
const GROWN: f64 = 2.0;
/// It has come to its height where a sample finds it so many times what the last one did, or less.
const STILL: f64 = 1.005;

/// Memory when most connections were open, and before any was.
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

    /// So many connections are open.
    pub fn look(&mut self, open: u64) -> Result<()> {
        let last = std::mem::replace(&mut self.open_last, open);
        let most = self.at_peak.map_or(0, |peak| peak.open);
        let grown = open as f64 >= GROWN * most as f64;
        let still = open as f64 <= STILL * last as f64;
        if open < LEAST_OPEN || open <= most || !(grown || still) {
            return Ok(());
        }
        let now = Bytes::read(&self.loaders, &self.workers)?;
        self.at_peak = Some(now.since(&self.before).at(open));
        Ok(())
    }

    /// At the sample with the most connections of those that were looked at.
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

    /// As records have it, with so many connections open.
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
