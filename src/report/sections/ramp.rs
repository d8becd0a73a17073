//! How connections that are all held at once were opened: a row for each step, medians over the valid trials.

use super::{Content, In};
use crate::{
    format::{duration, number, ratio, thousands},
    record::{Outcome, Ramp, RampStep, TENTHS},
    report::{Grid, Ranked, ranked::keys, ranking::plain},
    scenario::label,
    stats::{CellSummary, Record, Summary, ascending, median},
};

/// Title of the section.
const TITLE: &str = "Over the ramp";
/// The ramps of more cells are not described in words.
const DESCRIBED: usize = 3;

/// What the columns mean.
const LEGEND: &str = "In \"Over the ramp\", ramp: the time until all connections were open at once, a row for each tenth of their number; tenths between the same two samples share \
    a row. after: time since the start. \
    CPU/connection: CPU time of workers and loaders in the step ÷ its accepts. wait: accept waits in the step.";

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let grid = grid(ranked.record, ranked.summary)?;
    Some(Content {
        title: TITLE.to_owned(),
        finding: finding(ranked.record, ranked.summary),
        tables: vec![(In::All, grid)],
        notes: vec![(In::All, LEGEND.to_owned())],
        ..Content::default()
    })
}

/// The ramps of a cell's valid trials.
fn ramps<'a>(record: &'a Record, cell: &CellSummary) -> Vec<&'a Ramp> {
    let valid = record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid && trial.cell == cell.cell);
    valid.filter_map(|trial| trial.ramp.as_ref()).filter(|ramp| !ramp.steps.is_empty()).collect()
}

fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    median(&ascending(&values.collect::<Vec<_>>()))
}

/// The table; `None` where no trial had a ramp.
fn grid(record: &Record, summary: &Summary) -> Option<Grid> {
    let names = keys(summary);
    let rows: Vec<Vec<String>> = summary.cells.iter().flat_map(|cell| rows(cell, &ramps(record, cell))).collect();
    let heads = ["open", "after", "accepts/s", "CPU\n/connection", "wait\np50", "wait\np99", "wait\nmax"];
    (!rows.is_empty()).then(|| Grid {
        title: TITLE.to_owned(),
        labels: names.len(),
        words: 0,
        head: names.into_iter().chain(heads.map(str::to_owned)).collect(),
        rows,
    })
}

fn rows(cell: &CellSummary, ramps: &[&Ramp]) -> Vec<Vec<String>> {
    let steps = || ramps.iter().flat_map(|ramp| &ramp.steps);
    let all = steps().map(|step| step.accepted).max().unwrap_or(0).max(1);
    // A step of a fast ramp may cover several tenths, and others in another trial: steps with the same end share a row.
    let ending =
        |tenths: u64| -> Vec<&RampStep> { steps().filter(|step| step.accepted * TENTHS / all == tenths).collect() };
    let row = |steps: Vec<&RampStep>| {
        let of = |figure: fn(&RampStep) -> f64| middle(steps.iter().map(|step| figure(step)));
        let show =
            |figure: fn(&RampStep) -> f64, show: fn(f64) -> String| of(figure).map_or_else(|| "–".to_owned(), show);
        let bound = if steps.iter().any(|step| step.accept_wait.is_bound()) { "≤ " } else { "" };
        // A quantile needs a recorded wait; every accept of a step has one.
        let waited = steps.iter().any(|step| !step.accept_wait.is_empty());
        let wait = |figure: fn(&RampStep) -> f64| {
            if waited { format!("{bound}{}", show(figure, duration)) } else { "–".to_owned() }
        };
        let mut row: Vec<String> = cell.cell.values().map(plain).collect();
        row.extend([
            show(|step| step.accepted as f64, thousands),
            show(|step| step.until_s, |s| duration(1e9 * s)),
            show(|step| step.accepted_per_s, thousands),
            show(|step| step.cpu_ns_per_connection, duration),
            wait(|step| step.accept_wait.p50.unwrap_or(0) as f64),
            wait(|step| step.accept_wait.p99.unwrap_or(0) as f64),
            wait(|step| step.accept_wait.max as f64),
        ]);
        row
    };
    (0..=TENTHS).map(ending).filter(|steps| !steps.is_empty()).map(row).collect()
}

/// How the ramps went, in a sentence.
fn finding(record: &Record, summary: &Summary) -> String {
    let described = |cell: &CellSummary| {
        let ramps = ramps(record, cell);
        let open = middle(ramps.iter().filter_map(|ramp| Some(ramp.steps.last()?.accepted as f64)))?;
        let seconds = middle(ramps.iter().map(|ramp| ramp.seconds))?;
        let at = if cell.cell.is_empty() { String::new() } else { format!("{}: ", label(&cell.cell)) };
        let mut described = format!("{at}{} connections open after {} s", thousands(open), number(seconds));
        if let (Some(rate), Some(cpu)) =
            (middle(ramps.iter().filter_map(|r| r.rate_ratio)), middle(ramps.iter().filter_map(|r| r.cpu_ratio)))
        {
            described += &format!(
                "; the last tenth was opened at {}× the rate of the first, with {}× its CPU time per connection",
                ratio(rate),
                ratio(cpu)
            );
        }
        Some(described)
    };
    let all: Vec<String> = summary.cells.iter().filter_map(described).collect();
    if all.len() > DESCRIBED { format!("The ramps of {} cells", all.len()) } else { all.join("; ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{LatencySummary, WaitMethod},
        stats::{fixture, summarize},
    };

    fn ramp(seconds: f64) -> Ramp {
        let step = |accepted: u64, accepted_per_s: f64| RampStep {
            accepted,
            until_s: seconds / 2.0,
            accepted_per_s,
            cpu_ns_per_connection: 50_000.0,
            accept_wait: LatencySummary {
                method: Some(WaitMethod::SockOps),
                p50: Some(20_000),
                ..LatencySummary::default()
            },
        };
        let steps = vec![step(1_000, 2_000.0), step(2_000, 1_000.0 * seconds)];
        Ramp { seconds, steps, rate_ratio: Some(0.9), cpu_ratio: Some(1.1) }
    }

    #[test]
    fn steps_are_medians_over_the_valid_trials() {
        let trials = [1.0, 2.0, 9.0, 100.0].into_iter().enumerate().map(|(number, seconds)| {
            let outcome = if seconds > 9.0 { Outcome::Invalid } else { Outcome::Valid };
            let mut trial = fixture::trial(number, &json!({}), outcome);
            trial.ramp = Some(ramp(seconds));
            trial
        });
        let record = fixture::record(trials.collect());
        let summary = summarize(&record);
        let grid = grid(&record, &summary).unwrap();
        assert_eq!(grid.rows[1][..3], ["2,000", "1.00 s", "2,000"]);
        assert_eq!(
            finding(&record, &summary),
            "2,000 connections open after 2 s; the last tenth was opened at 0.90× the rate of the first, with 1.10× its CPU time per connection"
        );
    }

    #[test]
    fn without_a_ramp_there_is_no_table() {
        let record = fixture::record(vec![fixture::trial(0, &json!({}), Outcome::Valid)]);
        assert_eq!(grid(&record, &summarize(&record)), None);
    }
}
