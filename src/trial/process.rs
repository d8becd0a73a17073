//! The trial's process: set-up, barrier, supervision, counting.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use nix::unistd::{SysconfVar, getppid, sysconf};

use super::{
    Job,
    crew::{Crew, Ended},
    faults::Faults,
    gathered::{Gathered, WorkerAccount},
    loaders::{Histograms, LoadJob, Loaders},
    networks::Networks,
    sampler::{Clients, INTERVAL_MS, Sampler},
    set_sysctls,
};
use crate::{
    ipc::{
        control::{Control, Count, Counts, Window},
        ledger::Ledger,
        tally::ErrorCount,
    },
    observe::{
        counters::{self, CounterReader, CpuTicks, SocketReader},
        datagrams::DatagramQueue,
        queues::{Queue, QueueReader},
        sysctl,
    },
    record::{DatagramSocketRow, HelperRow, WorkerCounts},
    scenario::{Bound, Scenario},
    sys::{clock, process},
};

/// Time between the moment when all are ready and the start, so that all see it coming.
const START_AHEAD_NS: u64 = 20_000_000;
/// Longest set-up.
const SETUP_PATIENCE: Duration = Duration::from_secs(30);
/// What a loader may take beyond the deadline to send its report.
const REPORT_PATIENCE: Duration = Duration::from_secs(20);

/// Runs a trial in the calling process and returns its account.
pub(super) fn run(job: Job<'_>, control: &Arc<Control>) -> Result<(Gathered, Histograms)> {
    let cell = job.cell();
    let scenario = Arc::new(cell.scenario.clone());
    let parent = getppid();
    let networks = Networks::enter(&scenario)?;
    // A user namespace changes credentials, which clears the parent's death signal.
    process::die_with(parent).context("prctl(PR_SET_PDEATHSIG)")?;
    networks.in_each(|| set_sysctls(cell))?;
    let ledger = Arc::new(Ledger::new().context("mapping shared memory")?);
    // Loaders first: what is opened afterwards they do not inherit.
    let template = LoadJob {
        scenario: &scenario,
        target: scenario.address,
        seed: job.plan.seed,
        repetition: job.trial.repetition,
    };
    let mut loaders = networks.for_loaders(|| Loaders::fork(template, job.sizing.loaders, control, Some(&ledger)))?;
    let mut crew = Crew::fork(&scenario, control, Some(&ledger), job.plan.seed, job.trial.repetition)?;
    wait_until_ready(control, crew.len() + loaders.len(), || crew.check_setup().and_then(|()| loaders.check_setup()))?;

    let queues = QueueReader::new(crew.address())?;
    let clients = Clients {
        sockets: networks.for_loaders(|| SocketReader::open().context("opening /proc/self/net/sockstat"))?,
        with_server: networks.shared(),
        close_by: scenario.load.close_by,
    };
    let mut sampler = Sampler::new(control, queues, &crew, clients);
    let mut counters = CounterReader::default();
    networks.in_each(|| counters.add_namespace().context("opening /proc/self/net"))?;
    let ticks = CpuTicks::read().context("reading /proc/stat")?;
    let ticks_read_ns = clock::monotonic_ns();
    let before = counters.read().context("reading /proc/self/net")?;
    let window = open_barrier(&scenario, control);
    let mut faults = Faults::new(&scenario, control, window);
    supervise(window, &mut loaders, &mut crew, &mut sampler, &mut faults)?;
    let faults = faults.finish(&mut sampler)?;

    crew.stop()?;
    sampler.sample()?;
    let left_in_queue = sampler.waiting()?;
    let kernel = counters::difference(&before, &counters.read().context("reading /proc/self/net")?);
    let ticks_after = CpuTicks::read().context("reading /proc/stat")?;
    let elapsed_ns = clock::monotonic_ns() - ticks_read_ns;
    let mut workers = crew.dismiss()?;
    let helper = workers.split_off(control.workers()).pop();
    let balance = ledger.balance();
    let samples = sampler.finish();
    let usable_ports = networks.for_loaders(|| Ok(sysctl::usable_ports().unwrap_or(0)))?;

    let (loaders, mut histograms) = loaders.accounts()?;
    for (number, worker) in workers.iter_mut().enumerate() {
        if let Some(batches) = worker.batches.take().filter(|batches| !batches.is_empty()) {
            histograms.insert(format!("w{number}.accept_batch"), batches);
        }
    }
    let mut datagram_queues = samples.datagram_queues.into_iter();
    let workers = workers
        .into_iter()
        .zip(samples.queue_peaks)
        .enumerate()
        .map(|(number, (ended, peak))| worker_account(control, number, ended, peak, datagram_queues.next()))
        .collect();
    let (helper, helper_errors) = helper.map(|ended| helper_row(control, ended)).unzip();
    let gathered = Gathered {
        window,
        workers,
        helper,
        helper_errors: helper_errors.unwrap_or_default(),
        loaders,
        left_in_queue,
        last_accept_ns: (0..control.workers()).map(|worker| control.last_accept_ns(worker)).max().unwrap_or(0),
        usable_ports,
        ports_peak: samples.ports_peak,
        datagrams_lost: samples.datagrams_lost,
        balance,
        kernel,
        cpu_steal_share: ticks_after.steal_share_since(&ticks),
        cpu_busy_share: ticks_after.busy_share_since(&ticks),
        cpu_available_ns: elapsed_ns.saturating_mul(online_cpus()),
        series: samples.series,
        faults,
    };
    Ok((gathered, histograms))
}

/// Waits until so many processes stand at the barrier. `check` fails when one of them has ended instead.
pub fn wait_until_ready(control: &Control, processes: usize, mut check: impl FnMut() -> Result<()>) -> Result<()> {
    let patience_ns = clock::monotonic_ns() + clock::nanoseconds(SETUP_PATIENCE);
    while control.ready() < processes as u64 {
        check()?;
        if clock::monotonic_ns() > patience_ns {
            bail!("{} of {processes} processes were ready after {SETUP_PATIENCE:?}", control.ready());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
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

/// Hears the loaders until the last has ended; samples and carries the faults out meanwhile.
fn supervise(
    window: Window,
    loaders: &mut Loaders,
    crew: &mut Crew,
    sampler: &mut Sampler,
    faults: &mut Faults,
) -> Result<()> {
    let patience_ns = window.deadline_ns + clock::nanoseconds(REPORT_PATIENCE);
    let interval_ns = INTERVAL_MS * 1_000_000;
    let mut next_sample_ns = window.start_ns + interval_ns;
    loop {
        let now_ns = clock::monotonic_ns();
        if now_ns > patience_ns {
            loaders.kill();
        }
        if now_ns >= next_sample_ns {
            sampler.sample()?;
            next_sample_ns += interval_ns;
            continue;
        }
        faults.act(now_ns, crew, sampler)?;
        let next_ns = faults.next_ns().map_or(next_sample_ns, |next_ns| next_ns.min(next_sample_ns));
        if loaders.hear(Duration::from_nanos(next_ns.saturating_sub(now_ns)))? {
            return Ok(());
        }
    }
}

fn helper_row(control: &Control, ended: Ended) -> (HelperRow, Vec<ErrorCount>) {
    let number = control.workers();
    let (total, measured) = (row(&control.since_start(number)), row(&control.measured(number)));
    let row = HelperRow { pid: ended.pid, total, measured, exit: ended.exit };
    (row, ended.report.unwrap_or_default().errors)
}

fn worker_account(
    control: &Control,
    number: usize,
    ended: Ended,
    peak: Queue,
    datagrams: Option<DatagramQueue>,
) -> WorkerAccount {
    let total = control.since_start(number);
    WorkerAccount {
        pid: ended.pid,
        exit: ended.exit,
        total: row(&total),
        measured: row(&control.measured(number)),
        open_peak: total.get(Count::OpenPeak),
        queue_peak: u64::from(peak.length),
        queue_limit: u64::from(peak.limit),
        datagrams_left: total.get(Count::DatagramsLeft),
        datagram_queue: datagrams.map(|seen| DatagramSocketRow {
            // What was lost after the last datagram that the worker received, only /proc knows.
            lost: seen.lost.max(total.get(Count::DatagramsLost)),
            queue_peak_bytes: seen.bytes,
            ..DatagramSocketRow::default()
        }),
        errors: ended.report.unwrap_or_default().errors,
    }
}

fn row(counts: &Counts) -> WorkerCounts {
    WorkerCounts {
        accepted: counts.get(Count::Accepted),
        wakeups: counts.get(Count::Wakeups),
        empty_wakeups: counts.get(Count::EmptyWakeups),
        accept_eagain: counts.get(Count::AcceptEagain),
        datagrams: counts.get(Count::Datagrams),
        datagram_wakeups: counts.get(Count::DatagramWakeups),
        datagram_empty_wakeups: counts.get(Count::DatagramEmptyWakeups),
        cpu_user_ns: counts.get(Count::CpuUserNs),
        cpu_system_ns: counts.get(Count::CpuSystemNs),
        voluntary_switches: counts.get(Count::VoluntarySwitches),
        involuntary_switches: counts.get(Count::InvoluntarySwitches),
    }
}
