//! All figures of all cells, a row each: medians over the valid trials.

use super::{Content, In};
use crate::{
    format::thousands,
    record::{TrialRecord, Values, WaitEnd, WaitMethod},
    report::{Grid, Ranked, ranked::keys, ranking::plain},
    stats::{CellSummary, Column, Metric, Summary, until},
};

/// A rate that may be 0 of a population that does all that it is asked for.
const HANDSHAKES: &str = "handshakes_per_s";
/// Number of shares shown.
const RANKS: usize = 8;

/// First in the terminal and in Markdown.
pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    content(ranked, In::Text, String::new())
}

/// On the page, after the pictures.
pub(super) fn on_page(ranked: &Ranked<'_>) -> Option<Content> {
    let finding = match ranked.cells.len() {
        0 => return None,
        1 => "Every figure of the run".to_owned(),
        cells => format!("Every figure of all {cells} cells"),
    };
    content(ranked, In::Page, finding)
}

fn content(ranked: &Ranked<'_>, form: In, finding: String) -> Option<Content> {
    let summary = ranked.summary;
    let keys = keys(summary);
    let columns = columns(summary);
    let ranks = summary.cells.iter().any(|cell| cell.share_by_rank.len() > 1);
    let mut head = keys.clone();
    head.extend(columns.iter().map(|(column, _)| column.head.to_owned()));
    head.extend(ranks.then(|| "share by\nregistration".to_owned()));
    head.extend(["valid\ntrials".to_owned(), "verdicts".to_owned()]);
    let grid = Grid {
        title: String::new(),
        labels: keys.len(),
        words: 1,
        head,
        rows: summary.cells.iter().map(|cell| row(cell, &columns, ranks, summary)).collect(),
    };
    Some(Content {
        title: "Medians of all cells".to_owned(),
        finding,
        tables: vec![(form, grid)],
        notes: legend(ranked, &columns, ranks).into_iter().map(|line| (form, line)).collect(),
        ..Content::default()
    })
}

/// The columns of the metrics that any cell has, and that are asked about or have something to say. Beside those of several populations,
/// the whole load's mix what these tell apart.
fn columns(summary: &Summary) -> Vec<(Column, &'static Metric)> {
    let has = |metric: &str| summary.cells.iter().any(|cell| cell.metrics.contains_key(metric));
    let is_asked = |metric: &Metric| summary.asked.iter().any(|asked| asked.name == metric.name);
    let column = |metric: &Metric| {
        let unnamed = || Column { head: metric.label, interval: true, only_with: None };
        metric.column.or_else(|| is_asked(metric).then(unnamed))
    };
    let columns = summary.metrics.iter().filter_map(|metric| Some((column(metric)?, *metric)));
    let mixes = |metric: &Metric| metric.is_told_apart() && summary.metrics.iter().any(|one| one.population.is_some());
    // A population of kept connections makes its handshakes before the window.
    let is_idle = |metric: &Metric| {
        let mut cells = summary.cells.iter().filter_map(|cell| cell.metrics.get(metric.name));
        metric.population.is_some() && metric.of() == HANDSHAKES && cells.all(|values| values.median == 0.0)
    };
    let says = |column: &Column, metric: &Metric| {
        is_asked(metric) || column.only_with.is_none_or(has) && !mixes(metric) && !is_idle(metric)
    };
    columns.filter(|(column, metric)| has(metric.name) && says(column, metric)).collect()
}

/// What the imbalance of accepts is of.
fn imbalance(ranked: &Ranked<'_>) -> String {
    let has = |own: bool| ranked.cells.iter().any(|cell| !cell.trials.is_empty() && cell.is_own() == own);
    let busiest = match (has(true), has(false)) {
        (_, false) => "worker",
        (false, true) => "member (process or thread of the server)",
        (true, true) => "member (worker of ours, or process or thread of another server)",
    };
    format!("imbalance: accepts of the busiest {busiest} ÷ mean.")
}

fn row(cell: &CellSummary, columns: &[(Column, &Metric)], ranks: bool, summary: &Summary) -> Vec<String> {
    let mut row: Vec<String> = cell.cell.values().map(plain).collect();
    for (column, metric) in columns {
        row.push(match cell.metrics.get(metric.name) {
            Some(values) => {
                let bound = if cell.bounds(metric) && values.median.is_finite() { "≤ " } else { "" };
                let interval = column.interval || summary.asked.iter().any(|asked| asked.name == metric.name);
                let shown = if interval { with_range(values, metric) } else { median(values, metric) };
                format!("{bound}{shown}")
            }
            None => "–".to_owned(),
        });
    }
    row.extend(ranks.then(|| shares(&cell.share_by_rank)));
    row.push(format!("{}/{}", cell.valid, cell.trials()));
    let total = cell.trials();
    let verdicts = cell.verdicts.iter().map(|(name, count)| format!("{name} {count}/{total}"));
    let failed = (cell.failed > 0).then(|| format!("failed {}/{total}", cell.failed));
    row.push(verdicts.chain(failed).collect::<Vec<_>>().join(", "));
    row
}

/// Shares in the order of registration: `97·2·1·0 %`.
fn shares(by_rank: &[f64]) -> String {
    if by_rank.is_empty() {
        return "–".to_owned();
    }
    let shown: Vec<String> = by_rank.iter().take(RANKS).map(|share| format!("{:.0}", 100.0 * share)).collect();
    let more = if by_rank.len() > RANKS { "·…" } else { "" };
    format!("{}{more} %", shown.join("·"))
}

/// `1.23 ms`, or `not reached (1.3 % lost)`.
fn median(values: &Values, metric: &Metric) -> String {
    if values.median.is_finite() { metric.unit.in_column(values.median) } else { metric.show_median(values) }
}

fn with_range(values: &Values, metric: &Metric) -> String {
    let show = |value| metric.unit.in_column(value);
    if values.values.len() < 2 || values.median.is_infinite() {
        return median(values, metric);
    }
    format!("{} ({}–{})", show(values.median), show(values.low), show(values.high))
}

/// ` for 1,200 of the 1,250 connections that were due; 45 failed, and of 5 the establishment was not seen`.
fn of_how_many(ranked: &Ranked<'_>) -> String {
    let summary = ranked.summary;
    let exact = summary.cells.iter().filter(|cell| cell.accept_wait_method.is_some_and(WaitMethod::is_exact));
    let attempts = exact.filter_map(|cell| cell.metrics.get("accept_wait_p50_ns")?.attempts);
    let (due, lost) = attempts.fold((0, 0), |(due, lost), of| (due + of.due, lost + of.lost));
    if due == 0 {
        return String::new();
    }
    let trials = ranked.cells.iter().flat_map(|cell| &cell.trials);
    // Of the whole trial; those that were due are missing among the waits.
    let unseen_of = |trial: &&TrialRecord| {
        let due = trial.latency_ns.accept_wait.due;
        Some(trial.measured.unstamped?.min(trial.measured.planned.saturating_sub(due)))
    };
    let unseen: u64 = trials.filter_map(unseen_of).sum();
    let missing = [(lost, "failed"), (unseen, "established unseen")];
    let missing: Vec<String> = missing
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", thousands(*count as f64)))
        .collect();
    if missing.is_empty() {
        return " for every connection that was due".to_owned();
    }
    let [measured, all] = [due - lost, due + unseen].map(|count| thousands(count as f64));
    format!(" for {measured} of the {all} connections that were due ({})", missing.join(", "))
}

/// What exact accept waits are; empty without any.
fn exact_waits(ranked: &Ranked<'_>) -> String {
    let summary = ranked.summary;
    let has = |method, ends| {
        let is = |cell: &CellSummary| cell.accept_wait_method == Some(method) && cell.accept_wait_ends == ends;
        summary.cells.iter().any(is)
    };
    let ends: Vec<String> = [
        (WaitMethod::SockOps, Some(WaitEnd::Serving), "sock_ops, listenbench's own server"),
        (WaitMethod::Tracepoint, Some(WaitEnd::Accept), "tracepoint, another server"),
        (WaitMethod::Tracepoint, Some(WaitEnd::Completion), "tracepoint, another server"),
        (WaitMethod::Tracepoint, None, "tracepoint, another server"),
    ]
    .into_iter()
    .filter(|(method, ends, _)| has(*method, *ends))
    .map(|(_, ends, how)| format!("{} ({how})", until(ends)))
    .collect();
    match &ends[..] {
        [] => String::new(),
        [one] => {
            format!("accept wait: from ESTABLISHED in the kernel {one}, measured exactly{}.", of_how_many(ranked))
        }
        several => format!(
            "accept wait: from ESTABLISHED in the kernel {}, measured exactly{}. Do not compare waits that end differently.",
            several.join(", or "),
            of_how_many(ranked)
        ),
    }
}

/// What the shown columns mean.
fn legend(ranked: &Ranked<'_>, columns: &[(Column, &Metric)], ranks: bool) -> Vec<String> {
    let summary = ranked.summary;
    let method = |method| summary.cells.iter().any(|cell| cell.accept_wait_method == Some(method));
    let has = |metric: &str| columns.iter().any(|(_, shown)| shown.name == metric);
    let exact = exact_waits(ranked);
    let imbalance = imbalance(ranked);
    let has_responses = summary.cells.iter().any(|cell| cell.metrics.contains_key("response_p50_ns"));
    let lines = [
        (
            summary.cells.iter().any(|cell| cell.valid > 0),
            "Numbers are medians over the valid trials, with the median's 95 % interval in parentheses (bootstrap; with fewer \
             than five trials, the smallest and largest value).",
        ),
        (
            has("ports_wall") || has("connect_p50_ns_at_25"),
            "connect at n %: time of a connect, bind included, with n % of the capacity in use. knee: open connections when that \
             time rose for good above its flat level (–: no lasting rise). wall: open connections when the ports ran out. failing connect: \
             time of a connect beyond the wall.",
        ),
        (!exact.is_empty(), &exact),
        (
            method(WaitMethod::Tracepoint) && !has_responses,
            "What another server does with a connection after accept, such as handing it to another thread, is in none of the figures: \
             clients of app `connect` ask for nothing.",
        ),
        (
            method(WaitMethod::Tracepoint) && has_responses,
            "What another server does with a connection after accept, such as handing it to another thread, is in the response only.",
        ),
        (
            method(WaitMethod::ConnectCall) || has("accept_wait_bound_p50_ns"),
            "≤: an upper bound on the accept wait, from the client's connect call until the worker that serves the connection has it; \
             the true wait is shorter.",
        ),
        (
            has("hand_over_p99_ns"),
            "hand-over: the part of the accept wait after accept returned in another thread or process, or an io_uring completed \
             it. –: workers accept themselves, or how long a connection was in an io_uring is unknown.",
        ),
        (
            has("receive_wait_p50_ns"),
            "receive wait ≤: from the client's send to the worker's receive; the true wait in the socket is shorter.",
        ),
        (has("imbalance"), &imbalance),
        (has("follow_up_max_ns"), "follow-up: all held connections send a request at the same instant."),
        (has("open_imbalance"), "imbalance of open: connections held by the busiest worker ÷ mean."),
        (has("flow_imbalance"), "imbalance of flows: busiest worker ÷ mean."),
        (
            has("flow_imbalance") || has("sticky_share"),
            "flow: the datagrams of one 4-tuple (of two, if its client's port changes), credited to the worker that answers first.",
        ),
        (has("sticky_share"), "sticky: all replies came from one worker."),
        (
            has("rebound_stay_share"),
            "keep their worker with another port: of the flows continued from another port of their client, those whose next reply came from the worker that \
             had answered last.",
        ),
        (
            has("reload_stay_share"),
            "stay after a reload: of the flows that went on when the new workers had taken over, those whose next reply came from the worker that \
             had answered last; old workers answer only as long as they drain.",
        ),
        (has("lost_share"), "lost: datagrams dropped because the socket's buffer was full."),
        (
            has("event_share"),
            "share in the event: share of the connections established during the scenario's first event that went to the disturbed \
             worker. –: unknown.",
        ),
        (
            has("event_not_accepted"),
            "not accepted: connections that were established during the scenario's first event and that no worker had accepted when it \
             ended, and attempts that failed during it. –: unknown.",
        ),
        (
            has("stranded"),
            "stranded: connections that only the disturbed worker of the scenario's first event could have accepted and that were waiting \
             when the event ended (kill: when it began). –: unknown.",
        ),
        (
            has("event_lost"),
            "lost: connections lost to all events of a trial: reset in the queue of a listener that was closed, refused, or cut off before \
             the reply was complete. –: unknown.",
        ),
        (
            has("empty_wakeups_per_accept") || has("empty_wakeups_per_datagram"),
            "empty wake-ups: the socket was reported ready, but there was nothing to take.",
        ),
        (
            has("voluntary_switches_per_accept") || has("voluntary_switches_per_datagram"),
            "sleeps: voluntary context switches.",
        ),
        (
            has("worker_cpu_ns_per_accept") || has("worker_cpu_ns_per_datagram"),
            "server CPU: user and system time of the whole server.",
        ),
        (
            ranks,
            "share by registration: each worker's share of all accepts, in the order in which the workers registered.",
        ),
    ];
    lines.into_iter().filter(|(shown, _)| *shown).map(|(_, line)| line.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{EventKind, EventRow, LoadRow, Lost, Rates},
        report::sample::Sample,
    };

    #[test]
    fn notes_explain_the_columns_that_are_shown_and_no_others() {
        let notes = |event: EventRow| {
            let mut sample = Sample::new("");
            sample.trial(json!({}), &[5, 5], 1_000).events = vec![event];
            let content = section(&Ranked::of(&sample.reading())).unwrap();
            content.text_notes().cloned().collect::<Vec<_>>().join("\n")
        };
        let none = Lost { reset_in_queue: Some(0), refused: Some(0), cut: Some(0) };
        let reload = notes(EventRow { kind: EventKind::Reload, lost: none, ..EventRow::default() });
        assert!(reload.contains("lost: connections lost to all events"), "{reload}");
        for absent in ["share in the event", "stranded", "not accepted", "share by registration", "imbalance"] {
            assert!(!reload.contains(absent), "{absent}: {reload}");
        }
        let stall = EventRow { share: Some(0.5), stranded: Some(1), not_accepted: Some(2), ..EventRow::default() };
        let stall = notes(EventRow { kind: EventKind::Stall, ..stall });
        for present in ["share in the event", "stranded", "not accepted", "share by registration", "imbalance"] {
            assert!(stall.contains(present), "{present}: {stall}");
        }
    }

    #[test]
    fn a_population_without_handshakes_has_no_column_of_them() {
        let heads = |kept: f64| {
            let mut sample = Sample::new("");
            let trial = sample.trial(json!({}), &[5, 5], 1_000);
            let row = |name: &str, rate| LoadRow {
                name: name.to_owned(),
                rates: Rates { handshakes_per_s: Some(rate), ..Rates::default() },
                ..LoadRow::default()
            };
            trial.loads = vec![row("kept", kept), row("storm", 0.5)];
            let content = section(&Ranked::of(&sample.reading())).unwrap();
            let head = content.tables[0].1.head.clone();
            head.into_iter().filter(|head| head.ends_with("TLS handshakes/s")).collect::<Vec<_>>()
        };
        assert_eq!(heads(0.0), ["storm\nTLS handshakes/s"]);
        assert_eq!(heads(0.1), ["kept\nTLS handshakes/s", "storm\nTLS handshakes/s"]);
    }
}
