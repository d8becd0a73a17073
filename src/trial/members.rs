//! The rows of the subject's members and of its helper process.

use super::{
    Histograms,
    subject::{Ended, Finished},
};
use crate::{
    context::TrialContext,
    ipc::control::Count,
    record::{BatchSummary, ErrorCount, LatencySummary, MemberRow, TrialRecord},
};

/// Totals over all members that have no place in their rows.
#[derive(Default)]
pub(super) struct Together {
    /// Errors of members and helper.
    pub errors: Vec<ErrorCount>,
    /// Accepts whose exact wait is unknown.
    pub unstamped: u64,
    /// Datagrams found in their sockets after the load's end.
    pub datagrams_left: u64,
}

/// Enters the rows of a subject that has ended. `sampled` rows hold the samples of their queues.
pub(super) fn enter(
    context: &TrialContext,
    finished: Finished,
    sampled: Vec<MemberRow>,
    record: &mut TrialRecord,
) -> (Together, Histograms) {
    let Finished { members, helper, histograms } = finished;
    let mut together = Together::default();
    let ranks = context.scenario.server.registration.ranks(members.len(), context.seed, context.repetition);
    for (number, ((ended, sampled), rank)) in members.into_iter().zip(sampled).zip(ranks).enumerate() {
        together.add(&ended);
        record.workers.push(MemberRow { member: number, registration_rank: rank, ..row(ended, sampled) });
    }
    if let Some((row, errors)) = helper {
        record.helper = Some(row);
        together.errors.extend(errors);
    }
    (together, histograms)
}

impl Together {
    fn add(&mut self, ended: &Ended) {
        let count = |count| ended.counted.as_ref().map_or(0, |counted| counted.total.get(count));
        self.errors.extend(ended.errors.iter().copied());
        self.unstamped += count(Count::Unstamped);
        self.datagrams_left += count(Count::DatagramsLeft);
    }
}

fn row(ended: Ended, sampled: MemberRow) -> MemberRow {
    let mut row = MemberRow {
        pid: ended.pid,
        tid: ended.pid,
        comm: ended.comm,
        scheduler: ended.scheduler,
        exit: ended.exit,
        ..sampled
    };
    if let Some(counted) = ended.counted {
        row.counted_by = Some(counted.by);
        row.total = (&counted.total).into();
        row.measured = (&counted.measured).into();
        row.open_peak = counted.total.get(Count::OpenPeak);
        if let Some(socket) = &mut row.datagram_socket {
            // Losses after the last datagram that the worker received show only in /proc.
            socket.lost = socket.lost.max(counted.total.get(Count::DatagramsLost));
        }
    }
    row
}

/// Enters each member's histogram summaries.
pub(super) fn enter_histograms(context: &TrialContext, histograms: &Histograms, rows: &mut [MemberRow]) {
    let ends = Some(context.scenario.server.strategy.wait_end());
    let waits = |waits| LatencySummary::of_waits(waits, context.waits.method(), ends);
    for row in rows {
        let of = |metric: &str| histograms.get(&format!("w{}.{metric}", row.member));
        row.accept_batch = of("accept_batch").map(BatchSummary::of).unwrap_or_default();
        row.accept_wait = of("accept_wait").map(waits).unwrap_or_default();
        if let Some(socket) = &mut row.datagram_socket {
            socket.receive_wait = of("receive_wait").map(LatencySummary::of).unwrap_or_default();
        }
    }
}
