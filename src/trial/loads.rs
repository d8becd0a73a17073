//! The populations of a trial's load: what their loaders report, and their rows.

use super::{Histograms, assemble, judge, loaders::LoaderAccount};
use crate::{
    context::TrialContext,
    ipc::{control::Window, ledger::Balance, proxy_header::Version},
    load::{self, LoaderReport},
    record::{
        Latencies, LatencySummary, LoadConnections, LoadRow, LoaderRow, MalformedLine, Measured, Rates, Replayed,
        TrialRecord,
    },
    scenario::{Load, Mode, Replay, Scenario},
    sys::clock,
};

/// What the loaders of a population report.
pub(super) struct Population {
    /// The numbers of its loaders.
    loaders: Vec<usize>,
    report: LoaderReport,
    histograms: Histograms,
}

/// The report of all loaders together, and that of each population, in the scenario's order.
pub(super) fn reports(
    scenario: &Scenario,
    accounts: &[LoaderAccount],
    of_loads: Vec<Histograms>,
) -> (LoaderReport, Vec<Population>) {
    let population = |(number, histograms): (usize, Histograms)| {
        let of_load = || accounts.iter().enumerate().filter(move |(_, account)| account.load == number);
        let report = load::total(of_load().map(|(_, account)| &account.report));
        Population { loaders: of_load().map(|(loader, _)| loader).collect(), report, histograms }
    };
    let populations: Vec<Population> = of_loads.into_iter().enumerate().map(population).collect();
    let total = load::total(accounts.iter().map(|account| &account.report));
    let schedule = schedule(scenario.loads.iter().zip(&populations).map(|(load, one)| (load, one.report.schedule)));
    (LoaderReport { schedule, ..total }, populations)
}

/// Identifies the schedules of all populations that have one, if each was followed.
fn schedule<'a>(mut all: impl Iterator<Item = (&'a Load, Option<u64>)>) -> Option<u64> {
    let scheduled = all.try_fold(None, |sum: Option<u64>, (load, schedule)| match (sum, schedule) {
        (sum, None) if !load.mode.has_schedule() => Some(sum),
        (_, None) => None,
        (None, one) => Some(one),
        // As the schedules themselves: FNV-1a over words.
        (Some(sum), Some(one)) => Some(Some((sum ^ one).wrapping_mul(0x0000_0100_0000_01b3))),
    });
    scheduled.flatten()
}

/// The part of the measured window that rates are of: that in which connections of the only population are due, or all of it.
pub(super) fn part(scenario: &Scenario, window: Window, measured: (u64, u64)) -> (u64, u64) {
    match &scenario.loads[..] {
        [only] => part_of(only, window, measured),
        _ => measured,
    }
}

/// The rates of all populations together in a [`part`] of the measured window, as the clients saw it.
pub(super) fn rates(
    scenario: &Scenario,
    (from_ns, to_ns): (u64, u64),
    (total, populations): (&LoaderReport, &[Population]),
) -> Rates {
    if let ([load], [only]) = (&scenario.loads[..], populations) {
        return rates_of(scenario, load, &only.report, (from_ns, to_ns));
    }
    let length_s = to_ns.saturating_sub(from_ns) as f64 / 1e9;
    // What a closed loop will start is not known beforehand, and so neither is the sum; and requests and connections have none.
    let kept = scenario.loads.iter().filter(|load| is_kept(load)).count();
    let is_one_kind = kept == 0 || kept == scenario.loads.len();
    let is_known =
        is_one_kind && scenario.loads.iter().all(|load| load.mode.starts_per_second().is_some()) && length_s > 0.0;
    let asks_again = scenario.loads.iter().any(Load::asks_again);
    let offered_per_s = is_known.then(|| total.measured_planned as f64 / length_s);
    total.rates((offered_per_s, asks_again, scenario.server.app.is_secured()), from_ns, to_ns)
}

/// The counts of all populations together in a window of this length, as the clients saw it.
pub(super) fn measured(
    scenario: &Scenario,
    length_ns: u64,
    (total, populations): (&LoaderReport, &[Population]),
) -> Measured {
    let due = scenario.loads.iter().zip(populations).map(|(load, one)| (one.report.due(), is_kept(load)));
    total.measured(length_ns).with_due(due)
}

/// Whether requests are due, and not connections.
fn is_kept(load: &Load) -> bool {
    matches!(load.mode, Mode::Kept { .. })
}

fn rates_of(scenario: &Scenario, load: &Load, report: &LoaderReport, (from_ns, to_ns): (u64, u64)) -> Rates {
    let offered_per_s = report.offered_per_s(load, scenario.span.bound, to_ns.saturating_sub(from_ns) as f64 / 1e9);
    report.rates((offered_per_s, load.asks_again(), load.security.is_some()), from_ns, to_ns)
}

/// The part of the measured window in which connections of a population are due.
fn part_of(load: &Load, window: Window, (from_ns, to_ns): (u64, u64)) -> (u64, u64) {
    let at_ns = |after| window.start_ns + clock::nanoseconds(after);
    let from_ns = from_ns.max(at_ns(load.start));
    (from_ns, load.end.map_or(to_ns, |end| to_ns.min(at_ns(end))).max(from_ns))
}

/// A row for each population. An only one is all of the trial's load.
pub(super) fn rows(
    context: &TrialContext,
    window: Window,
    measured: (u64, u64),
    populations: &[Population],
    record: &TrialRecord,
) -> Vec<LoadRow> {
    let scenario = &context.scenario;
    let row = |(load, population): (&Load, &Population)| {
        let report = &population.report;
        let of_load = |row: &&LoaderRow| population.loaders.contains(&row.loader);
        let in_flight = record.loaders.iter().filter(of_load).map(|row| row.in_flight).sum();
        let row = LoadRow {
            name: load.name.clone(),
            start_s: load.start.as_secs_f64(),
            end_s: load.end.or(scenario.span.fixed()).map(|end| end.as_secs_f64()),
            loaders: population.loaders.clone(),
            schedule: report.schedule.map(|digest| format!("{digest:016x}")),
            proxy_protocol: load.proxy_protocol.map(Version::number),
            replay: load.replay.as_ref().map(|replay| {
                let lateness = if populations.len() == 1 {
                    &record.latency_ns.send_lag
                } else {
                    &latencies(context, population).send_lag
                };
                replayed((context, load, replay), window, report, lateness)
            }),
            connections: connections(report, in_flight),
            requests_completed: report.replies - report.misdelivered,
            ..LoadRow::default()
        };
        if populations.len() == 1 {
            let (rates, latency_ns) = (record.rates, record.latency_ns.clone());
            return LoadRow { rates, measured: record.measured.clone(), latency_ns, ..row };
        }
        LoadRow {
            rates: rates_of(scenario, load, report, part_of(load, window, measured)),
            measured: Measured {
                stamps_impossible: report.stamps_impossible,
                ..report
                    .measured(measured.1.saturating_sub(measured.0))
                    .with_due(std::iter::once((report.due(), is_kept(load))))
            },
            latency_ns: latencies(context, population),
            ..row
        }
    };
    scenario.loads.iter().zip(populations).map(row).collect()
}

/// The latencies of one population of several. Members do not tell whose connections they accept, so that only the bounds of its
/// loaders are its own.
fn latencies(context: &TrialContext, population: &Population) -> Latencies {
    let Population { report, histograms, .. } = population;
    let all = assemble::latencies(context, report, &Balance::default(), histograms);
    let by_members = context.waits.exact || !context.scenario.subject.is_own();
    let accept_wait = if by_members { LatencySummary::default() } else { all.accept_wait };
    Latencies { accept_wait, ..all }
}

/// What a population replayed of its trace.
fn replayed(
    (context, load, replay): (&TrialContext, &Load, &Replay),
    window: Window,
    report: &LoaderReport,
    lateness: &LatencySummary,
) -> Replayed {
    let (asked, schedule) = (&replay.asked, replay.schedule());
    let (summary, findings) = (schedule.summary(), &schedule.summary().findings);
    let end_ns = load.end.map_or(window.measure_to_ns, |end| window.start_ns + clock::nanoseconds(end));
    let end_ns = end_ns.min(context.control.interrupted_ns().unwrap_or(u64::MAX));
    let from_ns = window.start_ns + clock::nanoseconds(load.start);
    let started = report.attempted - report.reconnected;
    // If the file can no longer be read, what was due is at least what was started.
    let due = schedule.starts_before(end_ns.saturating_sub(from_ns)).unwrap_or(started).max(started);
    Replayed {
        file: asked.path.clone(),
        sha256: summary.sha256.clone(),
        format: summary.format.clone(),
        lines: findings.lines,
        malformed: findings.malformed,
        malformed_first: findings
            .shown
            .iter()
            .map(|one| MalformedLine { line: one.line, problem: one.problem.clone() })
            .collect(),
        others: findings.others,
        connections: summary.connections,
        requests: findings.requests,
        tells_connections: findings.has_connections,
        spread: findings.spread,
        left_out: load.left_out().map(str::to_owned),
        speed: asked.speed,
        from_s: asked.from.as_secs_f64(),
        to_s: asked.to.map(|to| to.as_secs_f64()),
        repeat: asked.repeat,
        span_s: schedule.traced().as_secs_f64(),
        length_s: schedule.length().as_secs_f64(),
        traced: schedule.starts(),
        due,
        started,
        missed: due - started,
        late_p99_ns: lateness.p99_of_many(),
        late_max_ns: lateness.longest(),
    }
}

fn connections(report: &LoaderReport, in_flight: u64) -> LoadConnections {
    LoadConnections {
        attempted: report.attempted,
        established: report.established,
        self_connected: report.self_connected,
        unserved: report.unserved,
        completed: report.completed,
        in_flight,
        misdelivered: report.misdelivered,
        reconnected: report.reconnected,
        replaced: report.replaced,
        errors: report.errors.clone(),
    }
}

/// What the rules for verdicts know of each population.
pub(super) fn judged<'a>(scenario: &'a Scenario, record: &TrialRecord) -> Vec<judge::Population<'a>> {
    let population = |(load, row): (&'a Load, &LoadRow)| {
        let of_load = record.loaders.iter().filter(|loader| row.loaders.contains(&loader.loader));
        judge::Population {
            load,
            name: (scenario.loads.len() > 1).then_some(&load.name[..]),
            measured: row.measured.clone(),
            offered_per_s: row.rates.offered_per_s,
            busiest: of_load.filter_map(|loader| loader.busy_share).reduce(f64::max),
        }
    };
    scenario.loads.iter().zip(&record.loads).map(population).collect()
}
