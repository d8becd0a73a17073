//! Samples over time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Samples over time: a row an interval, a column a worker. The last row is cut short by the trial's end, and what was under way at
/// the load's end is in it or the rows before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// Distance of the rows, in milliseconds: 100, and twice as much each time that 1,200 rows are full. The first row ends so long
    /// after the barrier.
    pub interval_ms: u64,
    /// Accepts in the interval.
    pub accepted: Vec<Vec<u64>>,
    /// Length of the accept queue at the interval's end; a shared queue stands in every column.
    pub queue_depth: Vec<Vec<u64>>,
    /// Its longest among the interval's samples.
    pub queue_peak: Vec<Vec<u64>>,
    /// Segments that the listener dropped in the interval.
    pub queue_drops: Vec<Vec<u64>>,
    /// Connections open at the interval's end.
    pub open: Vec<Vec<u64>>,
    /// Source ports taken, TIME_WAIT included, at the interval's end: one column.
    pub ports_taken: Vec<u64>,
    /// Sockets in TIME_WAIT in the loaders' network at the interval's end: one column.
    pub time_wait: Vec<u64>,
    /// Datagrams received in the interval; absent without datagrams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datagrams: Vec<Vec<u64>>,
    /// Bytes in the workers' sockets of datagrams at the interval's end; a shared socket stands in every column.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receive_queue_bytes: Vec<Vec<u64>>,
}
