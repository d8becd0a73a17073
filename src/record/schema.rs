//! One line of `trials.jsonl`. Times are integer nanoseconds, rates per second, counts exact.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{
    CountedBy, CpuShares, ErrorCount, EventKind, Exit, ObserverRow, Outcome, Outcomes, Sockets, Softnet, Stage,
    Verdict, WaitMethod,
};

/// Version of the schema.
pub const SCHEMA: u32 = 1;

/// A trial.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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
    /// Whether its figures may be used.
    pub outcome: Outcome,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What a reader must know of the figures.
    pub verdicts: Vec<Verdict>,
    /// Length of the measured window, in seconds.
    pub duration_s: f64,
    /// Starts per second that the schedule asked for in the window; `null` in a closed loop.
    pub offered_per_s: Option<f64>,
    /// Accepts per second in the window, all workers together.
    pub accepted_per_s: f64,
    /// Counts over the whole trial, warm-up included.
    pub connections: Connections,
    /// Where the datagrams of the trial went; absent without datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams: Option<Datagrams>,
    /// Datagrams received per second in the window, all workers together; absent without datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams_per_s: Option<f64>,
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
    /// One row a worker.
    pub workers: Vec<WorkerRow>,
    /// The process that a strategy has besides the workers; absent for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<HelperRow>,
    /// The engine that moved the loaders' bytes; `null` of a trial that failed, or has no loaders.
    pub engine: Option<String>,
    /// One row a loader.
    pub loaders: Vec<LoaderRow>,
    /// What was done to workers; absent without faults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultRow>,
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

/// Where the connections of a trial went: established = accepted + left_in_queue + aborted + unaccounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connections {
    /// Begun by loaders, flows of datagrams included; = completed + the errors of loaders.
    pub attempted: u64,
    /// Established, by the loaders' count.
    pub established: u64,
    /// By the workers' count.
    pub accepted: u64,
    /// Gone as planned to their end, flows of datagrams included.
    pub completed: u64,
    /// In accept queues when the workers stopped, by the kernel's count.
    pub left_in_queue: u64,
    /// Accepts, by the port ledger, of connections that no loader established: somebody else's.
    pub foreign: u64,
    /// Established and over without having been accepted, by the port ledger, and not left in a queue.
    pub aborted: u64,
    /// The rest. Must be 0.
    pub unaccounted: i64,
    /// Replies that belong to another connection, request or 4-tuple. Must be 0.
    pub misdelivered: u64,
    /// Replies received.
    pub replies: u64,
    /// Of those, checked by their receipt.
    pub verified: u64,
    /// By phase and errno.
    pub errors: Vec<ErrorCount>,
    /// Attempts to connect by what came of them.
    pub outcomes: Outcomes,
}

/// Where the datagrams of a trial went: sent = received + left_in_queue + lost + refused + aborted +
/// unaccounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Datagrams {
    /// Requests sent, by the loaders' count.
    pub sent: u64,
    /// Received, by the workers' count.
    pub received: u64,
    /// Found in the workers' sockets after the load's end.
    pub left_in_queue: u64,
    /// Lost by the workers' sockets because their buffers were full, by the kernel's count.
    pub lost: u64,
    /// Gone with a worker that died.
    pub aborted: u64,
    /// The rest. Must be 0.
    pub unaccounted: i64,
    /// Arrived when nobody had the port (UdpNoPorts), after the workers' death.
    pub refused: u64,
    /// Replies that came back.
    pub replies: u64,
    /// Late replies to flows that had been given up, when their port was another's.
    pub stale: u64,
    /// Flows begun: clients' sockets, each with a 4-tuple of its own.
    pub flows: u64,
    /// Of those, answered at least once.
    pub answered_flows: u64,
    /// Of those with several replies, the ones that one worker gave.
    pub sticky_flows: u64,
    /// … and the ones that several workers gave.
    pub moved_flows: u64,
}

/// Counts over the measured window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// Connections intended in the window.
    pub planned: u64,
    /// Of those, begun before its end.
    pub in_time: u64,
    /// Of those, completed.
    pub completed: u64,
    /// Accepts in the window.
    pub accepted: u64,
    /// Datagrams received in the window.
    pub datagrams: u64,
    /// Accepts of the whole trial whose exact wait is not known; `null` where none is.
    pub unstamped: Option<u64>,
    /// Stamps that a client found before its connect call, or after accept. Must be 0.
    pub stamps_impossible: u64,
}

/// A histogram in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencySummary {
    /// How the accept wait was measured; absent for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<WaitMethod>,
    /// Values.
    pub count: u64,
    /// Smallest, ns.
    pub min: u64,
    /// Mean, ns.
    pub mean: u64,
    /// Median, ns.
    pub p50: u64,
    /// 90th percentile, ns.
    pub p90: u64,
    /// 99th percentile, ns.
    pub p99: u64,
    /// 99.9th percentile, ns.
    pub p999: u64,
    /// Largest, ns.
    pub max: u64,
}

impl LatencySummary {
    /// Whether there was nothing to measure.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether it is of accept waits that are upper bounds.
    pub fn is_bound(&self) -> bool {
        self.method == Some(WaitMethod::ConnectCall)
    }

    /// Sums a histogram up.
    pub fn of(histogram: &Histogram<u64>, method: Option<WaitMethod>) -> Self {
        Self {
            method,
            count: histogram.len(),
            // An empty histogram's minimum is 0, its maximum too.
            min: histogram.min(),
            mean: histogram.mean().round() as u64,
            p50: histogram.value_at_quantile(0.50),
            p90: histogram.value_at_quantile(0.90),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

/// A histogram of numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchSummary {
    /// Values.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// Largest.
    pub max: u64,
}

impl BatchSummary {
    /// Sums a histogram up.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            mean: histogram.mean(),
            p50: histogram.value_at_quantile(0.50),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        }
    }
}

/// All latencies of a trial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latencies {
    /// Established (or, with `connect-call`, the client's connect call) to accept's return.
    pub accept_wait: LatencySummary,
    /// With `stamps = "both"`: the client's connect call to accept's return, an upper bound of the same.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub accept_wait_bound: LatencySummary,
    /// connect call to writable.
    pub connect: LatencySummary,
    /// Intended start to writable.
    pub connect_from_intended: LatencySummary,
    /// Intended start (for later requests of a connection: the request's sending) to the last byte of the reply.
    pub response: LatencySummary,
    /// The same from the actual start.
    pub service: LatencySummary,
    /// Intended to actual start: the loader's own lateness.
    pub send_lag: LatencySummary,
    /// Intended instant of the follow-up to the last byte of its reply.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub follow_up: LatencySummary,
    /// Sending of a datagram to its reception by a worker: an upper bound of its time in the socket's queue.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub receive_wait: LatencySummary,
    /// With connections and datagrams in one trial, `response` of the flows of datagrams.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub udp_response: LatencySummary,
    /// And their `service`.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub udp_service: LatencySummary,
}

/// How accepts spread over workers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// Busiest worker's accepts ÷ the mean.
    pub imbalance: f64,
    /// Jain's fairness index.
    pub jain: f64,
    /// χ² against equal shares.
    pub chi_squared: f64,
    /// Probability of a χ² at least as large if every connection fell on a worker at random.
    pub p_value: f64,
}

/// A worker's row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerRow {
    /// Number, from 0.
    pub worker: usize,
    /// Process id.
    pub pid: i32,
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

/// A worker's socket of datagrams. What is of a shared socket stands in every worker's row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DatagramSocketRow {
    /// Flows that this worker answered first.
    pub flows: u64,
    /// Datagrams that the socket has lost because its buffer was full (SO_RXQ_OVFL; at the end, /proc/net/udp).
    pub lost: u64,
    /// The most bytes in its buffer among the samples, the kernel's overhead included.
    pub queue_peak_bytes: u64,
    /// Sending to reception of the datagrams this worker received.
    pub receive_wait: LatencySummary,
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

impl WorkerCounts {
    /// CPU time in user mode and in the kernel, ns.
    pub fn cpu_ns(&self) -> u64 {
        self.cpu_user_ns + self.cpu_system_ns
    }
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

/// A fault, and what it left.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultRow {
    /// Its number in the scenario, from 0.
    pub fault: usize,
    /// What was done.
    pub kind: EventKind,
    /// The worker's number.
    pub worker: usize,
    /// When it began, in seconds from the trial's start.
    pub at_s: f64,
    /// How long it lasted, in seconds; a kill and a stall without end last until the load has ended.
    pub lasted_s: f64,
    /// Connections established meanwhile, by the loaders' count.
    pub established: u64,
    /// Of those, accepted by the worker.
    pub accepted: u64,
    /// Of those, sent to the worker: accepted by it, or added to those that wait for it alone; `null` where nobody can know.
    pub arrived: Option<u64>,
    /// arrived ÷ established; `null` when nothing was established.
    pub share: Option<f64>,
    /// Waiting for this worker and no other at the fault's end (of a killed worker, at its begin): in the queue of its own
    /// listener, or handed over by a dispatcher. 0 where all workers accept from one queue; `null` where connections are in
    /// a thread's or a ring's hands, or wait for the holder of a lock.
    pub stranded: Option<u64>,
    /// Established and accepted by no worker at the fault's end, those included that were aborted before.
    pub not_accepted: u64,
    /// Connections that the worker had open when the fault began: nobody serves them meanwhile.
    pub open: u64,
    /// Accept waits of stranded connections that were still answered afterwards.
    pub stranded_wait: LatencySummary,
    /// What became of datagrams meanwhile; absent without datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams: Option<FaultDatagrams>,
}

/// Datagrams during a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultDatagrams {
    /// Sent by all loaders.
    pub sent: u64,
    /// Received by the fault's worker.
    pub received: u64,
    /// Bytes in its socket at the fault's end (of a killed worker, at its begin), the kernel's overhead included.
    pub queue_bytes: u64,
}

/// Memory at the sample with the most open connections, beyond what there was before the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// Connections open, by the workers' count.
    pub open: u64,
    /// Growth of the machine's slabs, both ends of a loopback connection included, bytes. Inodes of /proc, which other programs
    /// make by looking at descriptors, are left out where the user may know of them (root).
    pub kernel_bytes: u64,
    /// loader_bytes + worker_bytes + shared_bytes.
    pub user_bytes: u64,
    /// Growth of the loaders' own memory, bytes.
    #[serde(default)]
    pub loader_bytes: u64,
    /// Growth of the workers' own memory, bytes.
    #[serde(default)]
    pub worker_bytes: u64,
    /// Growth of the machine's shared memory, where loaders and workers enter each connection for the other side, bytes.
    #[serde(default)]
    pub shared_bytes: u64,
    /// kernel_bytes ÷ open.
    pub kernel_bytes_per_connection: f64,
    /// user_bytes ÷ open.
    pub user_bytes_per_connection: f64,
    /// loader_bytes ÷ open.
    #[serde(default)]
    pub loader_bytes_per_connection: f64,
    /// worker_bytes ÷ open.
    #[serde(default)]
    pub worker_bytes_per_connection: f64,
    /// shared_bytes ÷ open.
    #[serde(default)]
    pub shared_bytes_per_connection: f64,
}

/// The steps of a ramp.
pub const TENTHS: u64 = 10;

/// How a load of connections that are all held at once came to its height.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ramp {
    /// From the barrier to the last accept.
    pub seconds: f64,
    /// Its tenths by the number of connections; fewer where several fell between two samples of the queues.
    pub steps: Vec<RampStep>,
    /// Accepts per second in the last tenth ÷ in the first; `null` where either has no step of its own.
    pub rate_ratio: Option<f64>,
    /// The same of the processor time per connection.
    pub cpu_ratio: Option<f64>,
}

/// A step of a ramp.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RampStep {
    /// Connections accepted by its end.
    pub accepted: u64,
    /// Its end, seconds from the barrier.
    pub until_s: f64,
    /// Accepts per second in it.
    pub accepted_per_s: f64,
    /// Processor time of workers and loaders per connection accepted in it, nanoseconds.
    pub cpu_ns_per_connection: f64,
    /// Accept waits of it.
    pub accept_wait: LatencySummary,
}

/// How the ephemeral ports filled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ports {
    /// How source ports were chosen.
    pub selection: String,
    /// Tuple groups: source addresses × destination addresses × destination ports.
    pub groups: u64,
    /// Ports of one group: the range, less what is reserved.
    pub usable: u64,
    /// groups × usable.
    pub capacity: u64,
    /// Connections open when the cost of a connect left the flat part for good; `null` where it never did.
    pub knee: Option<u64>,
    /// Connections open when no group had a port left; `null` where that was not met.
    pub wall: Option<u64>,
    /// By steps of the fill.
    pub curve: Vec<PortsStep>,
    /// The errno at the wall.
    pub exhausted_errno: Option<String>,
    /// What an attempt beyond the wall took, the median, ns.
    pub failing_connect_ns: Option<u64>,
    /// Sockets in TIME_WAIT in the loaders' network when all had been closed.
    pub time_wait_after_close: u64,
    /// Seconds from the closing until the part that the scenario asks for was had again; `null` where it does not ask, or
    /// waited in vain.
    pub recovered_after_s: Option<f64>,
}

/// A step of the fill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PortsStep {
    /// Connections open at its end ÷ capacity.
    pub fill: f64,
    /// Connections open at its end.
    pub connections: u64,
    /// Median of what a connect took, bind included, ns.
    pub connect_p50_ns: u64,
    /// Mean, ns.
    pub connect_mean_ns: u64,
    /// Longest, ns.
    pub connect_max_ns: u64,
    /// Mean CPU time of the same, ns.
    pub cpu_ns: u64,
}

/// Samples over time: a row an interval, a column a worker. The last row is cut short by the trial's end, and what was under way at
/// the load's end is in it or the rows before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// Distance of the rows, in milliseconds: 100, and twice as much each time that 1,200 rows are full. The first row ends so long
    /// after the barrier.
    pub interval_ms: u64,
    /// Accepts in the interval.
    pub accepted: Vec<Vec<u64>>,
    /// Length of the accept queue at the interval's end; a shared queue stands in every column.
    pub queue_depth: Vec<Vec<u64>>,
    /// Its longest among the interval's samples.
    pub queue_peak: Vec<Vec<u64>>,
    /// Segments that the listener dropped in the interval.
    pub queue_drops: Vec<Vec<u64>>,
    /// Connections open at the interval's end.
    pub open: Vec<Vec<u64>>,
    /// Source ports taken, TIME_WAIT included, at the interval's end: one column.
    pub ports_taken: Vec<u64>,
    /// Sockets in TIME_WAIT in the loaders' network at the interval's end: one column.
    pub time_wait: Vec<u64>,
    /// Datagrams received in the interval; absent without datagrams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datagrams: Vec<Vec<u64>>,
    /// Bytes in the workers' sockets of datagrams at the interval's end; a shared socket stands in every column.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receive_queue_bytes: Vec<Vec<u64>>,
}
