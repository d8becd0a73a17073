//! The machine a run happened on.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Calibration;

/// `host.json`: what a reader must know about the machine to judge the figures.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Version of this schema.
    pub schema: u32,
    /// `listenbench` and its version.
    pub tool: String,
    /// Git revision it was built from; `unknown` outside a checkout.
    pub revision: String,
    /// The command line of the run.
    pub command: Vec<String>,
    /// The run's seed.
    pub seed: u64,
    /// Kernel release.
    pub kernel: String,
    /// Kernel build.
    pub kernel_version: String,
    /// Machine architecture.
    pub architecture: String,
    /// Host name.
    pub host: String,
    /// Processor model.
    pub cpu: String,
    /// Processors this process may use.
    pub cpus_allowed: usize,
    /// The clock source behind CLOCK_MONOTONIC.
    pub clocksource: String,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Limits on open files: soft, hard, and the system's.
    pub open_files: BTreeMap<String, u64>,
    /// User id that the run had.
    pub uid: u32,
    /// `allowed`, or why accept waits cannot be exact here.
    pub accept_stamps: String,
    /// Cost of sampling a listener's queue, in nanoseconds: the median of a hundred samples.
    pub queue_sample_ns: u64,
    /// Values of the key `network`, joined by `and`; the sysctls were read in the first cell's network.
    pub network: String,
    /// The network's sysctls, before the scenario's were written.
    pub sysctls: BTreeMap<String, String>,
    /// What the harness itself costs here, as measured by `listenbench calibrate`; `null` if the run was not given a calibration.
    pub calibration: Option<Calibration>,
}

impl Host {
    /// The value of `accept_stamps` if accept waits can be exact.
    pub const STAMPS_ALLOWED: &str = "allowed";

    /// Whether accept waits can be exact here.
    pub fn stamps_allowed(&self) -> bool {
        self.accept_stamps == Self::STAMPS_ALLOWED
    }
}
