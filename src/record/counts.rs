//! Histograms of the log, as their non-empty buckets. One of ours has tens of thousands of buckets, of which a trial fills a few hundred:
//! reading a record of many trials walks no others.
//!
//! What values a bucket is for is asked of the histogram crate, once for each range and precision.

use std::{
    cmp::Ordering,
    sync::{Arc, Mutex, PoisonError},
};

use hdrhistogram::Histogram;

/// The buckets of all histograms of a range and precision.
#[derive(Debug)]
struct Layout {
    lowest: u64,
    highest: u64,
    digits: u8,
    /// By bucket: the lowest and the highest of its values.
    buckets: Vec<(u64, u64)>,
}

impl Layout {
    /// `None` if no histogram can have these.
    fn new(lowest: u64, highest: u64, digits: u8) -> Option<Self> {
        let empty = Histogram::<u64>::new_with_bounds(lowest, highest, digits).ok()?;
        let values = |value| (empty.lowest_equivalent(value), empty.highest_equivalent(value));
        let buckets = empty.iter_all().map(|step| values(step.value_iterated_to())).collect();
        Some(Self { lowest, highest, digits, buckets })
    }

    fn is(&self, lowest: u64, highest: u64, digits: u8) -> bool {
        (self.lowest, self.highest, self.digits) == (lowest, highest, digits)
    }

    fn histogram(&self) -> Histogram<u64> {
        Histogram::new_with_bounds(self.lowest, self.highest, self.digits).expect("this one has been made before")
    }
}

/// The latest layout that was asked for: those of a log are nearly always the same.
static LATEST: Mutex<Option<Arc<Layout>>> = Mutex::new(None);

fn layout(lowest: u64, highest: u64, digits: u8) -> Option<Arc<Layout>> {
    let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = latest.as_ref().filter(|known| known.is(lowest, highest, digits)) {
        return Some(Arc::clone(known));
    }
    let new = Arc::new(Layout::new(lowest, highest, digits)?);
    *latest = Some(Arc::clone(&new));
    Some(new)
}

/// A histogram's non-empty buckets.
#[derive(Debug, Clone)]
pub struct Counts {
    layout: Arc<Layout>,
    /// Buckets and their counts, ascending.
    filled: Vec<(u32, u64)>,
    count: u64,
}

impl Counts {
    /// An empty histogram of a range and precision; `None` if no histogram can have these.
    pub(super) fn new(lowest: u64, highest: u64, digits: u8) -> Option<Self> {
        Some(Self { layout: layout(lowest, highest, digits)?, filled: Vec::new(), count: 0 })
    }

    /// Fills a bucket beyond all filled ones. Returns `None` if the histogram does not have it.
    pub(super) fn push(&mut self, bucket: usize, count: u64) -> Option<()> {
        if bucket >= self.layout.buckets.len() {
            return None;
        }
        self.filled.push((bucket as u32, count));
        self.count = self.count.saturating_add(count);
        Some(())
    }

    /// The number of values.
    pub fn len(&self) -> u64 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The lowest value; 0 of none.
    pub fn min(&self) -> u64 {
        self.filled.first().map_or(0, |(bucket, _)| self.layout.buckets[*bucket as usize].0)
    }

    /// The highest value; 0 of none.
    pub fn max(&self) -> u64 {
        self.filled.last().map_or(0, |(bucket, _)| self.layout.buckets[*bucket as usize].1)
    }

    /// The highest value of each filled bucket, and its count, ascending.
    pub fn recorded(&self) -> impl Iterator<Item = (u64, u64)> {
        self.filled.iter().map(|(bucket, count)| (self.layout.buckets[*bucket as usize].1, *count))
    }

    /// The value of this rank, counted from 1; 0 if there are not so many.
    pub(super) fn ranked(&self, rank: u64) -> u64 {
        let mut passed: u64 = 0;
        let reaches = |(_, count): &(u64, u64)| {
            passed = passed.saturating_add(*count);
            passed >= rank
        };
        self.recorded().find(reaches).map_or(0, |(value, _)| value)
    }

    /// Adds the values of another histogram, or nothing if they are beyond what this one can have.
    pub fn add(&mut self, other: &Self) {
        if Arc::ptr_eq(&self.layout, &other.layout) || other.layout.is_like(&self.layout) {
            self.merge(&other.filled);
        } else if self.layout.buckets.last().is_some_and(|(_, top)| other.max() <= *top) {
            let place = |(bucket, count): &(u32, u64)| {
                let (value, _) = other.layout.buckets[*bucket as usize];
                (self.layout.buckets.partition_point(|(_, highest)| *highest < value) as u32, *count)
            };
            let mut there: Vec<(u32, u64)> = other.filled.iter().map(place).collect();
            there.dedup_by(|later, one| {
                let same = later.0 == one.0;
                one.1 = if same { one.1.saturating_add(later.1) } else { one.1 };
                same
            });
            self.merge(&there);
        }
    }

    fn merge(&mut self, others: &[(u32, u64)]) {
        let ones = std::mem::take(&mut self.filled);
        let mut merged = Vec::with_capacity(ones.len() + others.len());
        let (mut ones, mut others) = (ones.into_iter().peekable(), others.iter().copied().peekable());
        while let (Some(one), Some(other)) = (ones.peek(), others.peek()) {
            match one.0.cmp(&other.0) {
                Ordering::Less => merged.extend(ones.next()),
                Ordering::Greater => {
                    self.count = self.count.saturating_add(other.1);
                    merged.extend(others.next());
                }
                Ordering::Equal => {
                    self.count = self.count.saturating_add(other.1);
                    merged.push((one.0, one.1.saturating_add(other.1)));
                    ones.next();
                    others.next();
                }
            }
        }
        merged.extend(ones);
        for other in others {
            self.count = self.count.saturating_add(other.1);
            merged.push(other);
        }
        self.filled = merged;
    }

    /// The same as a histogram.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = self.layout.histogram();
        self.add_to(&mut histogram);
        histogram
    }

    /// Adds the values to a histogram, as far as they are not beyond what it can have.
    pub fn add_to(&self, histogram: &mut Histogram<u64>) {
        for (value, count) in self.recorded() {
            if histogram.record_n(value, count).is_err() {
                return;
            }
        }
    }
}

impl Layout {
    /// Whether a bucket has the same values in both.
    fn is_like(&self, other: &Self) -> bool {
        (self.lowest, self.digits, self.buckets.len()) == (other.lowest, other.digits, other.buckets.len())
    }
}

impl PartialEq for Counts {
    fn eq(&self, other: &Self) -> bool {
        (self.layout.lowest, self.layout.digits) == (other.layout.lowest, other.layout.digits)
            && self.filled == other.filled
    }
}

#[cfg(test)]
impl Counts {
    /// Those of a histogram.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let mut counts = Self::new(histogram.low(), histogram.high(), histogram.sigfig()).unwrap();
        for (bucket, step) in histogram.iter_all().enumerate().filter(|(_, step)| step.count_at_value() > 0) {
            counts.push(bucket, step.count_at_value()).unwrap();
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::{super::value_at, *};

    fn histogram(values: impl IntoIterator<Item = u64>, digits: u8) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, digits).unwrap();
        values.into_iter().for_each(|value| histogram.record_n(value, 1 + value % 3).unwrap());
        histogram
    }

    #[test]
    fn all_is_as_the_histogram_says() {
        let [small, large] = [0..40, 30..2_000].map(|range| histogram(range.map(|i: u64| i * i * 977), 3));
        let none = histogram([], 3);
        for histogram in [&small, &large, &none] {
            let counts = Counts::of(histogram);
            assert_eq!(counts.layout.buckets.len(), histogram.distinct_values());
            assert_eq!((counts.len(), counts.is_empty()), (histogram.len(), histogram.is_empty()));
            assert_eq!((counts.min(), counts.max()), (histogram.min(), histogram.max()));
            assert_eq!(counts.histogram(), *histogram);
            let highest = |value| histogram.highest_equivalent(value);
            let recorded =
                histogram.iter_recorded().map(|step| (highest(step.value_iterated_to()), step.count_at_value()));
            assert!(counts.recorded().eq(recorded));
            for lost in [0, 1, 500] {
                for quantile in [0.001, 0.5, 0.9, 0.99, 0.999, 1.0] {
                    let expected = value_at(histogram, lost, quantile);
                    assert_eq!(counts.value_at(lost, quantile), expected, "{quantile} with {lost} lost");
                }
            }
        }
        let mut sum = Counts::of(&small);
        sum.add(&Counts::of(&large));
        let mut expected = small.clone();
        expected.add(&large).unwrap();
        assert_eq!((sum.histogram(), sum == Counts::of(&expected)), (expected, true));
        assert!(sum != Counts::of(&large));
    }

    #[test]
    fn histograms_of_other_ranges_are_added_by_value() {
        let (mut fine, coarse) = (histogram([5, 70_000], 3), histogram([6, 70_001, 900_000], 2));
        let mut sum = Counts::of(&fine);
        sum.add(&Counts::of(&coarse));
        fine.add(&coarse).unwrap();
        assert_eq!(sum.histogram(), fine);
        // Beyond a shorter range, all of it is left out.
        let mut short = Histogram::<u64>::new_with_bounds(1, 1_000, 3).unwrap();
        short.record(7).unwrap();
        let mut sum = Counts::of(&short);
        sum.add(&Counts::of(&coarse));
        assert!(short.add(&coarse).is_err());
        assert_eq!(sum.histogram(), short);
        assert!(Counts::new(0, 1_000, 3).is_none() && Counts::new(1, 1_000, 3).unwrap().push(1 << 20, 1).is_none());
    }
}
