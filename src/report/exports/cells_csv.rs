//! `cells.csv`: a row for each metric of each cell.

use anyhow::Result;

use super::{Exporter, Render};
use crate::{
    record::WaitMethod,
    report::csv::{columns, swept, swept_values, text},
    stats::{METRICS, Summary},
};

pub(super) const EXPORTER: Exporter =
    Exporter { name: "cells.csv", render: Render::File(|report| table(report.ranked.summary).map(Some)) };

fn table(summary: &Summary) -> Result<String> {
    let names = swept(summary.cells.iter().map(|cell| &cell.cell));
    let mut head = columns(&names);
    let fixed = ["metric", "method", "unit", "better", "valid_trials", "values", "median", "low", "high", "interval"];
    head.extend(fixed.map(str::to_owned));
    let mut rows = vec![head];
    for cell in &summary.cells {
        for metric in METRICS {
            let Some(values) = cell.metrics.get(metric.name) else { continue };
            let mut row = swept_values(&names, &cell.cell);
            row.extend([
                metric.name.to_owned(),
                cell.accept_wait_method.filter(|_| metric.is_accept_wait()).map_or("", WaitMethod::name).to_owned(),
                metric.unit.as_str().to_owned(),
                metric.better.as_str().to_owned(),
                cell.valid.to_string(),
                values.values.len().to_string(),
                values.median.to_string(),
                values.low.to_string(),
                values.high.to_string(),
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
            "cell.strategy,cell.path,metric,method,unit,better,valid_trials,values,median,low,high,interval"
        );
        // A comma, quotes and a line break in a field; a backslash has no meaning in CSV.
        let cell = "reuseport,\"/a,\"\"b\"\"\n\\c\"";
        assert!(rows.contains(&format!("{cell},accepted_per_s,,1/s,higher,2,2,100.5,100,101,range\n")), "{text}");
        assert!(rows.contains(&format!("{cell},accept_wait_p50_ns,sock_ops,ns,lower,2,2,5000,5000,5000,range\n")));
    }
}
