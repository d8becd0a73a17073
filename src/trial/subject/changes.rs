//! What events change about a server of somebody else: which of its processes each has brought, and when those before it had ended.

use std::{
    collections::{BTreeSet, HashMap},
    iter,
    rc::Rc,
};

use super::outside::{Id, Standing};
use crate::{
    load,
    observe::accepts::MemberSeen,
    record::{Counts, Done, EventKind, EventRow, Generation, LatencySummary, WaitEnd, WaitMethod},
};

/// The events so far, in order.
#[derive(Default)]
pub(super) struct Changes(Vec<Change>);

/// The server just before an event.
struct Change {
    /// All its processes.
    pids: BTreeSet<i32>,
    /// Those that served.
    serving: BTreeSet<i32>,
    /// What had been counted.
    standing: Standing,
    /// When those that served were found to have ended.
    drained_ns: Option<u64>,
}

/// What an event of another server changed, until the next one or the end of the trial.
#[derive(Debug, Default)]
pub struct Changed {
    /// Connections that were reset with their listener's queue; `None` if the probe cannot know.
    pub reset_in_queue: Option<u64>,
    /// What each generation accepted; empty if nobody counted.
    pub generations: Vec<Generation>,
    /// When the processes that had served before it had all ended, in nanoseconds of CLOCK_MONOTONIC.
    pub drained_ns: Option<u64>,
    /// Whether it could be done, and what became of its command.
    pub done: Option<Done>,
}

impl Changes {
    /// An event is about to happen to a server with these processes, of which some serve.
    pub fn begin(&mut self, pids: BTreeSet<i32>, serving: BTreeSet<i32>, standing: Standing) {
        self.0.push(Change { pids, serving, standing, drained_ns: None });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether processes from before an event may still end.
    pub fn is_draining(&self) -> bool {
        self.0.iter().any(|change| change.drained_ns.is_none() && !change.serving.is_empty())
    }

    /// Looks which of the processes are left.
    pub fn look(&mut self, now_ns: u64, is_alive: impl Fn(i32) -> bool) {
        for change in self.0.iter_mut().filter(|change| change.drained_ns.is_none() && !change.serving.is_empty()) {
            if !change.serving.iter().any(|pid| is_alive(*pid)) {
                change.drained_ns = Some(now_ns);
            }
        }
    }

    /// How many events a process is younger than: 0 if it was there before all of them.
    pub fn generation(&self, pid: i32) -> usize {
        self.0.iter().position(|change| change.pids.contains(&pid)).unwrap_or(self.0.len())
    }

    /// What each event changed, given how the server stands in the end. `tells_waits`: the probe knows each connection's.
    pub fn account(&self, end: &Standing, tells_waits: bool) -> Vec<Changed> {
        let ends = self.0.iter().skip(1).map(|change| &change.standing).chain([end]);
        let changed = |(change, after): (&Change, &Standing)| Changed {
            reset_in_queue: after
                .reset_in_queue
                .map(|after| after.saturating_sub(change.standing.reset_in_queue.unwrap_or(0))),
            generations: self.generations(&change.standing.seen, &after.seen, tells_waits),
            drained_ns: change.drained_ns,
            done: None,
        };
        self.0.iter().zip(ends).map(changed).collect()
    }

    /// What was accepted between two instants, by generation.
    fn generations(
        &self,
        before: &Rc<HashMap<Id, MemberSeen>>,
        after: &Rc<HashMap<Id, MemberSeen>>,
        tells_waits: bool,
    ) -> Vec<Generation> {
        let mut all: Vec<(usize, u64, BTreeSet<WaitEnd>, Counts)> = Vec::new();
        for (id, seen) in after.iter() {
            let earlier = before.get(id);
            let accepted = seen.accepted - earlier.map_or(0, |earlier| earlier.accepted);
            if accepted == 0 {
                continue;
            }
            let generation = self.generation(id.0);
            let place = all.iter().position(|(known, ..)| *known == generation).unwrap_or_else(|| {
                all.push((generation, 0, BTreeSet::new(), load::counts(iter::empty())));
                all.len() - 1
            });
            let (_, sum, ends, waits) = &mut all[place];
            *sum += accepted;
            ends.insert(seen.ends);
            waits.add(&earlier.map_or_else(|| seen.waits.clone(), |earlier| seen.waits.since(&earlier.waits)));
        }
        all.sort_unstable_by_key(|(generation, ..)| *generation);
        let row = |(generation, accepted, ends, waits): (usize, u64, BTreeSet<WaitEnd>, _)| {
            let ends = ends.first().copied().filter(|_| ends.len() == 1);
            let summary = LatencySummary { ends, ..LatencySummary::of_waits(&waits, 0, WaitMethod::Tracepoint) };
            Generation { generation, accepted, accept_wait: tells_waits.then_some(summary) }
        };
        all.into_iter().map(row).collect()
    }
}

/// Enters what became of the events of another server, which are given in order.
pub fn enter(changed: Vec<Changed>, start_ns: u64, rows: &mut [EventRow]) {
    let mut rows: Vec<&mut EventRow> =
        rows.iter_mut().filter(|row| matches!(row.kind, EventKind::Signal | EventKind::Exec)).collect();
    rows.sort_by(|one, other| one.at_s.total_cmp(&other.at_s));
    // Resets in a queue whose clients have not noticed yet.
    let mut unnoticed = 0;
    for (row, Changed { reset_in_queue, generations, drained_ns, done }) in rows.into_iter().zip(changed) {
        row.lost.reset_in_queue = reset_in_queue;
        unnoticed += reset_in_queue.unwrap_or(0);
        // The loaders see both alike, and may see them after the next event.
        if let Some(broken) = &mut row.lost.cut {
            let noticed = unnoticed.min(*broken);
            unnoticed -= noticed;
            *broken -= noticed;
        }
        row.generations = generations;
        row.done = done;
        row.drain_s = drained_ns.map(|drained_ns| drained_ns.saturating_sub(start_ns) as f64 / 1e9 - row.at_s);
        row.lasted_s = row.drain_s.unwrap_or(row.lasted_s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Lost;

    fn changes(events: &[(&[i32], &[i32])]) -> Changes {
        let set = |pids: &[i32]| pids.iter().copied().collect();
        let mut changes = Changes::default();
        for (pids, serving) in events {
            changes.begin(set(pids), set(serving), Standing::default());
        }
        changes
    }

    #[test]
    fn a_process_belongs_to_the_event_after_which_it_appeared() {
        // A master and its worker; each reload brings another worker.
        let changes = changes(&[(&[1, 2], &[2]), (&[1, 2, 3], &[2, 3]), (&[1, 4], &[4])]);
        let generations = [1, 2, 3, 4, 5].map(|pid| changes.generation(pid));
        assert_eq!(generations, [0, 0, 1, 2, 3]);
    }

    #[test]
    fn an_event_is_over_once_all_that_served_before_it_have_ended() {
        let mut changes = changes(&[(&[1, 2, 3], &[2, 3]), (&[1, 3, 4], &[3, 4])]);
        let drained = |changes: &Changes| changes.0.iter().map(|change| change.drained_ns).collect::<Vec<_>>();
        changes.look(11, |pid| pid != 2);
        assert_eq!((drained(&changes), changes.is_draining()), (vec![None, None], true));
        changes.look(12, |pid| pid == 4);
        changes.look(13, |pid| pid == 4);
        assert_eq!((drained(&changes), changes.is_draining()), (vec![Some(12), None], true));
        changes.look(14, |_| false);
        assert_eq!((drained(&changes), changes.is_draining()), (vec![Some(12), Some(14)], false));
    }

    #[test]
    fn where_nobody_is_known_to_serve_nobody_is_waited_for() {
        let mut changes = changes(&[(&[1], &[])]);
        changes.look(5, |_| false);
        assert_eq!((changes.is_draining(), changes.0[0].drained_ns), (false, None));
    }

    #[test]
    fn what_clients_notice_after_the_next_event_was_reset_before_it() {
        let row = |at_s, broken| EventRow {
            kind: EventKind::Signal,
            at_s,
            lost: Lost { cut: Some(broken), ..Lost::default() },
            ..EventRow::default()
        };
        let changed = |reset| Changed { reset_in_queue: Some(reset), ..Changed::default() };
        // Of 27 that broke, 25 had been reset while they waited; most clients noticed later.
        let mut rows = [row(0.1, 4), row(0.2, 23), row(0.3, 0)];
        enter(vec![changed(25), changed(0), changed(0)], 0, &mut rows);
        assert_eq!(
            rows.map(|row| (row.lost.reset_in_queue, row.lost.cut)),
            [(Some(25), Some(0)), (Some(0), Some(2)), (Some(0), Some(0))]
        );
    }
}
