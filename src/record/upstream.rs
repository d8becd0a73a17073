//! What lies behind a proxy: our own server as its upstream, and the ports that connections to it take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ErrorCount, LatencySummary};

/// Our own server behind the proxy under test. Counts are over the whole trial unless they say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Upstream {
    /// Where it listened: what `{backend}` stood for.
    pub address: String,
    /// Its worker processes.
    pub workers: u64,
    /// Whether it expects each connection to begin with a PROXY protocol header.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Connections it accepted.
    pub connections: u64,
    /// Connections left in its queues at the end.
    pub left_in_queue: u64,
    /// Requests it answered.
    pub requests: u64,
    /// Requests per connection, which is how often the proxy used each; `null` if it opened none.
    pub requests_per_connection: Option<f64>,
    /// Connections accepted in the measured window.
    pub measured_connections: u64,
    /// Requests answered in the measured window.
    pub measured_requests: u64,
    /// Accept waits of connections established in the measured window; without a method if they could not be measured.
    pub accept_wait: LatencySummary,
    /// Accepted connections whose exact wait is unknown.
    pub unstamped: u64,
    /// User CPU time of its workers, ns.
    pub cpu_user_ns: u64,
    /// System CPU time of its workers, ns.
    pub cpu_system_ns: u64,
    /// Errors while accepting and serving.
    pub errors: Vec<ErrorCount>,
    /// The proxy's ports; `null` if they could not be sampled.
    pub ports: Option<UpstreamPorts>,
}

impl Upstream {
    /// Whether not a single connection reached it.
    pub fn is_unused(&self) -> bool {
        self.connections == 0 && self.left_in_queue == 0
    }
}

/// The source ports of the proxy's connections to its upstream, as sampled. A tuple group is the connections from one source address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpstreamPorts {
    /// Number of samples.
    pub samples: u64,
    /// The addresses that the proxy connected from, in order: of IPv4 with `sock_ops`, of every connection; else, as sampled.
    pub sources: Vec<String>,
    /// Ports of `ip_local_port_range` that each source address can use: without reserved ones and those that a socket is bound to.
    pub usable: u64,
    /// The knee: ports of a group in use from which connect() without bind becomes slow.
    pub knee: u64,
    /// The wall: usable ports × source addresses.
    pub capacity: u64,
    /// The most ports taken at once in one group, TIME_WAIT included.
    pub taken_peak: u64,
    /// The same ÷ usable.
    pub fill_peak: f64,
    /// The most connections open at once.
    pub open_peak: u64,
    /// The most ports in TIME_WAIT at once on the proxy's side: it closed first.
    pub time_wait_peak: u64,
    /// The most sockets in TIME_WAIT at once on the upstream's side, which closed first. They take no port of the proxy.
    pub upstream_time_wait_peak: u64,
    /// Whether a group had all the ports taken that connect() without bind tries first.
    pub past_knee: bool,
    /// When every group seen had all its ports taken, in seconds from the trial's start; `null` if that was not seen.
    pub exhausted_after_s: Option<f64>,
}
