//! One line of `trials.jsonl`. Times are integer nanoseconds, rates per second, counts exact.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{
    Connections, Conntrack, CpuShares, Datagrams, Distribution, EventKind, EventRow, Firewall, Gather, HelperRow,
    HostRow, Latencies, LatencySummary, ListenerRow, LoadRow, LoaderRow, Measured, MemberRow, Memory, Nat,
    NetworkRules, ObserverRow, Outcome, Ports, ProbeRow, Ramp, Rates, Receipts, Series, Sockets, Softnet, Stage,
    Subject, Tls, Upstream, Verdict,
};

/// Version of the schema.
pub const SCHEMA: u32 = 2;

/// One trial: a line of `trials.jsonl`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct TrialRecord {
    /// Version of the schema.
    pub schema: u32,
    /// Name of the scenario.
    pub scenario: String,
    /// Number in order of execution, from 0.
    pub trial: usize,
    /// Repetition, from 0.
    pub repetition: usize,
    /// The run's seed.
    pub seed: u64,
    /// When the trial started: RFC 3339, UTC.
    pub started_at: String,
    /// Swept values by short name.
    pub cell: Map<String, Json>,
    /// The cell's place in the scenario's matrix, from 0.
    pub cell_index: usize,
    /// With `[search]`, the value it tried; absent without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Searched>,
    /// With `run --interleave`, its number in the order of execution of the whole experiment, from 0: its repetition is the block
    /// that all records share. Absent without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment_trial: Option<usize>,
    /// The server under test.
    pub subject: Subject,
    /// Whether the trial's figures may be used.
    pub outcome: Outcome,
    /// Why the trial failed; absent if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What a reader of the figures must know.
    pub verdicts: Vec<Verdict>,
    /// Length of the measured window, in seconds.
    pub duration_s: f64,
    /// Rates over the measured window.
    pub rates: Rates,
    /// Counts over the whole trial, warm-up included.
    pub connections: Connections,
    /// Where the datagrams of the trial went; absent without datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams: Option<Datagrams>,
    /// TLS handshakes over the whole trial; absent without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The rules that packets passed on their way to the server; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<Firewall>,
    /// Source NAT in front of the clients; absent without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<Nat>,
    /// Counts over the measured window.
    pub measured: Measured,
    /// Identifies the schedule that was followed, in 16 hex digits; `null` in a closed loop, and of clients that think.
    pub schedule: Option<String>,
    /// Latencies of connections intended to start in the measured window; exact accept waits cover those established in it.
    pub latency_ns: Latencies,
    /// Where the time of first replies went, by stage, in order; absent if unknown.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub stages_ns: IndexMap<Stage, LatencySummary>,
    /// How accepts spread over members; `null` if there were none, or if events changed which workers serve.
    pub distribution: Option<Distribution>,
    /// How answered datagram flows spread over members; absent without datagrams, or if events changed which workers serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_distribution: Option<Distribution>,
    /// One row per member of the subject.
    pub workers: Vec<MemberRow>,
    /// One row per listener of another server, of which members may hold several or, hidden from this user, none; absent for
    /// listenbench's own server, whose listeners are in its workers' rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerRow>,
    /// The strategy's helper process, or another server's processes and threads that are not members, as one; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<HelperRow>,
    /// What was seen of accepts from outside the server; absent without a probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeRow>,
    /// Our own server behind the proxy under test; absent unless there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// The engine that moved the loaders' bytes; `null` if the trial failed or has no loaders.
    pub engine: Option<String>,
    /// What the receipts in replies say about a server that runs elsewhere; absent if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<Receipts>,
    /// One row per population of the load, in the scenario's order; absent without loaders. Totals over all of them are above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loads: Vec<LoadRow>,
    /// One row per loader.
    pub loaders: Vec<LoaderRow>,
    /// One row per host of the job that took part, by rank; absent where one machine did it all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostRow>,
    /// What gathering the trial from the hosts cost; absent where one machine did it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gather: Option<Gather>,
    /// Events that workers suffered; absent if there were none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventRow>,
    /// Memory when the most connections were open; absent if none were held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// How the load built up to its peak; absent unless all its connections are held at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
    /// How the ports filled up; only in scenarios of kind `ports`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Ports>,
    /// Ports of the network's `ip_local_port_range` that a client can have: without reserved ones and those that a socket is bound to.
    pub usable_ports: u64,
    /// The most ports in use or in TIME_WAIT at once, among the samples; the two ends of a loopback connection count as one. 0 in a job of
    /// several hosts, like `ports_taken`: nobody samples the ports of its load hosts.
    pub ports_peak: u64,
    /// When connections first found no source port, in seconds from the trial's start; `null` if that did not happen.
    pub ports_exhausted_after_s: Option<f64>,
    /// Connections per second that the ports can sustain indefinitely, by arithmetic: capacity ÷ the time that a port rests in
    /// TIME_WAIT. `null` if no port rests on the clients' side.
    pub ports_ceiling_per_s: Option<f64>,
    /// Growth of kernel counters over the whole trial, summed over the network namespaces of server and loaders.
    pub kernel: BTreeMap<String, u64>,
    /// Growth of kernel counters over the measured window.
    pub kernel_measured: BTreeMap<String, u64>,
    /// The most sockets of each kind at once in the loaders' network, among the samples.
    pub sockets_peak: Sockets,
    /// Connection tracking in the networks of server and loaders, or of them both; absent where none of them tracked a connection, as where no rule
    /// asks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conntrack: Vec<Conntrack>,
    /// The rules of packet filters in these networks when the load began; absent where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<NetworkRules>,
    /// Packets that the machine's processors could not receive in time, over the whole trial.
    pub softnet: Softnet,
    /// What the machine's processors did over the whole trial.
    pub machine: CpuShares,
    /// CPU time of the trial's own process, which samples queues and counters.
    pub observer: ObserverRow,
    /// Share of the machine's processor time that the hypervisor took, 0 to 1.
    pub cpu_steal_share: f64,
    /// Share of the machine's processor time that other processes used, 0 to 1: what was busy, less the share of workers and
    /// loaders.
    pub cpu_others_share: f64,
    /// Samples over the whole trial.
    pub series: Series,
}

impl TrialRecord {
    /// What no two trials share: when it started, and the processes it started.
    pub fn identity(&self) -> (usize, &str, Vec<i32>) {
        let pids = self.workers.iter().map(|worker| worker.pid).chain(self.loaders.iter().map(|loader| loader.pid));
        (self.trial, &self.started_at, pids.collect())
    }

    /// The members that are there to accept: without processes that only supervise others.
    pub fn acceptors(&self) -> impl Iterator<Item = &MemberRow> + Clone {
        self.workers.iter().filter(|member| !member.supervises)
    }

    /// Whether members came or went because of events: what each accepted then depends on how long it was there.
    pub fn changed_members(&self) -> bool {
        let changes = |event: &EventRow| matches!(event.kind, EventKind::Join | EventKind::Leave | EventKind::Reload);
        self.events.iter().any(changes) || self.workers.iter().any(|member| member.generation > 0)
    }

    /// The sum of its numbers that nobody adds up: the seed, and offsets of clocks, which are as far apart as boots.
    pub(super) fn never_added(&self) -> u128 {
        let offsets = self.hosts.iter().filter_map(|host| host.clock).map(|clock| clock.offset_ns.unsigned_abs());
        u128::from(self.seed) + offsets.map(u128::from).sum::<u128>()
    }

    /// The populations with figures of their own: a single one's are the trial's.
    pub fn populations(&self) -> &[LoadRow] {
        if self.loads.len() > 1 { &self.loads } else { &[] }
    }
}

/// The value that a search tried in a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Searched {
    /// Name of the searched key among the cell's values.
    pub name: String,
    /// The value tried.
    pub value: f64,
}
