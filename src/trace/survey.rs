//! What a trace is like: its rate over time, how bursty it is, and the gaps between its starts, in memory that does not grow with it.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{SECOND_NS, Schedule};

/// The lengths of the windows in which starts are counted.
const WINDOWS: [Duration; 6] = [
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// Windows that are needed to tell how much their counts vary.
const LEAST_WINDOWS: u64 = 10;

/// The percentiles of gaps.
const PERCENTILES: [f64; 7] = [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 99.0];

/// Significant digits of gaps.
const DIGITS: u8 = 3;

/// What a replay is like; all times are those of the replay.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// Starts in each of the equal parts of a repetition.
    pub counts: Vec<u64>,
    /// How long each part is.
    pub part: Duration,
    /// How much the counts of windows vary, by their length.
    pub dispersion: Vec<Dispersion>,
    /// Gaps between starts, by percentile.
    pub gaps: Vec<Gap>,
    /// The mean of all gaps and their coefficient of variation, which is 1 for a Poisson process; `None` for fewer than two gaps.
    pub mean_gap_ns: Option<f64>,
    pub gap_variation: Option<f64>,
    pub longest_gap_ns: Option<u64>,
    /// Starts at the same instant as the one before.
    pub together: u64,
}

/// How much the counts of windows of a length vary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dispersion {
    /// The length of the windows.
    pub window: Duration,
    /// How many there are.
    pub windows: u64,
    /// The variance of their counts divided by the mean: 1 for a Poisson process, close to 0 for equal gaps much shorter than the
    /// windows, more for bursts (Cox and Lewis, The
    /// Statistical Analysis of Series of Events, 1966). `None` for fewer than ten windows.
    pub index: Option<f64>,
    /// The most starts in a window.
    pub most: u64,
}

/// A percentile of gaps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gap {
    pub percentile: f64,
    pub ns: u64,
}

/// Counts starts in windows of one length.
#[derive(Debug)]
struct Windows {
    length_ns: u64,
    /// The complete windows of a repetition.
    complete: u64,
    number: u64,
    count: u64,
    sum: u64,
    squares: f64,
    most: u64,
}

impl Windows {
    fn new(length: Duration, period_ns: u64) -> Self {
        let length_ns = length.as_nanos() as u64;
        Self { length_ns, complete: period_ns / length_ns, number: 0, count: 0, sum: 0, squares: 0.0, most: 0 }
    }

    fn start(&mut self, at_ns: u64) {
        let number = at_ns / self.length_ns;
        if number != self.number {
            self.close();
            self.number = number;
        }
        self.count += 1;
        self.most = self.most.max(self.count);
    }

    /// Windows without starts add nothing to either sum.
    fn close(&mut self) {
        if self.number < self.complete {
            self.sum += self.count;
            self.squares += (self.count as f64).powi(2);
        }
        self.count = 0;
    }

    fn end(mut self) -> Dispersion {
        self.close();
        let (n, sum) = (self.complete as f64, self.sum as f64);
        let variance = || (self.squares - sum * sum / n) / (n - 1.0);
        let is_known = self.complete >= LEAST_WINDOWS && self.sum > 0;
        Dispersion {
            window: Duration::from_nanos(self.length_ns),
            windows: self.complete,
            index: is_known.then(|| variance().max(0.0) / (sum / n)),
            most: self.most,
        }
    }
}

/// Looks at one repetition of a schedule, in so many equal parts.
pub fn survey(schedule: &Schedule, parts: usize) -> Survey {
    let period_ns = schedule.period().as_nanos() as u64;
    let part_ns = period_ns.div_ceil(parts.max(1) as u64).max(1);
    let mut counts = vec![0; parts.max(1)];
    let mut windows = WINDOWS.map(|length| Windows::new(length, period_ns));
    let mut gaps = Histogram::<u64>::new(DIGITS).expect("three digits are allowed");
    let (mut sum, mut squares, mut number) = (0.0, 0.0, 0_u64);
    let (mut before_ns, mut together, mut longest_ns) = (None, 0, 0);
    for start in schedule.first_repetition() {
        counts[(start.at_ns / part_ns).min(parts.max(1) as u64 - 1) as usize] += 1;
        windows.iter_mut().for_each(|windows| windows.start(start.at_ns));
        if let Some(before_ns) = before_ns.replace(start.at_ns) {
            let gap_ns = start.at_ns - before_ns;
            gaps.record(gap_ns).expect("the histogram grows");
            together += u64::from(gap_ns == 0);
            longest_ns = longest_ns.max(gap_ns);
            number += 1;
            // Sums of squared seconds stay exact enough for a coefficient.
            let gap = gap_ns as f64 / SECOND_NS as f64;
            sum += gap;
            squares += gap * gap;
        }
    }
    let n = number as f64;
    let mean = (number > 0).then(|| sum / n);
    let deviation = mean.filter(|_| number > 1).map(|mean| ((squares - n * mean * mean) / (n - 1.0)).max(0.0).sqrt());
    let at = |percentile| Gap { percentile, ns: gaps.value_at_percentile(percentile).min(longest_ns) };
    Survey {
        counts,
        part: Duration::from_nanos(part_ns),
        dispersion: windows.into_iter().map(Windows::end).collect(),
        gaps: if number > 0 { PERCENTILES.map(at).to_vec() } else { Vec::new() },
        mean_gap_ns: mean.map(|mean| mean * 1e9),
        gap_variation: deviation.zip(mean).filter(|(_, mean)| *mean > 0.0).map(|(deviation, mean)| deviation / mean),
        longest_gap_ns: (number > 0).then_some(longest_ns),
        together,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::schedule::tests::schedule;

    #[test]
    fn equal_gaps_do_not_vary_and_bursts_vary_much() {
        let even: String = (0..2_000).map(|k| format!("{:.3}\n", f64::from(k) / 100.0 + 0.005)).collect();
        let seen = survey(&schedule(&even, |_| {}).unwrap(), 10);
        assert_eq!((seen.counts, seen.part), (vec![200; 10], Duration::from_secs(2)));
        assert_eq!((seen.longest_gap_ns, seen.together), (Some(10_000_000), 0));
        assert!(seen.gap_variation.unwrap() < 1e-6);
        let of = |seen: &[Dispersion], ms| *seen.iter().find(|one| one.window == Duration::from_millis(ms)).unwrap();
        let (tenth, ten) = (of(&seen.dispersion, 100), of(&seen.dispersion, 10_000));
        assert_eq!((tenth.windows, tenth.index, tenth.most), (200, Some(0.0), 10));
        assert_eq!((ten.windows, ten.index), (2, None));
        // 50 starts at once in every tenth window of 100 ms: the mean is 5, the variance 225.
        let burst: String = (0..1_000).map(|k| format!("{}\n", k / 50)).collect();
        let seen = survey(&schedule(&burst, |asked| asked.to = Some(Duration::from_secs(20))).unwrap(), 20);
        assert_eq!(seen.together, 1_000 - 20);
        let index = of(&seen.dispersion, 100).index.unwrap();
        assert!((index - 45.0).abs() < 1.0, "{index}");
    }

    #[test]
    fn a_single_start_has_no_gaps() {
        let seen = survey(&schedule("5\n", |_| {}).unwrap(), 4);
        assert_eq!((seen.counts, seen.gaps.len(), seen.mean_gap_ns), (vec![1, 0, 0, 0], 0, None));
    }
}
