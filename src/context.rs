//! What the processes of one trial have in common: made before the first fork, and copied into each.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    ipc::{control::Control, ledger::Ledger},
    observe::stamps::Stamps,
    record::WaitMethod,
    scenario::Scenario,
};

/// What workers, loaders and a strategy's helper share. Copies refer to the same memory.
#[derive(Debug, Clone)]
pub struct TrialContext {
    /// The cell's scenario.
    pub scenario: Arc<Scenario>,
    /// Where loaders connect.
    pub target: SocketAddr,
    /// The control block.
    pub control: Arc<Control>,
    /// The port ledger. Only where both server and load are ours.
    pub ledger: Option<Arc<Ledger>>,
    /// When connections were established, where that is known.
    pub stamps: Option<Arc<Stamps>>,
    /// Which accept waits are recorded.
    pub waits: Waits,
    /// Seed of schedules and service times.
    pub seed: u64,
    /// Repetition, from 0: each has another schedule, and all strategies the same.
    pub repetition: usize,
}

/// Which accept waits a trial records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// From the kernel's stamp of ESTABLISHED, by workers.
    pub exact: bool,
    /// From the client's connect call, by loaders: an upper bound.
    pub bound: bool,
}

impl Waits {
    /// How the trial's accept waits are measured.
    pub fn method(self) -> WaitMethod {
        if self.exact { WaitMethod::SockOps } else { WaitMethod::ConnectCall }
    }
}
