//! What became of connections behind source NAT: a row for each cell, sums over its trials.

use super::{Content, In};
use crate::{
    format::thousands,
    record::{Outcome, TrialRecord, Whose},
    report::{Grid, Ranked, ranked::keys, ranking::plain},
    scenario::label,
    stats::{CellSummary, Record, ports_taken},
};

/// Title of the section.
const TITLE: &str = "Source NAT";

const LEGEND: &str = "Source NAT: sums over the trials, invalid ones included: clients that get no answer may be what makes them so. Of one trial, the most in any of them. clients: addresses, all of which the server sees as one. ports to choose from: \
    those that NAT may take; – for the kernel's choice. begun: packets that began a connection and came to NAT. established: connections that reached the server. \
    ports taken: the most at once, by samples every 100 ms; a closed connection counts until another takes its port, or its entry goes. filtered: connections that had no answer within \
    load.connect_timeout. insert_failed: packets dropped because another connection had the port: no free one was found among those that the kernel tried, or two \
    clients raced for it.";

const NONE: &str = "–";

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let sums: Vec<(&CellSummary, Sum)> =
        ranked.summary.cells.iter().filter_map(|cell| Some((cell, Sum::of(ranked.record, cell)?))).collect();
    if sums.is_empty() {
        return None;
    }
    let names = keys(ranked.summary);
    let count = |count: u64| thousands(count as f64);
    let known = |value: Option<u64>| value.map_or_else(|| NONE.to_owned(), count);
    let rows = sums.iter().map(|(cell, sum)| {
        let mut row: Vec<String> = cell.cell.values().map(plain).collect();
        row.extend([count(sum.clients), known(sum.ports), known(sum.begun), count(sum.established)]);
        row.extend([count(sum.most), known(sum.taken), count(sum.filtered), known(sum.insert_failed)]);
        row
    });
    let rows = rows.collect();
    let heads = [
        "clients",
        "ports to\nchoose from",
        "begun",
        "established",
        "established\nin a trial",
        "ports\ntaken",
        "filtered",
        "insert_failed",
    ];
    let head = names.iter().cloned().chain(heads.map(str::to_owned)).collect();
    let table = Grid { title: TITLE.to_owned(), labels: names.len(), words: 0, head, rows };
    Some(Content {
        title: TITLE.to_owned(),
        finding: finding(&sums),
        notes: vec![(In::All, LEGEND.to_owned())],
        tables: vec![(In::All, table)],
        ..Content::default()
    })
}

/// The sums of a cell.
#[derive(Debug, Default)]
struct Sum {
    clients: u64,
    ports: Option<u64>,
    begun: Option<u64>,
    established: u64,
    /// The most established connections of any trial.
    most: u64,
    /// The most ports taken at once in any trial.
    taken: Option<u64>,
    filtered: u64,
    insert_failed: Option<u64>,
}

impl Sum {
    /// `None` of a cell without NAT.
    fn of(record: &Record, cell: &CellSummary) -> Option<Self> {
        let is_of_cell = |trial: &&TrialRecord| trial.outcome != Outcome::Failed && trial.cell == cell.cell;
        let trials = record.trials.iter().filter(is_of_cell);
        trials.filter_map(|trial| Some((trial, trial.nat.as_ref()?))).fold(None, |sum: Option<Self>, (trial, nat)| {
            let mut sum = sum.unwrap_or_default();
            let add = |sum: Option<u64>, more: Option<u64>| more.map(|more| sum.unwrap_or(0) + more).or(sum);
            (sum.clients, sum.ports) = (nat.clients, nat.ports);
            sum.begun = add(sum.begun, nat.begun);
            sum.insert_failed = add(sum.insert_failed, clashes(trial));
            sum.established += trial.connections.established;
            sum.taken = sum.taken.max(ports_taken(trial));
            sum.most = sum.most.max(trial.connections.established);
            sum.filtered += trial.connections.outcomes.filtered;
            Some(sum)
        })
    }
}

/// Packets dropped because another connection had the port already when theirs was to be entered: no free one had been found, or two clients
/// raced for it. `None` if the kernel does not say.
fn clashes(trial: &TrialRecord) -> Option<u64> {
    let table = trial.conntrack.iter().find(|table| table.network == Whose::Loaders)?;
    Some(table.counts?.insert_failed)
}

/// Where clients found no way through NAT.
fn finding(sums: &[(&CellSummary, Sum)]) -> String {
    let worst = sums.iter().map(|(_, sum)| sum.filtered).max().filter(|most| *most > 0);
    let Some((cell, worst)) = worst.and_then(|most| sums.iter().find(|(_, sum)| sum.filtered == most)) else {
        let taken = sums.iter().filter_map(|(_, sum)| sum.taken).max();
        let taken = taken
            .map_or_else(String::new, |taken| format!("; up to {} ports were taken at once", thousands(taken as f64)));
        return format!("No connection went without an answer{taken}");
    };
    let place = if sums.len() > 1 { format!("With {}, ", label(&cell.cell)) } else { String::new() };
    format!(
        "{place}{} of {} connections got no answer; at most {} of a trial came through{}",
        thousands(worst.filtered as f64),
        thousands((worst.filtered + worst.established) as f64),
        thousands(worst.most as f64),
        worst
            .taken
            .map_or_else(String::new, |taken| format!(", and {} ports were taken at once", thousands(taken as f64)))
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{Conntrack, ConntrackCounts, Nat},
        report::sample::Sample,
    };

    #[test]
    fn a_row_says_how_many_came_through_and_who_went_without_an_answer() {
        let mut sample = Sample::new("How many ports?");
        for (ports, established, filtered) in [(100, 100, 200), (400, 300, 0)] {
            let trial = sample.trial(json!({ "port_count": ports }), &[5, 5], 1_000);
            trial.connections.established = established;
            trial.connections.outcomes.filtered = filtered;
            let begun = Some(established + 2 * filtered);
            trial.nat = Some(Nat { clients: 20, ports: Some(ports), begun });
            let counts = Some(ConntrackCounts { insert_failed: 2 * filtered, drop: 2 * filtered, early_drop: 0 });
            trial.conntrack.push(Conntrack { network: Whose::Loaders, peak: 90, counts, ..Conntrack::default() });
        }
        let content = section(&Ranked::of(&sample.reading())).unwrap();
        assert_eq!(
            content.finding,
            "With port_count=100, 200 of 300 connections got no answer; at most 100 of a trial came through, and 90 ports were taken at \
             once"
        );
        assert_eq!(content.tables[0].1.rows[0].join(" "), "100 20 100 500 100 100 90 200 400");
    }

    #[test]
    fn a_record_without_nat_has_no_such_section() {
        let mut sample = Sample::new("?");
        sample.trial(json!({}), &[5, 5], 1_000);
        assert!(section(&Ranked::of(&sample.reading())).is_none());
    }
}
