//! Warm-up and events: shaded parts of a trial's time.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    record::{EventKind, EventRow, TrialRecord},
    report::plot::figure::Span,
};

/// Warm-up and events, and what the events' letters stand for.
pub(super) fn spans(scenario: &str, trial: &TrialRecord) -> (Vec<Span>, Vec<String>) {
    let mut spans = Vec::new();
    if let Some(warmup) = warmup(scenario, trial).filter(|warmup| *warmup > 0.0) {
        spans.push(Span { from: 0.0, to: warmup, label: String::new(), event: false });
    }
    let mut meanings = Vec::new();
    let numbers: BTreeSet<usize> = trial.events.iter().map(|event| event.event).collect();
    for (letter, number) in ('A'..='Z').zip(numbers) {
        let occurrences: Vec<&EventRow> = trial.events.iter().filter(|event| event.event == number).collect();
        for event in &occurrences {
            let (from, to) = (event.at_s, event.at_s + event.lasted_s);
            match spans.iter_mut().find(|span| span.event && (span.from - from).abs() < 0.05) {
                Some(span) => span.label.push(letter),
                None => spans.push(Span { from, to, label: letter.to_string(), event: true }),
            }
        }
        meanings.push(format!("{letter}: {}", meaning(&occurrences)));
    }
    (spans, meanings)
}

/// What an event's letter stands for, wherever it stands.
fn meaning(occurrences: &[&EventRow]) -> String {
    match occurrences {
        [] => String::new(),
        [once] => format!("{} from {:.2} s to {:.2} s", state(once), once.at_s, once.at_s + once.lasted_s),
        [first, .., last] => {
            let longest = occurrences.iter().map(|event| event.lasted_s).fold(0.0, f64::max);
            let times = occurrences.len();
            let state = state(first);
            format!("{state}: {times} times from {:.2} s to {:.2} s, for up to {longest:.2} s", first.at_s, last.at_s)
        }
    }
}

/// What goes on during an event.
pub(super) fn state(event: &EventRow) -> String {
    let worker = |does: &str| match event.worker {
        Some(worker) => format!("worker {worker} {does}"),
        None => format!("a worker {does}"),
    };
    match event.kind {
        EventKind::Stall => worker("is stopped"),
        EventKind::Burn => worker("burns CPU"),
        EventKind::Kill => worker("is dead"),
        EventKind::Join => worker("has joined"),
        EventKind::Leave => worker("leaves"),
        EventKind::Reload => {
            "the server reloads".to_owned() + &event.how.map_or_else(String::new, |how| format!(" ({how})"))
        }
        EventKind::Signal | EventKind::Exec if event.is_reload() => "the server reloads".to_owned(),
        EventKind::Signal => "the server handles a signal".to_owned(),
        EventKind::Exec if event.drain_s.is_some() => "a command replaces the server's processes".to_owned(),
        EventKind::Exec => "a command has run".to_owned(),
    }
}

/// Length of the load before the measured window, in seconds, from the swept value or the scenario.
pub(super) fn warmup(scenario: &str, trial: &TrialRecord) -> Option<f64> {
    let table = scenario.parse::<toml::Table>().ok()?;
    // Any of several populations may name it for all.
    let of_all = match table.get("load")? {
        toml::Value::Array(loads) => loads.iter().find_map(|load| load.get("warmup")),
        load => load.get("warmup"),
    };
    let is_swept = |name: &str| name.rsplit('.').next() == Some("warmup");
    let swept = trial.cell.iter().find(|(name, _)| is_swept(name)).and_then(|(_, value)| value.as_str());
    let text = swept.or(of_all.and_then(toml::Value::as_str))?;
    humantime::parse_duration(text).as_ref().map(Duration::as_secs_f64).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{record::Outcome, stats::fixture};

    #[test]
    fn any_load_may_name_the_warm_up_of_all() {
        let of = |scenario: &str, cell: serde_json::Value| warmup(scenario, &fixture::trial(0, &cell, Outcome::Valid));
        let several = "[[load]]\nname = \"a\"\n[[load]]\nname = \"b\"\nwarmup = \"200ms\"\n";
        assert_eq!(of("[load]\nwarmup = \"100ms\"\n", json!({})), Some(0.1));
        assert_eq!(of(several, json!({})), Some(0.2));
        assert_eq!(of(several, json!({ "warmup": "300ms" })), Some(0.3));
        assert_eq!(of(several, json!({ "load.b.warmup": "300ms" })), Some(0.3));
        assert_eq!(of("[[load]]\nname = \"a\"\n", json!({})), None);
    }

    #[test]
    fn a_periodic_event_has_one_letter_and_a_mark_for_each_time() {
        let row = |event, occurrence, kind, at_s| EventRow {
            event,
            occurrence,
            kind,
            at_s,
            lasted_s: 0.2 + 0.1 * occurrence as f64,
            worker: (kind == EventKind::Stall).then_some(1),
            drain_s: (kind == EventKind::Signal).then_some(0.2),
            ..EventRow::default()
        };
        let events = vec![
            row(0, 0, EventKind::Signal, 0.5),
            row(0, 1, EventKind::Signal, 1.0),
            row(3, 0, EventKind::Stall, 1.02),
        ];
        let trial = crate::record::TrialRecord { events, ..fixture::trial(0, &json!({}), Outcome::Valid) };
        let (spans, meanings) = spans("", &trial);
        let marks: Vec<(f64, &str)> = spans.iter().map(|span| (span.from, &span.label[..])).collect();
        assert_eq!(marks, [(0.5, "A"), (1.0, "AB")]);
        assert_eq!(
            meanings,
            [
                "A: the server reloads: 2 times from 0.50 s to 1.00 s, for up to 0.30 s",
                "B: worker 1 is stopped from 1.02 s to 1.22 s"
            ]
        );
    }
}
