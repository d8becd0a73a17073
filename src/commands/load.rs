//! `listenbench load`: a scenario's load in the foreground, against a server that is already running.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use indexmap::IndexMap;
use serde::Serialize;
use strum::VariantArray;

use super::{Ended, Usage, capacity, interrupt_flag, note, say, sources};
use crate::{
    cli,
    context::{TrialContext, Waits},
    format,
    ipc::{
        control::{Control, Phase},
        family::Patience,
    },
    load::{self, Flows, LoaderReport, Sizing},
    record::{ErrorCount, Grounds, Latency, LatencySummary, Outcomes, SCHEMA, WaitMethod},
    scenario::{Bound, Scenario, Transport},
    sys::clock,
    trial::{
        Histograms, SETUP_PATIENCE, errors, fork_loaders, late, loader_accounts, merge, open_barrier, wait_until_ready,
    },
};

/// The accept wait, as named in records.
const ACCEPT_WAIT: &str = "accept_wait";
/// Time a loader has to report after its deadline.
const REPORT_PATIENCE_NS: u64 = 20_000_000_000;

/// The client side of a load. Names and units are those of a trial's record.
#[derive(Debug, Serialize)]
struct LoadResult {
    schema: u32,
    scenario: String,
    target: SocketAddr,
    seed: u64,
    loaders: usize,
    engine: String,
    duration_s: f64,
    completed_per_s: f64,
    attempted: u64,
    established: u64,
    completed: u64,
    replies: u64,
    /// Replies whose receipt was checked; other servers' replies have none.
    verified: u64,
    misdelivered: u64,
    /// UDP flows; `null` without UDP.
    flows: Option<Flows>,
    errors: Vec<ErrorCount>,
    /// Connection attempts by outcome.
    outcomes: Outcomes,
    latency_ns: IndexMap<&'static str, LatencySummary>,
    /// Connections by worker, if replies name it.
    workers: Vec<WorkerShare>,
}

#[derive(Debug, Serialize)]
struct WorkerShare {
    worker: usize,
    connections: u64,
}

/// Runs the command.
pub fn run(options: &cli::Load) -> Result<Ended> {
    if !options.target.ip().is_loopback() && !options.allow_remote {
        bail!(Usage(format!(
            "--target {}: not a loopback address; if the owner of that machine agrees to be loaded, add --allow-remote",
            options.target
        )));
    }
    let (plan, cell) = sources::single_cell("load", &options.scenario, &options.overrides, |a, b| {
        let asked = |scenario: &Scenario| (scenario.protocol, scenario.server.app, scenario.server.listen.nodelay);
        a.load == b.load && asked(a) == asked(b) && a.server.listen.fastopen == b.server.listen.fastopen
    })?;
    let sizing = capacity::size(&cell.scenario).with_context(|| options.scenario.clone())?;
    let scenario = Arc::new(cell.scenario);
    if scenario.protocol.has(Transport::Tcp) {
        is_open(options.target, scenario.load.connect_timeout)?;
    }
    note(format_args!("{}: {sizing}, to {}", plan.whole.name, options.target));
    let Driven { report, histograms, duration_s, interrupted } =
        drive(options.target, plan.whole.seed, &scenario, sizing)?;
    let result = LoadResult {
        schema: SCHEMA,
        scenario: plan.whole.name,
        target: options.target,
        seed: plan.whole.seed,
        loaders: sizing.loaders,
        engine: report.engine.clone(),
        duration_s,
        completed_per_s: if duration_s > 0.0 { report.measured_completed as f64 / duration_s } else { 0.0 },
        attempted: report.attempted,
        established: report.established,
        completed: report.completed,
        replies: report.replies,
        verified: report.verified,
        misdelivered: report.misdelivered,
        flows: scenario.protocol.has(Transport::Udp).then(|| report.flows.clone()),
        errors: report.errors.clone(),
        outcomes: Outcomes::of(report.established, &report.errors),
        latency_ns: latencies(&histograms),
        workers: shares(&histograms),
    };
    if options.json {
        say(serde_json::to_string_pretty(&result)?)?;
    } else {
        print(&result)?;
    }
    if interrupted {
        return Ok(Ended::Interrupted);
    }
    if report.established == 0 && report.completed == 0 {
        bail!("no connection to {} was established: is a server listening there?", options.target);
    }
    let flawed = report.misdelivered > 0 || report.gave_up || report.completed == 0;
    Ok(if flawed { Ended::Flawed } else { Ended::Done })
}

/// Connects once beforehand, so that a closed or filtered target is reported instead of loaded.
fn is_open(target: SocketAddr, patience: Duration) -> Result<()> {
    let Err(error) = TcpStream::connect_timeout(&target, patience) else { return Ok(()) };
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            bail!("{target} is closed: nothing listens there (ECONNREFUSED); start the server")
        }
        ErrorKind::TimedOut => {
            bail!("{target} is filtered: no answer within {patience:?}; check the address and the firewall")
        }
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => {
            bail!("{target} is unreachable ({error}): check the address and the route")
        }
        // The failure is local: the load will count it.
        _ => Ok(()),
    }
}

/// A finished load.
struct Driven {
    report: LoaderReport,
    histograms: Histograms,
    duration_s: f64,
    interrupted: bool,
}

/// Runs the load. If interrupted, the loaders abandon open connections and report the rest.
fn drive(target: SocketAddr, seed: u64, scenario: &Arc<Scenario>, sizing: Sizing) -> Result<Driven> {
    let interrupted = interrupt_flag()?;
    let control = Arc::new(Control::new(0, sizing.loaders, 0).context("mapping shared memory")?);
    let context = TrialContext {
        scenario: Arc::clone(scenario),
        target,
        control: Arc::clone(&control),
        ledger: None,
        stamps: None,
        // Only the client side can be measured.
        waits: Waits { exact: false, bound: true },
        seed,
        repetition: 0,
    };
    let mut loaders = fork_loaders(&context, sizing.loaders)?;
    let patience = Patience::of(SETUP_PATIENCE).unless(&interrupted);
    wait_until_ready(&control, sizing.loaders, patience, || loaders.check_running())?;
    let window = open_barrier(scenario, &control);
    while !loaders.drain(Duration::from_millis(100)) {
        if interrupted.load(Relaxed) {
            control.set_phase(Phase::Stop);
        }
        if clock::monotonic_ns() > window.deadline_ns + REPORT_PATIENCE_NS {
            loaders.kill();
        }
    }
    let interrupted = interrupted.load(Relaxed);
    let (accounts, histograms) = loader_accounts(loaders)?;
    if let Some(dead) = accounts.iter().find(|account| account.report.is_none()) {
        bail!("a loader (pid {}) ended early: {}", dead.pid, dead.exit);
    }
    let report = load::total(accounts.iter().filter_map(|account| account.report.as_ref()));
    let length_ns = match scenario.load.bound {
        Bound::Duration(span) if !interrupted => clock::nanoseconds(span),
        _ => report.ended_ns.saturating_sub(window.measure_from_ns),
    };
    Ok(Driven { report, histograms, duration_s: length_ns as f64 / 1e9, interrupted })
}

fn latencies(histograms: &Histograms) -> IndexMap<&'static str, LatencySummary> {
    let waits = LatencySummary::of_waits(&merge(histograms, ACCEPT_WAIT), WaitMethod::ConnectCall, None);
    // Accepts of a foreign server are not visible.
    let waits = (waits.count > 0).then_some((ACCEPT_WAIT, waits));
    let others = Latency::VARIANTS.iter().map(|latency| latency.name()).chain(["receive_wait"]);
    waits.into_iter().chain(others.map(|name| (name, LatencySummary::of(&merge(histograms, name))))).collect()
}

fn shares(histograms: &Histograms) -> Vec<WorkerShare> {
    let mut shares: Vec<WorkerShare> = histograms
        .iter()
        .filter_map(|(name, waits)| {
            let worker = name.strip_prefix('w')?.strip_suffix(".accept_wait")?.parse().ok()?;
            Some(WorkerShare { worker, connections: waits.len() })
        })
        .filter(|share| share.connections > 0)
        .collect();
    shares.sort_unstable_by_key(|share| share.worker);
    shares
}

fn print(result: &LoadResult) -> Result<()> {
    say(format_args!(
        "{} of {} completed, {} connections established; {}/s in the measured {:.2} s",
        format::thousands(result.completed as f64),
        format::thousands(result.attempted as f64),
        format::thousands(result.established as f64),
        format::thousands(result.completed_per_s),
        result.duration_s
    ))?;
    say(format_args!("{:<26} {:>9} {:>10} {:>10} {:>10} {:>10}", "latency", "count", "p50", "p99", "p99.9", "max"))?;
    for (name, summary) in result.latency_ns.iter().filter(|(_, summary)| summary.count > 0) {
        let [p50, p99, p999, max] =
            [summary.p50, summary.p99, summary.p999, summary.max].map(|ns| format::duration(ns as f64));
        let shown = match *name {
            ACCEPT_WAIT => "accept_wait (upper bound)",
            "receive_wait" => "receive_wait (upper bound)",
            name => name,
        };
        say(format_args!("{shown:<26} {:>9} {p50:>10} {p99:>10} {p999:>10} {max:>10}", summary.count))?;
    }
    if let Some(flows) = &result.flows {
        say(format_args!(
            "{} datagrams sent in {} flows, {} replies; flows with several replies: {} from one worker, {} from more than one",
            flows.sent, flows.begun, flows.replies, flows.sticky, flows.moved
        ))?;
        for (worker, count) in flows.by_worker.iter().enumerate() {
            say(format_args!("worker {worker}: {count} flows"))?;
        }
    }
    for share in &result.workers {
        say(format_args!("worker {}: {} connections", share.worker, share.connections))?;
    }
    for error in &result.errors {
        say(format_args!("errors: {error}"))?;
    }
    if result.replies > result.verified {
        say(format_args!(
            "{} replies had no receipt and were not checked for misdelivery",
            result.replies - result.verified
        ))?;
    }
    if result.misdelivered > 0 {
        let misdelivered = ("reply belongs to another connection", "replies belong to another connection");
        say(format_args!("{}", format::counted(result.misdelivered, misdelivered.0, misdelivered.1)))?;
    }
    if result.outcomes.exhausted > 0 {
        say(format_args!(
            "! {} connections could not be opened for lack of a source port: `listenbench ports` shows what uses the ports",
            result.outcomes.exhausted
        ))?;
    }
    // The same verdicts as a trial's.
    let saturated = late(&result.latency_ns["send_lag"], &result.latency_ns["response"])
        .map(|lateness| Grounds::LoaderSaturated { lateness, offered_per_s: None, busiest: None });
    for grounds in errors(&result.errors, result.attempted).into_iter().chain(saturated) {
        say(format_args!("! {}", grounds.name().explain(&grounds.to_string())))?;
    }
    Ok(())
}
