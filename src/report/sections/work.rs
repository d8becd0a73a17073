//! What each member did: its part of the requests and of the CPU time.

use std::collections::BTreeSet;

use super::{Content, In, shares};
use crate::{
    format::percent,
    record::{EventKind, MemberRow, WorkerCounts},
    report::{Grid, Ranked, ranked::Cell},
};

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let rows: Vec<Vec<String>> = ranked.cells.iter().flat_map(of_cell).collect();
    if rows.is_empty() {
        return None;
    }
    let finding = finding(ranked)?;
    let table = Grid { labels: 2, ..Grid::new(["cell", "worker", "requests", "CPU time"], 0, rows) };
    let note = "Each worker's part of all requests answered, and of the CPU time that the workers used, in the measured windows of \
                the cell's valid trials.";
    Some(Content {
        title: "Requests and CPU time per worker".to_owned(),
        finding,
        tables: vec![(In::Page, table)],
        notes: vec![(In::Page, note.to_owned())],
        ..Content::default()
    })
}

/// The worker with the largest part of any cell's CPU time, unless all parts are about the same.
fn finding(ranked: &Ranked<'_>) -> Option<String> {
    let share = |cell: &Cell<'_>, worker| part(cell, worker, WorkerCounts::cpu_ns);
    let shown = ranked.cells.iter().filter(|cell| is_shown(cell));
    let all = shown.flat_map(|cell| members(cell).into_iter().map(move |worker| (cell, worker)));
    let all: Vec<(&Cell<'_>, usize, f64)> =
        all.filter_map(|(cell, worker)| Some((cell, worker, share(cell, worker)?))).collect();
    if all.is_empty() {
        return None;
    }
    let uneven = all.iter().filter(|(cell, _, share)| !shares::is_near_mean(*share, members(cell).len()));
    let Some((cell, worker, share)) = uneven.max_by(|one, other| one.2.total_cmp(&other.2)) else {
        let place = if ranked.cells.len() == 1 { "" } else { " of any cell" };
        return Some(format!("No worker{place} used {} CPU time than the mean", shares::beyond_mean()));
    };
    let place = if ranked.cells.len() == 1 { String::new() } else { format!(" in {}", cell.full_name) };
    let burnt = burns(cell, *worker).then(|| "an event made it burn CPU".to_owned());
    let chance = shares::is_chance(ranked, cell).then(|| format!("{} spread within chance", shares::what(ranked)));
    let facts: Vec<String> = burnt.into_iter().chain(chance).collect();
    let facts = if facts.is_empty() { String::new() } else { format!(": {}", facts.join("; ")) };
    Some(format!("Worker {worker} used {} of the workers' CPU time{place}{facts}", percent(*share)))
}

/// Whether an event of the scenario made a worker use CPU time.
fn burns(cell: &Cell<'_>, worker: usize) -> bool {
    let mut events = cell.trials.iter().flat_map(|trial| &trial.events);
    events.any(|event| event.kind == EventKind::Burn && event.worker == Some(worker))
}

/// The numbers of a cell's workers.
fn members(cell: &Cell<'_>) -> BTreeSet<usize> {
    cell.trials.iter().flat_map(|trial| &trial.workers).map(|row| row.member).collect()
}

/// A worker's part of a count, over the cell's valid trials; `None` where nothing was counted.
fn part(cell: &Cell<'_>, worker: usize, count: fn(&WorkerCounts) -> Option<u64>) -> Option<f64> {
    let rows = || cell.trials.iter().flat_map(|trial| &trial.workers);
    let sum = |rows: &mut dyn Iterator<Item = &MemberRow>| rows.map(|row| count(&row.measured)).sum::<Option<u64>>();
    let all = sum(&mut rows())?;
    (all > 0)
        .then(|| sum(&mut rows().filter(|row| row.member == worker)))
        .flatten()
        .map(|part| part as f64 / all as f64)
}

const REQUESTS: fn(&WorkerCounts) -> Option<u64> = |counts| counts.requests;

/// Whether several workers shared the work, and somebody counted it.
fn is_shown(cell: &Cell<'_>) -> bool {
    let members = members(cell);
    members.len() > 1 && members.first().is_some_and(|first| part(cell, *first, REQUESTS).is_some())
}

/// A row for each of a cell's workers.
fn of_cell(cell: &Cell<'_>) -> Vec<Vec<String>> {
    if !is_shown(cell) {
        return Vec::new();
    }
    let share = |worker, count| part(cell, worker, count).map_or_else(|| "–".to_owned(), percent);
    let row = |worker: usize| {
        vec![cell.full_name.clone(), worker.to_string(), share(worker, REQUESTS), share(worker, WorkerCounts::cpu_ns)]
    };
    members(cell).into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{record::EventRow, report::sample::Sample};

    #[test]
    fn parts_are_of_all_valid_trials_together() {
        let mut sample = Sample::new("Who works?");
        for requests in [[10, 30], [20, 60]] {
            let trial = sample.trial(json!({ "strategy": "reuseport" }), &[5, 5], 1_000);
            for (worker, requests) in trial.workers.iter_mut().zip(requests) {
                worker.measured = WorkerCounts {
                    requests: Some(requests),
                    cpu_user_ns: Some(1_000),
                    cpu_system_ns: Some(0),
                    ..WorkerCounts::default()
                };
            }
        }
        // Nobody answered anything: there is nothing to share.
        sample.trial(json!({ "strategy": "shared" }), &[5, 5], 1_000);
        let reading = sample.reading();
        let mut content = section(&Ranked::of(&reading)).unwrap();
        assert_eq!(content.finding, "No worker of any cell used over 10 % more CPU time than the mean");
        let table = content.tables.remove(0).1;
        let shares: Vec<&[String]> = table.rows.iter().map(|row| &row[1..]).collect();
        assert_eq!(shares, [["0", "25.0 %", "50.0 %"], ["1", "75.0 %", "50.0 %"]]);
    }

    #[test]
    fn a_worker_is_named_only_if_it_stands_out() {
        let finding = |cpu_ns: [u64; 2], strategy: &str, burns: Option<usize>| {
            let mut sample = Sample::new("Who works?");
            let trial = sample.trial(json!({ "strategy": strategy }), &[50, 52], 1_000);
            let burn =
                burns.map(|worker| EventRow { kind: EventKind::Burn, worker: Some(worker), ..EventRow::default() });
            trial.events = burn.into_iter().collect();
            for (worker, cpu_ns) in trial.workers.iter_mut().zip(cpu_ns) {
                worker.measured = WorkerCounts {
                    requests: Some(50),
                    cpu_user_ns: Some(cpu_ns),
                    cpu_system_ns: Some(0),
                    ..WorkerCounts::default()
                };
            }
            section(&Ranked::of(&sample.reading())).unwrap().finding
        };
        assert_eq!(finding([451, 549], "shared", None), "No worker used over 10 % more CPU time than the mean");
        assert_eq!(finding([450, 550], "shared", None), "Worker 1 used 55.0 % of the workers' CPU time");
        let most = "Worker 0 used 70.0 % of the workers' CPU time";
        assert_eq!(finding([700, 300], "reuseport", None), format!("{most}: accepts spread within chance"));
        // Chance does not make a worker burn.
        assert_eq!(
            finding([700, 300], "reuseport", Some(0)),
            format!("{most}: an event made it burn CPU; accepts spread within chance")
        );
        assert_eq!(finding([700, 300], "shared", Some(0)), format!("{most}: an event made it burn CPU"));
        assert_eq!(finding([700, 300], "shared", Some(1)), most, "the other one burnt");
    }
}
