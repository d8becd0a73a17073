//! How accepts, or datagram flows, spread over members.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Draws;

/// How accepts, or answered datagram flows, spread over members.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// The busiest member's accepts ÷ the mean.
    pub imbalance: f64,
    /// Jain's fairness index of the accepts.
    pub jain: f64,
    /// What falls on a random member each time; `null` if the strategy leaves no member to chance, as are the fields from here on.
    pub draws: Option<Draws>,
    /// How often that happened.
    pub draws_count: Option<u64>,
    /// χ² of the draws against equal shares.
    pub chi_squared: Option<f64>,
    /// Probability of a χ² at least this large if every draw fell on a random member; half of that of an equal one.
    pub p_value: Option<f64>,
    /// The draws by member; absent without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draws_by_member: Vec<u64>,
    /// Those that no earlier trial of the cell had: with `network = "host"` the kernel's hash is the same in every trial, so a 4-tuple
    /// that occurs again is not drawn again. Absent where every trial has a hash of its own, and all of its draws are new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_draws_by_member: Vec<u64>,
}

/// The draws of a cell's valid trials together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// What falls on a random member each time.
    pub draws: Draws,
    /// How often that happened.
    pub draws_count: u64,
    /// The draws by member.
    pub draws_by_member: Vec<u64>,
    /// χ² of the draws against equal shares.
    pub chi_squared: f64,
    /// As in a trial.
    pub p_value: f64,
}

impl Distribution {
    /// The draws that count in a pool of the cell's trials.
    pub fn new_draws(&self) -> &[u64] {
        if self.new_draws_by_member.is_empty() { &self.draws_by_member } else { &self.new_draws_by_member }
    }
}
