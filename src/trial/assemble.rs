//! Completes a trial's record once all its processes have ended.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::SystemTime,
};

use anyhow::Result;
use strum::VariantArray;

use super::{
    Histograms, Job, Outcome as TrialOutcome, judge,
    loaders::{Left, LoaderAccount},
    loads::{self, Population},
    members,
    members::Together,
    merged,
    subject::described,
    watch,
};
use crate::{
    context::{Side, TrialContext},
    format,
    ipc::{
        control::{Count, Window},
        draws::Drawn,
        ledger::Balance,
    },
    load::{Busy, LoaderReport},
    observe::{counters::UDP_NO_PORTS, sysctl},
    record::{
        Connections, Counts, Datagrams, Distribution, Draws, ErrorCount, Handshakes, Latencies, Latency,
        LatencySummary, LoaderRow, Measured, MemberRow, Outcome, Outcomes, Rates, Receipts, SCHEMA, Searched, Stage,
        Subject, SubjectKind, Tls, TrialRecord, WaitEnd, WaitMethod, WorkerCounts, WorkerShare, histograms::Name,
    },
    scenario::{Act, App, Bound, CloseHow, Scenario, Transport, UnderTest},
    stats,
};

/// What is known at a trial's end besides the rows of its processes.
pub(super) struct Ended {
    pub window: Window,
    /// When the load was told to end early.
    pub interrupted_ns: Option<u64>,
    /// Why, if it was not the user: packets would have left their networks.
    pub strayed: Option<String>,
    /// What the port ledger shows.
    pub balance: Balance,
    /// The distinct 4-tuples of connections, and of datagram flows.
    pub tuples: Drawn,
    pub flow_tuples: Drawn,
    pub members: Together,
    /// The inode of each worker's datagram socket; empty without datagrams.
    pub sockets: Vec<u32>,
    /// Datagrams that the generated rules dropped or refused.
    pub datagrams_filtered: u64,
    /// The last accept, in nanoseconds of CLOCK_MONOTONIC; 0 if there was none.
    pub last_accept_ns: u64,
    /// Processor time available, in nanoseconds.
    pub cpu_available_ns: u64,
    /// Whether the scenario's question is about failures.
    pub failures_are_asked: bool,
    /// The last line that another server printed, if that could be seen.
    pub last_output: Option<String>,
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
        experiment_trial: job.place.map(|place| place.number),
        subject: subject(&job.cell().scenario),
        outcome: Outcome::Failed,
        ..TrialRecord::default()
    }
}

/// What is known of the server before the trial starts or finds it.
fn subject(scenario: &Scenario) -> Subject {
    match &scenario.subject {
        UnderTest::Own => Subject::own(),
        UnderTest::Command(command) => described(command),
        UnderTest::Running => Subject { kind: SubjectKind::Running, name: scenario.place(), ..Subject::default() },
    }
}

/// The outcome of a trial that did not run to its end.
pub(super) fn failed(record: TrialRecord, error: &anyhow::Error) -> TrialOutcome {
    let record = TrialRecord { error: Some(format::causes(error)), ..record };
    TrialOutcome { record, histograms: Histograms::new(), output: None, in_step: false }
}

/// Completes the record of a trial that ran to its end.
pub(super) fn complete(
    context: &TrialContext,
    ended: Ended,
    left: Left,
    record: &mut TrialRecord,
) -> Result<Histograms> {
    let scenario = &context.scenario;
    let Left { accounts, histograms, of_loads } = left;
    let (total, populations) = loads::reports(scenario, &accounts, of_loads);
    let engines: BTreeSet<&str> =
        accounts.iter().map(|one| &one.set_up.engine[..]).filter(|name| !name.is_empty()).collect();
    record.engine = (!engines.is_empty()).then(|| Vec::from_iter(engines).join(", "));
    record.loaders = accounts.into_iter().enumerate().map(|(number, account)| loader_row(number, account)).collect();
    members::enter_histograms(context, &histograms, &mut record.workers);
    let loader_died = record.loaders.iter().any(|loader| !loader.exit.is_ok());
    enter_connections(context, &ended, (&total, loader_died), record);
    if scenario.protocol.has(Transport::Udp) {
        enter_datagrams(context, &ended, (&total, loader_died), record);
    }
    let (from_ns, to_ns) = enter_window(context, &ended, (&total, &populations), record);
    // The waits of those that were closed at once do not end at a member that serves them either.
    let never_served = ended.balance.never_accepted + record.connections.shed.unwrap_or(0);
    let unserved = Balance { never_accepted: never_served, ..ended.balance };
    record.latency_ns = latencies(context, &total, &unserved, &histograms);
    record.receipts = receipts(&histograms);
    if !scenario.subject.is_own() {
        record.latency_ns.accept_wait = seen_waits(&total, &ended.members.ends, &record.connections, &histograms);
    }
    record.stages_ns = Stage::VARIANTS
        .iter()
        .map(|stage| (*stage, merged::of_metric(&histograms, &format!("stage_{stage}"))))
        .filter(|(_, histogram)| !histogram.is_empty())
        .map(|(stage, histogram)| (stage, LatencySummary::of(&histogram)))
        .collect();
    let stranded = merged::by_own(&histograms, "stranded_wait");
    for event in &mut record.events {
        let waits = stranded.get(&*format!("e{}-{}.stranded_wait", event.event, event.occurrence));
        if let Some(waits) = waits {
            event.stranded_wait = LatencySummary::of_waits(waits, 0, WaitMethod::ConnectCall);
        }
    }
    record.schedule = total.schedule.map(|digest| format!("{digest:016x}"));
    record.loads = loads::rows(context, ended.window, (from_ns, to_ns), &populations, record);
    let since_start_s = |at_ns: u64| at_ns.saturating_sub(ended.window.start_ns) as f64 / 1e9;
    record.ports_exhausted_after_s = total.first_exhausted_ns.map(since_start_s);
    record.cpu_others_share = watch::others_share(record, ended.cpu_available_ns);
    let connects = merged::of_metric(&histograms, Latency::Connect.name());
    let loaded = judge::Loaded {
        gave_up: total.gave_up,
        early: ended
            .interrupted_ns
            .map(|at_ns| judge::Early { after_s: since_start_s(at_ns), strayed: ended.strayed.as_deref() }),
        overflows: total.overflows,
        connects: &connects,
        populations: &loads::judged(scenario, record),
        failures_are_asked: ended.failures_are_asked,
        last_output: ended.last_output.as_deref(),
        somaxconn: sysctl::read("somaxconn").and_then(|value| value.trim().parse().ok()),
        stopped: &ended.members.stopped,
        dead: &ended.members.dead,
    };
    record.verdicts = judge::judge(record, scenario, &loaded);
    let invalid = record.verdicts.iter().any(|verdict| verdict.invalidates);
    record.outcome = if invalid { Outcome::Invalid } else { Outcome::Valid };
    Ok(histograms)
}

/// Enters the balance of connections. Loaders counted what was established, workers what they accepted, the kernel what was left in
/// its queues; see [`Beside`] for the rest. If a loader died, nobody knows what became of its last connections, and so whether the sum
/// adds up.
fn enter_connections(
    context: &TrialContext,
    ended: &Ended,
    (loaders, loader_died): (&LoaderReport, bool),
    record: &mut TrialRecord,
) {
    let scenario = &*context.scenario;
    let Connections { left_in_queue, mut foreign_members, .. } = std::mem::take(&mut record.connections);
    let by_cookie = record.kernel.get("SyncookiesRecv").copied().unwrap_or(0);
    let accepts = accepts(scenario, ended, &record.workers);
    let [shed_by_helper, shed] = shed(scenario, record);
    let accepted = accepts.as_ref().map(|accepts| accepts.iter().sum::<u64>() + shed_by_helper);
    let Beside { taken, aborted, cookies, foreign } = match (&scenario.subject, accepted) {
        (UnderTest::Own, _) => {
            let unserved = unserved(context, loaders, ended.balance.never_accepted);
            let mut beside =
                Beside::of_own(scenario, ended, unserved, (left_in_queue, by_cookie), foreign_members.is_empty());
            // A worker that was killed between counting an accept and entering it in the ledger did accept it.
            if record.workers.iter().any(|worker| worker.exit.as_ref().is_some_and(|exit| !exit.is_ok())) {
                let went = accepted.unwrap_or(0) + left_in_queue;
                beside.aborted =
                    beside.aborted.min((loaders.established - loaders.self_connected).saturating_sub(went));
            }
            beside
        }
        (_, Some(accepted)) => {
            let known = (accepted, ended.members.foreign.unwrap_or(0), left_in_queue, by_cookie);
            let shared = scenario.is_open_to_others();
            Beside::of_other(loaders.established - loaders.self_connected, loaders.unserved, known, shared)
        }
        (_, None) => Beside::default(),
    };
    // What a dead loader established without counting it is not another client's.
    let (cookies, foreign) = if loader_died { (0, ended.members.foreign.unwrap_or(0)) } else { (cookies, foreign) };
    let multipath = scenario.protocol.is_multipath();
    // Datagrams that another process got leave no trace of theirs.
    if let ([one], true) =
        (&mut foreign_members[..], scenario.protocol.has(Transport::Tcp) && scenario.subject.is_own())
    {
        one.accepted = Some(taken);
    }
    let errors = loaders.errors.iter().chain(&ended.members.errors);
    let connections = Connections {
        attempted: loaders.attempted,
        established: loaders.established,
        self_connected: loaders.self_connected,
        fell_back: multipath.then_some(loaders.fell_back),
        fallback_unknown: multipath.then_some(loaders.fallback_unknown),
        cookies,
        accepted: accepted.map(|accepted| accepted + taken),
        shed: scenario.subject.is_own().then_some(shed),
        accepted_fell_back: (multipath && scenario.subject.is_own()).then(|| fell_back(record)),
        completed: loaders.completed,
        foreign,
        left_in_queue,
        aborted: (accepted.is_some() && !loader_died).then_some(aborted),
        in_flight: record.loaders.iter().map(|loader| loader.in_flight).sum(),
        foreign_members,
        misdelivered: loaders.misdelivered,
        replies: loaders.replies,
        verified: loaders.verified,
        proxied: loaders.proxied,
        named: loaders.named,
        reconnected: loaders.reconnected,
        replaced: loaders.replaced,
        retried: loaders.retried,
        syn_retries: loaders.syn_retries,
        syn_retried: loaders.syn_retried,
        statuses: loaders.statuses,
        unexpected: loaders.unexpected(),
        outcomes: Outcomes::of(loaders.established - loaders.self_connected, &loaders.errors),
        errors: ErrorCount::merged(errors.copied()),
        ..Connections::default()
    };
    record.tls = scenario
        .server
        .app
        .is_secured()
        .then(|| Tls { clients: loaders.tls, server: scenario.subject.is_own().then(|| handshakes(context)) });
    record.connections = connections.balanced();
    // A master is not one of those that could have accepted.
    let spread = |accepts: Vec<u64>| -> Vec<u64> {
        accepts
            .into_iter()
            .zip(&record.workers)
            .filter(|(_, row)| !row.supervises)
            .map(|(accepts, _)| accepts)
            .collect()
    };
    let accepts = accepts.map(spread);
    // What workers get that come and go depends on how long they are there.
    let changed = scenario.changes_workers() || record.workers.iter().any(|member| member.generation > 0);
    let accepts = accepts.filter(|_| !changed);
    record.distribution = accepts.and_then(|accepts| distribution(draws(scenario), &accepts, &ended.tuples));
}

/// The TLS handshakes of all workers of our own server.
fn handshakes(context: &TrialContext) -> Handshakes {
    let control = &context.control;
    let of = |count| (0..control.workers()).map(|worker| control.since_start(worker).get(count)).sum();
    Handshakes { completed: of(Count::Handshakes), resumed: of(Count::HandshakesResumed) }
}

/// Connections that our own server accepted with a spare descriptor, and closed: those of the helper, which no worker has as accepted, and
/// all.
fn shed(scenario: &Scenario, record: &TrialRecord) -> [u64; 2] {
    let of = |counts: &WorkerCounts| counts.shed.unwrap_or(0);
    let by_helper = record.helper.as_ref().filter(|_| scenario.subject.is_own()).map_or(0, |helper| of(&helper.total));
    [by_helper, by_helper + record.workers.iter().map(|worker| of(&worker.total)).sum::<u64>()]
}

/// Connections that our own server accepted as plain TCP.
fn fell_back(record: &TrialRecord) -> u64 {
    let of_workers = record.workers.iter().map(|worker| &worker.total);
    let counts = of_workers.chain(record.helper.iter().map(|helper| &helper.total));
    counts.filter_map(|counts| counts.fell_back).sum()
}

/// Connections that members' counts and loaders' counts do not explain between them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Beside {
    /// Accepted by other processes with a socket at the server's address.
    taken: u64,
    /// Established, but neither accepted nor left in a queue.
    aborted: u64,
    /// Established on the server only, by SYN cookie.
    cookies: u64,
    /// Not from a loader.
    foreign: u64,
}

impl Beside {
    /// Of our own server: the port ledger shows which established connections no worker accepted. Of those that are not in a queue, the
    /// kernel aborted those that showed their client no sign of a worker; but if other processes share the server's port (unless it is
    /// `alone`), they went to them.
    fn of_own(
        scenario: &Scenario,
        ended: &Ended,
        unserved: u64,
        (left_in_queue, by_cookie): (u64, u64),
        alone: bool,
    ) -> Self {
        let never_accepted = ended.balance.never_accepted;
        let [taken, aborted] = if alone {
            [0, never_accepted.min(unserved).saturating_sub(left_in_queue)]
        } else {
            [never_accepted.saturating_sub(left_in_queue), 0]
        };
        let shared = scenario.is_open_to_others();
        let [cookies, foreign] = of_no_loader(&ended.balance, left_in_queue, by_cookie, shared);
        Self { taken, aborted, cookies, foreign }
    }

    /// Of another server, whose accepts a probe counted, those of its other clients apart: what is missing was aborted, as far as
    /// clients saw no sign of the server; what is too much came by SYN cookies, as far as there were any, or in a shared network from
    /// its other clients: theirs may wait in a queue when the trial begins or ends.
    fn of_other(
        established: u64,
        unserved: u64,
        (accepted, foreign, left_in_queue, by_cookie): (u64, u64, u64, u64),
        shared: bool,
    ) -> Self {
        let (came, went) = (established + foreign, accepted + left_in_queue);
        let beyond = went.saturating_sub(came);
        let cookies = beyond.min(by_cookie);
        Self {
            taken: 0,
            aborted: came.saturating_sub(went).min(unserved.saturating_sub(left_in_queue)),
            cookies,
            foreign: foreign + if shared { beyond - cookies } else { 0 },
        }
    }
}

/// Established connections whose clients saw no sign of a worker, out of `never_accepted` by the ledger. Where a worker's only sign is
/// its reset, another host's loaders cannot tell it from the kernel's: then the ledger alone knows.
fn unserved(context: &TrialContext, loaders: &LoaderReport, never_accepted: u64) -> u64 {
    let resets_are_signs =
        context.scenario.server.app == App::Close && context.scenario.closing().close_how == CloseHow::Rst;
    if context.side == Side::Server && resets_are_signs { never_accepted } else { loaders.unserved }
}

/// What falls on a random worker each time. A killed worker takes its listener along, and the others draw in its place, so that it is
/// not for chance alone to decide.
fn draws(scenario: &Scenario) -> Option<Draws> {
    let loses_a_listener = scenario.events.iter().any(|event| matches!(event.act, Act::Kill { .. }));
    let draws = scenario.server.strategy.draws(scenario.server.workers);
    // How another server spreads connections is not known.
    draws.filter(|_| !loses_a_listener && scenario.subject.is_own())
}

/// How accepts or flows are distributed, and what fell by chance.
fn distribution(draws: Option<Draws>, counts: &[u64], tuples: &Drawn) -> Option<Distribution> {
    let drawn = draws.map(|draws| match draws {
        Draws::Tuples => (draws, tuples.by_member.clone()),
        Draws::Connections => (draws, counts.to_vec()),
    });
    let mut distribution = stats::distribution(counts, drawn)?;
    if distribution.draws == Some(Draws::Tuples) {
        distribution.new_draws_by_member.clone_from(&tuples.new_by_member);
    }
    Some(distribution)
}

/// The server's connections that no loader established: those by SYN cookie, and those of other programs, which only a shared network
/// has. Whatever neither explains is an imbalance.
fn of_no_loader(balance: &Balance, left_in_queue: u64, by_cookie: u64, shared: bool) -> [u64; 2] {
    // A queue holds what a loader established and no worker accepted; what is more came the same way.
    let beyond = balance.beyond_established + left_in_queue.saturating_sub(balance.never_accepted);
    let cookies = beyond.min(by_cookie);
    [cookies, if shared { balance.foreign + (beyond - cookies) } else { 0 }]
}

/// What each member accepted; `None` unless all of them were counted.
fn accepts(scenario: &Scenario, ended: &Ended, workers: &[MemberRow]) -> Option<Vec<u64>> {
    if !scenario.subject.is_own() && ended.members.foreign.is_none() {
        return None;
    }
    workers.iter().map(|worker| worker.total.accepted).collect()
}

fn enter_datagrams(
    context: &TrialContext,
    ended: &Ended,
    (loaders, loader_died): (&LoaderReport, bool),
    record: &mut TrialRecord,
) {
    let scenario = &context.scenario;
    let flows = &loaders.flows;
    for row in &mut record.workers {
        if let Some(socket) = &mut row.datagram_socket {
            socket.flows = flows.by_worker.get(row.member).copied().unwrap_or(0);
        }
    }
    let answered = |row: &MemberRow| flows.by_worker.get(row.member).copied().unwrap_or(0);
    let answered: Vec<u64> = record.workers.iter().map(answered).collect();
    // Of another server, replies name workers only if it is one of listenbench's.
    let after_rebinding = flows.after_rebinding;
    let names_workers = scenario.subject.is_own() || after_rebinding.share().is_some();
    let datagrams = Datagrams {
        sent: flows.sent,
        foreign: ended.members.datagrams_foreign,
        received: record.workers.iter().filter_map(|worker| worker.total.datagrams).sum(),
        left_in_queue: ended.members.datagrams_left,
        aborted: ended.members.datagrams_dropped,
        lost: lost(&ended.sockets, &record.workers),
        filtered: ended.datagrams_filtered,
        replies: flows.replies,
        stale: flows.stale,
        flows: flows.begun,
        answered_flows: flows.by_worker.iter().sum(),
        sticky_flows: flows.sticky,
        moved_flows: flows.moved,
        rebound_flows: flows.rebound,
        after_rebinding: Some(after_rebinding).filter(|_| flows.rebound > 0 && names_workers),
        after_reload: Some(flows.after_reload).filter(|_| context.side == Side::Whole && scenario.reloads()),
        ..Datagrams::default()
    };
    let unreachable = record.kernel.get(UDP_NO_PORTS).copied().unwrap_or(0);
    let worker_died = record.workers.iter().any(|worker| worker.exit.as_ref().is_some_and(|exit| !exit.is_ok()));
    let balanced = datagrams.balanced(unreachable, worker_died);
    record.datagrams = Some(if loader_died { balanced.of_dead_loader() } else { balanced });
    // A worker whose socket is connected elsewhere gets no flow, so it is not for chance alone to decide.
    let draws = draws(scenario).filter(|_| scenario.server.connected.is_empty());
    let answered = Some(answered).filter(|_| !scenario.changes_workers());
    record.flow_distribution = answered.and_then(|answered| distribution(draws, &answered, &ended.flow_tuples));
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

/// Enters what happened in the measured window, and how long the window was. Returns its beginning and end.
fn enter_window(
    context: &TrialContext,
    ended: &Ended,
    (loaders, populations): (&LoaderReport, &[Population]),
    record: &mut TrialRecord,
) -> (u64, u64) {
    // If a number of connections is the bound, the window ends with the last accept: only holds and time-outs follow.
    let measure_to_ns = match (context.scenario.span.bound, ended.last_accept_ns) {
        (Bound::Duration(_), _) => ended.interrupted_ns.unwrap_or(u64::MAX).min(ended.window.measure_to_ns),
        (Bound::Connections(_), 0) => loaders.ended_ns,
        (Bound::Connections(_), last_accept_ns) => last_accept_ns,
    };
    let from_ns = ended.window.measure_from_ns;
    let length_ns = measure_to_ns.saturating_sub(from_ns);
    let part = loads::part(&context.scenario, ended.window, (from_ns, measure_to_ns));
    let part_s = part.1.saturating_sub(part.0) as f64 / 1e9;
    let per_second = |count: u64| if part_s > 0.0 { count as f64 / part_s } else { 0.0 };
    MemberRow::enter_shares(&mut record.workers);
    let measured = Measured {
        // Without members, nobody counted: the sum of nothing would be 0.
        accepted: record
            .connections
            .accepted
            .and_then(|_| record.workers.iter().map(|worker| worker.measured.accepted).sum::<Option<u64>>()),
        datagrams: record.workers.iter().map(|worker| worker.measured.datagrams).sum(),
        unstamped: match &record.probe {
            Some(probe) if !context.scenario.subject.is_own() => probe.unstamped,
            _ => context.waits.exact.then_some(ended.members.unstamped),
        },
        hand_over_unknown: context.completions.is_some().then_some(ended.members.hand_over_unknown),
        stamps_impossible: loaders.stamps_impossible,
        ..loads::measured(&context.scenario, length_ns, (loaders, populations))
    };
    record.duration_s = length_ns as f64 / 1e9;
    record.rates = Rates {
        accepted_per_s: measured.accepted.map(per_second),
        datagrams_per_s: measured.datagrams.map(per_second).filter(|_| record.datagrams.is_some()),
        ..loads::rates(&context.scenario, part, (loaders, populations))
    };
    record.measured = measured;
    (from_ns, measure_to_ns)
}

/// What the receipts in replies say about a server that runs elsewhere.
fn receipts(histograms: &Histograms) -> Option<Receipts> {
    let of_worker = |(name, waits): (&String, &Counts)| {
        let worker = Name::parse(name)?.own.strip_prefix('r')?.strip_suffix(".accept_wait_bound")?.parse().ok()?;
        Some((worker, waits.len()))
    };
    // Several populations may have met the same worker.
    let mut workers: BTreeMap<usize, u64> = BTreeMap::new();
    for (worker, connections) in histograms.iter().filter_map(of_worker) {
        *workers.entry(worker).or_default() += connections;
    }
    let shares = workers.into_iter().map(|(worker, connections)| WorkerShare { worker, connections });
    let workers: Vec<WorkerShare> = shares.collect();
    (!workers.is_empty()).then_some(Receipts { workers })
}

/// The accept waits that a probe saw. Beside them, those are lost that the kernel never established, and those that it did but nobody
/// accepted.
fn seen_waits(
    loaders: &LoaderReport,
    ends: &BTreeSet<WaitEnd>,
    connections: &Connections,
    histograms: &Histograms,
) -> LatencySummary {
    if ends.is_empty() {
        return LatencySummary::default();
    }
    let never_accepted = connections.left_in_queue + connections.aborted.unwrap_or(0);
    let lost = loaders.lost.connects + never_accepted.min(loaders.lost.waits - loaders.lost.connects);
    // A sum of waits that end differently has no name.
    let end = ends.first().copied().filter(|_| ends.len() == 1);
    LatencySummary {
        ends: end,
        ..LatencySummary::of_waits(&merged::of_metric(histograms, "accept_wait"), lost, WaitMethod::Tracepoint)
    }
}

pub(super) fn latencies(
    context: &TrialContext,
    loaders: &LoaderReport,
    balance: &Balance,
    histograms: &Histograms,
) -> Latencies {
    let (lost, protocol) = (&loaders.lost, context.scenario.protocol);
    let of = |latency: Latency| {
        LatencySummary::with_lost(&merged::of_metric(histograms, latency.name()), lost.of(latency, protocol))
    };
    let waits = |name, method| {
        let lost = match method {
            // Those that the kernel never established, and those that it did but no worker accepted.
            WaitMethod::SockOps | WaitMethod::Tracepoint => {
                lost.connects + balance.never_accepted.min(lost.waits - lost.connects)
            }
            WaitMethod::ConnectCall => lost.waits,
        };
        LatencySummary::of_waits(&merged::of_metric(histograms, name), lost, method)
    };
    Latencies {
        accept_wait: if context.waits.exact || context.waits.bound {
            waits("accept_wait", context.waits.method())
        } else {
            LatencySummary::default()
        },
        accept_wait_bound: if context.waits.bound && (context.waits.exact || receipts(histograms).is_some()) {
            waits("accept_wait_bound", WaitMethod::ConnectCall)
        } else {
            LatencySummary::default()
        },
        hand_over: LatencySummary::of(&merged::of_metric(histograms, "hand_over")),
        connect: of(Latency::Connect),
        connect_from_intended: of(Latency::ConnectFromIntended),
        response: of(Latency::Response),
        service: of(Latency::Service),
        send_lag: of(Latency::SendLag),
        queued_lag: of(Latency::QueuedLag),
        timer_lag: of(Latency::TimerLag),
        follow_up: of(Latency::FollowUp),
        receive_wait: if context.side == Side::Whole {
            LatencySummary::with_lost(&merged::of_metric(histograms, "receive_wait"), lost.flow_responses)
        } else {
            LatencySummary::default()
        },
        udp_response: of(Latency::UdpResponse),
        udp_service: of(Latency::UdpService),
        tls: of(Latency::Tls),
        failed_connect: of(Latency::FailedConnect),
    }
}

fn loader_row(loader: usize, account: LoaderAccount) -> LoaderRow {
    let LoaderAccount { report, cpu, .. } = &account;
    LoaderRow {
        host: account.host,
        loader,
        pid: account.pid,
        attempted: report.attempted,
        in_flight: report.in_flight(),
        recycled: report.recycled,
        cpu_user_ns: cpu.user_ns,
        cpu_system_ns: cpu.system_ns,
        busy_share: report.busy.and_then(Busy::share),
        voluntary_switches: cpu.voluntary_switches,
        involuntary_switches: cpu.involuntary_switches,
        scheduler: account.set_up.scheduler,
        exit: account.exit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        load,
        scenario::{Plan, Source},
    };

    #[test]
    fn chance_decides_unless_a_worker_is_killed() {
        for (event, expected) in [
            ("none", Some(Draws::Tuples)),
            ("stall", Some(Draws::Tuples)),
            ("burn", Some(Draws::Tuples)),
            ("kill", None),
        ] {
            let lasts = if matches!(event, "stall" | "burn") { "for = \"100ms\"" } else { "" };
            let text = format!(
                "name = \"x\"\n[server]\nstrategy = \"reuseport\"\nworkers = 2\n[load]\nduration = \"1s\"\n\
                 [[event]]\nworker = 0\nat = \"200ms\"\nkind = \"{event}\"\n{lasts}\n"
            );
            let plan = Plan::read(&Source { name: "test.toml", text: &text }, &[]).unwrap();
            assert_eq!(draws(&plan.cells[0].scenario), expected, "{event}");
        }
    }

    #[test]
    fn receipts_name_workers_in_order() {
        let of = |count: u64| load::counts([(1_000, count)].into_iter());
        let named =
            |names: &[(&str, u64)]| names.iter().map(|(name, count)| ((*name).to_owned(), of(*count))).collect();
        let share = |worker, connections| WorkerShare { worker, connections };
        let seen = receipts(&named(&[
            ("r10.accept_wait_bound", 3),
            ("r2.accept_wait_bound", 5),
            ("w0.accept_wait", 8),
            ("w0.accept_wait_bound", 8),
            ("l0.response", 8),
            ("kept.r2.accept_wait_bound", 1),
        ]));
        assert_eq!(seen, Some(Receipts { workers: vec![share(2, 6), share(10, 3)] }));
        assert_eq!(receipts(&named(&[("w0.accept_wait_bound", 8)])), None);
    }

    #[test]
    fn what_another_server_did_balances_where_it_can() {
        // Established and unserved, by the loaders; accepted, foreign, left in the queue, by cookie; whether the network is shared.
        let of = |loaders: (u64, u64), known, shared| {
            let Beside { taken, aborted, cookies, foreign } = Beside::of_other(loaders.0, loaders.1, known, shared);
            assert_eq!(taken, 0);
            [aborted, cookies, foreign]
        };
        assert_eq!(of((10, 0), (10, 0, 0, 0), false), [0, 0, 0]);
        assert_eq!(of((10, 0), (13, 3, 0, 0), false), [0, 0, 3]);
        assert_eq!(of((10, 3), (7, 0, 2, 0), false), [1, 0, 0]);
        // A client that was served cannot have been aborted: what is missing there stays unaccounted for.
        assert_eq!(of((10, 2), (7, 0, 2, 0), false), [0, 0, 0]);
        assert_eq!(of((10, 0), (12, 0, 0, 1), false), [0, 1, 0]);
        assert_eq!(of((10, 0), (12, 0, 0, 1), true), [0, 1, 1]);
        assert_eq!(of((10, 1), (10, 2, 3, 0), true), [0, 0, 3]);
        // A probe that counts without knowing whose connections they were.
        assert_eq!(of((357, 0), (390, 0, 0, 0), true), [0, 0, 33]);
    }

    #[test]
    fn what_no_loader_established_came_by_cookie_or_from_other_programs() {
        for (never_accepted, beyond_established, foreign, left_in_queue, by_cookie, shared, expected) in [
            (0, 0, 0, 0, 0, false, [0, 0]),
            (3, 0, 0, 3, 9, true, [0, 0]),
            // Cookies explain as much as came back.
            (0, 2, 0, 0, 9, false, [2, 0]),
            (0, 2, 0, 0, 1, true, [1, 1]),
            // One of them waits in a queue.
            (1, 0, 0, 2, 9, false, [1, 0]),
            (0, 1, 0, 2, 2, true, [2, 1]),
            // Nobody else is in a namespace: an imbalance.
            (0, 2, 5, 0, 1, false, [1, 0]),
            (0, 2, 5, 0, 0, true, [0, 7]),
        ] {
            let balance = Balance { never_accepted, beyond_established, foreign };
            assert_eq!(
                of_no_loader(&balance, left_in_queue, by_cookie, shared),
                expected,
                "{balance:?} {left_in_queue}"
            );
        }
    }
}
