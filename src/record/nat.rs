//! Source NAT in front of the clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of connections whose source addresses were translated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nat {
    /// Addresses of clients, all of which the server sees as one.
    pub clients: u64,
    /// Ports that NAT could choose from; `null` for the kernel's choice.
    pub ports: Option<u64>,
    /// Packets that began a connection and came to NAT, over the whole trial: SYNs that were sent again for want of a port come again.
    pub begun: Option<u64>,
    /// Those of them that were dropped because another connection had the port already when theirs was to be entered: no free one had been found,
    /// or two clients raced for it. `null`, like `dropped`, if the kernel shows no counters.
    pub insert_failed: Option<u64>,
    /// Packets dropped because no entry could be made, which includes those.
    pub dropped: Option<u64>,
}
