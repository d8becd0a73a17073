//! From a trial's raw account to its record.

use std::{collections::BTreeMap, time::SystemTime};

use hdrhistogram::Histogram;
use indexmap::IndexMap;
use strum::VariantArray;

use super::{Histograms, Job, Outcome as TrialOutcome, gathered::Gathered, judge};
use crate::{
    load::{self, LoaderReport, histogram},
    observe::counters::UDP_NO_PORTS,
    record::{
        BatchSummary, Connections, CpuShares, DatagramSocketRow, Datagrams, ErrorCount, FaultRow, Latencies, Latency,
        LatencySummary, LoaderRow, Measured, ObserverRow, Outcome, Outcomes, SCHEMA, Searched, Series, Sockets,
        Softnet, Stage, TrialRecord, WaitMethod, WorkerRow,
    },
    scenario::{Bound, Load, Mode, Transport},
    stats,
};

/// The record of a trial that ran to its end.
pub(super) fn record(job: Job<'_>, started: SystemTime, gathered: Gathered, histograms: Histograms) -> TrialOutcome {
    let dead = gathered.loaders.iter().enumerate().find(|(_, loader)| loader.report.is_none());
    if let Some((number, loader)) = dead {
        return failed(job, started, &anyhow::anyhow!("loader {number} (pid {}): {}", loader.pid, loader.exit));
    }
    let loaders = load::total(gathered.loaders.iter().filter_map(|loader| loader.report.as_ref()));
    let connections = connections(&gathered, &loaders);
    let accepted: Vec<u64> = gathered.workers.iter().map(|worker| worker.total.accepted).collect();
    let window = gathered.window;
    // Bound by a number of connections, the window ends with the last accept: what follows is holds and time-outs.
    let measure_to_ns = match (job.cell().scenario.load.bound, gathered.last_accept_ns) {
        (Bound::Duration(_), _) => window.measure_to_ns,
        (Bound::Connections(_), 0) => loaders.ended_ns,
        (Bound::Connections(_), last_accept_ns) => last_accept_ns,
    };
    let duration_s = measure_to_ns.saturating_sub(window.measure_from_ns) as f64 / 1e9;
    let measured = Measured {
        planned: loaders.measured_planned,
        in_time: loaders.measured_in_time,
        completed: loaders.measured_completed,
        accepted: gathered.workers.iter().map(|worker| worker.measured.accepted).sum(),
        datagrams: gathered.workers.iter().map(|worker| worker.measured.datagrams).sum(),
        unstamped: job.waits().exact.then(|| gathered.workers.iter().map(|worker| worker.unstamped).sum()),
        stamps_impossible: loaders.stamps_impossible,
    };
    let datagrams = datagrams(job, &gathered, &loaders);
    let cpu_others_share = cpu_others_share(&gathered, &loaders);
    let per_second = |count: u64| if duration_s > 0.0 { count as f64 / duration_s } else { 0.0 };
    let mut record = TrialRecord {
        duration_s,
        offered_per_s: offered_per_s(&job.cell().scenario.load, &loaders, duration_s),
        accepted_per_s: per_second(measured.accepted),
        connections,
        datagrams_per_s: datagrams.is_some().then(|| per_second(measured.datagrams)),
        flow_distribution: datagrams.is_some().then(|| stats::distribution(&flows(&gathered, &loaders))).flatten(),
        datagrams,
        measured,
        schedule: loaders.schedule.map(|digest| format!("{digest:016x}")),
        latency_ns: latencies(job, &histograms),
        stages_ns: stages(&histograms),
        distribution: stats::distribution(&accepted),
        workers: worker_rows(job, &gathered, &loaders, &histograms),
        engine: Some(loaders.engine.clone()),
        loaders: loader_rows(&gathered),
        helper: gathered.helper,
        ports_exhausted_after_s: loaders
            .first_exhausted_ns
            .map(|at_ns| at_ns.saturating_sub(window.start_ns) as f64 / 1e9),
        ports_ceiling_per_s: gathered.ports_ceiling_per_s,
        usable_ports: gathered.usable_ports,
        ports_peak: gathered.ports_peak,
        memory: gathered.memory,
        ramp: gathered.ramp,
        sockets_peak: gathered.sockets_peak,
        kernel: gathered.kernel,
        kernel_measured: gathered.kernel_measured,
        softnet: gathered.softnet,
        cpu_steal_share: gathered.machine.steal,
        machine: gathered.machine,
        observer: gathered.observer,
        cpu_others_share,
        series: gathered.series,
        faults: fault_rows(gathered.faults, &histograms),
        ..blank(job, started, Outcome::Valid)
    };
    let loaded = judge::Loaded {
        gave_up: loaders.gave_up,
        overflows: loaders.overflows,
        connects: &merge(&histograms, "connect"),
    };
    record.verdicts = judge::judge(&record, &job.cell().scenario, &loaded);
    if record.verdicts.iter().any(|verdict| verdict.invalidates) {
        record.outcome = Outcome::Invalid;
    }
    TrialOutcome { record, histograms }
}

fn cpu_others_share(gathered: &Gathered, loaders: &LoaderReport) -> f64 {
    let workers: u64 = gathered.workers.iter().map(|worker| worker.total.cpu_ns()).sum();
    let helper = gathered.helper.as_ref().map_or(0, |helper| helper.total.cpu_ns());
    let observer = gathered.observer.cpu_user_ns + gathered.observer.cpu_system_ns;
    let own = (workers + helper + observer + loaders.cpu_user_ns + loaders.cpu_system_ns) as f64;
    if gathered.cpu_available_ns == 0 {
        return 0.0;
    }
    (gathered.machine.busy - own / gathered.cpu_available_ns as f64).max(0.0)
}

/// Starts per second that an open loop's schedule asked for.
fn offered_per_s(load: &Load, loaders: &LoaderReport, duration_s: f64) -> Option<f64> {
    let Mode::Open { arrivals, .. } = load.mode else { return None };
    let span_s = loaders.measured_last_ns.saturating_sub(loaders.measured_first_ns) as f64 / 1e9;
    Some(match load.bound {
        Bound::Duration(_) => loaders.measured_planned as f64 / duration_s,
        // n starts have n − 1 gaps between them. One burst has none: then the scenario's word is all there is.
        Bound::Connections(_) if span_s > 0.0 => (loaders.measured_planned - 1) as f64 / span_s,
        Bound::Connections(_) => arrivals.per_second(),
    })
}

/// The record of a trial that did not run to its end.
pub(super) fn failed(job: Job<'_>, started: SystemTime, error: &anyhow::Error) -> TrialOutcome {
    let record = TrialRecord { error: Some(format!("{error:#}")), ..blank(job, started, Outcome::Failed) };
    TrialOutcome { record, histograms: Histograms::new() }
}

pub(crate) fn blank(job: Job<'_>, started: SystemTime, outcome: Outcome) -> TrialRecord {
    TrialRecord {
        schema: SCHEMA,
        scenario: job.plan.whole.name.clone(),
        trial: job.trial.number,
        repetition: job.trial.repetition,
        seed: job.plan.whole.seed,
        started_at: humantime::format_rfc3339_millis(started).to_string(),
        cell: job.cell().values.clone(),
        cell_index: job.trial.cell,
        search: job
            .searched
            .map(|value| Searched { name: job.cell().values.keys().next_back().cloned().unwrap_or_default(), value }),
        outcome,
        error: None,
        verdicts: Vec::new(),
        duration_s: 0.0,
        offered_per_s: None,
        accepted_per_s: 0.0,
        connections: Connections::default(),
        datagrams: None,
        datagrams_per_s: None,
        measured: Measured::default(),
        schedule: None,
        latency_ns: Latencies::default(),
        stages_ns: IndexMap::new(),
        distribution: None,
        flow_distribution: None,
        workers: Vec::new(),
        helper: None,
        engine: None,
        loaders: Vec::new(),
        faults: Vec::new(),
        memory: None,
        ramp: None,
        ports: None,
        ports_exhausted_after_s: None,
        ports_ceiling_per_s: None,
        usable_ports: 0,
        ports_peak: 0,
        sockets_peak: Sockets::default(),
        kernel: BTreeMap::new(),
        kernel_measured: BTreeMap::new(),
        softnet: Softnet::default(),
        machine: CpuShares::default(),
        observer: ObserverRow::default(),
        cpu_steal_share: 0.0,
        cpu_others_share: 0.0,
        series: Series::default(),
    }
}

/// The balance. Three parties counted: loaders what was established, workers what they accepted, the kernel what was
/// left in its queues. The port ledger tells which established connections no worker accepted; of those, the ones that
/// never showed a client any sign of a worker and do not stand in a queue were aborted by the kernel.
fn connections(gathered: &Gathered, loaders: &LoaderReport) -> Connections {
    let accepted = gathered.workers.iter().map(|worker| worker.total.accepted).sum();
    let lost = gathered.balance.never_accepted.min(loaders.unserved);
    let aborted = lost.saturating_sub(gathered.left_in_queue);
    let known = i128::from(accepted) + i128::from(gathered.left_in_queue) + i128::from(aborted);
    let mut errors = loaders.errors.clone();
    errors.extend(gathered.workers.iter().flat_map(|worker| worker.errors.clone()));
    errors.extend(gathered.helper_errors.iter().cloned());
    Connections {
        attempted: loaders.attempted,
        established: loaders.established,
        accepted,
        completed: loaders.completed,
        foreign: gathered.balance.foreign,
        left_in_queue: gathered.left_in_queue,
        aborted,
        unaccounted: i64::try_from(i128::from(loaders.established) - known).unwrap_or(i64::MAX),
        misdelivered: loaders.misdelivered,
        replies: loaders.replies,
        verified: loaders.verified,
        outcomes: Outcomes::of(loaders.established, &loaders.errors),
        errors: ErrorCount::merged(errors),
    }
}

/// The balance of datagrams. What a dead worker's socket held is gone with it, and only what is missing tells of it.
fn datagrams(job: Job<'_>, gathered: &Gathered, loaders: &LoaderReport) -> Option<Datagrams> {
    if !job.cell().scenario.protocol.has(Transport::Udp) {
        return None;
    }
    let received = gathered.workers.iter().map(|worker| worker.total.datagrams).sum();
    // Of a shared socket, each worker finds some.
    let left_in_queue = gathered.workers.iter().map(|worker| worker.datagrams_left).sum();
    let lost = gathered.datagrams_lost;
    let refused = gathered.kernel.get(UDP_NO_PORTS).copied().unwrap_or(0);
    let missing = i128::from(loaders.flows.sent) - i128::from(received) - i128::from(left_in_queue) - i128::from(lost);
    let died = gathered.workers.iter().any(|worker| !worker.exit.is_ok());
    let aborted = if died { u64::try_from(missing).unwrap_or(0) } else { 0 };
    Some(Datagrams {
        sent: loaders.flows.sent,
        received,
        left_in_queue,
        lost,
        refused,
        aborted,
        unaccounted: i64::try_from(missing - i128::from(aborted)).unwrap_or(i64::MAX),
        replies: loaders.flows.replies,
        stale: loaders.flows.stale,
        flows: loaders.flows.begun,
        answered_flows: loaders.flows.by_worker.iter().sum(),
        sticky_flows: loaders.flows.sticky,
        moved_flows: loaders.flows.moved,
    })
}

/// Answered flows by worker.
fn flows(gathered: &Gathered, loaders: &LoaderReport) -> Vec<u64> {
    (0..gathered.workers.len()).map(|worker| loaders.flows.by_worker.get(worker).copied().unwrap_or(0)).collect()
}

fn fault_rows(rows: Vec<FaultRow>, histograms: &Histograms) -> Vec<FaultRow> {
    let rows = rows.into_iter().map(|row| FaultRow {
        stranded_wait: summary_of(histograms, &format!("f{}.stranded_wait", row.fault), Some(WaitMethod::ConnectCall)),
        ..row
    });
    rows.collect()
}

/// A histogram in numbers; nothing where there is none.
fn summary_of(histograms: &Histograms, name: &str, method: Option<WaitMethod>) -> LatencySummary {
    histograms.get(name).map(|histogram| LatencySummary::of(histogram, method)).unwrap_or_default()
}

/// All histograms whose name ends in a metric, as one.
pub fn merge(histograms: &Histograms, metric: &str) -> Histogram<u64> {
    let mut sum = histogram();
    for (name, part) in histograms {
        if name.split_once('.').is_some_and(|(_, rest)| rest == metric) {
            sum.add(part).expect("all have the same bounds");
        }
    }
    sum
}

fn stages(histograms: &Histograms) -> IndexMap<Stage, LatencySummary> {
    let stages = Stage::VARIANTS.iter().map(|stage| (*stage, merge(histograms, &format!("stage_{stage}"))));
    let known = stages.filter(|(_, histogram)| !histogram.is_empty());
    known.map(|(stage, histogram)| (stage, LatencySummary::of(&histogram, None))).collect()
}

fn latencies(job: Job<'_>, histograms: &Histograms) -> Latencies {
    let of = |latency: Latency| LatencySummary::of(&merge(histograms, latency.name()), None);
    Latencies {
        accept_wait: LatencySummary::of(&merge(histograms, "accept_wait"), Some(job.waits().method())),
        accept_wait_bound: LatencySummary::of(&merge(histograms, "accept_wait_bound"), Some(WaitMethod::ConnectCall)),
        connect: of(Latency::Connect),
        connect_from_intended: of(Latency::ConnectFromIntended),
        response: of(Latency::Response),
        service: of(Latency::Service),
        send_lag: of(Latency::SendLag),
        follow_up: of(Latency::FollowUp),
        receive_wait: LatencySummary::of(&merge(histograms, "receive_wait"), None),
        udp_response: of(Latency::UdpResponse),
        udp_service: of(Latency::UdpService),
    }
}

fn worker_rows(job: Job<'_>, gathered: &Gathered, loaders: &LoaderReport, histograms: &Histograms) -> Vec<WorkerRow> {
    let ranks = job.cell().scenario.server.registration.ranks(
        gathered.workers.len(),
        job.plan.whole.seed,
        job.trial.repetition,
    );
    let flows = flows(gathered, loaders);
    let rows = gathered.workers.iter().enumerate().map(|(worker, account)| WorkerRow {
        worker,
        pid: account.pid,
        counted_by: account.counted_by,
        registration_rank: ranks[worker],
        scheduler: account.scheduler.clone(),
        total: account.total.clone(),
        accept_batch: histograms.get(&format!("w{worker}.accept_batch")).map(BatchSummary::of).unwrap_or_default(),
        open_peak: account.open_peak,
        queue: account.queue,
        queue_peak: account.queue_peak,
        queue_limit: account.queue_limit,
        accept_wait: summary_of(histograms, &format!("w{worker}.accept_wait"), Some(job.waits().method())),
        datagram_socket: account.datagram_queue.clone().map(|socket| DatagramSocketRow {
            flows: flows[worker],
            receive_wait: summary_of(histograms, &format!("w{worker}.receive_wait"), None),
            ..socket
        }),
        measured: account.measured.clone(),
        exit: account.exit.clone(),
    });
    rows.collect()
}

fn loader_rows(gathered: &Gathered) -> Vec<LoaderRow> {
    let rows = gathered.loaders.iter().enumerate().map(|(loader, account)| {
        let report = account.report.clone().unwrap_or_default();
        LoaderRow {
            loader,
            pid: account.pid,
            attempted: report.attempted,
            recycled: report.recycled,
            cpu_user_ns: report.cpu_user_ns,
            cpu_system_ns: report.cpu_system_ns,
            voluntary_switches: report.voluntary_switches,
            involuntary_switches: report.involuntary_switches,
            scheduler: report.scheduler,
            exit: account.exit.clone(),
        }
    });
    rows.collect()
}
