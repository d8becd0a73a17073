//! What the replies of a server that runs elsewhere say about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The account that the receipts in replies give of another server: only `listenbench serve` sends them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipts {
    /// Connections of the measured window by the worker that accepted them, in the order of the workers' numbers.
    pub workers: Vec<WorkerShare>,
}

/// A worker's connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerShare {
    /// Its number, as its server counts.
    pub worker: usize,
    /// Connections that it accepted.
    pub connections: u64,
}
