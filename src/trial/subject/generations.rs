//! Changes of our own server's workers: who begins, who leaves, and in which order.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, Result};

use super::{Passage, listening::Later};
use crate::{
    ipc::control::{Control, Fate, Order},
    scenario::{Act, Crew, Reload, Scenario, Steering},
    sys::clock,
};

/// How often workers are looked at that are to begin or to close, and those that drain.
const LOOK_AGAIN_NS: u64 = 1_000_000;
const LOOK_AT_DRAIN_NS: u64 = 5 * LOOK_AGAIN_NS;

/// The workers of a trial, and the changes that events have made to them.
pub(super) struct Generations {
    scenario: Arc<Scenario>,
    control: Arc<Control>,
    crew: Crew,
    later: Later,
    /// By worker: the inode of its first listener for connections. Whoever shares it, shares the others.
    inodes: Vec<u32>,
    /// Those that serve, and have not been told to leave.
    serving: BTreeSet<usize>,
    changes: Vec<Change>,
}

/// A change that has begun.
struct Change {
    event: usize,
    act: Act,
    new: Vec<usize>,
    /// Known once it has begun.
    old: Vec<usize>,
    /// Whether the old workers' listeners end with them.
    closes: bool,
    /// Until when the old workers keep the flows that a program sends to them by their ids, if they do and still have them.
    keeps_until_ns: Option<u64>,
    /// Whether the new workers are to be reported as those who have taken over.
    takes_over: bool,
    step: Step,
}

/// What a change waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Earlier changes to have brought all of their workers, which on a busy machine may take longer than the scenario meant.
    Wait,
    /// The new workers to accept.
    Begin,
    /// The old workers to have given up their listeners; so long after that, the new listeners open.
    Close { gap_ns: u64 },
    /// The instant at which the new listeners open.
    Gap { until_ns: u64 },
    /// The old workers to have left, and the new ones to accept.
    Drain,
    /// Nothing more: it was over then.
    Over { at_ns: u64 },
    /// Nothing more: it has no end of its own.
    Lasts,
}

impl Generations {
    pub(super) fn new(
        scenario: &Arc<Scenario>,
        control: &Arc<Control>,
        crew: Crew,
        later: Later,
        inodes: &[Vec<u32>],
    ) -> Self {
        let inodes = inodes.iter().filter_map(|of_worker| of_worker.first()).copied().collect();
        let serving = (0..crew.workers.len()).filter(|worker| crew.workers[*worker].begins.is_none()).collect();
        let (scenario, control) = (Arc::clone(scenario), Arc::clone(control));
        Self { scenario, control, crew, later, inodes, serving, changes: Vec::new() }
    }

    /// Begins a change at the next look, or once it can.
    pub(super) fn begin(&mut self, event: usize, act: &Act) {
        let new = self.crew.brought_by(event).collect();
        let takes_over = matches!(act, Act::Reload { .. });
        self.changes.push(Change {
            event,
            act: act.clone(),
            new,
            old: Vec::new(),
            closes: false,
            keeps_until_ns: None,
            takes_over,
            step: Step::Wait,
        });
    }

    /// Takes a change's first step.
    fn start(&mut self, place: usize) -> Result<()> {
        let change = &mut self.changes[place];
        change.step = match change.act {
            Act::Leave { worker, .. } => {
                let server = &self.scenario.server;
                change.closes = server.strategy.queues.sharers(worker, server.workers) == 1;
                change.old = vec![worker];
                Step::Drain
            }
            Act::Reload { how, .. } => {
                change.closes = how != Reload::Inherit;
                change.old = self.serving.iter().copied().collect();
                match how {
                    Reload::Inherit | Reload::Reopen => Step::Begin,
                    Reload::Restart { gap } => Step::Close { gap_ns: clock::nanoseconds(gap) },
                }
            }
            _ => Step::Begin,
        };
        self.serving.retain(|worker| !change.old.contains(worker));
        self.serving.extend(&change.new);
        if change.step == Step::Begin {
            return self.open(place);
        }
        self.dismiss(place);
        Ok(())
    }

    /// Opens the change's listeners, if it brings any, and lets its workers accept.
    fn open(&mut self, place: usize) -> Result<()> {
        let change = &self.changes[place];
        let opened = self.crew.listeners.iter().position(|set| set.opens == Some(change.event));
        if let Some(set) = opened {
            self.later.open(set).context("opening the new listeners")?;
        }
        change.new.iter().for_each(|worker| self.control.tell(*worker, Order::Serve));
        Ok(())
    }

    /// Tells the change's old workers to leave.
    fn dismiss(&mut self, place: usize) {
        let steering = &self.scenario.server.strategy.steering;
        let change = &mut self.changes[place];
        let (Act::Leave { drain, .. } | Act::Reload { drain, .. }) = change.act else { return };
        let until_ns = clock::monotonic_ns().saturating_add(clock::nanoseconds(drain));
        // Whoever inherits a socket gets what ids name it for, and a restart closes the old ones first.
        let keeps =
            *steering == Steering::ConnectionId && matches!(change.act, Act::Reload { how: Reload::Reopen, .. });
        change.keeps_until_ns = keeps.then_some(until_ns);
        let listener = match change.closes {
            true if keeps => Fate::KeepsFlows,
            true => Fate::Closes,
            false => Fate::Stays,
        };
        let order = Order::Leave { until_ns, listener };
        change.old.iter().for_each(|worker| self.control.tell(*worker, order));
    }

    /// When changes are to be looked at next.
    pub(super) fn next_look_ns(&self) -> Option<u64> {
        let after = |change: &Change| {
            let now_ns = clock::monotonic_ns();
            match change.step {
                Step::Wait | Step::Begin | Step::Close { .. } => Some(now_ns + LOOK_AGAIN_NS),
                Step::Gap { until_ns } => Some(until_ns),
                Step::Drain => Some(now_ns + LOOK_AT_DRAIN_NS),
                Step::Over { .. } | Step::Lasts => None,
            }
        };
        self.changes.iter().filter_map(after).min()
    }

    /// Takes the changes as far as workers have come. `dead` are those whose processes have ended.
    pub(super) fn look(&mut self, dead: &BTreeSet<usize>) -> Result<()> {
        for place in 0..self.changes.len() {
            if self.changes[place].step == Step::Wait && self.has_its_turn(place, dead) {
                self.start(place)?;
            }
            self.end_flows(place, dead)?;
            while let Some(step) = self.next_step(&self.changes[place], dead) {
                match (self.changes[place].step, step) {
                    (Step::Begin, Step::Drain) => self.dismiss(place),
                    (Step::Gap { .. }, _) => self.open(place)?,
                    _ => {}
                }
                self.changes[place].step = step;
            }
            self.note_reload(place, dead);
        }
        Ok(())
    }

    /// Reports that the new workers of a reload have taken over, once the old ones take nothing new. Reloads are reported in their order: those
    /// reported so far are generations.
    fn note_reload(&mut self, place: usize, dead: &BTreeSet<usize>) {
        let change = &self.changes[place];
        let mut alive = change.old.iter().filter(|worker| !dead.contains(worker));
        let has_begun = matches!(change.step, Step::Drain | Step::Over { .. });
        let is_next = self.changes[..place].iter().all(|earlier| !earlier.takes_over);
        if change.takes_over && has_begun && is_next && alive.all(|worker| self.control.life(*worker).closed_ns != 0) {
            self.changes[place].takes_over = false;
            self.control.reloaded();
        }
    }

    /// Ends the time for which the old workers of a change keep their flows, once all know that they do: nothing comes to them any more when they
    /// are told.
    fn end_flows(&mut self, place: usize, dead: &BTreeSet<usize>) -> Result<()> {
        let change = &mut self.changes[place];
        let mut alive = change.old.iter().filter(|worker| !dead.contains(worker));
        if !alive.all(|worker| self.control.life(*worker).closed_ns != 0) {
            return Ok(());
        }
        let Some(until_ns) = change.keeps_until_ns.take_if(|until_ns| *until_ns <= clock::monotonic_ns()) else {
            return Ok(());
        };
        if let Some(worker) = change.old.first() {
            self.later
                .retire(self.crew.workers[*worker].listeners)
                .context("taking the old sockets from the program")?;
        }
        let order = Order::Leave { until_ns, listener: Fate::Closes };
        change.old.iter().for_each(|worker| self.control.tell(*worker, order));
        Ok(())
    }

    /// Whether all earlier changes have brought their workers.
    fn has_its_turn(&self, place: usize, dead: &BTreeSet<usize>) -> bool {
        self.changes[..place].iter().all(|change| match change.step {
            Step::Wait | Step::Begin | Step::Close { .. } | Step::Gap { .. } => false,
            Step::Drain => self.all_serve(change, dead),
            Step::Over { .. } | Step::Lasts => true,
        })
    }

    /// Whether all new workers of a change accept, but for those that have died.
    fn all_serve(&self, change: &Change, dead: &BTreeSet<usize>) -> bool {
        change.new.iter().all(|worker| dead.contains(worker) || self.control.life(*worker).serving_ns != 0)
    }

    /// The step that a change that has begun can take.
    fn next_step(&self, change: &Change, dead: &BTreeSet<usize>) -> Option<Step> {
        let life = |worker: &usize| self.control.life(*worker);
        let alive = || change.old.iter().filter(|worker| !dead.contains(worker));
        let all_serve = || self.all_serve(change, dead);
        match change.step {
            Step::Begin if !all_serve() => None,
            Step::Begin => Some(if change.old.is_empty() { Step::Lasts } else { Step::Drain }),
            Step::Close { gap_ns } => {
                let closed = alive().all(|worker| life(worker).closed_ns != 0);
                let last_ns = change.old.iter().map(|worker| life(worker).closed_ns).max().unwrap_or(0);
                closed.then_some(Step::Gap { until_ns: last_ns + gap_ns })
            }
            Step::Gap { until_ns } => (clock::monotonic_ns() >= until_ns).then_some(Step::Drain),
            Step::Drain => {
                let left = alive().all(|worker| life(worker).left_ns != 0);
                let left_ns = change.old.iter().map(|worker| life(worker).left_ns);
                let served_ns = change.new.iter().map(|worker| life(worker).serving_ns);
                let at_ns = left_ns.chain(served_ns).max().unwrap_or(0);
                (left && all_serve()).then_some(Step::Over { at_ns })
            }
            Step::Wait | Step::Over { .. } | Step::Lasts => None,
        }
    }

    /// What has become of a change.
    pub(super) fn passage(&self, event: usize) -> Option<Passage> {
        let change = self.changes.iter().find(|change| change.event == event)?;
        let over_ns = if let Step::Over { at_ns } = change.step { Some(at_ns) } else { None };
        let lives: Vec<_> = change.old.iter().map(|worker| self.control.life(*worker)).collect();
        let closed_ns = lives.iter().map(|life| life.closed_ns).filter(|at_ns| *at_ns != 0).min();
        let left_ns = over_ns.and_then(|_| lives.iter().map(|life| life.left_ns).max());
        let before: Vec<usize> =
            (0..self.crew.workers.len()).filter(|worker| self.was_before(*worker, change)).collect();
        let mut numbers: Vec<usize> = before.iter().chain(&change.new).map(|worker| self.generation(*worker)).collect();
        numbers.dedup();
        let members = |generation: usize| {
            let all = before.iter().chain(&change.new).copied();
            all.filter(|worker| self.generation(*worker) == generation).collect()
        };
        Some(Passage {
            over_ns,
            drain_ns: closed_ns.zip(left_ns).map(|(closed_ns, left_ns)| left_ns.saturating_sub(closed_ns)),
            queued: change.closes.then(|| self.queued(change)).flatten(),
            generations: numbers.into_iter().map(|generation| (generation, members(generation))).collect(),
        })
    }

    /// The generation of a worker.
    pub(super) fn generation(&self, worker: usize) -> usize {
        self.crew.workers[worker].generation
    }

    /// Whether a worker served when a change began.
    fn was_before(&self, worker: usize, change: &Change) -> bool {
        if change.old.contains(&worker) {
            return true;
        }
        // Of a join or a leave, the others that serve.
        let is_new = change.new.contains(&worker);
        let first_new = change.new.first().copied().unwrap_or(usize::MAX);
        !is_new && worker < first_new && self.serving.contains(&worker)
    }

    /// What waited in the closed listeners: of those that workers shared, what the last of them saw.
    fn queued(&self, change: &Change) -> Option<u64> {
        let inodes: BTreeSet<u32> = change.old.iter().filter_map(|worker| self.inodes.get(*worker)).copied().collect();
        let last_of = |inode: &u32| {
            let sharing = change.old.iter().filter(|worker| self.inodes.get(**worker) == Some(inode));
            let seen = sharing.filter_map(|worker| self.control.life(*worker).queued);
            seen.max_by_key(|(_, read_ns)| *read_ns).map(|(length, _)| length)
        };
        if inodes.is_empty() { None } else { inodes.iter().map(last_of).sum() }
    }
}
