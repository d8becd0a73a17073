//! How a load built up to its peak.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LatencySummary;

/// Number of steps that a ramp is divided into.
pub const TENTHS: u64 = 10;

/// How a load whose connections are all held at once built up to its peak.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ramp {
    /// Seconds from the barrier to the last accept.
    pub seconds: f64,
    /// The ramp in tenths of the connections; fewer if several tenths fell between two samples of the queues.
    pub steps: Vec<RampStep>,
    /// Accepts per second in the last tenth ÷ in the first; `null` if either has no separate step.
    pub rate_ratio: Option<f64>,
    /// The same ratio for the processor time per connection.
    pub cpu_ratio: Option<f64>,
}

/// A step of a ramp.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RampStep {
    /// Connections accepted by the step's end.
    pub accepted: u64,
    /// The step's end, in seconds from the barrier.
    pub until_s: f64,
    /// Accepts per second during the step.
    pub accepted_per_s: f64,
    /// Processor time of workers and loaders per connection accepted during the step, ns.
    pub cpu_ns_per_connection: f64,
    /// Accept waits during the step.
    pub accept_wait: LatencySummary,
}
