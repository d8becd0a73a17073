//! What happened to workers during a trial.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EventKind, LatencySummary};

/// An event and its effects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventRow {
    /// The event's number in the scenario, from 0.
    pub event: usize,
    /// What happened.
    pub kind: EventKind,
    /// The number of the affected worker.
    pub worker: usize,
    /// When it began, in seconds from the trial's start.
    pub at_s: f64,
    /// How long it lasted, in seconds; a kill, and a stall with no set end, last until the load's end.
    pub lasted_s: f64,
    /// Connections established during the event, by the loaders' count.
    pub established: u64,
    /// Connections that the affected worker accepted during the event.
    pub accepted: u64,
    /// Connections among the established that went to this worker: accepted by it, or added to those waiting for it alone; `null` if
    /// unknowable.
    pub arrived: Option<u64>,
    /// arrived ÷ established; `null` if nothing was established.
    pub share: Option<f64>,
    /// Connections waiting for this worker alone at the event's end (for a kill: at its start), in its own listener's queue or handed
    /// over by a dispatcher. 0 if all workers accept from one queue; `null` if connections are held by a thread or a ring, or wait for
    /// the holder of a lock.
    pub stranded: Option<u64>,
    /// Connections established but accepted by no worker by the event's end, aborted ones included.
    pub not_accepted: u64,
    /// Connections that the worker had open when the event began, and that nobody serves during it.
    pub open: u64,
    /// Accept waits of stranded connections that were answered after all.
    pub stranded_wait: LatencySummary,
    /// Datagrams during the event; absent without datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams: Option<EventDatagrams>,
}

/// Datagrams during an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventDatagrams {
    /// Sent by all loaders.
    pub sent: u64,
    /// Received by the event's worker.
    pub received: u64,
    /// Bytes in its socket at the event's end (for a kill: at its start), the kernel's overhead included.
    pub queue_bytes: u64,
}
