//! `trials.csv`: a row for each trial.

use anyhow::Result;
use serde_json::Value as Json;

use super::{CsvColumn, Exporter, Render};
use crate::{
    record::{HostFacts, Outcome, TrialRecord, WaitEnd, WaitMethod},
    report::csv::{Swept, figure, text},
    stats::{Metric, Record, metrics_with},
};

pub(super) const EXPORTER: Exporter =
    Exporter { name: "trials.csv", render: Render::File(|report| table(report.ranked.record).map(Some)) };

/// The fixed columns: those before the swept values, and those between them and the metrics.
pub(super) const COLUMNS: &[CsvColumn] = &[
    ("scenario", "The scenario's name."),
    ("trial", "The trial's number in order of execution, from 0."),
    ("repetition", "The trial's block of repetitions, from 0; each block has every cell once."),
    ("started_at", "When the trial began (RFC 3339, UTC)."),
    ("seed", "The run's seed."),
    ("revision", "The revision of listenbench that ran the trial."),
    ("kernel", "The kernel it ran on; of several hosts, that of rank 0."),
    ("host", "The machine it ran on; of several hosts their names, rank 0 first."),
    ("outcome", "Whether the trial's figures may be used: valid, invalid or failed."),
    ("verdicts", "The names of the trial's verdicts, separated by `;`."),
    ("duration_s", "Length of the measured window in seconds."),
    (
        "accept_wait_method",
        "How accept waits were measured: exactly (sock_ops, tracepoint), or as an upper bound (connect-call).",
    ),
    ("accept_wait_ends", "What ends the accept wait: serving, accept or completion."),
];

/// The number of those before the swept values.
const BEFORE_SWEPT: usize = 8;

/// What of `host.json` each row repeats before the names of the hosts, so that rows of several records can stand in one table.
const HOST: [&str; 2] = ["revision", "kernel"];

/// In the order of execution. A metric has a column if any trial has it, and is empty where a trial lacks it. All metrics of
/// failed trials are empty: those trials measured nothing.
fn table(record: &Record) -> Result<String> {
    let swept = Swept::of(record.trials.iter().map(|trial| &trial.cell));
    let figures = |trial: &TrialRecord, metric: &Metric| {
        if trial.outcome == Outcome::Failed { None } else { metric.read(trial) }
    };
    let shown = |metric: &&Metric| record.trials.iter().any(|trial| figures(trial, metric).is_some());
    let all = metrics_with(&record.populations());
    let metrics: Vec<&Metric> = all.into_iter().filter(shown).collect();
    let [revision, kernel] = HOST.map(|key| record.host.get(key).and_then(Json::as_str).unwrap_or_default().to_owned());
    let host = [revision, kernel, HostFacts::names(&record.host)];
    let (before, after) = COLUMNS.split_at(BEFORE_SWEPT);
    let names = |columns: &[CsvColumn]| columns.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
    let mut head = names(before);
    head.extend(swept.columns());
    head.extend(names(after));
    head.extend(metrics.iter().map(|metric| metric.name.to_owned()));
    let row = |trial: &TrialRecord| {
        let numbers = [trial.trial, trial.repetition].map(|number| number.to_string());
        let mut row = vec![trial.scenario.clone()];
        row.extend(numbers);
        row.extend([trial.started_at.clone(), trial.seed.to_string()]);
        row.extend(host.clone());
        row.extend(swept.values(&trial.cell));
        let verdicts: Vec<&str> = trial.verdicts.iter().map(|verdict| verdict.name.into()).collect();
        row.extend([
            trial.outcome.name().to_owned(),
            verdicts.join(";"),
            trial.duration_s.to_string(),
            trial.latency_ns.accept_wait.method.map_or("", WaitMethod::name).to_owned(),
            trial.latency_ns.accept_wait.ends.map_or("", WaitEnd::name).to_owned(),
        ]);
        row.extend(metrics.iter().map(|metric| figures(trial, metric).map_or_else(String::new, figure)));
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
        let mut record = fixture::record(vec![
            fixture::trial(0, &json!({"metric": 1}), Outcome::Valid),
            flawed,
            fixture::trial(2, &json!({"metric": 2}), Outcome::Failed),
        ]);
        record.raw.host = json!({"revision": "abc", "kernel": "6.18", "host": "vm"});
        record.raw.trials[1].started_at = "2026-01-31T12:00:00Z".to_owned();
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
        let whence = ["started_at", "seed", "revision", "kernel", "host"].map(|name| at(1, name));
        assert_eq!(whence, ["2026-01-31T12:00:00Z", &record.trials[1].seed.to_string(), "abc", "6.18", "vm"]);
        assert!(!head.iter().any(|name| name == "ports_wall"), "no trial has it");
        let mut names: Vec<&str> = head.iter().collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), head.len());
    }
}
