//! How draws spread over members.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Draws;

/// How accepts, or answered datagram flows, spread over members.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// What counts as one draw.
    pub draws: Draws,
    /// The busiest member's accepts ÷ the mean.
    pub imbalance: f64,
    /// Jain's fairness index.
    pub jain: f64,
    /// χ² against equal shares.
    pub chi_squared: f64,
    /// Probability of a χ² at least this large if every draw fell on a random member.
    pub p_value: f64,
}
