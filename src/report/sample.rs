//! Made-up records with known answers, for tests of reports.

use serde_json::{Value as Json, json};

use super::{
    Reading,
    distributions::{Collector, of_population},
};
use crate::{
    record::{
        Cause, Connections, CountedBy, Counts, Draws, ErrorCount, EventKind, EventRow, Latencies, LatencySummary,
        LoadConnections, LoadRow, MemberRow, Outcome, Rates, RawRecord, Series, Step, Subject, SubjectKind,
        TrialRecord, WaitEnd, WaitMethod, WorkerCounts,
    },
    scenario::Whole,
    stats::{self, Record, fixture},
};

/// A record being made.
pub struct Sample {
    question: String,
    trials: Vec<TrialRecord>,
    waits: Vec<Counts>,
    /// Others, by trial and key among the distributions.
    others: Vec<(usize, String, Counts)>,
}

impl Sample {
    pub fn new(question: &str) -> Self {
        Self { question: question.to_owned(), trials: Vec::new(), waits: Vec::new(), others: Vec::new() }
    }

    /// Adds a valid trial of a cell whose workers accepted these numbers of connections, which waited 1, 2, 3 … times `wait_ns`.
    pub fn trial(&mut self, cell: Json, accepts: &[u64], wait_ns: u64) -> &mut TrialRecord {
        let number = self.trials.len();
        let waits = counts((1..=accepts.iter().sum::<u64>()).map(|i| i * wait_ns));
        let repetition = self.trials.iter().filter(|trial| Json::Object(trial.cell.clone()) == cell).count();
        let accept_wait = LatencySummary::of_waits(&waits, 0, WaitMethod::SockOps);
        self.waits.push(waits);
        let worker = |(worker, accepted): (usize, &u64)| MemberRow {
            member: worker,
            registration_rank: Some(worker),
            pid: 50 + worker as i32,
            tid: 50 + worker as i32,
            comm: format!("lb:worker{worker}"),
            counted_by: CountedBy::Own,
            total: WorkerCounts { accepted: Some(*accepted), ..WorkerCounts::default() },
            ..MemberRow::default()
        };
        let total = accepts.iter().sum();
        let trial = TrialRecord {
            repetition,
            cell_index: self.index(&cell),
            rates: Rates { offered_per_s: Some(1_000.0), ..Rates::default() },
            connections: Connections { established: total, accepted: Some(total), ..Connections::default() },
            latency_ns: Latencies { accept_wait, ..Latencies::default() },
            distribution: stats::distribution(accepts, drawn(&cell).map(|draws| (draws, accepts.to_vec()))),
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

    /// The same of a server that isn't listenbench's: processes of nginx, counted by a probe from outside.
    pub fn of_nginx(&mut self, cell: Json, accepts: &[u64], wait_ns: u64, ends: WaitEnd) -> &mut TrialRecord {
        let of_wait = |wait: &LatencySummary| LatencySummary {
            method: Some(WaitMethod::Tracepoint),
            ends: Some(ends),
            ..wait.clone()
        };
        let trial = self.trial(cell, accepts, wait_ns);
        trial.subject = Subject { kind: SubjectKind::Command, name: "nginx".to_owned(), ..Subject::default() };
        trial.latency_ns.accept_wait = of_wait(&trial.latency_ns.accept_wait);
        trial.distribution = stats::distribution(accepts, None);
        for (pid, row) in (100..).zip(&mut trial.workers) {
            *row = MemberRow {
                member: row.member,
                pid,
                tid: pid,
                comm: "nginx".to_owned(),
                counted_by: CountedBy::Tracepoint,
                total: WorkerCounts { accept_eagain: Some(7), ..row.total.clone() },
                accept_wait: Some(of_wait(&trial.latency_ns.accept_wait)),
                ..MemberRow::default()
            };
        }
        trial
    }

    /// Gives the last trial a population whose requests took 1, 2, 3 … times `response_ns`, and one attempt failed.
    pub fn population(&mut self, name: &str, requests: u64, response_ns: u64) {
        let responses = counts((1..=requests).map(|i| i * response_ns));
        let response = LatencySummary::with_lost(&responses, 1);
        let trial = self.trials.last_mut().unwrap();
        trial.loads.push(LoadRow {
            name: name.to_owned(),
            connections: LoadConnections {
                attempted: requests + 1,
                completed: requests,
                errors: vec![ErrorCount { phase: Step::Connect, errno: Cause::Deadline, count: 1 }],
                ..LoadConnections::default()
            },
            requests_completed: requests,
            latency_ns: Latencies { response, ..Latencies::default() },
            ..LoadRow::default()
        });
        self.others.push((self.trials.len() - 1, of_population(name, "response"), responses));
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
        let compare = fixture::competing(&self.trials);
        let whole = Whole { compare, ..Whole::parse("made-up.toml", &scenario).unwrap() };
        let host = json!({ "kernel": "6.18", "cpus_allowed": 2, "cpu": "made up", "command": ["listenbench", "run", "made-up"], "sysctls": {} });
        let record = Record { raw: RawRecord { scenario, host, trials: self.trials, flaws: Vec::new() }, whole };
        let summary = stats::summarize(&record);
        let mut collector = Collector::new(&record, &summary);
        self.waits.iter().enumerate().for_each(|(trial, waits)| collector.add(trial, "accept_wait", waits));
        self.others.iter().for_each(|(trial, key, values)| collector.add(*trial, key, values));
        Reading { distributions: collector.distributions(), summary, record, flaws: Vec::new() }
    }
}

fn counts(values: impl Iterator<Item = u64>) -> Counts {
    let mut counts = Counts::new(1, 60_000_000_000, 3).unwrap();
    counts.extend(values.map(|value| (value, 1)));
    counts
}

/// What falls by chance in a cell.
fn drawn(cell: &Json) -> Option<Draws> {
    (cell["strategy"] == "reuseport").then_some(Draws::Tuples)
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
    EventRow { kind: EventKind::Stall, worker: Some(1), at_s: 0.3, lasted_s: 0.5, ..EventRow::default() }
}

/// Our strategies and nginx in one scenario, six trials each: only waits of the same kind can be compared.
pub fn beside_nginx() -> Reading {
    let mut sample = Sample::new("Which server?");
    for repetition in 0..6_u64 {
        for (name, wait_ns) in [("reuseport", 4_000), ("shared", 9_000)] {
            sample.trial(json!({ "variant": name }), &[120, 120], wait_ns + 10 * repetition);
        }
        let mut nginx = |name, wait_ns, ends| {
            sample.of_nginx(json!({ "variant": name }), &[200, 40], wait_ns + 10 * repetition, ends);
        };
        nginx("nginx", 1_000, WaitEnd::Accept);
        nginx("nginx reuseport", 2_000, WaitEnd::Accept);
        nginx("a ring", 500, WaitEnd::Completion);
    }
    sample.reading()
}

/// Two strategies, five trials each, with kept connections beside a storm: the second keeps the kept ones waiting `times` as long.
pub fn mixed(times: u64) -> Reading {
    let mut sample = Sample::new("What does a storm do to kept connections?");
    for repetition in 0..5_u64 {
        for (strategy, times) in [("reuseport", 1), ("shared", times)] {
            sample.trial(json!({ "strategy": strategy }), &[120, 120], 1_000);
            sample.population("kept", 200, times * 1_000 + 10 * repetition);
            sample.population("storm", 400, 9_000 + repetition);
        }
    }
    sample.reading()
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
