//! What the machine and its network counted, apart from workers and loaders.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sockets in a network namespace, over IPv4 and IPv6.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sockets {
    /// TCP, in use: listening, or with a connection; both ends of a loopback connection count.
    pub in_use: u64,
    /// TCP, in TIME_WAIT.
    pub time_wait: u64,
    /// TCP, without a process any more, but not yet over: of the machine, not of the namespace.
    pub orphans: u64,
    /// TCP's memory, in pages: of the machine, not of the namespace.
    pub memory_pages: u64,
    /// UDP, bound.
    pub udp: u64,
}

impl Sockets {
    /// The largest of each.
    pub fn peak(&mut self, other: &Self) {
        self.in_use = self.in_use.max(other.in_use);
        self.time_wait = self.time_wait.max(other.time_wait);
        self.orphans = self.orphans.max(other.orphans);
        self.memory_pages = self.memory_pages.max(other.memory_pages);
        self.udp = self.udp.max(other.udp);
    }
}

/// What the machine's processors did between two readings, as shares of all their time, 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuShares {
    /// In user mode.
    pub user: f64,
    /// In the kernel for processes.
    pub system: f64,
    /// In the kernel for interrupts' deferred work.
    pub softirq: f64,
    /// Taken by the host.
    pub steal: f64,
    /// Somebody on this machine.
    pub busy: f64,
    /// Switches between processes: a number.
    pub context_switches: u64,
}

/// What the processors could not receive in time, of the whole machine (/proc/net/softnet_stat).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Softnet {
    /// Packets dropped because a processor's backlog was full (net.core.netdev_max_backlog).
    pub dropped: u64,
    /// Times that receiving stopped with work left (net.core.netdev_budget).
    pub squeezed: u64,
}

impl Softnet {
    /// What came since an earlier reading.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            dropped: self.dropped.saturating_sub(before.dropped),
            squeezed: self.squeezed.saturating_sub(before.squeezed),
        }
    }
}

/// What the trial's own process used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObserverRow {
    /// CPU time in user mode, ns.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel, ns.
    pub cpu_system_ns: u64,
}
