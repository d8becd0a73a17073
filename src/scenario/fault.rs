//! Faults: what happens to workers during a trial.

use std::time::Duration;

use super::{
    keys::{self, paths},
    server::no_such_worker,
    settings::Settings,
};
use crate::record::EventKind;

/// A fault of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Its number in the scenario, from 0, including faults of kind `none`.
    pub number: usize,
    /// The worker's number.
    pub worker: usize,
    /// Time from the trial's start.
    pub at: Duration,
    /// What is done.
    pub kind: FaultKind,
}

/// What happens to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Stopped (SIGSTOP), for a while or until the trial ends.
    Stall(Option<Duration>),
    /// Burns CPU without serving anyone, as in a request that takes too long.
    Burn(Duration),
    /// Killed (SIGKILL).
    Kill,
}

impl FaultKind {
    /// Its name in records.
    pub fn event(self) -> EventKind {
        match self {
            Self::Stall(_) => EventKind::Stall,
            Self::Burn(_) => EventKind::Burn,
            Self::Kill => EventKind::Kill,
        }
    }

    /// How long the worker serves no one; `None` for the rest of the trial.
    pub fn lasts(self) -> Option<Duration> {
        match self {
            Self::Stall(lasts) => lasts,
            Self::Burn(lasts) => Some(lasts),
            Self::Kill => None,
        }
    }
}

impl Fault {
    /// When it ends, from the trial's start; `None` if it lasts.
    pub fn over(&self) -> Option<Duration> {
        self.kind.lasts().map(|lasts| self.at + lasts)
    }

    /// All faults of a cell. `load` is the length of its load if the scenario fixes it.
    pub(super) fn read_all(settings: &Settings<'_>, workers: usize, load: Option<Duration>) -> Vec<Self> {
        let mut faults: Vec<Self> = Vec::new();
        for number in 0..settings.instances(paths::FAULTS) {
            let settings = settings.of_instance(paths::FAULTS, number);
            let Some(fault) = Self::read(&settings, number) else { continue };
            if fault.worker >= workers {
                let problem = no_such_worker(fault.worker, workers);
                settings.conflict(keys::FAULT_WORKER, &[keys::SERVER_WORKERS], problem);
            }
            if let Some(load) = load.filter(|load| fault.at >= *load) {
                let others: &[&dyn keys::AnyKey] = &[keys::LOAD_WARMUP, keys::LOAD_DURATION];
                settings.conflict(keys::FAULT_AT, others, format_args!("is not before the end of the load, {load:?}"));
            }
            if faults.iter().any(|other| other.worker == fault.worker && other.overlaps(&fault)) {
                let problem = "overlaps another fault of the same worker";
                settings.conflict(keys::FAULT_AT, &[keys::FAULT_FOR, keys::FAULT_WORKER], problem);
            }
            faults.push(fault);
        }
        faults
    }

    fn overlaps(&self, other: &Self) -> bool {
        // A stopped worker can be killed.
        let killed_in = |one: &Self, other: &Self| {
            matches!(one.kind, FaultKind::Stall(_)) && other.kind == FaultKind::Kill && one.at < other.at
        };
        if killed_in(self, other) || killed_in(other, self) {
            return false;
        }
        let ends_after = |one: &Self, at: Duration| one.over().is_none_or(|over| over > at);
        ends_after(self, other.at) && ends_after(other, self.at)
    }

    /// `None` for a fault that is switched off or incomplete.
    fn read(settings: &Settings<'_>, number: usize) -> Option<Self> {
        let lasts = || settings.get(keys::FAULT_FOR);
        let kind = match settings.get(keys::FAULT_KIND) {
            None => {
                // A fault that is switched off keeps its other keys.
                settings.keep_instance();
                return None;
            }
            Some(EventKind::Stall) => Some(FaultKind::Stall(lasts())),
            Some(EventKind::Burn) => lasts().map(FaultKind::Burn),
            Some(EventKind::Kill) => Some(FaultKind::Kill),
        };
        let (at, worker) = (settings.get(keys::FAULT_AT), settings.get(keys::FAULT_WORKER));
        if kind.is_none() {
            settings.conflict(keys::FAULT_FOR, &[keys::FAULT_KIND], "is missing: set how long the worker burns CPU");
        }
        if at.is_none() {
            settings.conflict(keys::FAULT_AT, &[], "is missing: set the time from the trial's start");
        }
        Some(Self { number, worker, at: at?, kind: kind? })
    }
}
