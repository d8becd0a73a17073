//! Rows of processes: those that accept, and those that load.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BatchSummary, CountedBy, DatagramSocketRow, Exit, LatencySummary};

/// The row of a member of the subject: whatever accepts.
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
    /// Who counted what it accepted; `null` where nobody could, and then its counts say nothing.
    pub counted_by: Option<CountedBy>,
    /// When it added its listener to epoll, from 0 for the first.
    pub registration_rank: usize,
    /// How the kernel scheduled it, by the kernel's word; `null` of a worker that died.
    pub scheduler: Option<String>,
    /// Over the whole trial.
    #[serde(flatten)]
    pub total: WorkerCounts,
    /// Connections accepted per wake-up that had any, in the measured window.
    pub accept_batch: BatchSummary,
    /// Most connections open at once.
    pub open_peak: u64,
    /// Samples of its listener's queue; what is of a shared listener stands in every row.
    pub queue: QueueRow,
    /// Longest accept queue of its listener among the samples.
    pub queue_peak: u64,
    /// The backlog in force: the queue holds one more.
    pub queue_limit: u64,
    /// Accept waits of the connections it accepted.
    pub accept_wait: LatencySummary,
    /// Its socket of datagrams; absent without datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagram_socket: Option<DatagramSocketRow>,
    /// The measured window's part of the counts.
    pub measured: WorkerCounts,
    /// How it ended.
    pub exit: Exit,
}

/// Samples of a listener's queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueueRow {
    /// Their number.
    pub samples: u64,
    /// Mean length.
    pub mean: f64,
    /// Share of them in which the queue was full.
    pub full_share: f64,
    /// Segments that the listener dropped: its part of ListenDrops.
    pub drops: u64,
}

/// What a worker did and used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerCounts {
    /// Connections accepted.
    pub accepted: u64,
    /// Wake-ups in which the listener was reported ready.
    pub wakeups: u64,
    /// Of those, the ones in which accept had nothing.
    pub empty_wakeups: u64,
    /// Calls of accept that returned EAGAIN.
    pub accept_eagain: u64,
    /// Datagrams received.
    pub datagrams: u64,
    /// Wake-ups in which the socket of datagrams was reported ready.
    pub datagram_wakeups: u64,
    /// Of those, the ones in which there was nothing to receive.
    pub datagram_empty_wakeups: u64,
    /// CPU time in user mode, ns.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel, ns.
    pub cpu_system_ns: u64,
    /// Times the process went to sleep. A herd shows here even when the kernel sends it back to sleep by itself.
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

/// The row of a process besides the workers. It accepts, but the workers count what they are handed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HelperRow {
    /// Process id.
    pub pid: i32,
    /// Over the whole trial: CPU and context switches.
    #[serde(flatten)]
    pub total: WorkerCounts,
    /// The measured window's part.
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
    /// Of those, on a socket that an earlier connection had used.
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
    /// How the kernel scheduled it, by the kernel's word.
    pub scheduler: Option<String>,
    /// How it ended.
    pub exit: Exit,
}
