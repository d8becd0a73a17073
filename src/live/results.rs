//! The cells' medians so far.

use crate::{
    format::{duration, thousands},
    record::{Outcome, TrialRecord},
    stats,
};

/// A metric that is worth a column while a run goes on.
struct Figure {
    head: &'static str,
    metric: &'static str,
    show: fn(f64) -> String,
}

/// Shown where a trial has it.
const FIGURES: &[Figure] = &[
    Figure { head: "accepts/s", metric: "accepted_per_s", show: thousands },
    Figure { head: "datagrams/s", metric: "datagrams_per_s", show: thousands },
    Figure { head: "wait p50", metric: "accept_wait_p50_ns", show: duration },
    Figure { head: "wait p99", metric: "accept_wait_p99_ns", show: duration },
    Figure { head: "receive p99 ≤", metric: "receive_wait_p99_ns", show: duration },
    Figure { head: "knee", metric: "ports_knee", show: thousands },
    Figure { head: "wall", metric: "ports_wall", show: thousands },
];

impl Figure {
    fn of(&self, trial: &TrialRecord) -> Option<f64> {
        stats::metric_named(self.metric).and_then(|metric| (metric.read)(trial))
    }

    /// `≤ 148 µs` where it is an upper bound.
    fn show(&self, value: f64, waits_are_bounds: bool) -> String {
        let bound = if waits_are_bounds && self.metric.starts_with("accept_wait") { "≤ " } else { "" };
        format!("{bound}{}", (self.show)(value))
    }
}

/// A trial in a few words, for the log.
pub(super) fn in_words(trial: &TrialRecord) -> String {
    let shown = FIGURES.iter().filter_map(|figure| {
        let value = figure.of(trial)?;
        Some(format!("{} {}", figure.head, figure.show(value, trial.latency_ns.accept_wait.is_bound())))
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// One cell.
#[derive(Debug)]
struct Cell {
    label: String,
    trials: usize,
    valid: usize,
    bound: bool,
    /// By figure: the values of valid trials.
    values: Vec<Vec<f64>>,
}

/// All cells that have a trial, in the order of their first.
#[derive(Debug, Default)]
pub(super) struct Results(Vec<Cell>);

impl Results {
    pub(super) fn add(&mut self, label: &str, trial: &TrialRecord) {
        let place = self.0.iter().position(|cell| cell.label == label).unwrap_or_else(|| {
            let values = vec![Vec::new(); FIGURES.len()];
            self.0.push(Cell { label: label.to_owned(), trials: 0, valid: 0, bound: false, values });
            self.0.len() - 1
        });
        let cell = &mut self.0[place];
        cell.trials += 1;
        if trial.outcome == Outcome::Valid {
            cell.valid += 1;
            cell.bound |= trial.latency_ns.accept_wait.is_bound();
            for (values, figure) in cell.values.iter_mut().zip(FIGURES) {
                values.extend(figure.of(trial));
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Heads, and a row a cell: its name, then valid of all trials, then medians.
    pub(super) fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let known = |figure: usize| self.0.iter().any(|cell| !cell.values[figure].is_empty());
        let shown: Vec<usize> = (0..FIGURES.len()).filter(|&figure| known(figure)).collect();
        let heads = ["cell", "valid"].into_iter().chain(shown.iter().map(|&figure| FIGURES[figure].head)).collect();
        let rows = self.0.iter().map(|cell| {
            let figures = shown.iter().map(|&figure| {
                let median = stats::median(&stats::ascending(&cell.values[figure]));
                median.map_or_else(|| "–".to_owned(), |median| FIGURES[figure].show(median, cell.bound))
            });
            [cell.label.clone(), format!("{}/{}", cell.valid, cell.trials)].into_iter().chain(figures).collect()
        });
        (heads, rows.collect())
    }
}
