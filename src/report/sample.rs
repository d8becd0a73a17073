//! Made-up records with known answers, for tests of reports.

use hdrhistogram::Histogram;
use serde_json::{Value as Json, json};

use super::{Reading, distributions::Collector};
use crate::{
    record::{
        Connections, Draws, EventKind, EventRow, Latencies, LatencySummary, MemberRow, Outcome, Rates, RawRecord,
        Series, TrialRecord, WaitEnd, WaitMethod, WorkerCounts,
    },
    scenario::Whole,
    stats::{self, Record, fixture},
};

/// A record being made.
pub struct Sample {
    question: String,
    trials: Vec<TrialRecord>,
    waits: Vec<Histogram<u64>>,
}

impl Sample {
    pub fn new(question: &str) -> Self {
        Self { question: question.to_owned(), trials: Vec::new(), waits: Vec::new() }
    }

    /// Adds a valid trial of a cell whose workers accepted these numbers of connections, which waited 1, 2, 3 … times `wait_ns`.
    pub fn trial(&mut self, cell: Json, accepts: &[u64], wait_ns: u64) -> &mut TrialRecord {
        let number = self.trials.len();
        let mut waits = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        (1..=accepts.iter().sum::<u64>()).for_each(|i| waits.record(i * wait_ns).unwrap());
        let repetition = self.trials.iter().filter(|trial| Json::Object(trial.cell.clone()) == cell).count();
        let accept_wait = LatencySummary::of_waits(&waits, WaitMethod::SockOps, Some(WaitEnd::Serving));
        self.waits.push(waits);
        let worker = |(worker, accepted): (usize, &u64)| MemberRow {
            member: worker,
            registration_rank: worker,
            total: WorkerCounts { accepted: *accepted, ..WorkerCounts::default() },
            ..MemberRow::default()
        };
        let total = accepts.iter().sum();
        let trial = TrialRecord {
            repetition,
            cell_index: self.index(&cell),
            rates: Rates { offered_per_s: Some(1_000.0), ..Rates::default() },
            connections: Connections { established: total, accepted: total, ..Connections::default() },
            latency_ns: Latencies { accept_wait, ..Latencies::default() },
            distribution: stats::distribution(accepts, Draws::Connections),
            workers: accepts.iter().enumerate().map(worker).collect(),
            series: Series {
                interval_ms: 100,
                accepted: vec![accepts.to_vec(); 10],
                queue_depth: vec![accepts.to_vec(); 10],
                queue_peak: vec![accepts.to_vec(); 10],
                open: vec![accepts.to_vec(); 10],
                ..Series::default()
            },
            ..fixture::trial(number, &cell, Outcome::Valid)
        };
        self.trials.push(trial);
        self.trials.last_mut().unwrap()
    }

    fn index(&self, cell: &Json) -> usize {
        let known = self.trials.iter().find(|trial| Json::Object(trial.cell.clone()) == *cell);
        known.map_or_else(
            || self.trials.iter().map(|trial| trial.cell_index + 1).max().unwrap_or(0),
            |trial| trial.cell_index,
        )
    }

    pub fn reading(self) -> Reading {
        let scenario = format!("name = \"made-up\"\nquestion = {:?}\n[load]\nwarmup = \"200ms\"\n", self.question);
        let whole = Whole::parse("made-up.toml", &scenario).unwrap();
        let host = json!({ "kernel": "6.18", "cpus_allowed": 2, "cpu": "made up", "command": ["listenbench", "run", "made-up"], "sysctls": {} });
        let record = Record { raw: RawRecord { scenario, host, trials: self.trials, cut_off: false }, whole };
        let summary = stats::summarize(&record);
        let mut collector = Collector::new(&record, &summary);
        self.waits.into_iter().enumerate().for_each(|(trial, waits)| collector.add(trial, "accept_wait", waits));
        Reading { distributions: collector.distributions(), summary, record }
    }
}

/// A trial that did not run.
pub fn fail(trial: &mut TrialRecord, why: &str) {
    trial.outcome = Outcome::Failed;
    trial.error = Some(why.to_owned());
    trial.workers.clear();
    trial.series = Series::default();
}

/// A worker stopped for half of the trial.
pub fn stall() -> EventRow {
    EventRow { kind: EventKind::Stall, worker: 1, at_s: 0.3, lasted_s: 0.5, ..EventRow::default() }
}

/// Two strategies, five trials each: the second waits `times` as long and gives nearly all connections to its first worker.
pub fn two_strategies(times: u64) -> Reading {
    let mut sample = Sample::new("Which of the two?");
    for repetition in 0..5_u64 {
        sample.trial(
            json!({ "strategy": "reuseport" }),
            &[118 + repetition, 122 - repetition],
            1_000 + 10 * repetition,
        );
        sample.trial(json!({ "strategy": "shared" }), &[230, 10], times * 1_000 + 10 * repetition);
    }
    sample.reading()
}
