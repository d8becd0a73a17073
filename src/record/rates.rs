//! Rates of a trial.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rates over the measured window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rates {
    /// Starts that the schedule asked for; `null` in a closed loop.
    pub offered_per_s: Option<f64>,
    /// Accepts of all workers.
    pub accepted_per_s: f64,
    /// Completed connections and datagram flows, of those intended to start in the window.
    pub completed_per_s: f64,
    /// Datagrams received by all workers; absent without datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams_per_s: Option<f64>,
}
