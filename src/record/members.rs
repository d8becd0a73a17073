//! The rows of a trial's members, helper and loaders.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BatchSummary, CountedBy, DatagramSocketRow, Exit, LatencySummary};

/// The row of a member: whatever accepts connections in the subject.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemberRow {
    /// Number, from 0.
    pub member: usize,
    /// Process id.
    pub pid: i32,
    /// Thread id.
    pub tid: i32,
    /// Command name, as in process lists.
    pub comm: String,
    /// The address that it accepts on, where a record is about several; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// Whether it is a master: it started other processes that hold the listener, and is not known to accept anything. It is no part
    /// of how accepts spread.
    #[serde(default, skip_serializing_if = "is_false")]
    pub supervises: bool,
    /// After how many events of the trial that bring new members it appeared; 0 if it was there from the start.
    #[serde(default)]
    pub generation: usize,
    /// Who counted what the member accepted.
    pub counted_by: CountedBy,
    /// Rank in the order in which the members of its generation added their listeners to epoll, from 0; `null` for another server's
    /// member.
    pub registration_rank: Option<usize>,
    /// Scheduling policy, as reported by the kernel; `null` for another server's member.
    pub scheduler: Option<String>,
    /// The engine that moved the bytes of its connections; `null` for another server's member, for one that only accepts, and for one that
    /// receives datagrams alone.
    #[serde(default)]
    pub engine: Option<String>,
    /// Counts over the whole trial.
    #[serde(flatten)]
    pub total: WorkerCounts,
    /// Its process's descriptors; absent for another server's member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptors: Option<DescriptorRow>,
    /// Connections accepted per wake-up that accepted any, in the measured window; `null` for another server's member.
    pub accept_batch: Option<BatchSummary>,
    /// Most connections open at once; `null` if unknown.
    pub open_peak: Option<u64>,
    /// Samples of its listener's queue; those of a shared listener are repeated in every row. `null` if its listener is unknown.
    pub queue: Option<QueueRow>,
    /// Longest accept queue of its listener among the samples; `null` as above.
    pub queue_peak: Option<u64>,
    /// The backlog in effect; the queue holds one connection more. `null` as above.
    pub queue_limit: Option<u64>,
    /// Accept waits of the connections it accepted, of another server's member those from loaders; `null` if unknown.
    pub accept_wait: Option<LatencySummary>,
    /// Its datagram socket; absent without datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagram_socket: Option<DatagramSocketRow>,
    /// Counts over the measured window.
    pub measured: WorkerCounts,
    /// Its part of what all members did in the measured window.
    pub share: MemberShare,
    /// How it ended; `null` if it still ran, or nobody could wait for it.
    pub exit: Option<Exit>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// The descriptors of a process that accepts. It can hold as many connections as lie between the two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DescriptorRow {
    /// Its limit of open files (RLIMIT_NOFILE).
    pub limit: u64,
    /// How many below the limit were in use before its first connection, a spare one included.
    pub before: u64,
}

/// A member's part of what all members did in the measured window, 0 to 1; `null` where they did nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemberShare {
    /// Of the requests answered.
    pub requests: Option<f64>,
    /// Of the CPU time used.
    pub cpu: Option<f64>,
}

/// `worker 3 (pid 12)`, or of another server `nginx (pid 12)` or `haproxy (pid 12, thread 14)`.
impl fmt::Display for MemberRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { member, pid, tid, comm, .. } = self;
        match self.counted_by {
            CountedBy::Own => write!(f, "worker {member} (pid {pid})"),
            CountedBy::Tracepoint | CountedBy::None if tid == pid => write!(f, "{comm} (pid {pid})"),
            CountedBy::Tracepoint | CountedBy::None => write!(f, "{comm} (pid {pid}, thread {tid})"),
        }
    }
}

impl MemberRow {
    /// Fills in each member's share.
    pub fn enter_shares(rows: &mut [Self]) {
        let sum = |of: fn(&WorkerCounts) -> Option<u64>| rows.iter().map(|row| of(&row.measured)).sum::<Option<u64>>();
        let (requests, cpu_ns) = (sum(|counts| counts.requests), sum(WorkerCounts::cpu_ns));
        let share = |part: Option<u64>, all: Option<u64>| {
            part.zip(all.filter(|all| *all > 0)).map(|(part, all)| part as f64 / all as f64)
        };
        for row in rows {
            row.share = MemberShare {
                requests: share(row.measured.requests, requests),
                cpu: share(row.measured.cpu_ns(), cpu_ns),
            };
        }
    }
}

/// Samples of a listener's queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueueRow {
    /// Number of samples.
    pub samples: u64,
    /// Mean length of the queue.
    pub mean: f64,
    /// Share of the samples that found the queue full.
    pub full_share: f64,
    /// Segments that the listener dropped: its share of ListenDrops.
    pub drops: u64,
}

/// A listener of another server, whoever holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListenerRow {
    /// The inode of its socket, as in `/proc/PID/fd`.
    pub inode: u32,
    /// Samples of its accept queue.
    pub queue: QueueRow,
    /// Longest accept queue among the samples.
    pub queue_peak: u64,
    /// The backlog in effect; the queue holds one connection more.
    pub queue_limit: u64,
}

/// A member's activity and the processor time it used; `null` is what cannot be known of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerCounts {
    /// Connections that the member got, by its own accept or handed over.
    pub accepted: Option<u64>,
    /// Connections that it accepted and handed over to another member, which counts them as accepted.
    pub handed_over: Option<u64>,
    /// Connections among `accepted` that another member, or the helper, had accepted and handed over.
    pub taken_over: Option<u64>,
    /// Wake-ups in which the listener was reported ready.
    pub wakeups: Option<u64>,
    /// Wake-ups among those in which there was nothing to accept.
    pub empty_wakeups: Option<u64>,
    /// Calls of accept(2) that returned EAGAIN.
    pub accept_eagain: Option<u64>,
    /// Accepts that failed because no descriptor was left (EMFILE, ENFILE). accept(2) takes a descriptor before it looks for a connection,
    /// so it fails at an empty queue too.
    #[serde(default)]
    pub emfile: Option<u64>,
    /// Connections that it accepted with its spare descriptor, and closed. A member's `accepted` includes them; the helper has no `accepted`.
    #[serde(default)]
    pub shed: Option<u64>,
    /// Connections among `accepted` that are plain TCP, though the listener is MPTCP's (`protocol = "mptcp"`): the client did not ask for MPTCP, or fell
    /// back. Of the helper, among `shed`.
    #[serde(default)]
    pub fell_back: Option<u64>,
    /// Requests answered, over connections and by datagram.
    pub requests: Option<u64>,
    /// Datagrams received.
    pub datagrams: Option<u64>,
    /// Wake-ups in which the datagram socket was reported ready.
    pub datagram_wakeups: Option<u64>,
    /// Wake-ups among those in which there was nothing to receive.
    pub datagram_empty_wakeups: Option<u64>,
    /// CPU time in user mode, ns.
    pub cpu_user_ns: Option<u64>,
    /// CPU time in the kernel, ns.
    pub cpu_system_ns: Option<u64>,
    /// Times the process or thread went to sleep. A thundering herd shows here even if the kernel puts it back to sleep unseen.
    pub voluntary_switches: Option<u64>,
    /// Times another took its processor.
    pub involuntary_switches: Option<u64>,
}

impl WorkerCounts {
    /// CPU time in user mode and in the kernel, ns.
    pub fn cpu_ns(&self) -> Option<u64> {
        Some(self.cpu_user_ns? + self.cpu_system_ns?)
    }
}

/// The row of a strategy's helper process, which accepts, but the workers count what it hands over. Or that of everything else that
/// another server runs: its processes and threads that accept nothing, as one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HelperRow {
    /// Process id.
    pub pid: i32,
    /// CPU time and context switches over the whole trial.
    #[serde(flatten)]
    pub total: WorkerCounts,
    /// CPU time and context switches over the measured window.
    pub measured: WorkerCounts,
    /// Its descriptors; absent for another server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptors: Option<DescriptorRow>,
    /// How it ended.
    pub exit: Exit,
}

/// A loader's row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoaderRow {
    /// Number, from 0; over all hosts.
    pub loader: usize,
    /// The rank of its host; absent where one machine did it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<usize>,
    /// Process id.
    pub pid: i32,
    /// Connections begun.
    pub attempted: u64,
    /// Connections and datagram flows that were in progress when the loader died.
    #[serde(default)]
    pub in_flight: u64,
    /// Connections among those that reused the socket of an earlier one.
    #[serde(default)]
    pub recycled: u64,
    /// CPU time in user mode, ns.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel, ns.
    pub cpu_system_ns: u64,
    /// The part that it used of the processor time it could get in the measured window, which is all that no other process had while
    /// it was ready to run; `null` if unknown.
    pub busy_share: Option<f64>,
    /// Times it went to sleep.
    pub voluntary_switches: u64,
    /// Times another process took its processor.
    pub involuntary_switches: u64,
    /// Scheduling policy, as reported by the kernel.
    pub scheduler: Option<String>,
    /// How it ended.
    pub exit: Exit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_by_what_identifies_them() {
        let row = |counted_by, tid| {
            MemberRow { member: 3, pid: 12, tid, comm: "haproxy".to_owned(), counted_by, ..MemberRow::default() }
                .to_string()
        };
        assert_eq!(row(CountedBy::Own, 12), "worker 3 (pid 12)");
        assert_eq!(row(CountedBy::Tracepoint, 12), "haproxy (pid 12)");
        assert_eq!(row(CountedBy::None, 14), "haproxy (pid 12, thread 14)");
    }

    #[test]
    fn shares_are_of_what_is_known_of_all() {
        let row = |requests, cpu_user_ns| MemberRow {
            measured: WorkerCounts { requests, cpu_user_ns, cpu_system_ns: Some(0), ..WorkerCounts::default() },
            ..MemberRow::default()
        };
        let shares = |mut rows: Vec<MemberRow>| {
            MemberRow::enter_shares(&mut rows);
            rows.iter().map(|row| (row.share.requests, row.share.cpu)).collect::<Vec<_>>()
        };
        let all = shares(vec![row(Some(1), Some(30)), row(Some(3), Some(10))]);
        assert_eq!(all, [(Some(0.25), Some(0.75)), (Some(0.75), Some(0.25))]);
        // Nobody knows what the second did, so nobody knows the first one's part either.
        assert_eq!(shares(vec![row(None, Some(30)), row(Some(3), None)]), [(None, None), (None, None)]);
        assert_eq!(shares(vec![row(Some(0), Some(0))]), [(None, None)]);
    }
}
