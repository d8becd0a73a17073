//! `benchmark-smaller.json` and `benchmark-bigger.json`: the cells' figures for github-action-benchmark, as its tools
//! `customSmallerIsBetter` and `customBiggerIsBetter` read them.

use anyhow::{Context, Result};
use serde_json::{Map, Value as Json, json};

use super::{Exporter, Render, named::named};
use crate::{
    format::plural,
    stats::{Better, Summary},
};

pub(super) const SMALLER: Exporter = Exporter {
    name: "benchmark-smaller.json",
    render: Render::File(|report| render(report.ranked.summary, Better::Lower).map(Some)),
};

pub(super) const BIGGER: Exporter = Exporter {
    name: "benchmark-bigger.json",
    render: Render::File(|report| render(report.ranked.summary, Better::Higher).map(Some)),
};

/// An entry for each cell and metric of this direction.
fn render(summary: &Summary, better: Better) -> Result<String> {
    let mut entries = Vec::new();
    for cell in named(summary) {
        for (metric, values) in cell.figures.iter().filter(|(metric, _)| metric.better == better) {
            if !values.median.is_finite() {
                continue;
            }
            let mut entry: Map<String, Json> = Map::new();
            entry.insert("name".to_owned(), format!("{} – {}", cell.name, metric.label).into());
            entry.insert("unit".to_owned(), metric.unit.as_str().into());
            entry.insert("value".to_owned(), json!(values.median));
            let end = |value: f64| if value.is_finite() { value.to_string() } else { "not reached".to_owned() };
            entry.insert("range".to_owned(), format!("{} to {}", end(values.low), end(values.high)).into());
            let extra =
                format!("{}: {} of {}", metric.name, values.interval.as_str(), plural(cell.cell.valid, "valid trial"));
            entry.insert("extra".to_owned(), extra.into());
            entries.push(Json::Object(entry));
        }
    }
    let text = serde_json::to_string_pretty(&entries).context("writing github-action-benchmark's JSON")?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::Outcome,
        stats::{fixture, summarize},
    };

    #[test]
    fn each_direction_has_its_file() {
        let trials = (0..2).map(|number| fixture::trial(number, &json!({"strategy": "a\"b"}), Outcome::Valid));
        let summary = summarize(&fixture::record(trials.collect()));
        let entries = |better| -> Vec<Json> { serde_json::from_str(&render(&summary, better).unwrap()).unwrap() };
        let accepted = entries(Better::Higher)
            .into_iter()
            .find(|one| one["extra"].as_str().unwrap().starts_with("accepted_per_s"))
            .unwrap();
        assert_eq!(
            accepted,
            json!({"name": "made-up: strategy=a\"b – accepts", "unit": "1/s", "value": 100.5, "range": "100 to 101",
                   "extra": "accepted_per_s: range of 2 valid trials"})
        );
        let smaller = entries(Better::Lower);
        assert!(smaller.iter().any(|one| one["extra"].as_str().unwrap().starts_with("accept_wait_p50_ns: ")));
        assert_eq!(render(&summarize(&fixture::record(Vec::new())), Better::Higher).unwrap(), "[]\n");
    }
}
