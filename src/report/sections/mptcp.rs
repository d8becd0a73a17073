//! What became of connections that asked for MPTCP: a row for each cell, sums over the valid trials.

use super::{Content, In};
use crate::{
    format::{share, thousands},
    record::{Outcome, TrialRecord},
    report::{Grid, Ranked, ranked::keys, ranking::plain},
    scenario::label,
    stats::{CellSummary, Record, Summary},
};

/// Title of the section.
const TITLE: &str = "MPTCP";

/// What the columns mean.
const LEGEND: &str = "In \"MPTCP\", established: connections for which clients asked for MPTCP. fell back: those that are plain TCP, as getsockopt(MPTCP_INFO) told their \
    client when they were established. ";
const OF_SERVER: &str = "accepted as TCP: those that our own server's workers found to be plain TCP; other programs' clients may be among them. ";
const UNKNOWN: &str = "unknown: those that were reset before their client could look; the kernel then shows them as plain TCP, whatever they were. ";

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let sums: Vec<(&CellSummary, Sum)> =
        ranked.summary.cells.iter().filter_map(|cell| Some((cell, Sum::of(ranked.record, cell)?))).collect();
    if sums.is_empty() {
        return None;
    }
    let table = table(ranked.summary, &sums);
    let has = |head: &str| table.head.iter().any(|column| column == head);
    let parts = [LEGEND, if has(ACCEPTED) { OF_SERVER } else { "" }, if has(UNSEEN) { UNKNOWN } else { "" }];
    let legend = parts.concat().trim_end().to_owned();
    Some(Content {
        title: TITLE.to_owned(),
        finding: finding(&sums),
        notes: vec![(In::All, legend)],
        tables: vec![(In::All, table)],
        ..Content::default()
    })
}

const ACCEPTED: &str = "accepted\nas TCP";
const UNSEEN: &str = "unknown";

/// The sums of a cell.
#[derive(Debug, Default)]
struct Sum {
    established: u64,
    fell_back: u64,
    unknown: u64,
    /// `None` of another server.
    accepted: Option<u64>,
}

impl Sum {
    /// `None` of a cell whose clients ask for plain TCP.
    fn of(record: &Record, cell: &CellSummary) -> Option<Self> {
        let is_of_cell = |trial: &&TrialRecord| trial.outcome == Outcome::Valid && trial.cell == cell.cell;
        let trials = record.trials.iter().filter(is_of_cell).map(|trial| &trial.connections);
        trials.filter(|of| of.fell_back.is_some()).fold(None, |sum: Option<Self>, of| {
            let mut sum = sum.unwrap_or_default();
            sum.established += of.established;
            sum.fell_back += of.fell_back.unwrap_or(0);
            sum.unknown += of.fallback_unknown.unwrap_or(0);
            if let Some(accepted) = of.accepted_fell_back {
                *sum.accepted.get_or_insert(0) += accepted;
            }
            Some(sum)
        })
    }
}

fn table(summary: &Summary, sums: &[(&CellSummary, Sum)]) -> Grid {
    let names = keys(summary);
    let labels = names.len();
    let of_server = sums.iter().any(|(_, sum)| sum.accepted.is_some());
    let unseen = sums.iter().any(|(_, sum)| sum.unknown > 0);
    let count = |count: u64| thousands(count as f64);
    let rows = sums.iter().map(|(cell, sum)| {
        let mut row: Vec<String> = cell.cell.values().map(plain).collect();
        let part = if sum.established > 0 { share(sum.fell_back as f64 / sum.established as f64) } else { none() };
        row.extend([count(sum.established), count(sum.fell_back), part]);
        row.extend(unseen.then(|| count(sum.unknown)));
        row.extend(of_server.then(|| sum.accepted.map_or_else(none, count)));
        row
    });
    let rows = rows.collect();
    let heads = ["established", "fell\nback", "share"].into_iter().chain(unseen.then_some(UNSEEN));
    let heads = heads.chain(of_server.then_some(ACCEPTED)).map(str::to_owned);
    Grid { title: TITLE.to_owned(), labels, words: 0, head: names.into_iter().chain(heads).collect(), rows }
}

fn none() -> String {
    "–".to_owned()
}

fn finding(sums: &[(&CellSummary, Sum)]) -> String {
    let of = |part: fn(&Sum) -> u64| sums.iter().map(|(_, sum)| part(sum)).sum::<u64>();
    let (established, fell_back, unknown) = (of(|sum| sum.established), of(|sum| sum.fell_back), of(|sum| sum.unknown));
    let noun = if established == 1 { "connection" } else { "connections" };
    let all = format!("{} {noun}", thousands(established as f64));
    let but = if unknown > 0 {
        format!(", and {} were reset too early to tell", thousands(unknown as f64))
    } else {
        String::new()
    };
    if established == 0 {
        return "No connection was established".to_owned();
    }
    if fell_back == 0 {
        return if unknown == established {
            format!("Whether {all} were MPTCP is unknown: they were reset too early to tell")
        } else if unknown > 0 {
            format!("None of {all} is known to have fallen back to TCP{but}")
        } else if established == 1 {
            "The only connection was MPTCP".to_owned()
        } else {
            format!("All {all} were MPTCP")
        };
    }
    let worst = sums.iter().max_by_key(|(_, sum)| sum.fell_back);
    let place = match worst {
        Some((cell, worst)) if sums.len() > 1 && worst.fell_back == fell_back => {
            format!(", all of them with {}", label(&cell.cell))
        }
        Some((cell, worst)) if sums.len() > 1 => {
            format!(", the most ({}) with {}", thousands(worst.fell_back as f64), label(&cell.cell))
        }
        _ => String::new(),
    };
    format!("{} of {all} fell back to TCP{place}{but}", thousands(fell_back as f64))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{record::Connections, report::sample::Sample};

    fn content(cells: &[(Value, Connections)]) -> Option<Content> {
        let mut sample = Sample::new("MPTCP?");
        for (cell, connections) in cells {
            sample.trial(cell.clone(), &[5, 5], 1_000).connections = connections.clone();
        }
        section(&Ranked::of(&sample.reading()))
    }

    fn asked(established: u64, fell_back: u64, unknown: u64, accepted: Option<u64>) -> Connections {
        Connections {
            established,
            fell_back: Some(fell_back),
            fallback_unknown: Some(unknown),
            accepted_fell_back: accepted,
            ..Connections::default()
        }
    }

    #[test]
    fn plain_tcp_is_not_mentioned_where_nobody_asked_for_more() {
        assert!(content(&[(json!({}), Connections { established: 9, ..Connections::default() })]).is_none());
    }

    #[test]
    fn the_finding_says_how_many_fell_back_and_where() {
        let (a, b) = (json!({ "strategy": "a" }), json!({ "strategy": "b" }));
        for (cells, expected) in [
            (vec![(json!({}), asked(1_200, 0, 0, Some(0)))], "All 1,200 connections were MPTCP"),
            (vec![(json!({}), asked(1, 0, 0, None))], "The only connection was MPTCP"),
            (vec![(json!({}), asked(0, 0, 0, None))], "No connection was established"),
            (vec![(json!({}), asked(9, 9, 0, None))], "9 of 9 connections fell back to TCP"),
            (
                vec![(json!({}), asked(9, 0, 2, None))],
                "None of 9 connections is known to have fallen back to TCP, and 2 were reset too early to tell",
            ),
            (
                vec![(a.clone(), asked(9, 0, 0, Some(0))), (b.clone(), asked(9, 3, 0, Some(3)))],
                "3 of 18 connections fell back to TCP, all of them with strategy=b",
            ),
            (
                vec![(a, asked(9, 1, 0, Some(1))), (b, asked(9, 3, 0, Some(3)))],
                "4 of 18 connections fell back to TCP, the most (3) with strategy=b",
            ),
        ] {
            assert_eq!(content(&cells).unwrap().finding, expected);
        }
    }

    #[test]
    fn columns_that_say_nothing_are_left_out() {
        let shown = |of: Connections| {
            let content = content(&[(json!({}), of)]).unwrap();
            (content.tables[0].1.head.clone(), content.tables[0].1.rows.clone(), content.notes[0].1.clone())
        };
        let (head, rows, note) = shown(asked(200, 50, 0, None));
        assert_eq!(
            (&head[..], &rows[0][..2]),
            (&["established", "fell\nback", "share"].map(str::to_owned)[..], &["200".to_owned(), "50".to_owned()][..])
        );
        assert!(!note.contains("accepted as TCP") && !note.contains("unknown"), "{note}");
        let (head, rows, note) = shown(asked(200, 50, 1, Some(51)));
        assert_eq!(head[3..], ["unknown", "accepted\nas TCP"]);
        assert_eq!(rows[0][3..], ["1", "51"]);
        assert!(note.contains("accepted as TCP") && note.contains("unknown"), "{note}");
    }
}
