//! A trial: its own process tree in network namespaces of its own, from the fork to the finished record.
//!
//! [`run`] stays in the calling process: it forks the trial's process, waits for what that gathers and turns it into a
//! record. `process` is the trial's process: it makes the networks, forks loaders and workers, opens the barrier,
//! samples, stops and counts. Whatever happens to them, `run` returns with every process of the trial gone.

mod assemble;
mod crew;
mod doors;
mod faults;
mod gathered;
mod growth;
mod loaders;
mod networks;
mod ports;
mod process;
mod ramp;
mod rows;
mod sampler;
mod verdicts;
mod view;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use nix::unistd::{Pid, getpid};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[cfg(test)]
pub(crate) use assemble::blank;
pub use assemble::merge;
pub use crew::{Crew, CrewJob};
pub use doors::Doors;
pub use gathered::LoaderAccount;
pub use loaders::{Histograms, LoadJob, Loaders};
pub(crate) use networks::Networks;
pub use process::{open_barrier, wait_until_ready};
pub use verdicts::{late, many_failed};
pub use view::{Stage, View, WaitSeen};

use crate::{
    ipc::{
        control::{Control, Recording},
        message::{self, Inbox, Message},
    },
    load::{self, Sizing, Waits, fill::FillControl},
    observe::{
        host::{self, Probe},
        ports::Range,
        queues,
        stamps::Stamps,
        sysctl,
    },
    record::{Exit, TrialRecord},
    scenario::{Cell, Engine, Plan, Scenario, Stamps as StampsKey, Transport, Trial},
    server::{Site, accept},
    sys::{cgroup, clock, process as child},
};

/// How often a waiting caller is told of progress.
const TICK: Duration = Duration::from_millis(100);
/// What a trial's process may take beyond its own deadline, for set-up, counting and clearing away.
const GRACE: Duration = Duration::from_secs(60);

/// One trial to be run.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The plan it belongs to.
    pub plan: &'a Plan,
    /// Which of its trials.
    pub trial: Trial,
    /// Loader processes.
    pub sizing: Sizing,
    /// The value that a search tries, that of the cell's last swept key.
    pub searched: Option<f64>,
    /// Whether this kernel lets this user have exact stamps, for `stamps = "auto"`.
    pub stamps_allowed: bool,
    /// Whether it records; without, it counts only.
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

/// What a trial leaves.
#[derive(Debug)]
pub struct Outcome {
    /// Its line.
    pub record: TrialRecord,
    /// Its histograms by `w<worker>.<metric>` or `l<loader>.<metric>`.
    pub histograms: Histograms,
}

/// Runs one trial. `tick` is called ten times a second at most; when `interrupted` is set meanwhile, the trial is ended and
/// its record says so. Fails only when no process can be made at all.
pub fn run(job: Job<'_>, interrupted: &AtomicBool, tick: &mut dyn FnMut(&View<'_>)) -> Result<Outcome> {
    let started = SystemTime::now();
    let scenario = &job.cell().scenario;
    let control = Control::new(scenario.server.workers, job.sizing.loaders, scenario.faults.len());
    let control = Arc::new(control.and_then(|control| control.with(job.recording)).context("mapping shared memory")?);
    let fill =
        scenario.fill.is_some().then(FillControl::new).transpose().context("mapping shared memory")?.map(Arc::new);
    let mut trial = child::spawn("lb:trial", |pipe| {
        // Here and in the parent, so that it is done before either goes on.
        child::lead_group(getpid());
        message::answer(pipe, |sender| {
            if let Some(fill) = &fill {
                return sender.json(&ports::run(job, fill)?);
            }
            let (gathered, histograms) = process::run(job, &control)?;
            for (name, histogram) in &histograms {
                sender.histogram(name, histogram)?;
            }
            sender.json(&gathered)
        })
    })
    .context("forking the trial's process")?;
    child::lead_group(trial.pid);

    let view = View { control: &control, fill: fill.as_deref(), waits: job.waits(), protocol: scenario.protocol };
    let mut inbox = Inbox::default();
    let mut next_tick = Instant::now() + TICK;
    let patience_ns = clock::monotonic_ns() + clock::nanoseconds(scenario.deadline + GRACE);
    let cut_short = loop {
        if interrupted.load(Relaxed) {
            break Some("interrupted".to_owned());
        }
        if clock::monotonic_ns() > patience_ns {
            break Some(format!("not ended {GRACE:?} after its deadline of {:?}", scenario.deadline));
        }
        // A signal ends the wait early, and the loop looks at `interrupted`.
        let wait = next_tick.saturating_duration_since(Instant::now());
        if trial.readable(wait) && inbox.read_from(&mut trial.pipe).context("reading the trial's pipe")? {
            break None;
        }
        if Instant::now() >= next_tick {
            tick(&view);
            // Ticks that were missed are not made up for.
            next_tick = Instant::now() + TICK;
        }
    };
    if cut_short.is_some() {
        child::kill_now(trial.pid);
    }
    let exit = Exit::from(child::wait(trial.pid).status);
    if job.waits().exact {
        cgroup::remove_left(&cgroup_name(trial.pid));
    }
    // Its workers and loaders died with it; they are this process's to wait for.
    child::reap_group(trial.pid);

    if let Some(why) = cut_short {
        return Ok(assemble::failed(job, started, &anyhow::anyhow!(why)));
    }
    let outcome = if scenario.fill.is_some() {
        opened(&inbox, &exit).map(|message| ports::record(job, started, message.report))
    } else {
        opened(&inbox, &exit).map(|message| assemble::record(job, started, message))
    };
    Ok(outcome.unwrap_or_else(|error| assemble::failed(job, started, &error)))
}

/// What a trial's process has sent; fails with its own error, or with how it ended.
fn opened<T: DeserializeOwned>(inbox: &Inbox, exit: &Exit) -> Result<Message<T>> {
    inbox.open().and_then(|message| message.with_context(|| format!("the trial's process ended: {exit}")))
}

/// The cgroup that a trial's process makes for its listeners.
fn cgroup_name(trial: Pid) -> String {
    format!("listenbench-{trial}")
}

/// Tries exact stamps, and measures what a sample of a queue costs.
pub fn probe() -> Result<Probe> {
    message::ask_child("lb:probe", || {
        let stamps = || Stamps::load(1).and_then(|(_, mut stamper)| stamper.inside(&cgroup_name(getpid()), || ()));
        let stamps_error = stamps().err().map(|error| format!("{error:#}"));
        Ok(Probe { stamps_error, queue_sample_ns: queues::sample_cost_ns()? })
    })
}

/// What a rehearsal found.
#[derive(Debug, Serialize, Deserialize)]
pub enum Rehearsal {
    /// The cell's networks can be had.
    Ready {
        /// Their sysctls before the scenario's own.
        sysctls: BTreeMap<String, String>,
        /// Why the cell's strategy cannot be had here.
        strategy_error: Option<String>,
        /// The ports that the loaders may choose from, the scenario's sysctls being set.
        ports: Range,
    },
    /// A sysctl of the scenario does not exist or was refused.
    Refused(String),
}

/// Tries in networks of its own what a cell asks of its trials' networks: making them, and setting the sysctls.
/// Fails when they cannot be had, with the reason and the remedy.
pub fn rehearse(cell: &Cell) -> Result<Rehearsal> {
    message::ask_child("lb:rehearsal", || {
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
            Err(error) => Rehearsal::Refused(format!("{error:#}")),
        })
    })
}

/// Tries what a cell asks of the kernel for its processes. Returns what is refused, with the reason and the remedy.
pub fn refusals(scenario: &Scenario) -> Result<Vec<String>> {
    let wanted = [("server.scheduler", scenario.server.scheduler), ("load.scheduler", scenario.load.scheduler)];
    message::ask_child("lb:rehearsal", || {
        let ring =
            (scenario.load.engine == Engine::Uring).then(|| load::try_ring().context("`load.engine` = \"uring\""));
        let refused = wanted.into_iter().map(|(path, scheduler)| scheduler.enforce(path).map(drop)).chain(ring);
        Ok(refused.filter_map(Result::err).map(|error| format!("{error:#}")).collect())
    })
}

/// Sets a cell's sysctls in the network of the calling process.
pub(crate) fn set_sysctls(cell: &Cell) -> Result<()> {
    for (name, value) in &cell.scenario.sysctls {
        sysctl::write(name, value).with_context(|| format!("`sysctl.{name}`"))?;
    }
    Ok(())
}
