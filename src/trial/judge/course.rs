//! How a trial went over time: the faults of its workers, and whether its two halves agree.

use std::time::Duration;

use crate::{
    record::{Change, EventRow, FaultOutcome, Grounds, Series},
    scenario::Fault,
    stats::drift_within,
};

/// Mean length of a worker's queue below which its changes do not matter.
const SHORT_QUEUE: f64 = 5.0;

/// The faults that were carried out, and those that were not.
pub(super) fn faults(asked: &[Fault], carried_out: &[EventRow]) -> Option<Grounds> {
    let outcome = |fault: &Fault| FaultOutcome {
        kind: fault.kind.event(),
        worker: fault.worker,
        carried_out: carried_out.iter().find(|row| row.event == fault.number).map(|row| (row.at_s, row.lasted_s)),
    };
    (!asked.is_empty()).then(|| Grounds::Faults { faults: asked.iter().map(outcome).collect() })
}

/// Whether the two halves of the measured window differ in accepts or in queue lengths.
pub(super) fn drift(
    series: &Series,
    warmup: Duration,
    duration_s: f64,
    workers: usize,
    faults: &[Fault],
) -> Option<Grounds> {
    // Faults change a trial on purpose.
    if series.interval_ms == 0 || !faults.is_empty() {
        return None;
    }
    let rows = |seconds: f64| (seconds * 1e3 / series.interval_ms as f64).round() as usize;
    let warmup = rows(warmup.as_secs_f64());
    let measured = |all: &[Vec<u64>]| -> Vec<f64> {
        let window = all.iter().skip(warmup).take(rows(duration_s));
        window.map(|row| row.iter().sum::<u64>() as f64).collect()
    };
    let per_second = 1e3 / series.interval_ms as f64;
    let accepts_per_s = drift_within(&measured(&series.accepted))
        .map(|Change { before, after }| Change { before: before * per_second, after: after * per_second });
    // A shared queue is repeated in every worker's column, which does not affect the ratio of the halves.
    let queued = drift_within(&measured(&series.queue_peak))
        .filter(|change| change.before.max(change.after) >= SHORT_QUEUE * workers as f64);
    (accepts_per_s.is_some() || queued.is_some()).then_some(Grounds::DriftInTrial { accepts_per_s, queued })
}

#[cfg(test)]
mod tests {
    use super::{super::words, *};
    use crate::scenario::FaultKind;

    #[test]
    fn every_fault_is_named() {
        assert_eq!(faults(&[], &[]), None);
        let asked = [(0, FaultKind::Stall(None)), (2, FaultKind::Kill)];
        let asked = asked.map(|(number, kind)| Fault { number, worker: 1, at: Duration::from_secs(1), kind });
        let row = EventRow { event: 0, at_s: 1.004, lasted_s: 0.5, ..EventRow::default() };
        assert_eq!(
            words(faults(&asked, &[row])).unwrap(),
            "faults: stall of worker 1 at 1.00 s for 0.50 s, kill of worker 1 not carried out: the load, or the fault's time, was \
             over before it could begin"
        );
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
        let said = |series: &Series, faults: &[Fault]| words(drift(series, Duration::from_secs(1), 2.0, 2, faults));
        let faster = series(900, 100, 112, 0);
        let halves = "drift-in-trial: 1000 accepts/s in the first half, 1120 in the second";
        assert_eq!(said(&faster, &[]).unwrap(), halves);
        let fault = Fault { number: 0, worker: 0, at: Duration::from_secs(1), kind: FaultKind::Kill };
        assert_eq!(said(&faster, &[fault]), None, "faults change a trial on purpose");
        for (same, why) in [
            (series(900, 100, 111, 0), "the warm-up does not count, nor a tenth"),
            (series(100, 100, 100, 4), "queues are short"),
            (Series { interval_ms: 0, ..series(900, 100, 900, 9) }, "there are no samples"),
        ] {
            assert_eq!(said(&same, &[]), None, "{why}");
        }
        let queues = said(&series(100, 100, 100, 5), &[]);
        assert_eq!(
            queues.unwrap(),
            "drift-in-trial: queues of up to 0.0 connections in the first half, 10.0 in the second"
        );
    }
}
