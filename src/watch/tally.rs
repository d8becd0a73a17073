//! Adds up what was seen of listeners and members, and turns it into looks. Nothing here asks the kernel.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
};

use super::{
    exposure::Exposure,
    judge::{Watched, WatchedMember},
    look::{ListenerLook, MemberLook, SocketLook, WaitLook},
};
use crate::{
    observe::{
        accepts::MemberSeen,
        holder::Process,
        listeners::{Listener, Place},
        processes::Task,
        queues::Queue,
    },
    record::{Counts, WaitEnd},
    sys::clock::CpuUse,
};

/// A process or thread, as it accepts from one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Who {
    pub place: Place,
    pub pid: i32,
    pub tid: i32,
}

/// What is seen at the end of an interval, besides the queues.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Length of the interval, in seconds.
    pub interval_s: f64,
    /// The processes that have a socket, by its inode.
    pub holders: HashMap<u64, Vec<Process>>,
    /// The processes and threads that still exist, by process id and thread id.
    pub tasks: HashMap<(i32, i32), Task>,
    /// What each of them has used of the processors.
    pub used: HashMap<(i32, i32), CpuUse>,
    /// Open connections by place; `None` if they cannot be read.
    pub open: Option<HashMap<Place, u64>>,
    /// Open connections by place and process, of the processes that this user may see.
    pub open_of: HashMap<(Place, i32), u64>,
    /// What each member did; `None` if that cannot be counted.
    pub counts: Option<Vec<MemberSeen>>,
}

/// A socket since the beginning.
#[derive(Debug, Clone)]
pub(super) struct SocketTally {
    /// As last seen.
    pub listener: Listener,
    /// Whether the last sample found it.
    pub present: bool,
    /// Over the whole time.
    pub all: Samples,
    /// Over the interval.
    pub interval: Samples,
    /// The processes that had it when they were last looked for.
    pub holders: Vec<Process>,
}

/// Samples of a queue.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Samples {
    pub count: u64,
    pub full: u64,
    pub length_sum: u64,
    pub peak: u32,
    pub drops: u64,
}

impl Samples {
    fn add(&mut self, listener: &Listener, drops: u32) {
        self.count += 1;
        self.full += u64::from(listener.queue.is_full());
        self.length_sum += u64::from(listener.queue.length);
        self.peak = self.peak.max(listener.queue.length);
        self.drops += u64::from(drops);
    }

    pub(super) fn full_share(&self) -> f64 {
        self.full as f64 / self.count.max(1) as f64
    }
}

/// What a member did since the beginning.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    pub comm: String,
    pub accepted: u64,
    /// Of these, without a known wait: they were waiting before the observation began.
    pub unstamped: u64,
    /// Calls of accept that found nothing.
    pub eagain: u64,
    pub emfile: u64,
    pub open: u64,
    pub open_peak: u64,
    /// Where its waits end; `None` without accepts.
    pub ends: Option<WaitEnd>,
    /// `None` without accepts.
    pub waits: Option<Counts>,
}

impl Counted {
    /// Adds what it did at one address. A ring that accepts for a listener on every address does so at several.
    fn add(&mut self, seen: MemberSeen) {
        self.comm = seen.comm;
        self.accepted += seen.accepted;
        self.unstamped += seen.unstamped;
        self.eagain += seen.eagain;
        self.emfile += seen.emfile;
        self.open += seen.open;
        self.open_peak += seen.open_peak;
        if seen.accepted > 0 {
            let only_rings = self.ends.is_none_or(|ends| ends == seen.ends);
            self.ends = Some(if only_rings { seen.ends } else { WaitEnd::Accept });
            match &mut self.waits {
                Some(waits) => waits.add(&seen.waits),
                None => self.waits = Some(seen.waits),
            }
        }
    }
}

/// A member since the beginning.
#[derive(Debug, Clone)]
pub(super) struct MemberTally {
    /// In order of first appearance, from 0.
    pub order: usize,
    pub comm: String,
    /// The last that /proc had of it.
    pub task: Option<Task>,
    /// Whether /proc still has it.
    pub alive: bool,
    /// `None` if nothing is counted.
    pub count: Option<Counted>,
    pub is_parent: bool,
    /// What it has used of the processors: when it was first seen, and when it was last.
    pub used: Option<[CpuUse; 2]>,
    /// Its accepts in the interval, if they are counted.
    pub accepted_now: u64,
    waits_now: Option<WaitLook>,
    pub open: Option<u64>,
}

/// The time that a look is about.
#[derive(Clone, Copy)]
struct Span {
    seconds: f64,
    samples: fn(&SocketTally) -> &Samples,
    accepted: fn(&MemberTally) -> u64,
    waits: fn(&MemberTally) -> Option<WaitLook>,
}

/// Everything since the beginning.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// By cookie.
    pub sockets: BTreeMap<u64, SocketTally>,
    pub members: BTreeMap<Who, MemberTally>,
    sampled: bool,
    /// Members so far.
    appeared: usize,
    open: Option<HashMap<Place, u64>>,
    interval_s: f64,
}

impl Tally {
    /// Takes in a sample of the listeners.
    pub(super) fn sample(&mut self, listeners: &[Listener]) {
        self.sockets.values_mut().for_each(|socket| socket.present = false);
        for listener in listeners {
            // A listener opened while others are watched has dropped nothing before.
            let before = if self.sampled { 0 } else { listener.queue.drops };
            let socket = self.sockets.entry(listener.cookie).or_insert_with(|| SocketTally {
                listener: Listener { queue: Queue { drops: before, ..listener.queue }, ..*listener },
                present: true,
                all: Samples::default(),
                interval: Samples::default(),
                holders: Vec::new(),
            });
            // The kernel's counter wraps.
            let drops = listener.queue.drops.wrapping_sub(socket.listener.queue.drops);
            socket.all.add(listener, drops);
            socket.interval.add(listener, drops);
            (socket.listener, socket.present) = (*listener, true);
        }
        self.sampled = true;
    }

    /// The places where somebody listens.
    pub(super) fn places(&self) -> BTreeSet<Place> {
        self.present().map(|socket| socket.listener.place).collect()
    }

    /// The inodes of the sockets.
    pub(super) fn inodes(&self) -> impl Iterator<Item = u64> {
        self.present().map(|socket| u64::from(socket.listener.inode))
    }

    /// The addresses of the listeners with a socket whose processes were not found.
    pub(super) fn unseen(&self) -> BTreeSet<SocketAddr> {
        let unseen = self.present().filter(|socket| socket.holders.is_empty());
        unseen.map(|socket| socket.listener.place.address).collect()
    }

    fn present(&self) -> impl Iterator<Item = &SocketTally> {
        self.sockets.values().filter(|socket| socket.present)
    }

    /// Takes in the end of an interval.
    pub(super) fn see(&mut self, seen: Seen) {
        for socket in self.sockets.values_mut().filter(|socket| socket.present) {
            socket.holders = seen.holders.get(&u64::from(socket.listener.inode)).cloned().unwrap_or_default();
        }
        let counted = seen.counts.is_some();
        let mut now: BTreeMap<Who, Option<Counted>> = BTreeMap::new();
        for member in seen.counts.into_iter().flatten() {
            if let Some(place) = self.place_of(&member) {
                let who = Who { place, pid: member.pid, tid: member.tid };
                now.entry(who).or_default().get_or_insert_default().add(member);
            }
        }
        for (place, process) in self.held() {
            if !now.keys().any(|who| (who.place, who.pid) == (place, process.pid)) {
                let who = Who { place, pid: process.pid, tid: process.pid };
                let nothing = counted.then(|| Counted { comm: process.name, ..Counted::default() });
                now.insert(who, nothing);
            }
        }
        // Whoever closed its listener, or is known by its threads since it began to accept.
        self.members.retain(|who, member| now.contains_key(who) || member.accepted() > 0);
        for (who, member) in &mut self.members {
            member.alive = seen.tasks.contains_key(&(who.pid, who.tid));
            (member.accepted_now, member.waits_now, member.open) = (0, None, None);
        }
        let parent = |who: &Who| Some((who.place, seen.tasks.get(&(who.pid, who.pid))?.parent));
        let parents: BTreeSet<(Place, i32)> = now.keys().filter_map(parent).collect();
        let mut threads: HashMap<(Place, i32), usize> = HashMap::new();
        now.keys().for_each(|who| *threads.entry((who.place, who.pid)).or_default() += 1);
        for (who, count) in now {
            let process = (who.place, who.pid);
            let by_process = seen.open_of.get(&process).copied().filter(|_| threads[&process] == 1);
            let open = by_process.or(count.as_ref().map(|count| count.open));
            let before = self.members.remove(&who);
            let task = seen.tasks.get(&(who.pid, who.tid)).cloned();
            let used = seen.used.get(&(who.pid, who.tid)).copied();
            let used = match (before.as_ref().and_then(|before| before.used.as_ref()), used) {
                (Some([first, _]), Some(last)) => Some([*first, last]),
                (Some(both), None) => Some(*both),
                (None, used) => used.map(|used| [used, used]),
            };
            let order = before.as_ref().map_or(self.appeared, |before| before.order);
            self.appeared = self.appeared.max(order + 1);
            let is_parent = parents.contains(&process);
            let member = MemberTally { used, order, is_parent, ..MemberTally::new(before, count, task, open) };
            self.members.insert(who, member);
        }
        self.open = seen.open;
        self.interval_s = seen.interval_s;
    }

    /// The socket that a member accepts from: one that its process has or, if that is not seen, the only one.
    pub(super) fn socket_of(&self, who: &Who) -> Option<(&u64, &SocketTally)> {
        let of_place = || self.sockets.iter().filter(|(_, socket)| socket.listener.place == who.place);
        let held = of_place().find(|(_, socket)| socket.holders.iter().any(|process| process.pid == who.pid));
        held.or_else(|| of_place().next().filter(|_| of_place().count() == 1))
    }

    /// The processes that have a listener, by place.
    fn held(&self) -> BTreeSet<(Place, Process)> {
        let held = self
            .present()
            .flat_map(|socket| socket.holders.iter().map(|process| (socket.listener.place, process.clone())));
        held.collect()
    }

    /// Where a member accepts: the listener that gets connections to the address or, if that is unknown, the only one that it has.
    fn place_of(&self, count: &MemberSeen) -> Option<Place> {
        let places = || self.sockets.values().map(|socket| socket.listener.place);
        match count.listener {
            Some(address) => Place::of_connections_to(address, places()).into_iter().next(),
            None => {
                let held = self.sockets.values().filter(|socket| socket.holders.iter().any(|one| one.pid == count.pid));
                held.map(|socket| socket.listener.place).next()
            }
        }
    }

    /// The listeners of a look, and the end of the interval: the next one's samples begin.
    pub(super) fn listeners(&mut self, device: impl Fn(u32) -> Option<String>) -> Vec<ListenerLook> {
        let places = self.places();
        let look = |place: &Place| self.listener(place, self.interval(), &device);
        let looks = places.iter().map(look).collect();
        self.sockets.values_mut().for_each(|socket| socket.interval = Samples::default());
        looks
    }

    /// All listeners so far, even those that are gone, over so many seconds since the beginning.
    pub(super) fn whole(&self, seconds: f64, device: impl Fn(u32) -> Option<String>) -> Vec<ListenerLook> {
        let places: BTreeSet<Place> = self.sockets.values().map(|socket| socket.listener.place).collect();
        let whole = Span {
            seconds,
            samples: |socket| &socket.all,
            accepted: MemberTally::accepted,
            waits: |member| {
                let count = member.count.as_ref()?;
                wait_look(count.waits.as_ref()?, count.ends)
            },
        };
        places.iter().map(|place| self.listener(place, whole, &device)).collect()
    }

    /// The interval that has just ended.
    fn interval(&self) -> Span {
        Span {
            seconds: self.interval_s,
            samples: |socket| &socket.interval,
            accepted: |member| member.accepted_now,
            waits: |member| member.waits_now,
        }
    }

    fn listener(&self, place: &Place, span: Span, device: impl Fn(u32) -> Option<String>) -> ListenerLook {
        let here = |socket: &&SocketTally| socket.listener.place == *place;
        let mut sockets: Vec<&SocketTally> = self.present().filter(here).collect();
        if sockets.is_empty() {
            sockets = self.sockets.values().filter(here).collect();
        }
        let sockets: Vec<SocketLook> = sockets.into_iter().map(|socket| socket.look((span.samples)(socket))).collect();
        let members: Vec<(&Who, &MemberTally)> = self.members.iter().filter(|(who, _)| who.place == *place).collect();
        let accepted: Option<u64> = members.iter().map(|(_, member)| Some(member.count.as_ref()?.accepted)).sum();
        let per_s = |accepts: u64| accepts as f64 / span.seconds.max(1e-9);
        let counted = members.iter().all(|(_, member)| member.count.is_some());
        let now: u64 = members.iter().map(|(_, member)| (span.accepted)(member)).sum();
        let mut looks: Vec<MemberLook> = members
            .into_iter()
            // Of those that have ended, only what they accepted matters.
            .filter(|(_, member)| member.alive || member.accepted() > 0)
            .map(|(who, member)| {
                let count = member.count.as_ref();
                let part = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
                MemberLook {
                    pid: who.pid,
                    tid: who.tid,
                    comm: member.comm.clone(),
                    state: member.task.as_ref().filter(|_| member.alive).map(|task| task.state),
                    supervises: member.supervises(),
                    accepted: count.map(|count| count.accepted),
                    accepts_per_s: count.map(|_| per_s((span.accepted)(member))),
                    share: count.zip(accepted).and_then(|(count, all)| part(count.accepted, all)),
                    accept_wait: (span.waits)(member),
                    unstamped: count.map(|count| count.unstamped),
                    eagain_per_accept: count.and_then(|count| part(count.eagain, count.accepted)),
                    open: member.open,
                }
            })
            .collect();
        looks.sort_by_key(|member| (member.supervises, Reverse(member.accepted), member.pid, member.tid));
        ListenerLook {
            address: place.address,
            reach: Exposure::of(place.address.ip()),
            dual_stack: place.dual_stack,
            device: device(place.device),
            open: self.open.as_ref().map(|open| open.get(place).copied().unwrap_or(0)),
            accepts_per_s: (counted && !looks.is_empty()).then(|| per_s(now)),
            sockets,
            members: looks,
        }
    }

    /// Every listener since the beginning, for the rules.
    pub(super) fn watched(&self, has_outside: bool) -> Vec<Watched> {
        let places: BTreeSet<Place> = self.sockets.values().map(|socket| socket.listener.place).collect();
        let watched = |place: &Place| {
            let sockets: Vec<&SocketTally> =
                self.sockets.values().filter(|socket| socket.listener.place == *place).collect();
            let sum = |of: fn(&Samples) -> u64| sockets.iter().map(|socket| of(&socket.all)).sum();
            let members = self.members.iter().filter(|(who, _)| who.place == *place);
            Watched {
                address: place.address,
                has_outside,
                samples: sum(|samples| samples.count),
                full: sum(|samples| samples.full),
                peak: sockets.iter().map(|socket| socket.all.peak).max().unwrap_or(0),
                limit: sockets.iter().map(|socket| socket.listener.queue.limit).max().unwrap_or(0),
                dropped: sum(|samples| samples.drops),
                members: members.map(|(who, member)| member.watched(who)).collect(),
            }
        };
        places.iter().map(watched).collect()
    }
}

impl SocketTally {
    fn look(&self, samples: &Samples) -> SocketLook {
        SocketLook {
            inode: self.listener.inode,
            cookie: self.listener.cookie,
            queue: self.listener.queue.length,
            queue_peak: samples.peak,
            limit: self.listener.queue.limit,
            full_share: samples.full_share(),
            drops: samples.drops,
            held_by: self.holders.iter().map(|process| process.pid).collect(),
        }
    }
}

impl MemberTally {
    fn new(before: Option<Self>, count: Option<Counted>, task: Option<Task>, open: Option<u64>) -> Self {
        let counted_before = before.as_ref().and_then(|before| before.count.as_ref());
        let (accepted_now, waits_now) = match &count {
            None => (0, None),
            Some(count) => {
                let accepted = count.accepted.saturating_sub(counted_before.map_or(0, |before| before.accepted));
                (accepted, gained(count, counted_before))
            }
        };
        let alive = task.is_some();
        let comm = task.as_ref().map(|task| &task.comm).or(count.as_ref().map(|count| &count.comm)).cloned();
        let comm = comm.or_else(|| before.as_ref().map(|before| before.comm.clone())).unwrap_or_default();
        let task = task.or_else(|| before.and_then(|before| before.task));
        let (order, used, is_parent) = (0, None, false);
        Self { order, comm, task, alive, count, is_parent, used, accepted_now, waits_now, open }
    }

    pub(super) fn accepted(&self) -> u64 {
        self.count.as_ref().map_or(0, |count| count.accepted)
    }

    /// Whether it is a master, as far as is known.
    pub(super) fn supervises(&self) -> bool {
        self.is_parent && self.accepted() == 0
    }

    fn watched(&self, who: &Who) -> WatchedMember {
        WatchedMember {
            pid: who.pid,
            tid: who.tid,
            comm: self.comm.clone(),
            state: self.task.as_ref().filter(|_| self.alive).map(|task| task.state),
            accepted: self.count.as_ref().map(|count| count.accepted),
            is_parent: self.is_parent,
        }
    }
}

/// The waits that a member gained; `None` if none.
fn gained(now: &Counted, before: Option<&Counted>) -> Option<WaitLook> {
    let waits = now.waits.as_ref()?;
    match before.and_then(|before| before.waits.as_ref()) {
        Some(before) => wait_look(&waits.since(before), now.ends),
        None => wait_look(waits, now.ends),
    }
}

/// Waits in short; `None` if there are none.
fn wait_look(waits: &Counts, ends: Option<WaitEnd>) -> Option<WaitLook> {
    let at = |quantile| waits.value_at(0, quantile);
    let ends = ends.unwrap_or(WaitEnd::Accept);
    Some(WaitLook { p50_ns: at(0.50)?, p99_ns: at(0.99)?, max_ns: waits.max(), ends })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16) -> Place {
        Place { address: ([127, 0, 0, 1], port).into(), dual_stack: false, device: 0 }
    }

    fn socket(cookie: u64, port: u16, length: u32, drops: u32) -> Listener {
        let queue = Queue { length, limit: 2, drops };
        Listener { place: place(port), inode: cookie as u32, cookie, queue }
    }

    fn count(pid: i32, tid: i32, accepted: u64) -> MemberSeen {
        let mut waits = Counts::new(1, 60_000_000_000, 2).unwrap();
        waits.extend((accepted > 0).then_some((1_000 * pid as u64, accepted)).into_iter());
        MemberSeen {
            pid,
            tid,
            comm: "nginx".to_owned(),
            listener: Some(place(80).address),
            accepted,
            outside: 0,
            foreign: 0,
            unstamped: 0,
            eagain: 2 * accepted,
            emfile: 0,
            open: 3,
            open_peak: 4,
            last_accept_ns: 0,
            ends: WaitEnd::Accept,
            waits,
        }
    }

    /// Everything but the queues: who has socket 7, with their parents, and what was counted.
    fn seen(holders: &[(i32, i32)], counts: Option<Vec<MemberSeen>>) -> Seen {
        let process = |(pid, _): &(i32, i32)| Process { pid: *pid, name: "nginx".to_owned() };
        let task =
            |(pid, parent): &(i32, i32)| ((*pid, *pid), Task { comm: "nginx".to_owned(), state: 'S', parent: *parent });
        let threads = counts
            .iter()
            .flatten()
            .map(|count| ((count.pid, count.tid), Task { comm: "nginx".to_owned(), state: 'S', parent: 1 }));
        let mut tasks: HashMap<(i32, i32), Task> = threads.collect();
        tasks.extend(holders.iter().map(task));
        let holders = HashMap::from([(7, holders.iter().map(process).collect())]);
        Seen { interval_s: 2.0, holders, tasks, open: Some(HashMap::new()), counts, ..Seen::default() }
    }

    fn tally() -> Tally {
        let mut tally = Tally::default();
        tally.sample(&[socket(7, 80, 0, 0)]);
        tally
    }

    fn members(tally: &mut Tally) -> Vec<MemberLook> {
        tally.listeners(|_| None).remove(0).members
    }

    #[test]
    fn drops_are_those_since_the_beginning() {
        let mut tally = Tally::default();
        tally.sample(&[socket(7, 80, 1, u32::MAX)]);
        // The counter wraps, and a new socket begins at 0.
        tally.sample(&[socket(7, 80, 3, 1), socket(8, 81, 0, 4)]);
        tally.see(Seen::default());
        let looks = tally.listeners(|_| None);
        assert_eq!(looks.iter().map(ListenerLook::drops).collect::<Vec<_>>(), [2, 4]);
        let one = &looks[0].sockets[0];
        assert_eq!((one.queue, one.queue_peak, one.full_share), (3, 3, 0.5));
        // The next interval begins without any.
        tally.sample(&[socket(7, 80, 0, 1)]);
        tally.see(Seen::default());
        let looks = tally.listeners(|_| None);
        assert_eq!((looks.len(), looks[0].drops(), looks[0].queue_peak()), (1, 0, 0));
        assert_eq!((tally.watched(true)[0].dropped, tally.watched(true)[0].full), (2, 1));
    }

    #[test]
    fn rates_are_of_the_interval_and_shares_of_the_whole() {
        let mut tally = tally();
        tally.see(seen(&[(12, 1), (13, 1)], Some(vec![count(12, 12, 30), count(13, 13, 10)])));
        tally.see(seen(&[(12, 1), (13, 1)], Some(vec![count(12, 12, 30), count(13, 13, 70)])));
        let [busy, idle] = &members(&mut tally)[..] else { panic!() };
        assert_eq!((busy.pid, busy.accepted, busy.accepts_per_s, busy.share), (13, Some(70), Some(30.0), Some(0.7)));
        assert_eq!((idle.accepts_per_s, idle.share, idle.eagain_per_accept), (Some(0.0), Some(0.3), Some(2.0)));
        assert!(idle.accept_wait.is_none() && busy.accept_wait.is_some_and(|wait| wait.p50_ns.abs_diff(13_000) < 150));
    }

    #[test]
    fn the_whole_has_what_is_over() {
        let mut tally = tally();
        tally.sample(&[socket(7, 80, 3, 5)]);
        tally.see(seen(&[(12, 1)], Some(vec![count(12, 12, 40)])));
        tally.listeners(|_| None);
        // Nothing more happens, then the listener is closed.
        for rest in [&[socket(7, 80, 0, 5)][..], &[]] {
            tally.sample(rest);
            tally.see(seen(&[], Some(vec![count(12, 12, 40)])));
            let [now, whole] = [tally.listeners(|_| None), tally.whole(8.0, |_| None)];
            assert_eq!(now.len(), rest.len());
            let [one] = &whole[..] else { panic!("{whole:?}") };
            assert_eq!((one.queue_peak(), one.drops(), one.accepts_per_s), (3, 5, Some(5.0)));
            let member = &one.members[0];
            assert_eq!((member.accepted, member.accepts_per_s), (Some(40), Some(5.0)));
            assert!(member.accept_wait.is_some_and(|wait| wait.max_ns.abs_diff(12_000) < 150), "{member:?}");
        }
    }

    #[test]
    fn who_has_accepted_nothing_is_listed_until_its_threads_do() {
        let mut tally = tally();
        tally.see(seen(&[(12, 1)], Some(Vec::new())));
        let idle = members(&mut tally);
        assert_eq!((idle.len(), idle[0].tid, idle[0].accepted, idle[0].share), (1, 12, Some(0), None));
        tally.see(seen(&[(12, 1)], Some(vec![count(12, 14, 5), count(12, 15, 6)])));
        let threads = members(&mut tally);
        assert_eq!(threads.iter().map(|one| (one.tid, one.open)).collect::<Vec<_>>(), [(15, Some(3)), (14, Some(3))]);
        // Uncounted, it is the process alone.
        let mut uncounted = Tally::default();
        uncounted.sample(&[socket(7, 80, 0, 0)]);
        uncounted.see(seen(&[(12, 1)], None));
        let process = members(&mut uncounted);
        assert_eq!((process[0].accepted, process[0].accepts_per_s), (None, None));
    }

    #[test]
    fn what_a_member_accepted_outlives_it() {
        let mut tally = tally();
        tally.see(seen(&[(11, 1), (12, 11), (13, 11)], Some(vec![count(12, 12, 30)])));
        let [watched] = &tally.watched(false)[..] else { panic!() };
        assert_eq!(watched.members.iter().map(|one| one.is_parent).collect::<Vec<_>>(), [true, false, false]);
        // It is listed last, whoever has accepted how much.
        let listed = members(&mut tally).iter().map(|one| (one.pid, one.supervises)).collect::<Vec<_>>();
        assert_eq!(listed, [(12, false), (13, false), (11, true)]);
        let mut gone = seen(&[(11, 1)], Some(vec![count(12, 12, 30)]));
        gone.tasks.remove(&(12, 12));
        tally.see(gone);
        let left = members(&mut tally);
        assert_eq!(left.iter().map(|one| (one.pid, one.state)).collect::<Vec<_>>(), [(12, None), (11, Some('S'))]);
    }
}
