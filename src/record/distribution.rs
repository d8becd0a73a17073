//! How draws spread over members.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Draws;

/// How accepts, or answered flows, spread over workers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// What is one draw of the test.
    pub draws: Draws,
    /// Busiest worker's accepts ÷ the mean.
    pub imbalance: f64,
    /// Jain's fairness index.
    pub jain: f64,
    /// χ² against equal shares.
    pub chi_squared: f64,
    /// Probability of a χ² at least as large if every draw fell on a worker at random.
    pub p_value: f64,
}
