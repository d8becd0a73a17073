//! Samples over time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Samples over time: one row per interval, one column per worker. The trial's end cuts the last row short; what was in progress at
/// the load's end is in that row or in those just before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// Interval between rows, in milliseconds: 100, doubled each time there are 1,200 rows. The first row ends one interval after the
    /// barrier.
    pub interval_ms: u64,
    /// Accepts in the interval.
    pub accepted: Vec<Vec<u64>>,
    /// Length of the accept queue at the interval's end; a shared queue is repeated in every column.
    pub queue_depth: Vec<Vec<u64>>,
    /// Longest accept queue among the interval's samples.
    pub queue_peak: Vec<Vec<u64>>,
    /// Segments that the listener dropped in the interval.
    pub queue_drops: Vec<Vec<u64>>,
    /// Connections open at the interval's end.
    pub open: Vec<Vec<u64>>,
    /// Source ports taken at the interval's end, TIME_WAIT included: one value per row.
    pub ports_taken: Vec<u64>,
    /// Sockets in TIME_WAIT in the loaders' network at the interval's end: one value per row.
    pub time_wait: Vec<u64>,
    /// Datagrams received in the interval; absent without datagrams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datagrams: Vec<Vec<u64>>,
    /// Bytes in the workers' datagram sockets at the interval's end; a shared socket is repeated in every column.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receive_queue_bytes: Vec<Vec<u64>>,
}
