//! The record as tables for spreadsheets and data frames: `cells.csv` and `trials.csv`.

use anyhow::{Context, Result};
use csv::Writer;
use serde_json::{Map, Value as Json};

use super::ranking::plain;
use crate::{
    record::{Outcome, Record, TrialRecord},
    stats::{METRICS, Metric, Summary},
};

/// A row a cell and metric. Swept values have a column each, `cell.<name>`: the prefix keeps them apart from all others.
pub fn cells(summary: &Summary) -> Result<String> {
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
                cell.accept_wait_method.clone().filter(|_| metric.is_accept_wait()).unwrap_or_default(),
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

/// A row a trial, in the order of execution. A metric has a column where any trial has it, and is empty where this one has
/// not; of failed trials all are, since they measured nothing.
pub fn trials(record: &Record) -> Result<String> {
    let names = swept(record.trials.iter().map(|trial| &trial.cell));
    let figures = |trial: &TrialRecord, metric: &Metric| {
        if trial.outcome == Outcome::Failed { None } else { (metric.read)(trial) }
    };
    let shown = |metric: &&Metric| record.trials.iter().any(|trial| figures(trial, metric).is_some());
    let metrics: Vec<&Metric> = METRICS.iter().filter(shown).collect();
    let mut head = ["scenario", "trial", "repetition"].map(str::to_owned).to_vec();
    head.extend(columns(&names));
    head.extend(["outcome", "verdicts", "duration_s", "accept_wait_method"].map(str::to_owned));
    head.extend(metrics.iter().map(|metric| metric.name.to_owned()));
    let row = |trial: &TrialRecord| {
        let mut row = vec![trial.scenario.clone(), trial.trial.to_string(), trial.repetition.to_string()];
        row.extend(swept_values(&names, &trial.cell));
        let verdicts: Vec<&str> = trial.verdicts.iter().map(|verdict| verdict.name.as_str()).collect();
        row.extend([
            trial.outcome.as_str().to_owned(),
            verdicts.join(";"),
            trial.duration_s.to_string(),
            trial.latency_ns.accept_wait.method.clone().unwrap_or_default(),
        ]);
        row.extend(metrics.iter().map(|metric| figures(trial, metric).map_or_else(String::new, |f| f.to_string())));
        row
    };
    text(std::iter::once(head).chain(record.trials.iter().map(row)))
}

/// Names of the swept values of all cells, in the order of the matrix.
pub(super) fn swept<'a>(cells: impl Iterator<Item = &'a Map<String, Json>>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for name in cells.flat_map(Map::keys) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

fn columns(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("cell.{name}")).collect()
}

fn swept_values(names: &[&str], cell: &Map<String, Json>) -> Vec<String> {
    names.iter().map(|name| cell.get(*name).map_or_else(String::new, plain)).collect()
}

fn text(rows: impl IntoIterator<Item = Vec<String>>) -> Result<String> {
    let mut writer = Writer::from_writer(Vec::new());
    rows.into_iter().try_for_each(|row| writer.write_record(row)).context("writing CSV")?;
    String::from_utf8(writer.into_inner().context("writing CSV")?).context("writing CSV")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{Verdict, VerdictName},
        report::fixture,
        stats,
    };

    #[test]
    fn a_row_a_cell_and_metric() {
        let record = fixture::record(vec![
            fixture::trial(0, &json!({"strategy": "reuseport", "path": "/a,\"b\"\n\\c"}), Outcome::Valid),
            fixture::trial(1, &json!({"strategy": "reuseport", "path": "/a,\"b\"\n\\c"}), Outcome::Valid),
        ]);
        let text = cells(&stats::summarize(&record)).unwrap();
        let (head, rows) = text.split_once('\n').unwrap();
        assert_eq!(
            head,
            "cell.strategy,cell.path,metric,method,unit,better,valid_trials,values,median,low,high,interval"
        );
        // A comma, quotes and a line break within a field; a backslash means nothing to CSV.
        let cell = "reuseport,\"/a,\"\"b\"\"\n\\c\"";
        assert!(rows.contains(&format!("{cell},accepted_per_s,,1/s,higher,2,2,100.5,100,101,range\n")), "{text}");
        assert!(rows.contains(&format!("{cell},accept_wait_p50_ns,sock_ops,ns,lower,2,2,5000,5000,5000,range\n")));
    }

    #[test]
    fn a_row_a_trial_with_failed_ones_empty() {
        let mut flawed = fixture::trial(1, &json!({"metric": 2}), Outcome::Invalid);
        for name in [VerdictName::CpuSteal, VerdictName::Deadline] {
            flawed.verdicts.push(Verdict { name, detail: "a, b".to_owned(), invalidates: name.invalidates() });
        }
        let record = fixture::record(vec![
            fixture::trial(0, &json!({"metric": 1}), Outcome::Valid),
            flawed,
            fixture::trial(2, &json!({"metric": 2}), Outcome::Failed),
        ]);
        let text = trials(&record).unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let head = reader.headers().unwrap().clone();
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let at = |row: usize, name: &str| &rows[row][head.iter().position(|column| column == name).unwrap()];
        assert_eq!((rows.len(), head.iter().filter(|name| *name == "cell.metric").count()), (3, 1));
        assert_eq!((at(0, "cell.metric"), at(0, "accepted_per_s"), at(0, "verdicts")), ("1", "100", ""));
        assert_eq!(
            (at(1, "outcome"), at(1, "verdicts"), at(1, "accepted_per_s")),
            ("invalid", "cpu-steal;deadline", "101")
        );
        assert_eq!((at(2, "outcome"), at(2, "accepted_per_s"), at(2, "accept_wait_p50_ns")), ("failed", "", ""));
        assert!(!head.iter().any(|name| name == "ports_wall"), "no trial has it");
        let mut names: Vec<&str> = head.iter().collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), head.len());
    }
}
