//! A table of rates over time.

use std::{sync::Arc, time::Duration};

/// The most rows of a table: a day in steps of nine seconds.
pub const ROWS_LIMIT: usize = 10_000;

/// A row of a table as written: its time, in seconds, and the starts per second from then on.
pub type Row = (f64, f64);

/// The rate of a Poisson process as a table gives it: constant from each row's time until the next one's. The first row is at the
/// load's start, whatever its time, and the last rate lasts until the load's end.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates {
    steps: Arc<[Step]>,
    over: Duration,
}

/// A time with one rate.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    /// When it begins, in seconds since the load's start.
    at_s: f64,
    /// Starts per second.
    rate: f64,
    /// Starts expected before it.
    expected: f64,
}

impl Rates {
    /// The rates of a table whose times pass `speed` times as fast as written, over a load of this length, which is not zero. Rates
    /// stay as they are written. There must be a row, and times must ascend.
    pub fn new(rows: &[Row], speed: f64, over: Duration) -> Self {
        let first_s = rows.first().map_or(0.0, |row| row.0);
        let mut steps: Vec<Step> = Vec::with_capacity(rows.len());
        for (time_s, rate) in rows {
            let at_s = (time_s - first_s) / speed;
            if at_s >= over.as_secs_f64() {
                break;
            }
            let expected = steps.last().map_or(0.0, |last| last.expected_by(at_s));
            steps.push(Step { at_s, rate: *rate, expected });
        }
        Self { steps: steps.into(), over }
    }

    /// Mean starts per second.
    pub fn mean(&self) -> f64 {
        let over_s = self.over.as_secs_f64();
        self.expected_by(over_s) / over_s
    }

    /// The highest rate, in starts per second.
    pub fn peak(&self) -> f64 {
        self.steps.iter().map(|step| step.rate).fold(0.0, f64::max)
    }

    /// Starts expected in the first `at_s` seconds: the integral of the rate.
    pub fn expected_by(&self, at_s: f64) -> f64 {
        let at_s = at_s.clamp(0.0, self.over.as_secs_f64());
        let begun = self.steps.partition_point(|step| step.at_s <= at_s);
        begun.checked_sub(1).map_or(0.0, |step| self.steps[step].expected_by(at_s))
    }

    /// When so many starts are expected, in seconds: the inverse of [`Self::expected_by`]. Infinite if there are never so many.
    /// `from` is the number of a step that has begun by then, and becomes that of the one at the result: who asks for more each time
    /// passes through the table once.
    pub fn when(&self, expected: f64, from: &mut usize) -> f64 {
        while self.steps.get(*from + 1).is_some_and(|next| next.expected <= expected) {
            *from += 1;
        }
        let Some(step) = self.steps.get(*from).filter(|step| step.rate > 0.0) else { return f64::INFINITY };
        let at_s = step.at_s + (expected - step.expected) / step.rate;
        if at_s < self.over.as_secs_f64() { at_s } else { f64::INFINITY }
    }

    /// When the rate changes, in seconds since the load's start, its start and its end included.
    pub fn changes_s(&self) -> impl Iterator<Item = f64> {
        self.steps.iter().map(|step| step.at_s).chain([self.over.as_secs_f64()])
    }
}

impl Step {
    /// Starts expected by `at_s`, which is not before it.
    fn expected_by(&self, at_s: f64) -> f64 {
        (at_s - self.at_s).mul_add(self.rate, self.expected)
    }
}

/// What is wrong with a row that follows another; completes a sentence that begins with its place.
pub fn objection(before: Option<Row>, (time_s, rate): Row, highest: f64) -> Option<String> {
    if !time_s.is_finite() || time_s < 0.0 {
        return Some(format!("the time must be a number of seconds from 0 on, not {time_s}"));
    }
    if !(0.0..=highest).contains(&rate) {
        return Some(format!("the rate must be a number of starts per second from 0 to {highest}, not {rate}"));
    }
    let (earlier_s, _) = before.filter(|(earlier_s, _)| *earlier_s >= time_s)?;
    Some(format!("times must ascend, and {time_s} s follows {earlier_s} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [Row; 4] = [(3_600.0, 10.0), (3_610.0, 0.0), (3_620.0, 30.0), (3_640.0, 5.0)];

    #[test]
    fn the_integral_and_its_inverse_follow_the_rows() {
        let rates = Rates::new(&ROWS, 1.0, Duration::from_secs(60));
        for (at_s, expected) in
            [(0.0, 0.0), (5.0, 50.0), (10.0, 100.0), (15.0, 100.0), (30.0, 400.0), (60.0, 800.0), (99.0, 800.0)]
        {
            assert_eq!(rates.expected_by(at_s), expected, "{at_s}");
        }
        assert_eq!((rates.peak(), rates.mean() * 60.0), (30.0, 800.0));
        let mut step = 0;
        let when = [50.0, 99.9, 100.0, 400.0, 700.0, 799.9, 800.0].map(|expected| rates.when(expected, &mut step));
        // Where nothing is expected, the next start comes with the next rate.
        let known = [5.0, 9.99, 20.0, 30.0, 40.0, 59.98];
        assert!(when.iter().zip(known).all(|(at, known)| (at - known).abs() < 1e-9), "{when:?}");
        assert_eq!(when[6], f64::INFINITY);
    }

    #[test]
    fn speed_compresses_time_and_leaves_rates_as_they_are() {
        let rates = Rates::new(&ROWS, 10.0, Duration::from_secs(6));
        assert_eq!((rates.peak(), rates.expected_by(6.0)), (30.0, 80.0));
        assert_eq!(rates.changes_s().collect::<Vec<_>>(), [0.0, 1.0, 2.0, 4.0, 6.0]);
        // What comes after the load's end is not used.
        let cut = Rates::new(&ROWS, 1.0, Duration::from_secs(15));
        assert_eq!((cut.peak(), cut.mean(), cut.when(100.0, &mut 0)), (10.0, 100.0 / 15.0, f64::INFINITY));
    }

    #[test]
    fn rows_have_ascending_times_and_rates_within_the_range() {
        let found = |before, row| objection(before, row, 100.0).unwrap_or_default();
        assert_eq!(found(None, (0.0, 0.0)), "");
        assert_eq!(found(Some((5.0, 1.0)), (5.5, 100.0)), "");
        assert!(found(Some((5.0, 1.0)), (5.0, 1.0)).contains("5 s follows 5 s"));
        assert!(found(None, (-1.0, 1.0)).contains("from 0 on, not -1"));
        assert!(found(None, (f64::NAN, 1.0)).contains("not NaN"));
        assert!(found(None, (1.0, 101.0)).contains("from 0 to 100, not 101"));
        assert!(found(None, (1.0, f64::NAN)).contains("not NaN"));
    }
}
