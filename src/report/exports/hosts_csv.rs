//! `hosts.csv`: a row for each host of each trial of a job.

use anyhow::Result;

use super::{CsvColumn, Exporter, Render};
use crate::{
    record::{HostRow, LatencySummary, TrialRecord},
    report::csv::{Swept, figure, text},
    stats::Record,
};

pub(super) const EXPORTER: Exporter =
    Exporter { name: "hosts.csv", render: Render::File(|report| table(report.ranked.record)) };

/// The fixed columns: those before the swept values, and those after them.
pub(super) const COLUMNS: &[CsvColumn] = &[
    ("scenario", "The scenario's name."),
    ("trial", "The trial's number in order of execution, from 0."),
    ("repetition", "The trial's block of repetitions, from 0; each block has every cell once."),
    ("outcome", "Whether the trial's figures may be used: valid, invalid or failed."),
    ("rank", "The host's rank in the job."),
    ("host", "The host's name."),
    ("role", "Whether the host had the server under test (`server`) or generated load (`load`)."),
    ("address", "Where the server listened, or from where the host reached the server's."),
    ("loaders", "Number of its loaders."),
    ("attempted", "Connections and datagram flows that its loaders began, warm-up included."),
    ("established", "Connections that they established."),
    ("completed", "Connections and datagram flows that ran to their planned end."),
    ("failed", "Connections and datagram flows that failed."),
    ("in_flight", "Connections and datagram flows that were in progress when their loader was lost."),
    ("busy_share", "The share of its available processor time that the busiest loader used, 0 to 1."),
    ("cpu_user_ns", "CPU time in user mode of its loaders, or of the server's members."),
    ("cpu_system_ns", "The same in the kernel."),
    ("ports_peak", "Most ports in use or in TIME_WAIT at once in a load host's network."),
    ("clock_offset_ns", "How far its CLOCK_MONOTONIC was ahead of that of the server's host before the trial."),
    ("clock_bound_ns", "The most by which that could be wrong."),
    ("clock_drift_ns", "By how much more it was ahead after the trial."),
    ("clock_drift_bound_ns", "The most by which that could be wrong."),
    ("connect_p99_ns", "99th percentile of the connect latency that its loaders measured."),
    ("response_p99_ns", "The same of the response latency."),
    ("send_lag_p99_ns", "The same of the loaders' own lateness."),
    ("bytes", "Bytes that its connection to the server's host carried for the trial."),
    ("lost_after_s", "When the host was lost, from the trial's start."),
    ("exit", "How the trial ended there."),
];

/// The number of those before the swept values.
const BEFORE_SWEPT: usize = 4;

/// In the order of execution, then by rank. `None` where one machine did it all. What is unknown is empty.
fn table(record: &Record) -> Result<Option<String>> {
    if record.trials.iter().all(|trial| trial.hosts.is_empty()) {
        return Ok(None);
    }
    let swept = Swept::of(record.trials.iter().map(|trial| &trial.cell));
    let (before, after) = COLUMNS.split_at(BEFORE_SWEPT);
    let names = |columns: &[CsvColumn]| columns.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
    let mut head = names(before);
    head.extend(swept.columns());
    head.extend(names(after));
    let row = |(trial, host): (&TrialRecord, &HostRow)| {
        let mut row = vec![
            trial.scenario.clone(),
            trial.trial.to_string(),
            trial.repetition.to_string(),
            trial.outcome.name().to_owned(),
        ];
        row.extend(swept.values(&trial.cell));
        row.extend(of_host(host));
        row
    };
    let rows = record.trials.iter().flat_map(|trial| trial.hosts.iter().map(move |host| (trial, host)));
    text(std::iter::once(head).chain(rows.map(row))).map(Some)
}

fn of_host(host: &HostRow) -> Vec<String> {
    fn known(value: Option<impl ToString>) -> String {
        value.map_or_else(String::new, |value| value.to_string())
    }
    let latencies = host.latency_ns.as_ref();
    let p99 = |of: Option<&LatencySummary>| known(of.and_then(|summary| summary.p99));
    let counts = [host.attempted, host.established, host.completed, host.failed, host.in_flight];
    let mut row = vec![
        host.rank.to_string(),
        host.name.clone(),
        host.role.name().to_owned(),
        known(host.address),
        host.loaders.to_string(),
    ];
    row.extend(counts.map(|count| count.to_string()));
    row.extend([
        host.busy_share.map_or_else(String::new, figure),
        known(host.cpu_user_ns),
        known(host.cpu_system_ns),
        known(host.ports_peak),
        known(host.clock.map(|clock| clock.offset_ns)),
        known(host.clock.map(|clock| clock.bound_ns)),
        known(host.clock.and_then(|clock| clock.drift_ns)),
        known(host.clock.and_then(|clock| clock.drift_bound_ns)),
        p99(latencies.map(|all| &all.connect)),
        p99(latencies.map(|all| &all.response)),
        p99(latencies.map(|all| &all.send_lag)),
        host.bytes.to_string(),
        known(host.lost_after_s),
        host.exit.to_string(),
    ]);
    row
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{HostClock, HostRole},
        report::sample::Sample,
    };

    #[test]
    fn each_host_of_each_trial_has_a_row() {
        let mut sample = Sample::new("");
        sample.trial(json!({ "workers": 2 }), &[5], 1_000);
        assert!(table(&sample.reading().record).unwrap().is_none(), "one machine did it all");
        let mut sample = Sample::new("");
        for _ in 0..2 {
            let clock = HostClock { offset_ns: -5, bound_ns: 7, ..HostClock::default() };
            let server = HostRow { name: "=a".to_owned(), role: HostRole::Server, ..HostRow::default() };
            let load =
                HostRow { rank: 1, name: "b".to_owned(), attempted: 9, clock: Some(clock), ..HostRow::default() };
            sample.trial(json!({ "workers": 2 }), &[5], 1_000).hosts = vec![server, load];
        }
        let table = table(&sample.reading().record).unwrap().unwrap();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 5);
        let columns = lines[0].split(',').count();
        assert_eq!(columns, COLUMNS.len() + 1);
        assert!(lines.iter().all(|line| line.split(',').count() == columns), "{table}");
        assert!(lines[1].contains("2,0,'=a,server,,0,0,") && lines[4].contains("2,1,b,load,,0,9,"), "{table}");
        assert!(lines[4].contains(",-5,7,,,") && lines[4].ends_with(",0,,ok"), "{table}");
    }
}
