//! A trial: a process tree in its own network namespaces, from the fork to the finished record.
//!
//! [`run`] stays in the calling process: it forks the trial's process, waits for its results and turns them into a record.
//! `process` is the trial's process: it creates the networks, forks loaders and workers, opens the barrier, samples, stops and
//! counts. Whatever happens, every process of the trial is gone when `run` returns.

mod assemble;
mod ceiling;
mod events;
mod firewall;
mod foreign;
mod generators;
mod growth;
pub mod hosts;
mod judge;
mod loaders;
mod loads;
mod losses;
mod members;
mod merged;
mod nat;
mod networks;
mod ports;
mod process;
mod ramp;
mod rehearsal;
mod rows;
mod sampler;
mod subject;
mod tracking;
mod upstream;
mod view;
mod watch;

use std::{
    fs::File,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

#[cfg(test)]
pub(crate) use assemble::begun;
use hosts::Hosts;
pub use judge::conntrack::verdicts as tracking_verdicts;
pub use loaders::Histograms;
pub(crate) use networks::Networks;
pub use networks::Stray;
use process::Ran;
pub use process::{SETUP_PATIENCE, wait_until_ready};
pub use rehearsal::{Rehearsal, refusals, rehearse, rehearse_all};
pub use subject::{DIR, Finished, Listening, OwnServer, Placed, Subject, locate, sweep};
pub use view::{Stage, View, WaitSeen};

use crate::{
    context::{Role, Side, Waits},
    format,
    ipc::{
        control::{Control, Recording},
        draws::Seen,
        family::{self, Cut, Family, Patience, Sender},
    },
    load::{
        self, Sizing,
        fill::{FillControl, FillPhase},
    },
    observe::{completions::Completions, host::Probe, queues, stamps::Stamps, sysctl},
    record::TrialRecord,
    scenario::{Cell, Network, Plan, Scenario, Stamps as StampsKey, Transport, Trial, UnderTest},
    sys::{bpf, clock, namespace},
};

/// How long a trial's process may take beyond the trial's deadline for set-up, counting and clean-up.
const GRACE: Duration = Duration::from_secs(60);

/// How long an interrupted trial may take to end and be counted.
const INTERRUPTED_GRACE: Duration = Duration::from_secs(30);

/// A trial to run.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The plan it belongs to.
    pub plan: &'a Plan,
    /// Its place in the plan.
    pub trial: Trial,
    /// The loader processes it needs.
    pub sizing: &'a Sizing,
    /// The value that a search tries for the cell's last swept key.
    pub searched: Option<f64>,
    /// Whether kernel and user permit exact stamps, for `stamps = "auto"`.
    pub stamps_allowed: bool,
    /// Whether it records, or only counts.
    pub recording: Recording,
    /// The client ends of the cell's earlier trials, if the kernel's hash is theirs too.
    pub seen: Option<&'a Seen>,
    /// Whether a running server may be on another machine.
    pub allow_remote: bool,
    /// What this host is in the trial.
    pub role: Role<'a>,
    /// The hosts that generate its load; `None` if this one does it all.
    pub hosts: Option<&'a Hosts>,
    /// Its place in an experiment of several records; `None` where there is only one.
    pub place: Option<Place<'a>>,
}

/// A trial's place in an experiment of several records, whose cells are interleaved.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The name of the trial's record.
    pub record: &'a str,
    /// The trial's number in the experiment's order of execution, from 0.
    pub number: usize,
}

impl<'a> Job<'a> {
    /// Its cell in readable form, with the record where there are several.
    pub fn label(&self) -> String {
        let cell = self.cell();
        match self.place {
            None => cell.label(),
            Some(place) if cell.values.is_empty() => place.record.to_owned(),
            Some(place) => format!("{}: {}", place.record, cell.label()),
        }
    }

    /// The trial's cell.
    pub fn cell(&self) -> &'a Cell {
        &self.plan.cells[self.trial.cell]
    }

    /// How this host's part of the trial measures accept waits: from a stamp to the accept where the server is, from a client's call only
    /// where both are.
    pub fn waits(&self) -> Waits {
        let scenario = &self.cell().scenario;
        let wanted = match scenario.stamps {
            // Only a receipt in its reply says when somebody else's server accepted a connection.
            _ if !scenario.subject.is_own() => Waits { exact: false, bound: true },
            StampsKey::Auto if self.stamps_allowed => Waits { exact: true, bound: false },
            StampsKey::SockOps => Waits { exact: true, bound: false },
            StampsKey::Both => Waits { exact: true, bound: true },
            StampsKey::Auto | StampsKey::ConnectCall => Waits { exact: false, bound: true },
        };
        // Behind NAT, no client knows which address the server sees, by which it would find who accepted it.
        let wanted = Waits { bound: wanted.bound && scenario.nat.is_none(), ..wanted };
        // A bound subtracts the clock of the client's host from that of the server's.
        let wanted = Waits { bound: wanted.bound && self.role.side == Side::Whole, ..wanted };
        // Another host's loaders have no stamps.
        let wanted = Waits { exact: wanted.exact && self.role.side != Side::Load, ..wanted };
        let records = self.recording == Recording::On;
        let exact = wanted.exact && records && scenario.protocol.has(Transport::Tcp);
        match self.role.side {
            Side::Whole => Waits { exact, ..wanted },
            Side::Server => Waits { exact, bound: false },
            Side::Load => Waits { exact: false, bound: false },
        }
    }
}

/// The results of a trial.
#[derive(Debug)]
pub struct Outcome {
    pub record: TrialRecord,
    /// Histograms by `w<worker>.<metric>` or `l<loader>.<metric>`.
    pub histograms: Histograms,
    /// What a server of somebody else printed, if that could be seen.
    pub output: Option<String>,
    /// Whether the load hosts, if any, have said all that they were asked for, so that they can be asked for more.
    pub in_step: bool,
}

/// Runs one trial, calling `tick` up to ten times a second. Once `interrupted` is set, the trial ends early: its record says so, and has
/// what was measured until then. Fails
/// only if no process can be forked.
pub fn run(job: Job<'_>, interrupted: &AtomicBool, tick: &mut dyn FnMut(&View<'_>)) -> Result<Outcome> {
    let begun = assemble::begun(job, clock::wall());
    let scenario = &job.cell().scenario;
    if !scenario.subject.is_own() {
        // Read before the fork, for all trials. Where it cannot be had, whoever needs it says so.
        let _ = bpf::types();
    }
    let control = control_of(job)?;
    let fill =
        scenario.fill.is_some().then(FillControl::new).transpose().context("mapping shared memory")?.map(Arc::new);
    let view = View { control: &control, fill: fill.as_deref(), waits: job.waits(), protocol: scenario.protocol };
    let mut tick = || tick(&view);
    let outcome = match &fill {
        Some(fill) => in_process(job, (interrupted, &|| interrupt_fill(fill)), &mut tick, |_| ports::run(job, fill))?
            .map(|(account, _)| ports::record(job, begun.clone(), account)),
        None => in_process(job, (interrupted, &|| interrupt_load(&control)), &mut tick, |sender| {
            let ran = process::run(job, &control, begun.clone());
            if matches!(scenario.subject, UnderTest::Command(_)) {
                subject::end_orphans();
            }
            let Ran { record, histograms, output, in_step } = ran?;
            for (name, histogram) in &histograms {
                sender.histogram(name, histogram)?;
            }
            Ok((record, output, in_step))
        })?
        .map(|((record, output, in_step), histograms)| Outcome { record, histograms, output, in_step }),
    };
    Ok(outcome.unwrap_or_else(|error| assemble::failed(begun, &error)))
}

/// The outcome of a trial that could not be run.
fn not_run(job: Job<'_>, error: &anyhow::Error) -> Outcome {
    assemble::failed(assemble::begun(job, clock::wall()), error)
}

/// The control block of a trial's processes on this host. Other hosts' loaders count as one each.
fn control_of(job: Job<'_>) -> Result<Arc<Control>> {
    let scenario = &job.cell().scenario;
    // What members of another server count is not in shared memory.
    let workers = if scenario.subject.is_own() { scenario.all_workers() } else { 0 };
    let loaders = if job.hosts.is_some() { job.sizing.hosts } else { job.sizing.loaders() };
    let control = Control::new(workers, loaders, scenario.events.len()).and_then(|control| control.with(job.recording));
    // What other hosts' loaders record stays with them until the end.
    let control = if job.hosts.is_some() { control } else { control.and_then(|one| load::make_room(one, scenario)) };
    Ok(Arc::new(control.context("mapping shared memory")?))
}

/// Interrupts a trial's load. Returns false if it has not begun, so that there is nothing to keep.
fn interrupt_load(control: &Control) -> bool {
    let begun = control.window().start_ns != 0;
    if begun {
        control.interrupt();
    }
    begun
}

/// The same of a fill of the ports.
fn interrupt_fill(control: &FillControl) -> bool {
    let begun = control.phase() > FillPhase::SetUp;
    if begun {
        control.interrupt();
    }
    begun
}

/// Runs a trial's body in a separate process, and returns its report and histograms. Once `interrupted` is set, the body is told to end
/// early by `end_early` or, if that returns false, ended. By then the process and all its descendants are
/// gone. Fails only if no process can be forked.
fn in_process<R: Serialize + DeserializeOwned>(
    job: Job<'_>,
    (interrupted, end_early): (&AtomicBool, &dyn Fn() -> bool),
    tick: &mut dyn FnMut(),
    body: impl FnOnce(&mut Sender<File>) -> Result<R>,
) -> Result<Result<(R, Histograms)>> {
    let scenario = &job.cell().scenario;
    let ready_within =
        if let UnderTest::Command(command) = &scenario.subject { command.ready_within } else { Duration::ZERO };
    let deadline = scenario.deadline;
    let mut trial = Family::default();
    trial.fork_leader("lb:trial", "the trial's process", body)?;
    let mut waited = trial.wait(Patience::of(ready_within + deadline + GRACE).unless(interrupted), &mut *tick);
    if waited == Err(Cut::Interrupted) && end_early() {
        waited = trial.wait(Patience::of(INTERRUPTED_GRACE), tick).map_err(|_| Cut::Interrupted);
    }
    if waited.is_err() {
        trial.kill();
    }
    let mut account = trial.finish_one();
    if matches!(scenario.subject, UnderTest::Command(_)) {
        // Whatever the trial's process and the keeper could not end any more.
        subject::end_orphans();
        sweep();
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

/// Tries whether exact stamps and times of completions work in trials with these networks, and measures the cost of sampling a queue.
pub fn probe(networks: &[Network], patience: Patience<'_>) -> Result<Probe> {
    // The probe needs loaders, and so do the trials.
    bpf::stock();
    family::ask("lb:probe", patience, || {
        // A user namespace, entered for the sake of a network, takes privileges away.
        if networks.iter().any(|network| *network != Network::Host) {
            namespace::enter_network()?;
        }
        let stamps_error = Stamps::try_out().err().map(|error| format::causes(&error));
        let completions_error = Completions::load(1).err().map(|error| format::causes(&error));
        Ok(Probe { stamps_error, completions_error, queue_sample_ns: queues::sample_cost_ns()? })
    })
}

/// Demands that a scenario's packets stay in the calling process's network, unless they go to a running server that may be elsewhere;
/// fails with a [`Stray`] otherwise.
pub fn confine(scenario: &Scenario, allow_remote: bool, role: Role<'_>) -> Result<()> {
    Networks::shared_with_caller().confine(scenario, allow_remote, role)
}

/// A sysctl that was not written, by its name in the scenario.
#[derive(Debug, Error)]
#[error("`sysctl.{0}`")]
struct UnwrittenSysctl(String);

/// Sets a cell's sysctls in the network of the calling process.
pub(crate) fn set_sysctls(cell: &Cell) -> Result<()> {
    for (name, value) in &cell.scenario.sysctls {
        sysctl::write(name, value).with_context(|| UnwrittenSysctl(name.clone()))?;
    }
    Ok(())
}
