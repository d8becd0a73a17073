//! What the screen shows, as plain values. [`super::draw`] draws them at any size.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    flaw,
    log::{Log, Mark},
    pace::Pace,
    results::{self, Results},
    seen::{Observer, Seen},
    waiting,
};
use crate::{
    format::thousands,
    record::{TrialRecord, VerdictName},
    scenario::{Bound, Protocol, Scenario, Transport},
    trial::{Job, Stage, View},
};

/// Rates are averages over this span.
const SPAN: Duration = Duration::from_secs(1);
/// Points of a trial's course, at most: more are thinned out.
const COURSE_LIMIT: usize = 4_096;

pub(super) struct Model {
    pub scenario: String,
    pub question: String,
    /// `3 of 20`.
    pub position: String,
    pub left: Option<String>,
    /// What the running trial waits for.
    pub waits: String,
    pub trial: Option<TrialModel>,
    pub log: Log,
    pub results: Results,
    /// Whether the user has asked to quit.
    pub quitting: bool,
    /// Advisory verdicts that have been shown in full.
    verdicts: BTreeSet<VerdictName>,
    observer: Observer,
}

/// The running trial.
pub(super) struct TrialModel {
    pub number: usize,
    pub repetition: usize,
    pub cell: String,
    /// From the barrier to the end, if known.
    pub length: Option<Duration>,
    /// The number of connections that ends the trial, if one does.
    pub connections: Option<u64>,
    pub seen: Option<Seen>,
    /// Per second over the last second, all workers together; 0 before the first.
    pub rate: f64,
    /// The same for each worker.
    pub rates: Vec<f64>,
    /// Seconds since the barrier, and the rate per second since the previous look.
    pub course: Vec<(f64, u64)>,
    looks: VecDeque<(Instant, Vec<u64>)>,
    began: Instant,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            scenario: String::new(),
            question: String::new(),
            position: String::new(),
            left: None,
            waits: String::new(),
            trial: None,
            log: Log::default(),
            results: Results::default(),
            quitting: false,
            verdicts: BTreeSet::new(),
            observer: Observer::new(),
        }
    }

    pub(super) fn begin(&mut self, job: Job<'_>) {
        self.waits.clear();
        self.scenario.clone_from(&job.plan.whole.name);
        self.question.clone_from(&job.plan.whole.question);
        self.trial = Some(TrialModel::new(job.trial.number, job.trial.repetition, job.label(), &job.cell().scenario));
        self.observer.reset();
    }

    pub(super) fn tick(&mut self, job: Job<'_>, view: &View<'_>, pace: &Pace) {
        self.place(pace);
        self.waits = waiting::waits_for(&job.cell().scenario, job.hosts.is_some(), view);
        let now = Instant::now();
        let mut seen = self.observer.look(view);
        if let (Some(_), Some(trial)) = (seen.ports, &self.trial) {
            // Filling ports has no barrier.
            seen.elapsed = now - trial.began;
        }
        self.saw(seen, now);
    }

    /// Updates the position in the run.
    pub(super) fn place(&mut self, pace: &Pace) {
        self.position = pace.position();
        self.left = pace.left();
    }

    /// Takes in one look at the trial, and logs what has started to go wrong since the previous one.
    pub(super) fn saw(&mut self, seen: Seen, now: Instant) {
        let Some(trial) = &mut self.trial else { return };
        let before = trial.seen.as_ref();
        let begun = |count: fn(&Seen) -> u64| before.map_or(0, count) == 0 && count(&seen) > 0;
        let head = format!("trial {}", trial.number);
        let at = format!("after {:.1} s", seen.elapsed.as_secs_f64());
        if begun(|seen| seen.failed) {
            self.log.add(
                Mark::Advice,
                head.clone(),
                format!("connections fail: {} {at}", thousands(seen.failed as f64)),
            );
        }
        if begun(|seen| seen.dropped) {
            let text = format!(
                "listeners drop segments because their queues are full: {} {at}",
                thousands(seen.dropped as f64)
            );
            self.log.add(Mark::Advice, head.clone(), text);
        }
        if begun(|seen| u64::from(seen.ports.is_some_and(|ports| ports.wall))) {
            self.log.add(Mark::Note, head, format!("the wall: no port is left {at}"));
        }
        trial.saw(seen, now);
    }

    pub(super) fn end(&mut self, job: Job<'_>, record: &TrialRecord) {
        self.ended(&job.label(), record);
    }

    pub(super) fn ended(&mut self, label: &str, record: &TrialRecord) {
        let head = format!("trial {}", record.trial);
        match flaw(record) {
            Some(why) => {
                let how = if record.error.is_some() { "failed" } else { "invalid" };
                self.log.add(Mark::Bad, format!("{head} {how}"), format!("{label}: {why}"));
            }
            None => self.log.add(Mark::Ended, head, format!("{label}: {}", results::in_words(record))),
        }
        for verdict in record.verdicts.iter().filter(|verdict| !verdict.invalidates) {
            let known = self.verdicts.contains(&verdict.name);
            let add = if known { Log::add_again } else { Log::add };
            add(&mut self.log, Mark::Advice, verdict.name.to_string(), verdict.detail.as_str());
            self.verdicts.insert(verdict.name);
        }
        self.results.add(label, record);
    }
}

impl TrialModel {
    pub(super) fn new(number: usize, repetition: usize, cell: String, scenario: &Scenario) -> Self {
        let connections = match scenario.span.bound {
            Bound::Connections(count) if scenario.fill.is_none() => Some(count),
            Bound::Connections(_) | Bound::Duration(_) => None,
        };
        let (looks, course, began) = (VecDeque::new(), Vec::new(), Instant::now());
        Self {
            number,
            repetition,
            cell,
            length: scenario.length(),
            connections,
            seen: None,
            rate: 0.0,
            rates: Vec::new(),
            course,
            looks,
            began,
        }
    }

    fn saw(&mut self, seen: Seen, now: Instant) {
        let counts: Vec<u64> = match seen.ports {
            Some(ports) => vec![ports.open],
            None if seen.is_anothers() => vec![seen.established],
            None => seen.workers.iter().map(|worker| taken(seen.protocol, worker.accepted, worker.datagrams)).collect(),
        };
        if self.looks.is_empty() {
            self.looks.push_back((now.checked_sub(seen.elapsed).unwrap_or(now), vec![0; counts.len()]));
        }
        let since = |(then, before): &(Instant, Vec<u64>)| -> Vec<f64> {
            let mut seconds = (now - *then).as_secs_f64();
            // Nothing is counted before the barrier, which filling ports does not have.
            if seen.ports.is_none() {
                seconds = seconds.min(seen.elapsed.as_secs_f64());
            }
            counts
                .iter()
                .zip(before)
                .map(|(now, before)| now.saturating_sub(*before) as f64 / seconds.max(1e-3))
                .collect()
        };
        if let Some(last) = self.looks.back().filter(|_| seen.stage != Stage::SetUp) {
            let rate: f64 = since(last).iter().sum();
            self.course.push((seen.elapsed.as_secs_f64(), rate.round() as u64));
        }
        if self.course.len() > COURSE_LIMIT {
            let mut number = 0;
            self.course.retain(|_| {
                number += 1;
                number % 2 == 0
            });
        }
        // One look from before the span is kept, so that rates cover all of it.
        while self.looks.get(1).is_some_and(|(then, _)| now - *then >= SPAN) {
            self.looks.pop_front();
        }
        self.rates = self.looks.front().map_or_else(|| vec![0.0; counts.len()], since);
        self.rate = self.rates.iter().sum();
        self.looks.push_back((now, counts));
        self.seen = Some(seen);
    }

    /// What rates count.
    pub(super) fn unit(&self) -> &'static str {
        match &self.seen {
            Some(seen) if seen.ports.is_some() => "connections opened/s",
            Some(seen) if seen.is_anothers() => "connections/s",
            Some(seen) if !seen.protocol.has(Transport::Tcp) => "datagrams/s",
            _ => "accepts/s",
        }
    }
}

/// What a worker's rate counts: connections, or datagrams if there are none.
pub(super) fn taken(protocol: Protocol, accepted: u64, datagrams: u64) -> u64 {
    if protocol.has(Transport::Tcp) { accepted } else { datagrams }
}
