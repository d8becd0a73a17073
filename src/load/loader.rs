//! A loader's process: set-up, barrier, load, account.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};

use super::{
    client,
    connections::Connections,
    drive::Drive,
    engine,
    measures::{Measures, Waits},
    pacer::{Pacer, Part},
    report::LoaderReport,
    source::{self, Share},
    work::Work,
};
use crate::{
    ipc::{control::Control, known::Known, ledger::Ledger, tally::Tally},
    observe::{ports::Range, stamps::Stamps},
    scenario::{Scenario, Waiting},
    sys::{affinity, clock, limits},
};

/// Bytes of the longest request.
const REQUEST_BYTES: usize = 65_536;

/// What a forked loader needs.
pub struct Loader {
    /// Which part of the load is this one's.
    pub part: Part,
    /// The cell's scenario.
    pub scenario: Arc<Scenario>,
    /// Where to connect.
    pub target: SocketAddr,
    /// Seed of the schedule.
    pub seed: u64,
    /// Repetition, so that each has another schedule, and each strategy the same.
    pub repetition: usize,
    /// The trial's control block.
    pub control: Arc<Control>,
    /// The trial's port ledger; there is none for another program's server.
    pub ledger: Option<Arc<Ledger>>,
    /// When connections were established, where that is known.
    pub stamps: Option<Arc<Stamps>>,
    /// Which accept waits are recorded.
    pub waits: Waits,
}

impl Loader {
    /// Sets up, waits for the barrier, runs the load to its end and returns account and histograms.
    pub fn run(self) -> Result<(LoaderReport, Measures)> {
        let room = limits::room(limits::raise_open_files().context("raising the limit of open files")?);
        let allowed = affinity::allowed_cpus().context("sched_getaffinity")?;
        if let Some(cpu) = self.scenario.load.pin.processor(self.part.loader, &allowed) {
            affinity::pin_to(cpu)
                .with_context(|| format!("pinning the loader to processor {cpu} (sched_setaffinity)"))?;
        }
        let scheduler = self.scenario.load.scheduler.enforce("load.scheduler")?;
        clock::be_exact().context("prctl(PR_SET_TIMERSLACK)")?;
        let mut engine = engine::build(&self.scenario)?;
        let measures = Measures::new(&self.scenario, self.waits, self.control.records());
        let client = client::build(&self.scenario, &self.target.to_string());
        let range = Range::read().context("reading ip_local_port_range")?;
        let groups = source::groups(&self.scenario.sources, &[self.target]);
        let share = Share { process: self.part.loader, processes: self.part.loaders };
        let server = &self.scenario.server;
        let window = self.control.wait_for_start();
        let before = clock::cpu_use();
        let mut work = Work {
            pacer: Pacer::new(&self.scenario, window, self.part, self.seed, self.repetition),
            source: source::build(self.scenario.sources.selection, &range, groups.len(), share, self.seed),
            groups,
            window,
            client,
            connections: Connections::with_capacity(room),
            picked: Known::default(),
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
