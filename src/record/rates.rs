//! What happened per second.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rates over the measured window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rates {
    /// Starts that the schedule asked for; `null` in a closed loop.
    pub offered_per_s: Option<f64>,
    /// Accepts, all workers together.
    pub accepted_per_s: f64,
    /// Connections and flows, of those intended in the window, that were completed.
    pub completed_per_s: f64,
    /// Datagrams received, all workers together; absent without datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams_per_s: Option<f64>,
}
