//! Histograms as their non-empty buckets. One of ours has tens of thousands of buckets, of which a trial fills a few hundred: whatever is
//! done with a trial's histograms once they are recorded walks no others.

use hdrhistogram::Histogram;

/// The buckets of all histograms of a range and precision: those of HdrHistogram. The first row of `2 × half` buckets is for whole units;
/// each later row has half as many, twice as wide as those before them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub lowest: u64,
    pub highest: u64,
    pub digits: u8,
    /// log₂ of the unit.
    unit: u32,
    /// log₂ of half.
    half: u32,
    /// The number of buckets.
    buckets: u32,
}

impl Layout {
    /// `None` if no histogram can have these.
    fn new(lowest: u64, highest: u64, digits: u8) -> Option<Self> {
        if digits > 5 || highest < lowest.checked_mul(2)? {
            return None;
        }
        let unit = lowest.checked_ilog2()?;
        // As many as tell apart all numbers of so many digits, the first of which is 1.
        let half = (2 * 10_u32.pow(digits.into())).next_power_of_two().ilog2() - 1;
        if unit + half + 1 > 63 {
            return None;
        }
        let rows_beyond_first = (u64::BITS - (highest >> unit >> half).leading_zeros()).saturating_sub(1);
        Some(Self { lowest, highest, digits, unit, half, buckets: (rows_beyond_first + 2) << half })
    }

    /// The lowest and the highest value of a bucket.
    fn values(&self, bucket: u32) -> (u64, u64) {
        let row = (bucket >> self.half).saturating_sub(1);
        let from = u64::from(bucket - (row << self.half)) << (row + self.unit);
        (from, from + ((1 << (row + self.unit)) - 1))
    }

    /// The bucket of a value; `None` if it is beyond all.
    fn bucket(&self, value: u64) -> Option<u32> {
        let units = value >> self.unit;
        let row = (u64::BITS - (units >> self.half).leading_zeros()).saturating_sub(1);
        let bucket = (u64::from(row) << self.half) + (units >> row);
        u32::try_from(bucket).ok().filter(|bucket| *bucket < self.buckets)
    }

    /// Whether a bucket has the same values in both, if both have it.
    fn is_like(&self, other: &Self) -> bool {
        (self.unit, self.half) == (other.unit, other.half)
    }
}

/// A histogram's non-empty buckets.
#[derive(Debug, Clone)]
pub struct Counts {
    layout: Layout,
    /// Buckets and their counts, ascending.
    filled: Vec<(u32, u64)>,
    count: u64,
}

impl Counts {
    /// An empty histogram of a range and precision; `None` if no histogram can have these.
    pub fn new(lowest: u64, highest: u64, digits: u8) -> Option<Self> {
        Some(Self { layout: Layout::new(lowest, highest, digits)?, filled: Vec::new(), count: 0 })
    }

    /// The values of a histogram.
    #[cfg(test)]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let none = Self::new(histogram.low(), histogram.high(), histogram.sigfig());
        let mut counts = none.expect("the range and precision of a histogram");
        counts.extend(histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())));
        counts
    }

    /// Adds values in any order, each with how often it came. Values beyond the last bucket count as those in it.
    pub fn extend(&mut self, values: impl Iterator<Item = (u64, u64)>) {
        let last = self.layout.buckets - 1;
        let mut filled: Vec<(u32, u64)> =
            values.map(|(value, count)| (self.layout.bucket(value).unwrap_or(last), count)).collect();
        filled.sort_unstable_by_key(|(bucket, _)| *bucket);
        self.merge(&merged(filled));
    }

    /// Fills a bucket beyond all filled ones. Returns `None` if the histogram does not have it.
    pub(super) fn push(&mut self, bucket: usize, count: u64) -> Option<()> {
        let bucket = u32::try_from(bucket).ok().filter(|bucket| *bucket < self.layout.buckets)?;
        self.filled.push((bucket, count));
        self.count = self.count.saturating_add(count);
        Some(())
    }

    /// The range and precision.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The filled buckets and their counts, ascending.
    pub(super) fn filled(&self) -> &[(u32, u64)] {
        &self.filled
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
        self.filled.first().map_or(0, |(bucket, _)| self.layout.values(*bucket).0)
    }

    /// The highest value; 0 of none.
    pub fn max(&self) -> u64 {
        self.filled.last().map_or(0, |(bucket, _)| self.layout.values(*bucket).1)
    }

    /// The mean, each value counting as the middle of its bucket; 0 of none.
    pub fn mean(&self) -> f64 {
        let share = |(bucket, count): &(u32, u64)| {
            let (from, to) = self.layout.values(*bucket);
            (from + (to - from).div_ceil(2)) as f64 * *count as f64 / self.count as f64
        };
        self.filled.iter().map(share).fold(0.0, |sum, share| sum + share)
    }

    /// The highest value of each filled bucket, and its count, ascending.
    pub fn recorded(&self) -> impl Iterator<Item = (u64, u64)> {
        self.filled.iter().map(|(bucket, count)| (self.layout.values(*bucket).1, *count))
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
        if self.layout.bucket(other.max()).is_none() {
            return;
        }
        if self.layout.is_like(&other.layout) {
            self.merge(&other.filled);
        } else {
            let place =
                |(bucket, count): &(u32, u64)| Some((self.layout.bucket(other.layout.values(*bucket).0)?, *count));
            self.merge(&merged(other.filled.iter().filter_map(place).collect()));
        }
    }

    /// The values that came since an earlier state of the same histogram.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut before = earlier.filled.iter().copied().peekable();
        let mut since = Self { layout: self.layout, filled: Vec::new(), count: 0 };
        for (bucket, count) in &self.filled {
            while before.next_if(|(other, _)| other < bucket).is_some() {}
            let had = before.next_if(|(other, _)| other == bucket).map_or(0, |(_, had)| had);
            if *count > had {
                since.filled.push((*bucket, count - had));
                since.count = since.count.saturating_add(count - had);
            }
        }
        since
    }

    /// How many values are in the bucket of this value or in lower ones.
    pub fn up_to(&self, value: u64) -> u64 {
        let last = self.layout.bucket(value).unwrap_or(u32::MAX);
        self.filled.iter().take_while(|(bucket, _)| *bucket <= last).map(|(_, count)| count).sum()
    }

    /// Adds buckets, which ascend.
    fn merge(&mut self, others: &[(u32, u64)]) {
        // The place of each bucket that is new, among those known before.
        let mut new = Vec::new();
        let mut passed = 0;
        for (bucket, count) in others {
            self.count = self.count.saturating_add(*count);
            // A trial's few are looked up among a sum's thousands, most of which stay as they are.
            match self.filled[passed..].binary_search_by_key(bucket, |(bucket, _)| *bucket) {
                Ok(at) => {
                    passed += at;
                    let of_both = &mut self.filled[passed].1;
                    *of_both = of_both.saturating_add(*count);
                }
                Err(at) => {
                    passed += at;
                    new.push((passed, (*bucket, *count)));
                }
            }
        }
        let mut end = self.filled.len();
        self.filled.resize(end + new.len(), (0, 0));
        // From the last one: what follows a new bucket moves by as many places as there are new ones up to it.
        for (before, (at, one)) in new.into_iter().enumerate().rev() {
            self.filled.copy_within(at..end, at + before + 1);
            self.filled[at + before] = one;
            end = at;
        }
    }

    /// The same as a histogram.
    pub fn histogram(&self) -> Histogram<u64> {
        let Layout { lowest, highest, digits, .. } = self.layout;
        let mut histogram = Histogram::new_with_bounds(lowest, highest, digits).expect("as this one");
        for (value, count) in self.recorded() {
            histogram.record_n(value, count).expect("a value of a bucket that it has");
        }
        histogram
    }
}

/// Ascending buckets, each once.
fn merged(mut ascending: Vec<(u32, u64)>) -> Vec<(u32, u64)> {
    ascending.dedup_by(|later, one| {
        let same = later.0 == one.0;
        one.1 = if same { one.1.saturating_add(later.1) } else { one.1 };
        same
    });
    ascending
}

impl PartialEq for Counts {
    fn eq(&self, other: &Self) -> bool {
        (self.layout.lowest, self.layout.digits) == (other.layout.lowest, other.layout.digits)
            && self.filled == other.filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(counts.layout.buckets as usize, histogram.distinct_values());
            assert_eq!((counts.len(), counts.is_empty()), (histogram.len(), histogram.is_empty()));
            assert_eq!((counts.min(), counts.max()), (histogram.min(), histogram.max()));
            assert_eq!(counts.mean().to_bits(), histogram.mean().to_bits());
            assert_eq!(counts.histogram(), *histogram);
            let highest = |value| histogram.highest_equivalent(value);
            let recorded =
                histogram.iter_recorded().map(|step| (highest(step.value_iterated_to()), step.count_at_value()));
            assert!(counts.recorded().eq(recorded));
            for quantile in [0.001, 0.5, 0.9, 0.99, 0.999, 1.0] {
                let expected = (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile));
                assert_eq!(counts.value_at(0, quantile), expected, "{quantile}");
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
    fn buckets_are_those_of_the_histogram_crate() {
        for (lowest, highest, digits) in [
            (1, 60_000_000_000, 3),
            (1, 60_000_000_000, 2),
            (1, 2, 0),
            (1_000, 1 << 42, 1),
            (3, 6, 5),
            (7, u64::MAX, 4),
        ] {
            let histogram = Histogram::<u64>::new_with_bounds(lowest, highest, digits).unwrap();
            let layout = Layout::new(lowest, highest, digits).unwrap();
            assert_eq!(layout.buckets as usize, histogram.distinct_values(), "{lowest} {highest} {digits}");
            for bucket in (0..layout.buckets).step_by(if digits > 3 { 997 } else { 1 }) {
                let (from, to) = layout.values(bucket);
                assert_eq!([layout.bucket(from), layout.bucket(to)], [Some(bucket); 2]);
                assert_eq!((histogram.lowest_equivalent(to), histogram.highest_equivalent(from)), (from, to));
            }
            let last = layout.values(layout.buckets - 1).1;
            assert!(last >= highest && last.checked_add(1).is_none_or(|beyond| layout.bucket(beyond).is_none()));
        }
        for (lowest, highest, digits) in
            [(0, 10, 3), (1, 1, 3), (1, 10, 6), (1 << 60, u64::MAX, 5), (u64::MAX, u64::MAX, 3)]
        {
            let known = Histogram::<u64>::new_with_bounds(lowest, highest, digits).is_ok();
            assert_eq!(Layout::new(lowest, highest, digits).is_some(), known, "{lowest} {highest} {digits}");
        }
    }

    #[test]
    fn what_came_since_is_the_difference() {
        let (before, now) = (histogram([5, 9, 70_000], 3), histogram([5, 9, 70_000, 5, 7, 9_000_000], 3));
        let mut expected = now.clone();
        expected.subtract(&before).unwrap();
        let [before, now] = [before, now].map(|one| Counts::of(&one));
        assert_eq!(now.since(&before), Counts::of(&expected));
        assert!(now.since(&now).is_empty() && now.since(&Counts::of(&histogram([], 3))) == now);
        for value in [0, 4, 5, 9, 70_010, u64::MAX] {
            assert_eq!(now.up_to(value), now.histogram().count_between(0, value), "{value}");
        }
    }

    #[test]
    fn values_come_in_any_order_and_more_than_once() {
        let mut counts = Counts::new(1, 1_000, 3).unwrap();
        counts.extend([(9, 2), (3, 1), (9, 4), (u64::MAX, 1)].into_iter());
        counts.extend([(3, 1), (700, 1)].into_iter());
        assert_eq!(counts.recorded().collect::<Vec<_>>(), [(3, 2), (9, 6), (700, 1), (2_047, 1)]);
        assert_eq!(counts.len(), 10);
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
