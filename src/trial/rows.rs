//! The rows of a trial's series. Their number is bounded, so that memory and record do not grow with a trial's length: at the bound,
//! neighbouring rows are merged, and rows cover twice as much time from then on.

use crate::record::Series;

/// Interval between ticks, at which everything is sampled, and between the rows of a short trial, in milliseconds.
const TICK_MS: u64 = 100;
/// The same interval in nanoseconds.
pub(super) const TICK_NS: u64 = TICK_MS * 1_000_000;
/// Most rows; even, so that every row has a neighbour. Trials of up to two minutes keep one row per tick.
const LIMIT: usize = 1_200;

/// The samples of one tick: by worker, or for the whole network.
#[derive(Clone)]
pub(super) struct Tick {
    pub accepted: Vec<u64>,
    pub queue_depth: Vec<u64>,
    pub queue_peak: Vec<u64>,
    pub queue_drops: Vec<u64>,
    pub open: Vec<u64>,
    pub ports_taken: u64,
    pub time_wait: u64,
    /// Empty without datagrams, like the next field.
    pub datagrams: Vec<u64>,
    pub receive_queue_bytes: Vec<u64>,
}

impl Tick {
    /// Part `number` of a late tick that covers `of` ticks: its counts are spread evenly over them.
    fn part(&self, number: u64, of: u64) -> Self {
        let spread = |counts: &[u64]| counts.iter().map(|n| n * (number + 1) / of - n * number / of).collect();
        Self {
            accepted: spread(&self.accepted),
            queue_drops: spread(&self.queue_drops),
            datagrams: spread(&self.datagrams),
            ..self.clone()
        }
    }
}

pub(super) struct Rows {
    series: Series,
    /// Ticks in the last row.
    filled: u64,
}

impl Rows {
    pub(super) fn new() -> Self {
        Self { series: Series { interval_ms: TICK_MS, ..Series::default() }, filled: 0 }
    }

    /// Adds a tick that covers this many: more than one if the sample was late. Rows stay evenly spaced.
    pub(super) fn push_late(&mut self, tick: &Tick, ticks: u64) {
        (0..ticks).for_each(|number| self.push(tick.part(number, ticks)));
    }

    fn push(&mut self, tick: Tick) {
        let Series {
            interval_ms: _,
            accepted,
            queue_depth,
            queue_peak,
            queue_drops,
            open,
            ports_taken,
            time_wait,
            datagrams,
            receive_queue_bytes,
        } = &mut self.series;
        accepted.push(tick.accepted);
        queue_depth.push(tick.queue_depth);
        queue_peak.push(tick.queue_peak);
        queue_drops.push(tick.queue_drops);
        open.push(tick.open);
        ports_taken.push(tick.ports_taken);
        time_wait.push(tick.time_wait);
        if !tick.datagrams.is_empty() {
            datagrams.push(tick.datagrams);
            receive_queue_bytes.push(tick.receive_queue_bytes);
        }
        let (rows, ticks) = (self.series.accepted.len(), self.series.interval_ms / TICK_MS);
        if self.filled > 0 && self.filled < ticks {
            self.join_from(rows - 2);
            self.filled += 1;
        } else {
            self.filled = 1;
        }
        if self.series.accepted.len() == LIMIT && self.filled == ticks {
            self.join_from(0);
            self.series.interval_ms *= 2;
            // The row just merged with its neighbour is full.
            self.filled = 2 * ticks;
        }
    }

    /// All rows, each with a column for every member, whenever it appeared.
    pub(super) fn finish(self) -> Series {
        let mut series = self.series;
        let columns = |rows: &[Vec<u64>]| rows.iter().map(Vec::len).max().unwrap_or(0);
        let Series { accepted, queue_depth, queue_peak, queue_drops, open, .. } = &mut series;
        for rows in [accepted, queue_depth, queue_peak, queue_drops, open] {
            let columns = columns(rows);
            rows.iter_mut().for_each(|row| row.resize(columns, 0));
        }
        series
    }

    /// Merges rows in pairs, starting at row `from`.
    fn join_from(&mut self, from: usize) {
        let series = &mut self.series;
        let columns = |join: fn(u64, u64) -> u64| {
            move |mut one: Vec<u64>, other: Vec<u64>| {
                // Members appear, but none disappears.
                one.resize(other.len(), 0);
                one.into_iter().zip(other).map(|(one, other)| join(one, other)).collect()
            }
        };
        let sum = columns(|one, other| one + other);
        for counts in [&mut series.accepted, &mut series.queue_drops, &mut series.datagrams] {
            join_pairs(counts, from, sum);
        }
        join_pairs(&mut series.queue_peak, from, columns(u64::max));
        for standings in [&mut series.queue_depth, &mut series.open, &mut series.receive_queue_bytes] {
            join_pairs(standings, from, |_, last| last);
        }
        for standings in [&mut series.ports_taken, &mut series.time_wait] {
            join_pairs(standings, from, |_, last| last);
        }
    }
}

/// Merges rows in pairs, starting at row `from`. A row without a neighbour stays.
fn join_pairs<T>(rows: &mut Vec<T>, from: usize, join: impl Fn(T, T) -> T) {
    if rows.is_empty() {
        return;
    }
    let mut later = rows.split_off(from).into_iter();
    while let Some(one) = later.next() {
        rows.push(match later.next() {
            Some(other) => join(one, other),
            None => one,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The n-th tick, from 1: n accepts and n datagrams, a segment dropped, and everything else at n but for the first of two
    /// workers' queues, which is longest at odd ticks.
    fn tick(n: u64) -> Tick {
        Tick {
            accepted: vec![n, 0],
            queue_depth: vec![n, 0],
            queue_peak: vec![if n % 2 == 1 { 10 * n } else { 0 }, n],
            queue_drops: vec![1, 0],
            open: vec![n, n],
            ports_taken: n,
            time_wait: n,
            datagrams: vec![n, n],
            receive_queue_bytes: vec![n, 0],
        }
    }

    fn series(ticks: u64) -> Series {
        let mut rows = Rows::new();
        (1..=ticks).for_each(|n| rows.push(tick(n)));
        rows.finish()
    }

    fn total(rows: &[Vec<u64>]) -> u64 {
        rows.iter().flatten().sum()
    }

    #[test]
    fn a_late_tick_fills_the_missed_rows() {
        let mut rows = Rows::new();
        rows.push_late(&tick(10), 4);
        let series = rows.finish();
        assert_eq!(series.accepted, [[2, 0], [3, 0], [2, 0], [3, 0]]);
        assert_eq!((total(&series.queue_drops), total(&series.datagrams)), (1, 20));
        assert_eq!(series.open, [[10, 10]; 4]);
    }

    #[test]
    fn a_short_trial_keeps_its_ticks() {
        let series = series(LIMIT as u64 - 1);
        assert_eq!((series.interval_ms, series.accepted.len()), (TICK_MS, LIMIT - 1));
        assert_eq!(series.queue_peak[2], [30, 3]);
    }

    #[test]
    fn neighbours_merge_at_the_limit() {
        let series = series(LIMIT as u64 + 3);
        assert_eq!(series.interval_ms, 2 * TICK_MS);
        // Two more ticks make a row, and the last one begins another.
        assert_eq!(series.accepted.len(), LIMIT / 2 + 2);
        assert_eq!(series.accepted[..2], [[3, 0], [7, 0]], "the sum of ticks 1 and 2, of 3 and 4");
        assert_eq!(series.queue_drops[0], [2, 0]);
        assert_eq!(series.datagrams[0], [3, 3]);
        assert_eq!(series.queue_peak[1], [30, 4], "the longest");
        for standings in [&series.queue_depth, &series.receive_queue_bytes] {
            assert_eq!(standings[1], [4, 0], "the last");
        }
        assert_eq!(series.open[1], [4, 4]);
        assert_eq!((series.ports_taken[1], series.time_wait[1]), (4, 4));
        let n = LIMIT as u64;
        assert_eq!(series.accepted[LIMIT / 2..], [[2 * n + 3, 0], [n + 3, 0]]);
        assert_eq!(series.open[LIMIT / 2..], [[n + 2, n + 2], [n + 3, n + 3]]);
    }

    #[test]
    fn long_trials_lose_no_count_and_stay_within_the_limit() {
        for ticks in [1, 2, 1_199, 1_200, 1_201, 2_399, 2_400, 2_401, 4_801, 6_000, 100_003] {
            let series = series(ticks);
            let rows = [
                &series.accepted,
                &series.queue_depth,
                &series.queue_peak,
                &series.queue_drops,
                &series.open,
                &series.datagrams,
                &series.receive_queue_bytes,
            ];
            let length = ticks.div_ceil(series.interval_ms / TICK_MS) as usize;
            assert!(length <= LIMIT && rows.iter().all(|rows| rows.len() == length), "{ticks}: {length}");
            assert_eq!((series.ports_taken.len(), series.time_wait.len()), (length, length));
            assert_eq!(total(&series.accepted), ticks * (ticks + 1) / 2);
            assert_eq!(total(&series.queue_drops), ticks);
            assert_eq!(series.open.last().unwrap()[..], [ticks, ticks]);
        }
    }

    #[test]
    fn a_member_that_appears_later_has_a_column_from_the_start() {
        let mut rows = Rows::new();
        for n in 0..LIMIT as u64 {
            let mut tick = tick(1);
            for column in [&mut tick.accepted, &mut tick.queue_depth, &mut tick.open] {
                *column = vec![2; if n < 3 { n as usize } else { 3 }];
            }
            rows.push(tick);
        }
        let series = rows.finish();
        assert_eq!(series.accepted[..3], [[2, 0, 0], [4, 4, 2], [4, 4, 4]]);
        assert_eq!(series.open[..2], [[2, 0, 0], [2, 2, 2]]);
        assert_eq!(total(&series.accepted), 2 * (3 * LIMIT as u64 - 6));
    }

    #[test]
    fn without_datagrams_there_are_none() {
        let mut rows = Rows::new();
        for n in 1..=LIMIT as u64 {
            rows.push(Tick { datagrams: Vec::new(), receive_queue_bytes: Vec::new(), ..tick(n) });
        }
        let series = rows.finish();
        assert_eq!(series.accepted.len(), LIMIT / 2);
        assert!(series.datagrams.is_empty() && series.receive_queue_bytes.is_empty());
    }
}
