//! The trial's process: set-up, barrier, supervision, counting.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use nix::unistd::{getpid, getppid};

use super::{
    Histograms, Job, assemble, ceiling, cgroup_name,
    faults::Faults,
    loaders::{Loaders, fork_loaders, loader_accounts},
    members,
    networks::Networks,
    ramp::RampWatch,
    sampler::{Clients, Sampler},
    set_sysctls,
    subject::{Listening, OwnServer, Subject},
    watch::{KernelWatch, MachineWatch},
};
use crate::{
    context::TrialContext,
    ipc::{
        control::{Control, Window},
        family::{Patience, wait_until},
        ledger::Ledger,
    },
    observe::{
        counters::SocketReader,
        queues::QueueReader,
        stamps::{Stamper, Stamps},
    },
    record::TrialRecord,
    scenario::{Bound, Scenario, Transport},
    sys::{clock, process},
};

/// Time from all processes being ready to the start, so that each of them knows the start before it comes.
const START_AHEAD_NS: u64 = 20_000_000;
/// How long processes may take to set themselves up.
pub const SETUP_PATIENCE: Duration = Duration::from_secs(30);
/// How long a loader may take beyond the deadline to send its report.
pub const REPORT_PATIENCE: Duration = Duration::from_secs(20);

/// Runs a trial in the calling process, and completes its record.
pub(super) fn run(job: Job<'_>, control: &Arc<Control>, mut record: TrialRecord) -> Result<(TrialRecord, Histograms)> {
    let networks = enter_networks(job)?;
    // The stamper works until it is dropped.
    let (context, mut stamper) = context(job, control)?;
    let scenario = &context.scenario;
    // Fork the loaders first: they inherit nothing that is opened later.
    let mut loaders = networks.for_loaders(|| fork_loaders(&context, job.sizing.loaders))?;
    let mut subject: Box<dyn Subject> = open_and_fork(&context, stamper.as_mut())?;
    record.subject = subject.describe();
    wait_until_ready(control, subject.at_barrier() + loaders.len(), Patience::of(SETUP_PATIENCE), || {
        subject.check_running().and_then(|()| loaders.check_running())
    })?;

    let mut sampler = sampler(&context, &networks, &*subject, &loaders)?;
    let machine = MachineWatch::begin()?;
    let mut kernel = KernelWatch::begin(&networks)?;
    let window = open_barrier(scenario, control);
    kernel.expect(window);
    sampler.start(window.start_ns);
    let mut faults = Faults::new(scenario, control, window);
    supervise(window, &mut loaders, &mut *subject, &mut sampler, &mut faults, &mut kernel)?;
    record.events = faults.finish(&*subject, &mut sampler)?;
    kernel.end_window()?;

    subject.stop();
    sampler.sample_last(&*subject)?;
    record.connections.left_in_queue = sampler.waiting(&*subject)?;
    kernel.end(&mut record)?;
    let cpu_available_ns = machine.end(&mut record)?;
    let members = 0..subject.members();
    let sockets = members.filter_map(|member| subject.listener(member, Transport::Udp)).collect();
    let last_accept_ns = subject.last_accept_ns().unwrap_or(0);
    let sampled = sampler.end(&mut record);
    let (members, recorded) = members::enter(&context, subject.finish(), sampled, &mut record);
    let balance = context.ledger.as_ref().map(|ledger| ledger.balance()).unwrap_or_default();
    networks.for_loaders(|| {
        ceiling::enter(scenario, &mut record);
        Ok(())
    })?;

    let (loaders, mut histograms) = loader_accounts(loaders)?;
    histograms.extend(recorded);
    let ended = assemble::Ended { window, balance, members, sockets, last_accept_ns, cpu_available_ns };
    assemble::complete(&context, ended, loaders, &histograms, &mut record)?;
    Ok((record, histograms))
}

fn enter_networks(job: Job<'_>) -> Result<Networks> {
    let parent = getppid();
    let networks = Networks::enter(&job.cell().scenario)?;
    // Entering a user namespace changes credentials, which clears the parent-death signal.
    process::die_with(parent).context("prctl(PR_SET_PDEATHSIG)")?;
    networks.in_each(|| set_sysctls(job.cell()))?;
    Ok(networks)
}

/// What the trial's processes share, and what stamps their connections.
fn context(job: Job<'_>, control: &Arc<Control>) -> Result<(TrialContext, Option<Stamper>)> {
    let scenario = Arc::new(job.cell().scenario.clone());
    let ledger = || Ledger::new(&scenario.sources.addresses).map(Arc::new).context("mapping shared memory");
    let waits = job.waits();
    let (stamps, stamper) =
        if waits.exact { Some(Stamps::load(scenario.sources.addresses.len().max(1))?) } else { None }.unzip();
    let context = TrialContext {
        target: scenario.address,
        control: Arc::clone(control),
        ledger: control.records().then(ledger).transpose()?,
        stamps: stamps.map(Arc::new),
        waits,
        seed: job.plan.whole.seed,
        repetition: job.trial.repetition,
        scenario,
    };
    Ok((context, stamper))
}

fn open_and_fork(context: &TrialContext, stamper: Option<&mut Stamper>) -> Result<Box<dyn Subject>> {
    let listening = match stamper {
        Some(stamper) => stamper.inside(&cgroup_name(getpid().as_raw()), || Listening::open(&context.scenario))??,
        None => Listening::open(&context.scenario)?,
    };
    Ok(Box::new(OwnServer::fork(context, listening)?))
}

fn sampler(context: &TrialContext, networks: &Networks, subject: &dyn Subject, loaders: &Loaders) -> Result<Sampler> {
    let TrialContext { scenario, control, .. } = context;
    let clients = Clients {
        sockets: networks.for_loaders(|| SocketReader::open().context("opening /proc/self/net/sockstat"))?,
        with_server: networks.shared(),
        close_by: scenario.load.close_by,
    };
    let ramp = RampWatch::new(context, subject.pids().into_iter().chain(loaders.pids())).filter(|_| control.records());
    let queues = QueueReader::new(subject.address())?;
    Sampler::new(control, queues, subject, clients, loaders, ramp, scenario.queue_interval)
}

/// Waits until this many processes are at the barrier. `check` fails if one of them has ended instead.
pub fn wait_until_ready(
    control: &Control,
    processes: usize,
    patience: Patience<'_>,
    check: impl FnMut() -> Result<()>,
) -> Result<()> {
    let ready = || control.ready() >= processes as u64;
    wait_until(patience, ready, check)
        .with_context(|| format!("{} of {processes} processes are ready", control.ready()))
}

/// Sets the trial's instants and opens the barrier.
pub fn open_barrier(scenario: &Scenario, control: &Control) -> Window {
    let start_ns = clock::monotonic_ns() + START_AHEAD_NS;
    let measure_from_ns = start_ns + clock::nanoseconds(scenario.load.warmup);
    let window = Window {
        start_ns,
        measure_from_ns,
        measure_to_ns: match scenario.load.bound {
            Bound::Duration(span) => measure_from_ns + clock::nanoseconds(span),
            Bound::Connections(_) => u64::MAX,
        },
        deadline_ns: start_ns + clock::nanoseconds(scenario.deadline),
    };
    control.open(window);
    window
}

/// Reads what the loaders send until the last has ended; meanwhile samples, reads the counters at the window's edges, and carries
/// out the faults.
fn supervise(
    window: Window,
    loaders: &mut Loaders,
    subject: &mut dyn Subject,
    sampler: &mut Sampler,
    faults: &mut Faults,
    kernel: &mut KernelWatch,
) -> Result<()> {
    let patience_ns = window.deadline_ns + clock::nanoseconds(REPORT_PATIENCE);
    loop {
        let now_ns = clock::monotonic_ns();
        if now_ns > patience_ns {
            loaders.kill();
        }
        // Faults first: a sample must not delay them.
        faults.act(now_ns, subject, sampler)?;
        kernel.pass(now_ns)?;
        sampler.sample_due(now_ns, subject)?;
        let due = [faults.next_ns(), kernel.next_ns()]
            .into_iter()
            .flatten()
            .fold(sampler.next_ns().min(patience_ns), u64::min);
        if loaders.drain(Duration::from_nanos(due.saturating_sub(clock::monotonic_ns()))) {
            return Ok(());
        }
    }
}
