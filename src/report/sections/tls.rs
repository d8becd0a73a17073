//! TLS handshakes: a row for each cell, sums and medians over the valid trials.

use super::{Content, In};
use crate::{
    format::{duration, rate, thousands},
    record::{ClientHandshakes, Handshakes, Outcome, TrialRecord},
    report::{Grid, Ranked, ranked::keys, ranking::plain},
    scenario::label,
    stats::{CellSummary, Record, ascending, median},
};

/// Title of the section.
const TITLE: &str = "TLS handshakes";

/// What the columns mean.
const LEGEND: &str = "In \"TLS handshakes\", counts are sums over the valid trials, warm-up included; rates and times are medians of the measured part. TLS handshakes: those that clients completed; resumed: those of them that resumed an earlier session; ticket: those that \
    began with a ticket, whether or not the server took it; no ticket: those that were to resume one, by load.resumption, when their loader had \
    no ticket left. time: from when the client knows that the connection is established until its handshake is over, which includes the wait in \
    the accept queue.";

/// What stands for a value that is unknown.
const NONE: &str = "–";

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let cells: Vec<Cell<'_>> = ranked.summary.cells.iter().filter_map(|cell| Cell::of(ranked.record, cell)).collect();
    if cells.is_empty() {
        return None;
    }
    let mut legend = LEGEND.to_owned();
    if cells.iter().any(|cell| cell.server.is_some()) {
        legend += " server: those that listenbench's own server completed, by its own count.";
    }
    let names = keys(ranked.summary);
    let mut head = names.clone();
    head.extend(HEADS.map(str::to_owned));
    let table = Grid {
        title: TITLE.to_owned(),
        labels: names.len(),
        words: 0,
        head,
        rows: cells.iter().map(Cell::row).collect(),
    };
    Some(Content {
        title: TITLE.to_owned(),
        finding: finding(&cells),
        notes: vec![(In::All, legend)],
        tables: vec![(In::All, table)],
        ..Content::default()
    })
}

const HEADS: [&str; 9] = [
    "TLS\nhandshakes",
    "TLS\nhandshakes/s",
    "resumed",
    "ticket",
    "no\nticket",
    "TLS 1.3",
    "server",
    "time\np50",
    "time\np99",
];

/// A cell with TLS.
struct Cell<'a> {
    summary: &'a CellSummary,
    /// Its valid trials.
    trials: Vec<&'a TrialRecord>,
    clients: ClientHandshakes,
    server: Option<Handshakes>,
}

impl<'a> Cell<'a> {
    fn of(record: &'a Record, summary: &'a CellSummary) -> Option<Self> {
        let valid =
            |trial: &&TrialRecord| trial.outcome == Outcome::Valid && trial.cell == summary.cell && trial.tls.is_some();
        let trials: Vec<&TrialRecord> = record.trials.iter().filter(valid).collect();
        let (mut clients, mut server) = (ClientHandshakes::default(), None::<Handshakes>);
        for tls in trials.iter().filter_map(|trial| trial.tls.as_ref()) {
            clients.add(&tls.clients);
            if let Some(one) = tls.server {
                let sum = server.get_or_insert_default();
                sum.completed += one.completed;
                sum.resumed += one.resumed;
            }
        }
        (!trials.is_empty()).then_some(Self { summary, trials, clients, server })
    }

    fn median(&self, of: impl Fn(&TrialRecord) -> Option<f64>) -> Option<f64> {
        median(&ascending(&self.trials.iter().filter_map(|trial| of(trial)).collect::<Vec<_>>()))
    }

    fn per_s(&self) -> Option<f64> {
        self.median(|trial| trial.rates.handshakes_per_s)
    }

    fn row(&self) -> Vec<String> {
        let shown = |value: Option<f64>, show: fn(f64) -> String| value.map_or_else(|| NONE.to_owned(), show);
        let count = |count: u64| thousands(count as f64);
        let time =
            |of: fn(&TrialRecord) -> Option<u64>| shown(self.median(|trial| of(trial).map(|ns| ns as f64)), duration);
        let ClientHandshakes { completed, resumed, offered, without_ticket, tls_1_3, .. } = self.clients;
        let mut row: Vec<String> = self.summary.cell.values().map(plain).collect();
        row.extend([
            count(completed),
            shown(self.per_s(), rate),
            count(resumed),
            count(offered),
            count(without_ticket),
            count(tls_1_3),
            self.server.map_or_else(|| NONE.to_owned(), |server| count(server.completed)),
            time(|trial| trial.latency_ns.tls.p50),
            time(|trial| trial.latency_ns.tls.p99_of_many()),
        ]);
        row
    }
}

/// The most handshakes per second, and where sessions were resumed, how many.
fn finding(cells: &[Cell<'_>]) -> String {
    let fastest =
        cells.iter().filter_map(|cell| Some((cell, cell.per_s()?))).max_by(|one, other| one.1.total_cmp(&other.1));
    let Some((cell, per_s)) = fastest else { return String::new() };
    let resumed = match cell.clients.resumed {
        0 => "none resumed".to_owned(),
        resumed => format!(
            "{} of {} resumed in whole trials",
            thousands(resumed as f64),
            thousands(cell.clients.completed as f64)
        ),
    };
    match cells {
        [_] => format!("{} TLS handshakes/s, {resumed}", rate(per_s)),
        _ => format!("Up to {} TLS handshakes/s, {resumed}: {}", rate(per_s), label(&cell.summary.cell)),
    }
}
