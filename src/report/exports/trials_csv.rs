//! `trials.csv`: a row for each trial.

use anyhow::Result;

use super::{Exporter, Render};
use crate::{
    record::{Outcome, TrialRecord, WaitMethod},
    report::csv::{columns, swept, swept_values, text},
    stats::{METRICS, Metric, Record},
};

pub(super) const EXPORTER: Exporter =
    Exporter { name: "trials.csv", render: Render::File(|report| table(report.ranked.record).map(Some)) };

/// In the order of execution. A metric has a column if any trial has it, and is empty where a trial lacks it. All metrics of
/// failed trials are empty: those trials measured nothing.
fn table(record: &Record) -> Result<String> {
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
        let verdicts: Vec<&str> = trial.verdicts.iter().map(|verdict| verdict.name.into()).collect();
        row.extend([
            trial.outcome.name().to_owned(),
            verdicts.join(";"),
            trial.duration_s.to_string(),
            trial.latency_ns.accept_wait.method.map_or("", WaitMethod::name).to_owned(),
        ]);
        row.extend(metrics.iter().map(|metric| figures(trial, metric).map_or_else(String::new, |f| f.to_string())));
        row
    };
    text(std::iter::once(head).chain(record.trials.iter().map(row)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::{Verdict, VerdictName};
    use crate::stats::fixture;

    #[test]
    fn a_row_for_each_trial_with_failed_ones_empty() {
        let mut flawed = fixture::trial(1, &json!({"metric": 2}), Outcome::Invalid);
        for name in [VerdictName::CpuSteal, VerdictName::Deadline] {
            flawed.verdicts.push(Verdict { name, detail: "a, b".to_owned(), invalidates: name.invalidates() });
        }
        let record = fixture::record(vec![
            fixture::trial(0, &json!({"metric": 1}), Outcome::Valid),
            flawed,
            fixture::trial(2, &json!({"metric": 2}), Outcome::Failed),
        ]);
        let text = table(&record).unwrap();
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
