//! Source NAT in front of the clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Conntrack;

/// What became of connections whose source addresses were translated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nat {
    /// Addresses of clients, all of which the server sees as one.
    pub clients: u64,
    /// Ports that NAT could choose from; `null` for the kernel's choice.
    pub ports: Option<u64>,
    /// Packets that began a connection and came to NAT, over the whole trial: SYNs that were sent again for want of a port come again.
    /// Those that were dropped for want of a port are `insert_failed` of the loaders' network in `conntrack`.
    pub begun: Option<u64>,
}

impl Nat {
    /// The most ports taken at once, by the samples of the table of the network where packets are translated. An entry that is being made is in it
    /// before it has a port.
    pub fn taken(&self, table: &Conntrack) -> u64 {
        table.peak.saturating_sub(table.before).min(self.ports.unwrap_or(u64::MAX))
    }
}
