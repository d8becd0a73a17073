//! `otava.csv`: the record as one row, for Apache Otava's CSV importer, which looks for change points in the rows of many records.
//!
//! Its columns have the same names in every record of a scenario, so that rows can be put together by name.

use anyhow::Result;

use super::{Exporter, Render, named::named, origin::Origin};
use crate::{
    report::csv::{figure, text},
    stats::{Record, Summary},
};

pub(super) const EXPORTER: Exporter = Exporter {
    name: "otava.csv",
    render: Render::File(|report| table(report.ranked.record, report.ranked.summary).map(Some)),
};

/// What was not reached is empty, which Otava refuses for a metric that it is to analyse.
fn table(record: &Record, summary: &Summary) -> Result<String> {
    let origin = Origin::of(record);
    let (mut head, mut row) = (Vec::new(), Vec::new());
    for (name, value) in origin.named() {
        head.push(if name == "run" { "time" } else { name }.to_owned());
        row.push(value.to_owned());
    }
    for cell in named(summary) {
        for (metric, values) in &cell.figures {
            head.push(format!("{} {}", cell.name, metric.name));
            row.push(figure(values.median));
        }
    }
    text([head, row])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::Outcome,
        stats::{fixture, summarize},
    };

    #[test]
    fn a_record_is_a_row() {
        let trials = (0..3).map(|number| fixture::trial(number, &json!({"strategy": "a,\"b"}), Outcome::Valid));
        let mut record = fixture::record(trials.collect());
        record.raw.host = json!({"revision": "=1+1", "kernel": "6.18", "host": "v\nm"});
        let text = table(&record, &summarize(&record)).unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let head = reader.headers().unwrap().clone();
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let at = |name: &str| &rows[0][head.iter().position(|column| column == name).unwrap()];
        assert_eq!(rows.len(), 1);
        assert_eq!(["time", "revision", "kernel", "host"].map(at), ["2026-01-31T12:00:00Z", "'=1+1", "6.18", "v m"]);
        assert_eq!(at("made-up: strategy=a,\"b accepted_per_s"), "101");
        // Otava takes such a column for branches of a repository.
        assert!(head.iter().all(|column| column != "branch"));
        let empty = fixture::record(Vec::new());
        assert_eq!(table(&empty, &summarize(&empty)).unwrap(), "time,revision,kernel,host\n,,,\n");
    }
}
