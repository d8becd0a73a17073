//! What a population replayed, and how much of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A trace that a population replayed. Starts are connections and datagram flows: due = started + missed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Replayed {
    /// Path of the file, as the scenario has it.
    pub file: String,
    /// SHA-256 of the file, in 64 hex digits.
    pub sha256: String,
    /// Its format, in words.
    pub format: String,
    /// Lines of the file, of captures packets; empty lines and a table's header are not counted.
    pub lines: u64,
    /// Those of them that could not be read, and were left out.
    pub malformed: u64,
    /// The first of those.
    pub malformed_first: Vec<MalformedLine>,
    /// Those that start no connection: of captures, packets that are not SYNs, or SYNs that were sent again.
    pub others: u64,
    /// Connections in the whole trace.
    pub connections: u64,
    /// Requests in the whole trace; `null` if it has none.
    pub requests: Option<u64>,
    /// Whether the trace tells several requests of one connection from those of others. If it does not, each line of an access log is a
    /// connection with one request.
    pub tells_connections: bool,
    /// Lines whose time had whole seconds. Their starts were spread at random within the second.
    pub spread: u64,
    /// What of it `server.app` has no use for, such as its requests where clients send none; `null` if nothing.
    pub left_out: Option<String>,
    /// How much faster than in the trace connections started.
    pub speed: f64,
    /// Where the replayed part began, in seconds of the trace from its first start.
    pub from_s: f64,
    /// Where it was to end; `null` for the trace's end.
    pub to_s: Option<f64>,
    /// How often it was replayed.
    pub repeat: u64,
    /// How long the replayed part took in the trace, in seconds.
    pub span_s: f64,
    /// How long its replay takes, repetitions included, in seconds.
    pub length_s: f64,
    /// Starts of the whole replay, repetitions included.
    pub traced: u64,
    /// Those of them that were due before the load ended or was interrupted, warm-up included.
    pub due: u64,
    /// Those that were made, whatever became of them.
    pub started: u64,
    /// Those that were due and never made.
    pub missed: u64,
    /// The 99th percentile of how late starts of the measured window were, ns; `null` if fewer than 100 were due.
    pub late_p99_ns: Option<u64>,
    /// The largest of them, ns; `null` if there were none.
    pub late_max_ns: Option<u64>,
}

/// A line of a trace that could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MalformedLine {
    /// Its number, from 1; of a capture, the packet's.
    pub line: u64,
    /// What is wrong with it.
    pub problem: String,
}
