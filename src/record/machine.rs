//! Counts of the machine and its network, as opposed to those of workers and loaders.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sockets in a network namespace, over IPv4 and IPv6.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sockets {
    /// TCP sockets that listen or have a connection; both ends of a loopback connection count.
    pub in_use: u64,
    /// TCP sockets in TIME_WAIT.
    pub time_wait: u64,
    /// TCP sockets that no process holds but that are not closed yet; for the whole machine, not the namespace.
    pub orphans: u64,
    /// Memory of TCP sockets, in pages; for the whole machine, not the namespace.
    pub memory_pages: u64,
    /// Bound UDP sockets.
    pub udp: u64,
}

impl Sockets {
    /// Keeps the larger of each count.
    pub fn peak(&mut self, other: &Self) {
        self.in_use = self.in_use.max(other.in_use);
        self.time_wait = self.time_wait.max(other.time_wait);
        self.orphans = self.orphans.max(other.orphans);
        self.memory_pages = self.memory_pages.max(other.memory_pages);
        self.udp = self.udp.max(other.udp);
    }
}

/// What the machine's processors did between two readings, as shares of their total time, 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuShares {
    /// Share in user mode.
    pub user: f64,
    /// Share in the kernel on behalf of processes.
    pub system: f64,
    /// Share in the kernel's deferred interrupt work.
    pub softirq: f64,
    /// Share that the hypervisor took.
    pub steal: f64,
    /// Share that anything on this machine used.
    pub busy: f64,
    /// Number of switches between processes, not a share.
    pub context_switches: u64,
}

/// Packets that the processors could not receive in time, for the whole machine (/proc/net/softnet_stat).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Softnet {
    /// Packets dropped because a processor's backlog was full (net.core.netdev_max_backlog).
    pub dropped: u64,
    /// Times receiving stopped with work left (net.core.netdev_budget).
    pub squeezed: u64,
}

impl Softnet {
    /// The difference from an earlier reading.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            dropped: self.dropped.saturating_sub(before.dropped),
            squeezed: self.squeezed.saturating_sub(before.squeezed),
        }
    }
}

/// CPU time of the trial's own process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObserverRow {
    /// CPU time in user mode, ns.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel, ns.
    pub cpu_system_ns: u64,
}
