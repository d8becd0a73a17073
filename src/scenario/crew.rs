//! The workers of our own server over a whole trial: those that it begins with, and those that events bring. All are forked before the
//! trial starts, and the later ones wait for their event.

use std::{collections::BTreeSet, time::Duration};

use super::{
    event::{Act, Event, Reload},
    keys::{self, paths},
    server::Server,
    settings::Settings,
    strategy::Queues,
};

/// The workers of a trial, and the sets of listeners that they use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crew {
    /// By number.
    pub workers: Vec<CrewMember>,
    /// By number; the first is there when the trial starts.
    pub listeners: Vec<ListenerSet>,
}

/// A worker's part in the trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrewMember {
    /// 0 if it is there when the trial starts; each event that brings workers begins another generation.
    pub generation: usize,
    /// Its number in its generation, which decides its queue and its processor.
    pub place: usize,
    /// Its set of listeners.
    pub listeners: usize,
    /// The event that brings it, by its place among the scenario's.
    pub begins: Option<usize>,
}

/// A worker's turn to add its listener to epoll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Its place in the order, from 0.
    pub rank: usize,
    /// The number of the worker before it.
    pub after: Option<usize>,
}

/// Listeners that are opened together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerSet {
    /// The event that opens them; `None` for those that are there when the trial starts.
    pub opens: Option<usize>,
    /// The number of workers that they are for.
    pub workers: usize,
}

impl ListenerSet {
    /// Their queues. A worker that joins brings one of its own.
    pub fn queues(&self, server: &Server) -> Queues {
        let are_all = self.opens.is_none() || self.workers == server.workers;
        if are_all { server.strategy.queues } else { Queues::PerWorker }
    }
}

impl Crew {
    /// The crew of a server to which these events happen.
    pub(super) fn of(server: &Server, events: &[Event]) -> Self {
        let first = (0..server.workers).map(|place| CrewMember { generation: 0, place, listeners: 0, begins: None });
        let mut crew =
            Self { workers: first.collect(), listeners: vec![ListenerSet { opens: None, workers: server.workers }] };
        let queues = server.strategy.queues;
        let own_queues = queues.form_group() && queues.count(server.workers) == server.workers;
        for (generation, event) in (1..).zip(bringing(events)) {
            let (places, opens) = match &events[event].act {
                // A worker that shares a queue takes the next place among those that share it.
                Act::Join if own_queues => (0..1, true),
                Act::Join => (server.workers + generation - 1..server.workers + generation, false),
                Act::Reload { how, .. } => (0..server.workers, *how != Reload::Inherit),
                _ => continue,
            };
            if opens {
                crew.listeners.push(ListenerSet { opens: Some(event), workers: places.len() });
            }
            let listeners = if opens { crew.listeners.len() - 1 } else { crew.current_listeners(generation) };
            let member = |place| CrewMember { generation, place, listeners, begins: Some(event) };
            crew.workers.extend(places.map(member));
        }
        crew
    }

    /// The listeners that a generation inherits.
    fn current_listeners(&self, generation: usize) -> usize {
        let before = self.workers.iter().rfind(|worker| worker.generation < generation);
        before.map_or(0, |worker| worker.listeners)
    }

    /// The other workers that take from a worker's queue, by number.
    pub fn sharers_with(&self, server: &Server, worker: usize) -> impl Iterator<Item = usize> {
        let CrewMember { listeners, place, .. } = self.workers[worker];
        let set = self.listeners[listeners];
        let queues = set.queues(server).count(set.workers);
        let shares = move |other: &CrewMember| other.listeners == listeners && other.place % queues == place % queues;
        let others = self.workers.iter().enumerate();
        others.filter(move |(number, other)| *number != worker && shares(other)).map(|(number, _)| number)
    }

    /// Each worker's turn to register, among those of its generation.
    pub fn turns(&self, server: &Server, seed: u64, repetition: usize) -> Vec<Turn> {
        let generations = self.workers.chunk_by(|one, other| one.generation == other.generation);
        let mut turns = Vec::new();
        for generation in generations {
            let first = turns.len();
            let ranks = server.registration.ranks(generation.len(), seed, repetition);
            let by_rank = |rank: usize| ranks.iter().position(|one| *one == rank).map(|place| first + place);
            let turn = |rank: &usize| Turn { rank: *rank, after: rank.checked_sub(1).and_then(by_rank) };
            turns.extend(ranks.iter().map(turn));
        }
        turns
    }

    /// The workers that an event brings, by number.
    pub fn brought_by(&self, event: usize) -> impl Iterator<Item = usize> {
        self.workers
            .iter()
            .enumerate()
            .filter(move |(_, worker)| worker.begins == Some(event))
            .map(|(number, _)| number)
    }
}

/// The events that bring workers, in the order of time, by their places among the scenario's.
fn bringing(events: &[Event]) -> Vec<usize> {
    let mut bringing: Vec<usize> =
        (0..events.len()).filter(|event| matches!(events[*event].act, Act::Join | Act::Reload { .. })).collect();
    bringing.sort_by_key(|event| (events[*event].at, *event));
    bringing
}

/// Complains about events that bring or take workers where that cannot be done.
pub(super) fn check(settings: &Settings<'_>, server: &Server, events: &[Event]) {
    let changes: Vec<&Event> = events.iter().filter(|event| event.act.changes_workers()).collect();
    let Some(first) = changes.first() else { return };
    let of = |event: &Event| settings.of_instance(paths::EVENTS, event.number);
    let (name, strategy) = (server.strategy.name, &server.strategy);
    if !strategy.takes_generations() {
        let problem = format!(
            "workers cannot join, leave or be replaced with \"{name}\": whoever hands connections over only knows those of the \
             trial's start; choose another strategy"
        );
        of(first).conflict(keys::EVENT_KIND, &[keys::SERVER_STRATEGY], problem);
        return;
    }
    let reload = changes.iter().find(|event| matches!(event.act, Act::Reload { .. }));
    let other = changes.iter().find(|event| !matches!(event.act, Act::Reload { .. }));
    if let (Some(_), Some(other)) = (reload, other) {
        let problem =
            "cannot be mixed with reloads, which replace the workers of the trial's start: use a [[variant]] for each";
        of(other).conflict(keys::EVENT_KIND, &[], problem);
        return;
    }
    if let Some(other) = other.filter(|_| !strategy.spreads_by_hash()) {
        let problem = format!(
            "is not possible with \"{name}\", whose rule for choosing a listener counts on those of the trial's start: use a strategy \
             that leaves the choice to the kernel's hash, or with one listener"
        );
        of(other).conflict(keys::EVENT_KIND, &[keys::SERVER_STRATEGY], problem);
        return;
    }
    let all = Crew::of(server, events).workers.len();
    if all > keys::SERVER_WORKERS.max() {
        let problem = format!(
            "with all generations there are {all} workers, each a process, and no more than {} are allowed: use fewer or rarer events, \
             or fewer workers",
            keys::SERVER_WORKERS.max()
        );
        of(first).conflict(keys::EVENT_AT, &[keys::EVENT_EVERY, keys::SERVER_WORKERS], problem);
    }
    for number in too_early(&changes) {
        let problem = "begins before an earlier change of workers is sure to be over: let more time pass, or shorten `drain` or `gap`";
        let settings = settings.of_instance(paths::EVENTS, number);
        settings.conflict(keys::EVENT_AT, &[keys::EVENT_EVERY, keys::EVENT_DRAIN], problem);
    }
    let replaced = reload.map(|_| changes.iter().map(|event| event.at).min().unwrap_or_default());
    for event in events.iter().filter(|event| event.act.worker().is_some()) {
        if replaced.is_some_and(|replaced| event.at >= replaced) {
            let problem = "is not before the first reload, which replaces its worker";
            of(event).conflict(keys::EVENT_AT, &[keys::EVENT_EVERY], problem);
        }
    }
}

/// The numbers of the events that begin before the one before them is sure to be over.
fn too_early(changes: &[&Event]) -> BTreeSet<usize> {
    let mut in_time = changes.to_vec();
    in_time.sort_by_key(|event| (event.at, event.number));
    let takes = |event: &Event| match event.act {
        Act::Leave { drain, .. } => drain,
        Act::Reload { how: Reload::Restart { gap }, drain } => drain.max(gap),
        Act::Reload { drain, .. } => drain,
        _ => Duration::ZERO,
    };
    let pairs = in_time.windows(2).filter(|pair| pair[1].at < pair[0].at + takes(pair[0]));
    pairs.map(|pair| pair[1].number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Plan, Source, server::Registration};

    fn crew(text: &str) -> Crew {
        let plan = Plan::read(&Source { name: "test", text }, &[]).unwrap();
        plan.cells[0].scenario.crew()
    }

    fn members(crew: &Crew) -> Vec<(usize, usize, usize, Option<usize>)> {
        crew.workers.iter().map(|one| (one.generation, one.place, one.listeners, one.begins)).collect()
    }

    #[test]
    fn generations_follow_in_time_and_only_new_listeners_make_a_set() {
        let text = "server.workers = 2\nserver.strategy = \"reuseport\"\nload.duration = \"9s\"\n\
                    [[event]]\nkind = \"reload\"\nhow = \"restart\"\nat = \"5s\"\ndrain = \"1s\"\n\
                    [[event]]\nkind = \"reload\"\nhow = \"reopen\"\nat = \"1s\"\ndrain = \"1s\"\n\
                    [[event]]\nkind = \"reload\"\nat = \"2s\"\ndrain = \"1s\"\nevery = \"4s\"";
        let crew = crew(text);
        // In the order of time: reopen (1), inherit (2), restart (0), inherit again (3).
        let expected = [
            (0, 0, 0, None),
            (0, 1, 0, None),
            (1, 0, 1, Some(1)),
            (1, 1, 1, Some(1)),
            (2, 0, 1, Some(2)),
            (2, 1, 1, Some(2)),
            (3, 0, 2, Some(0)),
            (3, 1, 2, Some(0)),
            (4, 0, 2, Some(3)),
            (4, 1, 2, Some(3)),
        ];
        assert_eq!(members(&crew), expected);
        let opens: Vec<_> = crew.listeners.iter().map(|set| (set.opens, set.workers)).collect();
        assert_eq!(opens, [(None, 2), (Some(1), 2), (Some(0), 2)]);
        assert_eq!(crew.brought_by(2).collect::<Vec<_>>(), [4, 5]);
        let server = Server { registration: Registration::Descending, ..Server::by_default() };
        let turn = |rank, after| Turn { rank, after };
        let turns = crew.turns(&server, 1, 0);
        assert_eq!(turns[..4], [turn(1, Some(1)), turn(0, None), turn(1, Some(3)), turn(0, None)]);
    }

    #[test]
    fn a_worker_that_joins_opens_a_listener_or_shares_one() {
        let joins = "load.duration = \"9s\"\n[[event]]\nkind = \"join\"\nat = \"1s\"\nevery = \"5s\"";
        let own = crew(&format!("server.strategy = \"reuseport\"\nserver.workers = 2\n{joins}"));
        assert_eq!(members(&own)[2..], [(1, 0, 1, Some(0)), (2, 0, 2, Some(1))]);
        assert_eq!(own.listeners.len(), 3);
        let shared = crew(&format!("server.strategy = \"shared-epoll\"\nserver.workers = 2\n{joins}"));
        assert_eq!(members(&shared)[2..], [(1, 2, 0, Some(0)), (2, 3, 0, Some(1))]);
        assert_eq!(shared.listeners.len(), 1);
    }
}
