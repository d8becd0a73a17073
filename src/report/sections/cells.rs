//! All figures of all cells, a row each: medians over the valid trials.

use super::{Content, In};
use crate::{
    record::WaitMethod,
    report::{Grid, Ranked, ranked::keys, ranking::plain},
    stats::{CellSummary, Column, METRICS, Metric, Summary, Values},
};

/// Shares are shown of so many ranks.
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

/// The columns of metrics that some cell has.
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

/// `97·2·1·0 %`, in the order of registration.
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

/// What the columns mean, of those that are shown.
fn legend(summary: &Summary, columns: &[(Column, &Metric)], ranks: bool) -> Vec<String> {
    let method = |method| summary.cells.iter().any(|cell| cell.accept_wait_method == Some(method));
    let has = |metric: &str| columns.iter().any(|(_, shown)| shown.name == metric);
    let lines = [
        (
            true,
            "Numbers are medians over the valid trials; in parentheses the median's 95 % interval (bootstrap; below five trials, the \
             smallest and the largest).",
        ),
        (
            has("ports_wall") || has("connect_p50_ns_at_25"),
            "connect at n %: what a connect took, bind included, when so much of the capacity was open. knee: connections open \
             when that left its flat part for good (–: it never did). wall: when no port was left. failing connect: beyond it.",
        ),
        (
            method(WaitMethod::SockOps),
            "accept wait: exact, from the kernel's own ESTABLISHED to accept's return, of every connection (sock_ops).",
        ),
        (
            method(WaitMethod::ConnectCall) || has("accept_wait_bound_p50_ns"),
            "≤: an upper bound of the accept wait, from the client's connect call to accept's return; the true wait is shorter.",
        ),
        (
            has("receive_wait_p50_ns"),
            "receive wait ≤: from the client's send to the worker's reception; the true wait in the socket is shorter.",
        ),
        (
            has("imbalance"),
            "imbalance: accepts of the busiest worker ÷ the mean. worker CPU: user and system time of all workers.",
        ),
        (
            has("open_imbalance"),
            "follow-up: all held connections send one request at one instant. imbalance of open: the most connections that one \
             worker held ÷ the mean.",
        ),
        (
            has("flow_imbalance"),
            "flow: the datagrams of one 4-tuple; it counts for the worker that answers first. imbalance: the worker with most ÷ \
             the mean. sticky: all replies by one worker. lost: datagrams that found a socket's buffer full.",
        ),
        (
            has("fault_not_accepted"),
            "share in the fault: of the connections established while the scenario's first fault lasted, those that went to \
             its worker. stranded: waiting for that worker and no other at its end (kill: at its begin). not accepted: by any \
             worker, at its end. –: nobody can know.",
        ),
        (
            has("empty_wakeups_per_accept"),
            "empty wake-ups: the listener was reported ready, and accept had nothing. sleeps: a worker went to sleep (voluntary \
             context switches); woken for nothing, it may be sent back by the kernel without an empty wake-up.",
        ),
        (ranks, "share by registration: of all accepts, first of the worker that registered its listener first."),
    ];
    lines.into_iter().filter(|(shown, _)| *shown).map(|(_, line)| line.to_owned()).collect()
}
