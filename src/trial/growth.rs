//! How memory grows with the number of open connections.

use anyhow::{Context, Result};

use crate::{
    observe::{
        memory,
        slabs::{self, Caches},
    },
    record::{Memory, SlabGrowth},
};

/// Fewest connections worth a reading: slabs also grow and shrink by themselves. A load that has fewer open at once is not watched at all:
/// one reading takes longer than the rest of a short trial's set-up.
pub(super) const LEAST_OPEN: u64 = 1_000;
/// While connections increase, memory is read again each time their number has grown by this factor: a reading takes longer the more
/// memory there is, half a second for a hundred processes that share a hundred megabytes.
const GROWN: f64 = 2.0;
/// The number of connections has reached its plateau once it grows from one sample to the next by no more than this factor.
const PLATEAU_RATIO: f64 = 1.005;
/// Caches that grew by fewer bytes per connection are not told apart: others use them, too.
const LEAST_BYTES_PER_CONNECTION: u64 = 8;

/// Memory before any connection was open, and when most were.
pub(super) struct MemoryWatch {
    loaders: Vec<i32>,
    workers: Vec<i32>,
    before: Bytes,
    caches_before: Caches,
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
        let caches_before = slabs::caches();
        let before = Bytes::read(&caches_before, &loaders, &workers)?;
        Ok(Self { loaders, workers, before, caches_before, open_last: 0, at_peak: None })
    }

    /// Reads memory if the number of open connections calls for it.
    pub fn look(&mut self, open: u64) -> Result<()> {
        let last = std::mem::replace(&mut self.open_last, open);
        let most = self.at_peak.as_ref().map_or(0, |peak| peak.open);
        let grown = open as f64 >= GROWN * most as f64;
        let still = open as f64 <= PLATEAU_RATIO * last as f64;
        if open < LEAST_OPEN || open <= most || !(grown || still) {
            return Ok(());
        }
        let caches = slabs::caches();
        let now = Bytes::read(&caches, &self.loaders, &self.workers)?;
        let slabs = told_apart(&self.caches_before, &caches, open * LEAST_BYTES_PER_CONNECTION);
        self.at_peak = Some(Memory { slabs, ..now.since(&self.before).at(open) });
        Ok(())
    }

    /// Memory at the reading with the most connections.
    pub fn end(self) -> Option<Memory> {
        let mut peak = self.at_peak?;
        for slab in &mut peak.slabs {
            slab.merged = slabs::merged(&slab.cache);
        }
        Some(peak)
    }
}

/// The caches that grew by at least so many bytes, the largest growth first. Inodes of /proc belong to whoever looked.
fn told_apart(before: &Caches, now: &Caches, least_bytes: u64) -> Vec<SlabGrowth> {
    let growth = |(name, now): (&String, &slabs::Cache)| {
        let before = before.get(name).copied().unwrap_or_default();
        SlabGrowth {
            cache: name.clone(),
            merged: Vec::new(),
            objects: now.objects.saturating_sub(before.objects),
            bytes: now.bytes.saturating_sub(before.bytes),
        }
    };
    let mut grown: Vec<SlabGrowth> = now
        .iter()
        .filter(|(name, _)| *name != slabs::LOOKED_UP)
        .map(growth)
        .filter(|one| one.bytes >= least_bytes)
        .collect();
    grown.sort_by_key(|one| std::cmp::Reverse(one.bytes));
    grown
}

impl Bytes {
    fn read(caches: &Caches, loaders: &[i32], workers: &[i32]) -> Result<Self> {
        Ok(Self {
            kernel: memory::kernel_bytes(caches).context("reading /proc/meminfo")?,
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
            slabs: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::slabs::Cache;

    #[test]
    fn caches_that_grew_are_told_apart() {
        let of = |caches: &[(&str, u64)]| -> Caches {
            let cache = |bytes: u64| Cache { objects: bytes / 10, object_bytes: 10, bytes };
            caches.iter().map(|(name, bytes)| ((*name).to_owned(), cache(*bytes))).collect()
        };
        let before = of(&[("TCP", 1_000), ("filp", 500), ("dentry", 900), (slabs::LOOKED_UP, 0)]);
        let now = of(&[("TCP", 9_000), ("filp", 1_499), ("dentry", 100), ("new", 1_000), (slabs::LOOKED_UP, 9_999)]);
        let grown: Vec<(String, u64, u64)> =
            told_apart(&before, &now, 1_000).into_iter().map(|one| (one.cache, one.objects, one.bytes)).collect();
        assert_eq!(grown, [("TCP".to_owned(), 800, 8_000), ("new".to_owned(), 100, 1_000)]);
    }
}
