//! How ports filled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the ephemeral ports filled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ports {
    /// How source ports were chosen.
    pub selection: String,
    /// Tuple groups: source addresses × destination addresses × destination ports.
    pub groups: u64,
    /// Ports of one group: the range, less what is reserved.
    pub usable: u64,
    /// groups × usable.
    pub capacity: u64,
    /// Connections open when the cost of a connect left the flat part for good; `null` where it never did.
    pub knee: Option<u64>,
    /// Connections open when no group had a port left; `null` where that was not met.
    pub wall: Option<u64>,
    /// By steps of the fill.
    pub curve: Vec<PortsStep>,
    /// The errno at the wall.
    pub exhausted_errno: Option<String>,
    /// What an attempt beyond the wall took, the median, ns.
    pub failing_connect_ns: Option<u64>,
    /// Sockets in TIME_WAIT in the loaders' network when all had been closed.
    pub time_wait_after_close: u64,
    /// Seconds from the closing until the part that the scenario asks for was had again; `null` where it does not ask, or
    /// waited in vain.
    pub recovered_after_s: Option<f64>,
}

/// A step of the fill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PortsStep {
    /// Connections open at its end ÷ capacity.
    pub fill: f64,
    /// Connections open at its end.
    pub connections: u64,
    /// Median of what a connect took, bind included, ns.
    pub connect_p50_ns: u64,
    /// Mean, ns.
    pub connect_mean_ns: u64,
    /// Longest, ns.
    pub connect_max_ns: u64,
    /// Mean CPU time of the same, ns.
    pub cpu_ns: u64,
}
