//! The record of an observation: one trial of a server that runs, without loaders.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    time::SystemTime,
};

use super::{
    rows::{QueueSeen, Row, Rows},
    tally::{MemberTally, Tally, Who},
};
use crate::{
    load,
    observe::listeners::Place,
    record::{
        Connections, Conntrack, CountedBy, Counts, CpuShares, Latencies, LatencySummary, Measured, MemberRow,
        NetworkRules, Outcome, ProbeRow, QueueRow, Rates, SCHEMA, Series, Sockets, Subject, SubjectKind, TrialRecord,
        Verdict, WaitMethod, WorkerCounts,
    },
    stats,
    sys::clock::CpuUse,
};

/// What the record holds besides members and queues.
pub(super) struct Observed {
    pub scenario: String,
    pub started: SystemTime,
    pub duration_s: f64,
    /// Length of an interval, in milliseconds.
    pub interval_ms: u64,
    /// Why it ended early; `None` if it did not.
    pub error: Option<String>,
    pub verdicts: Vec<Verdict>,
    pub kernel: BTreeMap<String, u64>,
    pub sockets_peak: Sockets,
    pub conntrack: Option<Conntrack>,
    pub rules: Option<NetworkRules>,
    pub machine: CpuShares,
    pub probe: ProbeRow,
}

/// The record, and each member's accept waits by `w<member>.accept_wait`.
pub(super) fn record(tally: &Tally, rows: &Rows, observed: Observed) -> (TrialRecord, BTreeMap<String, Counts>) {
    let mut members: Vec<(&Who, &MemberTally)> = tally.members.iter().collect();
    members.sort_by_key(|(_, member)| member.order);
    let places: BTreeSet<Place> = tally.sockets.values().map(|socket| socket.listener.place).collect();
    let several = places.len() > 1;
    let mut histograms = BTreeMap::new();
    let mut all_waits = load::counts(iter::empty());
    let mut workers = Vec::with_capacity(members.len());
    for (number, (who, member)) in members.iter().enumerate() {
        let waits = member.count.as_ref().map(|count| {
            let mut waits = load::counts(iter::empty());
            count.waits.iter().for_each(|seen| waits.add(seen));
            waits
        });
        if let Some(waits) = &waits {
            all_waits.add(waits);
        }
        workers.push(MemberRow { member: number, ..row(tally, who, member, waits.as_ref(), several) });
        histograms
            .extend(waits.filter(|waits| !waits.is_empty()).map(|waits| (format!("w{number}.accept_wait"), waits)));
    }
    MemberRow::enter_shares(&mut workers);
    // Without a probe, nobody counted: the sum over no members would claim 0.
    let accepted =
        observed.probe.accepts.and_then(|_| workers.iter().map(|row| row.total.accepted).sum::<Option<u64>>());
    let left_in_queue = tally.sockets.values().filter(|socket| socket.present);
    let left_in_queue = left_in_queue.map(|socket| u64::from(socket.listener.queue.length)).sum();
    let accepting = workers.iter().filter(|row| !row.supervises);
    let shares: Option<Vec<u64>> = accepting.map(|row| row.total.accepted).collect();
    let mut names: Vec<&str> = Vec::new();
    for (_, member) in &members {
        if !names.contains(&&member.comm[..]) {
            names.push(&member.comm);
        }
    }
    let invalid = observed.verdicts.iter().any(|verdict| verdict.invalidates);
    let outcome = match &observed.error {
        Some(_) => Outcome::Failed,
        None if invalid => Outcome::Invalid,
        None => Outcome::Valid,
    };
    let ends: Vec<_> = members.iter().filter_map(|(_, member)| member.count.as_ref()?.ends).collect();
    let accept_wait = LatencySummary {
        ends: ends.first().copied().filter(|first| ends.iter().all(|one| one == first)),
        ..LatencySummary::of_waits(&all_waits, 0, WaitMethod::Tracepoint)
    };
    let per_s = |count: u64| count as f64 / observed.duration_s.max(1e-9);
    let counted = accepted.is_some() && !members.is_empty();
    let record = TrialRecord {
        schema: SCHEMA,
        scenario: observed.scenario,
        started_at: humantime::format_rfc3339_millis(observed.started).to_string(),
        subject: Subject { kind: SubjectKind::Running, name: names.join(", "), ..Subject::default() },
        outcome,
        error: observed.error,
        verdicts: observed.verdicts,
        duration_s: observed.duration_s,
        rates: Rates { accepted_per_s: accepted.map(per_s), ..Rates::default() },
        connections: Connections {
            // All of them: nobody is ours.
            foreign: accepted.unwrap_or(0) + left_in_queue,
            accepted,
            left_in_queue,
            ..Connections::default()
        },
        measured: Measured { accepted, unstamped: observed.probe.unstamped, ..Measured::default() },
        latency_ns: Latencies {
            accept_wait: if counted { accept_wait } else { LatencySummary::default() },
            ..Latencies::default()
        },
        distribution: shares.filter(|_| !several).and_then(|shares| stats::distribution(&shares, None)),
        series: series(tally, rows, &members, observed.interval_ms),
        workers,
        probe: Some(observed.probe),
        kernel_measured: observed.kernel.clone(),
        kernel: observed.kernel,
        sockets_peak: observed.sockets_peak,
        conntrack: observed.conntrack.into_iter().collect(),
        rules: observed.rules.into_iter().collect(),
        machine: observed.machine,
        cpu_steal_share: observed.machine.steal,
        ..TrialRecord::default()
    };
    (record, histograms)
}

fn row(tally: &Tally, who: &Who, member: &MemberTally, waits: Option<&Counts>, several: bool) -> MemberRow {
    let count = member.count.as_ref();
    let used = |of: fn(&CpuUse) -> u64| member.used.as_ref().map(|[first, last]| of(last).saturating_sub(of(first)));
    let counts = WorkerCounts {
        accepted: count.map(|count| count.accepted),
        accept_eagain: count.map(|count| count.eagain),
        emfile: count.map(|count| count.emfile),
        cpu_user_ns: used(|used| used.user_ns),
        cpu_system_ns: used(|used| used.system_ns),
        voluntary_switches: used(|used| used.voluntary_switches),
        involuntary_switches: used(|used| used.involuntary_switches),
        ..WorkerCounts::default()
    };
    let socket = tally.socket_of(who).map(|(_, socket)| socket);
    let queue = socket.map(|socket| QueueRow {
        samples: socket.all.count,
        mean: socket.all.length_sum as f64 / socket.all.count.max(1) as f64,
        full_share: socket.all.full_share(),
        drops: socket.all.drops,
    });
    MemberRow {
        pid: who.pid,
        tid: who.tid,
        comm: member.comm.clone(),
        listener: several.then(|| who.place.address.to_string()),
        supervises: member.supervises(),
        counted_by: if count.is_some() { CountedBy::Tracepoint } else { CountedBy::None },
        total: counts.clone(),
        measured: counts,
        open_peak: count.map(|count| count.open_peak),
        queue,
        queue_peak: socket.map(|socket| u64::from(socket.all.peak)),
        queue_limit: socket.map(|socket| u64::from(socket.listener.queue.limit)),
        accept_wait: waits.map(|waits| LatencySummary {
            ends: count.and_then(|count| count.ends),
            ..LatencySummary::of_waits(waits, 0, WaitMethod::Tracepoint)
        }),
        ..MemberRow::default()
    }
}

fn series(tally: &Tally, rows: &Rows, members: &[(&Who, &MemberTally)], interval_ms: u64) -> Series {
    let sockets: Vec<Option<u64>> =
        members.iter().map(|(who, _)| tally.socket_of(who).map(|(cookie, _)| *cookie)).collect();
    let queues = |of: fn(&QueueSeen) -> u64| {
        let row = |row: &Row| {
            let of_socket = |cookie: &Option<u64>| cookie.and_then(|cookie| row.queues.get(&cookie)).map_or(0, of);
            sockets.iter().map(of_socket).collect()
        };
        rows.rows.iter().map(row).collect::<Vec<Vec<u64>>>()
    };
    let of_members = |of: fn(&Row) -> &BTreeMap<Who, u64>| {
        let row = |row| members.iter().map(|(who, _)| of(row).get(*who).copied().unwrap_or(0)).collect();
        rows.rows.iter().map(row).collect::<Vec<Vec<u64>>>()
    };
    Series {
        interval_ms: interval_ms * rows.intervals,
        accepted: of_members(|row| &row.accepted),
        queue_depth: queues(|queue| queue.depth),
        queue_peak: queues(|queue| queue.peak),
        queue_drops: queues(|queue| queue.drops),
        open: of_members(|row| &row.open),
        ..Series::default()
    }
}
