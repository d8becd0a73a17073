//! What the trial's process hands to its parent.

use serde::{Deserialize, Serialize};

use crate::{
    ipc::{control::Window, ledger::Balance},
    load::LoaderReport,
    observe::counters::Counters,
    record::{
        CountedBy, CpuShares, DatagramSocketRow, ErrorCount, Exit, FaultRow, HelperRow, Memory, ObserverRow, QueueRow,
        Ramp, Series, Sockets, Softnet, WorkerCounts,
    },
};

/// The raw account of a trial; histograms travel beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Gathered {
    pub window: Window,
    pub workers: Vec<WorkerAccount>,
    pub helper: Option<HelperRow>,
    /// Errors of the helper.
    pub helper_errors: Vec<ErrorCount>,
    pub loaders: Vec<LoaderAccount>,
    pub left_in_queue: u64,
    /// The last accept of all workers, in nanoseconds of CLOCK_MONOTONIC; 0 without any.
    pub last_accept_ns: u64,
    /// Ports of the range that connect chooses from.
    pub usable_ports: u64,
    /// Connections per second that the ports can bear for ever.
    pub ports_ceiling_per_s: Option<f64>,
    /// The most of them in use or in TIME_WAIT at once, among the samples.
    pub ports_peak: u64,
    /// Datagrams that the workers' sockets have lost.
    pub datagrams_lost: u64,
    pub sockets_peak: Sockets,
    pub memory: Option<Memory>,
    pub ramp: Option<Ramp>,
    pub balance: Balance,
    pub kernel: Counters,
    /// Over the measured window.
    pub kernel_measured: Counters,
    pub softnet: Softnet,
    pub machine: CpuShares,
    pub observer: ObserverRow,
    /// Processor time that there was between the two readings, in nanoseconds.
    pub cpu_available_ns: u64,
    pub series: Series,
    /// The faults that happened.
    pub faults: Vec<FaultRow>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WorkerAccount {
    pub pid: i32,
    pub exit: Exit,
    pub counted_by: Option<CountedBy>,
    pub total: WorkerCounts,
    pub measured: WorkerCounts,
    pub open_peak: u64,
    /// Accepts whose exact wait is not known.
    pub unstamped: u64,
    pub queue: QueueRow,
    pub queue_peak: u64,
    pub queue_limit: u64,
    pub datagrams_left: u64,
    /// Losses and peak of its socket of datagrams.
    pub datagram_queue: Option<DatagramSocketRow>,
    pub errors: Vec<ErrorCount>,
    pub scheduler: Option<String>,
}

/// A loader's account.
#[derive(Debug, Serialize, Deserialize)]
pub struct LoaderAccount {
    /// Process id.
    pub pid: i32,
    /// How it ended.
    pub exit: Exit,
    /// Its report; `None` when the loader died.
    pub report: Option<LoaderReport>,
}
