//! Where connections went.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ErrorCount, Outcomes};

/// Where the connections of a trial went: established = accepted + left_in_queue + aborted + unaccounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connections {
    /// Connections and datagram flows that loaders began; = completed + the loaders' errors.
    pub attempted: u64,
    /// Connections established, by the loaders' count.
    pub established: u64,
    /// Connections accepted, by the workers' count.
    pub accepted: u64,
    /// Connections and datagram flows that ran to their planned end.
    pub completed: u64,
    /// Connections in accept queues when the workers stopped, by the kernel's count.
    pub left_in_queue: u64,
    /// Accepted connections that no loader established, by the port ledger: another program's.
    pub foreign: u64,
    /// Connections established but never accepted, by the port ledger, and not left in a queue.
    pub aborted: u64,
    /// The rest. Must be 0.
    pub unaccounted: i64,
    /// Replies that belong to another connection, request or 4-tuple. Must be 0.
    pub misdelivered: u64,
    /// Replies received.
    pub replies: u64,
    /// Replies checked by their receipt.
    pub verified: u64,
    /// Errors by phase and errno.
    pub errors: Vec<ErrorCount>,
    /// Attempts to connect by outcome.
    pub outcomes: Outcomes,
}

impl Connections {
    /// established − accepted − left_in_queue − aborted.
    pub fn unaccounted(&self) -> i64 {
        self.established as i64 - [self.accepted, self.left_in_queue, self.aborted].iter().sum::<u64>() as i64
    }

    /// Fills in `unaccounted`.
    pub fn balanced(self) -> Self {
        Self { unaccounted: self.unaccounted(), ..self }
    }
}

/// Counts over the measured window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// Connections intended to start in the window.
    pub planned: u64,
    /// Planned connections that began before the window's end.
    pub in_time: u64,
    /// Planned connections that were completed.
    pub completed: u64,
    /// Accepts in the window.
    pub accepted: u64,
    /// Datagrams received in the window.
    pub datagrams: u64,
    /// Accepts over the whole trial whose exact wait is unknown; `null` if no exact wait is.
    pub unstamped: Option<u64>,
    /// Stamps earlier than the client's connect call or later than accept. Must be 0.
    pub stamps_impossible: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn established_connections_are_accounted_for() {
        for (established, accepted, left_in_queue, aborted, unaccounted) in [
            (0, 0, 0, 0, 0),
            (10, 10, 0, 0, 0),
            (10, 6, 3, 1, 0),
            (10, 6, 1, 1, 2),
            (10, 12, 0, 0, -2),
            (0, 0, 1, 1, -2),
        ] {
            let part = Connections { established, accepted, left_in_queue, aborted, ..Connections::default() };
            assert_eq!(part.unaccounted(), unaccounted, "{part:?}");
            assert_eq!(part.balanced().unaccounted, unaccounted);
        }
    }
}
