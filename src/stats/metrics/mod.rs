//! The numbers of a trial that are summarized and compared. A metric is one entry in the list of its family.

#![cfg_attr(not(test), allow(dead_code, reason = "some of it serves the documentation, which tests compare"))]

mod faults;
mod latencies;
mod memory;
mod ports;
mod queues;
mod ramp;
mod rates;
mod spread;
mod unit;
mod work;

use crate::record::{TrialRecord, WorkerCounts};

pub use unit::{Better, Unit};

/// A number that trials may have.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its key in `summary.json`.
    pub name: &'static str,
    /// Its name in sentences.
    pub label: &'static str,
    /// What its value counts.
    pub unit: Unit,
    /// Which direction is better.
    pub better: Better,
    /// Whether one trial settles it.
    pub kind: Kind,
    /// Whether cells are compared by it, with a test.
    pub compared: bool,
    /// Its column in the table of cells.
    pub column: Option<Column>,
    /// Head of its column in the live view.
    pub live: Option<&'static str>,
    /// Reads it from a trial.
    pub read: fn(&TrialRecord) -> Option<f64>,
}

/// A column of the table of cells, shown where some cell has the metric.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its head, with line breaks for narrow columns.
    pub head: &'static str,
    /// Whether medians are followed by their interval, even if the metric does not rank the cells.
    pub interval: bool,
    /// A metric without which this one says nothing.
    pub only_with: Option<&'static str>,
}

/// Whether one trial settles a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One trial settles it: a limit, a count that does not vary, arithmetic.
    Exact,
    /// It varies between trials of a cell: only repetitions settle it.
    Sampled,
}

impl Kind {
    /// Its name in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Sampled => "sampled",
        }
    }
}

impl Metric {
    const fn new(
        kind: Kind,
        (name, label): (&'static str, &'static str),
        unit: Unit,
        better: Better,
        read: fn(&TrialRecord) -> Option<f64>,
    ) -> Self {
        Self { name, label, unit, better, kind, compared: false, column: None, live: None, read }
    }

    /// Compares cells by it.
    const fn compared(mut self) -> Self {
        self.compared = true;
        self
    }

    /// Gives it a column in the table of cells.
    const fn column(mut self, head: &'static str) -> Self {
        self.column = Some(Column { head, interval: false, only_with: None });
        self
    }

    /// The same, with the median's interval.
    const fn column_with_interval(mut self, head: &'static str) -> Self {
        self.column = Some(Column { head, interval: true, only_with: None });
        self
    }

    /// Shows its column only together with another metric.
    const fn only_with(mut self, other: &'static str) -> Self {
        if let Some(column) = &mut self.column {
            column.only_with = Some(other);
        }
        self
    }

    /// Gives it a column in the live view.
    const fn live(mut self, head: &'static str) -> Self {
        self.live = Some(head);
        self
    }

    /// The verb that follows its label: accepts are, an accept wait is.
    pub fn is(&self) -> &'static str {
        let plural = |word: &str| word.ends_with('s') && !word.ends_with("'s");
        if self.label.split(' ').take(2).any(plural) { "are" } else { "is" }
    }

    /// Whether it is about the accept wait, which is exact or an upper bound, as the cell's `accept_wait_method` says.
    pub fn is_accept_wait(&self) -> bool {
        self.name.starts_with("accept_wait_") && !self.name.starts_with("accept_wait_bound_")
    }
}

/// A metric that one trial settles.
const fn exact(
    name: &'static str,
    label: &'static str,
    unit: Unit,
    better: Better,
    read: fn(&TrialRecord) -> Option<f64>,
) -> Metric {
    Metric::new(Kind::Exact, (name, label), unit, better, read)
}

/// A metric that only repetitions settle.
const fn sampled(
    name: &'static str,
    label: &'static str,
    unit: Unit,
    better: Better,
    read: fn(&TrialRecord) -> Option<f64>,
) -> Metric {
    Metric::new(Kind::Sampled, (name, label), unit, better, read)
}

/// The families, in the order of tables.
const FAMILIES: &[&[Metric]] = &[
    ports::METRICS,
    rates::METRICS,
    latencies::METRICS,
    spread::METRICS,
    queues::METRICS,
    memory::METRICS,
    ramp::METRICS,
    work::METRICS,
    faults::METRICS,
];

/// All metrics. Their order is that of columns, and of the random numbers that intervals are drawn with.
pub const METRICS: &[Metric] = &joined();

const fn count() -> usize {
    let (mut count, mut family) = (0, 0);
    while family < FAMILIES.len() {
        count += FAMILIES[family].len();
        family += 1;
    }
    count
}

const fn joined() -> [Metric; count()] {
    let mut all = [FAMILIES[0][0]; count()];
    let (mut next, mut family) = (0, 0);
    while family < FAMILIES.len() {
        let mut member = 0;
        while member < FAMILIES[family].len() {
            all[next] = FAMILIES[family][member];
            (next, member) = (next + 1, member + 1);
        }
        family += 1;
    }
    all
}

/// A metric by its name, with or without a final `_ns`.
pub fn metric_named(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name || metric.name.strip_suffix("_ns") == Some(name))
}

/// A quotient; `None` where the divisor is 0.
pub(super) fn per(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Whether the trial was about connections.
fn has_connections(trial: &TrialRecord) -> bool {
    trial.ports.is_none() && (!has_datagrams(trial) || trial.connections.established > 0)
}

fn has_datagrams(trial: &TrialRecord) -> bool {
    trial.datagrams.as_ref().is_some_and(|datagrams| datagrams.sent > 0)
}

/// A count in the measured window, over all workers.
fn sum(trial: &TrialRecord, count: fn(&WorkerCounts) -> u64) -> f64 {
    trial.workers.iter().map(|worker| count(&worker.measured)).sum::<u64>() as f64
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// The documentation's table matches the list. Missing rows are printed for pasting.
    #[test]
    fn the_readme_documents_every_metric_once() {
        let readme = include_str!("../../../results/README.md");
        let row = |metric: &Metric| {
            let (unit, better, kind) = (metric.unit.as_str(), metric.better.as_str(), metric.kind.as_str());
            format!("| `{}` | {unit} | {better} | {kind} | {} |", metric.name, metric.label)
        };
        let mut missing = String::new();
        for row in METRICS.iter().map(row) {
            if readme.lines().filter(|line| *line == row).count() != 1 {
                writeln!(missing, "{row}").unwrap();
            }
        }
        assert!(missing.is_empty(), "results/README.md lacks, or repeats:\n{missing}");
        // Only this table has a column of directions.
        let better = [" | lower | ", " | higher | ", " | neither | "];
        let rows = readme.lines().filter(|line| better.iter().any(|word| line.contains(word))).count();
        assert_eq!(rows, METRICS.len(), "results/README.md documents an unknown metric");
    }

    #[test]
    fn a_metric_is_found_with_and_without_its_unit() {
        for name in ["accept_wait_p99", "accept_wait_p99_ns"] {
            assert_eq!(metric_named(name).unwrap().label, "accept wait p99");
        }
        assert!(metric_named("accept_wait").is_none() && metric_named("").is_none());
        for (number, metric) in METRICS.iter().enumerate() {
            assert!(METRICS[..number].iter().all(|other| other.name != metric.name && other.label != metric.label));
        }
    }
}
