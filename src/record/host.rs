//! The machine a run happened on: of several hosts, that of rank 0.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Calibration, HostFacts, NetfilterFacts, Virtualization};

/// `host.json`: what a reader must know about the machine to judge the figures.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Version of this schema.
    pub schema: u32,
    /// `listenbench` and its version.
    pub tool: String,
    /// The command line of the run.
    pub command: Vec<String>,
    /// Identifies the experiment that `run --interleave` made of several records; `null` for a record by itself.
    pub experiment: Option<String>,
    /// The run's seed.
    pub seed: u64,
    /// Host name.
    pub host: String,
    /// What the machine is.
    #[serde(flatten)]
    pub machine: MachineFacts,
    /// `allowed`, or why accept waits cannot be exact here.
    pub accept_stamps: String,
    /// Cost of sampling a listener's queue, in nanoseconds: the median of a hundred samples.
    pub queue_sample_ns: u64,
    /// Values of the key `network`, joined by `and`; the sysctls were read in the first cell's network.
    pub network: String,
    /// The network's sysctls, before the scenario's were written.
    pub sysctls: BTreeMap<String, String>,
    /// What netfilter did in this network before the scenario's rules were loaded.
    #[serde(default)]
    pub netfilter: NetfilterFacts,
    /// What the harness itself costs here, as measured by `listenbench calibrate`; `null` if the run was not given a calibration.
    pub calibration: Option<Calibration>,
    /// What started the job that the run was; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launcher: Option<String>,
    /// The hosts of the job by rank, this one first; absent without a job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostFacts>,
}

/// What a machine is, its kernel included, and what listenbench may use of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachineFacts {
    /// Git revision that its listenbench was built from; `unknown` outside a checkout.
    pub revision: String,
    /// Kernel release.
    pub kernel: String,
    /// Kernel build.
    pub kernel_version: String,
    /// Identifies the kernel's boot (/proc/sys/kernel/random/boot_id); `null` where it cannot be read. Runs on kernels that differ are
    /// compared boot by boot.
    pub boot: Option<String>,
    /// What the kernel ran on.
    pub virtualization: Virtualization,
    /// Machine architecture.
    pub architecture: String,
    /// Processor model.
    pub cpu: String,
    /// Processors that listenbench may use.
    pub cpus_allowed: usize,
    /// The clock source behind CLOCK_MONOTONIC.
    pub clocksource: String,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Limits on open files: soft, hard, and the system's.
    pub open_files: BTreeMap<String, u64>,
    /// User id that listenbench had.
    pub uid: u32,
}

impl Host {
    /// The value of `accept_stamps` if accept waits can be exact.
    pub const STAMPS_ALLOWED: &str = "allowed";

    /// Whether accept waits can be exact here.
    pub fn stamps_allowed(&self) -> bool {
        self.accept_stamps == Self::STAMPS_ALLOWED
    }
}
