//! A loader's process: set-up, barrier, load, account.

use anyhow::{Context, Result};

use super::{
    client,
    connections::Connections,
    drive::Drive,
    engine,
    measures::Measures,
    pacer::{Pacer, Part},
    report::LoaderReport,
    source::{self, Share},
    work::Work,
};
use crate::{
    context::TrialContext,
    ipc::{interner::Interner, tally::Tally},
    observe::ports::Range,
    scenario::{Waiting, keys},
    sys::{affinity, clock, limits},
};

/// Bytes of the longest request.
const REQUEST_BYTES: usize = keys::SERVER_REQUEST_BYTES.max();

/// What a forked loader needs.
pub struct Loader {
    /// Which part of the load is this one's.
    pub part: Part,
    /// What it shares with the trial's other processes.
    pub context: TrialContext,
}

impl Loader {
    /// Sets up, waits for the barrier, runs the load to its end and returns account and histograms.
    pub fn run(self) -> Result<(LoaderReport, Measures)> {
        let room = limits::room(limits::raise_open_files().context("raising the limit of open files")?);
        let allowed = affinity::allowed_cpus().context("sched_getaffinity")?;
        if let Some(cpu) = self.context.scenario.load.pin.processor(self.part.loader, &allowed) {
            affinity::pin_to(cpu)
                .with_context(|| format!("pinning the loader to processor {cpu} (sched_setaffinity)"))?;
        }
        let scheduler = self.context.scenario.load.scheduler.enforce(keys::LOAD_SCHEDULER)?;
        clock::be_exact().context("prctl(PR_SET_TIMERSLACK)")?;
        let mut engine = engine::build(&self.context.scenario)?;
        let measures = Measures::new(&self.context.scenario, self.context.waits, self.context.control.records());
        let client = client::build(&self.context.scenario, &self.context.target.to_string());
        let range = Range::read().context("reading ip_local_port_range")?;
        let groups = source::groups(&self.context.scenario.sources, &[self.context.target]);
        let share = Share { process: self.part.loader, processes: self.part.loaders };
        let server = &self.context.scenario.server;
        let window = self.context.control.wait_for_start();
        let before = clock::cpu_use();
        let mut work = Work {
            pacer: Pacer::new(&self.context.scenario, window, self.part, self.context.seed, self.context.repetition),
            source: source::build(
                self.context.scenario.sources.selection,
                &range,
                groups.len(),
                share,
                self.context.seed,
            ),
            groups,
            window,
            client,
            connections: Connections::with_capacity(room),
            picked: Interner::default(),
            nonce: 0,
            udp_owed: 0.0,
            follow_up_ns: 0,
            strands: (0..server.workers)
                .any(|worker| server.strategy.waiting(worker, server.workers) != Waiting::Never),
            request: Vec::with_capacity(REQUEST_BYTES),
            measures,
            errors: Tally::default(),
            report: LoaderReport::default(),
            loader: self,
        };
        Drive::new(&mut work, engine.as_mut()).run()?;
        let cpu = clock::cpu_use();
        let measured = work.pacer.measured();
        let report = LoaderReport {
            measured_planned: measured.count,
            measured_first_ns: measured.first_ns,
            measured_last_ns: measured.last_ns,
            errors: work.errors.counts(),
            overflows: work.measures.overflows(),
            schedule: work.pacer.digest(),
            engine: engine.name().to_owned(),
            scheduler,
            cpu_user_ns: cpu.user_ns - before.user_ns,
            cpu_system_ns: cpu.system_ns - before.system_ns,
            voluntary_switches: cpu.voluntary_switches - before.voluntary_switches,
            involuntary_switches: cpu.involuntary_switches - before.involuntary_switches,
            ..work.report
        };
        Ok((report, work.measures))
    }
}
