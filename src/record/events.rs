//! What happened to the server during a trial.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EventKind, Exit, LatencySummary, ReloadHow};

/// An event and its effects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventRow {
    /// The event's number in the scenario, from 0.
    pub event: usize,
    /// Which occurrence of a periodic event this is, from 0.
    pub occurrence: usize,
    /// What happened.
    pub kind: EventKind,
    /// How a reload's new workers got their listeners; `null` for other kinds.
    pub how: Option<ReloadHow>,
    /// The number of the affected worker, for a join that of the new one; `null` if all are affected, or another server is.
    pub worker: Option<usize>,
    /// When it began, in seconds from the trial's start.
    pub at_s: f64,
    /// How long it lasted, in seconds. A leave or a reload lasts until the last old worker has ended and the last new one accepts; a
    /// signal or an exec, until all processes that served before it have ended, or else the next such event begins; a kill, a join, and
    /// a stall with no set end, until the load's end.
    pub lasted_s: f64,
    /// Connections established during the event, by the loaders' count. In a job of several hosts, here and in `unconnected`: by what
    /// the load's hosts had reported by then, which they do a few times a second. A signal or an exec counts, here and in the fields below, until
    /// the next such event begins or the load ends.
    pub established: u64,
    /// Connections that the affected worker accepted during the event; `null` without one.
    pub accepted: Option<u64>,
    /// Connections among the established that went to this worker: accepted by it, or added to those waiting for it alone; `null` if
    /// unknowable.
    pub arrived: Option<u64>,
    /// arrived ÷ established; `null` if nothing was established, or in a job of several hosts.
    pub share: Option<f64>,
    /// Connections waiting for this worker alone at the event's end (for a kill: at its start), in its own listener's queue or handed
    /// over by a dispatcher. 0 if all workers accept from one queue; `null` if connections are held by a thread or a ring, or wait for
    /// the holder of a lock, or if the event is not about one worker.
    pub stranded: Option<u64>,
    /// Connections established since the trial began that no worker had accepted by the event's end, because they waited or had been
    /// aborted; `null` if accepts are not counted, or in a job of several hosts. The loaders' count is read first, so that it
    /// has nothing that was accepted while the other was read.
    pub not_accepted: Option<u64>,
    /// Attempts to connect that failed during the event, such as those refused because nothing listened any more.
    pub unconnected: u64,
    /// Connections that were open when the event began: those of the affected worker, or with a reload of all workers; `null` if
    /// unknowable.
    pub open: Option<u64>,
    /// Connections lost to the event. In a job of several hosts, nobody knows when they were lost by the server's clock: all are `null`.
    pub lost: Lost,
    /// Connections that waited in the listeners that the event closed, each just before its close: with `net.ipv4.tcp_migrate_req`, one
    /// that the kernel moves is counted where it waited first, and again if that listener is closed too. `null` if the event closed
    /// none, or that is unknowable.
    pub queued: Option<u64>,
    /// Who accepted what during the event (of a signal or an exec: until the next such event begins or the load ends), by generation:
    /// those that were there before it, then those that it brought. Empty if members are not told apart by generation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generations: Vec<Generation>,
    /// How long workers served what they had open, from the first close to the last end, in seconds; `null` if none ended. Of another
    /// server: from the event until all processes that served before it had ended; `null` if not all of them did.
    pub drain_s: Option<f64>,
    /// Connections in the handshake or in queues that the kernel moved to other listeners (`net.ipv4.tcp_migrate_req`); `null` if it
    /// does not count them.
    pub migrated: Option<Migrated>,
    /// Flows of datagrams; `null` without datagrams, or if nobody records which worker received them.
    pub flows: Option<Flows>,
    /// What became of a signal or a command; `null` for other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Done>,
    /// Accept waits of stranded connections that were answered after all.
    pub stranded_wait: LatencySummary,
    /// Datagrams during the event; absent without datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams: Option<EventDatagrams>,
}

impl EventRow {
    /// Whether it was a reload, as far as a record tells: of what is done to another server, what let others take the place of all that
    /// had served while nobody was refused, and if it is a command, one that ended itself and did not become the server.
    pub fn is_reload(&self) -> bool {
        let ended = || self.done.as_ref().is_some_and(|done| done.exit.as_ref().is_some_and(Exit::is_ok));
        let replaced = self.drain_s.is_some() && self.lost.refused.unwrap_or(0) == 0;
        match self.kind {
            EventKind::Reload => true,
            EventKind::Signal => replaced,
            EventKind::Exec => replaced && ended(),
            _ => false,
        }
    }
}

/// What became of what an event does to another server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// Why the signal could not be sent, or the command not be started; `null` if it was.
    pub error: Option<String>,
    /// How the command ended; `null` for a signal, and for a command that ran until the server was stopped.
    pub exit: Option<Exit>,
    /// How long the command ran, in seconds; `null` likewise.
    pub lasted_s: Option<f64>,
}

impl Done {
    /// What went wrong, as a clause.
    pub fn failure(&self) -> Option<String> {
        let exit = || self.exit.as_ref().filter(|exit| !exit.is_ok()).map(ToString::to_string);
        self.error.clone().or_else(exit)
    }
}

/// Connections lost to an event, by cause: those whose attempt or life fell into it, from its beginning to its end. What another server
/// loses is its last event's, until the next one begins or the load ends: clients may learn of it after it has happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// Reset while they waited in the queue of a listener that was closed: established, and never accepted. `null` for another server
    /// unless the probe's level is `btf`: nothing else tells them from those that were cut.
    pub reset_in_queue: Option<u64>,
    /// Refused, because nothing listened.
    pub refused: Option<u64>,
    /// Accepted, and ended by the server before the reply was complete, or, by our own, while the client still held the connection. Where `reset_in_queue` is `null`, those are among them.
    pub cut: Option<u64>,
}

impl Lost {
    /// All of them; `None` if that is unknown.
    pub fn total(&self) -> Option<u64> {
        // Where it is unknown, those are in `cut`.
        Some(self.refused? + self.cut? + self.reset_in_queue.unwrap_or(0))
    }
}

/// What a generation of workers accepted during an event.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Generation {
    /// Its number: 0 for the first workers.
    pub generation: usize,
    /// Connections that it accepted.
    pub accepted: u64,
    /// The accept waits of these connections, without those that were established in the warm-up or at an unknown instant: of another
    /// server, without the latter alone. `null` if waits are not measured exactly.
    pub accept_wait: Option<LatencySummary>,
}

/// Connections that the kernel moved to another listener of a group, or tried to, because theirs was closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Migrated {
    /// TCPMigrateReqSuccess.
    pub success: u64,
    /// TCPMigrateReqFailure.
    pub failure: u64,
}

/// Flows of datagrams before and after an event began that changed which workers serve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flows {
    /// Flows from which a worker had received something before the event, and a worker received something after it began, and before the
    /// next such event or the load's end. A flow is a client's address and port.
    pub known: u64,
    /// Those of them that another worker received from last.
    pub moved: u64,
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
