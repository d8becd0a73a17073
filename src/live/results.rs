//! The cells' medians so far.

use crate::{
    record::{Outcome, TrialRecord},
    stats::{self, METRICS, Metric},
};

/// The metrics with a column, by its head.
fn columns() -> impl Iterator<Item = (&'static str, &'static Metric)> {
    METRICS.iter().filter_map(|metric| Some((metric.live?, metric)))
}

/// `≤ 148 µs` where it is an upper bound.
fn show(metric: &Metric, value: f64, waits_are_bounds: bool) -> String {
    let bound = if waits_are_bounds && metric.is_accept_wait() { "≤ " } else { "" };
    format!("{bound}{}", metric.unit.in_column(value))
}

/// A trial in a few words, for the log.
pub(super) fn in_words(trial: &TrialRecord) -> String {
    let shown = columns().filter_map(|(head, metric)| {
        let value = (metric.read)(trial)?;
        Some(format!("{head} {}", show(metric, value, trial.latency_ns.accept_wait.is_bound())))
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
    /// The values of valid trials, by column.
    values: Vec<Vec<f64>>,
}

/// The cells with at least one trial, in the order of their first.
#[derive(Debug, Default)]
pub(super) struct Results(Vec<Cell>);

impl Results {
    pub(super) fn add(&mut self, label: &str, trial: &TrialRecord) {
        let place = self.0.iter().position(|cell| cell.label == label).unwrap_or_else(|| {
            let values = vec![Vec::new(); columns().count()];
            self.0.push(Cell { label: label.to_owned(), trials: 0, valid: 0, bound: false, values });
            self.0.len() - 1
        });
        let cell = &mut self.0[place];
        cell.trials += 1;
        if trial.outcome == Outcome::Valid {
            cell.valid += 1;
            cell.bound |= trial.latency_ns.accept_wait.is_bound();
            for (values, (_, metric)) in cell.values.iter_mut().zip(columns()) {
                values.extend((metric.read)(trial));
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Heads, and a row for each cell: its name, valid of all trials, medians.
    pub(super) fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let known = |column: usize| self.0.iter().any(|cell| !cell.values[column].is_empty());
        let shown: Vec<(usize, (&str, &Metric))> = columns().enumerate().filter(|(column, _)| known(*column)).collect();
        let heads = ["cell", "valid"].into_iter().chain(shown.iter().map(|(_, (head, _))| *head)).collect();
        let rows = self.0.iter().map(|cell| {
            let medians = shown.iter().map(|(column, (_, metric))| {
                let median = stats::median(&stats::ascending(&cell.values[*column]));
                median.map_or_else(|| "–".to_owned(), |median| show(metric, median, cell.bound))
            });
            [cell.label.clone(), format!("{}/{}", cell.valid, cell.trials)].into_iter().chain(medians).collect()
        });
        (heads, rows.collect())
    }
}
