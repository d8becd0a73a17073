//! The numbers of a trial that are summarized and compared. A metric is one entry in the list of its family.

#![cfg_attr(not(test), allow(dead_code, reason = "some of it serves the documentation, which tests compare"))]

mod conntrack;
mod events;
mod latencies;
mod memory;
mod nat;
mod populations;
mod ports;
mod queues;
mod ramp;
mod rates;
mod spread;
mod unit;
mod upstream;
mod validity;
mod work;

use crate::{
    record::{LatencySummary, LoadRow, TrialRecord, Values, WorkerCounts},
    suggest,
};

pub use nat::ports_taken;
use populations::OfLoad;
pub use populations::{metric_named, metric_of, metrics_with, unknown_metric};
pub use unit::{Better, Unit};

/// A number that trials may have.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its key in `summary.json`.
    pub name: &'static str,
    /// Its name in sentences.
    pub label: &'static str,
    /// What it counts or measures, as a sentence.
    pub meaning: &'static str,
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
    /// What it means if trials lack it, as a clause.
    pub absent: Option<&'static str>,
    /// Whether it counts all trials of a cell, and not only the valid ones.
    pub of_all_trials: bool,
    /// Whether it is about what fails.
    pub tells_failures: bool,
    /// The population that it is of; `None` if it is of the whole trial.
    pub population: Option<&'static str>,
    of_trial: fn(&TrialRecord) -> Option<f64>,
    /// The latencies that it is a figure of.
    over: Option<fn(&TrialRecord) -> &LatencySummary>,
    /// What a population has of it.
    of_load: Option<OfLoad>,
    /// Whether it rests on times although one trial settles it.
    pub timed: bool,
    /// Whether it counts what events lost: the counts of a cell's trials are added up.
    pub is_loss: bool,
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
    /// Each trial counts all of it, but how much there is may depend on chance: nothing is tested, and trials are told with their range.
    Counted,
    /// It varies between trials of a cell: only repetitions settle it.
    Sampled,
}

impl Kind {
    /// What it says of a metric.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Exact => "one trial settles it",
            Self::Counted => {
                "each trial counts all of it, but how much there is may depend on chance; nothing is tested"
            }
            Self::Sampled => "it varies between trials, so only repetitions settle it",
        }
    }

    /// Its name in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Counted => "counted",
            Self::Sampled => "sampled",
        }
    }
}

impl Metric {
    const fn new(
        kind: Kind,
        (name, label, meaning): (&'static str, &'static str, &'static str),
        unit: Unit,
        better: Better,
        read: fn(&TrialRecord) -> Option<f64>,
    ) -> Self {
        Self {
            name,
            label,
            meaning,
            unit,
            better,
            kind,
            compared: false,
            column: None,
            live: None,
            absent: None,
            of_all_trials: false,
            tells_failures: false,
            population: None,
            of_trial: read,
            over: None,
            of_load: None,
            timed: false,
            is_loss: false,
        }
    }

    /// Says that it rests on times.
    const fn timed(mut self) -> Self {
        self.timed = true;
        self
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

    /// Names the latencies that it is a figure of.
    const fn over(mut self, latencies: fn(&TrialRecord) -> &LatencySummary) -> Self {
        self.over = Some(latencies);
        self
    }

    /// Says what it means if trials lack it.
    const fn absent(mut self, meaning: &'static str) -> Self {
        self.absent = Some(meaning);
        self
    }

    /// Counts all trials of a cell.
    const fn of_all_trials(mut self) -> Self {
        self.of_all_trials = true;
        self
    }

    /// Makes it an answer to a question about failures: trials in which much fails stay valid.
    const fn about_failures(mut self) -> Self {
        self.tells_failures = true;
        self
    }

    /// Adds up the counts of a cell's trials.
    const fn loss(mut self) -> Self {
        self.is_loss = true;
        self
    }

    /// Gives it a column in the live view.
    const fn live(mut self, head: &'static str) -> Self {
        self.live = Some(head);
        self
    }

    /// Says what a population has of it.
    const fn of_loads(mut self, own: OfLoad) -> Self {
        self.of_load = Some(own);
        self
    }

    /// The name of the trial's metric that it is, or is a population's share of.
    pub fn of(&self) -> &'static str {
        self.population.map_or(self.name, |population| &self.name[population.len() + 1..])
    }

    /// Whether populations have it, too: then that of the whole load mixes what they tell apart.
    pub fn is_told_apart(&self) -> bool {
        self.population.is_none() && self.of_load.is_some()
    }

    /// Reads it from a trial. Infinite if it falls among attempts that failed.
    pub fn read(&self, trial: &TrialRecord) -> Option<f64> {
        match self.population {
            None => (self.of_trial)(trial),
            Some(population) => (self.of_load?.read)(row(trial, population)?),
        }
    }

    /// The latencies of a trial that it is a figure of, if it is one of latencies.
    pub fn latencies<'a>(&self, trial: &'a TrialRecord) -> Option<&'a LatencySummary> {
        match self.population {
            None => self.over.map(|latencies| latencies(trial)),
            Some(population) => Some((self.of_load?.over?)(row(trial, population)?)),
        }
    }

    /// The median of its values for display: `1.23 ms`, or `not reached (1.3 % lost)`.
    pub fn show_median(&self, values: &Values) -> String {
        let shown = self.unit.show(values.median);
        if values.median.is_finite() { shown } else { format!("{shown}{}", values.lost_in_words()) }
    }

    /// The verb that follows its label: accepts are, an accept wait is.
    pub fn is(&self) -> &'static str {
        let plural = |word: &str| word.ends_with('s') && !word.ends_with("'s");
        if self.label.split(' ').take(2).any(plural) { "are" } else { "is" }
    }

    /// Whether it is about the accept wait, which is exact or an upper bound, as the cell's `accept_wait_method` says.
    pub fn is_accept_wait(&self) -> bool {
        self.is_of_accepts() && !self.name.starts_with("accept_wait_bound_")
    }

    /// Whether it is about accept waits, exact ones or upper bounds.
    pub fn is_of_accepts(&self) -> bool {
        self.name.starts_with("accept_wait_")
    }

    /// Whether it is a limit, and trials that lack it did not meet it.
    pub fn is_limit(&self) -> bool {
        self.kind == Kind::Exact && self.better == Better::Higher && self.absent.is_some()
    }

    /// Whether repetitions decide, by a test.
    pub fn is_tested(&self) -> bool {
        self.kind == Kind::Sampled
    }

    /// Whether an emulated processor changes it: what takes time, and whatever repetitions settle.
    pub fn is_timed(&self) -> bool {
        self.is_tested() || self.timed
    }

    /// Whether cells are compared by it with a test.
    pub fn is_compared(&self) -> bool {
        self.compared && self.is_tested()
    }
}

/// A metric that one trial settles.
const fn exact(
    name: &'static str,
    label: &'static str,
    meaning: &'static str,
    unit: Unit,
    better: Better,
    read: fn(&TrialRecord) -> Option<f64>,
) -> Metric {
    Metric::new(Kind::Exact, (name, label, meaning), unit, better, read)
}

/// A metric that each trial counts in full, and that may depend on chance.
const fn counted(
    name: &'static str,
    label: &'static str,
    meaning: &'static str,
    unit: Unit,
    better: Better,
    read: fn(&TrialRecord) -> Option<f64>,
) -> Metric {
    Metric::new(Kind::Counted, (name, label, meaning), unit, better, read)
}

/// A metric that only repetitions settle.
const fn sampled(
    name: &'static str,
    label: &'static str,
    meaning: &'static str,
    unit: Unit,
    better: Better,
    read: fn(&TrialRecord) -> Option<f64>,
) -> Metric {
    Metric::new(Kind::Sampled, (name, label, meaning), unit, better, read)
}

/// The families, in the order of tables.
const FAMILIES: &[&[Metric]] = &[
    ports::METRICS,
    rates::METRICS,
    latencies::METRICS,
    spread::METRICS,
    queues::METRICS,
    upstream::METRICS,
    memory::METRICS,
    ramp::METRICS,
    work::METRICS,
    events::METRICS,
    validity::METRICS,
    // Last: intervals of the metrics above keep their random numbers.
    conntrack::METRICS,
    nat::METRICS,
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

/// A trial's metric by its name, with or without a final `_ns`.
fn trial_metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name || metric.name.strip_suffix("_ns") == Some(name))
}

/// The metrics that a scenario with these populations names, in its order. The error completes the sentence that begins with the key.
pub fn metrics_named(names: &[String], populations: &[&str]) -> Result<Vec<&'static Metric>, String> {
    let mut metrics: Vec<&'static Metric> = Vec::with_capacity(names.len());
    for name in names {
        let metric = metric_of(name, populations)?;
        if metrics.iter().any(|known| known.name == metric.name) {
            return Err(format!("lists `{}` twice", metric.name));
        }
        metrics.push(metric);
    }
    Ok(metrics)
}

/// The known names that a name may have meant, as the end of a sentence. What stands before the name stands before them, too.
fn meant((name, before): (&str, &str), known: impl Iterator<Item = &'static str> + Clone) -> String {
    let similarity = |known: &str| {
        let short = known.strip_suffix("_ns").unwrap_or(known);
        suggest::similarity(known, name).max(suggest::similarity(short, name))
    };
    let similar = suggest::similar_by(similarity, known.clone());
    if similar.is_empty() {
        let known: Vec<String> = known.map(|name| format!("{before}{name}")).collect();
        return format!("; known metrics: {}", known.join(", "));
    }
    suggest::did_you_mean(&similar, |name| format!("`{before}{name}`"))
}

/// A trial's row of a population; `None` unless it has several.
fn row<'a>(trial: &'a TrialRecord, population: &str) -> Option<&'a LoadRow> {
    trial.populations().iter().find(|load| load.name == population)
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

/// A count in the measured window, over all members; `None` unless it is known of each.
fn sum(trial: &TrialRecord, count: fn(&WorkerCounts) -> Option<u64>) -> Option<f64> {
    trial.workers.iter().map(|worker| count(&worker.measured)).sum::<Option<u64>>().map(|sum| sum as f64)
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
    fn a_slip_is_met_with_the_names_it_may_have_meant() {
        let named = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            metrics_named(&names, &[]).map(|metrics| metrics.iter().map(|metric| metric.name).collect::<Vec<_>>())
        };
        assert_eq!(named(&["response_p99", "imbalance"]).unwrap(), ["response_p99_ns", "imbalance"]);
        assert_eq!(named(&["response_p99", "response_p99_ns"]).unwrap_err(), "lists `response_p99_ns` twice");
        let slip = named(&["acept_wait_p99"]).unwrap_err();
        assert!(slip.starts_with("unknown metric \"acept_wait_p99\"; did you mean `accept_wait_p99_ns`, "), "{slip}");
        let nonsense = named(&["zzz"]).unwrap_err();
        assert!(nonsense.contains("; known metrics: ports_wall, "), "{nonsense}");
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
