//! The trial's process: set-up, barrier, supervision, counting.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Error, Result};

use super::{
    Histograms, Job, assemble,
    ceiling::Ceiling,
    events::Events,
    firewall,
    foreign::ForeignWatch,
    generators::Generators,
    growth::{LEAST_OPEN, MemoryWatch},
    hosts::enter as enter_hosts,
    members, nat,
    networks::{Confinement, Networks},
    ramp::RampWatch,
    sampler::{Clients, Queues, Sampler},
    set_sysctls,
    subject::{self, Beside, Listening, NotReady, OwnServer, Placed, Subject},
    tracking::TrackingWatch,
    upstream::Backend,
    watch::{KernelWatch, MachineWatch},
};
use crate::{
    context::{Side, TrialContext, Waits},
    format,
    ipc::{
        control::{Control, Window},
        draws::{Drawn, Seen},
        family::{Patience, wait_by},
        ledger::Ledger,
        places::Places,
    },
    observe::{
        accepts::Ours,
        completions::Completions,
        counters::SocketReader,
        datagrams::GroupReader,
        queues::QueueReader,
        stamps::{Room, Stamps},
    },
    record::{Draws, TrialRecord},
    scenario::{Bound, Network, Scenario, Transport, UnderTest, Wake},
    stats::asks_about_failures,
    sys::clock,
    tls,
};

/// How long processes may take to set themselves up.
pub const SETUP_PATIENCE: Duration = Duration::from_secs(30);
/// How long a loader may take beyond the deadline to end.
pub const END_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to end once it has been told to end early.
pub(super) const INTERRUPT_PATIENCE: Duration = Duration::from_secs(3);

/// Runs a trial in the calling process, and completes its record.
pub(super) fn run(job: Job<'_>, control: &Arc<Control>, mut record: TrialRecord) -> Result<Ran> {
    let networks = enter_networks(job)?;
    let firewall = firewall::load(&job.cell().scenario)?;
    let nat = nat::load(&job.cell().scenario, &networks)?;
    let mut placed = Placed::of(&job.cell().scenario)?;
    let context = context(job, control, &placed.scenario)?;
    let scenario = &context.scenario;
    // Fork the loaders first: they inherit nothing that is opened later.
    let mut generators = Generators::begin(job, &networks, &context)?;
    let pids = generators.pids();
    // A proxy may look for its upstream as soon as it starts.
    let mut backend = Backend::start(job)?;
    let mut subject: Box<dyn Subject> = match open_subject(&context, &pids, &mut placed)? {
        Ok(subject) => subject,
        Err(NotReady { error, output }) => {
            record.error = Some(format::causes(&error));
            return Ok(Ran {
                record,
                histograms: Histograms::new(),
                output: Some(output),
                in_step: job.hosts.is_none(),
            });
        }
    };
    record.subject = subject.describe();
    let at_barrier = subject.at_barrier() + generators.at_barrier();
    wait_until_ready(control, at_barrier, Patience::of(SETUP_PATIENCE), || {
        subject.check_running().and_then(|()| generators.check_running())
    })?;
    if let Err(error) = generators.await_others(Patience::of(SETUP_PATIENCE), || subject.check_running()) {
        record.hosts = generators.lost();
        if record.hosts.is_empty() {
            return Err(error);
        }
        record.error = Some(format::causes(&error));
        return Ok(Ran { record, histograms: Histograms::new(), output: None, in_step: false });
    }

    let mut sampler = sampler(job, &context, &networks, &*subject, &pids)?;
    let machine = MachineWatch::begin()?;
    let mut kernel = KernelWatch::begin(&networks)?;
    subject.begin()?;
    let mut confinement = Confinement::begin(&networks, scenario, job.allow_remote, job.role)?;
    let window = window_ahead(scenario, generators.start_ahead_ns(at_barrier));
    // Before the barrier opens, or the first connections might be counted without it.
    subject.expect(window);
    control.open(window);
    generators.start(window);
    kernel.expect(window);
    if let Some(backend) = &mut backend {
        backend.open(window);
    }
    sampler.start(window.start_ns);
    let mut events = Events::new(&context, window)?;
    supervise(
        (control, window),
        &mut confinement,
        &mut generators,
        (&mut *subject, backend.as_mut()),
        &mut sampler,
        &mut events,
        &mut kernel,
    )?;
    record.events = events.finish(&mut *subject, &mut sampler)?;
    kernel.end_window()?;

    if let Some(backend) = &mut backend {
        backend.look_last()?;
    }
    subject.stop()?;
    sampler.sample_last(&*subject)?;
    record.connections.left_in_queue = sampler.waiting(&*subject)?;
    kernel.end(&mut record)?;
    let datagrams_filtered = firewall.map_or(Ok(0), |firewall| firewall.end(&mut record))?;
    nat.map(|nat| nat.end(&networks, &mut record)).transpose()?;
    let cpu_available_ns = machine.end(&mut record)?;
    let members = 0..subject.members();
    let sockets = members.filter_map(|member| subject.held(member, Transport::Udp).first()).copied().collect();
    let last_accept_ns = subject.last_accept_ns().unwrap_or(0);
    let (sampled, tracking) = sampler.end(&mut record);
    let mut finished = subject.finish();
    // Only now has the server closed all connections, whose states are listed.
    tracking.end(&mut record)?;
    let output = finished.output.take();
    subject::enter_changes(std::mem::take(&mut finished.changed), window.start_ns, &mut record.events);
    record.subject.exit = finished.exit.take();
    record.subject.ended_after_s = finished.ended_ns.map(|at_ns| at_ns.saturating_sub(window.start_ns) as f64 / 1e9);
    let (mut members, recorded) = members::enter(&context, finished, sampled, &mut record);
    // The ledger also has what other hosts established, once they have told.
    let (mut left, heard) = generators.finish(job, &context, window)?;
    if let (Some(hosts), Some(heard)) = (job.hosts, &heard) {
        enter_hosts(scenario, hosts, heard, &left, &mut record);
    }
    record.upstream = backend.map(|backend| backend.finish(&mut record.ports_peak, &mut members.dead)).transpose()?;
    let balance = context.ledger.as_ref().map(|ledger| ledger.balance()).unwrap_or_default();
    let (tuples, flow_tuples) = drawn(&context, job.seen);
    let ceiling = match &heard {
        None if scenario.unix.is_some() => None,
        None => Some(networks.for_loaders(|| Ok(Ceiling::of(scenario)))?),
        Some(heard) => heard.ceiling,
    };
    if let Some(ceiling) = ceiling {
        ceiling.enter(&mut record);
    }

    left.histograms.extend(recorded);
    let ended = assemble::Ended {
        window,
        interrupted_ns: control.interrupted_ns(),
        strayed: confinement.broken(),
        balance,
        tuples,
        flow_tuples,
        members,
        sockets,
        datagrams_filtered,
        last_accept_ns,
        cpu_available_ns,
        // A search looks for where failures begin.
        failures_are_asked: job.searched.is_some() || asks_about_failures(job.plan),
        last_output: output.as_deref().and_then(subject::last_line),
    };
    let histograms = assemble::complete(&context, ended, left, &mut record)?;
    let in_step = heard.is_none_or(|heard| heard.lost.is_empty());
    Ok(Ran { record, histograms, output, in_step })
}

/// A trial that has run.
pub(super) struct Ran {
    pub record: TrialRecord,
    pub histograms: Histograms,
    /// What the server printed, if that could be seen.
    pub output: Option<String>,
    /// Whether the load hosts, if any, have said all that they were asked for.
    pub in_step: bool,
}

/// The distinct 4-tuples of connections and of datagram flows, if it matters which they were.
fn drawn(context: &TrialContext, seen: Option<&Seen>) -> (Drawn, Drawn) {
    let TrialContext { scenario, ledger, .. } = context;
    let workers = scenario.all_workers();
    let Some(ledger) = ledger.as_ref().filter(|_| scenario.server.strategy.draws(workers) == Some(Draws::Tuples))
    else {
        return Default::default();
    };
    let of = |transport, drawn: &dyn Fn() -> Drawn| {
        if scenario.protocol.has(transport) { drawn() } else { Drawn::default() }
    };
    (of(Transport::Tcp, &|| ledger.tuples(workers, seen)), of(Transport::Udp, &|| ledger.flows(workers, seen)))
}

fn enter_networks(job: Job<'_>) -> Result<Networks> {
    let networks = Networks::enter(&job.cell().scenario, job.allow_remote, job.role)?;
    networks.in_each(|| set_sysctls(job.cell()))?;
    Ok(networks)
}

/// What the trial's processes on this host share.
pub(super) fn context(job: Job<'_>, control: &Arc<Control>, scenario: &Scenario) -> Result<TrialContext> {
    let scenario = Arc::new(scenario.clone());
    // All those behind NAT are one to the server.
    let clients = Arc::new(match scenario.nat {
        Some(_) => Places::anywhere(),
        None => job.role.places(&scenario.sources().addresses),
    });
    let ledger = || Ledger::new(Arc::clone(&clients)).map(Arc::new).context("mapping shared memory");
    let waits = job.waits();
    let Stamping { stamps, completions } = stamping(&scenario, waits, Room::Of(&clients))?;
    Ok(TrialContext {
        target: scenario.address,
        control: Arc::clone(control),
        // Behind NAT, the two sides know a connection by different ports.
        ledger: (control.records() && scenario.subject.is_own() && scenario.nat.is_none()).then(ledger).transpose()?,
        side: job.role.side,
        stamps,
        completions,
        tls: if job.role.side == Side::Load { None } else { tls::Server::of(&scenario)? },
        waits,
        seed: job.plan.whole.seed,
        repetition: job.trial.repetition,
        clients,
        scenario,
    })
}

/// What tells the workers of our own server when connections were established and completed.
pub(super) struct Stamping {
    pub stamps: Option<Arc<Stamps>>,
    pub completions: Option<Arc<Completions>>,
}

/// Loads what a server of ours needs for exact waits of these clients, if it records them.
pub(super) fn stamping(scenario: &Scenario, waits: Waits, clients: Room<'_>) -> Result<Stamping> {
    let stamps = waits.exact.then(|| Stamps::load(clients, scenario.address)).transpose()?;
    // Where they cannot be had, the run began by saying so.
    let completions = (waits.exact && scenario.server.strategy.wake == Wake::Uring)
        .then(|| Completions::load(scenario.all_workers()).ok())
        .flatten();
    Ok(Stamping { stamps: stamps.map(Arc::new), completions: completions.map(Arc::new) })
}

/// Starts or finds the server under test, whose clients are these loaders or, with its load elsewhere, the job's hosts.
fn open_subject(
    context: &TrialContext,
    loaders: &[i32],
    placed: &mut Placed,
) -> Result<Result<Box<dyn Subject>, NotReady>> {
    let hosts = if context.clients.are_closed() { context.clients.addresses() } else { &[] };
    let ours = Ours { processes: loaders, hosts };
    let subject: Box<dyn Subject> = match &context.scenario.subject {
        UnderTest::Own => {
            let listening = Listening::open(&context.scenario)?;
            let beside = Beside::attach(&context.scenario, ours)?;
            Box::new(OwnServer::fork(context, listening, "worker")?.with(beside))
        }
        UnderTest::Command(command) => match subject::start(context, command, ours, placed)? {
            Ok(started) => Box::new(started),
            Err(not_ready) => return Ok(Err(not_ready)),
        },
        UnderTest::Running => Box::new(subject::find(context, ours)?),
    };
    Ok(Ok(subject))
}

fn sampler(
    job: Job<'_>,
    context: &TrialContext,
    networks: &Networks,
    subject: &dyn Subject,
    loaders: &[i32],
) -> Result<Sampler> {
    let TrialContext { scenario, control, .. } = context;
    let clients = Clients {
        sockets: networks.for_loaders(|| SocketReader::open().context("opening /proc/self/net/sockstat"))?,
        // Those of a Unix socket take no ports.
        are_here: context.side == Side::Whole && scenario.unix.is_none(),
        with_server: networks.shared(),
        close_by: scenario.closing().close_by,
    };
    let ramp = RampWatch::new(context, subject.pids().into_iter().chain(loaders.iter().copied()))
        .filter(|_| control.records());
    let memory = (job.sizing.connections >= LEAST_OPEN)
        .then(|| MemoryWatch::begin(loaders.to_vec(), subject.pids()))
        .transpose()?;
    let queues = || {
        Ok::<_, Error>(match scenario.subject {
            UnderTest::Own => Queues::Own(match &scenario.unix {
                Some(unix) => QueueReader::of_unix(unix)?,
                None => QueueReader::of(subject.places())?,
            }),
            UnderTest::Command(_) | UnderTest::Running => Queues::of_others(scenario)?,
        })
    };
    let queues = scenario.protocol.has(Transport::Tcp).then(queues).transpose()?;
    // Only a shared network has other programs' sockets.
    let foreign = (scenario.network == Network::Host).then(|| {
        let datagrams = scenario.protocol.has(Transport::Udp).then(|| GroupReader::of(subject.places()));
        Ok::<_, Error>(ForeignWatch::new(datagrams.transpose()?))
    });
    let watches = (queues, foreign.transpose()?, TrackingWatch::begin(networks, context.side)?);
    Sampler::new(control, watches, clients, (memory, ramp), scenario.queue_interval)
}

/// Waits until this many processes are at the barrier. `check` fails if one of them has ended instead.
pub fn wait_until_ready(
    control: &Control,
    processes: usize,
    patience: Patience<'_>,
    check: impl FnMut() -> Result<()>,
) -> Result<()> {
    let processes = processes as u64;
    let ready = || control.ready() >= processes;
    wait_by(|at_most| control.nap_until_ready(processes, at_most), patience, ready, check)
        .with_context(|| format!("{} of {processes} processes are ready", control.ready()))
}

/// The trial's instants, of which the first is this far ahead.
fn window_ahead(scenario: &Scenario, ahead_ns: u64) -> Window {
    let start_ns = clock::monotonic_ns() + ahead_ns;
    let measure_from_ns = start_ns + clock::nanoseconds(scenario.span.warmup);
    Window {
        start_ns,
        measure_from_ns,
        measure_to_ns: match scenario.span.bound {
            Bound::Duration(span) => measure_from_ns + clock::nanoseconds(span),
            Bound::Connections(_) => u64::MAX,
        },
        deadline_ns: start_ns + clock::nanoseconds(scenario.deadline),
    }
}

/// Reads what the generators of the load send until the last has ended; meanwhile samples, reads the counters at the window's edges, and carries
/// out the events.
fn supervise(
    (control, window): (&Control, Window),
    confinement: &mut Confinement<'_>,
    generators: &mut Generators<'_>,
    (subject, mut backend): (&mut dyn Subject, Option<&mut Backend>),
    sampler: &mut Sampler,
    events: &mut Events,
    kernel: &mut KernelWatch,
) -> Result<()> {
    let beyond_ns = clock::nanoseconds(generators.patience());
    let deadline_ns = window.deadline_ns + clock::nanoseconds(END_PATIENCE) + beyond_ns;
    loop {
        let now_ns = clock::monotonic_ns();
        let patience = clock::nanoseconds(INTERRUPT_PATIENCE) + beyond_ns;
        let interrupted_ns = control.interrupted_ns().map(|at_ns| at_ns + patience);
        let patience_ns = interrupted_ns.unwrap_or(u64::MAX).min(deadline_ns);
        if now_ns > patience_ns {
            generators.give_up();
        }
        if control.interrupted_ns().is_none() && !confinement.hold()? {
            control.interrupt();
        }
        // Events before samples, which must not delay them.
        events.act(now_ns, subject, sampler)?;
        kernel.pass(now_ns)?;
        // Samples show what the subject has counted by its latest look.
        subject.look(now_ns)?;
        sampler.sample_due(now_ns, subject)?;
        if let Some(backend) = &mut backend {
            backend.look(now_ns)?;
        }
        let next_of_backend = backend.as_ref().map(|backend| backend.next_look_ns());
        let due = [events.next_ns(), kernel.next_ns(), subject.next_look_ns(), next_of_backend]
            .into_iter()
            .flatten()
            .fold(sampler.next_ns().min(patience_ns), u64::min);
        if generators.drain(Duration::from_nanos(due.saturating_sub(clock::monotonic_ns())))? {
            return Ok(());
        }
    }
}
