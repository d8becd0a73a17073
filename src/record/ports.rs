//! How the ephemeral ports filled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the ephemeral ports filled up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ports {
    /// How source ports were chosen.
    pub selection: String,
    /// Tuple groups: source addresses × destination addresses × destination ports.
    pub groups: u64,
    /// Ports in the range, whether usable or not.
    pub range: u64,
    /// Ports per group: the range without reserved ports and those that sockets are bound to, such as a listener's. Where groups
    /// differ, the fewest of any.
    pub usable: u64,
    /// The usable ports of all groups; with `bind-zero`, which takes a port for every destination, of all source addresses.
    pub capacity: u64,
    /// The knee: connections open from which connect() was slower for good; `null` if no lasting rise was found.
    pub knee: Option<u64>,
    /// The wall: connections open when no group had a port left; `null` if it was not reached.
    pub wall: Option<u64>,
    /// The cost of connect() at each step of the fill.
    pub curve: Vec<PortsStep>,
    /// The errno at the wall; `null` if it was not reached.
    pub exhausted_errno: Option<String>,
    /// Median duration of an attempt beyond the wall, ns.
    pub failing_connect_ns: Option<u64>,
    /// Sockets in TIME_WAIT in the loaders' network after all connections were closed.
    pub time_wait_after_close: u64,
    /// Seconds from closing the connections until the fill that the scenario asks for was possible again; `null` if it does not ask,
    /// or gave up waiting.
    pub recovered_after_s: Option<f64>,
}

/// A step of the fill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PortsStep {
    /// Connections open at the step's end ÷ capacity.
    pub fill: f64,
    /// Connections open at the step's end.
    pub connections: u64,
    /// Median duration of connect(), bind() included, ns.
    pub connect_p50_ns: u64,
    /// Mean duration, ns.
    pub connect_mean_ns: u64,
    /// Longest duration, ns.
    pub connect_max_ns: u64,
    /// Mean CPU time, ns.
    pub cpu_ns: u64,
}
