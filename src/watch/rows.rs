//! What an observation saw over time. The number of rows is bounded: at the bound, neighbours are joined, and rows cover twice as much
//! time from then on.

use std::collections::BTreeMap;

use super::tally::{Tally, Who};

/// Most rows; even, so that every row has a neighbour.
const LIMIT: usize = 1_200;

/// Rows of equal length, but for the last.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub rows: Vec<Row>,
    /// Intervals in a row.
    pub intervals: u64,
    /// Those in the last row.
    filled: u64,
}

/// What was seen in a row's time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub accepted: BTreeMap<Who, u64>,
    /// Open connections at its end.
    pub open: BTreeMap<Who, u64>,
    /// By cookie.
    pub queues: BTreeMap<u64, QueueSeen>,
}

/// A queue in a row's time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct QueueSeen {
    /// At its end.
    pub depth: u64,
    pub peak: u64,
    pub drops: u64,
}

impl Row {
    /// The interval that a tally has just ended.
    pub(super) fn of(tally: &Tally) -> Self {
        let queues = tally.sockets.iter().filter(|(_, socket)| socket.present).map(|(cookie, socket)| {
            let (peak, drops) = (u64::from(socket.interval.peak), socket.interval.drops);
            (*cookie, QueueSeen { depth: u64::from(socket.listener.queue.length), peak, drops })
        });
        Self {
            accepted: tally.members.iter().map(|(who, member)| (*who, member.accepted_now)).collect(),
            open: tally.members.iter().filter_map(|(who, member)| Some((*who, member.open?))).collect(),
            queues: queues.collect(),
        }
    }

    /// Joins a later row.
    fn join(&mut self, later: Self) {
        for (who, accepted) in later.accepted {
            *self.accepted.entry(who).or_default() += accepted;
        }
        self.open = later.open;
        for (cookie, seen) in later.queues {
            let queue = self.queues.entry(cookie).or_default();
            let (peak, drops) = (queue.peak.max(seen.peak), queue.drops + seen.drops);
            *queue = QueueSeen { depth: seen.depth, peak, drops };
        }
    }
}

impl Rows {
    pub(super) fn push(&mut self, row: Row) {
        self.intervals = self.intervals.max(1);
        match self.rows.last_mut().filter(|_| self.filled < self.intervals) {
            Some(last) => {
                last.join(row);
                self.filled += 1;
            }
            None => {
                self.rows.push(row);
                self.filled = 1;
            }
        }
        if self.rows.len() == LIMIT && self.filled == self.intervals {
            let mut halves = std::mem::take(&mut self.rows).into_iter();
            while let Some(mut one) = halves.next() {
                halves.next().into_iter().for_each(|other| one.join(other));
                self.rows.push(one);
            }
            self.intervals *= 2;
            self.filled = self.intervals;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_is_lost_however_long_it_takes() {
        let place =
            crate::observe::listeners::Place { address: "127.0.0.1:80".parse().unwrap(), dual_stack: false, device: 0 };
        let who = Who { place, pid: 1, tid: 1 };
        let row = |n: u64| Row {
            accepted: BTreeMap::from([(who, n)]),
            open: BTreeMap::from([(who, n)]),
            queues: BTreeMap::from([(7, QueueSeen { depth: n, peak: 2 * n, drops: 1 })]),
        };
        for pushed in [1, 1_199, 1_200, 1_201, 2_399, 2_400, 2_401, 10_007] {
            let mut rows = Rows::default();
            (1..=pushed).for_each(|n| rows.push(row(n)));
            let seen = |of: fn(&QueueSeen) -> u64| rows.rows.iter().map(|row| of(&row.queues[&7])).collect::<Vec<_>>();
            assert_eq!(rows.rows.len() as u64, pushed.div_ceil(rows.intervals), "{pushed}");
            assert!(rows.rows.len() <= LIMIT, "{pushed}");
            assert_eq!(rows.rows.iter().map(|row| row.accepted[&who]).sum::<u64>(), pushed * (pushed + 1) / 2);
            assert_eq!(seen(|queue| queue.drops).iter().sum::<u64>(), pushed);
            assert_eq!(
                (seen(|queue| queue.depth).last(), rows.rows.last().unwrap().open[&who]),
                (Some(&pushed), pushed)
            );
            assert_eq!(seen(|queue| queue.peak).into_iter().max(), Some(2 * pushed));
        }
    }
}
