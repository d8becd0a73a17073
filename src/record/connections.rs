//! Where connections went.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ErrorCount, Outcomes};

/// Where the connections of a trial went: established = accepted + left_in_queue + aborted + unaccounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connections {
    /// Begun by loaders, flows of datagrams included; = completed + the errors of loaders.
    pub attempted: u64,
    /// Established, by the loaders' count.
    pub established: u64,
    /// By the workers' count.
    pub accepted: u64,
    /// Gone as planned to their end, flows of datagrams included.
    pub completed: u64,
    /// In accept queues when the workers stopped, by the kernel's count.
    pub left_in_queue: u64,
    /// Accepts, by the port ledger, of connections that no loader established: somebody else's.
    pub foreign: u64,
    /// Established and over without having been accepted, by the port ledger, and not left in a queue.
    pub aborted: u64,
    /// The rest. Must be 0.
    pub unaccounted: i64,
    /// Replies that belong to another connection, request or 4-tuple. Must be 0.
    pub misdelivered: u64,
    /// Replies received.
    pub replies: u64,
    /// Of those, checked by their receipt.
    pub verified: u64,
    /// By phase and errno.
    pub errors: Vec<ErrorCount>,
    /// Attempts to connect by what came of them.
    pub outcomes: Outcomes,
}

impl Connections {
    /// established − accepted − left_in_queue − aborted.
    pub fn unaccounted(&self) -> i64 {
        self.established as i64 - [self.accepted, self.left_in_queue, self.aborted].iter().sum::<u64>() as i64
    }

    /// With `unaccounted` filled in.
    pub fn balanced(self) -> Self {
        Self { unaccounted: self.unaccounted(), ..self }
    }
}

/// Counts over the measured window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// Connections intended in the window.
    pub planned: u64,
    /// Of those, begun before its end.
    pub in_time: u64,
    /// Of those, completed.
    pub completed: u64,
    /// Accepts in the window.
    pub accepted: u64,
    /// Datagrams received in the window.
    pub datagrams: u64,
    /// Accepts of the whole trial whose exact wait is not known; `null` where none is.
    pub unstamped: Option<u64>,
    /// Stamps that a client found before its connect call, or after accept. Must be 0.
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
