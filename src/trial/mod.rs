//! A trial: a process tree in its own network namespaces, from the fork to the finished record.
//!
//! [`run`] stays in the calling process: it forks the trial's process, waits for its results and turns them into a record.
//! `process` is the trial's process: it creates the networks, forks loaders and workers, opens the barrier, samples, stops and
//! counts. Whatever happens, every process of the trial is gone when `run` returns.

mod assemble;
mod ceiling;
mod faults;
mod growth;
mod judge;
mod loaders;
mod members;
mod networks;
mod ports;
mod process;
mod ramp;
mod rows;
mod sampler;
mod subject;
mod view;
mod watch;

use std::{
    collections::BTreeMap,
    fs::File,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow};
use nix::unistd::getpid;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

#[cfg(test)]
pub(crate) use assemble::begun;
pub use assemble::merge;
pub use judge::{errors, late};
pub use loaders::{Histograms, fork_loaders, loader_accounts};
pub(crate) use networks::Networks;
pub use process::{SETUP_PATIENCE, open_barrier, wait_until_ready};
pub use subject::{Finished, Listening, OwnServer, Subject};
pub use view::{Stage, View, WaitSeen};

use crate::{
    context::Waits,
    ipc::{
        control::{Control, Recording},
        family::{self, Cut, Family, Patience, Sender},
    },
    load::{self, Sizing, fill::FillControl},
    observe::{
        host::{self, Probe},
        ports::Range,
        queues,
        stamps::Stamps,
        sysctl,
    },
    record::TrialRecord,
    scenario::{
        Cell, Engine, Plan, Scenario, Stamps as StampsKey, Transport, Trial,
        keys::{self, AnyKey},
    },
    server::{Site, accept},
    sys::cgroup,
};

/// How long a trial's process may take beyond the trial's deadline for set-up, counting and clean-up.
const GRACE: Duration = Duration::from_secs(60);

/// A trial to run.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The plan it belongs to.
    pub plan: &'a Plan,
    /// Its place in the plan.
    pub trial: Trial,
    /// The loader processes it needs.
    pub sizing: Sizing,
    /// The value that a search tries for the cell's last swept key.
    pub searched: Option<f64>,
    /// Whether kernel and user permit exact stamps, for `stamps = "auto"`.
    pub stamps_allowed: bool,
    /// Whether it records, or only counts.
    pub recording: Recording,
}

impl<'a> Job<'a> {
    /// The trial's cell.
    pub fn cell(&self) -> &'a Cell {
        &self.plan.cells[self.trial.cell]
    }

    /// How the trial measures accept waits.
    pub fn waits(&self) -> Waits {
        let scenario = &self.cell().scenario;
        let wanted = match scenario.stamps {
            StampsKey::Auto if self.stamps_allowed => Waits { exact: true, bound: false },
            StampsKey::SockOps => Waits { exact: true, bound: false },
            StampsKey::Both => Waits { exact: true, bound: true },
            StampsKey::Auto | StampsKey::ConnectCall => Waits { exact: false, bound: true },
        };
        let records = self.recording == Recording::On;
        Waits { exact: wanted.exact && records && scenario.protocol.has(Transport::Tcp), ..wanted }
    }
}

/// The results of a trial.
#[derive(Debug)]
pub struct Outcome {
    pub record: TrialRecord,
    /// Histograms by `w<worker>.<metric>` or `l<loader>.<metric>`.
    pub histograms: Histograms,
}

/// Runs one trial, calling `tick` up to ten times a second. Once `interrupted` is set, ends the trial, and its record says so. Fails
/// only if no process can be forked.
pub fn run(job: Job<'_>, interrupted: &AtomicBool, tick: &mut dyn FnMut(&View<'_>)) -> Result<Outcome> {
    let begun = assemble::begun(job, SystemTime::now());
    let scenario = &job.cell().scenario;
    let control = Control::new(scenario.server.workers, job.sizing.loaders, scenario.faults.len());
    let control = Arc::new(control.and_then(|control| control.with(job.recording)).context("mapping shared memory")?);
    let fill =
        scenario.fill.is_some().then(FillControl::new).transpose().context("mapping shared memory")?.map(Arc::new);
    let view = View { control: &control, fill: fill.as_deref(), waits: job.waits(), protocol: scenario.protocol };
    let mut tick = || tick(&view);
    let outcome = match &fill {
        Some(fill) => in_process(job, interrupted, &mut tick, |_| ports::run(job, fill))?
            .map(|(account, _)| ports::record(job, begun.clone(), account)),
        None => in_process(job, interrupted, &mut tick, |sender| {
            let (record, histograms) = process::run(job, &control, begun.clone())?;
            for (name, histogram) in &histograms {
                sender.histogram(name, histogram)?;
            }
            Ok(record)
        })?
        .map(|(record, histograms)| Outcome { record, histograms }),
    };
    Ok(outcome.unwrap_or_else(|error| assemble::failed(begun, &error)))
}

/// Runs a trial's body in a separate process, and returns its report and histograms. By then the process and all its descendants are
/// gone. Fails only if no process can be forked.
fn in_process<R: Serialize + DeserializeOwned>(
    job: Job<'_>,
    interrupted: &AtomicBool,
    tick: &mut dyn FnMut(),
    body: impl FnOnce(&mut Sender<File>) -> Result<R>,
) -> Result<Result<(R, Histograms)>> {
    let deadline = job.cell().scenario.deadline;
    let mut trial = Family::default();
    trial.fork_leader("lb:trial", "the trial's process", body)?;
    let waited = trial.wait(Patience::of(deadline + GRACE).unless(interrupted), tick);
    if waited.is_err() {
        trial.kill();
    }
    let mut account = trial.finish_one();
    if job.waits().exact {
        cgroup::remove_left(&cgroup_name(account.pid));
    }
    Ok(match waited {
        Ok(()) => {
            let histograms = std::mem::take(&mut account.histograms);
            account.into_report().map(|report| (report, histograms))
        }
        Err(Cut::TooLong(_)) => Err(anyhow!("still running {GRACE:?} after its deadline of {deadline:?}")),
        Err(Cut::Interrupted) => Err(Cut::Interrupted.into()),
    })
}

/// Name of the cgroup that a trial's process creates for its listeners.
fn cgroup_name(trial: i32) -> String {
    format!("listenbench-{trial}")
}

/// Tries whether exact stamps work, and measures the cost of sampling a queue.
pub fn probe(patience: Patience<'_>) -> Result<Probe> {
    family::ask("lb:probe", patience, || {
        let own_cgroup = cgroup_name(getpid().as_raw());
        let stamps = || Stamps::load(1).and_then(|(_, mut stamper)| stamper.inside(&own_cgroup, || ()));
        let stamps_error = stamps().err().map(|error| format!("{error:#}"));
        Ok(Probe { stamps_error, queue_sample_ns: queues::sample_cost_ns()? })
    })
}

/// The result of a rehearsal.
#[derive(Debug, Serialize, Deserialize)]
pub enum Rehearsal {
    /// The cell's networks can be created.
    Ready {
        /// The networks' sysctls before the scenario's are set.
        sysctls: BTreeMap<String, String>,
        /// Why the cell's strategy does not work here; `None` if it does.
        strategy_error: Option<String>,
        /// The ports that the loaders may choose from once the scenario's sysctls are set.
        ports: Range,
    },
    /// A sysctl of the scenario does not exist, or the kernel refused it.
    Refused {
        /// Its name in the scenario.
        sysctl: String,
        /// The kernel's reason.
        why: String,
    },
}

/// A sysctl that was not written, by its name in the scenario.
#[derive(Debug, Error)]
#[error("`sysctl.{0}`")]
struct UnwrittenSysctl(String);

/// Tries in a child what a cell's trials need: creating the networks, setting the sysctls, opening the strategy. Fails if the
/// networks cannot be created, with the reason and the remedy.
pub fn rehearse(cell: &Cell, patience: Patience<'_>) -> Result<Rehearsal> {
    family::ask("lb:rehearsal", patience, || {
        let networks = Networks::enter(&cell.scenario)?;
        let sysctls = host::sysctls();
        Ok(match networks.in_each(|| set_sysctls(cell)) {
            Ok(()) => {
                let scenario = &cell.scenario;
                let tried = scenario.protocol.transports().try_for_each(|transport| {
                    let site = Site::of(&scenario.server, scenario.address, transport);
                    accept::try_out(&scenario.server.strategy, site)
                });
                let ports = networks.for_loaders(|| Range::read().context("reading ip_local_port_range"))?;
                Rehearsal::Ready { sysctls, strategy_error: tried.err().map(|error| format!("{error:#}")), ports }
            }
            Err(error) => {
                let Some(UnwrittenSysctl(sysctl)) = error.downcast_ref() else { return Err(error) };
                let why: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
                Rehearsal::Refused { sysctl: sysctl.clone(), why: why.join(": ") }
            }
        })
    })
}

/// Tries in a child what a scenario's processes ask of the kernel. Returns what the kernel refuses, with the reason and the remedy.
pub fn refusals(scenario: &Scenario, patience: Patience<'_>) -> Result<Vec<String>> {
    let wanted: [(&dyn AnyKey, _); 2] =
        [(keys::SERVER_SCHEDULER, scenario.server.scheduler), (keys::LOAD_SCHEDULER, scenario.load.scheduler)];
    family::ask("lb:rehearsal", patience, || {
        let ring =
            (scenario.load.engine == Engine::Uring).then(|| load::try_ring().context("`load.engine` = \"uring\""));
        let refused = wanted.into_iter().map(|(key, scheduler)| scheduler.enforce(key).map(drop)).chain(ring);
        Ok(refused.filter_map(Result::err).map(|error| format!("{error:#}")).collect())
    })
}

/// Sets a cell's sysctls in the network of the calling process.
pub(crate) fn set_sysctls(cell: &Cell) -> Result<()> {
    for (name, value) in &cell.scenario.sysctls {
        sysctl::write(name, value).with_context(|| UnwrittenSysctl(name.clone()))?;
    }
    Ok(())
}
