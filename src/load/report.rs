//! A loader's account of what it did, and the total over all loaders.

use serde::{Deserialize, Serialize};

use crate::record::ErrorCount;

/// A loader's account.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct LoaderReport {
    /// The engine that moved the bytes.
    pub engine: String,
    /// Connections and flows begun.
    pub attempted: u64,
    /// Connections among those that reused the socket of an earlier one.
    pub recycled: u64,
    /// Connections established.
    pub established: u64,
    /// Connections and flows that ran to their planned end.
    pub completed: u64,
    /// Established connections that ended without a sign that a worker accepted them.
    pub unserved: u64,
    /// Replies that belong to another connection or request.
    pub misdelivered: u64,
    /// Replies received.
    pub replies: u64,
    /// Replies checked by their receipt.
    pub verified: u64,
    /// Stamps earlier than the connect call or later than accept's return. Must be 0.
    pub stamps_impossible: u64,
    /// The account of datagram flows.
    pub flows: Flows,
    /// Starts intended within the measured window.
    pub measured_planned: u64,
    /// When the first of those starts was due, in nanoseconds of CLOCK_MONOTONIC.
    pub measured_first_ns: u64,
    /// When the last of those starts was due.
    pub measured_last_ns: u64,
    /// How many of those starts came before the window's end.
    pub measured_in_time: u64,
    /// How many of those connections and flows completed.
    pub measured_completed: u64,
    /// When the source ports first ran out, in nanoseconds of CLOCK_MONOTONIC.
    pub first_exhausted_ns: Option<u64>,
    /// Failed connections by phase and errno; their sum is attempted − completed.
    pub errors: Vec<ErrorCount>,
    /// Latencies beyond the histograms' 60 s.
    pub overflows: u64,
    /// Identifies the schedule; `None` in a closed loop.
    pub schedule: Option<u64>,
    /// Its scheduling policy, as read back from the kernel; `None` for a policy that scenarios cannot ask for.
    pub scheduler: Option<String>,
    /// When the last connection ended, in nanoseconds of CLOCK_MONOTONIC.
    pub ended_ns: u64,
    /// Whether the deadline ended the load.
    pub gave_up: bool,
    /// CPU time in user mode from the barrier on.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel from the barrier on.
    pub cpu_system_ns: u64,
    /// Times it went to sleep.
    pub voluntary_switches: u64,
    /// Times another process took its processor.
    pub involuntary_switches: u64,
}

/// The account of datagram flows. A flow is a client socket with a 4-tuple of its own.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// Flows begun.
    pub begun: u64,
    /// Datagrams sent, one per request.
    pub sent: u64,
    /// Replies received.
    pub replies: u64,
    /// Late replies to earlier, abandoned flows with the same 4-tuple.
    pub stale: u64,
    /// Flows with several replies, all from one worker.
    pub sticky: u64,
    /// Flows with replies from more than one worker.
    pub moved: u64,
    /// Flows by the worker that answered first.
    pub by_worker: Vec<u64>,
}

impl Flows {
    fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.sent += other.sent;
        self.replies += other.replies;
        self.stale += other.stale;
        self.sticky += other.sticky;
        self.moved += other.moved;
        self.by_worker.resize(self.by_worker.len().max(other.by_worker.len()), 0);
        for (sum, one) in self.by_worker.iter_mut().zip(&other.by_worker) {
            *sum += one;
        }
    }
}

/// Adds up the accounts of all loaders.
pub fn total<'a>(reports: impl Iterator<Item = &'a LoaderReport>) -> LoaderReport {
    let mut sum = reports.fold(LoaderReport::default(), |mut sum, one| {
        sum.attempted += one.attempted;
        sum.recycled += one.recycled;
        sum.established += one.established;
        sum.completed += one.completed;
        sum.unserved += one.unserved;
        sum.misdelivered += one.misdelivered;
        sum.replies += one.replies;
        sum.verified += one.verified;
        sum.stamps_impossible += one.stamps_impossible;
        sum.flows.add(&one.flows);
        if one.measured_planned > 0 {
            let first = if sum.measured_planned == 0 { u64::MAX } else { sum.measured_first_ns };
            sum.measured_first_ns = first.min(one.measured_first_ns);
            sum.measured_last_ns = sum.measured_last_ns.max(one.measured_last_ns);
        }
        sum.measured_planned += one.measured_planned;
        sum.measured_in_time += one.measured_in_time;
        sum.measured_completed += one.measured_completed;
        sum.first_exhausted_ns = [sum.first_exhausted_ns, one.first_exhausted_ns].into_iter().flatten().min();
        sum.overflows += one.overflows;
        sum.errors.extend(one.errors.iter().cloned());
        // All run on the same kernel and so chose the same engine.
        sum.engine.clone_from(&one.engine);
        // Each has walked the whole schedule, so their digests agree.
        sum.schedule = one.schedule;
        sum.ended_ns = sum.ended_ns.max(one.ended_ns);
        sum.gave_up |= one.gave_up;
        sum.cpu_user_ns += one.cpu_user_ns;
        sum.cpu_system_ns += one.cpu_system_ns;
        sum
    });
    sum.errors = ErrorCount::merged(sum.errors);
    sum
}
