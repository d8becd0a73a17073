//! A record as a table with notes: a row a cell, the medians of its valid trials.

use super::{
    answer::{Answer, answer},
    harness, ramp,
    ranking::{plain, ranking},
    verdicts,
};
use crate::{
    format::duration,
    load::STAGES,
    record::Record,
    scenario::{CONNECT_CALL, SOCK_OPS},
    stats::{CellSummary, Column, METRICS, Metric, Summary, Values},
};

/// What every form of a report shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Name of the scenario.
    pub title: String,
    /// Its question; may be empty.
    pub question: String,
    /// Its answer.
    pub answer: Answer,
    /// The tables: first the cells' figures, then, if that is known, where their time goes, how they came to their height, and
    /// what the harness costs.
    pub tables: Vec<Grid>,
    /// What the numbers mean.
    pub legend: Vec<String>,
    /// What happened to trials and cells.
    pub notes: Vec<String>,
    /// Under which conditions.
    pub conditions: Vec<String>,
}

/// A table: a row a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// What it shows; the first needs no title.
    pub title: String,
    /// Column heads. The first `labels` columns name the cell, then come numbers, then words.
    pub head: Vec<String>,
    /// Number of columns that name the cell.
    pub labels: usize,
    /// Number of columns of words at the end.
    pub words: usize,
    /// A row a cell.
    pub rows: Vec<Vec<String>>,
}

/// Shares are shown of so many ranks.
const RANKS: usize = 8;

/// Builds the report of a record.
pub fn model(record: &Record, summary: &Summary) -> Model {
    let names = names(summary);
    let mut head = names.clone();
    let columns = columns(summary);
    head.extend(columns.iter().map(|(column, _)| column.head.to_owned()));
    let ranks = summary.cells.iter().any(|cell| cell.share_by_rank.len() > 1);
    head.extend(ranks.then(|| "share by\nregistration".to_owned()));
    head.extend(["valid\ntrials".to_owned(), "verdicts".to_owned()]);
    let cells = Grid {
        title: String::new(),
        labels: names.len(),
        words: 1,
        head,
        rows: summary.cells.iter().map(|cell| row(cell, &columns, ranks, &summary.metric)).collect(),
    };
    let stages = stages(summary);
    let ramp = ramp::grid(record, summary);
    let harness = harness::of_record(record);
    let mut legend = legend(summary, &columns, ranks, stages.is_some());
    legend.extend(ramp.is_some().then(|| ramp::LEGEND.to_owned()));
    legend.extend(harness.iter().flat_map(harness::legend));
    Model {
        title: summary.scenario.clone(),
        question: record.whole.question.clone(),
        answer: answer(summary, &ranking(summary)),
        legend,
        tables: std::iter::once(cells)
            .chain(stages)
            .chain(ramp)
            .chain(harness.iter().flat_map(harness::grids))
            .collect(),
        notes: verdicts::notes(record, summary),
        conditions: conditions(record),
    }
}

/// The swept keys.
pub(super) fn names(summary: &Summary) -> Vec<String> {
    summary.cells.first().map_or_else(Vec::new, |cell| cell.cell.keys().cloned().collect())
}

/// The stage table: means over all first replies of a cell's valid trials, so that they add up.
pub(super) fn stages(summary: &Summary) -> Option<Grid> {
    let names = names(summary);
    let known = |stage: &str| summary.cells.iter().any(|cell| cell.stage_means_ns.contains_key(stage));
    let shown: Vec<&str> = STAGES.into_iter().filter(|stage| known(stage)).collect();
    if shown.is_empty() {
        return None;
    }
    let mut head = names.clone();
    head.extend(shown.iter().map(|stage| stage.replace('_', " ")));
    head.push("response".to_owned());
    let row = |cell: &CellSummary| {
        let means = &cell.stage_means_ns;
        let show = |stage: &str| means.get(stage).map_or_else(|| "–".to_owned(), |ns| duration(*ns));
        let mut row: Vec<String> = cell.cell.values().map(plain).collect();
        row.extend(shown.iter().map(|stage| show(stage)));
        // All stages but the last, which comes after the reply.
        let response: f64 = means.iter().filter(|(stage, _)| *stage != "close").map(|(_, ns)| ns).sum();
        row.push(if means.is_empty() { "–".to_owned() } else { duration(response) });
        row
    };
    Some(Grid {
        title: "Where the time to the first reply goes (means)".to_owned(),
        labels: names.len(),
        words: 0,
        head,
        rows: summary.cells.iter().map(row).collect(),
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
    let verdicts = cell.verdicts.iter().map(|(name, count)| format!("{} {count}/{total}", name.as_str()));
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
fn legend(summary: &Summary, columns: &[(Column, &Metric)], ranks: bool, stages: bool) -> Vec<String> {
    let method = |name: &str| summary.cells.iter().any(|cell| cell.accept_wait_method.as_deref() == Some(name));
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
            method(SOCK_OPS),
            "accept wait: exact, from the kernel's own ESTABLISHED to accept's return, of every connection (sock_ops).",
        ),
        (
            method(CONNECT_CALL) || has("accept_wait_bound_p50_ns"),
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
        (
            stages,
            "Stages: lag, the loader's own lateness; handshake, connect call to ESTABLISHED; queue, to the wake-up of the worker \
             that takes the connection; accept, to accept's return; read, to the request's first byte; serve, to the reply's \
             writing; return, to its last byte at the client; close, to the end. All but the last add up to the response.",
        ),
        (ranks, "share by registration: of all accepts, first of the worker that registered its listener first."),
    ];
    lines.into_iter().filter(|(shown, _)| *shown).map(|(_, line)| line.to_owned()).collect()
}

fn conditions(record: &Record) -> Vec<String> {
    let host = &record.host;
    let text = |name: &str| host.get(name).map_or_else(String::new, plain);
    let sysctl = |name: &str| host["sysctls"].get(name).map_or_else(|| "?".to_owned(), plain);
    let written = record
        .scenario
        .parse::<toml::Table>()
        .ok()
        .and_then(|table| table.get("sysctl").and_then(toml::Value::as_table).cloned())
        .unwrap_or_default();
    let written: Vec<String> = written.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let changed =
        if written.is_empty() { String::new() } else { format!("; the scenario sets {}", written.join(", ")) };
    vec![
        format!("kernel {}, {} processors ({})", text("kernel"), text("cpus_allowed"), text("cpu")),
        format!(
            "network {}: ports {}, tcp_tw_reuse {}, somaxconn {}{changed}",
            text("network"),
            sysctl("ip_local_port_range"),
            sysctl("tcp_tw_reuse"),
            sysctl("somaxconn")
        ),
        format!("seed {}, {}, revision {}", text("seed"), text("tool"), text("revision")),
    ]
}
