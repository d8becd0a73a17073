//! What is done to workers while a trial runs.

use std::time::Duration;

use super::{
    keys::{self, paths},
    server::no_such_worker,
    settings::Settings,
};
use crate::record::EventKind;

/// Something done to one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Its number in the scenario, from 0; faults of kind `none` count too.
    pub number: usize,
    /// The worker's number.
    pub worker: usize,
    /// When, counted from the trial's start.
    pub at: Duration,
    /// What is done.
    pub kind: FaultKind,
}

/// What is done to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// It is stopped (SIGSTOP), for a while or to the trial's end.
    Stall(Option<Duration>),
    /// It burns CPU and serves nobody, as in a request that takes too long.
    Burn(Duration),
    /// It is killed (SIGKILL).
    Kill,
}

impl FaultKind {
    /// As records name it.
    pub fn event(self) -> EventKind {
        match self {
            Self::Stall(_) => EventKind::Stall,
            Self::Burn(_) => EventKind::Burn,
            Self::Kill => EventKind::Kill,
        }
    }

    /// How long the worker serves nobody; `None` for the rest of the trial.
    pub fn lasts(self) -> Option<Duration> {
        match self {
            Self::Stall(lasts) => lasts,
            Self::Burn(lasts) => Some(lasts),
            Self::Kill => None,
        }
    }
}

impl Fault {
    /// When it is over, counted from the trial's start; `None` if it never is.
    pub fn over(&self) -> Option<Duration> {
        self.kind.lasts().map(|lasts| self.at + lasts)
    }

    /// All faults of a cell. `load` is the length of its load as far as the scenario fixes it.
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
                settings.conflict(keys::FAULT_AT, others, format_args!("comes after the end of the load, {load:?}"));
            }
            if faults.iter().any(|other| other.worker == fault.worker && other.overlaps(&fault)) {
                let problem = "another fault of the same worker is not over by then";
                settings.conflict(keys::FAULT_AT, &[keys::FAULT_FOR, keys::FAULT_WORKER], problem);
            }
            faults.push(fault);
        }
        faults
    }

    fn overlaps(&self, other: &Self) -> bool {
        // A worker that is stopped can be killed.
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
                // It keeps its other keys.
                settings.keep_instance();
                return None;
            }
            Some(EventKind::Stall) => Some(FaultKind::Stall(lasts())),
            Some(EventKind::Burn) => lasts().map(FaultKind::Burn),
            Some(EventKind::Kill) => Some(FaultKind::Kill),
        };
        let (at, worker) = (settings.get(keys::FAULT_AT), settings.get(keys::FAULT_WORKER));
        if kind.is_none() {
            settings.conflict(keys::FAULT_FOR, &[keys::FAULT_KIND], "is missing: how long does the worker burn CPU?");
        }
        if at.is_none() {
            settings.conflict(keys::FAULT_AT, &[], "is missing: when, counted from the trial's start?");
        }
        Some(Self { number, worker, at: at?, kind: kind? })
    }
}
