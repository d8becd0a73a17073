//! How a load came to its height.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LatencySummary;

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
