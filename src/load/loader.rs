//! A loader's process: set-up, barrier, load, account.

use anyhow::{Context, Result};

use super::{
    client,
    clock::Monotonic,
    dialler::Dialler,
    driver::{Driver, Parts},
    engine::{self, AnyEngine, Engine},
    measures::Measures,
    observer::TrialObserver,
    pacer::{Pacer, Part},
    report::LoaderReport,
    session::{Ends, Policy, Shared},
    source::{self, Share},
    table::Table,
};
use crate::{
    context::TrialContext,
    observe::ports::Range,
    scenario::keys,
    sys::{affinity, clock, limits},
};

/// What a forked loader needs.
pub struct Loader {
    /// Its part of the load.
    pub part: Part,
    pub context: TrialContext,
}

impl Loader {
    /// Sets up, waits for the barrier, runs the load to its end, and returns its account and histograms.
    pub fn run(self) -> Result<(LoaderReport, Measures)> {
        let load = &self.context.scenario.load;
        let room = limits::room(limits::raise_open_files().context("raising the limit of open files")?);
        let allowed = affinity::allowed_cpus().context("sched_getaffinity")?;
        if let Some(cpu) = load.pin.processor(self.part.loader, &allowed) {
            affinity::pin_to(cpu)
                .with_context(|| format!("pinning the loader to processor {cpu} (sched_setaffinity)"))?;
        }
        let scheduler = load.scheduler.enforce(keys::LOAD_SCHEDULER)?;
        clock::be_exact().context("prctl(PR_SET_TIMERSLACK)")?;
        let table = Table::with_capacity(room);
        let (report, measures) = match engine::build(&self.context.scenario, room)? {
            AnyEngine::Mio(engine) => self.drive(engine, table),
            AnyEngine::Uring(engine) => self.drive(engine, table),
        }?;
        Ok((LoaderReport { scheduler, ..report }, measures))
    }

    fn drive(self, engine: impl Engine, table: Table) -> Result<(LoaderReport, Measures)> {
        let Self { part, context } = self;
        let TrialContext { scenario, target, seed, .. } = &context;
        let groups = source::groups(&scenario.sources, &[*target]);
        let range = Range::read().context("reading ip_local_port_range")?;
        let share = Share { process: part.loader, processes: part.loaders };
        let source = source::build(scenario.sources.selection, &range, groups.len(), share, *seed);
        let shared = Shared::new(
            Policy::new(scenario, context.waits.bound),
            Ends::new(*target, groups),
            client::build(scenario, &target.to_string()),
            Measures::new(scenario, context.waits, context.control.records()),
            TrialObserver { context: context.clone(), loader: part.loader },
        );
        let engine_name = engine.name().to_owned();
        let window = context.control.wait_for_start();
        let before = clock::cpu_use();
        let parts = Parts {
            engine,
            clock: Monotonic,
            table,
            shared,
            pacer: Pacer::new(scenario, window, part, *seed, context.repetition),
            dialler: Dialler::new(scenario, *target, source),
            window,
        };
        let mut driver = Driver::new(parts, &scenario.load);
        driver.run()?;
        let cpu = clock::cpu_use();
        let (shared, pacer) = driver.into_parts();
        let (report, measures) = shared.into_parts();
        let measured = pacer.measured();
        let report = LoaderReport {
            measured_planned: measured.count,
            measured_first_ns: measured.first_ns,
            measured_last_ns: measured.last_ns,
            schedule: pacer.digest(),
            engine: engine_name,
            cpu_user_ns: cpu.user_ns - before.user_ns,
            cpu_system_ns: cpu.system_ns - before.system_ns,
            voluntary_switches: cpu.voluntary_switches - before.voluntary_switches,
            involuntary_switches: cpu.involuntary_switches - before.involuntary_switches,
            ..report
        };
        Ok((report, measures))
    }
}
