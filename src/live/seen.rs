//! One look at a running trial, as plain numbers.

use std::time::Duration;

use crate::{
    ipc::control::{Count, ListenerSeen, LoaderCount},
    scenario::Protocol,
    sys::clock,
    trial::{Stage, View, WaitSeen},
};

/// With more workers than this, histograms are not read at every look: each takes 216 KiB.
const HISTOGRAMS_AT_ONCE: usize = 8;

/// What a look saw.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub stage: Stage,
    /// Since the barrier.
    pub elapsed: Duration,
    pub protocol: Protocol,
    pub waits: Option<WaitSeen>,
    pub workers: Vec<WorkerSeen>,
    pub attempted: u64,
    pub established: u64,
    pub completed: u64,
    pub failed: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Segments dropped by all listeners.
    pub dropped: u64,
    pub ports: Option<PortsSeen>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WorkerSeen {
    pub accepted: u64,
    pub datagrams: u64,
    pub open: u64,
    pub listener: Option<ListenerSeen>,
}

/// The ports being filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PortsSeen {
    /// Connections open.
    pub open: u64,
    /// Ports of all groups; 0 until they are counted.
    pub capacity: u64,
    /// Whether no port was left.
    pub wall: bool,
}

impl Seen {
    /// Whether the server is not listenbench's own: only the loaders' side of it is in shared memory.
    pub(super) fn is_anothers(&self) -> bool {
        self.workers.is_empty() && self.ports.is_none()
    }

    /// Whether all workers share one listener.
    pub(super) fn shares_listener(&self) -> bool {
        let mut inodes = self.workers.iter().filter_map(|worker| Some(worker.listener?.inode));
        let first = inodes.next();
        self.workers.len() > 1 && first.is_some() && inodes.all(|inode| Some(inode) == first)
    }

    /// Connections open in all workers.
    pub(super) fn open(&self) -> u64 {
        self.workers.iter().map(|worker| worker.open).sum()
    }
}

/// Looks at trials.
#[derive(Debug)]
pub(super) struct Observer {
    looks: usize,
    waits: Option<WaitSeen>,
}

impl Observer {
    pub(super) fn new() -> Self {
        Self { looks: 0, waits: None }
    }

    /// Forgets the previous trial.
    pub(super) fn reset(&mut self) {
        (self.looks, self.waits) = (0, None);
    }

    pub(super) fn look(&mut self, view: &View<'_>) -> Seen {
        if self.looks.is_multiple_of(view.workers().div_ceil(HISTOGRAMS_AT_ONCE).max(1)) {
            self.waits = view.waits();
        }
        self.looks += 1;
        let workers: Vec<WorkerSeen> = (0..view.workers())
            .map(|worker| WorkerSeen {
                accepted: view.count(worker, Count::Accepted),
                datagrams: view.count(worker, Count::Datagrams),
                open: view.count(worker, Count::Open),
                listener: view.listener(worker),
            })
            .collect();
        let start_ns = view.window().map_or(u64::MAX, |window| window.start_ns);
        Seen {
            stage: view.stage(),
            elapsed: Duration::from_nanos(clock::monotonic_ns().saturating_sub(start_ns)),
            protocol: view.protocol,
            waits: self.waits,
            attempted: view.load(LoaderCount::Attempted),
            established: view.load(LoaderCount::Established),
            completed: view.load(LoaderCount::Completed),
            failed: view.load(LoaderCount::Failed),
            sent: view.load(LoaderCount::Sent),
            dropped: dropped(&workers),
            workers,
            ports: view.fill.map(|fill| PortsSeen {
                open: fill.open(),
                capacity: fill.capacity(),
                wall: fill.at_the_wall(),
            }),
        }
    }
}

/// Drops of all listeners. Workers that share a listener share its drops.
fn dropped(workers: &[WorkerSeen]) -> u64 {
    let mut listeners: Vec<(u64, u64)> =
        workers.iter().filter_map(|worker| worker.listener.map(|seen| (seen.inode, seen.drops))).collect();
    listeners.sort_unstable();
    listeners.dedup_by_key(|(inode, _)| *inode);
    listeners.iter().map(|(_, drops)| drops).sum()
}
