//! The trial's process: set-up, barrier, supervision, counting.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, getpid, getppid, sysconf};

use super::{
    Job, cgroup_name,
    faults::Faults,
    gathered::{Gathered, WorkerAccount},
    loaders::{Histograms, Loaders, fork_loaders, loader_accounts},
    networks::Networks,
    ramp::RampWatch,
    sampler::{Clients, QueueSeen, Sampler},
    set_sysctls,
    subject::{Ended, Finished, Listening, OwnServer, Subject},
};
use crate::{
    context::TrialContext,
    ipc::{
        control::{Control, Count, Window},
        family::{Patience, wait_until},
        ledger::Ledger,
    },
    load::source,
    observe::{
        counters::{self, CounterReader, Counters, CpuTicks, SocketReader},
        datagrams::DatagramQueue,
        ports::Range,
        queues::QueueReader,
        stamps::Stamps,
        sysctl,
    },
    record::{DatagramSocketRow, ObserverRow, QueueRow},
    scenario::{Bound, CloseBy, CloseHow, Scenario, Selection, Transport},
    sys::{clock, process},
};

/// Time between the moment when all are ready and the start, so that all see it coming.
const START_AHEAD_NS: u64 = 20_000_000;
/// How long processes may take to set themselves up.
pub const SETUP_PATIENCE: Duration = Duration::from_secs(30);
/// How long a loader may take beyond the deadline to send its report.
pub const REPORT_PATIENCE: Duration = Duration::from_secs(20);

/// Runs a trial in the calling process and returns its account.
pub(super) fn run(job: Job<'_>, control: &Arc<Control>) -> Result<(Gathered, Histograms)> {
    let cell = job.cell();
    let scenario = Arc::new(cell.scenario.clone());
    let parent = getppid();
    let networks = Networks::enter(&scenario)?;
    // A user namespace changes credentials, which clears the parent's death signal.
    process::die_with(parent).context("prctl(PR_SET_PDEATHSIG)")?;
    networks.in_each(|| set_sysctls(cell))?;
    let ledger = || Ledger::new(&scenario.sources.addresses).map(Arc::new).context("mapping shared memory");
    let waits = job.waits();
    let (stamps, mut stamper) =
        if waits.exact { Some(Stamps::load(scenario.sources.addresses.len().max(1))?) } else { None }.unzip();
    let context = TrialContext {
        scenario: Arc::clone(&scenario),
        target: scenario.address,
        control: Arc::clone(control),
        ledger: control.records().then(ledger).transpose()?,
        stamps: stamps.map(Arc::new),
        waits,
        seed: job.plan.whole.seed,
        repetition: job.trial.repetition,
    };
    // Loaders first: what is opened afterwards they do not inherit.
    let mut loaders = networks.for_loaders(|| fork_loaders(&context, job.sizing.loaders))?;
    let listening = match &mut stamper {
        Some(stamper) => stamper.inside(&cgroup_name(getpid().as_raw()), || Listening::open(&scenario))??,
        None => Listening::open(&scenario)?,
    };
    let mut subject: Box<dyn Subject> = Box::new(OwnServer::fork(&context, listening)?);
    let patience = Patience::of(SETUP_PATIENCE);
    wait_until_ready(control, subject.at_barrier() + loaders.len(), patience, || {
        subject.check_running().and_then(|()| loaders.check_running())
    })?;

    let queues = QueueReader::new(subject.address())?;
    let clients = Clients {
        sockets: networks.for_loaders(|| SocketReader::open().context("opening /proc/self/net/sockstat"))?,
        with_server: networks.shared(),
        close_by: scenario.load.close_by,
    };
    let ramp = RampWatch::new(&scenario, waits, subject.pids().into_iter().chain(loaders.pids()))
        .filter(|_| control.records());
    let mut sampler = Sampler::new(control, queues, &*subject, clients, &loaders, ramp, scenario.queue_interval)?;
    let mut counters = CounterReader::default();
    networks.in_each(|| counters.add_namespace().context("opening /proc/self/net"))?;
    let own_before = clock::cpu_use();
    let softnet = counters::softnet().context("reading /proc/net/softnet_stat")?;
    let ticks = CpuTicks::read().context("reading /proc/stat")?;
    let ticks_read_ns = clock::monotonic_ns();
    let before = counters.read().context("reading /proc/self/net")?;
    let window = open_barrier(&scenario, control);
    let mut faults = Faults::new(&scenario, control, window);
    let mut borders = Borders::new(window, &mut counters);
    sampler.start(window.start_ns);
    supervise(window, &mut loaders, &mut *subject, &mut sampler, &mut faults, &mut borders)?;
    let faults = faults.finish(&*subject, &mut sampler)?;
    let kernel_measured = borders.difference()?;

    subject.stop();
    sampler.sample_last(&*subject)?;
    let left_in_queue = sampler.waiting(&*subject)?;
    let kernel = counters::difference(&before, &counters.read().context("reading /proc/self/net")?);
    let machine = CpuTicks::read().context("reading /proc/stat")?.since(&ticks);
    let softnet = counters::softnet().context("reading /proc/net/softnet_stat")?.since(&softnet);
    let own = clock::cpu_use();
    let elapsed_ns = clock::monotonic_ns() - ticks_read_ns;
    let samples = sampler.finish();
    let datagram_sockets: Vec<_> = (0..subject.members()).map(|one| subject.listener(one, Transport::Udp)).collect();
    let last_accept_ns = subject.last_accept_ns().unwrap_or(0);
    let Finished { members, helper, histograms: recorded } = subject.finish();
    let balance = context.ledger.map(|ledger| ledger.balance()).unwrap_or_default();
    let (usable_ports, ports_ceiling_per_s) = networks.for_loaders(|| {
        let usable = Range::read().map_or(0, |range| range.usable());
        Ok((usable, ceiling_per_s(&scenario, usable)))
    })?;

    let (loaders, mut histograms) = loader_accounts(loaders)?;
    histograms.extend(recorded);
    let mut datagram_queues = samples.datagram_queues.into_iter();
    let workers = members
        .into_iter()
        .zip(samples.queues)
        .map(|(ended, seen)| worker_account(ended, &seen, datagram_queues.next()))
        .collect::<Vec<_>>();
    let datagrams_lost = lost(datagram_sockets.iter().flatten().zip(&workers));
    let (helper, helper_errors) = helper.unzip();
    let gathered = Gathered {
        window,
        workers,
        helper,
        helper_errors: helper_errors.unwrap_or_default(),
        loaders,
        left_in_queue,
        last_accept_ns,
        usable_ports,
        ports_ceiling_per_s,
        ports_peak: samples.ports_peak,
        datagrams_lost,
        sockets_peak: samples.sockets_peak,
        memory: samples.memory,
        ramp: samples.ramp,
        balance,
        kernel,
        kernel_measured,
        softnet,
        machine,
        observer: ObserverRow {
            cpu_user_ns: own.user_ns - own_before.user_ns,
            cpu_system_ns: own.system_ns - own_before.system_ns,
        },
        cpu_available_ns: elapsed_ns.saturating_mul(online_cpus()),
        series: samples.series,
        faults,
    };
    Ok((gathered, histograms))
}

/// Connections per second that the loaders' ports can bear for ever, in the calling process's network: a client that closes
/// first by FIN leaves its port in TIME_WAIT, for a minute, or where tcp_tw_reuse allows, for tcp_tw_reuse_delay. One that
/// binds to its port may take it over at once (kernel, tcp_twsk_unique without a death row).
fn ceiling_per_s(scenario: &Scenario, usable: u64) -> Option<f64> {
    /// TCP_TIMEWAIT_LEN of the kernel's include/net/tcp.h.
    const TIME_WAIT_S: f64 = 60.0;
    let load = &scenario.load;
    if load.close_by != CloseBy::Client
        || load.close_how != CloseHow::Fin
        || load.udp_share >= 1.0
        || scenario.sources.selection == Selection::Explicit
    {
        return None;
    }
    let number = |name: &str| sysctl::read(name).and_then(|text| text.parse::<f64>().ok());
    let reuse = number("tcp_tw_reuse").unwrap_or(2.0);
    let rests_s = if reuse == 1.0 || (reuse == 2.0 && scenario.address.ip().is_loopback()) {
        number("tcp_tw_reuse_delay").unwrap_or(1_000.0) / 1_000.0
    } else {
        TIME_WAIT_S
    };
    let groups = source::groups(&scenario.sources, &[scenario.address]).len() as u64;
    (rests_s > 0.0).then(|| (groups * usable) as f64 / rests_s)
}

/// Waits until so many processes stand at the barrier. `check` fails when one of them has ended instead.
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

/// Sets the trial's instants and lets everybody start.
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

/// Processors that /proc/stat counts.
fn online_cpus() -> u64 {
    sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().and_then(|count| u64::try_from(count).ok()).unwrap_or(1)
}

/// Reads what the loaders send until the last has ended. Meanwhile samples, reads the counters at the window's borders and
/// causes the faults.
fn supervise(
    window: Window,
    loaders: &mut Loaders,
    subject: &mut dyn Subject,
    sampler: &mut Sampler,
    faults: &mut Faults,
    borders: &mut Borders<'_>,
) -> Result<()> {
    let patience_ns = window.deadline_ns + clock::nanoseconds(REPORT_PATIENCE);
    loop {
        let now_ns = clock::monotonic_ns();
        if now_ns > patience_ns {
            loaders.kill();
        }
        // Faults first: nobody is to wait for them while a sample is taken.
        faults.act(now_ns, subject, sampler)?;
        borders.pass(now_ns)?;
        sampler.sample_due(now_ns, subject)?;
        let due = [faults.next_ns(), borders.next_ns()]
            .into_iter()
            .flatten()
            .fold(sampler.next_ns().min(patience_ns), u64::min);
        if loaders.drain(Duration::from_nanos(due.saturating_sub(clock::monotonic_ns()))) {
            return Ok(());
        }
    }
}

/// The kernel's counters at the borders of the measured window.
struct Borders<'a> {
    counters: &'a mut CounterReader,
    /// Borders that are still to come, the next last.
    ahead: Vec<u64>,
    read: Vec<Counters>,
}

impl<'a> Borders<'a> {
    fn new(window: Window, counters: &'a mut CounterReader) -> Self {
        Self { counters, ahead: vec![window.measure_to_ns, window.measure_from_ns], read: Vec::with_capacity(2) }
    }

    fn next_ns(&self) -> Option<u64> {
        self.ahead.last().copied()
    }

    fn pass(&mut self, now_ns: u64) -> Result<()> {
        while self.ahead.pop_if(|border_ns| *border_ns <= now_ns).is_some() {
            self.read.push(self.counters.read().context("reading /proc/self/net")?);
        }
        Ok(())
    }

    /// What was counted between them; a window without end ends now.
    fn difference(mut self) -> Result<Counters> {
        self.pass(u64::MAX)?;
        Ok(counters::difference(&self.read[0], &self.read[1]))
    }
}

/// Datagrams that sockets have lost; workers that share one see the same of it, each up to its last reception.
fn lost<'a>(sockets: impl Iterator<Item = (&'a u32, &'a WorkerAccount)>) -> u64 {
    let mut lost: HashMap<u32, u64> = HashMap::new();
    for (inode, worker) in sockets {
        let seen = worker.datagram_queue.as_ref().map_or(0, |socket| socket.lost);
        let most = lost.entry(*inode).or_default();
        *most = seen.max(*most);
    }
    lost.values().sum()
}

fn worker_account(ended: Ended, seen: &QueueSeen, datagrams: Option<DatagramQueue>) -> WorkerAccount {
    let count = |count| ended.counted.as_ref().map_or(0, |counted| counted.total.get(count));
    WorkerAccount {
        pid: ended.pid,
        open_peak: count(Count::OpenPeak),
        unstamped: count(Count::Unstamped),
        queue: QueueRow {
            samples: seen.samples,
            mean: seen.lengths as f64 / seen.samples.max(1) as f64,
            full_share: seen.full as f64 / seen.samples.max(1) as f64,
            drops: u64::from(seen.peak.drops),
        },
        queue_peak: u64::from(seen.peak.length),
        queue_limit: u64::from(seen.peak.limit),
        datagrams_left: count(Count::DatagramsLeft),
        datagram_queue: datagrams.map(|seen| DatagramSocketRow {
            // What was lost after the last datagram that the worker received, only /proc knows.
            lost: seen.lost.max(count(Count::DatagramsLost)),
            queue_peak_bytes: seen.bytes,
            ..DatagramSocketRow::default()
        }),
        counted_by: ended.counted.as_ref().map(|counted| counted.by),
        total: ended.counted.as_ref().map(|counted| (&counted.total).into()).unwrap_or_default(),
        measured: ended.counted.as_ref().map(|counted| (&counted.measured).into()).unwrap_or_default(),
        exit: ended.exit,
        errors: ended.errors,
        scheduler: ended.scheduler,
    }
}
