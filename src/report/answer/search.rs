//! The answer of a scenario that searches.

use serde_json::{Map, Value as Json};

use super::{Answer, fate};
use crate::{
    format::thousands,
    report::short,
    stats::{
        Better, Record, Summary,
        search::{Found, SearchStatus},
    },
};

/// A value of its variable that a search tried: its three digits, and the unit if it is a rate.
pub fn value(variable: &str, value: f64) -> String {
    let number = if value >= 1_000.0 { thousands(value) } else { value.to_string() };
    if variable.ends_with("rate") { number + "/s" } else { number }
}

/// Answers with the results of searches.
pub(super) fn of_search(record: &Record, summary: &Summary) -> Answer {
    let metric = summary.asked[0];
    let figure = |value: f64| metric.unit.show(value);
    let mut found: Vec<_> = summary.searches.iter().collect();
    found.sort_by(|one, other| other.within.unwrap_or(0.0).total_cmp(&one.within.unwrap_or(0.0)));
    let name = |cell: &Map<String, Json>| match short(cell) {
        name if name.is_empty() => name,
        name => format!("{name} "),
    };
    let prefix = |cell: &Map<String, Json>| match short(cell) {
        name if name.is_empty() => name,
        name => format!("{name}: "),
    };
    let tried = |tried: f64| value(&found[0].variable, tried);
    let part = |search: &&Found| {
        // Unconfirmed ends are where the search stands, not what it found.
        let so_far = if search.status == SearchStatus::Confirmed { "" } else { " so far" };
        let found = match (search.within, search.beyond) {
            (Some(within), Some(beyond)) => format!("{}{so_far} ({} does not)", tried(within), tried(beyond)),
            (Some(within), None) => format!("{} or more", tried(within)),
            (None, Some(beyond)) => format!("none{so_far} ({} does not)", tried(beyond)),
            (None, None) => {
                let trials = record
                    .trials
                    .iter()
                    .filter(|trial| search.cell.iter().all(|(key, value)| trial.cell.get(key) == Some(value)));
                format!("unknown: {}", fate::of(&trials.collect::<Vec<_>>()))
            }
        };
        format!("{}{found}", name(&search.cell))
    };
    let first = found[0];
    let within = if metric.better == Better::Higher { "at or above" } else { "within" };
    let sentence = format!(
        "The highest {} that keeps {} {within} {}: {}.",
        first.variable,
        metric.label,
        figure(first.limit),
        found.iter().map(part).collect::<Vec<_>>().join(", ")
    );
    let evidence = found.iter().map(|search| {
        let at = |value: Option<f64>, of: Option<f64>| {
            value.map(|value| {
                let of = of.map_or_else(|| "not sustained".to_owned(), figure);
                format!("{of} at {}", tried(value))
            })
        };
        let ends = [at(search.within, search.within_figure), at(search.beyond, search.beyond_figure)];
        let ends: Vec<String> = ends.into_iter().flatten().collect();
        // A search may have found neither end.
        let separator = if ends.is_empty() { "" } else { "; " };
        let ends = ends.join(", ");
        format!("{}{ends}{separator}{}, {} trials", prefix(&search.cell), status(search.status), search.trials)
    });
    Answer { metric: first.variable.clone(), sentence, evidence: evidence.collect(), verdicts: Vec::new() }
}

/// How a search ended, in words.
pub fn status(status: SearchStatus) -> &'static str {
    match status {
        SearchStatus::Confirmed => "both ends confirmed",
        SearchStatus::NoEndFound => "even search.highest keeps the limit",
        SearchStatus::NothingWithin => "not even the lowest value tried keeps the limit",
        SearchStatus::TrialsExhausted => "search.max_trials was reached first",
        SearchStatus::Failed => "its trials failed or were invalid",
        SearchStatus::Unfinished => "the run ended first",
    }
}
