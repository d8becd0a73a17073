//! The rows of a trial's members, helper and loaders.

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
    /// Who counted what the member accepted; `null` if nobody could: its counts are then meaningless.
    pub counted_by: Option<CountedBy>,
    /// Rank in the order in which members added their listeners to epoll, from 0.
    pub registration_rank: usize,
    /// Scheduling policy, as reported by the kernel; `null` for a worker that died.
    pub scheduler: Option<String>,
    /// Counts over the whole trial.
    #[serde(flatten)]
    pub total: WorkerCounts,
    /// Connections accepted per wake-up that accepted any, in the measured window.
    pub accept_batch: BatchSummary,
    /// Most connections open at once.
    pub open_peak: u64,
    /// Samples of its listener's queue; those of a shared listener are repeated in every row.
    pub queue: QueueRow,
    /// Longest accept queue of its listener among the samples.
    pub queue_peak: u64,
    /// The backlog in effect; the queue holds one connection more.
    pub queue_limit: u64,
    /// Accept waits of the connections it accepted.
    pub accept_wait: LatencySummary,
    /// Its datagram socket; absent without datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagram_socket: Option<DatagramSocketRow>,
    /// Counts over the measured window.
    pub measured: WorkerCounts,
    /// How it ended.
    pub exit: Exit,
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

/// A worker's activity and the processor time it used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerCounts {
    /// Connections accepted.
    pub accepted: u64,
    /// Wake-ups in which the listener was reported ready.
    pub wakeups: u64,
    /// Wake-ups among those in which there was nothing to accept.
    pub empty_wakeups: u64,
    /// Calls to accept that returned EAGAIN.
    pub accept_eagain: u64,
    /// Datagrams received.
    pub datagrams: u64,
    /// Wake-ups in which the datagram socket was reported ready.
    pub datagram_wakeups: u64,
    /// Wake-ups among those in which there was nothing to receive.
    pub datagram_empty_wakeups: u64,
    /// CPU time in user mode, ns.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel, ns.
    pub cpu_system_ns: u64,
    /// Times the process went to sleep. A thundering herd shows here even if the kernel puts it back to sleep unseen.
    pub voluntary_switches: u64,
    /// Times another process took its processor.
    pub involuntary_switches: u64,
}

impl WorkerCounts {
    /// CPU time in user mode and in the kernel, ns.
    pub fn cpu_ns(&self) -> u64 {
        self.cpu_user_ns + self.cpu_system_ns
    }
}

/// The row of a strategy's helper process. It accepts, but the workers count what it hands over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HelperRow {
    /// Process id.
    pub pid: i32,
    /// CPU time and context switches over the whole trial.
    #[serde(flatten)]
    pub total: WorkerCounts,
    /// CPU time and context switches over the measured window.
    pub measured: WorkerCounts,
    /// How it ended.
    pub exit: Exit,
}

/// A loader's row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoaderRow {
    /// Number, from 0.
    pub loader: usize,
    /// Process id.
    pub pid: i32,
    /// Connections begun.
    pub attempted: u64,
    /// Connections among those that reused the socket of an earlier one.
    #[serde(default)]
    pub recycled: u64,
    /// CPU time in user mode, ns.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel, ns.
    pub cpu_system_ns: u64,
    /// Times it went to sleep.
    pub voluntary_switches: u64,
    /// Times another process took its processor.
    pub involuntary_switches: u64,
    /// Scheduling policy, as reported by the kernel.
    pub scheduler: Option<String>,
    /// How it ended.
    pub exit: Exit,
}
