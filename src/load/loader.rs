//! A loader's process: set-up, barrier, load. Whatever it counts and records is in its account, from which the trial's process reads it.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{
    client,
    clock::Monotonic,
    dialler::Dialler,
    driver::{Driver, Parts},
    engine::{self, AnyEngine, Engine},
    measures::Measures,
    observer::TrialObserver,
    pacer::{Pacer, Part},
    session::{Ends, Policy, Shared},
    source::{self, Share},
    table::Table,
};
use crate::{
    context::TrialContext,
    ipc::control::LoaderCount,
    observe::ports::Range,
    scenario::keys,
    sys::{affinity, clock, limits},
    tls,
};

/// How a loader was set up.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetUp {
    /// The engine that moves the bytes.
    pub engine: String,
    /// Its scheduling policy, as read back from the kernel; `None` for a policy that scenarios cannot ask for.
    pub scheduler: Option<String>,
}

/// What a forked loader needs.
pub struct Loader {
    /// Its number in the trial, from 0.
    pub number: usize,
    /// Its share of the ports, if it chooses some itself.
    pub share: Share,
    /// The number of its population.
    pub load: usize,
    /// Its part of the population.
    pub part: Part,
    pub context: TrialContext,
}

impl Loader {
    /// Sets up, reports how, waits for the barrier, and runs the load to its end.
    pub fn run(self, report: impl FnOnce(&SetUp) -> Result<()>) -> Result<SetUp> {
        let scenario = &self.context.scenario;
        let load = &scenario.loads[self.load];
        let room = limits::room(limits::raise_open_files().context("raising the limit of open files")?);
        let allowed = affinity::allowed_cpus().context("sched_getaffinity")?;
        if let Some(cpu) = load.pin.processor(self.part.loader, &allowed) {
            affinity::pin_to(cpu)
                .with_context(|| format!("pinning the loader to processor {cpu} (sched_setaffinity)"))?;
        }
        let scheduler = load.scheduler.enforce(&load.path(keys::LOAD_SCHEDULER))?;
        clock::be_exact().context("prctl(PR_SET_TIMERSLACK)")?;
        let table = Table::with_capacity(room);
        let engine = engine::build(scenario, load, room)?;
        let tls = self.tls()?;
        let name = match &engine {
            AnyEngine::Mio(engine) => engine.name(),
            AnyEngine::Uring(engine) => engine.name(),
        };
        let set_up = SetUp { engine: name.to_owned(), scheduler };
        report(&set_up)?;
        match engine {
            AnyEngine::Mio(engine) => self.drive(engine, table, tls),
            AnyEngine::Uring(engine) => self.drive(engine, table, tls),
        }?;
        Ok(set_up)
    }

    /// What opens its TLS sessions, if its connections have them.
    fn tls(&self) -> Result<Option<tls::Client>> {
        let TrialContext { scenario, target, tls, seed, repetition, .. } = &self.context;
        let load = &scenario.loads[self.load];
        let Some(security) = &load.security else { return Ok(None) };
        let identity = tls.as_ref().map(tls::Server::identity);
        // A stream that neither schedules nor workers have.
        let stream = 1 << 61 | (*repetition as u64) << 16 | self.part.loader as u64;
        let client = tls::Client::new(security, target.ip(), identity, (load.seed(*seed), stream))?;
        client.rehearse()?;
        Ok(Some(client))
    }

    fn drive(self, engine: impl Engine, table: Table, tls: Option<tls::Client>) -> Result<()> {
        let Self { number, share, load, part, context } = self;
        let TrialContext { scenario, target, seed, .. } = &context;
        let load = &scenario.loads[load];
        let groups = source::groups(&load.sources, &[*target]);
        let range = Range::read().context("reading ip_local_port_range")?;
        let source = match scenario.unix {
            Some(_) => source::of_unix(scenario.subject.is_own(), share),
            None => source::build(load.sources.selection, &range, groups.len(), share, *seed),
        };
        let account = context.control.account(number);
        let shared = Shared::new(
            Policy::new(scenario, load),
            Ends::new(*target, groups),
            client::build(scenario, load, &scenario.host_header()),
            (account.clone(), Measures::new(scenario, context.waits, account.clone(), context.control.records())),
            TrialObserver { context: context.clone() },
            number,
        )
        .with_tls(tls);
        let window = context.control.wait_for_start();
        let before = clock::cpu_use();
        for (count, value) in [
            (LoaderCount::CpuUserNs, before.user_ns),
            (LoaderCount::CpuSystemNs, before.system_ns),
            (LoaderCount::VoluntarySwitches, before.voluntary_switches),
            (LoaderCount::InvoluntarySwitches, before.involuntary_switches),
        ] {
            account.set(count, value);
        }
        let parts = Parts {
            engine,
            clock: Monotonic,
            table,
            shared,
            pacer: Pacer::new((load, scenario.span.bound), window, part, *seed, context.repetition),
            dialler: Dialler::new(scenario, load, *target, source).context("the server's address")?,
            window,
        };
        let mut driver = Driver::new(parts, load);
        driver.run()?;
        driver.finish();
        Ok(())
    }
}
