//! The metrics of a load's populations: what a trial has of each of several, `kept.response_p99_ns`.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::{Column, METRICS, Metric, meant, trial_metric};
use crate::{
    record::{LatencySummary, LoadRow},
    suggest,
};

/// What a population has of a metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfLoad {
    /// What is followed by the population's name in sentences, unless it is the metric's label.
    label: Option<&'static str>,
    /// Whether it has a column in the table of cells.
    column: bool,
    /// The head of its column in the live view, unless it is the metric's.
    live: Option<&'static str>,
    pub read: fn(&LoadRow) -> Option<f64>,
    /// The latencies that it is a figure of.
    pub over: Option<fn(&LoadRow) -> &LatencySummary>,
}

impl OfLoad {
    pub const fn new(read: fn(&LoadRow) -> Option<f64>) -> Self {
        Self { label: None, column: false, live: None, read, over: None }
    }

    /// Is called this.
    pub const fn label(mut self, label: &'static str) -> Self {
        self.label = Some(label);
        self
    }

    /// Has a column, if the metric has one.
    pub const fn column(mut self) -> Self {
        self.column = true;
        self
    }

    /// Has a column in the live view.
    pub const fn live(mut self, head: &'static str) -> Self {
        self.live = Some(head);
        self
    }

    /// Is a figure of these latencies.
    pub const fn over(mut self, latencies: fn(&LoadRow) -> &LatencySummary) -> Self {
        self.over = Some(latencies);
        self
    }
}

impl Metric {
    /// Its like of a population; `None` if populations have none.
    fn of_population(&self, population: &'static str) -> Option<Self> {
        let own = self.of_load?;
        let headed = |head: &str| -> &'static str { format!("{population}\n{head}").leak() };
        let column = self.column.filter(|_| own.column);
        let column = column.map(|column| Column { head: headed(column.head), only_with: None, ..column });
        Some(Self {
            name: format!("{population}.{}", self.name).leak(),
            label: format!("{} of {population}", own.label.unwrap_or(self.label)).leak(),
            column,
            live: own.live.or(self.live).map(|head| -> &'static str { format!("{population} {head}").leak() }),
            population: Some(population),
            ..*self
        })
    }
}

/// The metrics of a population, in the order of the trial's. They stay for as long as the process runs, so whoever takes a name from a
/// file checks first that there is such a population.
fn metrics_of(population: &str) -> &'static [Metric] {
    static KNOWN: Mutex<BTreeMap<&'static str, &'static [Metric]>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(metrics) = known.get(population) {
        return metrics;
    }
    let name: &'static str = population.to_owned().leak();
    let metrics: Vec<Metric> = METRICS.iter().filter_map(|metric| metric.of_population(name)).collect();
    let metrics: &'static [Metric] = metrics.leak();
    known.insert(name, metrics);
    metrics
}

/// All metrics of trials with these populations: their own, and then those of each.
pub fn metrics_with(populations: &[&str]) -> Vec<&'static Metric> {
    METRICS.iter().chain(populations.iter().flat_map(|population| metrics_of(population))).collect()
}

/// A metric by its name, with or without a final `_ns`: a trial's, or that of a population of any name.
pub fn metric_named(name: &str) -> Option<&'static Metric> {
    let Some((population, of)) = name.split_once('.') else { return trial_metric(name) };
    let of = trial_metric(of).filter(|of| of.of_load.is_some() && !population.is_empty())?;
    metrics_of(population).iter().find(|metric| metric.of() == of.name)
}

/// A metric that trials with these populations may have. The error completes the sentence that begins with the key.
pub fn metric_of(name: &str, populations: &[&str]) -> Result<&'static Metric, String> {
    let Some((population, of)) = name.split_once('.') else {
        return trial_metric(name).ok_or_else(|| unknown_metric(name));
    };
    if !populations.contains(&population) {
        return Err(format!("unknown metric \"{name}\"; {}", known_populations(population, populations)));
    }
    match (trial_metric(of), metric_named(name)) {
        (_, Some(metric)) => Ok(metric),
        (Some(metric), None) => {
            Err(format!("`{}` is known of the whole load only, not of `{population}`", metric.name))
        }
        (None, None) => Err(unknown_metric(name)),
    }
}

/// Which names may stand before a metric's.
fn known_populations(named: &str, populations: &[&str]) -> String {
    match populations {
        [] => "only a scenario with several [[load]] tables has metrics by population".to_owned(),
        _ => {
            let meant = suggest::hint(named, populations.iter().copied());
            format!("the populations of this scenario are `{}`{meant}", populations.join("`, `"))
        }
    }
}

/// What is wrong with a name that no metric has, with those it may have meant.
pub fn unknown_metric(name: &str) -> String {
    let meant = match name.split_once('.') {
        None => meant((name, ""), METRICS.iter().map(|metric| metric.name)),
        Some((population, of)) => {
            let of_loads = METRICS.iter().filter(|metric| metric.of_load.is_some());
            meant((of, &format!("{population}.")), of_loads.map(|metric| metric.name))
        }
    };
    format!("unknown metric \"{name}\"{meant}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Due, Latencies, Measured, Rates, TrialRecord};

    fn load(name: &str, p99: Option<u64>) -> LoadRow {
        let response = LatencySummary { due: 200, lost: 2, count: 198, p99, ..LatencySummary::default() };
        LoadRow {
            name: name.to_owned(),
            rates: Rates { completed_per_s: Some(7.0), ..Rates::default() },
            latency_ns: Latencies { response, ..Latencies::default() },
            ..LoadRow::default()
        }
    }

    #[test]
    fn each_of_several_populations_has_its_own_figures() {
        let trial = TrialRecord { loads: vec![load("kept", Some(5)), load("storm", None)], ..TrialRecord::default() };
        let of = |name: &str| metric_named(name).unwrap().read(&trial);
        assert_eq!((of("kept.response_p99"), of("storm.response_p99_ns")), (Some(5.0), Some(f64::INFINITY)));
        assert_eq!((of("kept.completed_per_s"), of("kept.lost_connections_share")), (Some(7.0), Some(0.01)));
        assert_eq!((of("kept.connect_p99"), of("other.response_p99")), (None, None));
        let kept = metric_named("kept.response_p99").unwrap();
        assert_eq!(
            (kept.name, kept.label, kept.of()),
            ("kept.response_p99_ns", "response p99 of kept", "response_p99_ns")
        );
        assert_eq!(kept.latencies(&trial).map(|of| of.lost), Some(2));
        assert!(std::ptr::eq(kept, metric_named("kept.response_p99_ns").unwrap()), "made once");
        assert_eq!(metric_named("storm.completed_per_s").map(Metric::is), Some("are"));
        // A single population has what the trial has.
        let alone = TrialRecord { loads: vec![load("kept", Some(5))], ..TrialRecord::default() };
        assert_eq!(kept.read(&alone), None);
    }

    #[test]
    fn kept_connections_complete_requests_and_no_connections_per_second() {
        let due = |planned, completed| Due { planned, completed, ..Due::default() };
        let of = |name, due, is_kept| LoadRow {
            measured: Measured::default().with_due(std::iter::once((due, is_kept))),
            ..load(name, None)
        };
        let loads = vec![of("kept", due(200, 150), true), of("storm", due(50, 50), false)];
        let measured = Measured::default().with_due([(due(200, 150), true), (due(50, 50), false)].into_iter());
        let trial = TrialRecord { loads, measured, ..TrialRecord::default() };
        let of = |name: &str| metric_named(name).unwrap().read(&trial);
        assert_eq!((of("kept.completed_per_s"), of("storm.completed_per_s")), (None, Some(7.0)));
        assert_eq!((of("kept.completed_share"), of("storm.completed_share")), (Some(0.75), Some(1.0)));
        assert_eq!(of("completed_share"), None, "requests and connections");
    }

    #[test]
    fn what_only_the_whole_load_has_is_no_population_s() {
        for name in
            ["kept.accepted_per_s", "kept.accept_wait_p99", "kept.imbalance", "kept.", ".response_p99", "kept.x"]
        {
            assert!(metric_named(name).is_none(), "{name}");
        }
        let names: Vec<&str> = metrics_with(&["kept"]).iter().map(|metric| metric.name).collect();
        assert_eq!(names[..METRICS.len()], METRICS.iter().map(|metric| metric.name).collect::<Vec<_>>());
        assert!(names[METRICS.len()..].iter().all(|name| name.starts_with("kept.")), "{names:?}");
    }

    #[test]
    fn a_slip_says_which_populations_and_metrics_there_are() {
        let says = |name: &str, populations: &[&str]| metric_of(name, populations).map(|metric| metric.name);
        let both = &["kept", "storm"];
        assert_eq!(says("kept.response_p99", both).unwrap(), "kept.response_p99_ns");
        assert_eq!(says("response_p99", both).unwrap(), "response_p99_ns");
        assert_eq!(
            says("keep.response_p99", both).unwrap_err(),
            "unknown metric \"keep.response_p99\"; the populations of this scenario are `kept`, `storm`; did you mean \"kept\"?"
        );
        assert_eq!(
            says("kept.response_p99", &[]).unwrap_err(),
            "unknown metric \"kept.response_p99\"; only a scenario with several [[load]] tables has metrics by population"
        );
        assert_eq!(
            says("kept.imbalance", both).unwrap_err(),
            "`imbalance` is known of the whole load only, not of `kept`"
        );
        assert!(says("kept.respond_p99", both).unwrap_err().contains("; did you mean `kept.response_p99_ns`"));
        let unlike = says("kept.foo", both).unwrap_err();
        assert!(unlike.contains("; known metrics: kept.completed_per_s, kept.requests_per_s, "), "{unlike}");
    }
}
