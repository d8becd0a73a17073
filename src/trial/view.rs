//! A view of a running trial, read from the memory that the trial's processes share.

use std::{iter, sync::Arc};

use crate::{
    context::Waits,
    ipc::control::{Control, Count, Kept, ListenerSeen, LoaderCount, LoaderKept, Phase, Window},
    load::{
        self,
        fill::{FillControl, FillPhase},
    },
    record::Counts,
    scenario::{Protocol, Transport},
    sys::clock,
};

/// A running trial. Reading it blocks and wakes no process.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub control: &'a Arc<Control>,
    /// The control of a trial of kind `ports`, which has neither workers nor loaders.
    pub fill: Option<&'a FillControl>,
    pub waits: Waits,
    pub protocol: Protocol,
}

/// The stages of a trial, as users see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Networks, listeners and processes are created.
    SetUp,
    /// The load runs, but is not measured yet.
    WarmUp,
    /// The load is measured.
    Measuring,
    /// Connections still open come to their end, and everything is counted.
    Closing,
    /// Ports are filled with connections.
    Filling,
    /// Filled ports become free again.
    Recovering,
}

/// The waits of connections or datagrams so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitSeen {
    /// Whether they are upper bounds, from the client's call.
    pub bound: bool,
    /// Median, ns.
    pub p50_ns: u64,
    /// 99th percentile, ns.
    pub p99_ns: u64,
}

/// The waits that a trial's workers or loaders have recorded so far: accept waits or, without connections, those of datagrams.
pub(super) fn waits(control: &Arc<Control>, waits: Waits, protocol: Protocol) -> Counts {
    let mut sum = load::counts(iter::empty());
    if waits.exact {
        (0..control.workers()).for_each(|worker| sum.extend(control.kept(worker, Kept::AcceptWait)));
    } else {
        let of = if protocol.has(Transport::Tcp) { LoaderKept::AcceptWait } else { LoaderKept::ReceiveWait };
        (0..control.loaders()).for_each(|loader| sum.extend(control.account(loader).kept(of)));
    }
    sum
}

impl View<'_> {
    /// Number of workers; 0 in a trial of kind `ports`.
    pub fn workers(&self) -> usize {
        if self.fill.is_some() { 0 } else { self.control.workers() }
    }

    /// A worker's counter.
    pub fn count(&self, worker: usize, count: Count) -> u64 {
        self.control.count(worker, count)
    }

    /// A counter of the loaders, summed.
    pub fn load(&self, count: LoaderCount) -> u64 {
        self.control.loader_total(count)
    }

    /// A worker's listener in the latest sample. Workers may share one.
    pub fn listener(&self, worker: usize) -> Option<ListenerSeen> {
        self.control.listener(worker)
    }

    /// The waits of all workers so far: accept waits or, without connections, those of datagrams; `None` before the first.
    pub fn waits(&self) -> Option<WaitSeen> {
        let waits = waits(self.control, self.waits, self.protocol);
        let at = |quantile| waits.value_at(0, quantile);
        Some(WaitSeen { bound: !self.waits.exact, p50_ns: at(0.50)?, p99_ns: at(0.99)? })
    }

    /// The trial's instants; `None` before the barrier opens.
    pub fn window(&self) -> Option<Window> {
        let window = self.control.window();
        (window.start_ns != 0).then_some(window)
    }

    /// The stage that the trial is in.
    pub fn stage(&self) -> Stage {
        if let Some(fill) = self.fill {
            return match fill.phase() {
                FillPhase::SetUp => Stage::SetUp,
                FillPhase::Fill => Stage::Filling,
                FillPhase::Recover => Stage::Recovering,
                FillPhase::Close | FillPhase::Exit => Stage::Closing,
            };
        }
        let (Some(window), now_ns) = (self.window(), clock::monotonic_ns()) else { return Stage::SetUp };
        match now_ns {
            _ if self.control.phase() != Phase::Running => Stage::Closing,
            now_ns if now_ns < window.start_ns => Stage::SetUp,
            now_ns if now_ns < window.measure_from_ns => Stage::WarmUp,
            now_ns if now_ns < window.measure_to_ns => Stage::Measuring,
            _ => Stage::Closing,
        }
    }
}
