//! The cells' medians so far.

use crate::{
    record::{Outcome, TrialRecord},
    stats::{self, Metric, metrics_with},
};

/// The metrics with a column, by its head, of trials like this one. Beside several populations' figures, the whole load's say little.
fn columns(trial: &TrialRecord) -> Vec<(&'static str, &'static Metric)> {
    let populations: Vec<&str> = trial.populations().iter().map(|load| load.name.as_str()).collect();
    let all = metrics_with(&populations);
    let shown = all.into_iter().filter(|metric| populations.is_empty() || !metric.is_told_apart());
    shown.filter_map(|metric| Some((metric.live?, metric))).collect()
}

/// `≤ 148 µs` where it is an upper bound.
fn show(metric: &Metric, value: f64, waits_are_bounds: bool) -> String {
    let bound = if waits_are_bounds && metric.is_accept_wait() { "≤ " } else { "" };
    format!("{bound}{}", metric.unit.in_column(value))
}

/// A trial in a few words, for the log.
pub(super) fn in_words(trial: &TrialRecord) -> String {
    let shown = columns(trial).into_iter().filter_map(|(head, metric)| {
        let value = metric.read(trial)?;
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

impl Cell {
    /// Of cells without a trial that ran, none are known.
    fn values_of(&self, column: usize) -> &[f64] {
        self.values.get(column).map_or(&[], |values| values)
    }
}

/// The cells with at least one trial, in the order of their first.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// Those of all trials of a run, known from the first.
    columns: Vec<(&'static str, &'static Metric)>,
    cells: Vec<Cell>,
}

impl Results {
    pub(super) fn add(&mut self, label: &str, trial: &TrialRecord) {
        if trial.outcome != Outcome::Failed && self.columns.is_empty() {
            self.columns = columns(trial);
        }
        let place = self.cells.iter().position(|cell| cell.label == label).unwrap_or_else(|| {
            self.cells.push(Cell { label: label.to_owned(), trials: 0, valid: 0, bound: false, values: Vec::new() });
            self.cells.len() - 1
        });
        let cell = &mut self.cells[place];
        cell.values.resize(self.columns.len(), Vec::new());
        cell.trials += 1;
        if trial.outcome == Outcome::Valid {
            cell.valid += 1;
            cell.bound |= trial.latency_ns.accept_wait.is_bound();
            for (values, (_, metric)) in cell.values.iter_mut().zip(&self.columns) {
                values.extend(metric.read(trial));
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Heads, and a row for each cell: its name, valid of all trials, medians.
    pub(super) fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let known = |column: usize| self.cells.iter().any(|cell| !cell.values_of(column).is_empty());
        let shown: Vec<_> = self.columns.iter().enumerate().filter(|(column, _)| known(*column)).collect();
        let heads = ["cell", "valid"].into_iter().chain(shown.iter().map(|(_, (head, _))| *head)).collect();
        let rows = self.cells.iter().map(|cell| {
            let medians = shown.iter().map(|(column, (_, metric))| {
                let median = stats::median(&stats::ascending(cell.values_of(*column)));
                median.map_or_else(|| "–".to_owned(), |median| show(metric, median, cell.bound))
            });
            [cell.label.clone(), format!("{}/{}", cell.valid, cell.trials)].into_iter().chain(medians).collect()
        });
        (heads, rows.collect())
    }
}
