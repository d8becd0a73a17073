//! All figures of all cells, a row each: medians over the valid trials.

use super::{Content, In};
use crate::{
    record::{Values, WaitMethod},
    report::{Grid, Ranked, ranked::keys, ranking::plain},
    stats::{CellSummary, Column, METRICS, Metric, Summary},
};

/// Number of shares shown.
const RANKS: usize = 8;

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
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
        rows: summary.cells.iter().map(|cell| row(cell, &columns, ranks, &summary.metric)).collect(),
    };
    Some(Content {
        tables: vec![(In::Text, grid)],
        notes: legend(summary, &columns, ranks).into_iter().map(|line| (In::Text, line)).collect(),
        ..Content::default()
    })
}

/// The columns of the metrics that any cell has.
fn columns(summary: &Summary) -> Vec<(Column, &'static Metric)> {
    let has = |metric: &str| summary.cells.iter().any(|cell| cell.metrics.contains_key(metric));
    let columns = METRICS.iter().filter_map(|metric| Some((metric.column?, metric)));
    columns.filter(|(column, metric)| has(metric.name) && column.only_with.is_none_or(has)).collect()
}

fn row(cell: &CellSummary, columns: &[(Column, &Metric)], ranks: bool, ranking: &str) -> Vec<String> {
    let mut row: Vec<String> = cell.cell.values().map(plain).collect();
    for (column, metric) in columns {
        row.push(match cell.metrics.get(metric.name) {
            Some(values) => {
                let bound = if cell.bounds(metric) { "≤ " } else { "" };
                let interval = column.interval || metric.name == ranking;
                let shown = if interval { with_range(values, metric) } else { metric.unit.in_column(values.median) };
                format!("{bound}{shown}")
            }
            None => "–".to_owned(),
        });
    }
    row.extend(ranks.then(|| shares(&cell.share_by_rank)));
    row.push(format!("{}/{}", cell.valid, cell.valid + cell.invalid + cell.failed));
    let total = cell.valid + cell.invalid + cell.failed;
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

fn with_range(values: &Values, metric: &Metric) -> String {
    let show = |value| metric.unit.in_column(value);
    if values.values.len() < 2 {
        return show(values.median);
    }
    format!("{} ({}–{})", show(values.median), show(values.low), show(values.high))
}

/// What the shown columns mean.
fn legend(summary: &Summary, columns: &[(Column, &Metric)], ranks: bool) -> Vec<String> {
    let method = |method| summary.cells.iter().any(|cell| cell.accept_wait_method == Some(method));
    let has = |metric: &str| columns.iter().any(|(_, shown)| shown.name == metric);
    let lines = [
        (
            true,
            "Numbers are medians over the valid trials, with the median's 95 % interval in parentheses (bootstrap; with fewer \
             than five trials, the smallest and largest value).",
        ),
        (
            has("ports_wall") || has("connect_p50_ns_at_25"),
            "connect at n %: time of a connect, bind included, with n % of the capacity in use. knee: open connections when that \
             time rose for good above its flat level (–: never). wall: open connections when the ports ran out. failing connect: \
             time of a connect beyond the wall.",
        ),
        (
            method(WaitMethod::SockOps),
            "accept wait: from ESTABLISHED in the kernel to the return of accept, measured exactly for every connection (sock_ops).",
        ),
        (
            method(WaitMethod::ConnectCall) || has("accept_wait_bound_p50_ns"),
            "≤: an upper bound on the accept wait, from the client's connect call to the return of accept; the true wait is shorter.",
        ),
        (
            has("receive_wait_p50_ns"),
            "receive wait ≤: from the client's send to the worker's receive; the true wait in the socket is shorter.",
        ),
        (
            has("imbalance"),
            "imbalance: accepts of the busiest worker ÷ mean. worker CPU: user and system time of all workers.",
        ),
        (
            has("open_imbalance"),
            "follow-up: all held connections send a request at the same instant. imbalance of open: connections held by the \
             busiest worker ÷ mean.",
        ),
        (
            has("flow_imbalance"),
            "flow: the datagrams of one 4-tuple, credited to the worker that answers first. imbalance: busiest worker ÷ mean. \
             sticky: all replies came from one worker. lost: datagrams dropped because the socket's buffer was full.",
        ),
        (
            has("fault_not_accepted"),
            "share in the fault: share of the connections established during the scenario's first fault that went to the faulty \
             worker. stranded: connections that only this worker could have accepted and that were waiting when the fault \
             ended (kill: when it began). not accepted: connections waiting for any worker when it ended. –: unknown.",
        ),
        (
            has("empty_wakeups_per_accept"),
            "empty wake-ups: the listener was reported ready, but accept found nothing. sleeps: voluntary context switches; the \
             kernel may send a worker back to sleep without an empty wake-up.",
        ),
        (
            ranks,
            "share by registration: each worker's share of all accepts, in the order in which the workers registered.",
        ),
    ];
    lines.into_iter().filter(|(shown, _)| *shown).map(|(_, line)| line.to_owned()).collect()
}
