//! The context that the processes of one trial share: built before the first fork, and copied into each.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    ipc::{control::Control, ledger::Ledger},
    observe::stamps::Stamps,
    record::WaitMethod,
    scenario::Scenario,
};

/// Shared by workers, loaders and a strategy's helper. Clones refer to the same memory.
#[derive(Debug, Clone)]
pub struct TrialContext {
    /// The cell's scenario.
    pub scenario: Arc<Scenario>,
    /// The address that loaders connect to.
    pub target: SocketAddr,
    pub control: Arc<Control>,
    /// The port ledger, if both server and load are listenbench's.
    pub ledger: Option<Arc<Ledger>>,
    /// The kernel's stamps of ESTABLISHED, if they are taken.
    pub stamps: Option<Arc<Stamps>>,
    pub waits: Waits,
    /// Seed of schedules and service times.
    pub seed: u64,
    /// Repetition, from 0. Each has its own schedule, which all strategies share.
    pub repetition: usize,
}

/// Which accept waits a trial records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Whether workers record exact waits, from the kernel's stamp of ESTABLISHED.
    pub exact: bool,
    /// Whether loaders record upper bounds, from the client's connect call.
    pub bound: bool,
}

impl Waits {
    /// How the trial's accept waits are measured.
    pub fn method(self) -> WaitMethod {
        if self.exact { WaitMethod::SockOps } else { WaitMethod::ConnectCall }
    }
}
