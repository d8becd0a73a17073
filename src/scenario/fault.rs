//! What is done to workers while a trial runs.

use std::time::Duration;

use super::{error::ScenarioError, settings::Settings};
use crate::record::EventKind;

/// Keys of faults begin with this and a number, e.g. `fault.0.at`.
pub(super) const PREFIX: &str = "fault.";

/// Something done to one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Its number in the scenario, from 0; those without effect (`none`) count.
    pub number: usize,
    /// The worker's number.
    pub worker: usize,
    /// When, counted from the trial's start.
    pub at: Duration,
    /// What.
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
    /// When it is over, counted from the trial's start; `None` where it lasts.
    pub fn over(&self) -> Option<Duration> {
        self.kind.lasts().map(|lasts| self.at + lasts)
    }

    /// All faults of a cell. `load` is the length of its load as far as the scenario fixes it.
    pub(super) fn read_all(
        settings: &Settings<'_>,
        workers: usize,
        load: Option<Duration>,
    ) -> Result<Vec<Self>, ScenarioError> {
        let mut faults: Vec<Self> = Vec::new();
        for number in 0..settings.count_below(PREFIX)? {
            let path = |leaf: &str| format!("{PREFIX}{number}.{leaf}");
            let Some(fault) = Self::read(settings, number, &path)? else {
                // A fault that is switched off keeps its other keys.
                settings.below(&path(""));
                continue;
            };
            if fault.worker >= workers {
                return Err(settings.wrong(
                    &path("worker"),
                    format_args!("there is no worker {} among {workers}, counted from 0", fault.worker),
                ));
            }
            if let Some(load) = load.filter(|load| fault.at >= *load) {
                return Err(settings.wrong(&path("at"), format_args!("comes after the end of the load, {load:?}")));
            }
            if faults.iter().any(|other| other.worker == fault.worker && other.overlaps(&fault)) {
                return Err(settings.wrong(&path("at"), "another fault of the same worker is not over then"));
            }
            faults.push(fault);
        }
        Ok(faults)
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

    fn read(
        settings: &Settings<'_>,
        number: usize,
        path: &dyn Fn(&str) -> String,
    ) -> Result<Option<Self>, ScenarioError> {
        #[derive(Clone, Copy)]
        enum Kind {
            None,
            Stall,
            Burn,
            Kill,
        }
        let words = [("stall", Kind::Stall), ("burn", Kind::Burn), ("kill", Kind::Kill), ("none", Kind::None)];
        let kind = match settings.choice(&path("kind"), &words)? {
            Kind::None => return Ok(None),
            Kind::Stall if settings.is_set(&path("for")) => FaultKind::Stall(Some(settings.span(&path("for"))?)),
            Kind::Stall => FaultKind::Stall(None),
            Kind::Burn if settings.is_set(&path("for")) => FaultKind::Burn(settings.span(&path("for"))?),
            Kind::Burn => return Err(settings.wrong(&path("for"), "is missing: how long does the worker burn CPU?")),
            Kind::Kill => FaultKind::Kill,
        };
        if !settings.is_set(&path("at")) {
            return Err(settings.wrong(&path("at"), "is missing: when, counted from the trial's start?"));
        }
        let worker = settings.integer(&path("worker"), 0..=511_u32)? as usize;
        Ok(Some(Self { number, worker, at: settings.duration(&path("at"))?, kind }))
    }
}
