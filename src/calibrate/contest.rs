//! The contest: in each round, every contestant runs the same exchange once, in random order.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Result, bail};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::bare;
use crate::{
    context::Role,
    ipc::{
        control::Recording,
        family::{self, Cut, Patience},
    },
    load::Sizing,
    record::{BareProcesses, Contestant, Outcome, Round, Run, TrialRecord},
    scenario::{Bound, Mode, Plan, Scenario, ServiceTime, Span, Stamps, Transport, Trial},
    trial::{self, Job},
};

/// Warm-up before the measured window.
const WARM_UP: Duration = Duration::from_millis(200);
/// Time a run may take beyond its window.
const PATIENCE: Duration = Duration::from_secs(60);
/// A blocking process handles one connection at a time and sleeps while the other side works, so several of them
/// replace one process of the harness. These numbers keep the processors busy and gave the highest rate: 30,000/s on
/// two processors, against 26,000/s with eight clients each and 18,000/s with two of each.
const SERVERS_EACH: usize = 8;
const CLIENTS_EACH: usize = 16;

/// Called with the round and the contestant when a run begins.
pub type OnRun<'a> = &'a mut dyn FnMut(usize, Contestant);

/// What every run of the contest uses.
#[derive(Debug)]
pub struct Contest {
    plan: Plan,
    sizing: Sizing,
    span: Duration,
    stamps: bool,
    bare: BareProcesses,
}

/// Checks that the bare loop can make a scenario's exchange and that comparing against it shows what the harness costs.
pub fn fits(scenario: &Scenario) -> Result<(), String> {
    let requires = |what: &str, remedy: &str| Err(format!("calibrate requires {what}: {remedy}"));
    let Some(load) = scenario.only_load() else {
        return requires("a single population", "use a scenario with one [load]");
    };
    if !load.start.is_zero() || load.end.is_some() {
        return requires("a load that runs all the time", "leave out load.start and load.end");
    }
    if scenario.fill.is_some() {
        return requires("a scenario with a load", "kind \"ports\" has none");
    }
    if scenario.protocol.has(Transport::Udp) {
        return requires("connections rather than datagrams", "--set protocol=tcp");
    }
    if !matches!(load.mode, Mode::Closed { .. }) {
        return requires("a load limited only by the machine", "--set load.mode=closed");
    }
    if !load.hold.is_zero() {
        return requires("connections that end with the reply", "--set load.hold=0s");
    }
    if scenario.server.service_time != ServiceTime::Fixed(Duration::ZERO) {
        return requires("requests without service time", "--set server.service_time=0s");
    }
    if !scenario.server.accept_delay.is_zero() || !scenario.events.is_empty() {
        return requires("undisturbed workers", "use a scenario without [[event]] and server.accept_delay");
    }
    Ok(())
}

impl Contest {
    /// A contest over the first cell of a plan. `stamps`: whether exact stamps take part.
    pub fn new(mut plan: Plan, sizing: Sizing, span: Duration, stamps: bool) -> Self {
        let scenario = &mut plan.cells[0].scenario;
        scenario.span = Span { warmup: WARM_UP, bound: Bound::Duration(span), until_traces_end: false };
        scenario.deadline = scenario.deadline.max(WARM_UP + span + PATIENCE);
        let bare =
            BareProcesses { servers: scenario.server.workers * SERVERS_EACH, clients: sizing.loaders() * CLIENTS_EACH };
        Self { plan, sizing, span, stamps, bare }
    }

    /// The bare loop's processes.
    pub fn bare(&self) -> BareProcesses {
        self.bare
    }

    pub fn runs(&self, rounds: usize) -> usize {
        rounds * self.contestants().count()
    }

    /// The least time this many rounds take.
    pub fn length(&self, rounds: usize) -> Duration {
        (WARM_UP + self.span) * u32::try_from(self.runs(rounds)).unwrap_or(u32::MAX)
    }

    fn contestants(&self) -> impl Iterator<Item = Contestant> {
        Contestant::ALL.into_iter().filter(|contestant| self.stamps || *contestant != Contestant::ExactStamps)
    }

    /// Runs this many rounds. Beside them, returns why there are fewer: [`Cut::Interrupted`] once `interrupted` is set, or the error that
    /// ended the last run, which is left out.
    pub fn hold(&mut self, rounds: usize, interrupted: &AtomicBool, on_run: OnRun<'_>) -> (Vec<Round>, Result<()>) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.plan.whole.seed);
        let mut order: Vec<Contestant> = self.contestants().collect();
        let mut held: Vec<Round> = Vec::with_capacity(rounds);
        for round in 0..rounds {
            order.shuffle(&mut rng);
            for (place, &contestant) in order.iter().enumerate() {
                on_run(round, contestant);
                let run = match contestant {
                    Contestant::Bare => self.bare_run(interrupted),
                    harness => self.harness_run(harness, round, interrupted),
                };
                match run {
                    Ok(run) if place == 0 => held.push(Round { runs: vec![run] }),
                    Ok(run) => held[round].runs.push(run),
                    Err(error) => return (held, Err(error)),
                }
            }
        }
        (held, Ok(()))
    }

    fn bare_run(&self, interrupted: &AtomicBool) -> Result<Run> {
        let cell = &self.plan.cells[0];
        let patience = Patience::of(WARM_UP + self.span + PATIENCE).unless(interrupted);
        let score = family::ask("lb:bare", patience, || bare::run(cell, self.bare, WARM_UP, self.span))?;
        Ok(Run {
            contestant: Contestant::Bare,
            connections_per_s: score.connections_per_s,
            connections: score.connections,
            active_opens: score.active_opens,
            cpu_ns_per_connection: score.cpu_ns_per_connection,
            verdicts: Vec::new(),
        })
    }

    fn harness_run(&mut self, whose: Contestant, round: usize, interrupted: &AtomicBool) -> Result<Run> {
        let exact = whose == Contestant::ExactStamps;
        self.plan.cells[0].scenario.stamps = if exact { Stamps::SockOps } else { Stamps::ConnectCall };
        let job = Job {
            plan: &self.plan,
            trial: Trial { number: round, repetition: round, cell: 0 },
            sizing: &self.sizing,
            searched: None,
            place: None,
            stamps_allowed: self.stamps,
            recording: if whose == Contestant::RecordingOff { Recording::Off } else { Recording::On },
            seen: None,
            allow_remote: false,
            role: Role::default(),
            hosts: None,
        };
        let record = trial::run(job, interrupted, &mut |_| ())?.record;
        if interrupted.load(Relaxed) {
            return Err(Cut::Interrupted.into());
        }
        if record.outcome != Outcome::Valid {
            let verdicts = record.verdicts.iter().filter(|verdict| verdict.invalidates);
            let why: Vec<&str> = verdicts.map(|verdict| &verdict.detail[..]).chain(record.error.as_deref()).collect();
            bail!("{}: the trial is unusable: {}", whose.words(), why.join("; "));
        }
        Ok(run(whose, &record))
    }
}

fn run(contestant: Contestant, record: &TrialRecord) -> Run {
    let workers = record.workers.iter().filter_map(|worker| worker.total.cpu_ns());
    let loaders = record.loaders.iter().map(|loader| loader.cpu_user_ns + loader.cpu_system_ns);
    let helper = record.helper.iter().filter_map(|helper| helper.total.cpu_ns());
    let observer = record.observer.cpu_user_ns + record.observer.cpu_system_ns;
    let cpu_ns = workers.chain(loaders).chain(helper).sum::<u64>() + observer;
    Run {
        contestant,
        connections_per_s: record.rates.accepted_per_s.unwrap_or(0.0),
        connections: record.connections.established,
        active_opens: record.kernel.get("ActiveOpens").copied().unwrap_or(0),
        cpu_ns_per_connection: cpu_ns as f64 / record.connections.established.max(1) as f64,
        verdicts: record.verdicts.iter().map(|verdict| verdict.name.to_string()).collect(),
    }
}
