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
mod rows;
mod sampler;
mod subject;
mod tracking;
mod upstream;
mod view;
mod watch;

use std::{
    borrow::Cow,
    fs::File,
    iter,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

#[cfg(test)]
pub(crate) use assemble::begun;
use firewall::NotLoaded;
use hosts::Hosts;
pub use judge::conntrack::verdicts as tracking_verdicts;
pub use loaders::Histograms;
pub(crate) use networks::Networks;
pub use networks::Stray;
use process::Ran;
pub use process::{SETUP_PATIENCE, wait_until_ready};
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
    observe::{
        completions::Completions,
        host::{NetworkFacts, Probe},
        listeners, mptcp,
        ports::Range,
        queues,
        stamps::Stamps,
        sysctl,
    },
    record::TrialRecord,
    scenario::{
        Cell, Engine, LOOPBACK, Network, Plan, Scenario, Stamps as StampsKey, Transport, Trial, UnderTest,
        keys::{self, AnyKey},
    },
    server::{self, ListenError, Site, SocketFile, accept},
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

/// The result of a rehearsal.
#[derive(Debug, Serialize, Deserialize)]
pub enum Rehearsal {
    /// The cell's networks can be created.
    Ready {
        /// The networks' facts before the scenario's sysctls are set.
        network: NetworkFacts,
        /// Why the cell's strategy does not work here; `None` if it does.
        strategy_error: Option<String>,
        /// The ports that the loaders may choose from once the scenario's sysctls are set.
        ports: Range,
    },
    /// A setting of the scenario was refused: a sysctl, an address outside the cell's networks, or a rule of its firewall.
    Refused {
        /// The key in the scenario.
        path: String,
        /// The reason.
        why: String,
    },
}

/// A sysctl that was not written, by its name in the scenario.
#[derive(Debug, Error)]
#[error("`sysctl.{0}`")]
struct UnwrittenSysctl(String);

/// Tries in a child what a cell's trials need: creating the networks, setting the sysctls, opening the strategy. Fails if the
/// networks cannot be created, with the reason and the remedy.
pub fn rehearse(cell: &Cell, role: Role<'_>, patience: Patience<'_>) -> Result<Rehearsal> {
    family::ask("lb:rehearsal", patience, || {
        let names = cell.scenario.sysctls.iter().map(|(name, _)| (name, sysctl::full_name(name)));
        let names: Vec<(&String, Option<String>)> = names.collect();
        let networks = match Networks::enter(&cell.scenario, false, role) {
            Ok(networks) => networks,
            Err(error) => {
                let Stray { path, problem } = error.downcast()?;
                return Ok(Rehearsal::Refused { path, why: problem });
            }
        };
        let network = NetworkFacts::read();
        Ok(match networks.in_each(|| set_sysctls(cell)) {
            Ok(()) => {
                let scenario = &cell.scenario;
                if let Some(why) = server::check_descriptors(&scenario.server)? {
                    return Ok(Rehearsal::Refused { path: keys::SERVER_OPEN_FILES.path().to_owned(), why });
                }
                let placed = Placed::of(scenario)?;
                let scenario = &placed.scenario;
                if scenario.protocol.is_multipath()
                    && let Some(why) = networks.for_loaders(|| Ok(mptcp::lack()))?
                {
                    return Ok(Rehearsal::Refused { path: keys::PROTOCOL.path().to_owned(), why });
                }
                if let Err(error) = firewall::load(scenario).and_then(|_| nat::load(scenario, &networks)) {
                    let NotLoaded { path, problem } = error.downcast()?;
                    return Ok(Rehearsal::Refused { path: path.to_owned(), why: problem });
                }
                let behind = scenario.backend();
                let ours = if scenario.subject.is_own() { Some(scenario) } else { behind.as_ref() };
                // The clients of a server behind a proxy are on its own machine.
                let side = if scenario.subject.is_own() { role.side } else { Side::Whole };
                let tried = ours.into_iter().try_for_each(|ours| {
                    ours.protocol.transports().try_for_each(|transport| {
                        let site = Site::of(ours, transport);
                        let places = accept::try_out(&ours.server.strategy, site)?;
                        let _file = SocketFile::of(ours.unix.as_ref());
                        if ours.unix.is_some() { Ok(()) } else { demand_taken(ours, &places, side) }
                    })
                });
                // What a scenario binds to may not be there, which concerns all trials.
                if let Some(refused) = tried.as_ref().err().and_then(refused_place) {
                    return Ok(refused);
                }
                let ports = networks.for_loaders(|| Range::read().context("reading ip_local_port_range"))?;
                Rehearsal::Ready { network, strategy_error: tried.err().map(|error| format::causes(&error)), ports }
            }
            Err(error) => {
                let Some(UnwrittenSysctl(sysctl)) = error.downcast_ref() else { return Err(error) };
                let known = names.iter().find(|(name, _)| *name == sysctl).and_then(|(_, full)| full.as_ref());
                let why = match known {
                    Some(full) if sysctl::path(sysctl).is_none() => sysctl::machine_wide(full),
                    _ => format::said_once(error.chain().skip(1).map(ToString::to_string)),
                };
                Rehearsal::Refused { path: keys::sysctl_path(sysctl), why }
            }
        })
    })
}

/// A server's listeners that its clients would not find on this machine.
#[derive(Debug, Error)]
#[error("{problem}")]
struct Missed {
    key: &'static str,
    problem: String,
}

/// Demands that listeners take what clients send, in the calling process's network. Scenarios with listeners elsewhere have been refused, so
/// what is left depends on this machine.
fn demand_taken(scenario: &Scenario, places: &[listeners::Place], side: Side) -> Result<()> {
    let (bind, address) = (&scenario.server.bind, scenario.address);
    // `serve` has no clients of its own.
    if !address.ip().is_unspecified() && places.iter().all(|place| place.fit(address).is_none()) {
        let (ip, all) = (address.ip(), places.iter().map(|place| place.address.ip().to_string()).collect::<Vec<_>>());
        let leaves_ipv4_alone = |place: &listeners::Place| {
            place.address.is_ipv6() && place.address.ip().is_unspecified() && !place.dual_stack
        };
        let (key, problem) = if ip.to_canonical().is_ipv4() && places.iter().any(leaves_ipv4_alone) {
            let has = "sysctl net.ipv6.bindv6only has listeners on :: leave IPv4 alone";
            (keys::SERVER_V6ONLY.path(), format!("clients connect to {ip}, and {has} here: set false"))
        } else {
            let all = all.join(", ");
            (keys::SERVER_BIND.path(), format!("clients connect to {ip}, and no listener on {all} takes that"))
        };
        bail!(Missed { key, problem });
    }
    let Some(device) = bind.device.as_deref().filter(|_| scenario.network == Network::Host) else { return Ok(()) };
    let problem = match side {
        Side::Whole if device != LOOPBACK => format!(
            "what loaders on the same machine send arrives at `{LOOPBACK}`, not at \"{device}\": use \"{LOOPBACK}\", or leave it out"
        ),
        Side::Server if device == LOOPBACK => format!(
            "what the job's other hosts send does not arrive at \"{LOOPBACK}\": use the device through which they reach this one, or \
             leave it out"
        ),
        _ => return Ok(()),
    };
    bail!(Missed { key: keys::SERVER_DEVICE.path(), problem })
}

/// What of a scenario is to blame for a server that cannot listen here, or not for its clients.
fn refused_place(error: &anyhow::Error) -> Option<Rehearsal> {
    let missed = error.downcast_ref::<Missed>().map(|missed| missed.key);
    let key = missed.or_else(|| error.downcast_ref::<ListenError>()?.key())?;
    Some(Rehearsal::Refused { path: key.to_owned(), why: format::causes(error) })
}

/// Demands that a scenario's packets stay in the calling process's network, unless they go to a running server that may be elsewhere;
/// fails with a [`Stray`] otherwise.
pub fn confine(scenario: &Scenario, allow_remote: bool, role: Role<'_>) -> Result<()> {
    Networks::shared_with_caller().confine(scenario, allow_remote, role)
}

/// Tries in a child what a scenario's processes ask of the kernel. Returns what the kernel refuses, with the reason and the remedy.
pub fn refusals(scenario: &Scenario, patience: Patience<'_>) -> Result<Vec<String>> {
    let server = (Cow::Borrowed(keys::SERVER_SCHEDULER.path()), scenario.server.scheduler);
    let loaders = scenario.loads.iter().map(|load| (load.path(keys::LOAD_SCHEDULER), load.scheduler));
    let wanted: Vec<(Cow<'_, str>, _)> = iter::once(server).chain(loaders).collect();
    family::ask("lb:rehearsal", patience, || {
        let asks = scenario.loads.iter().any(|load| load.engine == Engine::Uring);
        let ring = asks.then(|| load::try_ring().context("`load.engine` = \"uring\""));
        let asks = scenario.server.engine == Engine::Uring;
        let of_workers = asks.then(|| server::try_ring().context("`server.engine` = \"uring\""));
        let rings = ring.into_iter().chain(of_workers);
        let refused = wanted.into_iter().map(|(path, scheduler)| scheduler.enforce(&path).map(drop)).chain(rings);
        Ok(refused.filter_map(Result::err).map(|error| format::causes(&error)).collect())
    })
}

/// Sets a cell's sysctls in the network of the calling process.
pub(crate) fn set_sysctls(cell: &Cell) -> Result<()> {
    for (name, value) in &cell.scenario.sysctls {
        sysctl::write(name, value).with_context(|| UnwrittenSysctl(name.clone()))?;
    }
    Ok(())
}
