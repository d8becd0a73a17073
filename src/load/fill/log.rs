//! What fillers count and measure. Each alone writes its part, with plain stores, and the trial's process reads it once the filler has
//! ended, however it ended.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crossbeam::utils::CachePadded;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use strum::EnumCount;

use crate::{
    ipc::{increase, tally::Tallies},
    record::{Cause, ErrorCount, Step},
    sys::shared::SharedSlice,
};

/// Attempts beyond the wall, to measure the cost of a failing connect().
pub(super) const BEYOND_THE_WALL: usize = 20;

/// A filler's figures.
#[derive(Debug, Clone, Copy, EnumCount)]
pub(super) enum FillCount {
    /// Attempts during the fill and beyond the wall.
    Attempted,
    /// Those that succeeded.
    Established,
    /// Connections open now.
    Open,
    /// The errno at the wall; 0 if it was not this filler that reached it.
    Exhausted,
    /// Attempts beyond the wall that failed.
    Failing,
    /// When recovery was complete, in nanoseconds of CLOCK_MONOTONIC; 0 until then.
    RecoveredNs,
    /// 1 if the deadline ended the fill.
    GaveUp,
    /// 1 once its connections are closed: by itself or, if it has died, by the kernel.
    Closed,
}

/// The shared memory in which fillers keep what they measure.
#[derive(Debug)]
pub struct FillLog {
    words: SharedSlice<CachePadded<[AtomicU64; FillCount::COUNT]>>,
    errors: Tallies,
    /// Durations of attempts beyond the wall, ns.
    failing: SharedSlice<[AtomicU64; BEYOND_THE_WALL]>,
    /// Duration and CPU time of each connect() of the fill, bind() included, in order, ns. Fillers take turns in writing them.
    connects: SharedSlice<[AtomicU64; 2]>,
    /// How many of those there are.
    timed: SharedSlice<AtomicU64>,
}

impl FillLog {
    /// Room for so many fillers, and for so many connections of all of them. Must be called before the fork.
    pub fn new(fillers: usize, connections: usize) -> io::Result<Self> {
        Ok(Self {
            words: SharedSlice::new(fillers)?,
            errors: Tallies::new(fillers)?,
            failing: SharedSlice::new(fillers)?,
            connects: SharedSlice::new(connections)?,
            timed: SharedSlice::new(1)?,
        })
    }

    pub(super) fn get(&self, filler: usize, count: FillCount) -> u64 {
        self.words[filler][count as usize].load(Relaxed)
    }

    pub(super) fn set(&self, filler: usize, count: FillCount, value: u64) {
        self.words[filler][count as usize].store(value, Relaxed);
    }

    pub(super) fn add(&self, filler: usize, count: FillCount) {
        increase(&self.words[filler][count as usize], 1);
    }

    pub(super) fn add_error(&self, filler: usize, step: Step, cause: impl Into<Cause>) {
        self.errors.add(filler, step, cause);
    }

    /// Keeps the cost of an attempt beyond the wall that failed.
    pub(super) fn add_failing(&self, filler: usize, connect_ns: u64) {
        let number = self.get(filler, FillCount::Failing);
        self.failing[filler][number as usize].store(connect_ns, Relaxed);
        self.add(filler, FillCount::Failing);
    }

    /// Keeps the cost of the next connection. There is room for as many as there are ports.
    pub(super) fn add_connect(&self, connect_ns: u64, cpu_ns: u64) {
        let [kept_ns, kept_cpu_ns] = &self.connects[self.timed[0].load(Relaxed) as usize];
        kept_ns.store(connect_ns, Relaxed);
        kept_cpu_ns.store(cpu_ns, Relaxed);
        increase(&self.timed[0], 1);
    }

    /// How many fillers have closed their connections.
    pub fn closed(&self) -> u64 {
        (0..self.words.len()).map(|filler| self.get(filler, FillCount::Closed)).sum()
    }

    /// Duration and CPU time of each connect() of the fill, bind() included, in order, ns.
    pub fn connects(&self) -> Vec<(u64, u64)> {
        let timed = &self.connects[..self.timed[0].load(Relaxed) as usize];
        timed.iter().map(|[connect_ns, cpu_ns]| (connect_ns.load(Relaxed), cpu_ns.load(Relaxed))).collect()
    }

    /// What a filler did.
    pub fn read(&self, filler: usize) -> FillReport {
        let get = |count| self.get(filler, count);
        let errno = Some(get(FillCount::Exhausted)).filter(|errno| *errno != 0);
        let failing = &self.failing[filler][..get(FillCount::Failing) as usize];
        FillReport {
            attempted: get(FillCount::Attempted),
            established: get(FillCount::Established),
            errors: self.errors.counts(filler),
            exhausted: errno.map(|errno| format!("{:?}", Errno::from_raw(errno as i32))),
            failing_ns: failing.iter().map(|connect_ns| connect_ns.load(Relaxed)).collect(),
            recovered_at_ns: Some(get(FillCount::RecoveredNs)).filter(|at_ns| *at_ns != 0),
            gave_up: get(FillCount::GaveUp) != 0,
        }
    }
}

/// What a filler did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FillReport {
    /// Attempts during the fill and beyond the wall.
    pub attempted: u64,
    /// Attempts that succeeded.
    pub established: u64,
    /// Attempts that failed, by phase and errno.
    pub errors: Vec<ErrorCount>,
    /// The errno at the wall, if this process reached it.
    pub exhausted: Option<String>,
    /// Duration of each attempt beyond the wall, ns.
    pub failing_ns: Vec<u64>,
    /// When recovery was complete, in nanoseconds of CLOCK_MONOTONIC.
    pub recovered_at_ns: Option<u64>,
    /// Whether the deadline ended the fill.
    pub gave_up: bool,
}
