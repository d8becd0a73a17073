//! Rates of a trial.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rates of the measured window alone: what happened in it ÷ its length, whenever it was due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rates {
    /// Starts that the schedule asked for, or requests where connections are kept; `null` in a closed loop, of clients that think, of populations that do not all
    /// follow a schedule, and of those of which some keep their connections and others do not.
    pub offered_per_s: Option<f64>,
    /// Accepts of all members; `null` if nobody could count them.
    pub accepted_per_s: Option<f64>,
    /// Connections and datagram flows that ran to their planned end. Kept ones do when the load ends, or when the server closes
    /// them. `null` if nobody could count them: without a load of one's own.
    pub completed_per_s: Option<f64>,
    /// Requests answered; `null` where a connection carries only one.
    pub requests_per_s: Option<f64>,
    /// From the window's end to the last completion, in seconds: what was still under way, or queued, then. `null` like `completed_per_s`.
    pub drain_s: Option<f64>,
    /// TLS handshakes that clients completed; absent without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshakes_per_s: Option<f64>,
    /// Datagrams received by all workers; absent without datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams_per_s: Option<f64>,
}

impl Rates {
    /// All of them with their keys.
    pub(super) fn named(&self) -> [(&'static str, Option<f64>); 7] {
        let Self {
            offered_per_s,
            accepted_per_s,
            completed_per_s,
            requests_per_s,
            drain_s,
            handshakes_per_s,
            datagrams_per_s,
        } = *self;
        [
            ("offered_per_s", offered_per_s),
            ("accepted_per_s", accepted_per_s),
            ("completed_per_s", completed_per_s),
            ("requests_per_s", requests_per_s),
            ("drain_s", drain_s),
            ("handshakes_per_s", handshakes_per_s),
            ("datagrams_per_s", datagrams_per_s),
        ]
    }
}
