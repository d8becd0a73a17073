//! What events cost: the connections lost to them, of all that were due. Every one was counted, in every trial, so that the counts of a
//! cell's trials are added up.

use super::{NAMED, exact, rows};
use crate::{
    format::{plural, thousands},
    record::{EventKind, EventRow, Outcome, TrialRecord},
    report::{
        claims::capital,
        ranking::{Group, Ranking, Row, listed},
    },
    stats::{Metric, Record, Summary},
};

/// Trials of a cell, or of several, together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Loss {
    lost: u64,
    due: u64,
    events: usize,
    trials: usize,
}

impl Loss {
    fn of(metric: &Metric, trials: &[&TrialRecord]) -> Self {
        let counted = trials.iter().filter_map(|trial| Some((trial, metric.read(trial)? as u64)));
        let one = |(trial, lost): (&&TrialRecord, u64)| Self {
            lost,
            due: trial.connections.attempted,
            events: trial.events.len(),
            trials: 1,
        };
        counted.map(one).fold(Self::default(), Self::and)
    }

    fn and(self, other: Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            due: self.due + other.due,
            events: self.events + other.events,
            trials: self.trials + other.trials,
        }
    }
}

/// Whatever the cells lost, as a sentence without a full stop.
pub fn clause(record: &Record, summary: &Summary, ranking: &Ranking) -> String {
    let cells: Vec<(&Group, &Row, Loss)> = losses(record, summary, ranking).collect();
    let (named, settings) = if cells.len() > NAMED { by_name(&cells) } else { (one_by_one(&cells), 1) };
    let levels = levels(named);
    let subject = subject(record, &levels);
    let mut due = None;
    let mut of = |loss: &Loss| {
        let lost = thousands(loss.lost as f64);
        match due.replace(loss.due) {
            Some(same) if same == loss.due => lost,
            Some(_) => format!("{lost} of {}", thousands(loss.due as f64)),
            None => format!("{lost} of {}", counted_thousands(loss.due)),
        }
    };
    let parts = match &levels[..] {
        [(loss, _)] if cells.len() == 1 => of(loss),
        few if few.len() <= NAMED => {
            let parts: Vec<String> = few
                .iter()
                .map(|(loss, names)| format!("{}{} with {}", of(loss), each(names), names_of(names)))
                .collect();
            parts.join(if few.iter().any(|(_, names)| names.len() > 1) { "; " } else { ", " })
        }
        [(least, few), .., (most, many)] => {
            let [least, most] = [(least, few), (most, many)].map(|(loss, names)| of(loss) + each(names));
            format!("from {least} (with {}) to {most} (with {})", names_of(few), names_of(many))
        }
        [_] | [] => unreachable!("few levels are listed by name, and some cell has a value"),
    };
    let over = if settings > 1 { format!("; counts are sums over {settings} settings") } else { String::new() };
    let absent = exact::absent(ranking).map_or_else(String::new, |absent| format!("; no count for {absent}"));
    format!("{subject} {parts}{over}{absent}")
}

/// Cells that lost as many of as many, the fewest first.
fn levels(cells: Vec<(String, Loss)>) -> Vec<(Loss, Vec<String>)> {
    let mut levels: Vec<(Loss, Vec<String>)> = Vec::new();
    for (name, loss) in cells {
        match levels.iter_mut().find(|(known, _)| *known == loss) {
            Some((_, names)) => names.push(name),
            None => levels.push((loss, vec![name])),
        }
    }
    levels.sort_by_key(|(loss, _)| (loss.lost, std::cmp::Reverse(loss.due)));
    levels
}

fn each(names: &[String]) -> &'static str {
    if names.len() > 1 { " each" } else { "" }
}

fn names_of(names: &[String]) -> String {
    if names.len() <= NAMED { listed(names) } else { plural(names.len(), "cell") }
}

fn counted_thousands(connections: u64) -> String {
    format!("{} connection{}", thousands(connections as f64), if connections == 1 { "" } else { "s" })
}

/// The counts of each cell by cause, a line each; cells that lost nothing share one.
pub(super) fn evidence(record: &Record, summary: &Summary, ranking: &Ranking) -> Vec<String> {
    let counted = |name: &str, loss: &Loss| {
        format!(
            "{name}: {} of {} lost to {} in {}",
            thousands(loss.lost as f64),
            counted_thousands(loss.due),
            plural(loss.events, "event"),
            plural(loss.trials, "trial"),
        )
    };
    let (nothing, some): (Vec<_>, Vec<_>) = losses(record, summary, ranking).partition(|(.., loss)| loss.lost == 0);
    let by_cause = |(group, row, loss): &(&Group, &Row, Loss)| {
        let trials = trials(record, summary, ranking, row);
        let by_trial = || trials.iter().filter_map(|trial| ranking.metric.read(trial));
        let (low, high) = (by_trial().fold(f64::INFINITY, f64::min), by_trial().fold(0.0, f64::max));
        let spread =
            if low < high { format!(", {} to {} in each", thousands(low), thousands(high)) } else { String::new() };
        counted(&row.full_name(group), loss) + &spread + &causes(&trials)
    };
    let mut lines: Vec<String> = some.iter().map(by_cause).collect();
    if !nothing.is_empty() {
        let names: Vec<String> = nothing.iter().map(|(group, row, _)| row.full_name(group)).collect();
        let name = if names.len() <= NAMED { names.join("; ") } else { plural(names.len(), "cell") };
        let all = nothing.iter().map(|(.., loss)| *loss).fold(Loss::default(), Loss::and);
        let together = if names.len() > 1 { " together" } else { "" };
        lines.push(counted(&format!("{name}{together}"), &all));
    }
    lines
}

/// What connections were lost to, but for causes of none.
fn causes(trials: &[&TrialRecord]) -> String {
    type Count = fn(&EventRow) -> Option<u64>;
    let causes: [(Count, &str); 3] = [
        (|event| event.lost.reset_in_queue, "reset in a queue"),
        (|event| event.lost.refused, "refused"),
        (|event| event.lost.cut, "cut off"),
    ];
    let events = || trials.iter().flat_map(|trial| &trial.events);
    let parts = causes.iter().filter_map(|(count, cause)| match events().map(count).sum::<Option<u64>>() {
        Some(0) => None,
        Some(sum) => Some(format!("{} {cause}", thousands(sum as f64))),
        None => Some(format!("an unknown number {cause}")),
    });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
}

/// The cells whose losses are known.
fn losses<'a>(
    record: &'a Record,
    summary: &'a Summary,
    ranking: &'a Ranking,
) -> impl Iterator<Item = (&'a Group, &'a Row, Loss)> {
    rows(ranking)
        .map(|(group, row)| (group, row, Loss::of(ranking.metric, &trials(record, summary, ranking, row))))
        .filter(|(.., loss)| loss.trials > 0)
}

fn trials<'a>(record: &'a Record, summary: &Summary, ranking: &Ranking, row: &Row) -> Vec<&'a TrialRecord> {
    let cell = &summary.cells[row.cell].cell;
    let valid = record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid && trial.cell == *cell);
    valid.filter(|trial| ranking.metric.read(trial).is_some()).collect()
}

/// Cells with the same name under several settings together, and the number of settings; each cell by itself if that does not help.
fn by_name(cells: &[(&Group, &Row, Loss)]) -> (Vec<(String, Loss)>, usize) {
    let mut names: Vec<(String, Loss)> = Vec::new();
    for (_, row, loss) in cells {
        match names.iter_mut().find(|(name, _)| *name == row.name) {
            Some((_, sum)) => *sum = sum.and(*loss),
            None => names.push((row.name.clone(), *loss)),
        }
    }
    let settings = cells.len() / names.len().max(1);
    if settings > 1 && names.len() <= NAMED && cells.len() == settings * names.len() {
        return (names, settings);
    }
    (one_by_one(cells), 1)
}

fn one_by_one(cells: &[(&Group, &Row, Loss)]) -> Vec<(String, Loss)> {
    cells.iter().map(|(group, row, loss)| (row.full_name(group), *loss)).collect()
}

/// Who loses them, and the verb: `A reload loses`, `10 reloads lose`.
fn subject(record: &Record, levels: &[(Loss, Vec<String>)]) -> String {
    let events =
        || record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid).flat_map(|trial| &trial.events);
    let mut nouns: Vec<&str> = events().map(noun).collect();
    nouns.sort_unstable();
    nouns.dedup();
    let noun = if let [noun] = nouns[..] { noun } else { "event" };
    let counts: Vec<usize> = levels.iter().map(|(loss, _)| loss.events).collect();
    match counts[..] {
        [first, ..] if counts.iter().all(|count| *count == first) => {
            if first == 1 {
                format!("{} {noun} loses", if noun == "event" { "An" } else { "A" })
            } else {
                format!("{} lose", plural(first, noun))
            }
        }
        _ => format!("{}s lose", capital(noun)),
    }
}

/// What an event is called.
fn noun(event: &EventRow) -> &'static str {
    match event.kind {
        EventKind::Stall => "stall",
        EventKind::Burn => "burn",
        EventKind::Kill => "kill",
        EventKind::Join => "join",
        EventKind::Leave => "departure",
        EventKind::Reload => "reload",
        EventKind::Signal | EventKind::Exec if event.is_reload() => "reload",
        EventKind::Signal => "signal",
        EventKind::Exec => "command",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::{
        record::{Connections, Done, Exit, Lost},
        report::answer::answers,
        stats::{fixture, summarize},
    };

    /// A trial's cell, what each of its events lost, and how many connections were due.
    type Case<'a> = (Json, &'a [[u64; 3]], u64);

    fn told(kind: EventKind, cases: &[Case<'_>]) -> (String, Vec<String>) {
        let mut cells: Vec<&Json> = Vec::new();
        let mut trials = Vec::new();
        for (number, (cell, lost, due)) in cases.iter().enumerate() {
            if !cells.contains(&cell) {
                cells.push(cell);
            }
            let event = |[reset, refused, cut]: &[u64; 3]| EventRow {
                kind,
                lost: Lost { reset_in_queue: Some(*reset), refused: Some(*refused), cut: Some(*cut) },
                ..EventRow::default()
            };
            trials.push(TrialRecord {
                cell_index: cells.iter().position(|known| *known == cell).unwrap(),
                connections: Connections { attempted: *due, established: *due, ..Connections::default() },
                events: lost.iter().map(event).collect(),
                ..fixture::trial(number, cell, Outcome::Valid)
            });
        }
        let mut record = fixture::record(trials);
        record.whole.answers = vec!["event_lost".to_owned()];
        let answer = answers(&record, &summarize(&record)).remove(0);
        (answer.sentence, answer.evidence)
    }

    fn how(how: &str) -> Json {
        json!({ "how": how })
    }

    #[test]
    fn lost_connections_are_told_of_all_that_were_due() {
        let (sentence, evidence) =
            told(EventKind::Reload, &[(how("reopen"), &[[23, 0, 0]], 41_233), (how("inherit"), &[[0; 3]], 41_233)]);
        assert_eq!(sentence, "A reload loses 0 of 41,233 connections with inherit, 23 with reopen.");
        assert!(
            evidence.contains(
                &"reopen: 23 of 41,233 connections lost to 1 event in 1 trial: 23 reset in a queue".to_owned()
            )
        );
        assert!(evidence.contains(&"inherit: 0 of 41,233 connections lost to 1 event in 1 trial".to_owned()));
    }

    #[test]
    fn trials_and_events_of_a_cell_add_up() {
        let cases = [
            (how("inherit"), &[[0; 3], [0, 0, 1]][..], 100),
            (how("restart"), &[[0, 7, 0], [0, 8, 0]], 200),
            (how("inherit"), &[[0; 3], [0; 3]], 110),
            (how("restart"), &[[1, 0, 0], [0; 3]], 205),
        ];
        let (sentence, evidence) = told(EventKind::Reload, &cases);
        assert_eq!(
            evidence[1],
            "restart: 16 of 405 connections lost to 4 events in 2 trials, 1 to 15 in each: 1 reset in a queue, 15 refused"
        );
        assert_eq!(sentence, "4 reloads lose 1 of 210 connections with inherit, 16 of 405 with restart.");
    }

    #[test]
    fn an_event_is_called_what_it_was() {
        let once = |kind| told(kind, &[(json!({}), &[[0, 0, 2]], 10)]).0;
        assert_eq!(once(EventKind::Exec), "A command loses 2 of 10 connections.");
        assert_eq!(once(EventKind::Leave), "A departure loses 2 of 10 connections.");
    }

    #[test]
    fn a_command_is_a_reload_only_if_it_ended_and_nobody_was_refused() {
        let done = |exit| Some(Done { exit, ..Done::default() });
        let event = |refused, exit| EventRow {
            kind: EventKind::Exec,
            drain_s: Some(0.1),
            lost: Lost { refused: Some(refused), ..Lost::default() },
            done: done(exit),
            ..EventRow::default()
        };
        assert_eq!(noun(&event(0, Some(Exit::Ok))), "reload");
        assert_eq!(noun(&event(3, Some(Exit::Ok))), "command", "it was down in between");
        assert_eq!(noun(&event(0, None)), "command", "it became the server");
        assert_eq!(noun(&EventRow { drain_s: None, ..event(0, Some(Exit::Ok)) }), "command");
    }

    #[test]
    fn cells_that_lost_as_much_share_a_place() {
        let cells =
            ["a", "b", "c"].map(|name| (how(name), if name == "c" { &[[5, 0, 0]][..] } else { &[[0; 3]] }, 900));
        assert_eq!(
            told(EventKind::Reload, &cells).0,
            "A reload loses 0 of 900 connections each with a and b; 5 with c."
        );
    }

    #[test]
    fn many_cells_are_added_up_by_what_competes() {
        let cell = |how: &str, migrate: u64| json!({ "how": how, "tcp_migrate_req": migrate, "workers": 2 });
        let mut cases: Vec<Case<'_>> = Vec::new();
        for migrate in [0, 1, 2] {
            cases.push((cell("inherit", migrate), &[[0; 3]], 100));
            cases.push((cell("reopen", migrate), &[[3, 0, 0]], 100));
        }
        let (sentence, evidence) = told(EventKind::Reload, &cases);
        assert_eq!(
            sentence,
            "3 reloads lose 0 of 300 connections with inherit, 9 with reopen; counts are sums over 3 settings."
        );
        assert_eq!(evidence.len(), 4, "what lost nothing shares a line: {evidence:?}");
    }
}
