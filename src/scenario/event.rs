//! Events: what happens to the server during a trial.

use std::{collections::BTreeMap, time::Duration};

use nix::sys::signal::Signal;
use strum::VariantArray;

use super::{
    keys::{self, alternatives, paths},
    limits,
    server::no_such_worker,
    settings::Settings,
    strategy::Strategy,
    subject::SubjectName,
};
use crate::record::{EventKind, ReloadHow};

/// An event, or one occurrence of a periodic one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's number in the scenario, from 0, including events of kind `none`.
    pub number: usize,
    /// Which of its occurrences this is, from 0.
    pub occurrence: usize,
    /// Time from the trial's start.
    pub at: Duration,
    /// What is done.
    pub act: Act,
}

/// What is done to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A worker is stopped (SIGSTOP), for a while or until the trial ends.
    Stall { worker: usize, lasts: Option<Duration> },
    /// A worker burns CPU without serving anyone, as in a request that takes too long.
    Burn { worker: usize, lasts: Duration },
    /// A worker is killed (SIGKILL).
    Kill { worker: usize },
    /// Another worker starts to accept.
    Join,
    /// A worker stops accepting, serves what it has open for so long, and exits.
    Leave { worker: usize, drain: Duration },
    /// New workers replace all workers, which serve what they have open for so long, and exit.
    Reload { how: Reload, drain: Duration },
    /// The server's first process gets a signal.
    Signal { signal: Signal },
    /// A command runs, given as the program and its arguments before substitution.
    Exec { words: Vec<String> },
}

/// How new workers get their listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// They accept from the listeners that there are.
    Inherit,
    /// New listeners join the SO_REUSEPORT group of the old ones, which are closed then.
    Reopen,
    /// The old listeners are closed, and the new ones opened after a gap.
    Restart { gap: Duration },
}

impl Act {
    /// Its name in records.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Stall { .. } => EventKind::Stall,
            Self::Burn { .. } => EventKind::Burn,
            Self::Kill { .. } => EventKind::Kill,
            Self::Join => EventKind::Join,
            Self::Leave { .. } => EventKind::Leave,
            Self::Reload { .. } => EventKind::Reload,
            Self::Signal { .. } => EventKind::Signal,
            Self::Exec { .. } => EventKind::Exec,
        }
    }

    /// How new workers get their listeners, in records; `None` for anything but a reload.
    pub fn how(&self) -> Option<ReloadHow> {
        let Self::Reload { how, .. } = self else { return None };
        Some(match how {
            Reload::Inherit => ReloadHow::Inherit,
            Reload::Reopen => ReloadHow::Reopen,
            Reload::Restart { .. } => ReloadHow::Restart,
        })
    }

    /// The only worker that it is done to; `None` if it is done to all or to none.
    pub fn worker(&self) -> Option<usize> {
        match *self {
            Self::Stall { worker, .. }
            | Self::Burn { worker, .. }
            | Self::Kill { worker }
            | Self::Leave { worker, .. } => Some(worker),
            Self::Join | Self::Reload { .. } | Self::Signal { .. } | Self::Exec { .. } => None,
        }
    }

    /// How long it lasts, if that is set: `None` until the end of the trial, or for as long as it takes.
    pub fn lasts(&self) -> Option<Duration> {
        match self {
            Self::Stall { lasts, .. } => *lasts,
            Self::Burn { lasts, .. } => Some(*lasts),
            _ => None,
        }
    }

    /// Whether the server has other workers afterwards.
    pub fn changes_workers(&self) -> bool {
        matches!(self, Self::Join | Self::Leave { .. } | Self::Reload { .. })
    }
}

impl Event {
    /// When it ends, from the trial's start; `None` if that is not set.
    pub fn over(&self) -> Option<Duration> {
        self.act.lasts().map(|lasts| self.at + lasts)
    }

    /// All events of a cell, with every occurrence of those that are periodic. `workers` is the number of our own server's workers, and
    /// `None` for another server; `load` is the length of the load if the scenario fixes it.
    pub(super) fn read_all(settings: &Settings<'_>, workers: Option<usize>, load: Option<Duration>) -> Vec<Self> {
        let mut events: Vec<Self> = Vec::new();
        for number in 0..settings.instances(paths::EVENTS) {
            let settings = settings.of_instance(paths::EVENTS, number);
            let Some(event) = Self::read(&settings, number, workers) else { continue };
            if let Some(load) = load.filter(|load| event.at >= *load) {
                let others: &[&dyn keys::AnyKey] = &[keys::LOAD_WARMUP, keys::LOAD_DURATION];
                settings.conflict(
                    keys::EVENT_AT,
                    others,
                    format_args!("the load ends at {load:?}, before this event would begin: set an earlier time"),
                );
            }
            match settings.get(keys::EVENT_EVERY) {
                None => events.push(event),
                Some(every) => events.extend(event.repeated(&settings, every, load)),
            }
        }
        for (number, (other, act)) in Self::overlapping(&events) {
            let settings = settings.of_instance(paths::EVENTS, number);
            let others: &[&dyn keys::AnyKey] =
                &[keys::EVENT_AT, keys::EVENT_FOR, keys::EVENT_EVERY, keys::EVENT_WORKER];
            if number != other {
                let problem =
                    format_args!("overlaps `event.{other}`, of the same worker: choose another time or worker");
                settings.conflict(keys::EVENT_AT, others, problem);
                continue;
            }
            let problem = match act.lasts() {
                Some(_) => "repeats the event before it is over: lengthen it, or shorten `for`",
                None if act.kind() == EventKind::Stall => "repeats a stall that lasts until the trial ends: set `for`",
                None => "repeats what can happen to a worker only once: remove it",
            };
            settings.conflict(keys::EVENT_EVERY, others, problem);
        }
        events
    }

    /// Its occurrences until the load ends.
    fn repeated(self, settings: &Settings<'_>, every: Duration, load: Option<Duration>) -> Vec<Self> {
        let Some(load) = load else {
            let problem = "requires a load whose end is known: use `load.duration` instead of `load.connections`";
            settings.conflict(keys::EVENT_EVERY, &[keys::LOAD_CONNECTIONS], problem);
            return vec![self];
        };
        let count = load.saturating_sub(self.at).as_nanos().div_ceil(every.as_nanos().max(1)).max(1);
        if count > limits::OCCURRENCES as u128 {
            let most = limits::OCCURRENCES;
            let problem = format_args!("gives {count} occurrences, and no more than {most} are allowed: lengthen it");
            settings.conflict(keys::EVENT_EVERY, &[keys::LOAD_DURATION], problem);
            return vec![self];
        }
        let occurrence =
            |occurrence: usize| Self { occurrence, at: self.at + every * occurrence as u32, ..self.clone() };
        (0..count as usize).map(occurrence).collect()
    }

    /// Refuses signals to a worker that shares its process with all others.
    pub(super) fn check_processes(settings: &Settings<'_>, strategy: &Strategy, events: &[Self]) {
        let signals = |event: &&Self| matches!(event.act, Act::Stall { .. } | Act::Kill { .. });
        for event in events.iter().filter(signals).filter(|event| strategy.is_pool() && event.occurrence == 0) {
            let problem = format_args!(
                "a signal reaches all workers of \"{}\", which are threads of one process; a worker alone can \"burn\"",
                strategy.name
            );
            let settings = settings.of_instance(paths::EVENTS, event.number);
            settings.conflict(keys::EVENT_KIND, &[keys::SERVER_STRATEGY], problem);
        }
    }

    /// The numbers of events that overlap another one before them in the scenario, or an earlier occurrence of themselves, each with
    /// the other's number and what the earlier one does. Where events of a worker overlap, so do two that
    /// follow each other in time: nothing but a kill may begin within another event, and nothing may follow a kill or a departure.
    fn overlapping(events: &[Self]) -> BTreeMap<usize, (usize, &Act)> {
        let mut in_time: Vec<(usize, &Self)> =
            events.iter().filter_map(|event| Some((event.act.worker()?, event))).collect();
        in_time.sort_by_key(|(worker, event)| (*worker, event.at, event.number));
        let pairs = in_time.windows(2).filter(|pair| pair[0].0 == pair[1].0 && pair[0].1.overlaps(pair[1].1));
        let numbers = pairs.map(|pair| {
            let (one, other) = (pair[0].1, pair[1].1);
            (one.number.max(other.number), (one.number.min(other.number), &one.act))
        });
        numbers.collect()
    }

    fn overlaps(&self, other: &Self) -> bool {
        // A stopped worker can be killed.
        let killed_in = |one: &Self, other: &Self| {
            matches!((&one.act, &other.act), (Act::Stall { .. }, Act::Kill { .. })) && one.at < other.at
        };
        if killed_in(self, other) || killed_in(other, self) {
            return false;
        }
        let ends_after = |one: &Self, at: Duration| one.over().is_none_or(|over| over > at);
        ends_after(self, other.at) && ends_after(other, self.at)
    }

    /// `None` for an event that is switched off, incomplete, or for another kind of server: variants share events, and those without
    /// effect in any are refused as other keys are.
    fn read(settings: &Settings<'_>, number: usize, workers: Option<usize>) -> Option<Self> {
        if settings.peek(keys::EVENT_KIND).is_some_and(|kind| !suits(kind, workers.is_some())) {
            // A cell that is named after an event must not lack it.
            if settings.is_swept(keys::EVENT_KIND) {
                check_kind(settings);
            }
            return None;
        }
        let Some(kind) = settings.get(keys::EVENT_KIND) else {
            // An event that is switched off keeps its other keys.
            settings.keep_instance();
            return None;
        };
        let act = Self::act(settings, kind, workers.unwrap_or_default());
        let at = settings.get(keys::EVENT_AT);
        if at.is_none() {
            settings.conflict(keys::EVENT_AT, &[], "is missing: set the time from the trial's start");
        }
        // Marks the key as used, so that an event which lacks something is not also told that this one has no effect.
        settings.get(keys::EVENT_EVERY);
        Some(Self { number, occurrence: 0, at: at?, act: act? })
    }

    fn act(settings: &Settings<'_>, kind: EventKind, workers: usize) -> Option<Act> {
        let lasts = || settings.get(keys::EVENT_FOR);
        let drain = || settings.get(keys::EVENT_DRAIN);
        let worker = || {
            let worker = settings.get(keys::EVENT_WORKER);
            if worker >= workers {
                let problem = no_such_worker(worker, workers);
                settings.conflict(keys::EVENT_WORKER, &[keys::SERVER_WORKERS], problem);
            }
            worker
        };
        Some(match kind {
            EventKind::Stall => Act::Stall { worker: worker(), lasts: lasts() },
            EventKind::Burn => {
                let (worker, lasts) = (worker(), lasts());
                if lasts.is_none() {
                    let problem = "is missing: set how long the worker burns CPU";
                    settings.conflict(keys::EVENT_FOR, &[keys::EVENT_KIND], problem);
                }
                Act::Burn { worker, lasts: lasts? }
            }
            EventKind::Kill => Act::Kill { worker: worker() },
            EventKind::Join => Act::Join,
            EventKind::Leave => Act::Leave { worker: worker(), drain: drain() },
            EventKind::Reload => {
                let how = match settings.get(keys::EVENT_HOW) {
                    ReloadHow::Inherit => Reload::Inherit,
                    ReloadHow::Reopen => Reload::Reopen,
                    ReloadHow::Restart => Reload::Restart { gap: settings.get(keys::EVENT_GAP) },
                };
                if how != Reload::Inherit && settings.is_unix() {
                    let problem = "opens another listener at the same address, and the file or name of a Unix socket (`address`) would be in the \
                                   way: use \"inherit\"";
                    settings.conflict(keys::EVENT_HOW, &[keys::ADDRESS], problem);
                }
                Act::Reload { how, drain: drain() }
            }
            EventKind::Signal => Act::Signal { signal: settings.get(keys::EVENT_SIGNAL) },
            EventKind::Exec => {
                if settings.get(keys::SERVER_SUBJECT) == SubjectName::Running {
                    let problem = "\"exec\" requires server.subject = \"command\": a server that is already running has no folder to run it in; \
                                   use \"signal\"";
                    settings.conflict(keys::EVENT_KIND, &[keys::SERVER_SUBJECT], problem);
                }
                let command = settings.get(keys::EVENT_COMMAND);
                if command.is_none() {
                    let problem = "is missing: set the command to run, e.g. \"nginx -p {dir} -c nginx.conf -s reload\"";
                    settings.conflict(keys::EVENT_COMMAND, &[keys::EVENT_KIND], problem);
                }
                Act::Exec { words: command?.words }
            }
        })
    }
}

/// Whether such an event can happen to our own server, or to another one.
fn suits(kind: EventKind, is_own: bool) -> bool {
    is_own != matches!(kind, EventKind::Signal | EventKind::Exec)
}

/// Complains about an event whose kind cannot happen to the server. `settings` are those of the instance.
pub(super) fn check_kind(settings: &Settings<'_>) {
    let (kind, subject) = (settings.peek(keys::EVENT_KIND), settings.peek(keys::SERVER_SUBJECT));
    let is_own = subject == SubjectName::Own;
    let Some(kind) = kind.filter(|kind| !suits(*kind, is_own)) else { return };
    let whose = if is_own { "another server" } else { "listenbench's own server" };
    let suitable = EventKind::VARIANTS.iter().filter(|kind| suits(**kind, is_own));
    let suitable = alternatives(suitable.map(|kind| format!("\"{kind}\"")));
    let subject: &str = subject.into();
    let problem = format_args!("\"{kind}\" is for {whose}; with `server.subject = \"{subject}\"`, use {suitable}");
    settings.conflict(keys::EVENT_KIND, &[], problem);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_overlap_are_found_whatever_their_order() {
        let ms = Duration::from_millis;
        let event = |number, at, act| Event { number, occurrence: 0, at: ms(at), act };
        let stall = |number, worker, at, lasts| event(number, at, Act::Stall { worker, lasts: Some(ms(lasts)) });
        let kill = |number, worker, at| event(number, at, Act::Kill { worker });
        let leave = |number, worker, at| event(number, at, Act::Leave { worker, drain: ms(1) });
        for (events, expected) in [
            (vec![stall(0, 0, 0, 5), stall(1, 0, 5, 5), stall(2, 1, 2, 5)], vec![]),
            (vec![stall(0, 0, 5, 5), stall(1, 0, 0, 6)], vec![1]),
            (vec![stall(0, 0, 0, 50), stall(1, 0, 10, 1), stall(2, 0, 20, 1)], vec![1]),
            (vec![stall(0, 0, 0, 50), kill(1, 0, 10)], vec![]),
            (vec![stall(0, 0, 0, 50), kill(1, 0, 10), stall(2, 0, 20, 1)], vec![2]),
            (vec![kill(0, 0, 5), kill(1, 0, 5), kill(2, 1, 5)], vec![1]),
            (vec![leave(0, 0, 5), stall(1, 0, 50, 1), event(2, 60, Act::Join)], vec![1]),
        ] {
            assert_eq!(Event::overlapping(&events).into_keys().collect::<Vec<_>>(), expected, "{events:?}");
        }
    }
}
