//! `cells.csv`: a row for each metric of each cell.

use anyhow::Result;

use super::{CsvColumn, Exporter, Render};
use crate::{
    record::{WaitEnd, WaitMethod},
    report::csv::{Swept, figure, text},
    stats::{Summary, Waits},
};

pub(super) const EXPORTER: Exporter =
    Exporter { name: "cells.csv", render: Render::File(|report| table(report.ranked.summary).map(Some)) };

/// The columns after those of swept values.
pub(super) const COLUMNS: &[CsvColumn] = &[
    ("metric", "The metric's name: a cell has a row for each."),
    ("method", "How accept waits were measured, in rows about them."),
    ("ends", "What ends the accept wait, in rows about it."),
    ("unit", "What the figures count: ns, s, 1/s, count, share (0 to 1), ratio or bytes."),
    ("better", "Which direction is better: lower, higher or neither."),
    ("valid_trials", "Valid trials of the cell."),
    ("values", "How many of them have the metric."),
    ("median", "The median over these trials; empty if it was not reached."),
    ("low", "The lower end of the median's interval."),
    ("high", "The upper end of the median's interval."),
    (
        "interval",
        "What the interval is: bootstrap (95 %), or range, from the lowest value to the highest, of too few values.",
    ),
];

fn table(summary: &Summary) -> Result<String> {
    let swept = Swept::of(summary.cells.iter().map(|cell| &cell.cell));
    let mut head = swept.columns();
    head.extend(COLUMNS.iter().map(|(name, _)| (*name).to_owned()));
    let mut rows = vec![head];
    for cell in &summary.cells {
        for metric in &summary.metrics {
            let Some(values) = cell.metrics.get(metric.name) else { continue };
            let mut row = swept.values(&cell.cell);
            row.extend([
                metric.name.to_owned(),
                cell.accept_wait_method.filter(|_| metric.is_accept_wait()).map_or("", WaitMethod::name).to_owned(),
                Waits::of_metric(metric, cell).and_then(|waits| waits.ends).map_or("", WaitEnd::name).to_owned(),
                metric.unit.as_str().to_owned(),
                metric.better.as_str().to_owned(),
                cell.valid.to_string(),
                values.values.len().to_string(),
                figure(values.median),
                figure(values.low),
                figure(values.high),
                values.interval.as_str().to_owned(),
            ]);
            rows.push(row);
        }
    }
    text(rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::Outcome,
        stats::{self, fixture},
    };

    #[test]
    fn a_row_for_each_metric_of_each_cell() {
        let record = fixture::record(vec![
            fixture::trial(0, &json!({"strategy": "reuseport", "path": "/a,\"b\"\n\\c"}), Outcome::Valid),
            fixture::trial(1, &json!({"strategy": "reuseport", "path": "/a,\"b\"\n\\c"}), Outcome::Valid),
        ]);
        let text = table(&stats::summarize(&record)).unwrap();
        let (head, rows) = text.split_once('\n').unwrap();
        assert_eq!(
            head,
            "cell.strategy,cell.path,metric,method,ends,unit,better,valid_trials,values,median,low,high,interval"
        );
        // A comma, quotes and a line break in a field; a backslash has no meaning in CSV.
        let cell = "reuseport,\"/a,\"\"b\"\"\n\\c\"";
        assert!(rows.contains(&format!("{cell},accepted_per_s,,,1/s,higher,2,2,100.5,100,101,range\n")), "{text}");
        assert!(
            rows.contains(&format!("{cell},accept_wait_p50_ns,sock_ops,serving,ns,lower,2,2,5000,5000,5000,range\n"))
        );
    }
}
