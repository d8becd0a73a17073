//! What happened to workers during a trial.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EventKind, LatencySummary};

/// An event, and what it left behind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventRow {
    /// Its number in the scenario, from 0.
    pub event: usize,
    /// What happened.
    pub kind: EventKind,
    /// The number of the worker that it happened to.
    pub worker: usize,
    /// When it began, in seconds from the trial's start.
    pub at_s: f64,
    /// How long it lasted, in seconds; a kill and a stall without end last until the load has ended.
    pub lasted_s: f64,
    /// Connections established meanwhile, by the loaders' count.
    pub established: u64,
    /// Of those, accepted by the worker.
    pub accepted: u64,
    /// Of those, sent to the worker: accepted by it, or added to those that wait for it alone; `null` where nobody can know.
    pub arrived: Option<u64>,
    /// arrived ÷ established; `null` when nothing was established.
    pub share: Option<f64>,
    /// Waiting for this worker and no other at the event's end (of a killed worker, at its begin): in the queue of its own
    /// listener, or handed over by a dispatcher. 0 where all workers accept from one queue; `null` where connections are in
    /// a thread's or a ring's hands, or wait for the holder of a lock.
    pub stranded: Option<u64>,
    /// Established and accepted by no worker at the event's end, those included that were aborted before.
    pub not_accepted: u64,
    /// Connections that the worker had open when the event began: nobody serves them meanwhile.
    pub open: u64,
    /// Accept waits of stranded connections that were still answered afterwards.
    pub stranded_wait: LatencySummary,
    /// What became of datagrams meanwhile; absent without datagrams.
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
    /// Bytes in its socket at the event's end (of a killed worker, at its begin), the kernel's overhead included.
    pub queue_bytes: u64,
}
