//! Which host of a job did what: a row for each cell and host, their clocks, and what gathering a trial cost.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Content, In};
use crate::{
    format::{duration, percent, plural, thousands},
    record::{HostFacts, HostLatencies, HostRole, HostRow, LatencySummary, Outcome, TrialRecord},
    report::{
        Grid, Ranked,
        ranked::keys,
        ranking::{listed, plain},
    },
    stats::{CellSummary, ascending, median},
};

/// Titles of the section and of its tables.
const TITLE: &str = "Hosts";
const CLOCKS: &str = "Clocks and connections of the hosts";

/// Most rows of a table in the terminal and in Markdown, and on the page.
const IN_TEXT: usize = 24;
const ON_PAGE: usize = 200;

/// What stands for a value that is unknown or does not exist.
const NONE: &str = "–";

/// What the columns mean.
const LEGEND: &str = "Hosts: counts are sums over the cell's valid trials, warm-up included, and over all populations; times and shares are medians over the trials. \
    connect, response and send lag are what this host's loaders measured in the window, each on one clock; a p99 takes at least 100 values. busiest: the share of its \
    available processor time that the host's busiest loader used. CPU: of its loaders, or of the server's members, in a trial.";

const CLOCKS_LEGEND: &str = "Clocks: how far the host's CLOCK_MONOTONIC was ahead of that of the server's host before a trial (the median of all trials): it counts from each \
    machine's own boot, so the offset says nothing by itself. bound: the most by which that estimate, and with it the host's start, could be wrong in any trial (half of \
    the smallest round trip). drift: the largest change of the offset during a trial, with the most by which that could be wrong. No latency in this record is the \
    difference of two hosts' clocks.";

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let trials: Vec<&TrialRecord> = ranked.record.trials.iter().filter(|trial| !trial.hosts.is_empty()).collect();
    let names = Names::of(&trials)?;
    let work = work(ranked, &names);
    let clocks = clocks(ranked, &trials, &names);
    let mut tables = Vec::new();
    let mut notes = Vec::new();
    for (grid, legend) in [(work, LEGEND), (clocks, CLOCKS_LEGEND)] {
        if !grid.rows.is_empty() {
            tables.extend(shortened(grid, &mut notes));
            notes.push((In::All, legend.to_owned()));
        }
    }
    notes.extend(unknown(&trials).into_iter().chain(gathering(&trials)).map(|line| (In::All, line)));
    Some(Content { title: TITLE.to_owned(), finding: finding(&trials, &names), tables, notes, ..Content::default() })
}

/// The hosts of all trials, by rank.
struct Names {
    by_rank: BTreeMap<usize, (String, HostRole)>,
    /// Whether some share a name, so that only the rank tells them apart.
    shared: bool,
}

impl Names {
    /// `None` where one machine did it all.
    fn of(trials: &[&TrialRecord]) -> Option<Self> {
        let rows = trials.iter().flat_map(|trial| &trial.hosts);
        let by_rank: BTreeMap<_, _> = rows.map(|row| (row.rank, (row.name.clone(), row.role))).collect();
        let distinct: HashSet<&String> = by_rank.values().map(|(name, _)| name).collect();
        let shared = distinct.len() < by_rank.len();
        (!by_rank.is_empty()).then_some(Self { by_rank, shared })
    }

    /// `client1`, or `client1 (rank 1)` where others have that name.
    fn name(&self, rank: usize) -> String {
        let name = self.by_rank.get(&rank).map_or("", |(name, _)| name);
        if self.shared { format!("{name} (rank {rank})") } else { name.to_owned() }
    }

    fn role(&self, role: HostRole) -> Vec<String> {
        self.by_rank.iter().filter(|(_, (_, of))| *of == role).map(|(rank, _)| self.name(*rank)).collect()
    }
}

/// A few names, or how many there are.
fn few(names: &[String], what: &str) -> String {
    match names {
        [one] => one.clone(),
        [one, other] => format!("{one} and {other}"),
        _ => plural(names.len(), what),
    }
}

/// Who loaded whom, and how far apart they started.
fn finding(trials: &[&TrialRecord], names: &Names) -> String {
    let (load, servers) = (names.role(HostRole::Load), names.role(HostRole::Server));
    let verb = if load.len() == 1 { "loads" } else { "load" };
    let bounds = || trials.iter().flat_map(|trial| &trial.hosts).filter(|host| host.role == HostRole::Load);
    let off = bounds().filter_map(|host| host.clock).map(|clock| clock.bound_ns).max();
    let start = off.map_or_else(String::new, |ns| format!("; their clocks agree to ±{}", duration(ns as f64)));
    let in_turn = if servers.len() > 1 { " in turn" } else { "" };
    format!("{} {verb} {}{in_turn}{start}", few(&load, "host"), few(&servers, "server host"))
}

/// What each host did, a row for each cell and host.
fn work(ranked: &Ranked<'_>, names: &Names) -> Grid {
    let swept = keys(ranked.summary);
    let heads = [
        "host",
        "role",
        "loaders",
        "attempted",
        "completed",
        "failed",
        "connect\np99",
        "response\np99",
        "send lag\np99",
        "busiest",
        "CPU",
    ];
    let labels = swept.len() + 2;
    let head: Vec<String> = swept.into_iter().chain(heads.map(str::to_owned)).collect();
    let rows = ranked.summary.cells.iter().flat_map(|cell| of_cell(ranked, cell, names)).collect();
    Grid { title: TITLE.to_owned(), head, labels, words: 0, rows }
}

/// A cell's rows, by rank.
fn of_cell(ranked: &Ranked<'_>, cell: &CellSummary, names: &Names) -> Vec<Vec<String>> {
    let valid = ranked.record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid && trial.cell == cell.cell);
    let mut hosts: BTreeMap<usize, Vec<&HostRow>> = BTreeMap::new();
    for row in valid.flat_map(|trial| &trial.hosts) {
        hosts.entry(row.rank).or_default().push(row);
    }
    let row = |(rank, rows): (usize, Vec<&HostRow>)| {
        let mut row: Vec<String> = cell.cell.values().map(plain).collect();
        let role = rows[0].role;
        row.extend([names.name(rank), role.name().to_owned()]);
        let sum = |of: fn(&HostRow) -> u64| match role {
            HostRole::Server => NONE.to_owned(),
            HostRole::Load => thousands(rows.iter().map(|row| of(row)).sum::<u64>() as f64),
        };
        let loaders = rows.iter().map(|row| row.loaders).max().unwrap_or(0);
        row.push(if role == HostRole::Server { NONE.to_owned() } else { loaders.to_string() });
        row.extend([sum(|row| row.attempted), sum(|row| row.completed), sum(|row| row.failed + row.in_flight)]);
        row.extend([p99(&rows, |all| &all.connect), p99(&rows, |all| &all.response), p99(&rows, |all| &all.send_lag)]);
        row.push(middle(rows.iter().filter_map(|row| row.busy_share), percent));
        let cpu = rows.iter().filter_map(|row| Some((row.cpu_user_ns? + row.cpu_system_ns?) as f64));
        row.push(middle(cpu, duration));
        row
    };
    hosts.into_iter().map(row).collect()
}

/// The median of values, if there are any.
fn middle(values: impl Iterator<Item = f64>, show: fn(f64) -> String) -> String {
    median(&ascending(&values.collect::<Vec<_>>())).map_or_else(|| NONE.to_owned(), show)
}

/// The median over trials of a latency's 99th percentile. One that falls among lost attempts is longer than any other.
fn p99(rows: &[&HostRow], of: fn(&HostLatencies) -> &LatencySummary) -> String {
    let summaries = rows.iter().filter_map(|row| row.latency_ns.as_ref().map(of)).filter(|summary| summary.due >= 100);
    let values = summaries.map(|summary| summary.p99.map_or(f64::INFINITY, |ns| ns as f64));
    middle(values, |ns| if ns.is_finite() { duration(ns) } else { "not reached".to_owned() })
}

/// How each host's clock relates to that of the server's host, over all trials with that server.
fn clocks(ranked: &Ranked<'_>, trials: &[&TrialRecord], names: &Names) -> Grid {
    let facts = HostFacts::all(&ranked.record.host);
    let servers: BTreeSet<usize> = trials.iter().filter_map(|trial| server(trial)).collect();
    let row = |server_rank: usize, rank: usize| {
        let with_server = trials.iter().filter(|trial| server(trial) == Some(server_rank));
        let rows: Vec<&HostRow> = with_server.flat_map(|trial| &trial.hosts).filter(|row| row.rank == rank).collect();
        let first = rows.first()?;
        let clocks = || rows.iter().filter_map(|row| row.clock);
        let known = facts.iter().find(|host| host.rank == rank);
        let offset = middle(clocks().map(|clock| clock.offset_ns as f64), signed);
        let drifts = clocks().filter_map(|clock| Some((clock.drift_ns?, clock.drift_bound_ns)));
        let drift = drifts.max_by_key(|(ns, _)| ns.unsigned_abs());
        let none = || NONE.to_owned();
        let name = names.name(rank);
        let of_server = if servers.len() > 1 && first.role == HostRole::Load {
            format!("{name}, to {}", names.name(server_rank))
        } else {
            name
        };
        Some(vec![
            of_server,
            rows.iter().find_map(|row| row.address).map_or_else(none, |address| address.to_string()),
            known.map_or_else(none, |host| host.machine.cpus_allowed.to_string()),
            offset,
            clocks().map(|clock| clock.bound_ns).max().map_or_else(none, |ns| format!("±{}", duration(ns as f64))),
            drift.map_or_else(none, |(ns, bound_ns)| {
                let bound = bound_ns.map_or_else(String::new, |ns| format!(" ±{}", duration(ns as f64)));
                signed(ns as f64) + &bound
            }),
            match first.role {
                HostRole::Server => none(),
                HostRole::Load => middle(rows.iter().map(|row| row.bytes as f64), thousands),
            },
        ])
    };
    let ranks = || names.by_rank.keys();
    let rows = servers.iter().flat_map(|server| ranks().filter_map(|rank| row(*server, *rank))).collect();
    let head = ["host", "address", "processors", "clock\nahead", "bound", "drift", "bytes per\ntrial"];
    Grid { title: CLOCKS.to_owned(), head: head.map(str::to_owned).to_vec(), labels: 2, words: 0, rows }
}

/// The rank of the host that had the server in a trial.
fn server(trial: &TrialRecord) -> Option<usize> {
    trial.hosts.iter().find(|host| host.role == HostRole::Server).map(|host| host.rank)
}

/// `+500 ms`, `−12.3 µs`.
fn signed(ns: f64) -> String {
    let shown = duration(ns);
    if ns > 0.0 { format!("+{shown}") } else { shown }
}

/// The table for each form of the report, with no more rows than it has room for.
fn shortened(grid: Grid, notes: &mut Vec<(In, String)>) -> Vec<(In, Grid)> {
    let forms: &[(In, usize)] =
        if grid.rows.len() <= IN_TEXT { &[(In::All, IN_TEXT)] } else { &[(In::Page, ON_PAGE), (In::Text, IN_TEXT)] };
    let mut tables = Vec::new();
    for (form, most) in forms {
        let mut grid = grid.clone();
        let more = grid.rows.len().saturating_sub(*most);
        grid.rows.truncate(*most);
        if more > 0 {
            notes.push((
                *form,
                format!("{}: {} more in `trials.jsonl` under `hosts`.", grid.title, plural(more, "row")),
            ));
        }
        tables.push((*form, grid));
    }
    tables
}

/// What cannot be known because it would take two hosts' clocks.
fn unknown(trials: &[&TrialRecord]) -> Option<String> {
    let any = |has: fn(&TrialRecord) -> bool| trials.iter().any(|trial| has(trial));
    let waits = any(|trial| trial.connections.accepted.is_some_and(|accepted| accepted > 0))
        && !any(|trial| trial.latency_ns.accept_wait.method.is_some());
    let mut parts = Vec::new();
    if waits {
        parts.push("accept waits (the server's host alone could tell them, by exact stamps: as root, and without `stamps = \"connect-call\"`)");
    }
    if any(|trial| trial.datagrams.is_some()) {
        parts.push("receive waits");
    }
    parts.push("stages of the first reply");
    let list = listed(&parts);
    Some(format!("Unknown, because they start on a client's clock and end on the server's: {list}."))
}

/// What gathering a trial cost the server's host.
fn gathering(trials: &[&TrialRecord]) -> Option<String> {
    let all: Vec<_> = trials.iter().filter_map(|trial| trial.gather).collect();
    let last = all.first()?;
    let middle = |of: fn(&crate::record::Gather) -> u64| {
        median(&ascending(&all.iter().map(|one| of(one) as f64).collect::<Vec<_>>())).unwrap_or(of(last) as f64)
    };
    let most = all.iter().map(|one| one.peak_memory_bytes).max().unwrap_or(0);
    let memory = match most {
        0 => String::new(),
        bytes => format!(", and its trial process had at most {:.0} MiB in memory", bytes as f64 / f64::from(1 << 20)),
    };
    Some(format!(
        "Gathering: after the load, the server's host had all results of a trial within {} and merged them in {} (medians); its connections to the other hosts \
         carried {} bytes per trial{memory}.",
        duration(middle(|one| one.gather_ns)),
        duration(middle(|one| one.merge_ns)),
        thousands(middle(|one| one.bytes)),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{Gather, HostClock},
        report::sample::Sample,
    };

    fn row(rank: usize, name: &str, p99: u64) -> HostRow {
        let at = |p99| LatencySummary { due: 100, p99, ..LatencySummary::default() };
        HostRow {
            rank,
            name: name.to_owned(),
            role: HostRole::Load,
            address: Some([10, 0, 0, rank as u8].into()),
            loaders: 2,
            attempted: 1_000,
            completed: 998,
            failed: 2,
            busy_share: Some(0.25),
            cpu_user_ns: Some(1_000_000),
            cpu_system_ns: Some(2_000_000),
            clock: Some(HostClock {
                offset_ns: -500_000_000,
                bound_ns: 20_000 + p99,
                drift_ns: Some(-7_000),
                drift_bound_ns: Some(40_000),
            }),
            latency_ns: Some(HostLatencies { connect: at(Some(p99)), response: at(None), send_lag: at(Some(9)) }),
            bytes: 4_321,
            ..HostRow::default()
        }
    }

    fn server() -> HostRow {
        HostRow { rank: 0, name: "server1".to_owned(), role: HostRole::Server, ..HostRow::default() }
    }

    fn sample(hosts: &[HostRow]) -> Sample {
        let mut sample = Sample::new("Which host?");
        for trial in 0..2 {
            let trial = sample.trial(json!({ "workers": 2 }), &[5, 5], 1_000 + trial);
            trial.hosts = hosts.to_vec();
            trial.gather =
                Some(Gather { bytes: 8_642, gather_ns: 3_000_000, merge_ns: 50_000, peak_memory_bytes: 9 << 20 });
        }
        sample
    }

    #[test]
    fn a_single_machine_has_no_hosts() {
        let mut alone = Sample::new("");
        alone.trial(json!({}), &[5], 1_000);
        assert!(section(&Ranked::of(&alone.reading())).is_none());
    }

    #[test]
    fn who_did_what_is_added_up_over_trials_and_percentiles_are_not() {
        let sample = sample(&[server(), row(1, "client1", 1_000), row(2, "client2", 3_000)]);
        let content = section(&Ranked::of(&sample.reading())).unwrap();
        assert_eq!(content.finding, "client1 and client2 load server1; their clocks agree to ±23.0 µs");
        let rows = |at: usize| content.tables[at].1.rows.iter().map(|row| row.join(" | ")).collect::<Vec<_>>();
        assert_eq!(
            rows(0),
            [
                "2 | server1 | server | – | – | – | – | – | – | – | – | –",
                "2 | client1 | load | 2 | 2,000 | 1,996 | 4 | 1.00 µs | not reached | 9 ns | 25.0 % | 3.00 ms",
                "2 | client2 | load | 2 | 2,000 | 1,996 | 4 | 3.00 µs | not reached | 9 ns | 25.0 % | 3.00 ms",
            ]
        );
        assert_eq!(
            rows(1),
            [
                "server1 | – | – | – | – | – | –",
                "client1 | 10.0.0.1 | – | −500 ms | ±21.0 µs | −7.00 µs ±40.0 µs | 4,321",
                "client2 | 10.0.0.2 | – | −500 ms | ±23.0 µs | −7.00 µs ±40.0 µs | 4,321",
            ]
        );
        let notes: Vec<&String> = content.notes.iter().map(|(_, note)| note).collect();
        assert_eq!(
            notes[2],
            "Unknown, because they start on a client's clock and end on the server's: stages of the first reply."
        );
        assert_eq!(
            content.notes.last().unwrap().1,
            "Gathering: after the load, the server's host had all results of a trial within 3.00 ms and merged them in 50.0 µs (medians); its connections \
             to the other hosts carried 8,642 bytes per trial, and its trial process had at most 9 MiB in memory."
        );
    }

    #[test]
    fn of_several_servers_each_has_clocks_of_its_own() {
        let mut sample = Sample::new("Which server?");
        for rank in [0, 1, 0, 1] {
            let server = HostRow { rank, name: format!("s{rank}"), ..server() };
            let trial = sample.trial(json!({ "server": rank }), &[5, 5], 1_000);
            trial.hosts = vec![server, row(2, "client", 1_000 + 1_000 * rank as u64)];
        }
        let content = section(&Ranked::of(&sample.reading())).unwrap();
        assert_eq!(content.finding, "client loads s0 and s1 in turn; their clocks agree to ±22.0 µs");
        let clocks: Vec<[&str; 2]> = content.tables[1].1.rows.iter().map(|row| [&row[0][..], &row[4][..]]).collect();
        assert_eq!(clocks, [["s0", "–"], ["client, to s0", "±21.0 µs"], ["s1", "–"], ["client, to s1", "±22.0 µs"]]);
    }

    #[test]
    fn hosts_of_one_name_are_told_apart_and_many_are_counted() {
        let same = sample(&[server(), row(1, "node", 1_000), row(2, "node", 1_000)]);
        let content = section(&Ranked::of(&same.reading())).unwrap();
        assert!(
            content.finding.starts_with("node (rank 1) and node (rank 2) load server1 (rank 0);"),
            "{}",
            content.finding
        );
        let clients: Vec<HostRow> = (1..=300).map(|rank| row(rank, &format!("c{rank}"), 1_000)).collect();
        let many = sample(&[vec![server()], clients].concat());
        let content = section(&Ranked::of(&many.reading())).unwrap();
        assert!(content.finding.starts_with("300 hosts load server1;"), "{}", content.finding);
        assert_eq!(content.text_tables().map(|table| table.rows.len()).collect::<Vec<_>>(), [IN_TEXT, IN_TEXT]);
        assert_eq!(content.page_tables().map(|table| table.rows.len()).collect::<Vec<_>>(), [ON_PAGE, ON_PAGE]);
        assert!(content.text_notes().any(|note| note == "Hosts: 277 rows more in `trials.jsonl` under `hosts`."));
    }
}
