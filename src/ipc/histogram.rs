//! Histograms that are cheap to record into. Those in shared memory survive a worker that is killed, and other processes can read
//! them while it counts; [`LocalHistogram`] belongs to one process.
//!
//! The buckets are those of HdrHistogram with three digits: values below 2,048 are exact, larger ones are kept to 1/1,024 of their
//! power of two or finer, so copying them into an HdrHistogram loses nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;

use crate::sys::pages::Pages;

/// Values of up to this many bits are exact: HdrHistogram's sub-buckets for three digits.
const EXACT_BITS: u32 = 11;
/// Larger values are recorded as this one: 2³⁶ − 1, above the 60 s in nanoseconds that records show.
const HIGHEST: u64 = (1 << 36) - 1;
/// Buckets of a histogram: 216 KiB, of which only touched pages use memory.
pub const BUCKETS: usize = index(HIGHEST) + 1;

/// The bucket of a value.
#[inline]
const fn index(value: u64) -> usize {
    let value = if value > HIGHEST { HIGHEST } else { value };
    let bits = u64::BITS - value.leading_zeros();
    let shift = bits.saturating_sub(EXACT_BITS);
    // Each power of two beyond the exact ones has half of the sub-buckets, the lower half being the previous power's.
    ((shift as usize) << (EXACT_BITS - 1)) + (value >> shift) as usize
}

/// The smallest value of a bucket.
const fn lowest(index: usize) -> u64 {
    let half = 1 << (EXACT_BITS - 1);
    if index < 2 * half {
        return index as u64;
    }
    let shift = index / half - 1;
    ((index - shift * half) as u64) << shift
}

/// Counts a value. The caller must be the only writer of these buckets.
#[inline]
pub fn record(buckets: &[AtomicU64], value: u64) {
    let bucket = &buckets[index(value)];
    bucket.store(bucket.load(Relaxed) + 1, Relaxed);
}

/// Adds the buckets' values to a histogram. Values beyond its range count as its largest.
pub fn add_to(buckets: &[AtomicU64], histogram: &mut Histogram<u64>) {
    add(buckets.iter().map(|bucket| bucket.load(Relaxed)), histogram);
}

fn add(counts: impl Iterator<Item = u64>, histogram: &mut Histogram<u64>) {
    for (index, count) in counts.enumerate().filter(|(_, count)| *count > 0) {
        histogram.saturating_record_n(lowest(index), count);
    }
}

/// Number of values that a local histogram keeps individually before it counts them in buckets.
const FEW: usize = 512;
const _: () = assert!(BUCKETS <= 1 << u16::BITS);

/// A histogram of one process. The kernel evicts a busy process's cache between any two connections, so every cache line counts:
/// recording here touches one or two, whereas a `Histogram` also updates extremes and totals in lines of their own.
///
/// With many loaders and many workers, most histograms hold few values, each of which would touch its own page: the first values
/// therefore go into a list, two bytes each, until it is full.
#[derive(Debug)]
pub struct LocalHistogram {
    /// Bucket numbers of the first values, in order of arrival; empty once they are counted.
    few: Vec<u16>,
    counts: Pages,
    counting: bool,
}

impl LocalHistogram {
    /// An empty histogram. Panics if there is no address space left.
    pub fn new() -> Self {
        let counts = Pages::zeroed(BUCKETS).expect("mapping a histogram's buckets");
        Self { few: Vec::with_capacity(FEW), counts, counting: false }
    }

    /// Counts a value. A bucket's count stops at 2³² − 1.
    #[inline]
    pub fn record(&mut self, value: u64) {
        let bucket = index(value);
        if self.counting {
            self.count(bucket);
        } else {
            self.list(bucket);
        }
    }

    #[inline]
    fn count(&mut self, bucket: usize) {
        let count = &mut self.counts[bucket];
        *count = count.saturating_add(1);
    }

    fn list(&mut self, bucket: usize) {
        if self.few.len() < FEW {
            self.few.push(bucket as u16);
            return;
        }
        self.counting = true;
        for first in std::mem::take(&mut self.few) {
            self.count(usize::from(first));
        }
        self.count(bucket);
    }

    /// Adds its values to a histogram. Values beyond its range count as its largest.
    pub fn add_to(&self, histogram: &mut Histogram<u64>) {
        for bucket in &self.few {
            histogram.saturating_record(lowest(usize::from(*bucket)));
        }
        if self.counting {
            add(self.counts.iter().map(|count| u64::from(*count)), histogram);
        }
    }
}

impl Default for LocalHistogram {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buckets() -> Vec<AtomicU64> {
        (0..BUCKETS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn every_bucket_begins_where_it_says() {
        for bucket in 0..BUCKETS {
            assert_eq!(index(lowest(bucket)), bucket);
            assert!(bucket == 0 || index(lowest(bucket) - 1) == bucket - 1, "{bucket}");
        }
    }

    proptest! {
        #[test]
        fn copying_preserves_the_recorded_values(values in prop::collection::vec(1u64..60_000_000_000, 1..3 * FEW)) {
            let empty = || Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
            let (buckets, mut own, mut direct) = (buckets(), LocalHistogram::new(), empty());
            for value in values {
                record(&buckets, value);
                own.record(value);
                direct.record(value).unwrap();
            }
            let (mut of_shared, mut of_own) = (empty(), empty());
            add_to(&buckets, &mut of_shared);
            own.add_to(&mut of_own);
            prop_assert_eq!(&of_shared, &direct);
            prop_assert_eq!(&of_own, &direct);
            // Equality of histograms ignores these.
            let figures = |of: &Histogram<u64>| (of.len(), of.min(), of.max(), of.mean().to_bits());
            prop_assert_eq!(figures(&of_shared), figures(&direct));
            prop_assert_eq!(figures(&of_own), figures(&direct));
        }
    }
}
