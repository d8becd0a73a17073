//! One line of `trials.jsonl`. Times are integer nanoseconds, rates per second, counts exact.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{
    Connections, CpuShares, Datagrams, Distribution, EventRow, HelperRow, Latencies, LatencySummary, LoaderRow,
    Measured, MemberRow, Memory, ObserverRow, Outcome, Ports, Ramp, Rates, Series, Sockets, Softnet, Stage, Subject,
    Verdict,
};

/// Version of the schema.
pub const SCHEMA: u32 = 2;

/// A trial.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct TrialRecord {
    /// Version of the schema.
    pub schema: u32,
    /// Name of the scenario.
    pub scenario: String,
    /// Number in the order of execution, from 0.
    pub trial: usize,
    /// Block, from 0.
    pub repetition: usize,
    /// The run's seed.
    pub seed: u64,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Swept values by short name.
    pub cell: Map<String, Json>,
    /// The cell's place in the scenario's matrix, from 0.
    pub cell_index: usize,
    /// With `[search]`: what was tried; absent without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Searched>,
    /// The server under test.
    pub subject: Subject,
    /// Whether its figures may be used.
    pub outcome: Outcome,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What a reader must know of the figures.
    pub verdicts: Vec<Verdict>,
    /// Length of the measured window, in seconds.
    pub duration_s: f64,
    /// What happened in the window, per second.
    pub rates: Rates,
    /// Counts over the whole trial, warm-up included.
    pub connections: Connections,
    /// Where the datagrams of the trial went; absent without datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams: Option<Datagrams>,
    /// Counts over the measured window.
    pub measured: Measured,
    /// Names the schedule that was followed, 16 hex digits; open loop only.
    pub schedule: Option<String>,
    /// Latencies of connections intended within the measured window; exact accept waits, of those established within it.
    pub latency_ns: Latencies,
    /// Where the time of first replies went, by stage, in order; absent where nobody knows.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub stages_ns: IndexMap<Stage, LatencySummary>,
    /// How accepts spread over workers; `null` without any.
    pub distribution: Option<Distribution>,
    /// How answered flows of datagrams spread over workers; absent without datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_distribution: Option<Distribution>,
    /// One row a member of the subject.
    pub workers: Vec<MemberRow>,
    /// The process that a strategy has besides the workers; absent for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<HelperRow>,
    /// The engine that moved the loaders' bytes; `null` of a trial that failed, or has no loaders.
    pub engine: Option<String>,
    /// One row a loader.
    pub loaders: Vec<LoaderRow>,
    /// What happened to workers; absent where nothing did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventRow>,
    /// What connections took when most were open; absent where none was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// How the load came to its height; absent where it is not one of connections that are all held at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
    /// How the ports filled; absent but for scenarios of kind `ports`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Ports>,
    /// Ports that connect may choose from, by the network's `ip_local_port_range`.
    pub usable_ports: u64,
    /// The most ports in use or in TIME_WAIT at once, among the samples; of loopback connections both ends count as one.
    pub ports_peak: u64,
    /// When connections found no source port for the first time, in seconds from the trial's start; `null` where that did not
    /// happen.
    pub ports_exhausted_after_s: Option<f64>,
    /// Connections per second that the ports can bear for ever, by arithmetic: capacity ÷ the time that a port rests in
    /// TIME_WAIT. `null` where none does on the clients' side.
    pub ports_ceiling_per_s: Option<f64>,
    /// Kernel counters, as differences over the whole trial; of the server's and the loaders' network namespace together.
    pub kernel: BTreeMap<String, u64>,
    /// The same over the measured window.
    pub kernel_measured: BTreeMap<String, u64>,
    /// The most sockets at once, of each kind, in the loaders' network, among the samples.
    pub sockets_peak: Sockets,
    /// Packets that the machine's processors could not receive in time, over the whole trial.
    pub softnet: Softnet,
    /// What the machine's processors did over the whole trial.
    pub machine: CpuShares,
    /// What the trial's own process used: for samples of queues and counters.
    pub observer: ObserverRow,
    /// Share of the machine's processor time that its host took, 0 to 1.
    pub cpu_steal_share: f64,
    /// Share of the machine's processor time that other processes used, 0 to 1: what was busy, less what workers and
    /// loaders used.
    pub cpu_others_share: f64,
    /// Samples over the whole trial.
    pub series: Series,
}

/// The value that a search tried in a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Searched {
    /// Name of the searched key among the cell's values.
    pub name: String,
    /// The value.
    pub value: f64,
}
