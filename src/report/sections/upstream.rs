//! Behind a proxy: its connections to the upstream and the ports that they took, a row for each cell, medians over the valid trials.

use super::{Content, In};
use crate::{
    format::{duration, rate, ratio, share, thousands},
    record::{Outcome, Upstream, UpstreamPorts},
    report::{Grid, Ranked, ranked::keys, ranking::plain},
    scenario::label,
    stats::{CellSummary, Record, Summary, ascending, median, until},
};

/// Title of the section.
const TITLE: &str = "Towards the upstream";

/// What the columns mean.
const LEGEND: &str = "In \"Towards the upstream\", conn: connections that the proxy opened to its upstream, which is listenbench's own server, in the measured window. sources: \
    addresses it connected from. taken: the most ports seen in use or in TIME_WAIT at once from one of them, of those usable; knee: the number \
    from which connect() has to search for a free port. TIME_WAIT: the most seen at once on the proxy's side, where each takes a port, and on \
    the upstream's, where none does: it is with the side that closes first.";

/// What stands for a value that is unknown or does not exist.
const NONE: &str = "–";

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let cells: Vec<Cell<'_>> = ranked.summary.cells.iter().filter_map(|cell| Cell::of(ranked.record, cell)).collect();
    if cells.is_empty() {
        return None;
    }
    let table = table(ranked.summary, &cells);
    Some(Content {
        title: TITLE.to_owned(),
        finding: finding(&cells),
        notes: vec![(In::All, legend(&cells, &table))],
        tables: vec![(In::All, table)],
        ..Content::default()
    })
}

/// A cell whose server had an upstream of ours.
struct Cell<'a> {
    summary: &'a CellSummary,
    /// Of its valid trials.
    upstreams: Vec<(&'a Upstream, f64)>,
}

impl<'a> Cell<'a> {
    fn of(record: &'a Record, summary: &'a CellSummary) -> Option<Self> {
        let trials = record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid && trial.cell == summary.cell);
        let upstreams: Vec<_> = trials.filter_map(|trial| Some((trial.upstream.as_ref()?, trial.duration_s))).collect();
        (!upstreams.is_empty()).then_some(Self { summary, upstreams })
    }

    /// The median over those trials that have a value.
    fn median(&self, of: impl Fn(&Upstream) -> Option<f64>) -> Option<f64> {
        median(&ascending(&self.upstreams.iter().filter_map(|(upstream, _)| of(upstream)).collect::<Vec<_>>()))
    }

    fn of_ports(&self, of: impl Fn(&UpstreamPorts) -> Option<f64>) -> Option<f64> {
        self.median(|upstream| of(upstream.ports.as_ref()?))
    }

    fn connections_per_s(&self) -> Option<f64> {
        let rates = self.upstreams.iter().filter(|(_, duration_s)| *duration_s > 0.0);
        let rates = rates.map(|(upstream, duration_s)| upstream.measured_connections as f64 / duration_s);
        median(&ascending(&rates.collect::<Vec<_>>()))
    }

    fn row(&self) -> Vec<String> {
        let shown = |value: Option<f64>, show: fn(f64) -> String| value.map_or_else(|| NONE.to_owned(), show);
        let ports = |of: fn(&UpstreamPorts) -> u64| shown(self.of_ports(|ports| Some(of(ports) as f64)), thousands);
        let mut row: Vec<String> = self.summary.cell.values().map(plain).collect();
        row.extend([
            shown(self.median(|upstream| Some(upstream.measured_connections as f64)), thousands),
            shown(self.connections_per_s(), rate),
            shown(self.median(|upstream| upstream.requests_per_connection), ratio),
            ports(|ports| ports.sources.len() as u64),
            // A connection that no sample saw had a port all the same.
            if self.went_unseen() { NONE.to_owned() } else { ports(|ports| ports.taken_peak) },
            ports(|ports| ports.usable),
            ports(|ports| ports.knee),
            ports(|ports| ports.time_wait_peak),
            ports(|ports| ports.upstream_time_wait_peak),
            shown(self.median(|upstream| upstream.accept_wait.p50.map(|ns| ns as f64)), duration),
            shown(self.median(|upstream| upstream.accept_wait.p99_of_many().map(|ns| ns as f64)), duration),
            shown(self.of_ports(|ports| ports.exhausted_after_s.map(|after_s| 1e9 * after_s)), duration),
        ]);
        row
    }

    /// Whether it had connections to the upstream, but no sample saw one.
    fn went_unseen(&self) -> bool {
        let seen = |of: &Upstream| of.ports.as_ref().is_some_and(|ports| ports.taken_peak > 0);
        self.upstreams.iter().any(|(of, _)| of.connections > 0) && !self.upstreams.iter().any(|(of, _)| seen(of))
    }
}

/// How to read the table.
fn legend(cells: &[Cell<'_>], table: &Grid) -> String {
    let mut parts = vec![LEGEND.to_owned()];
    let samples =
        || cells.iter().flat_map(|cell| &cell.upstreams).filter_map(|(of, _)| Some(of.ports.as_ref()?.samples));
    if let Some((least, most)) = samples().min().zip(samples().max()) {
        let count = if least == most { least.to_string() } else { format!("{least} to {most}") };
        let noun = if most == 1 { "sample" } else { "samples" };
        parts.push(format!(
            "Ports are those in {count} {noun} per trial; connections that came and went in between are missing."
        ));
    }
    let has = |head: &str| table.head.iter().any(|column| column == head);
    if has("wait\np50") {
        let mut waits =
            cells.iter().flat_map(|cell| &cell.upstreams).map(|(of, _)| &of.accept_wait).filter(|of| of.count > 0);
        let ends = until(waits.next().and_then(|of| of.ends));
        parts.push(format!(
            "wait: the upstream's accept waits {ends}, measured exactly (sock_ops); a p99 is of at least 100."
        ));
    }
    if has("out\nafter") {
        parts.push("out after: when no source address had a port left.".to_owned());
    }
    if table.rows.iter().flatten().any(|shown| shown == NONE) {
        parts.push("–: unknown, or there was none.".to_owned());
    }
    parts.join(" ")
}

fn table(summary: &Summary, cells: &[Cell<'_>]) -> Grid {
    let names = keys(summary);
    let heads = [
        "conn",
        "conn/s",
        "requests\n/conn",
        "sources",
        "ports\ntaken",
        "of",
        "knee",
        "TIME_WAIT\nproxy",
        "TIME_WAIT\nupstream",
        "wait\np50",
        "wait\np99",
        "out\nafter",
    ];
    let labels = names.len();
    let head: Vec<String> = names.into_iter().chain(heads.map(str::to_owned)).collect();
    let rows: Vec<Vec<String>> = cells.iter().map(Cell::row).collect();
    // Waits that nobody measured, and running out where nothing did, need no column.
    let optional = ["wait\np50", "wait\np99", "out\nafter"];
    let kept: Vec<usize> = (0..head.len())
        .filter(|at| !optional.contains(&&head[*at][..]) || rows.iter().any(|row| row[*at] != NONE))
        .collect();
    let pick = |row: &[String]| kept.iter().map(|at| row[*at].clone()).collect::<Vec<_>>();
    let rows = rows.iter().map(|row| pick(row)).collect();
    Grid { title: TITLE.to_owned(), labels, words: 0, head: pick(&head), rows }
}

/// Where the ports ran out; else, where most of them were taken.
fn finding(cells: &[Cell<'_>]) -> String {
    if cells.iter().all(|cell| cell.upstreams.iter().all(|(upstream, _)| upstream.connections == 0)) {
        return "The proxy opened no connection to its upstream".to_owned();
    }
    let place =
        |cell: &Cell<'_>| if cells.len() > 1 { format!(" with {}", label(&cell.summary.cell)) } else { String::new() };
    let out: Vec<&Cell<'_>> =
        cells.iter().filter(|cell| cell.of_ports(|ports| ports.exhausted_after_s).is_some()).collect();
    match out.as_slice() {
        [] => {}
        [cell] => return format!("The proxy ran out of ports towards its upstream{}", place(cell)),
        all if all.len() == cells.len() => {
            return "The proxy ran out of ports towards its upstream in every cell".to_owned();
        }
        all => {
            return format!(
                "The proxy ran out of ports towards its upstream in {} of {} cells",
                all.len(),
                cells.len()
            );
        }
    }
    let mut used = cells.iter().filter(|cell| cell.upstreams.iter().any(|(of, _)| of.connections > 0)).peekable();
    if used.peek().is_some()
        && used.all(Cell::went_unseen)
        && cells.iter().any(|cell| cell.of_ports(|_| Some(0.0)).is_some())
    {
        return "The proxy's connections to its upstream came and went between the samples of its ports".to_owned();
    }
    let fill = |cell: &Cell<'_>| cell.of_ports(|ports| Some(ports.fill_peak));
    let fullest = cells.iter().filter_map(|cell| Some((cell, fill(cell)?))).max_by(|a, b| a.1.total_cmp(&b.1));
    match fullest {
        Some((cell, fill)) => {
            let most = if cells.len() > 1 { "at most " } else { "" };
            format!(
                "The proxy's connections to its upstream were seen to take {most}{} of the ports of a source address{}",
                share(fill),
                place(cell)
            )
        }
        None => "The ports that the proxy's connections to its upstream took could not be sampled".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        record::{LatencySummary, WaitEnd},
        report::sample::Sample,
    };

    fn content(cells: &[(Value, Upstream)]) -> Option<Content> {
        let mut sample = Sample::new("What do the ports do?");
        for (cell, upstream) in cells {
            let trial = sample.trial(cell.clone(), &[5, 5], 1_000);
            trial.duration_s = 2.0;
            trial.upstream = Some(upstream.clone());
        }
        section(&Ranked::of(&sample.reading()))
    }

    fn upstream(connections: u64, fill_peak: f64, exhausted_after_s: Option<f64>) -> Upstream {
        let ports = UpstreamPorts {
            sources: vec!["127.0.0.1".to_owned()],
            samples: 4,
            usable: 100,
            knee: 50,
            taken_peak: ((100.0 * fill_peak) as u64).max(u64::from(fill_peak > 0.0)),
            fill_peak,
            exhausted_after_s,
            ..UpstreamPorts::default()
        };
        Upstream { connections, measured_connections: connections, ports: Some(ports), ..Upstream::default() }
    }

    #[test]
    fn the_finding_is_true_of_one_cell_of_several_and_of_none() {
        let (a, b) = (|| json!({ "variant": "a" }), || json!({ "variant": "b" }));
        let unsampled = Upstream { ports: None, ..upstream(3, 0.0, None) };
        for (cells, expected) in [
            (vec![(json!({}), upstream(0, 0.0, None))], "The proxy opened no connection to its upstream"),
            (
                vec![(json!({}), upstream(7, 0.07, None))],
                "The proxy's connections to its upstream were seen to take 7.0 % of the ports of a source address",
            ),
            (
                vec![(a(), upstream(7, 0.07, None)), (b(), upstream(9, 0.09, None))],
                "The proxy's connections to its upstream were seen to take at most 9.0 % of the ports of a source address with variant=b",
            ),
            (vec![(json!({}), upstream(100, 1.0, Some(0.5)))], "The proxy ran out of ports towards its upstream"),
            (
                vec![(a(), upstream(100, 1.0, Some(0.5))), (b(), upstream(9, 0.09, None))],
                "The proxy ran out of ports towards its upstream with variant=a",
            ),
            (
                vec![(a(), upstream(100, 1.0, Some(0.5))), (b(), upstream(100, 1.0, Some(1.0)))],
                "The proxy ran out of ports towards its upstream in every cell",
            ),
            (
                vec![(json!({}), upstream(2_526, 0.0, None))],
                "The proxy's connections to its upstream came and went between the samples of its ports",
            ),
            (
                vec![(a(), upstream(2_526, 0.0, None)), (b(), upstream(10, 0.000_39, None))],
                "The proxy's connections to its upstream were seen to take at most 0.039 % of the ports of a source address with variant=b",
            ),
            (
                vec![(json!({}), unsampled)],
                "The ports that the proxy's connections to its upstream took could not be sampled",
            ),
        ] {
            assert_eq!(content(&cells).unwrap().finding, expected);
        }
        assert!(section(&Ranked::of(&Sample::new("Without a proxy?").reading())).is_none());
    }

    #[test]
    fn what_is_unknown_is_not_a_number() {
        let rows = |upstream| content(&[(json!({}), upstream)]).unwrap().tables[0].1.rows.clone();
        assert_eq!(rows(upstream(7, 0.07, None)), [["7", "3.5", "–", "1", "7", "100", "50", "0", "0"]]);
        // Connections that no sample saw took ports all the same.
        assert_eq!(rows(upstream(2_526, 0.0, None)), [["2,526", "1,263", "–", "1", "–", "100", "50", "0", "0"]]);
        assert_eq!(rows(upstream(0, 0.0, None))[0][4], "0");
        assert_eq!(rows(upstream(9, 1.0, Some(0.5)))[0][9], "500 ms");
    }

    #[test]
    fn a_p99_is_of_a_hundred_waits() {
        let with = |due| {
            let waits =
                LatencySummary { due, count: due, p50: Some(5_000), p99: Some(9_000), ..LatencySummary::default() };
            let accept_wait = LatencySummary { ends: Some(WaitEnd::Serving), ..waits };
            content(&[(
                json!({}),
                Upstream { accept_wait, requests_per_connection: Some(1.0), ..upstream(due, 0.07, None) },
            )])
            .unwrap()
        };
        assert_eq!(with(100).tables[0].1.rows[0][9..], ["5.00 µs", "9.00 µs"]);
        assert_eq!(with(99).tables[0].1.rows[0][9..], ["5.00 µs"]);
        let note = &with(99).notes[0].1;
        assert!(
            note.contains("accept waits until the serving worker has the connection, measured exactly (sock_ops)"),
            "{note}"
        );
        assert!(
            note.contains(
                "Ports are those in 4 samples per trial; connections that came and went in between are missing."
            ),
            "{note}"
        );
        assert!(!note.contains("out after") && !note.contains('–'), "{note}");
    }
}
