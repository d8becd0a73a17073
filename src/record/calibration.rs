//! A calibration as it is written: by `listenbench calibrate`, and into `host.json`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Host, Values};

/// What the harness itself costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Calibration {
    /// Version of this schema.
    pub schema: u32,
    /// RFC 3339, UTC.
    pub measured_at: String,
    /// Where, and with which build of the tool: it holds for no other.
    pub machine: Machine,
    /// Name of the scenario whose exchange was made.
    pub scenario: String,
    /// Values that replaced the scenario's, as `key=value`.
    pub set: Vec<String>,
    /// Of the order within rounds.
    pub seed: u64,
    /// Length of a run's measured window, in seconds.
    pub seconds: f64,
    /// Workers of the harness.
    pub workers: usize,
    /// Loaders of the harness.
    pub loaders: usize,
    /// Processes of the bare loop.
    pub bare: BareProcesses,
    /// Why there are no runs with exact stamps; `null` where there are.
    pub stamps_error: Option<String>,
    /// The rounds; each has every contestant once.
    pub rounds: Vec<Round>,
    /// Contestants against each other.
    pub ratios: Vec<Ratio>,
    /// What single operations cost.
    pub costs: Costs,
    /// How late timers are, and how long a way over loopback is.
    pub lags: Lags,
}

/// Processes of the bare loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BareProcesses {
    /// Blocking in accept.
    pub servers: usize,
    /// Blocking in connect and read.
    pub clients: usize,
}

/// Who makes the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// Forked processes with blocking system calls, and nothing else.
    Bare,
    /// The harness, which only counts.
    RecordingOff,
    /// The harness, with accept waits from the client's connect call.
    RecordingOn,
    /// The harness, with accept waits from the kernel's own stamps.
    ExactStamps,
}

impl Contestant {
    /// All of them, each after the one that it is compared with.
    pub const ALL: [Self; 4] = [Self::Bare, Self::RecordingOff, Self::RecordingOn, Self::ExactStamps];

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Bare => "bare loop",
            Self::RecordingOff => "harness, recording off",
            Self::RecordingOn => "recording on",
            Self::ExactStamps => "with exact stamps",
        }
    }
}

/// Runs that followed each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Round {
    /// In the order of execution.
    pub runs: Vec<Run>,
}

/// One contestant's run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Whose.
    pub contestant: Contestant,
    /// Connections accepted per second in the measured window; of the bare loop, exchanges completed.
    pub connections_per_s: f64,
    /// Connections over the whole run, warm-up included.
    pub connections: u64,
    /// The kernel's count of the same (ActiveOpens of the run's network).
    pub active_opens: u64,
    /// Processor time of all processes ÷ connections, in nanoseconds.
    pub cpu_ns_per_connection: f64,
    /// Verdicts on the run that a reader must know.
    pub verdicts: Vec<String>,
}

/// A contestant against another: the medians of the rounds' own ratios, with 95 % intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ratio {
    /// Which.
    pub contestant: Contestant,
    /// The other, which has one thing less to do.
    pub against: Contestant,
    /// Connections per second ÷ the other's.
    pub rate: Values,
    /// Processor time per connection ÷ the other's.
    pub cpu: Values,
    /// The most that it may cost, as a share of the rate; `null` where nothing is demanded.
    pub limit: Option<f64>,
    /// Whether the rate is lower by the limit at most; `null` without a limit.
    pub verdict: Option<CostVerdict>,
    /// Whether the processor time is higher by the limit at most; `null` without a limit.
    pub cpu_verdict: Option<CostVerdict>,
}

/// Whether something costs at most what it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CostVerdict {
    /// It does: the whole interval lies within the limit.
    Shown,
    /// It costs more: the whole interval lies beyond.
    Exceeded,
    /// The limit lies within the interval.
    CannotBeTold,
    /// Too few for an interval.
    TooFewRounds,
}

impl CostVerdict {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::Exceeded => "no: it costs more",
            Self::CannotBeTold => "cannot be told here",
            Self::TooFewRounds => "too few rounds",
        }
    }
}

/// What single operations cost in nanoseconds, over all ports in random order: the median of many batches, less an empty
/// loop's. Nobody else uses the caches meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Costs {
    /// Reading CLOCK_MONOTONIC.
    pub clock_read_ns: f64,
    /// Finding the stamp of a connection; `null` where there can be none.
    pub stamp_lookup_ns: Option<f64>,
    /// Recording into a worker's histogram, which others can read.
    pub shared_histogram_ns: f64,
    /// Recording into a loader's own histogram.
    pub own_histogram_ns: f64,
    /// Entering an accept in the port ledger.
    pub ledger_entry_ns: f64,
    /// Entering a connection's way through its worker, and reading it.
    pub journey_ns: f64,
}

/// Figures of a latency, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lag {
    /// How many.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

/// Latencies of an otherwise idle loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lags {
    /// From a timer's instant to epoll's return.
    pub timer: Lag,
    /// 16 bytes there and back on an established connection of two processes over loopback.
    pub round_trip: Lag,
}

impl Calibration {
    /// One figure of a contestant in every round, by round.
    pub fn values(&self, contestant: Contestant, figure: fn(&Run) -> f64) -> Vec<f64> {
        let runs = self.rounds.iter().flat_map(|round| &round.runs).filter(|run| run.contestant == contestant);
        runs.map(figure).collect()
    }

    /// Verdicts on runs, with the number of runs that have each.
    pub fn verdicts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for verdict in self.rounds.iter().flat_map(|round| &round.runs).flat_map(|run| &run.verdicts) {
            *counts.entry(verdict.as_str()).or_default() += 1;
        }
        counts
    }
}

/// What a calibration depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// `listenbench` and its version.
    pub tool: String,
    /// Git revision it was built from.
    pub revision: String,
    /// `optimized`, or `debug`.
    pub build: String,
    /// Host name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// Kernel build.
    pub kernel_version: String,
    /// Machine architecture.
    pub architecture: String,
    /// Processor model.
    pub cpu: String,
    /// Processors that the process was allowed.
    pub cpus_allowed: usize,
    /// The clock behind CLOCK_MONOTONIC.
    pub clocksource: String,
}

impl Machine {
    /// The machine of a host, with this build.
    pub fn of(host: &Host) -> Self {
        Self {
            tool: host.tool.clone(),
            revision: host.revision.clone(),
            build: if cfg!(debug_assertions) { "debug" } else { "optimized" }.to_owned(),
            host: host.host.clone(),
            kernel: host.kernel.clone(),
            kernel_version: host.kernel_version.clone(),
            architecture: host.architecture.clone(),
            cpu: host.cpu.clone(),
            cpus_allowed: host.cpus_allowed,
            clocksource: host.clocksource.clone(),
        }
    }

    /// In what another differs from this one, in words; empty where a calibration of either holds for both.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let cpus = [self, other].map(|machine| machine.cpus_allowed.to_string());
        let pairs = [
            ("tool", &self.tool, &other.tool),
            ("revision", &self.revision, &other.revision),
            ("build", &self.build, &other.build),
            ("host", &self.host, &other.host),
            ("kernel", &self.kernel, &other.kernel),
            ("kernel version", &self.kernel_version, &other.kernel_version),
            ("architecture", &self.architecture, &other.architecture),
            ("cpu", &self.cpu, &other.cpu),
            ("processors", &cpus[0], &cpus[1]),
            ("clock source", &self.clocksource, &other.clocksource),
        ];
        let differing = pairs.into_iter().filter(|(_, here, there)| here != there);
        differing.map(|(name, here, there)| format!("{name} {there} there, {here} here")).collect()
    }

    /// Whether the revision tells which code was built: not with changes that nobody committed.
    pub fn is_exact(&self) -> bool {
        self.revision != "unknown" && !self.revision.ends_with("-dirty")
    }
}
