//! What rules on the way to the server cost a connection, and how clients learn that a rule refuses them.

use maud::html;
use serde_json::{Map, Value as Json};

use super::{Content, In};
use crate::{
    format::{duration, plural, thousands},
    record::{Outcomes, TrialRecord},
    report::{
        Grid, Ranked,
        html::parts::{legend, plot},
        plot::{
            NARROW, WIDE,
            figure::{Axis, Figure, Line, Mark, Scale, Stop, count_tick, log_ticks},
        },
        ranked::{Cell, keys},
        ranking::plain,
        short,
    },
    scenario::{
        keys::{self as all_keys, AnyKey},
        label,
    },
    stats::{Difference, Summary, ascending, median},
};

/// Title of the section, and of its first table.
const TITLE: &str = "Firewall";
/// Title of the table of refusals.
const ANSWERS: &str = "Answers to connects";

const LEGEND: &str = "Firewall: medians of valid trials. rules to pass: generated rules, or entries of a set or map, that packets to the server's port are compared with; a ruleset of your own \
    comes on top. Where none are generated, all rules that the kernel holds. connect p50: from connect() until established. time per connection: in a closed loop, the measured window ÷ connections \
    completed in it; all processors and both ends take part in that time. +: the difference from the cell without generated rules, or without any, under the same conditions; in parentheses where the \
    tests of the comparisons, corrected for their number, do not show that there is one, or nothing was tested. packets: those that passed all generated rules, per \
    connection begun.";

const LEGEND_OF_ANSWERS: &str = "Answers to connects: sums of valid trials. open: established. closed: ECONNREFUSED, by a reset or by ICMP's port unreachable. filtered: no answer within \
    load.connect_timeout. unreachable: EHOSTUNREACH, which is also how IPv4 reports \"administratively prohibited\". prohibited: EACCES, how IPv6 reports it. ICMP: \
    messages received that say that a destination is unreachable. failed connect: time until a client learned that it failed, medians of trials. datagrams: those that clients sent and the rules refused. Between two networks, the kernel sends one address few ICMP messages \
    per second (icmp_ratelimit): others have no answer. Over IPv6, and with MPTCP, on one \
    machine, the message may come while connect() still holds the socket; the kernel then drops it, and the next SYN, a second later, is \
    refused again.";

const NONE: &str = "–";

/// The swept keys that rules depend on.
const OF_RULES: [&dyn AnyKey; 6] = [
    all_keys::FIREWALL_RULES,
    all_keys::FIREWALL_COUNT,
    all_keys::FIREWALL_SHAPE,
    all_keys::FIREWALL_MATCH,
    all_keys::FIREWALL_CONNTRACK,
    all_keys::FIREWALL_ACTION,
];

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let rows: Vec<Row<'_>> = ranked.cells.iter().filter_map(Row::of).collect();
    if !rows.iter().any(|row| row.rules.is_some()) {
        return None;
    }
    let names = keys(ranked.summary);
    let (mut tables, mut notes) = (Vec::new(), Vec::new());
    if rows.iter().any(|row| row.rules.is_some() && row.connect_ns.is_some()) {
        tables.push((In::All, costs(&names, &rows, ranked.summary)));
        notes.push((In::All, LEGEND.to_owned()));
    }
    if rows.iter().any(Row::refuses) {
        tables.push((In::All, answers(&names, &rows)));
        notes.push((In::All, LEGEND_OF_ANSWERS.to_owned()));
    }
    let figure = figure(&rows);
    Some(Content {
        title: TITLE.to_owned(),
        finding: finding(&rows, ranked.summary),
        figure: figure.map(|figure| {
            html! {
                (legend(figure.lines.iter()))
                (plot(&figure, &[WIDE, NARROW]))
            }
        }),
        tables,
        notes,
        ..Content::default()
    })
}

/// A cell with valid trials.
struct Row<'a> {
    cell: &'a Map<String, Json>,
    /// Rules and elements that the kernel held, the generated ones among them; `None` without any.
    rules: Option<u64>,
    /// Those that packets are compared with.
    compared: u64,
    connect_ns: Option<f64>,
    /// Time per connection of a closed loop, ns.
    each_ns: Option<f64>,
    /// Packets that passed the generated rules ÷ connections begun.
    packets: Option<f64>,
    failed_ns: Option<f64>,
    outcomes: Outcomes,
    icmp: u64,
    /// Datagrams that clients sent, and those of them that rules refused.
    datagrams: (u64, u64),
}

impl<'a> Row<'a> {
    fn of(cell: &Cell<'a>) -> Option<Self> {
        let trials = &cell.trials;
        let middle = |of: &dyn Fn(&TrialRecord) -> Option<f64>| {
            median(&ascending(&trials.iter().filter_map(|trial| of(trial)).collect::<Vec<_>>()))
        };
        let first = trials.first()?;
        let mut outcomes = Outcomes::default();
        for one in trials.iter().map(|trial| &trial.connections.outcomes) {
            outcomes.open += one.open;
            outcomes.closed += one.closed;
            outcomes.filtered += one.filtered;
            outcomes.unreachable += one.unreachable;
            outcomes.prohibited += one.prohibited;
        }
        Some(Self {
            cell: &cell.summary.cell,
            rules: first.firewall.as_ref().map(|firewall| firewall.rules + firewall.elements),
            compared: first.firewall.as_ref().map_or(0, |firewall| firewall.compared),
            connect_ns: middle(&|trial| trial.latency_ns.connect.p50.map(|ns| ns as f64)),
            each_ns: middle(&|trial| {
                let per_s = trial.rates.completed_per_s.filter(|per_s| *per_s > 0.0)?;
                trial.rates.offered_per_s.is_none().then_some(1e9 / per_s)
            }),
            packets: middle(&|trial| {
                let passed = trial.firewall.as_ref()?.passed?;
                let begun = trial.connections.attempted;
                (begun > 0).then(|| passed as f64 / begun as f64)
            }),
            failed_ns: middle(&|trial| trial.latency_ns.failed_connect.p50.map(|ns| ns as f64)),
            icmp: trials.iter().filter_map(|trial| trial.kernel.get("IcmpDestUnreachs")).sum(),
            outcomes,
            datagrams: trials
                .iter()
                .filter_map(|trial| trial.datagrams.as_ref())
                .fold((0, 0), |(sent, filtered), of| (sent + of.sent, filtered + of.filtered)),
        })
    }

    fn refuses(&self) -> bool {
        let Outcomes { closed, filtered, unreachable, prohibited, .. } = self.outcomes;
        self.rules.is_some() && closed + filtered + unreachable + prohibited + self.datagrams.1 > 0
    }

    /// Its swept values that have nothing to do with rules.
    fn conditions(&self) -> Map<String, Json> {
        let of_rules =
            |name: &str| OF_RULES.iter().any(|key| key.path() == name || key.path().rsplit('.').next() == Some(name));
        self.cell
            .iter()
            .filter(|(name, _)| !of_rules(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// The cell under the same conditions that a cell is compared with: of generated rules, one with none of these, and otherwise one without any
    /// rules; of several, the one that shares the most values.
    fn base<'b>(&self, rows: &'b [Row<'a>]) -> Option<&'b Row<'a>> {
        let shared =
            |other: &Row<'_>| self.cell.iter().filter(|(name, value)| other.cell.get(*name) == Some(value)).count();
        let has_none = |row: &Row<'_>| if self.compared > 0 { row.compared == 0 } else { row.rules.unwrap_or(0) == 0 };
        let without = rows.iter().filter(|row| has_none(row) && row.conditions() == self.conditions());
        // Of equals, the first.
        without.rev().max_by_key(|row| shared(row))
    }
}

/// A time that rules may prolong.
#[derive(Clone, Copy)]
struct Time {
    of: fn(&Row<'_>) -> Option<f64>,
    /// The metric that a difference of it is tested by.
    metric: &'static str,
    words: &'static str,
}

const EACH: Time = Time { of: |row| row.each_ns, metric: "completed_per_s", words: "a connection took" };
const CONNECT: Time = Time { of: |row| row.connect_ns, metric: "connect_p50_ns", words: "a connect() took" };

/// What rules add to a time.
struct Cost {
    with_ns: f64,
    without_ns: f64,
    /// Whether a test shows that there is a difference; `None` if nothing was tested.
    shown: Option<bool>,
}

impl Cost {
    fn more_ns(&self) -> f64 {
        self.with_ns - self.without_ns
    }

    fn is_shown(&self) -> bool {
        self.shown == Some(true)
    }
}

impl Time {
    /// What a cell's rules add to it; `None` without rules, or a cell to compare with.
    fn cost(self, row: &Row<'_>, rows: &[Row<'_>], summary: &Summary) -> Option<Cost> {
        row.rules?;
        let base = row.base(rows)?;
        let compared = summary.between(self.metric, base.cell, row.cell);
        let tested = compared.filter(|compared| compared.verdict != Difference::TooFewTrials);
        Some(Cost {
            with_ns: (self.of)(row)?,
            without_ns: (self.of)(base)?,
            shown: tested.map(|compared| compared.verdict.is_shown()),
        })
    }
}

fn costs(names: &[String], rows: &[Row<'_>], summary: &Summary) -> Grid {
    let shown = |value: Option<f64>| value.map_or_else(|| NONE.to_owned(), duration);
    let table = rows.iter().map(|row| {
        let more = |time: Time| match time.cost(row, rows, summary) {
            None => NONE.to_owned(),
            Some(cost) if cost.is_shown() => signed(cost.more_ns()),
            Some(cost) => format!("({})", signed(cost.more_ns())),
        };
        let mut cells: Vec<String> = row.cell.values().map(plain).collect();
        cells.extend([
            row.rules.map_or_else(
                || "none".to_owned(),
                |rules| thousands(if row.compared > 0 { row.compared } else { rules } as f64),
            ),
            shown(row.connect_ns),
            more(CONNECT),
            shown(row.each_ns),
            more(EACH),
            row.packets.map_or_else(|| NONE.to_owned(), |packets| format!("{packets:.1}")),
        ]);
        cells
    });
    let heads =
        ["rules\nto pass", "connect\np50", "connect\n+", "time per\nconnection", "time per\nconnection +", "packets"];
    Grid {
        title: TITLE.to_owned(),
        labels: names.len(),
        words: 0,
        head: names.iter().cloned().chain(heads.map(str::to_owned)).collect(),
        rows: table.collect(),
    }
}

fn answers(names: &[String], rows: &[Row<'_>]) -> Grid {
    let has_datagrams = rows.iter().any(|row| row.datagrams.1 > 0);
    let count = |count: u64| thousands(count as f64);
    let table = rows.iter().map(|row| {
        let Outcomes { open, closed, filtered, unreachable, prohibited, .. } = row.outcomes;
        let mut cells: Vec<String> = row.cell.values().map(plain).collect();
        cells.extend([open, closed, filtered, unreachable, prohibited, row.icmp].map(count));
        cells.extend(has_datagrams.then(|| count(row.datagrams.1)));
        cells.push(row.failed_ns.map_or_else(|| NONE.to_owned(), duration));
        cells
    });
    let heads = ["open", "closed", "filtered", "unreachable", "prohibited", "ICMP"].into_iter();
    let heads = heads.chain(has_datagrams.then_some("datagrams")).chain(["failed\nconnect"]);
    Grid {
        title: ANSWERS.to_owned(),
        labels: names.len(),
        words: 0,
        head: names.iter().cloned().chain(heads.map(str::to_owned)).collect(),
        rows: table.collect(),
    }
}

/// `+68.0 µs`, `−1.20 µs`.
fn signed(ns: f64) -> String {
    let sign = if ns < 0.0 { "−" } else { "+" };
    format!("{sign}{}", duration(ns.abs()))
}

/// The cell whose rules cost a connection the most; without any to compare, what clients learned.
fn finding(rows: &[Row<'_>], summary: &Summary) -> String {
    for time in [EACH, CONNECT] {
        let costs = || rows.iter().filter_map(|row| Some((row, time.cost(row, rows, summary)?)));
        let most = |one: &(&Row<'_>, Cost), other: &(&Row<'_>, Cost)| one.1.more_ns().total_cmp(&other.1.more_ns());
        let dearest = costs().filter(|(_, cost)| cost.is_shown() && cost.more_ns() > 0.0).max_by(most);
        let Some((row, cost)) = dearest.or_else(|| costs().max_by(most)) else { continue };
        let claim = match (cost.is_shown() && cost.more_ns() > 0.0, costs().any(|(_, cost)| cost.shown.is_some())) {
            (true, _) => "At the most",
            (false, true) => "No rules were shown to slow connections down. By the medians, at the most",
            (false, false) => {
                "No difference was tested (too few trials, or cells not compared). By the medians, at the most"
            }
        };
        return format!(
            "{claim}, {} {} in place of {}, with {}{}",
            time.words,
            duration(cost.with_ns),
            duration(cost.without_ns),
            label(row.cell),
            if cost.is_shown() && cost.more_ns() > 0.0 { " (medians)" } else { "" }
        );
    }
    let refused: Vec<&Row<'_>> = rows.iter().filter(|row| row.refuses()).collect();
    let slowest = refused.iter().filter_map(|row| Some((row, row.failed_ns?)));
    if let Some((row, ns)) = slowest.max_by(|one, other| one.1.total_cmp(&other.1)) {
        let of = if rows.len() > 1 { format!(", with {}", label(row.cell)) } else { String::new() };
        return format!(
            "Rules refused clients in {} of {}; they learned it after up to {} (the highest median){of}",
            refused.len(),
            plural(rows.len(), "cell"),
            duration(ns)
        );
    }
    if let Some(row) = rows.iter().max_by_key(|row| row.datagrams.1).filter(|row| row.datagrams.1 > 0) {
        let of = if rows.len() > 1 { format!(", with {}", label(row.cell)) } else { String::new() };
        let (sent, refused) = row.datagrams;
        return format!("Rules refused {} of {}{of}", thousands(refused as f64), plural(sent, "datagram"));
    }
    let rules = rows.iter().filter_map(|row| row.rules).max().unwrap_or(0);
    format!(
        "The kernel held up to {} rules and elements of sets; no cell without any shows what they cost",
        thousands(rules as f64)
    )
}

/// Rules, and what a connection takes with so many, in ns.
type Points = Vec<(f64, f64)>;

/// The time of a connection over the number of rules, a line for each arrangement.
fn figure(rows: &[Row<'_>]) -> Option<Figure> {
    const FEWEST: usize = 3;
    let count = |name: &str| name == all_keys::FIREWALL_COUNT.path() || name == "count";
    let mut curves: Vec<(Map<String, Json>, Points)> = Vec::new();
    for row in rows {
        let Some(each_ns) = row.each_ns else { continue };
        let others: Map<String, Json> = row
            .cell
            .iter()
            .filter(|(name, _)| !count(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        // A logarithmic axis has no 0.
        let point = ((row.compared as f64).max(1.0), each_ns);
        match curves.iter_mut().find(|(known, _)| *known == others) {
            Some((_, points)) => points.push(point),
            None => curves.push((others, vec![point])),
        }
    }
    curves.iter_mut().for_each(|(_, points)| {
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        points.dedup_by_key(|point| point.0);
    });
    curves.retain(|(_, points)| points.len() >= FEWEST);
    let all = || curves.iter().flat_map(|(_, points)| points.iter().copied());
    let most = all().map(|(x, _)| x).fold(1.0, f64::max);
    if curves.is_empty() {
        return None;
    }
    let (low, high) = (1.0 / 1.25, most * 1.25);
    let mut stops: Vec<Stop> = Vec::new();
    for (number, (_, points)) in curves.iter().enumerate() {
        stops.extend(points.iter().map(|(x, y)| {
            let mut values = vec![String::new(); curves.len()];
            values[number] = duration(*y);
            let rules = if *x > 1.0 { plural(*x as usize, "rule") } else { "at most one rule".to_owned() };
            Stop { x: *x, label: rules, values }
        }));
    }
    stops.sort_by(|one, other| one.x.total_cmp(&other.x));
    let line = |(style, (others, points)): (usize, &(Map<String, Json>, Points))| Line {
        name: if others.is_empty() { "this load".to_owned() } else { short(others) },
        style,
        bound: false,
        points: points.clone(),
        band: Vec::new(),
        marks: points.iter().map(|(x, y)| (*x, *y, Mark::Dot)).collect(),
    };
    Some(Figure {
        heading: String::new(),
        x: Axis {
            label: "rules (none is drawn at 1)".to_owned(),
            scale: Scale::Log,
            low,
            high,
            ticks: log_ticks(low, high, count_tick),
        },
        y: Axis::log_ns("time per connection", all().map(|(_, y)| y)),
        lines: curves.iter().enumerate().map(line).collect(),
        spans: Vec::new(),
        stops,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{Firewall, LatencySummary},
        report::sample::Sample,
    };

    /// A cell's rules, its connections per second and the median of its connects in µs.
    fn content(cells: &[(Json, Option<u64>, f64, u64)]) -> Option<Content> {
        let mut sample = Sample::new("What do rules cost?");
        for (cell, rules, per_s, connect_us) in cells {
            let trial = sample.trial(cell.clone(), &[5, 5], 1_000);
            (trial.rates.offered_per_s, trial.rates.completed_per_s) = (None, Some(*per_s));
            let p50 = Some(connect_us * 1_000);
            trial.latency_ns.connect = LatencySummary { count: 10, due: 10, p50, ..LatencySummary::default() };
            trial.connections.attempted = 10;
            trial.firewall = rules.map(|rules| Firewall {
                rules: rules + 2,
                compared: rules,
                passed: Some(60),
                ..Firewall::default()
            });
        }
        section(&Ranked::of(&sample.reading()))
    }

    #[test]
    fn the_cost_is_the_difference_to_the_cell_without_rules() {
        let cell =
            |count: u64, shape: &str, requests: u64| json!({ "count": count, "shape": shape, "requests": requests });
        let content = content(&[
            (cell(0, "chain", 1), None, 20_000.0, 30),
            (cell(1_000, "chain", 1), Some(1_000), 8_000.0, 50),
            (cell(10_000, "chain", 1), Some(10_000), 2_000.0, 90),
            (cell(0, "set", 1), None, 10_000.0, 30),
            (cell(10_000, "set", 1), Some(10_000), 10_000.0, 31),
            // Under other conditions, there is nothing to compare with.
            (cell(10_000, "set", 2), Some(10_000), 100.0, 31),
        ])
        .unwrap();
        assert_eq!(
            content.finding,
            "No difference was tested (too few trials, or cells not compared). By the medians, at the most, a connection took 500 µs \
             in place of 50.0 µs, with count=10000 shape=chain requests=1"
        );
        let rows = &content.tables[0].1.rows;
        let of = |row: usize| rows[row][3..].join(" | ");
        assert_eq!(of(0), "none | 30.0 µs | – | 50.0 µs | – | –");
        assert_eq!(of(2), "10,000 | 90.0 µs | (+60.0 µs) | 500 µs | (+450 µs) | 6.0");
        assert_eq!(of(4), "10,000 | 31.0 µs | (+1.00 µs) | 100 µs | (+0 ns) | 6.0");
        assert_eq!(of(5), "10,000 | 31.0 µs | – | 10.0 ms | – | 6.0");
        assert!(content.figure.is_some() && content.tables.len() == 1);
    }

    /// Seven trials of each cell, which differ by a little.
    fn repeated(cells: &[(Json, Option<u64>, f64)]) -> Content {
        let all = (0..7).flat_map(|trial| {
            let vary = 1.0 + f64::from(trial) / 1_000.0;
            cells.iter().map(move |(cell, rules, per_s)| (cell.clone(), *rules, per_s * vary, 30))
        });
        content(&all.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn only_a_difference_that_tests_show_is_claimed() {
        let cells = [
            (json!({ "count": 0 }), None, 20_000.0),
            (json!({ "count": 10 }), Some(10), 19_995.0),
            (json!({ "count": 10_000 }), Some(10_000), 2_000.0),
        ];
        let both = repeated(&cells);
        assert!(both.finding.starts_with("At the most, a connection took "), "{}", both.finding);
        let rows = &both.tables[0].1.rows;
        assert!(rows[1][5].starts_with("(+") && rows[2][5].starts_with('+'), "{rows:?}");
        let alike = repeated(&cells[..2]).finding;
        assert!(
            alike.starts_with("No rules were shown to slow connections down. By the medians, at the most, "),
            "{alike}"
        );
    }

    #[test]
    fn one_cell_without_rules_is_the_base_of_tracked_and_untracked_ones() {
        let cell = |count: u64, conntrack: bool| json!({ "count": count, "conntrack": conntrack });
        let content = content(&[
            (cell(0, false), None, 20_000.0, 30),
            // Its only rule is the one that tracks.
            (cell(0, true), Some(0), 10_000.0, 40),
            (cell(1_000, false), Some(1_000), 5_000.0, 50),
            (cell(1_000, true), Some(1_000), 8_000.0, 60),
        ])
        .unwrap();
        let connects = content.tables[0].1.rows.iter().map(|row| row[4].clone()).collect::<Vec<_>>();
        // Tracking alone is compared with no rules at all, and rules with no rules under the same tracking.
        assert_eq!(connects, ["–", "(+10.0 µs)", "(+20.0 µs)", "(+20.0 µs)"]);
    }

    #[test]
    fn what_clients_learn_is_told_apart_by_outcome() {
        let mut sample = Sample::new("What do clients learn?");
        for (action, ns) in [("reset", 40_000_u64), ("drop", 500_000_000)] {
            let trial = sample.trial(json!({ "action": action }), &[5, 5], 1_000);
            trial.firewall = Some(Firewall { rules: 2, passed: Some(10), ..Firewall::default() });
            let outcomes = &mut trial.connections.outcomes;
            *(if action == "drop" { &mut outcomes.filtered } else { &mut outcomes.closed }) = 10;
            trial.latency_ns.failed_connect =
                LatencySummary { count: 10, due: 10, p50: Some(ns), ..LatencySummary::default() };
        }
        let content = section(&Ranked::of(&sample.reading())).unwrap();
        assert_eq!(
            content.finding,
            "Rules refused clients in 2 of 2 cells; they learned it after up to 500 ms (the highest median), with action=drop"
        );
        let table = &content.tables[0].1;
        assert_eq!((&table.title[..], table.rows[1][1..].join(" ")), (ANSWERS, "0 0 10 0 0 0 500 ms".to_owned()));
    }

    #[test]
    fn a_record_without_rules_has_no_such_section() {
        assert!(content(&[(json!({}), None, 10.0, 1)]).is_none());
        let alone = content(&[(json!({}), Some(7), 10.0, 1)]).unwrap();
        assert_eq!(
            alone.finding,
            "The kernel held up to 9 rules and elements of sets; no cell without any shows what they cost"
        );
    }
}
