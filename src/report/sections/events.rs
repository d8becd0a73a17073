//! What events did: what they cost, who accepted during them, and how long the server took to be itself again. A row for each event of
//! each cell, with all its occurrences in the cell's valid trials.

use super::{Content, In};
use crate::{
    format::{duration, plural, thousands},
    record::{EventKind, EventRow, Generation, LatencySummary, TrialRecord},
    report::{Grid, Ranked, ranked::Cell},
    stats::{ascending, median},
};

/// Title of the section.
const TITLE: &str = "Events";
/// What stands for a value that is unknown or does not exist.
const NONE: &str = "–";
/// Columns that name a row.
const LABELS: usize = 3;

/// One event of a cell: its occurrences in all valid trials, each with the generation that it brought, if that is known.
struct Event<'a> {
    cell: &'a Cell<'a>,
    occurrences: Vec<(&'a EventRow, Option<usize>)>,
    /// Connections attempted in the cell's valid trials.
    due: u64,
}

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    // Those of a worker that only stalls, burns or dies have columns of their own among the cells', unless they lost something.
    let is_told = |event: &Event<'_>| event.changes_workers() && event.lost().is_some() || event.lost() > Some(0);
    let events: Vec<Event<'_>> = ranked.cells.iter().flat_map(of_cell).filter(is_told).collect();
    if events.is_empty() {
        return None;
    }
    let table = table(&events);
    Some(Content {
        title: TITLE.to_owned(),
        finding: finding(ranked, &events),
        notes: vec![(In::All, legend(&table))],
        tables: vec![(In::All, table)],
        ..Content::default()
    })
}

fn of_cell<'a>(cell: &'a Cell<'a>) -> Vec<Event<'a>> {
    let due = cell.trials.iter().map(|trial| trial.connections.attempted).sum();
    let mut events: Vec<(usize, Event<'_>)> = Vec::new();
    for (row, brought) in cell.trials.iter().flat_map(|trial| with_generations(trial)) {
        match events.iter_mut().find(|(number, _)| *number == row.event) {
            Some((_, event)) => event.occurrences.push((row, brought)),
            None => events.push((row.event, Event { cell, occurrences: vec![(row, brought)], due })),
        }
    }
    events.sort_by_key(|(number, _)| *number);
    events.into_iter().map(|(_, event)| event).collect()
}

/// The events of a trial, each with the generation that it brought: one that nobody before it belonged to.
fn with_generations(trial: &TrialRecord) -> Vec<(&EventRow, Option<usize>)> {
    let mut rows: Vec<&EventRow> = trial.events.iter().collect();
    rows.sort_by(|one, other| one.at_s.total_cmp(&other.at_s));
    let mut known = 0;
    let brought = |row: &EventRow| {
        let youngest = row.generations.iter().map(|generation| generation.generation).max();
        let brought = youngest.filter(|youngest| *youngest > known);
        known = youngest.unwrap_or(known).max(known);
        brought
    };
    let brought: Vec<Option<usize>> = rows.iter().copied().map(brought).collect();
    rows.into_iter().zip(brought).collect()
}

impl Event<'_> {
    fn rows(&self) -> impl Iterator<Item = &EventRow> {
        self.occurrences.iter().map(|(row, _)| *row)
    }

    /// Whether it may have changed who serves.
    fn changes_workers(&self) -> bool {
        !self.rows().any(|row| matches!(row.kind, EventKind::Stall | EventKind::Burn | EventKind::Kill))
    }

    /// A count over all occurrences; `None` unless it is known of each.
    fn sum(&self, count: fn(&EventRow) -> Option<u64>) -> Option<u64> {
        self.rows().map(count).sum()
    }

    /// A count over those occurrences of which it is known; `None` if it is of none.
    fn sum_of_known(&self, count: fn(&EventRow) -> Option<u64>) -> Option<u64> {
        self.rows().filter_map(count).reduce(|one, other| one + other)
    }

    fn lost(&self) -> Option<u64> {
        self.sum(|row| row.lost.total())
    }

    /// The generations that the occurrences brought, or those that they found.
    fn generations(&self, fresh: bool) -> impl Iterator<Item = &Generation> {
        let all =
            self.occurrences.iter().flat_map(|(row, brought)| row.generations.iter().map(move |one| (one, brought)));
        all.filter(move |(one, brought)| (Some(one.generation) == **brought) == fresh).map(|(one, _)| one)
    }

    fn accepted(&self, fresh: bool) -> Option<u64> {
        let known = self.rows().any(|row| !row.generations.is_empty());
        known.then(|| self.generations(fresh).map(|generation| generation.accepted).sum())
    }

    /// The median over the occurrences of a figure of the accept waits.
    fn wait(&self, fresh: bool, of: fn(&LatencySummary) -> Option<u64>) -> Option<f64> {
        let waits = self.generations(fresh).filter_map(|generation| generation.accept_wait.as_ref());
        median(&ascending(
            &waits.filter(|waits| waits.count > 0).filter_map(of).map(|ns| ns as f64).collect::<Vec<_>>(),
        ))
    }

    /// What it is called in the table.
    fn name(&self) -> String {
        let (first, _) = self.occurrences[0];
        let how = first.how.map(|how| format!(" ({how})")).unwrap_or_default();
        let worker = first.worker.map(|worker| format!(" of worker {worker}")).unwrap_or_default();
        format!("{}{how}{worker}", first.kind)
    }
}

/// A column of the table; it is left out where it is unknown of every event.
struct Column {
    head: &'static str,
    show: fn(&Event<'_>) -> Option<String>,
}

fn count(count: Option<u64>) -> Option<String> {
    count.map(|count| thousands(count as f64))
}

const COLUMNS: &[Column] = &[
    Column { head: "lost", show: |event| count(event.lost()) },
    Column { head: "reset in\na queue", show: |event| count(event.sum(|row| row.lost.reset_in_queue)) },
    Column { head: "refused", show: |event| count(event.sum(|row| row.lost.refused)) },
    Column { head: "cut off", show: |event| count(event.sum(|row| row.lost.cut)) },
    Column { head: "queued", show: |event| count(event.sum_of_known(|row| row.queued)) },
    Column { head: "migrated", show: |event| count(event.sum_of_known(|row| Some(row.migrated?.success))) },
    Column { head: "open", show: |event| count(event.sum_of_known(|row| row.open)) },
    Column { head: "accepted\nby old", show: |event| count(event.accepted(false)) },
    Column { head: "wait\np99", show: |event| event.wait(false, |waits| waits.p99).map(duration) },
    Column { head: "accepted\nby new", show: |event| count(event.accepted(true)) },
    Column { head: "their wait\np99", show: |event| event.wait(true, |waits| waits.p99).map(duration) },
    Column {
        head: "drain",
        show: |event| {
            let drains: Vec<f64> = event.rows().filter_map(|row| row.drain_s).collect();
            median(&ascending(&drains)).map(|drain_s| duration(1e9 * drain_s))
        },
    },
    Column {
        head: "longest\ndrain",
        show: |event| {
            event.rows().filter_map(|row| row.drain_s).max_by(f64::total_cmp).map(|drain_s| duration(1e9 * drain_s))
        },
    },
    Column { head: "flows", show: |event| count(event.sum_of_known(|row| Some(row.flows?.known))) },
    Column { head: "moved", show: |event| count(event.sum_of_known(|row| Some(row.flows?.moved))) },
];

/// Columns that are left out where they are 0 in all rows.
const NOTHING_AT_0: [&str; 6] = ["reset in\na queue", "refused", "cut off", "queued", "migrated", "open"];

fn table(events: &[Event<'_>]) -> Grid {
    let shown: Vec<Vec<Option<String>>> =
        events.iter().map(|event| COLUMNS.iter().map(|column| (column.show)(event)).collect()).collect();
    let says = |column: usize| {
        let mut known = shown.iter().filter_map(|row| row[column].as_deref());
        known.any(|value| value != "0" || !NOTHING_AT_0.contains(&COLUMNS[column].head))
    };
    let kept: Vec<usize> = (0..COLUMNS.len()).filter(|column| says(*column)).collect();
    let mut head = ["cell", "event", "times"].map(str::to_owned).to_vec();
    head.extend(kept.iter().map(|column| COLUMNS[*column].head.to_owned()));
    let row = |(event, shown): (&Event<'_>, &Vec<Option<String>>)| {
        let mut row = vec![event.cell.full_name.clone(), event.name(), event.occurrences.len().to_string()];
        row.extend(kept.iter().map(|column| shown[*column].clone().unwrap_or_else(|| NONE.to_owned())));
        row
    };
    Grid { title: TITLE.to_owned(), head, labels: LABELS, words: 0, rows: events.iter().zip(&shown).map(row).collect() }
}

/// How to read the table.
fn legend(table: &Grid) -> String {
    let has = |head: &str| table.head.iter().any(|column| column == head);
    let mut parts = vec!["Counts are over all times that an event happened in the cell's valid trials.".to_owned()];
    if has("reset in\na queue") {
        parts.push("reset in a queue: connections that waited in a listener that was closed.".to_owned());
    }
    if has("refused") {
        parts.push("refused: nothing listened.".to_owned());
    }
    if has("cut off") {
        parts.push("cut off: accepted, and ended before the reply was complete.".to_owned());
    }
    if has("queued") {
        parts.push("queued: connections in the queues of the listeners that were closed, just before.".to_owned());
    }
    if has("migrated") {
        parts
            .push("migrated: connections that the kernel moved to another listener (TCPMigrateReqSuccess).".to_owned());
    }
    if has("open") {
        parts.push("open: connections that were open when the event began.".to_owned());
    }
    if has("accepted\nby new") {
        parts.push(
            "accepted by old, by new: by those that were there before the event and by those that it brought, until it was over (of a \
             signal or an exec: until the next one began or the load ended); their waits are medians over the events."
                .to_owned(),
        );
    }
    if has("drain") {
        parts.push(
            "drain: until all that had served before the event had ended; the median, and the longest.".to_owned(),
        );
    }
    if has("flows") {
        parts.push(
            "flows, moved: flows of datagrams known before the event, and those that then went to another worker."
                .to_owned(),
        );
    }
    if table.rows.iter().flatten().any(|shown| shown == NONE) {
        parts.push(format!("{NONE}: unknown, or there was none."));
    }
    parts.join(" ")
}

/// In which cell events cost most.
fn finding(ranked: &Ranked<'_>, events: &[Event<'_>]) -> String {
    let of_cell = |cell: &Cell<'_>| {
        let of_it = || events.iter().filter(|event| std::ptr::eq(event.cell.summary, cell.summary));
        let lost = of_it().map(Event::lost).sum::<Option<u64>>()?;
        let times: usize = of_it().map(|event| event.occurrences.len()).sum();
        Some((lost, times, of_it().next()?.due))
    };
    let known: Vec<_> = ranked.cells.iter().filter_map(|cell| Some((cell, of_cell(cell)?))).collect();
    match known.iter().max_by_key(|(_, (lost, ..))| *lost) {
        None => "What events cost is unknown".to_owned(),
        Some((_, (0, ..))) => "No event lost a connection".to_owned(),
        Some((cell, (most, times, due))) => {
            let [lost, due] = [most, due].map(|count| thousands(*count as f64));
            let events = plural(*times, "event");
            if ranked.cells.len() == 1 {
                format!("{lost} of {due} connections were lost to {events}")
            } else {
                let level = known.iter().filter(|(_, (lost, ..))| lost == most).count() - 1;
                let level =
                    if level > 0 { format!("; {} lost as many", plural(level, "other cell")) } else { String::new() };
                format!("{} lost the most connections: {lost} of {due}, to {events}{level}", cell.full_name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{Counts, Lost, ReloadHow, WaitMethod},
        report::sample::Sample,
    };

    fn waits(ns: u64) -> LatencySummary {
        let mut values = Counts::new(1, 60_000_000_000, 3).unwrap();
        values.extend([(ns, 1)].into_iter());
        LatencySummary::of_waits(&values, 0, WaitMethod::SockOps)
    }

    fn generation(generation: usize, accepted: u64) -> Generation {
        Generation { generation, accepted, accept_wait: Some(waits(1_000 * accepted)) }
    }

    fn reload(occurrence: usize, how: ReloadHow, lost: u64, generations: Vec<Generation>) -> EventRow {
        EventRow {
            kind: EventKind::Reload,
            occurrence,
            how: Some(how),
            at_s: 0.5 + occurrence as f64,
            lost: Lost { reset_in_queue: Some(lost), refused: Some(0), cut: Some(0) },
            queued: Some(lost),
            drain_s: Some(0.1 * (1 + occurrence) as f64),
            generations,
            ..EventRow::default()
        }
    }

    #[test]
    fn occurrences_and_trials_of_an_event_are_a_row() {
        let mut sample = Sample::new("What does a reload lose?");
        for _ in 0..2 {
            let trial = sample.trial(json!({ "how": "inherit" }), &[5, 5], 1_000);
            trial.connections.attempted = 1_000;
            trial.events = vec![
                reload(0, ReloadHow::Inherit, 0, vec![generation(0, 3), generation(1, 4)]),
                // Whoever was there before it had ended by then.
                reload(1, ReloadHow::Inherit, 0, vec![generation(2, 6)]),
            ];
            let trial = sample.trial(json!({ "how": "reopen" }), &[5, 5], 1_000);
            trial.connections.attempted = 1_000;
            trial.events = vec![reload(0, ReloadHow::Reopen, 7, vec![generation(0, 3)])];
        }
        let reading = sample.reading();
        let content = section(&Ranked::of(&reading)).unwrap();
        assert_eq!(content.finding, "reopen lost the most connections: 14 of 2,000, to 2 events");
        let table = &content.tables[0].1;
        let column = |head: &str| table.head.iter().position(|known| known == head).unwrap();
        let shown = |head: &str| table.rows.iter().map(|row| &row[column(head)][..]).collect::<Vec<_>>();
        assert_eq!(shown("event"), ["reload (inherit)", "reload (reopen)"]);
        assert_eq!((shown("times"), shown("lost")), (vec!["4", "2"], vec!["0", "14"]));
        assert_eq!((shown("queued"), shown("reset in\na queue")), (vec!["0", "14"], vec!["0", "14"]));
        assert_eq!((shown("accepted\nby old"), shown("accepted\nby new")), (vec!["6", "6"], vec!["20", "0"]));
        assert_eq!(shown("longest\ndrain"), ["200 ms", "100 ms"]);
        for absent in ["flows", "refused", "cut off"] {
            assert!(!table.head.iter().any(|head| head == absent), "{:?}", table.head);
        }
        let note = content.text_notes().next().unwrap();
        assert!(note.contains("reset in a queue: ") && !note.contains("refused: "), "{note}");
    }

    #[test]
    fn a_worker_that_stalls_has_no_row_unless_something_was_lost() {
        let told = |lost: u64| {
            let mut sample = Sample::new("Who suffers?");
            let event = EventRow { kind: EventKind::Kill, ..reload(0, ReloadHow::Inherit, lost, Vec::new()) };
            sample.trial(json!({}), &[5, 5], 1_000).events = vec![event];
            section(&Ranked::of(&sample.reading())).is_some()
        };
        assert_eq!([told(0), told(3)], [false, true]);
    }

    #[test]
    fn where_losses_are_unknown_there_is_no_section() {
        let mut sample = Sample::new("Who suffers?");
        sample.trial(json!({}), &[5, 5], 1_000).events = vec![EventRow::default()];
        let reading = sample.reading();
        assert!(section(&Ranked::of(&reading)).is_none());
    }
}
