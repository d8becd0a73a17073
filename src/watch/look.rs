//! What a look saw, as plain values. A line of `listenbench observe --json` is one of these.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::exposure::Exposure;
use crate::record::{ConntrackTable, Verdict, WaitEnd};

/// The listeners of a network namespace and their members over one interval.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Look {
    /// Version of this schema: that of records.
    pub schema: u32,
    /// When the interval ended: RFC 3339, UTC.
    pub at: String,
    /// From the beginning of the observation to the interval's end, in seconds.
    pub elapsed_s: f64,
    /// Length of the interval, in seconds.
    pub interval_s: f64,
    /// What this observation cannot know, why, and the remedy, a sentence each; empty if it knows everything.
    pub missing: Vec<String>,
    /// Events of accepting members that the kernel could not count since the beginning, for want of room; `null` if none are counted.
    pub lost_events: Option<u64>,
    /// SYNs and SYN/ACKs that this network namespace sent again in the interval (TCPSynRetrans).
    pub syn_retries: u64,
    /// The network's table of tracked connections at the interval's end, with counts since the beginning; `null` if it tracks none.
    pub conntrack: Option<ConntrackTable>,
    /// Which rules of packet filters packets of this network meet, in words, or why that is unknown; `null` if there are none.
    pub packet_filter: Option<String>,
    /// The listeners, by address.
    pub listeners: Vec<ListenerLook>,
    /// What a reader of these figures must know, from the beginning to the interval's end.
    pub verdicts: Vec<Verdict>,
}

/// A listener: all sockets that listen at one address. Those of a reuseport group are several.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ListenerLook {
    /// The address it listens on.
    pub address: SocketAddr,
    /// From where connections can come, as far as the address decides.
    pub reach: Exposure,
    /// Whether an IPv6 listener takes IPv4 connections, too.
    pub dual_stack: bool,
    /// Name of the network device it is bound to; `null` if none.
    pub device: Option<String>,
    /// Its sockets, by cookie.
    pub sockets: Vec<SocketLook>,
    /// Connections established but not closed, without those in queues; `null` if they cannot be read.
    pub open: Option<u64>,
    /// Accepts per second, of all members; `null` if they cannot be counted.
    pub accepts_per_s: Option<f64>,
    /// Whoever accepts from it or has it; first who has accepted most, last those that supervise.
    pub members: Vec<MemberLook>,
}

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SocketLook {
    /// The inode, as in /proc/PID/fd.
    pub inode: u32,
    /// The kernel's number for the socket, which no other socket ever has.
    pub cookie: u64,
    /// Connections in the accept queue at the interval's end.
    pub queue: u32,
    /// The most connections among the interval's samples.
    pub queue_peak: u32,
    /// The backlog in effect; the queue holds one more.
    pub limit: u32,
    /// Share of the interval's samples that found the queue full, 0 to 1.
    pub full_share: f64,
    /// Segments dropped in the interval, for want of room in either queue.
    pub drops: u64,
    /// The processes that hold the socket, by process id, as far as this user may see them.
    pub held_by: Vec<i32>,
}

/// A process or thread that accepts from a listener, or holds it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MemberLook {
    /// Process id.
    pub pid: i32,
    /// Thread id; that of a process which has accepted nothing is its process id.
    pub tid: i32,
    /// Command name, as in process lists.
    pub comm: String,
    /// The state's letter in /proc: `S` sleeps, `R` runs, `T` is stopped; `null` if it has ended.
    pub state: Option<char>,
    /// Whether it is a master: it started other processes that have the listener, and is not known to accept anything.
    pub supervises: bool,
    /// Connections accepted since the beginning; `null` if they cannot be counted, like what is derived from them.
    pub accepted: Option<u64>,
    /// Accepts per second of the interval.
    pub accepts_per_s: Option<f64>,
    /// Its part of all accepts from this listener since the beginning, 0 to 1; `null` if there were none.
    pub share: Option<f64>,
    /// Accept waits of the interval; `null` without accepts.
    pub accept_wait: Option<WaitLook>,
    /// Accepts since the beginning whose wait is unknown, because the connection was waiting before.
    pub unstamped: Option<u64>,
    /// Calls of accept that found nothing, per connection accepted since the beginning; `null` without accepts.
    pub eagain_per_accept: Option<f64>,
    /// Connections of this listener that its process has open; of one thread among several, those that it accepted since the
    /// beginning. `null` if this user may not see them.
    pub open: Option<u64>,
}

/// Accept waits: from ESTABLISHED in the kernel to accept's return, or to its completion in an io_uring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WaitLook {
    /// Median, ns.
    pub p50_ns: u64,
    /// 99th percentile, ns.
    pub p99_ns: u64,
    /// Longest, ns.
    pub max_ns: u64,
    /// What ends them: `accept`, or `completion` where a ring accepts.
    pub ends: WaitEnd,
}

impl ListenerLook {
    /// Connections in all its queues.
    pub fn queue(&self) -> u64 {
        self.sockets.iter().map(|socket| u64::from(socket.queue)).sum()
    }

    /// The most connections in one of its queues.
    pub fn queue_peak(&self) -> u32 {
        self.sockets.iter().map(|socket| socket.queue_peak).max().unwrap_or(0)
    }

    /// The largest of its queues' limits.
    pub fn limit(&self) -> u32 {
        self.sockets.iter().map(|socket| socket.limit).max().unwrap_or(0)
    }

    /// Segments that all its sockets dropped in the interval.
    pub fn drops(&self) -> u64 {
        self.sockets.iter().map(|socket| socket.drops).sum()
    }

    /// The names of its members, each once.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for member in &self.members {
            if !names.contains(&&member.comm[..]) {
                names.push(&member.comm);
            }
        }
        names
    }
}
