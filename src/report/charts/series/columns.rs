//! What a record's series tell of each worker, by kind.

use crate::record::Series;

/// A kind of rows of a record's series.
pub(super) struct Kind {
    pub heading: &'static str,
    pub rows: fn(&Series) -> &Vec<Vec<u64>>,
    /// How the rows of several intervals become one.
    pub join: Join,
    /// Whether counts are shown per second.
    pub per_second: bool,
    /// Whether the listener may be shared, so that all columns are one.
    pub shared: bool,
}

impl Kind {
    /// Whether there is anything to tell: an empty queue is a finding where connections were accepted.
    pub fn is_told(&self, series: &Series) -> bool {
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
pub(super) const KINDS: [Kind; 5] = [
    Kind { heading: "accepts/s", rows: |series| &series.accepted, join: Join::Sum, per_second: true, shared: false },
    Kind { heading: QUEUE, rows: |series| &series.queue_peak, join: Join::Longest, per_second: false, shared: true },
    Kind {
        heading: "open connections",
        rows: |series| &series.open,
        join: Join::Last,
        per_second: false,
        shared: false,
    },
    Kind { heading: "datagrams/s", rows: |series| &series.datagrams, join: Join::Sum, per_second: true, shared: false },
    Kind {
        heading: "bytes in the sockets",
        rows: |series| &series.receive_queue_bytes,
        join: Join::Last,
        per_second: false,
        shared: true,
    },
];

/// A kind's values in a trial: by column, then by interval.
pub(super) struct Columns {
    pub kind: &'static Kind,
    pub names: Vec<String>,
    pub values: Vec<Vec<f64>>,
}

/// A kind's values, several intervals joined into one; `None` where the record has none.
pub(super) fn columns(kind: &'static Kind, series: &Series, joined: usize, seconds: f64) -> Option<Columns> {
    let rows = (kind.rows)(series);
    let workers = rows.first()?.len();
    if workers == 0 {
        return None;
    }
    let same = |row: &Vec<u64>| row.iter().all(|value| *value == row[0]);
    let one = kind.shared && workers > 1 && rows.iter().all(same);
    let value = |rows: &[Vec<u64>], column: usize| {
        let values = || rows.iter().map(|row| row.get(column).copied().unwrap_or(0));
        let value = match kind.join {
            Join::Sum => values().sum::<u64>(),
            Join::Longest => values().max().unwrap_or(0),
            Join::Last => values().next_back().unwrap_or(0),
        };
        if kind.per_second { value as f64 / (rows.len() as f64 * seconds) } else { value as f64 }
    };
    let columns = if one { 1 } else { workers };
    Some(Columns {
        kind,
        names: (0..columns)
            .map(|column| if one { "all workers".to_owned() } else { format!("worker {column}") })
            .collect(),
        values: (0..columns).map(|column| rows.chunks(joined).map(|rows| value(rows, column)).collect()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(series: &Series, joined: usize) -> Vec<(Vec<String>, Vec<Vec<f64>>)> {
        let told = KINDS.iter().filter(|kind| kind.is_told(series));
        let columns = told.filter_map(|kind| columns(kind, series, joined, 0.1));
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
        let shown = shown(&series, 2);
        assert_eq!(shown[0].1, [[20.0, 50.0], [30.0, 60.0]], "accepts of 0.2 s, then of 0.1 s");
        assert_eq!((&shown[1].0[..], &shown[1].1[..]), (&["all workers".to_owned()][..], &[vec![9.0, 1.0]][..]));
        assert_eq!(shown[2].1, [[2.0, 4.0], [3.0, 5.0]]);
    }

    #[test]
    fn without_accepts_there_is_no_queue_to_show() {
        let series = Series { interval_ms: 100, queue_peak: vec![vec![0, 0]], ..Series::default() };
        assert!(shown(&series, 1).is_empty());
    }
}
