//! A trial of kind `ports`: listeners that nobody accepts from, and processes that fill the ports with connections to them.
//!
//! Established connections stay in their listener's queue, which is as long as necessary: the server needs no file for them, and
//! the number left in the queues must equal the number established.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use super::{
    Histograms, Job, Outcome as TrialOutcome, judge, networks::Networks, process::END_PATIENCE, set_sysctls,
    tracking::TrackingWatch,
};
use crate::{
    context::{Role, Side},
    ipc::family::{self, Family, Patience},
    load::{
        fill::{FillControl, FillLog, FillPhase, FillReport, Filler, RESERVED_FILES},
        source::{self, Share},
    },
    observe::{
        counters::{self, CounterReader, Counters, SocketReader},
        ports::Range,
        queues::QueueReader,
        sysctl,
    },
    record::{
        Connections, Conntrack, ErrorCount, Exit, NetworkRules, Outcome, Outcomes, Ports, PortsStep, TrialRecord,
    },
    scenario::{Fill, Scenario},
    stats,
    sys::{clock, limits},
};

/// Length of the queues, unless the scenario sets it.
const SOMAXCONN: &str = "4194304";
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What the trial's process sends to its parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Account {
    groups: u64,
    range: u64,
    usable: u64,
    capacity: u64,
    fillers: Vec<FillReport>,
    /// Duration and CPU time of each connect(), in order, ns.
    connects: Vec<(u64, u64)>,
    /// Fillers that ended early, and how.
    dead: Vec<(String, Exit)>,
    left_in_queue: u64,
    time_wait_after_close: u64,
    recovered_after_s: Option<f64>,
    kernel: Counters,
    conntrack: Vec<Conntrack>,
    rules: Vec<NetworkRules>,
    elapsed_s: f64,
    /// When the fill was told to end early, in seconds since its start.
    interrupted_s: Option<f64>,
}

/// Runs the trial in the calling process. `control` was made before its fork.
pub(super) fn run(job: Job<'_>, control: &Arc<FillControl>) -> Result<Account> {
    let cell = job.cell();
    let scenario = Arc::new(cell.scenario.clone());
    let fill = scenario.fill.as_ref().context("the scenario is not of kind `ports`")?;
    let networks = Networks::enter(&scenario, false, Role::default())?;
    networks.in_each(|| {
        sysctl::write("somaxconn", SOMAXCONN)?;
        set_sysctls(cell)
    })?;
    let range = networks.for_loaders(|| Range::read().context("reading ip_local_port_range"))?;
    let groups = source::groups(&scenario.loads[0].sources, &fill.destinations);
    let bound = networks.for_loaders(|| source::bound(&scenario))?;
    let usable = source::usable(&range, scenario.loads[0].sources.selection, &groups, &bound);
    let capacity = source::capacity(scenario.loads[0].sources.selection, &groups, &usable);
    let part = |permille: u32| (capacity * u64::from(permille)).div_ceil(1_000);
    control.set_capacity(capacity);
    let deadline_ns = clock::monotonic_ns() + clock::nanoseconds(scenario.deadline);
    // Applies to each phase of the trial separately.
    let patience = Patience::of(scenario.deadline + END_PATIENCE);
    let files = limits::open_files().context("getrlimit(RLIMIT_NOFILE)")?.hard.saturating_sub(RESERVED_FILES).max(1);
    let until = fill.until_permille.map_or(u64::MAX, part);
    // One more than the files require, to meet the wall.
    let processes = (capacity.min(until) / files + 1) as usize;
    let log = FillLog::new(processes, groups.len() * range.size() as usize).context("mapping shared memory")?;
    let log = Arc::new(log);
    let template = |process, processes| Filler {
        share: Share { process, processes },
        scenario: Arc::clone(&scenario),
        control: Arc::clone(control),
        log: Arc::clone(&log),
        range: range.clone(),
        until,
        recover: fill.recover_permille.map_or(0, part),
        recover_within: fill.recover_within,
        deadline_ns,
        seed: job.plan.whole.seed,
    };
    let mut fillers = networks.for_loaders(|| fork(processes, template))?;
    let listeners: Vec<Socket> =
        fill.destinations.iter().map(|destination| listen(*destination)).collect::<Result<_>>()?;
    let mut counters = CounterReader::default();
    networks.in_each(|| counters.add_namespace().context("opening /proc/self/net"))?;
    let mut sockets = networks.for_loaders(|| SocketReader::open().context("opening /proc/self/net/sockstat"))?;
    let before = counters.read().context("reading /proc/self/net")?;
    let mut tracking = TrackingWatch::begin(&networks, Side::Whole)?;
    // Its networks are its own: nothing else changes their routes.
    networks.confine(&scenario, false, Role::default())?;
    let start_ns = clock::monotonic_ns();

    control.set_phase(FillPhase::Fill);
    let mut wait_for = |count: &dyn Fn() -> u64| {
        let check = || {
            fillers.ended().for_each(|filler| control.died(filler, &log));
            Ok(())
        };
        family::wait_until(patience, || count() >= processes as u64, check)
    };
    wait_for(&|| control.turns())?;
    let left_in_queue = waiting(&fill.destinations)?;
    let elapsed_s = (clock::monotonic_ns() - start_ns) as f64 / 1e9;
    // The fill is at its highest now.
    tracking.sample()?;
    let mut interrupted_ns = control.interrupted_ns();
    control.set_phase(FillPhase::Close);
    wait_for(&|| log.closed())?;
    let closed_ns = clock::monotonic_ns();
    // Close the other ends too, so that a close by FIN completes on both sides.
    listeners.iter().for_each(drain);
    let time_wait_after_close = settled(&mut sockets, listeners.len() as u64)?;
    if fill.recover_permille.is_some() {
        // Even of an interrupted trial: the processes wait for it.
        control.set_phase(FillPhase::Recover);
        wait_for(&|| control.turns())?;
        interrupted_ns = control.interrupted_ns();
    }
    control.set_phase(FillPhase::Exit);
    let ended = fillers.finish(patience).into_iter().filter(|account| !account.exit.is_ok());
    let dead = ended.map(|account| (format!("{} (pid {})", account.name, account.pid), account.exit)).collect();
    let reports: Vec<FillReport> = (0..processes).map(|filler| log.read(filler)).collect();
    let mut watched = TrialRecord::default();
    tracking.end(&mut watched)?;
    let recovered = reports.iter().filter_map(|report| report.recovered_at_ns).min();
    Ok(Account {
        groups: groups.len() as u64,
        range: range.size(),
        usable: usable.into_iter().min().unwrap_or(0),
        capacity,
        left_in_queue,
        time_wait_after_close,
        recovered_after_s: recovered.map(|at_ns| at_ns.saturating_sub(closed_ns) as f64 / 1e9),
        kernel: counters::difference(&before, &counters.read().context("reading /proc/self/net")?),
        conntrack: watched.conntrack,
        rules: watched.rules,
        elapsed_s,
        interrupted_s: interrupted_ns.map(|at_ns| at_ns.saturating_sub(start_ns) as f64 / 1e9),
        fillers: reports,
        connects: log.connects(),
        dead,
    })
}

/// Forks the processes that fill the ports.
fn fork(processes: usize, filler: impl Fn(usize, usize) -> Filler) -> Result<Family<()>> {
    let mut family = Family::default();
    for number in 0..processes {
        let filler = filler(number, processes);
        family.fork(&format!("lb:filler{number}"), format!("filler {number}"), |_| filler.run())?;
    }
    Ok(family)
}

fn listen(address: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)
        .with_context(|| format!("socket for {address}"))?;
    socket.bind(&address.into()).with_context(|| format!("bind {address}"))?;
    socket.listen(i32::MAX).with_context(|| format!("listen {address}"))?;
    Ok(socket)
}

/// Connections in the queues of all destinations.
fn waiting(destinations: &[SocketAddr]) -> Result<u64> {
    let mut ports: Vec<SocketAddr> = destinations.to_vec();
    // A dump covers a port on every address.
    ports.sort_unstable_by_key(SocketAddr::port);
    ports.dedup_by_key(|address| address.port());
    let mut sum = 0;
    for address in ports {
        let queues = QueueReader::new(address)?.read()?;
        sum += queues.values().map(|queue| u64::from(queue.length)).sum::<u64>();
    }
    Ok(sum)
}

/// Accepts and closes the connections that wait.
fn drain(listener: &Socket) {
    while let Ok((connection, _)) = listener.accept() {
        drop(connection);
    }
}

/// Sockets in TIME_WAIT once the last connection is over, which may be a moment after the calls that close it.
fn settled(sockets: &mut SocketReader, listeners: u64) -> Result<u64> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let patience_ns = clock::monotonic_ns() + clock::nanoseconds(PATIENCE);
    loop {
        let now = sockets.read().context("reading /proc/self/net/sockstat")?;
        if now.in_use <= listeners || clock::monotonic_ns() > patience_ns {
            return Ok(now.time_wait);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The record of a trial that ran to its end.
pub(super) fn record(job: Job<'_>, begun: TrialRecord, account: Account) -> TrialOutcome {
    let scenario: &Scenario = &job.cell().scenario;
    let steps = scenario.fill.as_ref().map_or(1, |fill: &Fill| fill.steps);
    let sum = |count: fn(&FillReport) -> u64| account.fillers.iter().map(count).sum::<u64>();
    let established = sum(|filler| filler.established);
    let errors = ErrorCount::merged(account.fillers.iter().flat_map(|filler| filler.errors.clone()));
    let connections = Connections {
        attempted: sum(|filler| filler.attempted),
        established,
        completed: established,
        // Nobody accepts.
        accepted: Some(0),
        // What a filler established as it died is in the queues, and not counted.
        aborted: account.dead.is_empty().then_some(0),
        left_in_queue: account.left_in_queue,
        outcomes: Outcomes::of(established, &errors),
        errors,
        ..Connections::default()
    };
    let connections = connections.balanced();
    let capacity = account.capacity;
    let curve = curve(&account.connects, capacity, steps);
    let mut failing: Vec<u64> = account.fillers.iter().flat_map(|filler| filler.failing_ns.clone()).collect();
    failing.sort_unstable();
    let exhausted_errno = account.fillers.iter().find_map(|filler| filler.exhausted.clone());
    let ports = Ports {
        selection: scenario.loads[0].sources.selection.name().to_owned(),
        groups: account.groups,
        range: account.range,
        usable: account.usable,
        capacity,
        knee: stats::knee(&curve),
        wall: exhausted_errno.as_ref().map(|_| established),
        curve,
        exhausted_errno,
        failing_connect_ns: failing.get(failing.len() / 2).copied(),
        time_wait_after_close: account.time_wait_after_close,
        recovered_after_s: account.recovered_after_s,
    };
    let enough =
        scenario.fill.as_ref().and_then(|fill| fill.until_permille).map(|part| capacity * u64::from(part) / 1_000);
    let gave_up = account.fillers.iter().any(|filler| filler.gave_up);
    let early = account.interrupted_s.map(|after_s| judge::Early { after_s, strayed: None });
    let verdicts = judge::judge_fill(&connections, &ports, enough, (gave_up, early), &account.conntrack, account.dead);
    let invalid = verdicts.iter().any(|verdict| verdict.invalidates);
    let mut record = begun;
    record.outcome = if invalid { Outcome::Invalid } else { Outcome::Valid };
    record.duration_s = account.elapsed_s;
    record.connections = connections;
    record.usable_ports = account.usable;
    record.ports_peak = established;
    record.kernel = account.kernel;
    (record.conntrack, record.rules) = (account.conntrack, account.rules);
    record.ports = Some(ports);
    record.verdicts = verdicts;
    TrialOutcome { record, histograms: Histograms::new(), output: None, in_step: true }
}

/// The cost of connect() at each step of the fill.
fn curve(samples: &[(u64, u64)], capacity: u64, steps: usize) -> Vec<PortsStep> {
    let step = (capacity as usize).div_ceil(steps).max(1);
    let points = samples.chunks(step).enumerate().map(|(number, samples)| {
        let mut times: Vec<u64> = samples.iter().map(|(connect_ns, _)| *connect_ns).collect();
        times.sort_unstable();
        let count = samples.len() as u64;
        let connections = (number * step) as u64 + count;
        PortsStep {
            fill: connections as f64 / capacity as f64,
            connections,
            connect_p50_ns: times[times.len() / 2],
            connect_mean_ns: times.iter().sum::<u64>() / count,
            connect_max_ns: times[times.len() - 1],
            cpu_ns: samples.iter().map(|(_, cpu_ns)| cpu_ns).sum::<u64>() / count,
        }
    });
    points.collect()
}
