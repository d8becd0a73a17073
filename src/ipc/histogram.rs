//! Histograms in shared memory. They are cheap to record into, survive a process that is killed, and can be read by others while it
//! counts.
//!
//! The buckets are those of HdrHistogram with three digits: values below 2,048 are exact, larger ones are kept to 1/1,024 of their
//! power of two or finer, so copying them into an HdrHistogram loses nothing.

use std::{
    io,
    sync::atomic::{
        AtomicU16, AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use crate::sys::shared::SharedSlice;

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

/// The smallest value of each bucket in use with its count.
pub fn counts(buckets: &[AtomicU64]) -> impl Iterator<Item = (u64, u64)> {
    in_use(buckets.iter().map(|bucket| bucket.load(Relaxed)))
}

fn in_use(counts: impl Iterator<Item = u64>) -> impl Iterator<Item = (u64, u64)> {
    counts.enumerate().filter(|(_, count)| *count > 0).map(|(index, count)| (lowest(index), count))
}

/// Number of values that a histogram lists before it counts further ones in buckets.
const FEW: usize = 512;
const _: () = assert!(BUCKETS <= 1 << u16::BITS);

/// Histograms of loaders, in shared memory, each with one writer. The kernel evicts a busy process's cache between any two connections,
/// so every cache line counts: recording here touches two or three, whereas a `Histogram` also updates extremes and totals in lines of
/// their own.
///
/// With many loaders and many workers, most histograms hold few values, each of which would touch its own page: the first values
/// therefore go into a list, two bytes each, until it is full.
///
/// Whatever a writer that dies leaves can be read: a value is counted by one store, the last one of its recording.
#[derive(Debug)]
pub struct SharedHistograms {
    /// By histogram: how many values its list holds.
    listed: SharedSlice<AtomicU32>,
    /// Bucket numbers of the first values, in order of arrival.
    few: SharedSlice<[AtomicU16; FEW]>,
    /// Numbers of further values.
    counts: SharedSlice<[AtomicU32; BUCKETS]>,
}

impl SharedHistograms {
    /// So many empty histograms.
    pub fn new(count: usize) -> io::Result<Self> {
        Ok(Self { listed: SharedSlice::new(count)?, few: SharedSlice::new(count)?, counts: SharedSlice::new(count)? })
    }

    /// Counts a value in the histogram of this number. The caller must be its only writer. A bucket's count stops at 2³² − 1.
    #[inline]
    pub fn record(&self, number: usize, value: u64) {
        let bucket = index(value);
        let listed = &self.listed[number];
        let length = listed.load(Relaxed);
        if let Some(place) = self.few[number].get(length as usize) {
            place.store(bucket as u16, Relaxed);
            listed.store(length + 1, Release);
        } else {
            let count = &self.counts[number][bucket];
            count.store(count.load(Relaxed).saturating_add(1), Relaxed);
        }
    }

    /// The smallest value of each bucket in use with its count. A value may come more than once.
    pub fn counts(&self, number: usize) -> impl Iterator<Item = (u64, u64)> {
        let listed = self.listed[number].load(Acquire) as usize;
        let few = self.few[number].iter().take(listed).map(|bucket| u64::from(bucket.load(Relaxed)));
        // Merely reading a page of shared memory allocates it.
        let further = if listed < FEW { &[] } else { &self.counts[number][..] };
        let further = in_use(further.iter().map(|count| u64::from(count.load(Relaxed))));
        few.map(|bucket| (lowest(bucket as usize), 1)).chain(further)
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    use super::*;
    use crate::record::Counts;

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
            let mut direct = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
            let (buckets, own) = (buckets(), SharedHistograms::new(2).unwrap());
            for value in values {
                record(&buckets, value);
                own.record(1, value);
                direct.record(value).unwrap();
            }
            let mut of_shared = Counts::new(1, 60_000_000_000, 3).unwrap();
            let mut of_own = of_shared.clone();
            of_shared.extend(counts(&buckets));
            of_own.extend(own.counts(1));
            prop_assert_eq!(own.counts(0).count(), 0);
            prop_assert_eq!(&of_shared, &Counts::of(&direct));
            prop_assert_eq!(&of_own, &Counts::of(&direct));
        }
    }

    #[test]
    fn a_value_that_its_writer_did_not_finish_is_not_there() {
        let histograms = SharedHistograms::new(1).unwrap();
        histograms.record(0, 7);
        // Killed before its last store.
        histograms.few[0][1].store(9, Relaxed);
        assert_eq!(histograms.counts(0).collect::<Vec<_>>(), [(7, 1)]);
    }
}
