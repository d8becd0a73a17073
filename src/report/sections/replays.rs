//! Replayed traces: how much of each was replayed, and how late.

use std::time::Duration;

use indexmap::IndexSet;

use super::{Content, In};
use crate::{
    format::{duration, exact, percent, plural, thousands},
    record::Replayed,
    report::{Grid, Ranked, ranked::Cell},
};

/// Title of the section.
const TITLE: &str = "Replayed traces";

/// What stands for a value that is unknown.
const NONE: &str = "–";

/// Malformed lines of a trace that are shown.
const SHOWN: usize = 3;

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let rows: Vec<Row<'_>> = ranked.cells.iter().flat_map(rows).collect();
    if rows.is_empty() {
        return None;
    }
    let traces: IndexSet<String> = rows.iter().flat_map(|row| &row.trials).map(|trial| about(trial)).collect();
    let legend = "Starts are sums over the cell's valid trials, warm-up included: due are those of the trace before the load ended, started those \
                  that were made, whatever became of them. Late is how long after its time in the trace a loader made a start of the measured \
                  window: the worst of the trials.";
    let head = ["cell", "population", "starts due", "started", "missed", "late p99", "latest"];
    let table =
        Grid { title: TITLE.to_owned(), labels: 2, ..Grid::new(head, 0, rows.iter().map(Row::cells).collect()) };
    Some(Content {
        title: TITLE.to_owned(),
        finding: finding(&rows),
        tables: vec![(In::All, table)],
        notes: traces.into_iter().chain([legend.to_owned()]).map(|note| (In::All, note)).collect(),
        ..Content::default()
    })
}

/// A population of a cell.
struct Row<'a> {
    cell: &'a str,
    population: &'a str,
    /// What it replayed in each valid trial.
    trials: Vec<&'a Replayed>,
}

fn rows<'a>(cell: &'a Cell<'a>) -> Vec<Row<'a>> {
    let loads = || cell.trials.iter().flat_map(|trial| &trial.loads);
    let names: IndexSet<&str> = loads().filter(|load| load.replay.is_some()).map(|load| &load.name[..]).collect();
    let row = |population| {
        let trials = loads().filter(|load| load.name == population).filter_map(|load| load.replay.as_ref()).collect();
        Row { cell: &cell.full_name, population, trials }
    };
    names.into_iter().map(row).collect()
}

impl Row<'_> {
    fn sum(&self, count: fn(&Replayed) -> u64) -> u64 {
        self.trials.iter().map(|trial| count(trial)).sum()
    }

    fn worst(&self, of: fn(&Replayed) -> Option<u64>) -> Option<u64> {
        self.trials.iter().filter_map(|trial| of(trial)).max()
    }

    fn cells(&self) -> Vec<String> {
        let time = |ns: Option<u64>| ns.map_or_else(|| NONE.to_owned(), |ns| duration(ns as f64));
        vec![
            self.cell.to_owned(),
            self.population.to_owned(),
            count(self.sum(|trial| trial.due)),
            count(self.sum(|trial| trial.started)),
            count(self.sum(|trial| trial.missed)),
            time(self.worst(|trial| trial.late_p99_ns)),
            time(self.worst(|trial| trial.late_max_ns)),
        ]
    }
}

fn finding(rows: &[Row<'_>]) -> String {
    let sum = |count: fn(&Replayed) -> u64| rows.iter().map(|row| row.sum(count)).sum::<u64>();
    let latest = rows.iter().filter_map(|row| row.worst(|trial| trial.late_max_ns)).max();
    let late = latest.map_or_else(String::new, |ns| format!("; the latest in the window by {}", duration(ns as f64)));
    let (due, started) = (thousands(sum(|one| one.due) as f64), thousands(sum(|one| one.started) as f64));
    match sum(|one| one.missed) {
        0 => format!("All {due} starts that were due were made{late}"),
        _ => format!("{started} of {due} starts that were due were made{late}"),
    }
}

fn count(count: u64) -> String {
    thousands(count as f64)
}

/// What a file of this format has for each start.
fn unit(format: &str) -> &'static str {
    if format.starts_with("pcap") { "packet" } else { "line" }
}

/// What was replayed, and what of it is not as it was in the trace.
fn about(trace: &Replayed) -> String {
    let Replayed { file, sha256, format, lines, malformed, connections, .. } = trace;
    let span = |span_s: f64| Duration::try_from_secs_f64(span_s).map_or_else(|_| format!("{span_s} s"), exact);
    let digest: String = sha256.chars().take(12).collect();
    let mut text = format!(
        "{file} (SHA-256 {digest}…, {format}): {} with {}; {} of it was replayed",
        plural(*lines, unit(format)),
        plural(*connections, "connection"),
        span(trace.span_s)
    );
    if trace.repeat > 1 {
        text += &format!(", {} times over", trace.repeat);
    }
    if (trace.speed - 1.0).abs() > f64::EPSILON {
        text += &format!(", at {}× its speed", trace.speed);
    }
    text.push('.');
    if trace.due < trace.traced {
        text += &format!(" The load ended before it: {} of {} starts were due.", count(trace.due), count(trace.traced));
    }
    if *malformed > 0 {
        let first = trace.malformed_first.iter().take(SHOWN).map(|one| format!("{file}:{} {}", one.line, one.problem));
        text += &format!(
            " {} ({}) could not be read and {} left out: {}.",
            plural(*malformed, unit(format)),
            percent(*malformed as f64 / (*lines).max(1) as f64),
            if *malformed == 1 { "was" } else { "were" },
            first.collect::<Vec<_>>().join("; ")
        );
    }
    if trace.spread > 0 {
        text += " Its times are whole seconds: starts were spread at random within each second, so that bursts shorter than a second are not those \
                 of the trace.";
    }
    if let Some(what) = &trace.left_out {
        text += &format!(" Its {what} were left out: the server's app has no use for them.");
        return text;
    }
    match (trace.tells_connections, trace.requests) {
        (false, Some(_)) => {
            text +=
                " It does not show which requests shared a connection: each line was a connection with one request.";
        }
        (true, Some(requests)) if requests > *connections => {
            text += " The requests of a connection followed each other without the pauses that they had.";
        }
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_is_not_as_it_was_in_the_trace() {
        let plain = Replayed {
            file: "a.log".to_owned(),
            sha256: "0123456789abcdef".repeat(4),
            format: "CSV".to_owned(),
            lines: 1_200,
            connections: 1_200,
            tells_connections: true,
            speed: 1.0,
            repeat: 1,
            span_s: 60.0,
            ..Replayed::default()
        };
        let text = about(&plain);
        assert!(
            text.starts_with(
                "a.log (SHA-256 0123456789ab…, CSV): 1,200 lines with 1,200 connections; 1m of it was replayed"
            ),
            "{text}"
        );
        assert!(text.ends_with(" of it was replayed."), "{text}");
        let line = crate::record::MalformedLine { line: 7, problem: "has no time".to_owned() };
        let other = Replayed {
            speed: 2.0,
            repeat: 3,
            malformed: 12,
            malformed_first: vec![line],
            spread: 1_188,
            tells_connections: false,
            requests: Some(1_188),
            ..plain
        };
        let text = about(&other);
        for part in [
            "of it was replayed, 3 times over, at 2× its speed.",
            "12 lines (1",
            "a.log:7 has no time",
            "whole seconds",
            "each line was a connection",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = about(&Replayed { left_out: Some("requests".to_owned()), ..other });
        assert!(text.ends_with("Its requests were left out: the server's app has no use for them."), "{text}");
    }
}
