//! `bencher.json`: the cells' figures in the Bencher Metric Format, for `bencher run --adapter json --file`.

use anyhow::{Context, Result};
use serde_json::{Map, Value as Json, json};

use super::{Exporter, Render, named::named};
use crate::{record::Values, stats::Summary};

pub(super) const EXPORTER: Exporter =
    Exporter { name: "bencher.json", render: Render::File(|report| render(report.ranked.summary).map(Some)) };

/// Characters of the longest name of a measure.
const LONGEST_MEASURE: usize = 64;

/// A benchmark for each cell that has any, a measure for each metric.
fn render(summary: &Summary) -> Result<String> {
    let mut benchmarks = Map::new();
    for cell in named(summary) {
        let measure = |values: &Values| {
            let mut measure = Map::new();
            measure.insert("value".to_owned(), json!(values.median));
            for (name, end) in [("lower_value", values.low), ("upper_value", values.high)] {
                // What was not reached has no number.
                if end.is_finite() {
                    measure.insert(name.to_owned(), json!(end));
                }
            }
            Json::Object(measure)
        };
        let mut measures: Map<String, Json> = Map::new();
        for (metric, values) in cell.figures.iter().filter(|(_, values)| values.median.is_finite()) {
            let name = short(metric.name, |name| measures.contains_key(name));
            measures.insert(name, measure(values));
        }
        if !measures.is_empty() {
            benchmarks.insert(cell.name, Json::Object(measures));
        }
    }
    let text = serde_json::to_string_pretty(&benchmarks).context("writing Bencher's JSON")?;
    Ok(text + "\n")
}

/// A metric's name within Bencher's limit: of a long one, the population is cut, and numbered.
fn short(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let (population, metric) = name.split_once('.').unwrap_or(("", name));
    let left: String = population.chars().take(LONGEST_MEASURE.saturating_sub(metric.len() + 6)).collect();
    let cut = (1..).map(|number| format!("{left}~{number}.{metric}")).find(|name| !is_taken(name));
    if name.len() <= LONGEST_MEASURE { name.to_owned() } else { cut.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::Outcome,
        stats::{METRICS, fixture, summarize},
    };

    #[test]
    fn a_benchmark_for_each_cell() {
        let cell = json!({"strategy": "a\"b\\c|"});
        let trials = (0..5).map(|number| {
            let mut trial = fixture::trial(number, &cell, Outcome::Valid);
            trial.latency_ns.accept_wait.p99 = None;
            // Reached in most trials, but not in all.
            trial.latency_ns.accept_wait.p90 = Some(7_000).filter(|_| number < 3);
            trial
        });
        let text = render(&summarize(&fixture::record(trials.collect()))).unwrap();
        let read: Json = serde_json::from_str(&text).unwrap();
        let of = &read["made-up: strategy=a\"b\\c|"];
        assert_eq!(of["accepted_per_s"]["value"], 102.0);
        assert!(of["accepted_per_s"]["lower_value"].as_f64() <= Some(102.0));
        assert_eq!(
            (&of["accept_wait_p90_ns"]["value"], of["accept_wait_p90_ns"].get("upper_value")),
            (&json!(7_000.0), None)
        );
        assert_eq!(of.get("accept_wait_p99_ns"), None);
    }

    #[test]
    fn trials_that_failed_leave_their_share_and_no_trials_leave_an_empty_object() {
        let record = fixture::record(vec![fixture::trial(0, &json!({}), Outcome::Failed)]);
        let text = render(&summarize(&record)).unwrap();
        let read: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(read["made-up: (one cell)"]["valid_share"]["value"], 0.0);
        assert_eq!(render(&summarize(&fixture::record(Vec::new()))).unwrap(), "{}\n");
    }

    #[test]
    fn measures_are_as_short_as_bencher_takes_them() {
        assert!(METRICS.iter().all(|metric| metric.name.len() < LONGEST_MEASURE - 10));
        assert_eq!(short("kept.response_p99_ns", |_| false), "kept.response_p99_ns");
        let long = format!("{}.response_p99_ns", "k".repeat(64));
        let (one, other) = (short(&long, |_| false), short(&long, |name| name.contains("~1.")));
        assert_eq!(
            (one, other),
            (format!("{}~1.response_p99_ns", "k".repeat(43)), format!("{}~2.response_p99_ns", "k".repeat(43)))
        );
    }
}
