//! A record's series of each worker, by kind.

use crate::record::Series;

/// A kind of rows of a record's series.
pub(super) struct Kind {
    pub heading: &'static str,
    pub rows: fn(&Series) -> &Vec<Vec<u64>>,
    /// How rows of several intervals are joined.
    pub join: Join,
    /// Whether counts are shown per second.
    pub per_second: bool,
    /// Whether members may share it, so that one column stands for all.
    pub shared: bool,
}

impl Kind {
    /// Whether it is worth showing: an empty queue is, where connections were accepted.
    pub fn is_shown(&self, series: &Series) -> bool {
        let any = |rows: &[Vec<u64>]| rows.iter().flatten().any(|value| *value > 0);
        any((self.rows)(series)) || self.heading == QUEUE && any(&series.accepted)
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Join {
    Sum,
    Longest,
    Last,
}

pub(super) const QUEUE: &str = "accept queue, longest";
pub(super) const OPEN_CONNECTIONS: &str = "open connections";
pub(super) const KINDS: [Kind; 5] = [
    Kind { heading: "accepts/s", rows: |series| &series.accepted, join: Join::Sum, per_second: true, shared: false },
    Kind { heading: QUEUE, rows: |series| &series.queue_peak, join: Join::Longest, per_second: false, shared: true },
    Kind { heading: OPEN_CONNECTIONS, rows: |series| &series.open, join: Join::Last, per_second: false, shared: false },
    Kind { heading: "datagrams/s", rows: |series| &series.datagrams, join: Join::Sum, per_second: true, shared: false },
    Kind {
        heading: "bytes in the sockets",
        rows: |series| &series.receive_queue_bytes,
        join: Join::Last,
        per_second: false,
        shared: true,
    },
];

/// A kind's values in a trial, by column and interval.
pub(super) struct Columns {
    pub kind: &'static Kind,
    pub names: Vec<String>,
    pub values: Vec<Vec<f64>>,
}

/// How a record's rows become points.
#[derive(Clone, Copy)]
pub(super) struct Points {
    /// Number of intervals joined to a point.
    pub joined: usize,
    /// Length of an interval, in seconds.
    pub seconds: f64,
    /// When the load ended, in seconds from the trial's start. Rates would seem to fall after that: connections still under way
    /// are served, and the trial's end cuts the last row short.
    pub load_end: f64,
}

impl Points {
    /// The seconds that a point's rate is taken over: those before the load's end. `None` if they are less than half of the point,
    /// since connections under way at the end would dominate the sum.
    fn rated(&self, point: usize, rows: usize) -> Option<f64> {
        let length = rows as f64 * self.seconds;
        let loaded = self.load_end - (point * self.joined) as f64 * self.seconds;
        // A load that ends with a row may miss its end by rounding.
        if loaded > length - 1e-6 { Some(length) } else { Some(loaded).filter(|loaded| *loaded >= length / 2.0) }
    }
}

/// A kind's values by point, rates up to the load's end; `None` where the record lacks them. `member` is what the members are, and
/// `name` names each.
pub(super) fn columns(
    kind: &'static Kind,
    series: &Series,
    points: Points,
    member: &str,
    name: &dyn Fn(usize) -> String,
) -> Option<Columns> {
    let rows = (kind.rows)(series);
    let workers = rows.first()?.len();
    if workers == 0 {
        return None;
    }
    let same = |row: &Vec<u64>| row.iter().all(|value| *value == row[0]);
    let one = kind.shared && workers > 1 && rows.iter().all(same);
    let value = |point: usize, rows: &[Vec<u64>], column: usize| {
        let values = || rows.iter().map(|row| row.get(column).copied().unwrap_or(0));
        let value = match kind.join {
            Join::Sum => values().sum::<u64>(),
            Join::Longest => values().max().unwrap_or(0),
            Join::Last => values().next_back().unwrap_or(0),
        };
        if kind.per_second { Some(value as f64 / points.rated(point, rows.len())?) } else { Some(value as f64) }
    };
    let columns = if one { 1 } else { workers };
    Some(Columns {
        kind,
        names: (0..columns).map(|column| if one { format!("all {member}s") } else { name(column) }).collect(),
        values: (0..columns)
            .map(|column| {
                let points = rows.chunks(points.joined).enumerate();
                points.map_while(|(point, rows)| value(point, rows, column)).collect()
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(series: &Series, joined: usize, load_end: f64) -> Vec<(Vec<String>, Vec<Vec<f64>>)> {
        let kinds = KINDS.iter().filter(|kind| kind.is_shown(series));
        let points = Points { joined, seconds: 0.1, load_end };
        let name = |number| format!("worker {number}");
        let columns = kinds.filter_map(|kind| columns(kind, series, points, "worker", &name));
        columns.map(|columns| (columns.names, columns.values)).collect()
    }

    #[test]
    fn intervals_join_and_a_shared_queue_is_one_line() {
        let series = Series {
            interval_ms: 100,
            accepted: vec![vec![1, 2], vec![3, 4], vec![5, 6]],
            queue_peak: vec![vec![7, 7], vec![9, 9], vec![1, 1]],
            open: vec![vec![0, 1], vec![2, 3], vec![4, 5]],
            ..Series::default()
        };
        let shown = shown(&series, 2, 0.3);
        assert_eq!(shown[0].1, [[20.0, 50.0], [30.0, 60.0]], "accepts of 0.2 s, then of 0.1 s");
        assert_eq!((&shown[1].0[..], &shown[1].1[..]), (&["all workers".to_owned()][..], &[vec![9.0, 1.0]][..]));
        assert_eq!(shown[2].1, [[2.0, 4.0], [3.0, 5.0]]);
    }

    #[test]
    fn rates_end_with_the_load_and_standings_with_the_trial() {
        let series = Series {
            interval_ms: 100,
            accepted: vec![vec![10], vec![10], vec![6], vec![1]],
            open: vec![vec![4], vec![4], vec![1], vec![0]],
            ..Series::default()
        };
        let of = |load_end| shown(&series, 1, load_end);
        assert_eq!(of(0.2)[0].1, [[100.0, 100.0]]);
        assert_eq!(of(0.26)[0].1[0].iter().map(|rate| rate.round()).collect::<Vec<_>>(), [100.0, 100.0, 100.0]);
        assert_eq!(of(0.24)[0].1[0].len(), 2, "less than half of an interval");
        assert_eq!(of(0.2)[1].1, [[4.0, 4.0, 1.0, 0.0]]);
    }

    #[test]
    fn without_accepts_there_is_no_queue_to_show() {
        let series = Series { interval_ms: 100, queue_peak: vec![vec![0, 0]], ..Series::default() };
        assert!(shown(&series, 1, 0.1).is_empty());
    }
}
