//! What the replies say about the server, and what it took to get them: a row for each cell, sums over the valid trials.

use super::{Content, In, effective::Effective};
use crate::{
    format::{percent, thousands},
    record::{Connections, Outcome, Statuses, SubjectKind, TrialRecord},
    report::{Grid, Ranked, ranked::keys, ranking::plain},
    scenario::{App, label},
    stats::{CellSummary, Record, Summary},
};

/// Title of the section.
const TITLE: &str = "Replies";

/// A column: its head, what it counts, and what that means.
pub(in crate::report) struct Column {
    pub head: &'static str,
    count: fn(&Connections) -> u64,
    pub meaning: &'static str,
}

/// Shown where any cell counted something.
pub(in crate::report) const COLUMNS: &[Column] = &[
    Column { head: "2xx", count: |of| of.statuses.map_or(0, |statuses| statuses.successful), meaning: "" },
    Column {
        head: "3xx",
        count: |of| of.statuses.map_or(0, |statuses| statuses.redirected),
        meaning: "3xx: redirections; they are not followed.",
    },
    Column {
        head: "4xx",
        count: |of| of.statuses.map_or(0, |statuses| statuses.client_errors),
        meaning: "4xx: the server blames the request.",
    },
    Column {
        head: "5xx",
        count: |of| of.statuses.map_or(0, |statuses| statuses.server_errors),
        meaning: "5xx: the server blames itself.",
    },
    Column {
        head: "checked",
        count: |of| of.verified,
        meaning: "checked: replies whose receipt was compared with the request.",
    },
    Column {
        head: "other\naddresses",
        count: |of| of.proxied,
        meaning: "other addresses: whoever replied saw another 4-tuple than the client, as behind a proxy or source NAT.",
    },
    Column {
        head: "client\nnamed",
        count: |of| of.named,
        meaning: "client named: those of them whose proxy had named the client's own connection in a PROXY protocol header.",
    },
    Column {
        head: "reconnected",
        count: |of| of.reconnected,
        meaning: "reconnected: connections that continued the requests of one that the server had closed after a reply.",
    },
    Column {
        head: "replaced",
        count: |of| of.replaced,
        meaning: "replaced: connections that took the place of one whose lifetime (`load.lifetime`) was over.",
    },
    Column {
        head: "asked\nagain",
        count: |of| of.retried,
        meaning: "asked again: requests that the server had left unanswered as it closed their connection.",
    },
    Column {
        head: "SYNs\nagain",
        count: |of| of.syn_retries,
        meaning: "SYNs again: sent again by the kernel, as in `ss -ti`.",
    },
    Column {
        head: "late\nconnections",
        count: |of| of.syn_retried,
        meaning: "late connections: those that needed another SYN, established or not; each waited a second or more.",
    },
];

/// Of replies through a proxy whose connections have no accept waits.
const WAITS_UNKNOWN: &str =
    "The accept waits of connections through a proxy are unknown, because receipts are of the proxy's own connections.";

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let (record, summary) = (ranked.record, ranked.summary);
    let totals: Vec<(&CellSummary, Totals)> =
        summary.cells.iter().map(|cell| (cell, Totals::of(&valid(record, cell)))).collect();
    if !totals.iter().any(|(_, totals)| totals.is_worth_showing()) {
        return None;
    }
    let columns: Vec<&Column> =
        COLUMNS.iter().filter(|column| totals.iter().any(|(_, totals)| totals.count(column) > 0)).collect();
    let mut notes: Vec<(In, String)> = Vec::new();
    let meanings: Vec<&str> =
        columns.iter().map(|column| column.meaning).filter(|meaning| !meaning.is_empty()).collect();
    if !meanings.is_empty() {
        notes.push((In::All, meanings.join(" ")));
    }
    if totals.iter().any(|(_, totals)| totals.waits_unknown) {
        notes.push((In::All, WAITS_UNKNOWN.to_owned()));
    }
    notes.extend(unchecked(&totals, || are_expected(record)).map(|note| (In::All, note)));
    let mut tables = vec![(In::All, table(summary, &totals, &columns))];
    tables.extend(by_worker(summary, &totals).map(|table| (In::All, table)));
    Some(Content { title: TITLE.to_owned(), finding: finding(&totals), tables, notes, ..Content::default() })
}

/// The sums of a cell.
#[derive(Default)]
struct Totals {
    /// Trials with loaders: of a server that was only watched, nobody asked for replies.
    trials: usize,
    foreign: bool,
    /// Whether replies came through a proxy and nobody measured the accept waits of its listener.
    waits_unknown: bool,
    counts: Connections,
    /// Connections by the worker that receipts name.
    workers: Vec<u64>,
}

impl Totals {
    fn of(trials: &[&TrialRecord]) -> Self {
        let mut totals =
            Self { trials: trials.iter().filter(|trial| !trial.loaders.is_empty()).count(), ..Self::default() };
        for trial in trials {
            totals.foreign |= trial.subject.kind != SubjectKind::Own;
            let (sum, of) = (&mut totals.counts, &trial.connections);
            totals.waits_unknown |= of.proxied > 0 && trial.latency_ns.accept_wait.count == 0;
            sum.replies += of.replies;
            sum.completed += of.completed;
            sum.verified += of.verified;
            sum.proxied += of.proxied;
            sum.named += of.named;
            sum.reconnected += of.reconnected;
            sum.replaced += of.replaced;
            sum.retried += of.retried;
            sum.syn_retries += of.syn_retries;
            sum.syn_retried += of.syn_retried;
            if let Some(statuses) = &of.statuses {
                sum.statuses.get_or_insert_default().add(statuses);
            }
            for share in trial.receipts.iter().flat_map(|receipts| &receipts.workers) {
                totals.workers.resize(totals.workers.len().max(share.worker + 1), 0);
                totals.workers[share.worker] += share.connections;
            }
        }
        totals
    }

    fn count(&self, column: &Column) -> u64 {
        (column.count)(&self.counts)
    }

    /// HTTP replies that say 4xx or 5xx.
    fn refused(&self) -> u64 {
        self.counts.statuses.map_or(0, |statuses| statuses.errors())
    }

    /// Whether clients asked for anything: those of apps `close` and `connect` do not.
    fn asked(&self) -> bool {
        self.counts.replies > 0 || self.counts.completed == 0
    }

    /// Whether there is more to say than that our own server answered as it should.
    fn is_worth_showing(&self) -> bool {
        let Connections { proxied, reconnected, replaced, retried, syn_retries, statuses, .. } = &self.counts;
        let odd = statuses.map_or(0, |Statuses { redirected, .. }| redirected) + self.refused();
        self.trials > 0
            && (self.foreign && self.asked() || odd + proxied + reconnected + replaced + retried + syn_retries > 0)
    }
}

fn valid<'a>(record: &'a Record, cell: &CellSummary) -> Vec<&'a TrialRecord> {
    record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid && trial.cell == cell.cell).collect()
}

fn table(summary: &Summary, totals: &[(&CellSummary, Totals)], columns: &[&Column]) -> Grid {
    let names = keys(summary);
    let shown = totals.iter().filter(|(_, totals)| totals.trials > 0);
    let rows = shown.map(|(cell, totals)| {
        let mut row: Vec<String> = cell.cell.values().map(plain).collect();
        row.push(thousands(totals.counts.replies as f64));
        row.extend(columns.iter().map(|column| thousands(totals.count(column) as f64)));
        row
    });
    let rows = rows.collect();
    let labels = names.len();
    let heads = columns.iter().map(|column| column.head.to_owned());
    let head = names.into_iter().chain(["replies".to_owned()]).chain(heads).collect();
    Grid { title: TITLE.to_owned(), labels, words: 0, head, rows }
}

/// Who accepted, where a server that runs elsewhere says so.
fn by_worker(summary: &Summary, totals: &[(&CellSummary, Totals)]) -> Option<Grid> {
    let mut rows = Vec::new();
    for (cell, totals) in totals {
        let all: u64 = totals.workers.iter().sum();
        for (worker, count) in totals.workers.iter().enumerate() {
            let mut row: Vec<String> = cell.cell.values().map(plain).collect();
            row.extend([worker.to_string(), thousands(*count as f64), percent(*count as f64 / all as f64)]);
            rows.push(row);
        }
    }
    let names = keys(summary);
    let labels = names.len() + 1;
    let head = names.into_iter().chain(["worker", "connections", "share"].map(str::to_owned)).collect();
    let title = "Connections by worker, as receipts name it, in the measured windows of all valid trials".to_owned();
    (!rows.is_empty()).then_some(Grid { title, labels, words: 0, head, rows })
}

fn finding(totals: &[(&CellSummary, Totals)]) -> String {
    let sum = |of: &dyn Fn(&Totals) -> u64| totals.iter().map(|(_, totals)| of(totals)).sum::<u64>();
    let replies = sum(&|totals| totals.counts.replies);
    let refused = sum(&|totals| totals.refused());
    let (redirected, has_statuses) = (
        sum(&|totals| totals.counts.statuses.map_or(0, |statuses| statuses.redirected)),
        totals.iter().any(|(_, totals)| totals.counts.statuses.is_some()),
    );
    let proxied = sum(&|totals| totals.counts.proxied);
    let all = if replies == 1 { "1 reply".to_owned() } else { format!("{} replies", thousands(replies as f64)) };
    if refused > 0 {
        let most = match totals.iter().max_by_key(|(_, totals)| totals.refused()) {
            Some((cell, most)) if totals.len() > 1 && most.refused() == refused => {
                format!(", all of them with {}", label(&cell.cell))
            }
            Some((cell, most)) if totals.len() > 1 => {
                format!(", the most ({}) with {}", thousands(most.refused() as f64), label(&cell.cell))
            }
            _ => String::new(),
        };
        let are = if refused == 1 { "is a" } else { "are" };
        return format!(
            "{} of {all} {are} 4xx or 5xx{most}: the figures include them, though the server may not have done the work",
            thousands(refused as f64)
        );
    }
    if proxied > 0 {
        let named = match sum(&|totals| totals.counts.named) {
            0 => String::new(),
            all if all == proxied => {
                ", and the server knew each client's address from a PROXY protocol header".to_owned()
            }
            some => format!(
                ", and the server knew the client's address from a PROXY protocol header in {} of them",
                thousands(some as f64)
            ),
        };
        return format!("{} of {all} came through a proxy or translated addresses{named}", thousands(proxied as f64));
    }
    if replies == 0 {
        let asked = totals.iter().any(|(_, totals)| totals.asked());
        let why = if asked { "" } else { ", and asked for none" };
        return format!("The loaders received no replies{why}");
    }
    if redirected > 0 {
        return format!("{} of {all} redirected the client", thousands(redirected as f64));
    }
    if has_statuses { format!("{all}, all of them 2xx") } else { all }
}

/// Whether all replies of other servers had to begin as their clients expect (app `line` with `load.expect`): one that does not fails its
/// connection, and is not counted.
fn are_expected(record: &Record) -> bool {
    let effective = Effective::of(record);
    let is_expected = |trial: &TrialRecord| {
        effective.of_trial(trial).is_some_and(|of| {
            let scenario = of.scenario();
            scenario.server.app == App::Line && scenario.loads.iter().all(|load| !load.line.expect.is_empty())
        })
    };
    let of_others = |trial: &&TrialRecord| trial.subject.kind != SubjectKind::Own && trial.outcome == Outcome::Valid;
    record.trials.iter().filter(of_others).all(is_expected)
}

/// That replies of another server cannot be checked, and what of them was.
fn unchecked(totals: &[(&CellSummary, Totals)], are_expected: impl Fn() -> bool) -> Option<String> {
    let unchecked = |totals: &Totals| totals.counts.replies - totals.counts.verified;
    let count: u64 = totals.iter().filter(|(_, totals)| totals.foreign).map(|(_, totals)| unchecked(totals)).sum();
    (count > 0).then(|| {
        let but = if are_expected() { ", only that it began as `load.expect` says" } else { "" };
        format!(
            "{} no receipt, which only listenbench's own server sends: whether each of them answered its own connection's \
             request was not checked{but}.",
            if count == 1 { "1 reply had".to_owned() } else { format!("{} replies had", thousands(count as f64)) }
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        record::{LatencySummary, LoaderRow, Receipts, Subject, WorkerShare},
        report::sample::Sample,
    };

    fn content(cells: &[(Value, SubjectKind, Connections, &[u64])]) -> Option<Content> {
        let mut sample = Sample::new("What did it reply?");
        for (cell, kind, connections, workers) in cells {
            let trial = sample.trial(cell.clone(), &[5, 5], 1_000);
            trial.subject = Subject { kind: *kind, ..Subject::default() };
            trial.loaders = vec![LoaderRow::default()];
            trial.connections = Connections { ..connections.clone() };
            let share = |(worker, connections): (usize, &u64)| WorkerShare { worker, connections: *connections };
            let workers: Vec<WorkerShare> = workers.iter().enumerate().map(share).collect();
            trial.receipts = (!workers.is_empty()).then_some(Receipts { workers });
        }
        section(&Ranked::of(&sample.reading()))
    }

    fn replied(replies: u64, statuses: Option<[u64; 4]>) -> Connections {
        let statuses = statuses.map(|[successful, redirected, client_errors, server_errors]| Statuses {
            successful,
            redirected,
            client_errors,
            server_errors,
        });
        Connections { replies, statuses, ..Connections::default() }
    }

    #[test]
    fn our_own_server_is_mentioned_only_if_something_is_odd() {
        let fine = replied(9, Some([9, 0, 0, 0]));
        assert!(content(&[(json!({}), SubjectKind::Own, fine.clone(), &[])]).is_none());
        for odd in [
            replied(9, Some([8, 1, 0, 0])),
            replied(9, Some([8, 0, 0, 1])),
            Connections { syn_retries: 1, ..fine.clone() },
            Connections { reconnected: 1, ..fine.clone() },
        ] {
            assert!(content(&[(json!({}), SubjectKind::Own, odd, &[])]).is_some());
        }
        assert!(content(&[(json!({}), SubjectKind::Running, fine, &[])]).is_some());
        // Nobody asked.
        let silent = Connections { completed: 9, ..replied(0, None) };
        assert!(content(&[(json!({}), SubjectKind::Running, silent.clone(), &[])]).is_none());
        let late = Connections { syn_retries: 1, ..silent };
        let late = content(&[(json!({}), SubjectKind::Running, late, &[])]).unwrap();
        assert_eq!(late.finding, "The loaders received no replies, and asked for none");
    }

    #[test]
    fn nobody_asks_a_server_that_is_only_watched() {
        let replies = |loaders: Vec<LoaderRow>| {
            let mut sample = Sample::new("");
            let trial = sample.trial(json!({}), &[5, 5], 1_000);
            (trial.subject.kind, trial.loaders) = (SubjectKind::Running, loaders);
            section(&Ranked::of(&sample.reading()))
        };
        assert!(replies(Vec::new()).is_none());
        assert_eq!(replies(vec![LoaderRow::default()]).unwrap().finding, "The loaders received no replies");
    }

    #[test]
    fn the_finding_is_true_of_one_cell_and_of_several() {
        let a = || json!({ "strategy": "a" });
        let b = || json!({ "strategy": "b" });
        let running = |cell, connections| (cell, SubjectKind::Running, connections, &[][..]);
        for (cells, expected) in [
            (vec![running(json!({}), replied(1_200, Some([1_200, 0, 0, 0])))], "1,200 replies, all of them 2xx"),
            (vec![running(json!({}), replied(1, None))], "1 reply"),
            (vec![running(json!({}), replied(0, None))], "The loaders received no replies"),
            (
                vec![running(json!({}), replied(25, Some([5, 5, 5, 10])))],
                "15 of 25 replies are 4xx or 5xx: the figures include them, though the server may not have done the work",
            ),
            (
                vec![running(a(), replied(9, Some([9, 0, 0, 0]))), running(b(), replied(9, Some([8, 0, 1, 0])))],
                "1 of 18 replies is a 4xx or 5xx, all of them with strategy=b: the figures include them, though the server \
                 may not have done the work",
            ),
            (
                vec![running(a(), replied(9, Some([7, 0, 2, 0]))), running(b(), replied(9, Some([8, 0, 1, 0])))],
                "3 of 18 replies are 4xx or 5xx, the most (2) with strategy=a: the figures include them, though the server \
                 may not have done the work",
            ),
            (vec![running(json!({}), replied(9, Some([7, 2, 0, 0])))], "2 of 9 replies redirected the client"),
            (
                vec![running(json!({}), Connections { proxied: 4, ..replied(4, None) })],
                "4 of 4 replies came through a proxy or translated addresses",
            ),
        ] {
            assert_eq!(content(&cells).unwrap().finding, expected);
        }
    }

    #[test]
    fn accept_waits_through_a_proxy_are_unknown_only_where_nobody_measured_them() {
        let notes = |measured: bool| {
            let mut sample = Sample::new("");
            let trial = sample.trial(json!({}), &[5, 5], 1_000);
            trial.loaders = vec![LoaderRow::default()];
            trial.connections = Connections { proxied: 4, ..replied(4, None) };
            if !measured {
                trial.latency_ns.accept_wait = LatencySummary::default();
            }
            let content = section(&Ranked::of(&sample.reading())).unwrap();
            content.notes.into_iter().map(|(_, note)| note).collect::<Vec<_>>()
        };
        let meaning =
            "other addresses: whoever replied saw another 4-tuple than the client, as behind a proxy or source NAT.";
        assert_eq!(notes(true), [meaning]);
        assert_eq!(notes(false), [meaning, WAITS_UNKNOWN]);
    }

    #[test]
    fn tables_have_the_columns_that_count_something() {
        let connections =
            Connections { verified: 300, syn_retries: 7, syn_retried: 3, ..replied(1_300, Some([1_300, 0, 0, 0])) };
        let content = content(&[(json!({}), SubjectKind::Running, connections, &[100, 0, 200])]).unwrap();
        let [(_, replies), (_, workers)] = &content.tables[..] else { panic!() };
        assert_eq!(replies.head, ["replies", "2xx", "checked", "SYNs\nagain", "late\nconnections"]);
        assert_eq!(replies.rows, [["1,300", "1,300", "300", "7", "3"]]);
        assert_eq!(workers.rows, [["0", "100", "33.3 %"], ["1", "0", "0.0 %"], ["2", "200", "66.7 %"]]);
        assert!(content.notes.iter().any(|(_, note)| note.starts_with("1,000 replies had no receipt")));
    }

    #[test]
    fn what_clients_expect_of_a_reply_is_checked() {
        let note = |expect: &str| {
            let mut sample = Sample::new("");
            let trial = sample.trial(json!({}), &[5, 5], 1_000);
            trial.subject.kind = SubjectKind::Running;
            trial.loaders = vec![LoaderRow::default()];
            trial.connections = replied(9, None);
            let mut reading = sample.reading();
            reading.record.raw.scenario = format!(
                "network = \"host\"\n[server]\nsubject = \"running\"\napp = \"line\"\n[load]\n\
                 send = 'PING\\r\\n'\nexpect = '{expect}'"
            );
            section(&Ranked::of(&reading)).unwrap().notes.remove(0).1
        };
        assert!(
            note("+PONG").ends_with("was not checked, only that it began as `load.expect` says."),
            "{}",
            note("+PONG")
        );
        assert!(note("").ends_with("was not checked."), "{}", note(""));
    }
}
