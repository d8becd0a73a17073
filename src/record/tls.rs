//! TLS handshakes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The TLS handshakes of a trial, as both sides count them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tls {
    /// What loaders counted.
    pub clients: ClientHandshakes,
    /// What our own server counted; `null` of another server, which tells nobody.
    pub server: Option<Handshakes>,
}

/// Handshakes that were completed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Handshakes {
    /// All of them.
    pub completed: u64,
    /// Those of them that resumed an earlier session.
    pub resumed: u64,
}

/// Handshakes of a load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientHandshakes {
    /// Those that clients completed.
    pub completed: u64,
    /// Those of them that resumed an earlier session.
    pub resumed: u64,
    /// Those that began with the offer to resume one. The server decides whether it does.
    pub offered: u64,
    /// Those that were to resume one, by the draw for `load.resumption`, when their loader had no ticket.
    pub without_ticket: u64,
    /// Those completed with TLS 1.3; the others with 1.2.
    pub tls_1_3: u64,
    /// Those in which an application protocol was agreed on (ALPN).
    pub alpn: u64,
}

impl ClientHandshakes {
    /// Adds another loader's.
    pub fn add(&mut self, other: &Self) {
        self.completed += other.completed;
        self.resumed += other.resumed;
        self.offered += other.offered;
        self.without_ticket += other.without_ticket;
        self.tls_1_3 += other.tls_1_3;
        self.alpn += other.alpn;
    }
}
