//! Who accepted: each process and thread of the server in one trial of each cell, with what is known of it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use indexmap::IndexSet;

use super::{Content, In, shares};
use crate::{
    format::{all_of, counted, duration, percent, thousands},
    record::{CountedBy, LatencySummary, MemberRow, Outcome, ProbedMember, SubjectKind, TrialRecord, WorkerCounts},
    report::{
        Grid, Ranked,
        claims::capital,
        ranked::{Cell, chosen},
    },
    stats::until,
};

/// Most members of a cell in the tables of the terminal and of Markdown.
const IN_TEXT: usize = 12;
/// Most of them on the page.
const ON_PAGE: usize = 100;
/// Columns that name a member.
const LABELS: usize = 4;

/// Heads of columns.
const GENERATION: &str = "generation";
const EAGAIN: &str = "EAGAIN\n/accept";
/// What it means.
const EAGAIN_MEANS: &str = "EAGAIN/accept: calls of accept that found nothing, per accepted connection. A server that calls accept until it \
    finds nothing has one for each time it looks, even with a listener to itself; what it has with a shared listener beyond that was for \
    connections that others took.";

const FREE: &str = "free\nfiles";
const REFUSED: &str = "refused\naccepts";
const SHED: &str = "closed\nat once";
const PLAIN: &str = "by plain\nTCP";

const ACCEPTED: &str = "accepted";
const FLOWS: &str = "flows";
const RECEIVE_WAIT: &str = "receive\nwait p50";

/// What is shared out among members, in words.
struct Words {
    one: &'static str,
    many: &'static str,
    /// What a member did to get it.
    got: &'static str,
}

const CONNECTIONS: Words = Words { one: "connection", many: "connections", got: "accepted" };
const OF_FLOWS: Words = Words { one: "flow", many: "flows", got: "answered" };

/// Whether a trial consisted of datagrams alone, which nobody accepts.
fn is_of_datagrams(trial: &TrialRecord) -> bool {
    let is_none = |count: Option<u64>| count.is_none_or(|count| count == 0);
    trial.datagrams.is_some() && trial.connections.established == 0 && is_none(trial.connections.accepted)
}

/// Connections that a member accepted or, of datagrams alone, flows that it answered first.
fn got(trial: &TrialRecord, member: &MemberRow) -> Option<u64> {
    if is_of_datagrams(trial) {
        return member.datagram_socket.as_ref().map(|socket| socket.flows);
    }
    member.total.accepted
}

fn words(trial: &TrialRecord) -> &'static Words {
    if is_of_datagrams(trial) { &OF_FLOWS } else { &CONNECTIONS }
}

/// A cell's trial.
type Shown<'a> = (&'a Cell<'a>, &'a TrialRecord);

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let of_cell = |cell| Some((cell, typical(ranked, cell)?));
    let shown: Vec<Shown<'_>> = ranked.cells.iter().filter_map(of_cell).collect();
    if shown.is_empty() {
        return unseen(ranked);
    }
    let on_page = table(&shown, ON_PAGE);
    let mut notes = vec![(In::Page, note(ranked, &shown, &on_page))];
    let mut tables = vec![(In::Page, on_page)];
    // Workers of listenbench's own are for the page alone, unless a probe watched them too, they lacked descriptors, or another server
    // stands beside them.
    let is_probed = |trial: &TrialRecord| trial.probe.as_ref().is_some_and(|probe| !probe.members.is_empty());
    let is_for_text =
        |trial: &TrialRecord| trial.subject.kind != SubjectKind::Own || is_probed(trial) || lacked_descriptors(trial);
    if shown.iter().any(|(_, trial)| is_for_text(trial)) {
        let table = Grid { title: "Members".to_owned(), ..table(&shown, IN_TEXT) };
        notes.push((In::Text, note(ranked, &shown, &table)));
        tables.push((In::Text, table));
    }
    notes.extend(missing(ranked));
    Some(Content { title: "Members".to_owned(), finding: finding(ranked, &shown), tables, notes, ..Content::default() })
}

/// The valid trial with the median of the headline's metric that has members or, without a valid one, the first of another server that
/// is invalid: its members may show why.
fn typical<'a>(ranked: &Ranked<'a>, cell: &'a Cell<'a>) -> Option<&'a TrialRecord> {
    let has_members = |trial: &TrialRecord| !trial.workers.is_empty();
    if !cell.trials.is_empty() {
        return cell.median_trial(ranked.ranking.metric, has_members);
    }
    let mut trials = ranked.record.trials.iter().filter(|trial| trial.cell == cell.summary.cell);
    trials
        .find(|trial| trial.outcome == Outcome::Invalid && trial.subject.kind != SubjectKind::Own && has_members(trial))
}

/// Of a trial that is shown although it is invalid: that it is, and what was left in its queues.
fn invalid(ranked: &Ranked<'_>, (cell, trial): &Shown<'_>) -> Option<String> {
    let place = if ranked.cells.len() == 1 { String::new() } else { format!("{}: ", cell.full_name) };
    let left = match trial.connections.left_in_queue {
        0 => String::new(),
        left => format!("; {} left in its queues", counted(left, "connection was", "connections were")),
    };
    (trial.outcome == Outcome::Invalid).then(|| {
        format!("{place}No trial is valid; these are the members of trial {}, which is invalid{left}.", trial.trial)
    })
}

/// Why no member of any cell was seen.
fn unseen(ranked: &Ranked<'_>) -> Option<Content> {
    let notes = missing(ranked);
    (!notes.is_empty()).then(|| Content {
        title: "Members".to_owned(),
        finding: "Who accepted the connections could not be seen".to_owned(),
        notes,
        ..Content::default()
    })
}

/// What probes could not know in any trial, each once.
fn missing(ranked: &Ranked<'_>) -> Vec<(In, String)> {
    let trials = ranked.cells.iter().flat_map(|cell| &cell.trials);
    let all: IndexSet<&str> = trials.filter_map(|trial| trial.probe.as_ref()?.missing.as_deref()).collect();
    all.into_iter().map(|missing| (In::All, format!("Members, what is missing: {missing}"))).collect()
}

/// The member that got the most in a trial.
struct Busiest<'a> {
    cell: &'a Cell<'a>,
    trial: &'a TrialRecord,
    member: &'a MemberRow,
    /// Its part of all.
    share: f64,
    /// What all members got.
    all: u64,
}

impl<'a> Busiest<'a> {
    /// `None` if nobody got anything, or nobody counted.
    fn of(&(cell, trial): &Shown<'a>) -> Option<Self> {
        let all = trial.workers.iter().filter_map(|member| got(trial, member)).sum();
        // The first of several that got as much.
        let member = trial.workers.iter().rev().max_by_key(|member| got(trial, member))?;
        let share = got(trial, member).filter(|_| all > 0)? as f64 / all as f64;
        Some(Self { cell, trial, member, share, all })
    }

    /// `80 connections`.
    fn total(&self) -> String {
        let Words { one, many, .. } = words(self.trial);
        counted(self.all, one, many)
    }

    fn members(&self) -> usize {
        self.trial.acceptors().count()
    }

    fn is_near_mean(&self) -> bool {
        shares::is_near_mean(self.share, self.members())
    }
}

/// Who got the largest part of a trial's connections, or of its flows, where that says something.
fn finding(ranked: &Ranked<'_>, shown: &[Shown<'_>]) -> String {
    let known: Vec<Busiest<'_>> = shown.iter().filter_map(Busiest::of).collect();
    // What members got that came or went depends on how long they were there.
    let (changed, known): (Vec<Busiest<'_>>, Vec<Busiest<'_>>) =
        known.into_iter().partition(|busiest| busiest.trial.changed_members());
    let place = |cell: &Cell<'_>| {
        if ranked.cells.len() == 1 { String::new() } else { format!(" in {}", cell.full_name) }
    };
    if let (Some(first), true) = (changed.first(), known.is_empty()) {
        let members = counted(first.members() as u64, "member", "members");
        let (got, total, place) = (words(first.trial).got, first.total(), place(first.cell));
        return format!("{members}, not all there for the whole trial, {got} {total}{place}");
    }
    let several: Vec<&Busiest<'_>> = known.iter().filter(|busiest| busiest.members() > 1).collect();
    let is_chance = |busiest: &Busiest<'_>| shares::is_chance(ranked, busiest.cell);
    let uneven = several.iter().copied().filter(|busiest| !busiest.is_near_mean() && !is_chance(busiest));
    let most = uneven.max_by(|one, other| one.share.total_cmp(&other.share));
    if most.is_none() && !several.is_empty() {
        let by_chance = several.iter().filter(|busiest| is_chance(busiest)).count();
        let beyond = shares::beyond_mean();
        if let [only] = several[..] {
            let (members, got, total) = (only.members(), words(only.trial).got, only.total());
            let how = if by_chance == 1 { "spread as chance allows" } else { &format!("none {beyond} than the mean") };
            return format!("{members} members {got} {total}{}, {how}", place(only.cell));
        }
        let cells = match several.len() {
            some if some == ranked.cells.len() => all_of(some),
            some => format!("{some} of {}", ranked.cells.len()),
        };
        let Words { got, many, .. } = words(several[0].trial);
        return match by_chance {
            0 => format!("In {cells} cells, no member {got} {beyond} {many} than the mean"),
            all if all == several.len() => {
                format!("In {cells} cells, {many} are spread over the members as chance allows")
            }
            _ => format!(
                "In {cells} cells, {many} are spread over the members as chance allows, or none {got} {beyond} than the mean"
            ),
        };
    }
    let Some(busiest) = most.or(known.first()) else {
        return of_none(shown);
    };
    let Busiest { cell, trial, member, share, .. } = busiest;
    let (place, total, Words { got: verb, .. }) = (place(cell), busiest.total(), words(trial));
    // Names of commands stay as they are.
    let who = member.to_string();
    let who = if member.counted_by == CountedBy::Own { capital(&who) } else { who };
    let members = busiest.members();
    if members == 1 {
        return format!("{who}, the only member, {verb} {total}{place}");
    }
    let idle = trial.acceptors().filter(|member| got(trial, member) == Some(0)).count();
    let idle = if idle == 0 { String::new() } else { format!("; {idle} of {members} members {verb} none") };
    format!("{who} {verb} {} of {total}{place}{idle}", percent(*share))
}

/// Where no member is known to have got anything.
fn of_none(shown: &[Shown<'_>]) -> String {
    let of_flows = shown.iter().all(|(_, trial)| is_of_datagrams(trial));
    let counted = |(_, trial): &Shown<'_>| trial.workers.iter().any(|member| got(trial, member).is_some());
    let Words { one, got, .. } = if of_flows { &OF_FLOWS } else { &CONNECTIONS };
    if shown.iter().any(counted) {
        format!("No member {got} a {one}")
    } else {
        format!("What each member {got} is unknown")
    }
}

/// How to read a table.
fn note(ranked: &Ranked<'_>, shown: &[Shown<'_>], table: &Grid) -> String {
    let has = |head: &str| table.head.iter().any(|column| column == head);
    let of = if shown.iter().any(|(cell, _)| cell.trials.len() > 1) {
        let metric = ranked.ranking.metric;
        let measured = shown.iter().filter(|(cell, _)| cell.trials.iter().any(|trial| metric.read(trial).is_some()));
        let seen = |cell: &Cell<'_>| cell.trials.iter().filter(|trial| !trial.workers.is_empty()).count();
        let trials: Vec<usize> = shown.iter().map(|(cell, _)| seen(cell)).collect();
        format!("Members of {}", chosen(metric.label, &trials, measured.count()))
    } else {
        "Members".to_owned()
    };
    let mut parts = vec![format!("{of}: counts are over the whole trial, warm-up included.")];
    parts.extend(shown.iter().filter_map(|shown| invalid(ranked, shown)));
    if has(GENERATION) {
        parts.push("generation: after how many events the member appeared.".to_owned());
    }
    if has("wait\np50") {
        parts.push("Waits are of connections established in the measured window.".to_owned());
    }
    if has(FLOWS) {
        parts.push("flows: those that the member answered first.".to_owned());
    }
    if has(RECEIVE_WAIT) {
        parts.push("receive wait: an upper bound, from the client's send to the member's receive.".to_owned());
    }
    if has("seen by\nthe probe") {
        let seen = shown.iter().flat_map(|(_, trial)| &trial.probe).flat_map(|probe| &probe.members);
        let ends: BTreeSet<&str> = seen
            .filter_map(|seen| seen.accept_wait.as_ref())
            .filter(|waits| waits.count > 0)
            .map(|waits| until(waits.ends))
            .collect();
        let ends: Vec<&str> = ends.into_iter().collect();
        let waits = if ends.is_empty() { String::new() } else { format!("; its waits are {}", ends.join(", or ")) };
        parts.push(format!("seen by the probe: accepts counted from outside{waits}."));
    }
    if has(EAGAIN) {
        parts.push(EAGAIN_MEANS.to_owned());
    }
    if has("sleeps") {
        parts.push("sleeps, preempted: voluntary and involuntary context switches.".to_owned());
    }
    if has("most\nopen") {
        parts.push("most open: connections at once.".to_owned());
    }
    if has(FREE) {
        parts.push("free files: descriptors below the limit of open files before the first connection.".to_owned());
    }
    if has(REFUSED) {
        parts.push(
            "refused accepts: those that failed for want of a descriptor; accept takes one before it looks, so it fails at an empty queue too."
                .to_owned(),
        );
    }
    if has(PLAIN) {
        parts.push("accepted as TCP: connections without MPTCP on a listener of MPTCP.".to_owned());
    }
    if has(SHED) {
        parts.push("closed at once: accepted with a spare descriptor.".to_owned());
    }
    let masters = || shown.iter().flat_map(|(_, trial)| &trial.workers).filter(|member| member.supervises);
    if masters().any(|master| master.total.accepted.is_some()) {
        parts.push("supervises: accepted nothing, but started other members.".to_owned());
    } else if masters().next().is_some() {
        parts.push("supervises: started other members; whether it accepts is unknown.".to_owned());
    }
    if table.rows.iter().flatten().any(|shown| *shown == none()) {
        parts.push("–: unknown, or nothing to divide by.".to_owned());
    }
    parts.join(" ")
}

/// A column of numbers; it is left out where no member has one.
struct Column {
    head: &'static str,
    show: fn(&TrialRecord, &MemberRow) -> String,
}

const COLUMNS: &[Column] = &[
    Column { head: ACCEPTED, show: |trial, member| count(member.total.accepted.filter(|_| !is_of_datagrams(trial))) },
    Column {
        head: "datagrams",
        show: |_, member| count(member.total.datagrams.filter(|_| member.datagram_socket.is_some())),
    },
    Column { head: FLOWS, show: |_, member| count(member.datagram_socket.as_ref().map(|socket| socket.flows)) },
    Column {
        head: "share",
        show: |trial, member| {
            let all: u64 = trial.workers.iter().filter_map(|member| got(trial, member)).sum();
            // Those that were there for longer got more.
            let part = got(trial, member).filter(|_| all > 0 && !trial.changed_members());
            part.map_or_else(none, |part| percent(part as f64 / all as f64))
        },
    },
    Column {
        head: GENERATION,
        show: |trial, member| {
            let several = trial.workers.iter().any(|member| member.generation > 0);
            if several { member.generation.to_string() } else { none() }
        },
    },
    Column {
        head: EAGAIN,
        show: |_, member| {
            let calls = member.total.accept_eagain.zip(member.total.accepted.filter(|accepted| *accepted > 0));
            calls.map_or_else(none, |(eagain, accepted)| per_accept(eagain, accepted))
        },
    },
    Column { head: "wait\np50", show: |_, member| wait(member, |of| of.p50) },
    Column { head: "wait\np99", show: |_, member| wait(member, |of| of.p99) },
    Column { head: "wait\nmax", show: |_, member| wait(member, |of| of.longest()) },
    Column {
        head: RECEIVE_WAIT,
        show: |_, member| wait_of(member.datagram_socket.as_ref().map(|socket| &socket.receive_wait), |of| of.p50),
    },
    Column {
        head: "receive\nwait p99",
        show: |_, member| wait_of(member.datagram_socket.as_ref().map(|socket| &socket.receive_wait), |of| of.p99),
    },
    Column {
        head: "seen by\nthe probe",
        show: |trial, member| count(seen(trial, member).and_then(|seen| seen.accepted)),
    },
    Column {
        head: "its wait\np50",
        show: |trial, member| wait_of(seen(trial, member).and_then(|seen| seen.accept_wait.as_ref()), |of| of.p50),
    },
    Column {
        head: "its wait\np99",
        show: |trial, member| wait_of(seen(trial, member).and_then(|seen| seen.accept_wait.as_ref()), |of| of.p99),
    },
    Column { head: "CPU", show: |_, member| member.total.cpu_ns().map_or_else(none, |ns| duration(ns as f64)) },
    Column { head: "sleeps", show: |_, member| count(member.total.voluntary_switches) },
    Column { head: "preempted", show: |_, member| count(member.total.involuntary_switches) },
    Column { head: "most\nopen", show: |trial, member| count(member.open_peak.filter(|_| !is_of_datagrams(trial))) },
    Column {
        head: FREE,
        show: |trial, member| at_limit(trial, count(member.descriptors.map(|of| of.limit.saturating_sub(of.before)))),
    },
    Column { head: REFUSED, show: |trial, member| at_limit(trial, count(member.total.emfile)) },
    Column {
        head: PLAIN,
        show: |trial, member| {
            let asked = trial.connections.accepted_fell_back.is_some();
            if asked { count(member.total.fell_back) } else { none() }
        },
    },
    Column { head: SHED, show: |trial, member| at_limit(trial, count(member.total.shed)) },
];

/// Whether accepts failed for want of a descriptor.
pub(super) fn lacked_descriptors(trial: &TrialRecord) -> bool {
    let of_members = trial.workers.iter().map(|member| &member.total);
    let mut counts = of_members.chain(trial.helper.iter().map(|helper| &helper.total));
    counts.any(|counts| counts.emfile > Some(0))
}

/// What the table says of descriptors in a trial in which some were lacking.
fn at_limit(trial: &TrialRecord, shown: String) -> String {
    if lacked_descriptors(trial) { shown } else { none() }
}

fn none() -> String {
    "–".to_owned()
}

/// Two decimals, so that rows can be compared, and not nothing where it is not.
fn per_accept(eagain: u64, accepted: u64) -> String {
    match eagain as f64 / accepted as f64 {
        little if eagain > 0 && little < 0.005 => "< 0.01".to_owned(),
        ratio => format!("{ratio:.2}"),
    }
}

fn count(count: Option<u64>) -> String {
    count.map_or_else(none, |count| thousands(count as f64))
}

/// What a probe saw of one of our own workers.
fn seen<'a>(trial: &'a TrialRecord, member: &MemberRow) -> Option<&'a ProbedMember> {
    trial.probe.as_ref()?.members.iter().find(|seen| seen.pid == member.pid)
}

fn wait(member: &MemberRow, figure: fn(&LatencySummary) -> Option<u64>) -> String {
    wait_of(member.accept_wait.as_ref(), figure)
}

fn wait_of(waits: Option<&LatencySummary>, figure: fn(&LatencySummary) -> Option<u64>) -> String {
    let of = waits.filter(|of| of.count > 0);
    let bound = if of.is_some_and(LatencySummary::is_bound) { "≤ " } else { "" };
    of.and_then(figure).map_or_else(none, |ns| format!("{bound}{}", duration(ns as f64)))
}

/// Members with the busiest first: of several generations, the busiest of each, then the second of each, and so on.
fn busiest<'a>(trial: &TrialRecord, mut members: Vec<&'a MemberRow>, limit: usize) -> Vec<&'a MemberRow> {
    members.sort_by_key(|member| Reverse(got(trial, member)));
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    let mut placed: Vec<(usize, &MemberRow)> = members
        .into_iter()
        .map(|member| {
            let place = seen.entry(member.generation).or_default();
            *place += 1;
            (*place, member)
        })
        .collect();
    if seen.len() > 1 {
        placed.sort_by_key(|(place, _)| *place);
        placed[..limit].sort_by_key(|(_, member)| Reverse(got(trial, member)));
    }
    placed.into_iter().map(|(_, member)| member).collect()
}

/// A row for each member, of many members for the busiest ones; by generation.
fn table(shown: &[Shown<'_>], limit: usize) -> Grid {
    let mut rows = Vec::new();
    for (cell, trial) in shown {
        let mut members: Vec<&MemberRow> = trial.workers.iter().collect();
        if members.len() > limit {
            members = busiest(trial, members, limit);
        }
        let shown = members.len().min(limit);
        members[..shown].sort_by_key(|member| member.generation);
        let row = |member: &&MemberRow| {
            let name = if member.counted_by == CountedBy::Own {
                format!("worker {}", member.member)
            } else {
                member.comm.clone()
            };
            let name = if member.supervises { format!("{name} (supervises)") } else { name };
            let thread = if member.tid == member.pid { String::new() } else { member.tid.to_string() };
            let mut row = vec![cell.full_name.clone(), name, member.pid.to_string(), thread];
            row.extend(COLUMNS.iter().map(|column| (column.show)(trial, member)));
            row.push(member.exit.as_ref().filter(|exit| !exit.is_ok()).map_or_else(String::new, ToString::to_string));
            row
        };
        let (open, more) = members.split_at(members.len().min(limit));
        rows.extend(open.iter().map(row));
        // The strategy's helper accepts for the workers, which count what it hands over.
        let seen = trial.probe.iter().flat_map(|probe| &probe.members).find(|seen| seen.member.is_none());
        let own = trial.helper.as_ref().filter(|_| trial.subject.kind == SubjectKind::Own);
        let lacking = own.filter(|own| own.total.emfile > Some(0));
        if let Some(pid) = seen.map(|seen| seen.pid).or(lacking.map(|own| own.pid)) {
            let (emfile, shed) = own.map_or((None, None), |own| (own.total.emfile, own.total.shed));
            let known = MemberRow {
                comm: "helper".to_owned(),
                pid,
                tid: pid,
                total: WorkerCounts { emfile, shed, ..WorkerCounts::default() },
                descriptors: own.and_then(|own| own.descriptors),
                ..MemberRow::default()
            };
            rows.push(row(&&known));
        }
        if !more.is_empty() {
            let rest = more.iter().map(|member| got(trial, member)).sum::<Option<u64>>();
            let mut row = vec![cell.full_name.clone(), format!("{} more", more.len()), String::new(), String::new()];
            row.extend(COLUMNS.iter().map(|_| String::new()));
            let head = if is_of_datagrams(trial) { FLOWS } else { ACCEPTED };
            let place = COLUMNS.iter().position(|column| column.head == head).unwrap_or(0);
            row[LABELS + place] = count(rest);
            row.push(String::new());
            rows.push(row);
        }
    }
    let mut head = ["cell", "member", "pid", "thread"].map(str::to_owned).to_vec();
    head.extend(COLUMNS.iter().map(|column| column.head.to_owned()));
    head.push("ended".to_owned());
    pruned(Grid { title: String::new(), labels: LABELS, words: 1, head, rows })
}

/// Without columns that say nothing: no thread besides the first, nothing known, nothing ended.
fn pruned(grid: Grid) -> Grid {
    let says = |column: usize| grid.rows.iter().any(|row| !row[column].is_empty() && row[column] != "–");
    let several = grid.rows.iter().any(|row| row[0] != grid.rows[0][0]);
    let kept: Vec<usize> = (0..grid.head.len())
        .filter(|column| match column {
            0 => several,
            1 | 2 => true,
            _ => says(*column),
        })
        .collect();
    let pick = |row: &[String]| kept.iter().map(|column| row[*column].clone()).collect::<Vec<_>>();
    let ended = usize::from(kept.contains(&(grid.head.len() - 1)));
    Grid {
        labels: kept.iter().filter(|column| **column < LABELS).count(),
        words: ended,
        head: pick(&grid.head),
        rows: grid.rows.iter().map(|row| pick(row)).collect(),
        title: grid.title,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{DatagramSocketRow, Datagrams, Exit, ProbeRow, WaitEnd},
        report::sample::{Sample, two_strategies},
    };

    fn of_nginx(accepts: &[u64], change: impl Fn(&mut TrialRecord)) -> Content {
        let mut sample = Sample::new("");
        change(sample.of_nginx(json!({ "variant": "nginx" }), accepts, 1_000, WaitEnd::Accept));
        section(&Ranked::of(&sample.reading())).unwrap()
    }

    fn text(content: &Content) -> &Grid {
        content.text_tables().next().unwrap()
    }

    #[test]
    fn what_is_known_of_each_process_is_shown() {
        let content = of_nginx(&[60, 20, 0], |trial| {
            trial.workers[0].total =
                WorkerCounts { cpu_user_ns: Some(1_500_000), cpu_system_ns: Some(0), ..trial.workers[0].total.clone() };
            trial.workers[2].accept_wait = None;
            trial.workers[2].exit = Some(Exit::Status(3));
        });
        assert_eq!(content.finding, "nginx (pid 100) accepted 75.0 % of 80 connections; 1 of 3 members accepted none");
        let table = text(&content);
        assert_eq!(
            table.head,
            [
                "member",
                "pid",
                "accepted",
                "share",
                "EAGAIN\n/accept",
                "wait\np50",
                "wait\np99",
                "wait\nmax",
                "CPU",
                "ended"
            ]
        );
        assert_eq!((table.labels, table.words), (2, 1));
        assert_eq!(table.rows[0][..5], ["nginx", "100", "60", "75.0 %", "0.12"]);
        assert_eq!(table.rows[0][8..], ["1.50 ms", ""]);
        // Nothing is known of waits that it never had, and nothing is divided by 0.
        assert_eq!(table.rows[2], ["nginx", "102", "0", "0.0 %", "–", "–", "–", "–", "–", "exit status 3"]);
    }

    #[test]
    fn a_finding_is_true_for_one_member_and_for_none() {
        assert_eq!(of_nginx(&[8], |_| {}).finding, "nginx (pid 100), the only member, accepted 8 connections");
        assert_eq!(of_nginx(&[0, 0], |_| {}).finding, "No member accepted a connection");
        let tie = of_nginx(&[4, 4], |_| {});
        assert_eq!(tie.finding, "2 members accepted 8 connections, none over 10 % more than the mean");
        let unknown = of_nginx(&[4, 4], |trial| {
            trial.workers.iter_mut().for_each(|member| member.total = WorkerCounts::default());
            let missing = Some("who accepted what: run as root".to_owned());
            trial.probe = Some(ProbeRow { missing, ..ProbeRow::default() });
        });
        assert_eq!(unknown.finding, "What each member accepted is unknown");
        let master = |accepted| {
            let content = of_nginx(&[0, 4], |trial| {
                (trial.workers[0].supervises, trial.workers[0].total.accepted) = (true, accepted);
            });
            let says = |what: &str| content.text_notes().any(|note| note.contains(what));
            (
                says("accepted nothing, but started other"),
                says("supervises: started other members; whether it accepts is"),
            )
        };
        assert_eq!([master(Some(0)), master(None)], [(true, false), (false, true)]);
        assert!(unknown.text_notes().any(|note| note == "Members, what is missing: who accepted what: run as root"));
        assert_eq!(text(&unknown).head[..2], ["member", "pid"]);
        let elsewhere = of_nginx(&[4], |trial| {
            trial.workers.clear();
            trial.probe = Some(ProbeRow { missing: Some("the server is not here".to_owned()), ..ProbeRow::default() });
        });
        assert_eq!(
            (elsewhere.finding.as_str(), elsewhere.tables.len()),
            ("Who accepted the connections could not be seen", 0)
        );
        assert!(elsewhere.text_notes().any(|note| note == "Members, what is missing: the server is not here"));
    }

    #[test]
    fn an_invalid_trial_shows_its_members_where_none_is_valid() {
        let content = of_nginx(&[64, 0], |trial| {
            trial.outcome = Outcome::Invalid;
            trial.connections.left_in_queue = 55;
        });
        assert_eq!(content.finding, "nginx (pid 100) accepted 100.0 % of 64 connections; 1 of 2 members accepted none");
        assert_eq!(text(&content).rows.len(), 2);
        let label = "No trial is valid; these are the members of trial 0, which is invalid; 55 connections were left in its queues.";
        assert!(content.text_notes().any(|note| note.contains(label)));
        let failed = |trial: &mut TrialRecord| trial.outcome = Outcome::Failed;
        let mut sample = Sample::new("");
        failed(sample.of_nginx(json!({ "variant": "nginx" }), &[5], 1_000, WaitEnd::Accept));
        assert!(section(&Ranked::of(&sample.reading())).is_none(), "what it counted is not known");
    }

    #[test]
    fn accepts_that_found_nothing_have_the_same_decimals_in_every_row() {
        for (eagain, accepted, expected) in
            [(0, 7, "0.00"), (2, 4_249, "< 0.01"), (1, 200, "0.01"), (5, 24, "0.21"), (3, 15, "0.20"), (21, 20, "1.05")]
        {
            assert_eq!(per_accept(eagain, accepted), expected);
        }
        let explained = |content: &Content| content.text_notes().any(|note| note.contains(EAGAIN_MEANS));
        assert!(explained(&of_nginx(&[60, 20], |_| {})));
        let uncounted = of_nginx(&[60, 20], |trial| {
            trial.workers.iter_mut().for_each(|member| member.total.accept_eagain = None);
        });
        assert!(!explained(&uncounted));
    }

    #[test]
    fn threads_are_told_apart_and_of_many_the_busiest_are_shown() {
        let content = of_nginx(&[3; 300], |trial| {
            for (thread, member) in (4_000..).zip(&mut trial.workers) {
                (member.pid, member.tid, member.comm) = (4_000, thread, "haproxy".to_owned());
            }
            trial.workers[299].total.accepted = Some(5);
        });
        assert_eq!(content.finding, "haproxy (pid 4000, thread 4299) accepted 0.6 % of 902 connections");
        let rows = &text(&content).rows;
        assert_eq!(
            (rows.len(), &rows[0][..4]),
            (IN_TEXT + 1, &["haproxy", "4000", "4299", "5"].map(str::to_owned)[..])
        );
        assert_eq!(rows[1][2], "", "the first thread is the process");
        assert_eq!(rows[IN_TEXT][..4], ["288 more", "", "", "864"]);
        assert_eq!(content.page_tables().next().unwrap().rows.len(), ON_PAGE + 1);
    }

    #[test]
    fn generations_stand_in_order_and_none_is_left_out() {
        let content = of_nginx(&[9; 40], |trial| {
            for (place, member) in trial.workers.iter_mut().enumerate() {
                // The last generation was there for the shortest time.
                member.generation = (place + 1) % 4;
                member.total.accepted = Some(100 - 10 * member.generation as u64);
            }
        });
        let table = text(&content);
        let column = |head: &str| table.head.iter().position(|known| known == head);
        let generations: Vec<&str> =
            table.rows[..IN_TEXT].iter().map(|row| &row[column(GENERATION).unwrap()][..]).collect();
        assert_eq!(generations, ["0", "0", "0", "1", "1", "1", "2", "2", "2", "3", "3", "3"]);
        assert_eq!((table.rows.len(), column("share")), (IN_TEXT + 1, None));
        assert_eq!(content.finding, "40 members, not all there for the whole trial, accepted 3,400 connections");
    }

    #[test]
    fn what_a_probe_saw_stands_beside_our_own_counts() {
        let mut sample = Sample::new("");
        let trial = sample.trial(json!({}), &[5, 3], 1_000);
        let accept_wait = LatencySummary { ends: Some(WaitEnd::Accept), ..trial.latency_ns.accept_wait.clone() };
        let seen = ProbedMember {
            member: Some(1),
            pid: 51,
            accepted: Some(3),
            accept_wait: Some(accept_wait),
            ..ProbedMember::default()
        };
        let helper = ProbedMember { member: None, pid: 90, accepted: Some(8), ..ProbedMember::default() };
        trial.probe = Some(ProbeRow { members: vec![seen, helper], ..ProbeRow::default() });
        let content = section(&Ranked::of(&sample.reading())).unwrap();
        let table = text(&content);
        let column = table.head.iter().position(|head| head == "seen by\nthe probe").unwrap();
        let seen: Vec<&str> = table.rows.iter().map(|row| &row[column][..]).collect();
        assert_eq!(seen, ["–", "3", "8"]);
        assert_eq!(table.rows[2][..3], ["helper", "90", "–"], "it accepts for the workers, which count");
        assert!(
            content
                .text_notes()
                .any(|note| note.contains("counted from outside; its waits are until accept returned."))
        );
    }

    #[test]
    fn our_own_workers_stand_beside_another_servers_members() {
        let mut sample = Sample::new("");
        for repetition in 0..2 {
            sample.trial(json!({ "variant": "own" }), &[5, 3], 1_000 + repetition);
            sample.of_nginx(json!({ "variant": "nginx" }), &[8], 1_000 + repetition, WaitEnd::Accept);
        }
        let content = section(&Ranked::of(&sample.reading())).unwrap();
        let names: Vec<&[String]> = text(&content).rows.iter().map(|row| &row[..2]).collect();
        assert_eq!(names, [["own", "worker 0"], ["own", "worker 1"], ["nginx", "nginx"]]);
        let note = content.text_notes().next().unwrap();
        assert!(note.starts_with(
            "Members of each cell's valid trial nearest to the median accept wait p99, the lower of two: "
        ));
    }

    #[test]
    fn our_own_workers_are_for_the_page_alone() {
        let reading = two_strategies(2);
        let content = section(&Ranked::of(&reading)).unwrap();
        assert_eq!(content.finding, "Worker 0 (pid 50) accepted 95.8 % of 240 connections in shared");
        assert_eq!((content.text_tables().count(), content.text_notes().count()), (0, 0));
        assert_eq!(content.page_tables().next().unwrap().rows[0][..3], ["reuseport", "worker 0", "50"]);
    }

    #[test]
    fn what_chance_explains_is_no_news() {
        let finding = |cells: &[(&str, [u64; 2])]| {
            let mut sample = Sample::new("");
            for (strategy, accepts) in cells {
                sample.trial(json!({ "strategy": strategy }), accepts, 1_000);
            }
            section(&Ranked::of(&sample.reading())).unwrap().finding
        };
        let [chance, even, uneven] = [("reuseport", [6, 15]), ("turns", [50, 50]), ("shared", [90, 10])];
        for (cells, expected) in [
            (&[chance][..], "2 members accepted 21 connections, spread as chance allows"),
            (&[even], "2 members accepted 100 connections, none over 10 % more than the mean"),
            (
                &[chance, even],
                "In both cells, connections are spread over the members as chance allows, or none accepted over 10 % more than the mean",
            ),
            (&[chance, uneven], "Worker 0 (pid 50) accepted 90.0 % of 100 connections in shared"),
        ] {
            assert_eq!(finding(cells), expected);
        }
    }

    #[test]
    fn nobody_accepts_datagrams() {
        let of = |flows: [u64; 2]| {
            let mut sample = Sample::new("");
            let trial = sample.trial(json!({}), &[0, 0], 1_000);
            trial.datagrams = Some(Datagrams::default());
            for (worker, flows) in trial.workers.iter_mut().zip(flows) {
                let receive_wait = LatencySummary {
                    count: flows,
                    due: flows,
                    p50: Some(2_000),
                    p99: Some(3_000),
                    ..LatencySummary::default()
                };
                worker.datagram_socket =
                    Some(DatagramSocketRow { flows, receive_wait, ..DatagramSocketRow::default() });
                (worker.total.datagrams, worker.open_peak) = (Some(8 * flows), Some(0));
            }
            section(&Ranked::of(&sample.reading())).unwrap()
        };
        let content = of([30, 10]);
        assert_eq!(content.finding, "Worker 0 (pid 50) answered 75.0 % of 40 flows");
        let table = content.page_tables().next().unwrap();
        assert_eq!(table.head[..5], ["member", "pid", "datagrams", "flows", "share"]);
        assert_eq!(table.rows[0][2..5], ["240", "30", "75.0 %"]);
        assert!(!table.head.iter().any(|head| ["accepted", "most\nopen"].contains(&&head[..])), "{:?}", table.head);
        assert_eq!(of([0, 0]).finding, "No member answered a flow");
    }
}
