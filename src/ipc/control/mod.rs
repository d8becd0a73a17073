//! The control block of a trial: the start barrier, the phases, and what each worker and loader counts and records, which is in
//! `workers` and `loaders`.
//!
//! Every counter has one writer. The counters of a killed process survive it, so its accepts still balance.

mod lives;
mod loaders;
mod losses;
mod workers;

use std::{
    io,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::{Deserialize, Serialize};

use self::{
    lives::LifeCell,
    loaders::LoaderCells,
    losses::LossCell,
    workers::{LastAcceptCell, WorkerCell, WorkerHistograms},
};
pub use self::{
    lives::{Fate, Order},
    loaders::{Account, LoaderCount, LoaderKept},
    losses::Loss,
    workers::{Count, Kept, Meter},
};
use super::{
    board::{Board, Phases, Words},
    tally::Tallies,
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
    /// When the load was told to end early; 0 until then.
    InterruptedNs,
    /// How often new workers have taken over from all old ones.
    Reloads,
}

impl Words for Word {
    const COUNT: usize = Self::Reloads as usize + 1;

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
    errors: Tallies,
    last_accepts: SharedSlice<LastAcceptCell>,
    loaders: LoaderCells,
    events: SharedSlice<[AtomicU64; 2]>,
    losses: SharedSlice<LossCell>,
    lives: SharedSlice<LifeCell>,
    /// Becomes readable with each order.
    orders: EventFd,
    histograms: SharedSlice<WorkerHistograms>,
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

/// When an event began and when it was over, in nanoseconds of CLOCK_MONOTONIC; 0 until that happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventTimes {
    pub begun_ns: u64,
    pub over_ns: u64,
}

/// The instants of a trial, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Whether what happens at an instant was due in the measured window, in time or late: nothing is due after its end.
    #[inline]
    pub fn is_due(&self, instant_ns: u64) -> bool {
        instant_ns >= self.measure_from_ns
    }

    /// The same instants by another host's clock, which is ahead by this much.
    pub fn by_clock_ahead(self, ahead_ns: i64) -> Self {
        // An instant that is not known beforehand has no place on any clock.
        let there = |at_ns: u64| if at_ns == u64::MAX { at_ns } else { at_ns.saturating_add_signed(ahead_ns) };
        Self {
            start_ns: there(self.start_ns),
            measure_from_ns: there(self.measure_from_ns),
            measure_to_ns: there(self.measure_to_ns),
            deadline_ns: there(self.deadline_ns),
        }
    }

    /// Whether an instant lies in the measured window.
    #[inline]
    pub fn measures(&self, instant_ns: u64) -> bool {
        (self.measure_from_ns..self.measure_to_ns).contains(&instant_ns)
    }
}

impl Control {
    /// A control block for this many workers plus one helper, loaders and events.
    pub fn new(workers: usize, loaders: usize, events: usize) -> io::Result<Self> {
        Ok(Self {
            board: Board::new()?,
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            workers: SharedSlice::new(workers + 1)?,
            errors: Tallies::new(workers + 1)?,
            last_accepts: SharedSlice::new(workers + 1)?,
            loaders: LoaderCells::new(loaders, 0, 0)?,
            events: SharedSlice::new(events)?,
            losses: SharedSlice::new(events)?,
            lives: SharedSlice::new(workers)?,
            orders: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            histograms: SharedSlice::new(workers + 1)?,
            listeners: SharedSlice::new(workers)?,
            recording: Recording::On,
        })
    }

    /// Switches recording on or off. When off, workers have no histograms, and an attempt to record costs no more than a bounds check.
    pub fn with(self, recording: Recording) -> io::Result<Self> {
        Ok(match recording {
            Recording::On => self,
            Recording::Off => Self { histograms: SharedSlice::new(0)?, recording, ..self },
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

    /// Sleeps until this many processes wait at the barrier, for no longer than `at_most`.
    pub fn nap_until_ready(&self, processes: u64, at_most: Duration) {
        self.board.wait_until(Word::Ready, processes, Some(at_most));
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

    /// Tells the loaders to end early. The first time counts.
    pub fn interrupt(&self) {
        if self.interrupted_ns().is_none() {
            self.board.set(Word::InterruptedNs, clock::monotonic_ns());
        }
    }

    /// When the load was told to end early, in nanoseconds of CLOCK_MONOTONIC.
    #[inline]
    pub fn interrupted_ns(&self) -> Option<u64> {
        Some(self.board.get(Word::InterruptedNs)).filter(|at_ns| *at_ns != 0)
    }

    /// How often new workers have taken over from all old ones, which take nothing more but the flows that they keep.
    #[inline]
    pub fn reloads(&self) -> u64 {
        self.board.get(Word::Reloads)
    }

    /// Counts a reload whose new workers have taken over.
    pub fn reloaded(&self) {
        self.board.add(Word::Reloads, 1);
    }

    /// Waits for the turn of the worker with this rank, so that workers register one at a time.
    pub fn wait_for_registration_turn(&self, rank: usize) {
        self.board.wait_until(Word::Registered, rank as u64, Some(REGISTRATION_PATIENCE));
    }

    /// Waits until another worker of a later generation has registered.
    pub fn wait_until_serving(&self, worker: usize) {
        let begun = std::time::Instant::now();
        while self.life(worker).serving_ns == 0 && begun.elapsed() < REGISTRATION_PATIENCE {
            std::thread::yield_now();
        }
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

    /// Waits until listeners may be closed.
    pub fn wait_for_exit(&self) {
        self.board.wait_for(Phase::Exit);
    }

    /// How many workers have stopped.
    pub fn stopped(&self) -> u64 {
        self.board.get(Word::Stopped)
    }

    /// Sleeps until this many workers have stopped, for no longer than `at_most`.
    pub fn nap_until_stopped(&self, workers: u64, at_most: Duration) {
        self.board.wait_until(Word::Stopped, workers, Some(at_most));
    }

    /// Records that an event begins.
    pub fn event_begins(&self, event: usize, at_ns: u64) {
        self.events[event][0].store(at_ns, Release);
    }

    /// Records that an event is over.
    pub fn event_is_over(&self, event: usize, at_ns: u64) {
        self.events[event][1].store(at_ns, Release);
    }

    /// When an event began and was over.
    #[inline]
    pub fn event(&self, event: usize) -> EventTimes {
        let [begun, over] = &self.events[event];
        EventTimes { begun_ns: begun.load(Acquire), over_ns: over.load(Acquire) }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_the_same_by_another_clock() {
        let here = Window { start_ns: 10, measure_from_ns: 20, measure_to_ns: u64::MAX, deadline_ns: 40 };
        let there = here.by_clock_ahead(5);
        let expected = Window { start_ns: 15, measure_from_ns: 25, measure_to_ns: u64::MAX, deadline_ns: 45 };
        assert_eq!((there, there.by_clock_ahead(-5)), (expected, here));
    }

    #[test]
    fn without_recording_counters_count_and_histograms_stay_empty() {
        for (recording, values) in [(Recording::On, 1), (Recording::Off, 0)] {
            let control = Control::new(1, 1, 0).and_then(|control| control.with(recording)).unwrap();
            let window = Window { start_ns: 10, measure_from_ns: 10, measure_to_ns: u64::MAX, deadline_ns: 99 };
            let mut meter = control.meter(0, window);
            meter.accepted(12);
            meter.waited(11, 12);
            let kept = control.kept(0, Kept::AcceptWait).count();
            assert_eq!((control.count(0, Count::Accepted), kept), (1, values), "{recording:?}");
        }
    }
}
