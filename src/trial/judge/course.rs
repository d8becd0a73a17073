//! How a trial went over time: the events of its workers, and whether its two halves agree.

use std::time::Duration;

use crate::{
    record::{Change, EventOutcome, EventRow, Grounds, Series},
    scenario::Event,
    stats::drift_within,
};

/// Mean length of a worker's queue below which its changes do not matter.
const SHORT_QUEUE: f64 = 5.0;

/// The events that were carried out, and those that were not.
pub(super) fn events(asked: &[Event], carried_out: &[EventRow]) -> Option<Grounds> {
    let outcome = |event: &Event| EventOutcome {
        kind: event.act.kind(),
        how: event.act.how(),
        worker: event.act.worker(),
        carried_out: carried_out
            .iter()
            .find(|row| (row.event, row.occurrence) == (event.number, event.occurrence))
            .map(|row| (row.at_s, row.lasted_s)),
    };
    (!asked.is_empty()).then(|| Grounds::Events { events: asked.iter().map(outcome).collect() })
}

/// The first event of which something could not be done to another server.
pub(super) fn event_failed(rows: &[EventRow]) -> Option<Grounds> {
    let failure = |row: &EventRow| row.done.as_ref()?.failure();
    let first = rows.iter().find(|row| failure(row).is_some())?;
    let of_it = || rows.iter().filter(|row| row.event == first.event);
    Some(Grounds::EventFailed {
        event: first.event,
        kind: first.kind,
        failed: of_it().filter(|row| failure(row).is_some()).count(),
        occurrences: of_it().count(),
        why: failure(first)?,
    })
}

/// Whether the two halves of the measured window differ in accepts or in queue lengths, of a trial that nothing is to change meanwhile.
pub(super) fn drift(
    series: &Series,
    warmup: Duration,
    duration_s: f64,
    workers: usize,
    is_steady: bool,
) -> Option<Grounds> {
    if series.interval_ms == 0 || !is_steady {
        return None;
    }
    let rows = |seconds: f64| (seconds * 1e3 / series.interval_ms as f64).round() as usize;
    let warmup = rows(warmup.as_secs_f64());
    let measured = |all: &[Vec<u64>]| -> Vec<f64> {
        let window = all.iter().skip(warmup).take(rows(duration_s));
        window.map(|row| row.iter().sum::<u64>() as f64).collect()
    };
    let mean =
        |all: &[Vec<u64>]| -> Vec<f64> { measured(all).into_iter().map(|sum| sum / workers.max(1) as f64).collect() };
    let per_second = 1e3 / series.interval_ms as f64;
    let accepts_per_s = drift_within(&measured(&series.accepted))
        .map(|Change { before, after }| Change { before: before * per_second, after: after * per_second });
    // The mean over workers is a queue's length also where all of them share one, which is in every worker's column.
    let queued =
        drift_within(&mean(&series.queue_peak)).filter(|change| change.before.max(change.after) >= SHORT_QUEUE);
    (accepts_per_s.is_some() || queued.is_some()).then_some(Grounds::DriftInTrial { accepts_per_s, queued })
}

#[cfg(test)]
mod tests {
    use super::{super::words, *};
    use crate::record::{Done, Exit};
    use crate::scenario::Act;

    #[test]
    fn every_event_is_named() {
        assert_eq!(events(&[], &[]), None);
        let leave = |number, occurrence| (number, occurrence, Act::Leave { worker: 0, drain: Duration::ZERO });
        let asked =
            [(0, 0, Act::Stall { worker: 1, lasts: None }), (2, 0, Act::Kill { worker: 1 }), leave(3, 0), leave(3, 1)];
        let at = Duration::from_secs(1);
        let asked = asked.map(|(number, occurrence, act)| Event { number, occurrence, at, act });
        let row = |event, occurrence| EventRow { event, occurrence, at_s: 1.004, lasted_s: 0.5, ..EventRow::default() };
        assert_eq!(
            words(events(&asked, &[row(0, 0), row(3, 1)])).unwrap(),
            "events: stall of worker 1 at 1.00 s for 0.50 s, kill of worker 1 not carried out: the load, or the event's time, was \
             over before it could begin, leave of worker 0 not carried out: the load, or the event's time, was over before it could \
             begin, leave of worker 0 at 1.00 s for 0.50 s"
        );
    }

    #[test]
    fn what_could_not_be_done_is_named_with_how_often() {
        let row = |event, error: Option<&str>, exit| {
            let done = Some(Done { error: error.map(str::to_owned), exit, lasted_s: None });
            EventRow { event, done, ..EventRow::default() }
        };
        assert_eq!(event_failed(&[EventRow::default(), row(0, None, None), row(0, None, Some(Exit::Ok))]), None);
        let why = "kill(7, SIGHUP): EPERM";
        assert_eq!(
            words(event_failed(&[row(1, Some(why), None)])).unwrap(),
            format!("event-failed: event 1 (stall): {why}")
        );
        let rows = [row(0, None, Some(Exit::Ok)), row(2, None, Some(Exit::Status(1))), row(2, None, Some(Exit::Ok))];
        assert_eq!(words(event_failed(&rows)).unwrap(), "event-failed: event 2 (stall), 1 of 2 times: exit status 1");
    }

    #[test]
    fn halves_are_those_of_the_window() {
        let series = |warmup: u64, first: u64, second: u64, queue: u64| Series {
            interval_ms: 100,
            accepted: (0..30)
                .map(|row| {
                    vec![
                        if row < 10 {
                            warmup
                        } else if row < 20 {
                            first
                        } else {
                            second
                        },
                        0,
                    ]
                })
                .collect(),
            queue_peak: (0..30).map(|row| vec![if row < 20 { 0 } else { queue }; 2]).collect(),
            ..Series::default()
        };
        let said = |series: &Series, is_steady| words(drift(series, Duration::from_secs(1), 2.0, 2, is_steady));
        let faster = series(900, 100, 112, 0);
        let halves = "drift-in-trial: 1000 accepts/s in the first half, 1120 in the second";
        assert_eq!(said(&faster, true).unwrap(), halves);
        assert_eq!(said(&faster, false), None, "it is changed on purpose");
        for (same, why) in [
            (series(900, 100, 111, 0), "the warm-up does not count, nor a tenth"),
            (series(100, 100, 100, 4), "queues are short"),
            (Series { interval_ms: 0, ..series(900, 100, 900, 9) }, "there are no samples"),
        ] {
            assert_eq!(said(&same, true), None, "{why}");
        }
        let queues = said(&series(100, 100, 100, 5), true);
        assert_eq!(
            queues.unwrap(),
            "drift-in-trial: queue peaks of 0.0 connections on average in the first half, 5.0 in the second"
        );
    }
}
