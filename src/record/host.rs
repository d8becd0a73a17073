//! The machine a run happened on.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Calibration;

/// `host.json`: what a reader must know of the machine to judge the figures.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Version of this schema.
    pub schema: u32,
    /// `listenbench` and its version.
    pub tool: String,
    /// Git revision it was built from; `unknown` outside a checkout.
    pub revision: String,
    /// The command line.
    pub command: Vec<String>,
    /// The seed.
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
    /// The clock behind CLOCK_MONOTONIC.
    pub clocksource: String,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Limits on open files: soft, hard, and the system's.
    pub open_files: BTreeMap<String, u64>,
    /// User id of the run.
    pub uid: u32,
    /// `allowed`, or why accept waits cannot be exact here.
    pub accept_stamps: String,
    /// What a sample of a listener's queue costs, in nanoseconds: the median of a hundred.
    pub queue_sample_ns: u64,
    /// Values of the key `network`, joined by `and`; the sysctls were read in the first cell's.
    pub network: String,
    /// Sysctls of the network used, before a scenario's own are written.
    pub sysctls: BTreeMap<String, String>,
    /// What the harness itself costs here, as `listenbench calibrate` found before the run; `null` where nobody asked.
    pub calibration: Option<Calibration>,
}

impl Host {
    /// What `accept_stamps` says where accept waits can be exact.
    pub const STAMPS_ALLOWED: &str = "allowed";

    /// Whether accept waits can be exact here.
    pub fn stamps_allowed(&self) -> bool {
        self.accept_stamps == Self::STAMPS_ALLOWED
    }
}
