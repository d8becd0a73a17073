//! How late loads that follow a schedule were started, and what for: a row for each cell, medians over the valid trials.

use super::{Content, In, harness};
use crate::{
    format::{duration, percent, thousands},
    record::{Latencies, LatencySummary, TrialRecord},
    report::{Grid, Ranked, ranked::Cell},
    stats::{ascending, median},
};

/// Title of the section.
const TITLE: &str = "How late the loaders were";

/// What the columns mean.
const LEGEND: &str = "Of starts due in the measured windows; medians over the cell's valid trials. send lag: from the intended start until the \
    connect() call, or the request on a kept connection. queued: starts that were due before the loader had made the one before them, as \
    some are whenever starts are random. others: the lateness of the timer and of the loader's wake-up, or of an event in hand.";

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let rows: Vec<Vec<String>> = ranked.cells.iter().filter_map(row).collect();
    if rows.is_empty() {
        return None;
    }
    let head =
        ["cell", "starts", "send lag\np50", "send lag\np99", "queued", "queued\np99", "others\np50", "others\np99"];
    let timer = harness::of_record(ranked.record).map(|calibration| {
        format!("A bare timer's p99 was {} when this host was calibrated.", duration(calibration.lags.timer.p99 as f64))
    });
    Some(Content {
        title: TITLE.to_owned(),
        finding: finding(ranked)?,
        tables: vec![(In::Page, Grid::new(head, 0, rows))],
        notes: [Some(LEGEND.to_owned()), timer].into_iter().flatten().map(|note| (In::Page, note)).collect(),
        ..Content::default()
    })
}

/// The latencies of a cell's valid trials that tell why starts were late. Where ends decide when starts are due, that says nothing.
fn on_schedule<'a>(cell: &'a Cell<'_>) -> impl Iterator<Item = &'a Latencies> {
    let is_on_schedule = |trial: &&TrialRecord| trial.rates.offered_per_s.is_some();
    let trials = cell.trials.iter().copied().filter(is_on_schedule).map(|trial| &trial.latency_ns);
    trials.filter(|of| !of.queued_lag.is_empty() || !of.timer_lag.is_empty())
}

fn middle(cell: &Cell<'_>, figure: impl Fn(&Latencies) -> Option<f64>) -> Option<f64> {
    median(&ascending(&on_schedule(cell).filter_map(figure).collect::<Vec<_>>()))
}

/// Part of the starts that were made which had queued behind others.
fn queued(of: &Latencies) -> Option<f64> {
    let all = of.queued_lag.count + of.timer_lag.count;
    (all > 0).then(|| of.queued_lag.count as f64 / all as f64)
}

fn p99(of: &LatencySummary) -> Option<f64> {
    of.p99_of_many().map(|ns| ns as f64)
}

/// The median of the same trials as [`p99`], or of all if none has that.
fn p50_beside_p99(cell: &Cell<'_>, of: fn(&Latencies) -> &LatencySummary) -> Option<f64> {
    let has_p99 = on_schedule(cell).any(|all| p99(of(all)).is_some());
    middle(cell, |all| of(all).p50.filter(|_| !has_p99 || p99(of(all)).is_some()).map(|ns| ns as f64))
}

/// `None` of a cell without a schedule.
fn row(cell: &Cell<'_>) -> Option<Vec<String>> {
    let starts = middle(cell, |of| Some(of.send_lag.count as f64))?;
    let show = |figure: fn(&Latencies) -> Option<f64>, show: fn(f64) -> String| {
        middle(cell, figure).map_or_else(|| "–".to_owned(), show)
    };
    let p50 = |of| p50_beside_p99(cell, of).map_or_else(|| "–".to_owned(), duration);
    Some(vec![
        cell.full_name.clone(),
        thousands(starts),
        p50(|of| &of.send_lag),
        show(|of| p99(&of.send_lag), duration),
        show(queued, percent),
        show(|of| p99(&of.queued_lag), duration),
        p50(|of| &of.timer_lag),
        show(|of| p99(&of.timer_lag), duration),
    ])
}

/// The cell whose starts were latest.
fn finding(ranked: &Ranked<'_>) -> Option<String> {
    let late = ranked.cells.iter().filter_map(|cell| Some((cell, middle(cell, |of| p99(&of.send_lag))?)));
    let Some((cell, lag_ns)) = late.max_by(|one, other| one.1.total_cmp(&other.1)) else {
        return Some("Too few starts for a 99th percentile".to_owned());
    };
    let place = if ranked.cells.len() == 1 { String::new() } else { format!(" in {}", cell.full_name) };
    let share = middle(cell, queued)?;
    let others = middle(cell, |of| p99(&of.timer_lag))
        .map_or_else(String::new, |ns| format!("; of the others, 99 % came within {}", duration(ns)));
    let (latest, trials) = on_schedule(cell)
        .filter_map(|of| p99(&of.send_lag))
        .fold((0.0, 0), |(latest, trials), ns| (f64::max(latest, ns), trials + 1));
    let (of_trial, at_latest) = match trials {
        1 => ("", String::new()),
        _ => (" of the median trial", format!(" ({} in its latest trial)", duration(latest))),
    };
    Some(format!(
        "Latest{place}: 99 % of the starts{of_trial} came within {} of when they were due{at_latest}; {} of all had queued behind another{others}",
        duration(lag_ns),
        percent(share),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{record::Rates, report::sample::Sample};

    fn lag(count: u64, p50: u64, p99: u64) -> LatencySummary {
        LatencySummary { due: count, count, p50: Some(p50), p99: Some(p99), ..LatencySummary::default() }
    }

    #[test]
    fn what_queued_is_told_from_the_timer_s_lateness() {
        let mut sample = Sample::new("Who is late?");
        for p99 in [80_000, 90_000, 100_000] {
            let trial = sample.trial(json!({ "strategy": "reuseport" }), &[5, 5], 1_000);
            trial.latency_ns.send_lag = lag(1_000, 20_000, p99);
            trial.latency_ns.queued_lag = lag(250, 30_000, p99 + 7_000);
            trial.latency_ns.timer_lag = lag(750, 15_000, p99 - 40_000);
        }
        // Nothing was due at any instant: starts waited for ends.
        let trial = sample.trial(json!({ "strategy": "shared" }), &[5, 5], 1_000);
        trial.rates = Rates::default();
        trial.latency_ns.queued_lag = lag(1_000, 1, 1);
        let reading = sample.reading();
        let content = section(&Ranked::of(&reading)).unwrap();
        assert_eq!(
            content.finding,
            "Latest in reuseport: 99 % of the starts of the median trial came within 90.0 µs of when they were due (100 µs in its latest \
             trial); 25.0 % of all had queued behind another; of the others, 99 % came within 50.0 µs"
        );
        let [(_, table)] = &content.tables[..] else { panic!("one table") };
        assert_eq!(table.rows.len(), 1);
        assert_eq!(table.rows[0][1..], ["1,000", "20.0 µs", "90.0 µs", "25.0 %", "97.0 µs", "15.0 µs", "50.0 µs"]);
    }

    #[test]
    fn a_row_s_percentiles_are_of_the_same_trials() {
        let mut sample = Sample::new("Who is late?");
        for (count, p50, p99) in [(1_000, 48_000, 6_000_000), (1, 29_000_000, 29_000_000)] {
            let trial = sample.trial(json!({ "strategy": "reuseport" }), &[5, 5], 1_000);
            trial.latency_ns.send_lag = lag(1_000, 20_000, 90_000);
            trial.latency_ns.queued_lag = lag(1_000, 20_000, 90_000);
            trial.latency_ns.timer_lag = lag(count, p50, p99);
        }
        let content = section(&Ranked::of(&sample.reading())).unwrap();
        assert_eq!(content.tables[0].1.rows[0][6..], ["48.0 µs", "6.00 ms"]);
    }

    #[test]
    fn records_that_do_not_tell_have_no_section() {
        let mut sample = Sample::new("Who is late?");
        sample.trial(json!({ "strategy": "reuseport" }), &[5, 5], 1_000).latency_ns.send_lag = lag(1_000, 1, 2);
        assert!(section(&Ranked::of(&sample.reading())).is_none());
    }
}
