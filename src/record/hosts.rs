//! The hosts of a job: what each of them is, and what it did in a trial. Records of a single machine have none of it.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Exit, HostRole, LatencySummary, MachineFacts, bounds};

/// A host of the job: an entry of `hosts` in `host.json`. The file's top level is about the host of rank 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostFacts {
    /// Its rank in the job, from 0.
    pub rank: usize,
    /// Host name.
    pub name: String,
    /// What it does.
    pub role: HostRole,
    /// What its machine is. Ranks with the same boot share one.
    #[serde(flatten)]
    pub machine: MachineFacts,
    /// Its network's sysctls.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Its addresses, loopback excepted, the most useful one first.
    pub addresses: Vec<IpAddr>,
}

impl HostFacts {
    /// Those in a `host.json`, by rank; none where one machine did it all. Entries that cannot be read, and those of ranks beyond what is read, are left
    /// out.
    pub fn all(host: &Json) -> Vec<Self> {
        let entries = host.get("hosts").and_then(Json::as_array).into_iter().flatten().take(bounds::HOSTS);
        let mut all: Vec<Self> = entries.filter_map(|entry| Self::deserialize(entry).ok()).collect();
        all.retain(|host| host.rank < bounds::HOSTS);
        all.sort_by_key(|host| host.rank);
        all.dedup_by_key(|host| host.rank);
        all
    }

    /// Which machines a run used, by their names: `server1`, or of several hosts `server1, client1, client2`. Of many, the first ones and their number.
    pub fn names(host: &Json) -> String {
        const NAMED: usize = 8;
        let all = Self::all(host);
        if all.is_empty() {
            return host.get("host").and_then(Json::as_str).unwrap_or_default().to_owned();
        }
        let names: Vec<&str> = all.iter().take(NAMED).map(|host| &host.name[..]).collect();
        let more = if all.len() > NAMED { format!(" and {} more", all.len() - NAMED) } else { String::new() };
        names.join(", ") + &more
    }
}

/// What a host did in a trial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostRow {
    /// Its rank in the job.
    pub rank: usize,
    /// Host name.
    pub name: String,
    /// What it did.
    pub role: HostRole,
    /// Of a server host, where its server listened; of a load host, from where it reaches that host. `null` if it was lost before that was
    /// known.
    pub address: Option<IpAddr>,
    /// Whether it is the machine of the server's host, too: their kernels have the same boot. Absent if not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shares_machine: bool,
    /// Number of its loaders; 0 on a server host.
    pub loaders: usize,
    /// Connections and datagram flows that its loaders began.
    pub attempted: u64,
    /// Connections that they established.
    pub established: u64,
    /// Connections and datagram flows that ran to their planned end, or to a server's close after a reply.
    pub completed: u64,
    /// Connections and datagram flows that failed.
    pub failed: u64,
    /// Connections and datagram flows that were in progress when their loader, or the host, was lost: attempted − completed − failed.
    #[serde(default)]
    pub in_flight: u64,
    /// The part that its busiest loader used of the processor time it could get in the measured window; `null` on a server host, and if
    /// unknown.
    pub busy_share: Option<f64>,
    /// CPU time in user mode of its loaders, or of the server's members, ns; `null` if unknown.
    pub cpu_user_ns: Option<u64>,
    /// The same in the kernel, ns.
    pub cpu_system_ns: Option<u64>,
    /// The most ports in use or in TIME_WAIT at once in its network, among the samples; `null` on a server host, and if unknown.
    pub ports_peak: Option<u64>,
    /// Share of its machine's processor time that the hypervisor took, 0 to 1; `null` where `shares_machine`, on the server's host, whose
    /// share is the trial's own, and if unknown.
    pub cpu_steal_share: Option<f64>,
    /// Share of its machine's processor time that other processes used, 0 to 1: what was busy, less the share of its loaders; `null` as above.
    pub cpu_others_share: Option<f64>,
    /// How its CLOCK_MONOTONIC relates to that of the server's host; `null` for that host, and if unknown.
    pub clock: Option<HostClock>,
    /// Latencies that its loaders measured; `null` on a server host, and if it was lost with them.
    pub latency_ns: Option<HostLatencies>,
    /// Bytes that its connection to the server's host carried for this trial, both directions together.
    pub bytes: u64,
    /// When it was lost, in seconds from the trial's start; absent unless it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_after_s: Option<f64>,
    /// How the trial ended there.
    pub exit: Exit,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl HostRow {
    /// Whether attempted = completed + failed + in_flight.
    pub fn adds_up(&self) -> bool {
        let ends = [self.completed, self.failed, self.in_flight];
        ends.into_iter().map(u128::from).sum::<u128>() == u128::from(self.attempted)
    }
}

/// `client2 (rank 2)`.
impl fmt::Display for HostRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (rank {})", self.name, self.rank)
    }
}

/// A host's CLOCK_MONOTONIC beside that of the server's host, estimated by messages back and forth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostClock {
    /// How far the host's clock was ahead of that of the server's host before the trial, ns; negative if it was behind.
    pub offset_ns: i64,
    /// The most by which the estimate can be wrong: half of the smallest round trip, ns.
    pub bound_ns: u64,
    /// By how much the offset after the trial exceeded the one before, ns; `null` if there was none after it.
    pub drift_ns: Option<i64>,
    /// The most by which the drift can be wrong: the sum of both estimates' bounds, ns; `null` as above.
    #[serde(default)]
    pub drift_bound_ns: Option<u64>,
}

/// Latencies that the loaders of one host measured, each by one clock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostLatencies {
    /// The connect call to writable.
    pub connect: LatencySummary,
    /// Intended start to the last byte of the reply.
    pub response: LatencySummary,
    /// Intended to actual start: the loaders' own lateness.
    pub send_lag: LatencySummary,
}

/// What it cost the server's host to gather a trial from the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gather {
    /// Bytes that all connections to it carried for this trial, both directions together.
    pub bytes: u64,
    /// From the end of the load until the last host's results had arrived, ns.
    pub gather_ns: u64,
    /// Time spent merging them, ns.
    pub merge_ns: u64,
    /// The most memory that the trial's process had resident there, in bytes.
    pub peak_memory_bytes: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(ranks: &[usize]) -> Json {
        let host = |rank: &usize| HostFacts { rank: *rank, name: format!("h{rank}"), ..HostFacts::default() };
        json!({ "host": "h0", "hosts": ranks.iter().map(host).collect::<Vec<_>>() })
    }

    #[test]
    fn hosts_are_named_by_rank() {
        assert_eq!(HostFacts::names(&json!({ "host": "alone" })), "alone");
        assert_eq!(HostFacts::names(&json!({})), "");
        assert_eq!(HostFacts::names(&job(&[0, 2, 1])), "h0, h1, h2");
        let many: Vec<usize> = (0..1_000).collect();
        assert_eq!(HostFacts::names(&job(&many)), "h0, h1, h2, h3, h4, h5, h6, h7 and 992 more");
    }

    #[test]
    fn whatever_a_file_claims_hosts_are_few_and_distinct() {
        let ranks = |host: &Json| HostFacts::all(host).iter().map(|host| host.rank).collect::<Vec<_>>();
        assert_eq!(ranks(&job(&[1, 1, bounds::HOSTS, bounds::HOSTS - 1])), [1, bounds::HOSTS - 1]);
        assert!(ranks(&json!({ "hosts": [{ "rank": 0 }, 7] })).is_empty() && ranks(&json!({ "hosts": 3 })).is_empty());
    }

    #[test]
    fn what_a_host_attempted_was_completed_or_failed() {
        let of = |attempted| HostRow { attempted, completed: 5, failed: 2, in_flight: 1, ..HostRow::default() };
        assert_eq!([7, 8, 9].map(|attempted| of(attempted).adds_up()), [false, true, false]);
    }
}
