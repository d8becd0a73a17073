//! A calibration: what `listenbench calibrate` writes, and `host.json` embeds.

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
    /// The machine and build it was measured with, and the only ones it holds for.
    pub machine: Machine,
    /// Name of the scenario that defines the exchange.
    pub scenario: String,
    /// Values that replaced the scenario's, as `key=value`.
    pub set: Vec<String>,
    /// Seed of the order within rounds.
    pub seed: u64,
    /// Length of a run's measured window, in seconds.
    pub seconds: f64,
    /// Number of workers in the harness.
    pub workers: usize,
    /// Number of loaders in the harness.
    pub loaders: usize,
    /// Processes of the bare loop.
    pub bare: BareProcesses,
    /// Why there are no runs with exact stamps; `null` if there are.
    pub stamps_error: Option<String>,
    /// Whether it ended before all of its rounds had been held, because it was interrupted or a run failed.
    #[serde(default)]
    pub partial: bool,
    /// The rounds, with one run of each contestant per round; in the last one of a partial calibration, perhaps of fewer.
    pub rounds: Vec<Round>,
    /// Comparisons between contestants.
    pub ratios: Vec<Ratio>,
    /// The costs of single operations.
    pub costs: Costs,
    /// How late timers fire, and how long a round trip over loopback takes.
    pub lags: Lags,
}

/// Processes of the bare loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BareProcesses {
    /// Processes that block in accept.
    pub servers: usize,
    /// Processes that block in connect and read.
    pub clients: usize,
}

/// One of the programs that a calibration compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// Forked processes with blocking system calls, and nothing else.
    Bare,
    /// The harness, only counting.
    RecordingOff,
    /// The harness, recording accept waits from the client's connect call.
    RecordingOn,
    /// The harness, recording accept waits from the kernel's stamps.
    ExactStamps,
}

impl Contestant {
    /// Every contestant, each after the one that it is compared with.
    pub const ALL: [Self; 4] = [Self::Bare, Self::RecordingOff, Self::RecordingOn, Self::ExactStamps];

    /// The name shown to users.
    pub fn words(self) -> &'static str {
        match self {
            Self::Bare => "bare loop",
            Self::RecordingOff => "harness, recording off",
            Self::RecordingOn => "recording on",
            Self::ExactStamps => "with exact stamps",
        }
    }
}

/// One run of each contestant, back to back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Round {
    /// The runs in order of execution.
    pub runs: Vec<Run>,
}

/// One contestant's run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The contestant that ran.
    pub contestant: Contestant,
    /// Connections accepted per second in the measured window; for the bare loop, exchanges completed.
    pub connections_per_s: f64,
    /// Connections over the whole run, warm-up included.
    pub connections: u64,
    /// The kernel's count of those connections (ActiveOpens in the run's network).
    pub active_opens: u64,
    /// Processor time of all processes ÷ connections, in nanoseconds.
    pub cpu_ns_per_connection: f64,
    /// Verdicts on the run that a reader must know about.
    pub verdicts: Vec<String>,
}

/// One contestant compared with another: medians of the per-round ratios, with 95 % intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ratio {
    /// The contestant being compared.
    pub contestant: Contestant,
    /// The one it is compared with, which does one thing less.
    pub against: Contestant,
    /// Connections per second ÷ the other's.
    pub rate: Values,
    /// Processor time per connection ÷ the other's.
    pub cpu: Values,
    /// The largest acceptable cost, as a share of the rate; `null` if there is no limit.
    pub limit: Option<f64>,
    /// Whether the drop in rate is within the limit; `null` without a limit.
    pub verdict: Option<CostVerdict>,
    /// Whether the rise in processor time is within the limit; `null` without a limit.
    pub cpu_verdict: Option<CostVerdict>,
}

/// Whether a cost stays within its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CostVerdict {
    /// It does: the whole interval lies within the limit.
    Shown,
    /// It does not: the whole interval lies beyond the limit.
    Exceeded,
    /// The limit lies within the interval.
    CannotBeTold,
    /// There were too few rounds for an interval.
    TooFewRounds,
}

impl CostVerdict {
    /// The verdict in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::Exceeded => "no: it costs more",
            Self::CannotBeTold => "cannot be decided here",
            Self::TooFewRounds => "too few rounds",
        }
    }
}

/// The costs of single operations in nanoseconds, over all ports in random order: the median of many batches, less an empty
/// loop's. Nothing else uses the caches during the measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Costs {
    /// Reading CLOCK_MONOTONIC.
    pub clock_read_ns: f64,
    /// Finding the stamp of a connection; `null` if stamps are unavailable.
    pub stamp_lookup_ns: Option<f64>,
    /// Recording into a worker's histogram, which others can read.
    pub shared_histogram_ns: f64,
    /// Recording into a loader's own histogram.
    pub own_histogram_ns: f64,
    /// Recording an accept in the port ledger.
    pub ledger_entry_ns: f64,
    /// Recording a connection's journey through its worker, and reading it.
    pub journey_ns: f64,
}

/// Summary of a latency, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lag {
    /// Number of values.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// Largest value.
    pub max: u64,
}

/// Latencies measured on an otherwise idle event loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lags {
    /// From the instant a timer is set for to epoll's return.
    pub timer: Lag,
    /// Round trip of 16 bytes over an established loopback connection between two processes.
    pub round_trip: Lag,
}

impl Calibration {
    /// One figure of a contestant, for each round.
    pub fn values(&self, contestant: Contestant, figure: fn(&Run) -> f64) -> Vec<f64> {
        let runs = self.rounds.iter().flat_map(|round| &round.runs).filter(|run| run.contestant == contestant);
        runs.map(figure).collect()
    }

    /// Verdicts on runs, each with the number of runs that have it.
    pub fn verdicts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for verdict in self.rounds.iter().flat_map(|round| &round.runs).flat_map(|run| &run.verdicts) {
            *counts.entry(verdict.as_str()).or_default() += 1;
        }
        counts
    }
}

/// The machine and build that a calibration depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// `listenbench` and its version.
    pub tool: String,
    /// Git revision that the tool was built from.
    pub revision: String,
    /// `optimized` or `debug`.
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
    /// Processors that the process may use.
    pub cpus_allowed: usize,
    /// The clock source behind CLOCK_MONOTONIC.
    pub clocksource: String,
}

impl Machine {
    /// The machine that `host` describes, with this build of the tool.
    pub fn of(host: &Host) -> Self {
        Self {
            tool: host.tool.clone(),
            revision: host.machine.revision.clone(),
            build: if cfg!(debug_assertions) { "debug" } else { "optimized" }.to_owned(),
            host: host.host.clone(),
            kernel: host.machine.kernel.clone(),
            kernel_version: host.machine.kernel_version.clone(),
            architecture: host.machine.architecture.clone(),
            cpu: host.machine.cpu.clone(),
            cpus_allowed: host.machine.cpus_allowed,
            clocksource: host.machine.clocksource.clone(),
        }
    }

    /// How `other` differs from this machine, in words; empty if a calibration of one holds for the other.
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

    /// Whether the revision identifies the code that was built; uncommitted changes prevent that.
    pub fn is_exact(&self) -> bool {
        self.revision != "unknown" && !self.revision.ends_with("-dirty")
    }
}
