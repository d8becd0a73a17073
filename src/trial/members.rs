//! The rows of the subject's members and of its helper process.

use std::collections::BTreeSet;

use super::{
    Histograms, merged,
    subject::{Ended, Finished},
};
use crate::{
    context::TrialContext,
    record::{BatchSummary, CountedBy, ErrorCount, Exit, LatencySummary, MemberRow, TrialRecord, WaitEnd},
};

/// Totals over all members that have no place in their rows.
#[derive(Default)]
pub(super) struct Together {
    /// Errors of members and helper.
    pub errors: Vec<ErrorCount>,
    /// Accepts whose exact wait is unknown.
    pub unstamped: u64,
    /// Accepts from a ring whose time in it is unknown.
    pub hand_over_unknown: u64,
    /// Datagrams found in their sockets after the load's end.
    pub datagrams_left: u64,
    pub datagrams_foreign: u64,
    /// Datagrams found in sockets that a change of workers closed.
    pub datagrams_dropped: u64,
    /// Connections that did not come from a loader, by a probe's count; `None` without one.
    pub foreign: Option<u64>,
    /// Members of another server that were stopped when the load had ended, with the state's letter.
    pub stopped: Vec<(String, char)>,
    /// Processes without a row that ended early, and how.
    pub dead: Vec<(String, Exit)>,
    /// What ended the waits that a probe saw; empty if none did.
    pub ends: BTreeSet<WaitEnd>,
}

/// Enters the rows of a subject that has ended. `sampled` rows hold the samples of their queues.
pub(super) fn enter(
    context: &TrialContext,
    finished: Finished,
    sampled: Vec<MemberRow>,
    record: &mut TrialRecord,
) -> (Together, Histograms) {
    let Finished {
        members,
        helper,
        histograms,
        foreign,
        probe,
        ends,
        dead,
        changed: _,
        ended_ns: _,
        exit: _,
        output: _,
    } = finished;
    record.probe = probe;
    let mut together = Together { foreign, ends, dead, ..Together::default() };
    let turns = context.scenario.crew().turns(&context.scenario.server, context.seed, context.repetition);
    let ranks = turns.into_iter().map(|turn| Some(turn.rank)).chain(std::iter::repeat(None));
    // Those that appeared last have no samples.
    let sampled = sampled.into_iter().chain(std::iter::repeat_with(MemberRow::default));
    for (number, ((ended, sampled), rank)) in members.into_iter().zip(sampled).zip(ranks).enumerate() {
        together.add(&ended);
        let registration_rank = rank.filter(|_| ended.by == CountedBy::Own);
        let stopped = ended.stopped;
        let row = MemberRow { member: number, registration_rank, ..row(ended, sampled) };
        together.stopped.extend(stopped.map(|state| (row.to_string(), state)));
        record.workers.push(row);
    }
    if let Some((row, errors)) = helper {
        record.helper = Some(row);
        together.errors.extend(errors);
    }
    (together, histograms)
}

impl Together {
    fn add(&mut self, ended: &Ended) {
        self.errors.extend(ended.errors.iter().copied());
        self.unstamped += ended.aside.unstamped;
        self.hand_over_unknown += ended.aside.hand_over_unknown;
        self.datagrams_left += ended.aside.datagrams_left;
        self.datagrams_foreign += ended.aside.datagrams_foreign;
        self.datagrams_dropped += ended.aside.datagrams_dropped;
    }
}

fn row(ended: Ended, sampled: MemberRow) -> MemberRow {
    let mut row = MemberRow {
        pid: ended.pid,
        tid: ended.tid,
        comm: ended.comm,
        supervises: ended.supervises,
        generation: ended.generation,
        scheduler: ended.scheduler,
        engine: ended.engine,
        exit: ended.exit,
        counted_by: ended.by,
        total: ended.total,
        measured: ended.measured,
        open_peak: ended.open_peak,
        descriptors: ended.descriptors,
        accept_wait: ended.accept_wait,
        ..sampled
    };
    if let Some(socket) = &mut row.datagram_socket {
        // Losses after the last datagram that the worker received show only in /proc.
        socket.lost = socket.lost.max(ended.aside.datagrams_lost);
    }
    row
}

/// Enters the histogram summaries of our own workers, whose waits loaders may have measured.
pub(super) fn enter_histograms(context: &TrialContext, histograms: &Histograms, rows: &mut [MemberRow]) {
    let waits = |waits| LatencySummary::of_waits(waits, 0, context.waits.method());
    let [batches, accepted, received] =
        ["accept_batch", "accept_wait", "receive_wait"].map(|metric| merged::by_own(histograms, metric));
    for row in rows.iter_mut().filter(|row| row.counted_by == CountedBy::Own) {
        let own = |metric: &str| format!("w{}.{metric}", row.member);
        row.accept_batch = Some(batches.get(&*own("accept_batch")).map(BatchSummary::of).unwrap_or_default());
        row.accept_wait = Some(accepted.get(&*own("accept_wait")).map(waits).unwrap_or_default());
        if let Some(socket) = &mut row.datagram_socket {
            socket.receive_wait = received.get(&*own("receive_wait")).map(LatencySummary::of).unwrap_or_default();
        }
    }
}
