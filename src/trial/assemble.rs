//! Completes a trial's record once all its processes have ended.

use std::{collections::HashMap, time::SystemTime};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use strum::VariantArray;

use super::{
    Histograms, Job, Outcome as TrialOutcome, judge, loaders::LoaderAccount, members, members::Together, watch,
};
use crate::{
    context::TrialContext,
    ipc::{control::Window, ledger::Balance},
    load::{self, LoaderReport, histogram},
    observe::counters::UDP_NO_PORTS,
    record::{
        Connections, Datagrams, Draws, ErrorCount, Latencies, Latency, LatencySummary, LoaderRow, Measured, MemberRow,
        Outcome, Outcomes, Rates, SCHEMA, Searched, Stage, Subject, TrialRecord, WaitMethod,
    },
    scenario::{Bound, Load, Mode, Transport},
    stats,
};

/// What is known at a trial's end besides the rows of its processes.
pub(super) struct Ended {
    pub window: Window,
    /// What the port ledger shows.
    pub balance: Balance,
    pub members: Together,
    /// The inode of each worker's datagram socket; empty without datagrams.
    pub sockets: Vec<u32>,
    /// The last accept, in nanoseconds of CLOCK_MONOTONIC; 0 if there was none.
    pub last_accept_ns: u64,
    /// Processor time available, in nanoseconds.
    pub cpu_available_ns: u64,
}

/// The record of a trial that has just begun.
pub(crate) fn begun(job: Job<'_>, started: SystemTime) -> TrialRecord {
    let searched = |value| Searched { name: job.cell().values.keys().next_back().cloned().unwrap_or_default(), value };
    TrialRecord {
        schema: SCHEMA,
        scenario: job.plan.whole.name.clone(),
        trial: job.trial.number,
        repetition: job.trial.repetition,
        seed: job.plan.whole.seed,
        started_at: humantime::format_rfc3339_millis(started).to_string(),
        cell: job.cell().values.clone(),
        cell_index: job.trial.cell,
        search: job.searched.map(searched),
        subject: Subject::own(),
        outcome: Outcome::Failed,
        ..TrialRecord::default()
    }
}

/// The outcome of a trial that did not run to its end.
pub(super) fn failed(record: TrialRecord, error: &anyhow::Error) -> TrialOutcome {
    TrialOutcome { record: TrialRecord { error: Some(format!("{error:#}")), ..record }, histograms: Histograms::new() }
}

/// Completes the record of a trial that ran to its end. Fails if a loader died, because its account is lost.
pub(super) fn complete(
    context: &TrialContext,
    ended: Ended,
    loaders: Vec<LoaderAccount>,
    histograms: &Histograms,
    record: &mut TrialRecord,
) -> Result<()> {
    let scenario = &context.scenario;
    if let Some((number, dead)) = loaders.iter().enumerate().find(|(_, loader)| loader.report.is_none()) {
        bail!("loader {number} (pid {}): {}", dead.pid, dead.exit);
    }
    let total = load::total(loaders.iter().filter_map(|loader| loader.report.as_ref()));
    record.loaders = loaders.into_iter().enumerate().map(|(number, account)| loader_row(number, account)).collect();
    members::enter_histograms(context, histograms, &mut record.workers);
    enter_connections(&ended, &total, record);
    if scenario.protocol.has(Transport::Udp) {
        enter_datagrams(&ended, &total, record);
    }
    enter_window(context, &ended, &total, record);
    record.latency_ns = latencies(context, histograms);
    record.stages_ns = Stage::VARIANTS
        .iter()
        .map(|stage| (*stage, merge(histograms, &format!("stage_{stage}"))))
        .filter(|(_, histogram)| !histogram.is_empty())
        .map(|(stage, histogram)| (stage, LatencySummary::of(&histogram)))
        .collect();
    for event in &mut record.events {
        if let Some(waits) = histograms.get(&format!("f{}.stranded_wait", event.event)) {
            event.stranded_wait =
                LatencySummary::of_waits(waits, WaitMethod::ConnectCall, Some(scenario.server.strategy.wait_end()));
        }
    }
    record.schedule = total.schedule.map(|digest| format!("{digest:016x}"));
    record.engine = Some(total.engine.clone());
    let since_start_s = |at_ns: u64| at_ns.saturating_sub(ended.window.start_ns) as f64 / 1e9;
    record.ports_exhausted_after_s = total.first_exhausted_ns.map(since_start_s);
    record.cpu_others_share = watch::others_share(record, ended.cpu_available_ns);
    let connects = merge(histograms, Latency::Connect.name());
    let loaded = judge::Loaded { gave_up: total.gave_up, overflows: total.overflows, connects: &connects };
    record.verdicts = judge::judge(record, scenario, &loaded);
    let invalid = record.verdicts.iter().any(|verdict| verdict.invalidates);
    record.outcome = if invalid { Outcome::Invalid } else { Outcome::Valid };
    Ok(())
}

/// Enters the balance of connections. Loaders counted what was established, workers what they accepted, the kernel what was left in
/// its queues. The port ledger shows which established connections no worker accepted; the kernel aborted those of them that
/// showed their client no sign of a worker and are not in a queue.
fn enter_connections(ended: &Ended, loaders: &LoaderReport, record: &mut TrialRecord) {
    let accepts = accepts(&record.workers);
    let left_in_queue = record.connections.left_in_queue;
    let lost = ended.balance.never_accepted.min(loaders.unserved);
    let errors = loaders.errors.iter().chain(&ended.members.errors);
    let connections = Connections {
        attempted: loaders.attempted,
        established: loaders.established,
        accepted: accepts.iter().sum(),
        completed: loaders.completed,
        foreign: ended.balance.foreign,
        left_in_queue,
        aborted: lost.saturating_sub(left_in_queue),
        misdelivered: loaders.misdelivered,
        replies: loaders.replies,
        verified: loaders.verified,
        outcomes: Outcomes::of(loaders.established, &loaders.errors),
        errors: ErrorCount::merged(errors.copied()),
        ..Connections::default()
    };
    record.connections = connections.balanced();
    record.distribution = stats::distribution(&accepts, Draws::Connections);
}

fn accepts(workers: &[MemberRow]) -> Vec<u64> {
    workers.iter().map(|worker| worker.total.accepted).collect()
}

fn enter_datagrams(ended: &Ended, loaders: &LoaderReport, record: &mut TrialRecord) {
    let flows = &loaders.flows;
    for row in &mut record.workers {
        if let Some(socket) = &mut row.datagram_socket {
            socket.flows = flows.by_worker.get(row.member).copied().unwrap_or(0);
        }
    }
    let answered = |row: &MemberRow| flows.by_worker.get(row.member).copied().unwrap_or(0);
    let answered: Vec<u64> = record.workers.iter().map(answered).collect();
    let datagrams = Datagrams {
        sent: flows.sent,
        received: record.workers.iter().map(|worker| worker.total.datagrams).sum(),
        left_in_queue: ended.members.datagrams_left,
        lost: lost(&ended.sockets, &record.workers),
        replies: flows.replies,
        stale: flows.stale,
        flows: flows.begun,
        answered_flows: flows.by_worker.iter().sum(),
        sticky_flows: flows.sticky,
        moved_flows: flows.moved,
        ..Datagrams::default()
    };
    let unreachable = record.kernel.get(UDP_NO_PORTS).copied().unwrap_or(0);
    let worker_died = record.workers.iter().any(|worker| !worker.exit.is_ok());
    record.datagrams = Some(datagrams.balanced(unreachable, worker_died));
    record.flow_distribution = stats::distribution(&answered, Draws::Flows);
}

/// Datagrams that sockets have lost. Each worker of a shared socket knows its losses up to the last datagram that it received.
fn lost(sockets: &[u32], workers: &[MemberRow]) -> u64 {
    let mut lost: HashMap<u32, u64> = HashMap::new();
    for (inode, worker) in sockets.iter().zip(workers) {
        let seen = worker.datagram_socket.as_ref().map_or(0, |socket| socket.lost);
        let most = lost.entry(*inode).or_default();
        *most = seen.max(*most);
    }
    lost.values().sum()
}

/// Enters what happened in the measured window, and how long the window was.
fn enter_window(context: &TrialContext, ended: &Ended, loaders: &LoaderReport, record: &mut TrialRecord) {
    let load = &context.scenario.load;
    // If a number of connections is the bound, the window ends with the last accept: only holds and time-outs follow.
    let measure_to_ns = match (load.bound, ended.last_accept_ns) {
        (Bound::Duration(_), _) => ended.window.measure_to_ns,
        (Bound::Connections(_), 0) => loaders.ended_ns,
        (Bound::Connections(_), last_accept_ns) => last_accept_ns,
    };
    let duration_s = measure_to_ns.saturating_sub(ended.window.measure_from_ns) as f64 / 1e9;
    let per_second = |count: u64| if duration_s > 0.0 { count as f64 / duration_s } else { 0.0 };
    let measured = Measured {
        planned: loaders.measured_planned,
        in_time: loaders.measured_in_time,
        completed: loaders.measured_completed,
        accepted: record.workers.iter().map(|worker| worker.measured.accepted).sum(),
        datagrams: record.workers.iter().map(|worker| worker.measured.datagrams).sum(),
        unstamped: context.waits.exact.then_some(ended.members.unstamped),
        stamps_impossible: loaders.stamps_impossible,
    };
    record.duration_s = duration_s;
    record.rates = Rates {
        offered_per_s: offered_per_s(load, loaders, duration_s),
        accepted_per_s: per_second(measured.accepted),
        completed_per_s: per_second(measured.completed),
        datagrams_per_s: record.datagrams.is_some().then(|| per_second(measured.datagrams)),
    };
    record.measured = measured;
}

/// Starts per second that an open loop's schedule asked for.
fn offered_per_s(load: &Load, loaders: &LoaderReport, duration_s: f64) -> Option<f64> {
    let Mode::Open { arrivals, .. } = load.mode else { return None };
    let span_s = loaders.measured_last_ns.saturating_sub(loaders.measured_first_ns) as f64 / 1e9;
    Some(match load.bound {
        Bound::Duration(_) => loaders.measured_planned as f64 / duration_s,
        // n starts have n − 1 gaps between them. A single burst has none, so the scenario's rate is used.
        Bound::Connections(_) if span_s > 0.0 => (loaders.measured_planned - 1) as f64 / span_s,
        Bound::Connections(_) => arrivals.per_second(),
    })
}

/// Merges all histograms of a metric.
pub fn merge(histograms: &Histograms, metric: &str) -> Histogram<u64> {
    let mut sum = histogram();
    for (name, part) in histograms {
        if name.split_once('.').is_some_and(|(_, rest)| rest == metric) {
            sum.add(part).expect("all have the same bounds");
        }
    }
    sum
}

fn latencies(context: &TrialContext, histograms: &Histograms) -> Latencies {
    let of = |latency: Latency| LatencySummary::of(&merge(histograms, latency.name()));
    let ends = Some(context.scenario.server.strategy.wait_end());
    let waits = |name, method| LatencySummary::of_waits(&merge(histograms, name), method, ends);
    Latencies {
        accept_wait: waits("accept_wait", context.waits.method()),
        accept_wait_bound: waits("accept_wait_bound", WaitMethod::ConnectCall),
        connect: of(Latency::Connect),
        connect_from_intended: of(Latency::ConnectFromIntended),
        response: of(Latency::Response),
        service: of(Latency::Service),
        send_lag: of(Latency::SendLag),
        follow_up: of(Latency::FollowUp),
        receive_wait: LatencySummary::of(&merge(histograms, "receive_wait")),
        udp_response: of(Latency::UdpResponse),
        udp_service: of(Latency::UdpService),
    }
}

fn loader_row(loader: usize, account: LoaderAccount) -> LoaderRow {
    let report = account.report.unwrap_or_default();
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
        exit: account.exit,
    }
}
