//! The table of tracked connections: a row for each network of each cell, at its fullest trial.

use super::{Content, In};
use crate::{
    format::{percent, rate, thousands},
    record::{Conntrack, ConntrackCounts, Outcome},
    report::{Grid, Ranked, ranked::keys, ranking::plain},
    scenario::label,
    stats::{CellSummary, Record},
};

/// Title of the section.
const TITLE: &str = "Connection tracking";

/// What the columns mean.
const LEGEND: &str = "In \"Connection tracking\", network: whose table it is; each network has its own, and the same limit. entries: the most at once, by samples every 100 ms; \
    limit: the most that the table takes (net.netfilter.nf_conntrack_max). dropped, evicted and clashes: the kernel's counters drop, early_drop and \
    insert_failed, over all trials of the cell: packets dropped for want of an entry, clashes included; entries removed to make room; and entries that met \
    another with the same tuple, as where NAT has no free port. at the end: TCP entries by their state, once load and server had ended; a closed connection's stays in \
    TIME_WAIT, or CLOSE after a reset, until its timeout is over.";

/// What stands for a value that is unknown.
const NONE: &str = "–";

const HEADS: [&str; 8] = ["network", "entries", "limit", "fill", "dropped", "evicted", "clashes", "at the end"];

/// A network's table in the trials of a cell.
struct Row<'a> {
    cell: &'a CellSummary,
    /// Of the trial in which it was fullest.
    fullest: &'a Conntrack,
    /// Over all trials; `None` if the kernel does not count.
    counts: Option<ConntrackCounts>,
}

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let rows: Vec<Row<'_>> = ranked.summary.cells.iter().flat_map(|cell| of_cell(ranked.record, cell)).collect();
    if rows.is_empty() {
        return None;
    }
    let names = keys(ranked.summary);
    let labels = names.len();
    let head = names.into_iter().chain(HEADS.map(str::to_owned)).collect();
    let table = Grid { title: TITLE.to_owned(), labels, words: 0, head, rows: rows.iter().map(Row::row).collect() };
    // Behind NAT, ports end long before the table does.
    let is_nat = ranked.record.trials.iter().any(|trial| trial.nat.is_some());
    let sustained = rows.iter().filter(|_| !is_nat).find_map(|row| {
        let table = row.fullest.table();
        Some((table.sustainable_per_s()?, table.time_wait_s?))
    });
    let sustained = sustained.map(|(per_s, seconds)| {
        let note = format!(
            "By arithmetic, entries of connections closed by FIN stay for {seconds} s, so that a steady {} new connections per second keeps the table full.",
            rate(per_s)
        );
        (In::All, note)
    });
    Some(Content {
        title: TITLE.to_owned(),
        finding: finding(&rows),
        notes: [(In::All, LEGEND.to_owned())].into_iter().chain(sustained).collect(),
        tables: vec![(In::All, table)],
        ..Content::default()
    })
}

/// A row for each network in which a trial of the cell tracked connections, and ran to its end.
fn of_cell<'a>(record: &'a Record, cell: &'a CellSummary) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    let trials = record.trials.iter().filter(|trial| trial.outcome != Outcome::Failed && trial.cell == cell.cell);
    for table in trials.flat_map(|trial| &trial.conntrack) {
        match rows.iter_mut().find(|row| row.fullest.network == table.network) {
            Some(row) => {
                row.counts = row.counts.zip(table.counts).map(|(sum, more)| ConntrackCounts {
                    insert_failed: sum.insert_failed.saturating_add(more.insert_failed),
                    drop: sum.drop.saturating_add(more.drop),
                    early_drop: sum.early_drop.saturating_add(more.early_drop),
                });
                if table.peak > row.fullest.peak {
                    row.fullest = table;
                }
            }
            None => rows.push(Row { cell, fullest: table, counts: table.counts }),
        }
    }
    rows
}

impl Row<'_> {
    fn row(&self) -> Vec<String> {
        let Self { cell, fullest, counts } = self;
        let number = |number: u64| thousands(number as f64);
        let counted =
            |of: fn(ConntrackCounts) -> u64| counts.map_or_else(|| NONE.to_owned(), |counts| number(of(counts)));
        let mut row: Vec<String> = cell.cell.values().map(plain).collect();
        row.extend([
            fullest.network.name().to_owned(),
            number(fullest.peak),
            fullest.limit.map_or_else(|| "none".to_owned(), number),
            fullest.fill().map_or_else(|| NONE.to_owned(), percent),
            counted(|counts| counts.drop),
            counted(|counts| counts.early_drop),
            counted(|counts| counts.insert_failed),
            states(fullest),
        ]);
        row
    }

    fn lost(&self) -> u64 {
        self.counts.map_or(0, |counts| counts.drop)
    }

    /// Those of the lost that met another entry with the same tuple.
    fn clashes(&self) -> u64 {
        self.counts.map_or(0, |counts| counts.insert_failed)
    }
}

/// `59,000 TIME_WAIT, 3 CLOSE`, the most frequent first.
fn states(table: &Conntrack) -> String {
    let Some(tcp) = &table.tcp_states else { return NONE.to_owned() };
    let mut all: Vec<(&str, u64)> = tcp.iter().map(|(state, count)| (&state[..], *count)).collect();
    all.extend(table.other_protocols.filter(|others| *others > 0).map(|others| ("not TCP", others)));
    all.sort_by_key(|(_, count)| u64::MAX - count);
    if all.is_empty() {
        return "none".to_owned();
    }
    all.iter().map(|(state, count)| format!("{} {state}", thousands(*count as f64))).collect::<Vec<_>>().join(", ")
}

fn finding(rows: &[Row<'_>]) -> String {
    let several = rows.iter().any(|row| row.cell.cell != rows[0].cell.cell);
    let place = |row: &Row<'_>| if several { format!("With {}, ", label(&row.cell.cell)) } else { String::new() };
    if let Some(worst) = rows.iter().filter(|row| row.lost() > 0).max_by_key(|row| row.lost()) {
        let dropped = thousands(worst.lost() as f64);
        let noun = if worst.lost() == 1 { "packet was" } else { "packets were" };
        let why = if worst.clashes() == worst.lost() {
            "because another entry had their tuple"
        } else {
            "for want of an entry"
        };
        return format!("{}{dropped} {noun} dropped {why}", place(worst));
    }
    let fill = |row: &Row<'_>| row.fullest.fill().unwrap_or(0.0);
    let fullest = rows.iter().max_by(|one, other| fill(one).total_cmp(&fill(other)));
    fullest.map_or_else(String::new, |row| {
        let entries = thousands(row.fullest.peak as f64);
        match row.fullest.fill() {
            Some(share) => {
                format!(
                    "At its fullest, the table held {entries} entries, {} of its limit{}",
                    percent(share),
                    place(row)
                )
            }
            None => format!("At its fullest, the table held {entries} entries{}", place(row)),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{record::Whose, report::sample::Sample};

    fn table(network: Whose, peak: u64, drop: u64) -> Conntrack {
        let counts = Some(ConntrackCounts { insert_failed: 0, drop, early_drop: 1 });
        let tcp_states = [("CLOSE", 3), ("TIME_WAIT", 40)].map(|(state, count)| (state.to_owned(), count));
        Conntrack {
            network,
            peak,
            limit: Some(1_000),
            counts,
            tcp_states: Some(tcp_states.into()),
            other_protocols: Some(1),
            ..Conntrack::default()
        }
    }

    /// Two trials of cell a, in the server's network, and one of cell b.
    fn sample(of_b: Vec<Conntrack>) -> Sample {
        let mut sample = Sample::new("");
        for peak in [10, 500] {
            sample.trial(json!({ "strategy": "a" }), &[1], 1).conntrack = vec![table(Whose::Server, peak, 0)];
        }
        sample.trial(json!({ "strategy": "b" }), &[1], 1).conntrack = of_b;
        sample
    }

    #[test]
    fn a_row_is_of_the_fullest_trial_and_adds_up_what_was_dropped() {
        let reading = sample(Vec::new()).reading();
        let content = section(&Ranked::of(&reading)).unwrap();
        assert_eq!(content.finding, "At its fullest, the table held 500 entries, 50.0 % of its limit");
        let (_, grid) = &content.tables[0];
        let ends = ["server", "500", "1,000", "50.0 %", "0", "2", "0", "40 TIME_WAIT, 3 CLOSE, 1 not TCP"];
        assert_eq!(grid.rows.len(), 1);
        assert_eq!(grid.rows[0][1..], ends);
        assert!(content.notes.len() == 1, "without a timeout there is no arithmetic");
        let reading = sample(vec![table(Whose::Loaders, 1_000, 7)]).reading();
        let finding = section(&Ranked::of(&reading)).unwrap().finding;
        assert!(
            finding.starts_with("With ") && finding.ends_with("b, 7 packets were dropped for want of an entry"),
            "{finding}"
        );
    }

    #[test]
    fn without_tracking_there_is_no_section() {
        let mut sample = Sample::new("");
        sample.trial(json!({}), &[1], 1);
        assert!(section(&Ranked::of(&sample.reading())).is_none());
    }
}
