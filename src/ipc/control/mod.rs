//! The control block of a trial: the start barrier, the phases, and one counter cell per worker and loader. The workers' counters
//! are in `workers`.
//!
//! Every counter has one writer. The counters of a killed process survive it, so its accepts still balance.

mod workers;

use std::{
    io,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use crossbeam::utils::CachePadded;
use hdrhistogram::Histogram;
use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::{Deserialize, Serialize};

pub use self::workers::{Count, Counts, Kept, Meter};
use self::workers::{LastAcceptCell, WorkerCell, WorkerHistograms};
use super::{
    board::{Board, Phases, Words},
    histogram,
};
use crate::sys::{clock, shared::SharedSlice};

/// How long a worker waits for its turn to register: a worker that died before its turn must not hold up the others.
const REGISTRATION_PATIENCE: Duration = Duration::from_secs(1);

/// Words of the board.
#[derive(Debug, Clone, Copy)]
enum Word {
    /// When the trial starts; 0 until that is known.
    StartNs,
    MeasureFromNs,
    MeasureToNs,
    DeadlineNs,
    /// Number of processes waiting at the barrier.
    Ready,
    /// Number of workers that have registered.
    Registered,
    /// Number of workers that no longer accept.
    Stopped,
}

impl Words for Word {
    const COUNT: usize = Self::Stopped as usize + 1;

    fn place(self) -> usize {
        self as usize
    }
}

/// The phases of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Processes start, connect and accept.
    Running,
    /// Workers no longer accept, but keep their listeners open so that the queues can be counted.
    Stop,
    /// Workers exit.
    Exit,
}

impl Phases for Phase {
    const ALL: &'static [Self] = &[Self::Running, Self::Stop, Self::Exit];
}

/// What a loader shows while it runs. Its report has the exact account.
#[derive(Debug, Clone, Copy)]
pub enum LoaderCount {
    /// Connections begun.
    Attempted,
    /// Connections established.
    Established,
    /// Connections that ran to their planned end.
    Completed,
    /// Datagrams sent.
    Sent,
    /// Connections and datagram flows that failed.
    Failed,
}

type LoaderCell = CachePadded<[AtomicU64; LoaderCount::Failed as usize + 1]>;

/// What a loader records here in addition to its own histograms, which no other process can see before it ends.
#[derive(Debug, Clone, Copy)]
pub enum LoaderKept {
    /// Accept waits from the client's connect call, in nanoseconds, of measured connections.
    AcceptWait,
    /// Waits from a client's sending a datagram to a worker's receiving it, in nanoseconds, of measured flows.
    ReceiveWait,
}

type LoaderHistograms = [[AtomicU64; histogram::BUCKETS]; LoaderKept::ReceiveWait as usize + 1];

/// A listener in the latest sample: inode, length, limit, drops.
type ListenerCell = [AtomicU64; 4];

/// A worker's listener in the latest sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListenerSeen {
    /// Its inode: workers with the same one share the listener, and its queue.
    pub inode: u64,
    /// Connections in its accept queue.
    pub length: u64,
    /// The backlog in effect.
    pub limit: u64,
    /// Segments it has dropped so far.
    pub drops: u64,
}

/// The control block. Made before the first fork and shared by all processes of the trial.
#[derive(Debug)]
pub struct Control {
    board: Board<Phase, Word>,
    /// Becomes readable when the phase changes.
    wake: EventFd,
    workers: SharedSlice<WorkerCell>,
    last_accepts: SharedSlice<LastAcceptCell>,
    loaders: SharedSlice<LoaderCell>,
    faults: SharedSlice<[AtomicU64; 2]>,
    histograms: SharedSlice<WorkerHistograms>,
    loader_histograms: SharedSlice<LoaderHistograms>,
    listeners: SharedSlice<ListenerCell>,
    recording: Recording,
}

/// Whether a trial's processes record what they measure or only count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recording {
    /// They record everything.
    #[default]
    On,
    /// They only count: no histogram, stage, ledger, stamp or sample. Used only to measure the cost of recording; no scenario can
    /// ask for it, so no run goes unrecorded by mistake.
    Off,
}

/// When a fault began and when it was over, in nanoseconds of CLOCK_MONOTONIC; 0 until that happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultTimes {
    pub begun_ns: u64,
    pub over_ns: u64,
}

/// The instants of a trial, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The barrier: nothing begins earlier.
    pub start_ns: u64,
    /// Connections intended from here on are measured.
    pub measure_from_ns: u64,
    /// End of the measured window; `u64::MAX` if the load is bounded by a number of connections.
    pub measure_to_ns: u64,
    /// Loaders give up here.
    pub deadline_ns: u64,
}

impl Window {
    /// Whether an instant lies in the measured window.
    #[inline]
    pub fn measures(&self, instant_ns: u64) -> bool {
        (self.measure_from_ns..self.measure_to_ns).contains(&instant_ns)
    }
}

impl Control {
    /// A control block for this many workers plus one helper, loaders and faults.
    pub fn new(workers: usize, loaders: usize, faults: usize) -> io::Result<Self> {
        Ok(Self {
            board: Board::new()?,
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            workers: SharedSlice::new(workers + 1)?,
            last_accepts: SharedSlice::new(workers + 1)?,
            loaders: SharedSlice::new(loaders)?,
            faults: SharedSlice::new(faults)?,
            histograms: SharedSlice::new(workers + 1)?,
            loader_histograms: SharedSlice::new(loaders)?,
            listeners: SharedSlice::new(workers)?,
            recording: Recording::On,
        })
    }

    /// Switches recording on or off. When off, there are no histograms, and an attempt to record costs no more than a bounds check.
    pub fn with(self, recording: Recording) -> io::Result<Self> {
        Ok(match recording {
            Recording::On => self,
            Recording::Off => {
                Self { histograms: SharedSlice::new(0)?, loader_histograms: SharedSlice::new(0)?, recording, ..self }
            }
        })
    }

    /// Whether the trial's processes record.
    pub fn records(&self) -> bool {
        self.recording == Recording::On
    }

    /// Number of workers. The helper process counts under this number.
    pub fn workers(&self) -> usize {
        self.workers.len() - 1
    }

    /// Announces that the caller is set up, waits for the barrier and returns the trial's instants.
    pub fn wait_for_start(&self) -> Window {
        self.board.add(Word::Ready, 1);
        self.board.wait_until(Word::StartNs, 1, None);
        let window = self.window();
        clock::sleep_until(window.start_ns);
        window
    }

    /// How many processes wait at the barrier.
    pub fn ready(&self) -> u64 {
        self.board.get(Word::Ready)
    }

    /// Opens the barrier.
    pub fn open(&self, window: Window) {
        self.board.set(Word::MeasureFromNs, window.measure_from_ns);
        self.board.set(Word::MeasureToNs, window.measure_to_ns);
        self.board.set(Word::DeadlineNs, window.deadline_ns);
        // Set last: it makes the others valid.
        self.board.set(Word::StartNs, window.start_ns);
    }

    /// The instants, valid once the barrier is open.
    pub fn window(&self) -> Window {
        Window {
            start_ns: self.board.get(Word::StartNs),
            measure_from_ns: self.board.get(Word::MeasureFromNs),
            measure_to_ns: self.board.get(Word::MeasureToNs),
            deadline_ns: self.board.get(Word::DeadlineNs),
        }
    }

    /// Waits for the turn of the worker with this rank, so that workers register one at a time.
    pub fn wait_for_registration_turn(&self, rank: usize) {
        self.board.wait_until(Word::Registered, rank as u64, Some(REGISTRATION_PATIENCE));
    }

    /// Lets the next worker register.
    pub fn registered(&self, rank: usize) {
        self.board.set(Word::Registered, rank as u64 + 1);
    }

    #[inline]
    pub fn phase(&self) -> Phase {
        self.board.phase()
    }

    /// Advances to a phase, and wakes processes that wait for [`Self::wake`].
    pub fn set_phase(&self, phase: Phase) {
        self.board.set_phase(phase);
        // Fails only if the counter is at its limit, and then the descriptor is readable anyway.
        let _ = self.wake.write(1);
    }

    /// Becomes readable when the phase changes, and stays so.
    pub fn wake(&self) -> &EventFd {
        &self.wake
    }

    /// Reports that the calling worker no longer accepts, and waits until it may close its listener.
    pub fn stopped_and_wait_for_exit(&self) {
        self.board.add(Word::Stopped, 1);
        self.board.wait_for(Phase::Exit);
    }

    /// How many workers have stopped.
    pub fn stopped(&self) -> u64 {
        self.board.get(Word::Stopped)
    }

    /// Records that a fault begins.
    pub fn fault_begins(&self, fault: usize, at_ns: u64) {
        self.faults[fault][0].store(at_ns, Release);
    }

    /// Records that a fault is over.
    pub fn fault_is_over(&self, fault: usize, at_ns: u64) {
        self.faults[fault][1].store(at_ns, Release);
    }

    /// When a fault began and was over.
    #[inline]
    pub fn fault(&self, fault: usize) -> FaultTimes {
        let [begun, over] = &self.faults[fault];
        FaultTimes { begun_ns: begun.load(Acquire), over_ns: over.load(Acquire) }
    }

    /// Adds to a loader's counter.
    #[inline]
    pub fn add_loader(&self, loader: usize, count: LoaderCount) {
        increase(&self.loaders[loader][count as usize], 1);
    }

    /// Counts a wait in a loader's histogram. The caller must be its only writer.
    #[inline]
    pub fn keep_of_loader(&self, loader: usize, kept: LoaderKept, wait_ns: u64) {
        if let Some(histograms) = self.loader_histograms.get(loader) {
            histogram::record(&histograms[kept as usize], wait_ns);
        }
    }

    /// Adds what a loader has recorded so far to a histogram.
    pub fn add_loader_to(&self, loader: usize, kept: LoaderKept, histogram: &mut Histogram<u64>) {
        if let Some(histograms) = self.loader_histograms.get(loader) {
            histogram::add_to(&histograms[kept as usize], histogram);
        }
    }

    pub fn loaders(&self) -> usize {
        self.loaders.len()
    }

    /// Publishes a worker's listener as just sampled.
    pub fn saw_listener(&self, worker: usize, seen: ListenerSeen) {
        let words = [seen.inode, seen.length, seen.limit, seen.drops];
        for (word, value) in self.listeners[worker].iter().zip(words) {
            word.store(value, Relaxed);
        }
    }

    /// A worker's listener in the latest sample; `None` before the first sample, and if the worker has none.
    pub fn listener(&self, worker: usize) -> Option<ListenerSeen> {
        let [inode, length, limit, drops] = &self.listeners[worker];
        let inode = inode.load(Relaxed);
        let seen = || ListenerSeen {
            inode,
            length: length.load(Relaxed),
            limit: limit.load(Relaxed),
            drops: drops.load(Relaxed),
        };
        (inode != 0).then(seen)
    }

    /// A loader's counter, summed over all loaders.
    pub fn loader_total(&self, count: LoaderCount) -> u64 {
        self.loaders.iter().map(|cell| cell[count as usize].load(Relaxed)).sum()
    }
}

/// Adds to a word with one writer: a plain load and store suffice, and cost less than a locked add.
#[inline]
fn increase(word: &AtomicU64, by: u64) {
    word.store(word.load(Relaxed).wrapping_add(by), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_recording_counters_count_and_histograms_stay_empty() {
        for (recording, values) in [(Recording::On, 2), (Recording::Off, 0)] {
            let control = Control::new(1, 1, 0).and_then(|control| control.with(recording)).unwrap();
            let window = Window { start_ns: 10, measure_from_ns: 10, measure_to_ns: u64::MAX, deadline_ns: 99 };
            let mut meter = control.meter(0, window);
            meter.accepted(12);
            meter.waited(11, 12);
            control.keep_of_loader(0, LoaderKept::AcceptWait, 5);
            let mut histogram = Histogram::new(3).unwrap();
            control.add_to(0, Kept::AcceptWait, &mut histogram);
            control.add_loader_to(0, LoaderKept::AcceptWait, &mut histogram);
            assert_eq!((control.count(0, Count::Accepted), histogram.len()), (1, values), "{recording:?}");
        }
    }
}
