//! A server that is not listenbench's own, as it shows itself from outside: to the probe, to sock_diag and in /proc.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    iter,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use strum::VariantArray;

use super::{
    Ended, Finished, Subject,
    changes::Changes,
    holders::{Held, Holder, Holders},
};
use crate::{
    format,
    ipc::control::{Count, Window},
    load,
    observe::{
        accepts::{Accepts, Filter, Level, MemberSeen, Ours},
        processes::{self, Task},
        queues::ServerQueues,
    },
    record::{
        self, CountedBy, Counts, Done, Exit, HelperRow, LatencySummary, ProbeLevel, ProbeRow, WaitEnd, WaitMethod,
        WorkerCounts,
    },
    scenario::{Act, Probe, Scenario, Transport},
    sys::clock::{self, CpuUse},
    trial::{Histograms, rows::TICK_NS},
};

/// Members that the probe has room for. Those beyond are counted as lost.
const CAPACITY: usize = 1_024;
/// How often it is looked at: at every sample of its counts, just before.
const LOOK_NS: u64 = TICK_NS;
/// How often processes are looked for that an event may end.
const DRAIN_LOOK_NS: u64 = 10_000_000;
/// How long the server may take to empty its queues once the load has ended, if it makes progress.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// After this long without any progress, what waits is left.
const STUCK: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A process or a thread.
pub(super) type Id = (i32, i32);

/// What the probe counts, or why there is none.
pub(super) struct Probing {
    pub accepts: Option<Accepts>,
    pub level: ProbeLevel,
    /// What cannot be known, why, and how to get it.
    pub missing: Option<String>,
    on_unix: bool,
}

/// The server as it stood at one instant.
#[derive(Clone, Default)]
pub(super) struct Standing {
    pub seen: Rc<HashMap<Id, MemberSeen>>,
    used: HashMap<Id, CpuUse>,
    lost_events: u64,
    missed_runs: u64,
    aged_out: u64,
    /// `None` if the probe cannot know.
    pub reset_in_queue: Option<u64>,
}

/// The edges of the measured window.
#[derive(Debug, Clone, Copy)]
enum Edge {
    From,
    To,
}

/// What accepts, or could.
struct Member {
    id: Id,
    comm: String,
    /// The inodes of the listeners that its process holds: the same slice for all processes that hold the same.
    listeners: Rc<Held>,
    /// The state's letter, if it was stopped when the load had ended.
    stopped: Option<char>,
}

/// Watches a server of somebody else.
pub(super) struct Watch {
    address: SocketAddr,
    /// Whether its listeners are in this network.
    is_here: bool,
    probing: Probing,
    queues: ServerQueues,
    /// In the order in which they appeared.
    members: Vec<Member>,
    /// All processes of the server that hold its listeners.
    holders: Holders,
    /// Processes that cannot be the server's: our loaders.
    clients: Vec<i32>,
    /// The inodes of all its listeners.
    listeners: BTreeSet<u32>,
    at_start: Standing,
    at_from: Option<Standing>,
    at_to: Option<Standing>,
    now: Standing,
    /// Edges not passed yet, the next one last.
    ahead: Vec<(u64, Edge)>,
    next_look_ns: Option<u64>,
    /// Whether it has been looked at since the load began.
    looked: bool,
    /// When nothing was found to listen any more.
    ended_ns: Option<u64>,
    changes: Changes,
    next_drain_look_ns: u64,
}

impl Probing {
    /// Attaches a probe for what is accepted at an address in the calling process's network. Fails only if the scenario asks for a
    /// level that cannot be had.
    pub fn attach(wanted: Probe, filter: &Filter) -> Result<Self> {
        let on_unix = filter.on_unix;
        if wanted == Probe::Off {
            return Ok(Self { accepts: None, level: ProbeLevel::Off, missing: None, on_unix });
        }
        // `auto` is the name of none.
        let named = <&str>::from(wanted);
        let level = Level::VARIANTS.iter().copied().find(|level| <&str>::from(*level) == named);
        match Accepts::attach(level, filter, CAPACITY) {
            Ok((accepts, level)) => {
                let level = <&str>::from(level).parse().expect("record and probe spell levels alike");
                let missing = accepts.missing().map(str::to_owned);
                Ok(Self { accepts: Some(accepts), level, missing, on_unix })
            }
            Err(error) if level.is_none() => {
                let missing = format!("who accepted what, and accept waits: {}", format::causes(&error));
                Ok(Self { accepts: None, level: ProbeLevel::Off, missing: Some(missing), on_unix })
            }
            Err(error) => Err(error.context("`probe`")),
        }
    }

    /// Whether it tells connections apart, and so knows how long each has waited.
    pub fn knows_connections(&self) -> bool {
        matches!(self.level, ProbeLevel::Btf | ProbeLevel::Tracepoints)
    }

    /// Whether it knows how many are open: when a Unix socket's connection ends shows nowhere.
    pub fn knows_open(&self) -> bool {
        self.knows_connections() && !self.on_unix
    }
}

impl Watch {
    /// Watches what accepts at an address in the calling process's network. Connections that are not ours are foreign.
    pub fn begin(scenario: &Scenario, ours: Ours<'_>) -> Result<Self> {
        let clients = ours.processes.to_vec();
        let filter = if scenario.unix.is_some() { Filter::unix()? } else { Filter::here(vec![scenario.address])? };
        let mut probing = Probing::attach(scenario.probe, &filter)?;
        if let Some(accepts) = &mut probing.accepts {
            accepts.ours(ours)?;
        }
        Ok(Self { clients, ..Self::with(probing, scenario)? })
    }

    /// Watches nothing: what accepts at the address is not in the calling process's network.
    pub fn blind(scenario: &Scenario) -> Result<Self> {
        let missing = "who accepted what, and accept waits: the server is not in this machine's network".to_owned();
        let probing = Probing { accepts: None, level: ProbeLevel::Off, missing: Some(missing), on_unix: false };
        Ok(Self { is_here: false, ..Self::with(probing, scenario)? })
    }

    fn with(probing: Probing, scenario: &Scenario) -> Result<Self> {
        Ok(Self {
            address: scenario.address,
            is_here: true,
            probing,
            queues: ServerQueues::of(scenario)?,
            members: Vec::new(),
            holders: Holders::default(),
            clients: Vec::new(),
            listeners: BTreeSet::new(),
            at_start: Standing::default(),
            at_from: None,
            at_to: None,
            now: Standing::default(),
            ahead: Vec::new(),
            next_look_ns: None,
            looked: false,
            ended_ns: None,
            changes: Changes::default(),
            next_drain_look_ns: 0,
        })
    }

    /// Whether anything listens there.
    pub fn is_listening(&mut self) -> Result<bool> {
        Ok(!self.queues.read()?.is_empty())
    }

    /// The processes that hold its listeners, by id.
    pub fn holders(&self) -> impl Iterator<Item = (i32, &str)> {
        self.holders.iter().map(|(pid, holder)| (pid, &holder.comm[..]))
    }

    /// The load is about to begin.
    fn begin_trial(&mut self, origin: &dyn Origin) -> Result<()> {
        self.find_holders(Some(origin))?;
        self.at_start = self.stand(origin)?;
        Ok(())
    }

    /// The load begins.
    fn expect(&mut self, window: Window) {
        if let Some(accepts) = &self.probing.accepts {
            accepts.measure(window);
        }
        self.ahead = vec![(window.measure_to_ns, Edge::To)];
        if window.measure_from_ns == window.start_ns {
            // To look then would be too late for the first connections.
            self.at_from = Some(self.at_start.clone());
        } else {
            self.ahead.push((window.measure_from_ns, Edge::From));
        }
        self.next_look_ns = Some(window.start_ns + LOOK_NS);
    }

    fn next_look_ns(&self) -> Option<u64> {
        let drain_ns = self.changes.is_draining().then_some(self.next_drain_look_ns);
        self.ahead.last().map(|(at_ns, _)| *at_ns).into_iter().chain(self.next_look_ns).chain(drain_ns).min()
    }

    /// An event is about to happen.
    fn begin_event(&mut self, origin: &dyn Origin) -> Result<()> {
        self.find_holders(Some(origin))?;
        self.see(origin)?;
        let pids: BTreeSet<i32> = origin.pids(self.holders.pids()).into_iter().collect();
        let parents = self.holders.parents();
        let accepts = |pid: i32| self.now.seen.iter().any(|(id, seen)| id.0 == pid && seen.accepted > 0);
        let serves = |pid: &i32| accepts(*pid) || self.holders.get(*pid).is_some() && !parents.contains(pid);
        let serving = pids.iter().copied().filter(serves).collect();
        self.changes.begin(pids, serving, self.now.clone());
        self.next_drain_look_ns = clock::monotonic_ns().saturating_add(DRAIN_LOOK_NS);
        Ok(())
    }

    /// Looks at it if that is due, and keeps how it stood at the edges of the window.
    fn look(&mut self, now_ns: u64, origin: &dyn Origin) -> Result<()> {
        while let Some((_, edge)) = self.ahead.pop_if(|(at_ns, _)| *at_ns <= now_ns) {
            let standing = self.stand(origin)?;
            match edge {
                Edge::From => self.at_from = Some(standing),
                Edge::To => self.at_to = Some(standing),
            }
        }
        if self.changes.is_draining() && self.next_drain_look_ns <= now_ns {
            self.next_drain_look_ns = now_ns.saturating_add(DRAIN_LOOK_NS);
            let is_alive = |pid| Task::read(pid, pid).is_some_and(|task| !matches!(task.state, 'Z' | 'X'));
            self.changes.look(clock::monotonic_ns(), is_alive);
        }
        if self.next_look_ns.is_some_and(|due_ns| due_ns <= now_ns) {
            self.next_look_ns = self.next_look_ns.map(|due_ns| next_on_grid(due_ns, now_ns));
            if self.is_here {
                self.look_for_listeners()?;
            }
            self.see(origin)?;
            if !self.looked {
                // A server may fork its workers after it begins to listen.
                self.find_holders(Some(origin))?;
                self.looked = true;
            }
            self.add_idle();
        }
        Ok(())
    }

    /// Looks whether anything listens. A server that an event has restarted has not ended.
    fn look_for_listeners(&mut self) -> Result<()> {
        if self.is_listening()? {
            self.ended_ns = self.ended_ns.filter(|_| self.changes.is_empty());
        } else {
            self.ended_ns.get_or_insert_with(clock::monotonic_ns);
        }
        Ok(())
    }

    /// What the probe has seen by now, and members that are new.
    fn see(&mut self, origin: &dyn Origin) -> Result<()> {
        let Some(accepts) = &mut self.probing.accepts else { return Ok(()) };
        let snapshot = accepts.read().context("reading the probe's counts")?;
        (self.now.lost_events, self.now.aged_out) = (snapshot.lost_events, snapshot.aged_out);
        (self.now.missed_runs, self.now.reset_in_queue) = (snapshot.missed_runs, snapshot.reset_in_queue);
        let mut members = snapshot.members;
        members.sort_unstable_by_key(|member| (member.pid, member.tid));
        for member in members.iter().filter(|member| member.accepted > 0) {
            let id = (member.pid, member.tid);
            if !self.members.iter().any(|known| known.id == id) {
                self.add(id, member.comm.clone(), origin)?;
            }
        }
        self.now.seen = Rc::new(members.into_iter().map(|member| ((member.pid, member.tid), member)).collect());
        Ok(())
    }

    /// Adds a member. A thread takes the place of a process whose first thread has not accepted anything.
    fn add(&mut self, id: Id, comm: String, origin: &dyn Origin) -> Result<()> {
        if self.holders.get(id.0).is_none() {
            self.find_holders(Some(origin))?;
        }
        let listeners = self.holders.get(id.0).map(|holder| Rc::clone(&holder.held)).unwrap_or_default();
        let member = Member { id, comm, listeners, stopped: None };
        let idle = (id.0, id.0);
        let accepted = |id: Id| self.now.seen.get(&id).is_some_and(|seen| seen.accepted > 0);
        match self.members.iter().position(|known| known.id == idle && id != idle && !accepted(idle)) {
            Some(place) => self.members[place] = member,
            None => self.members.push(member),
        }
        Ok(())
    }

    /// Adds the processes that hold a listener and have not accepted anything, unless they start those that do.
    fn add_idle(&mut self) {
        let parents = self.holders.parents();
        let idle = self
            .holders
            .iter()
            .filter(|(pid, _)| !parents.contains(pid) && !self.members.iter().any(|member| member.id.0 == *pid));
        let idle: Vec<Member> = idle.map(|(pid, holder)| member(pid, holder)).collect();
        self.members.extend(idle);
    }

    /// Finds the listeners and the processes that hold them.
    pub fn find_holders(&mut self, origin: Option<&dyn Origin>) -> Result<()> {
        let inodes: HashSet<u64> = self.queues.read()?.into_keys().map(u64::from).collect();
        self.listeners = inodes.iter().map(|inode| *inode as u32).collect();
        if let Some(accepts) = self.probing.accepts.as_mut().filter(|_| self.probing.on_unix) {
            accepts.listen(&self.listeners)?;
        }
        self.holders.find(inodes, &origin.map_or_else(Vec::new, |origin| origin.pids(Vec::new())), &self.clients);
        Ok(())
    }

    /// How it stands now.
    fn stand(&mut self, origin: &dyn Origin) -> Result<Standing> {
        self.see(origin)?;
        let of_members = self.members.iter().map(|member| member.id.0);
        let pids: BTreeSet<i32> = origin.pids(self.holders.pids()).into_iter().chain(of_members).collect();
        let threads = pids.into_iter().flat_map(|pid| processes::threads(pid).into_iter().map(move |tid| (pid, tid)));
        let used = threads.filter_map(|(pid, tid)| Some(((pid, tid), processes::thread_use(pid, tid)?))).collect();
        Ok(Standing { seen: Rc::clone(&self.now.seen), used, ..self.now })
    }

    /// The load has ended: waits until the server has accepted what waits in its queues, or makes no more progress.
    fn drain(&mut self, origin: &dyn Origin) -> Result<()> {
        let begun = Instant::now();
        let mut last = (u64::MAX, begun);
        loop {
            let waiting: u64 = self.queues.read()?.values().map(|queue| u64::from(queue.length)).sum();
            if waiting != last.0 {
                last = (waiting, Instant::now());
            }
            if waiting == 0 || last.1.elapsed() > STUCK || begun.elapsed() > DRAIN_PATIENCE {
                break;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        // A connection leaves its queue a moment before the call that takes it returns.
        std::thread::sleep(LOOK_AGAIN);
        self.look(u64::MAX, origin)?;
        self.find_holders(Some(origin))?;
        self.now = self.stand(origin)?;
        self.add_idle();
        for member in &mut self.members {
            // A process may be given its name after it began to listen.
            if let Some(task) = Task::read(member.id.0, member.id.1) {
                member.comm = task.comm;
                member.stopped = Some(task.state).filter(|state| processes::is_stopped(*state));
            }
        }
        Ok(())
    }

    fn count(&self, member: usize, count: Count) -> Option<u64> {
        self.probing.accepts.as_ref()?;
        let id = self.members[member].id;
        let seen = self.now.seen.get(&id);
        let grown = |of: fn(&MemberSeen) -> u64| seen.map_or(0, of) - self.at_start.seen.get(&id).map_or(0, of);
        match count {
            Count::Accepted => Some(grown(|seen| seen.accepted)),
            Count::AcceptEagain => Some(grown(|seen| seen.eagain)),
            Count::Emfile => Some(grown(|seen| seen.emfile)),
            Count::Open => self.probing.knows_open().then(|| seen.map_or(0, |seen| seen.open)),
            _ => None,
        }
    }

    fn last_accept_ns(&self) -> Option<u64> {
        self.probing.accepts.as_ref()?;
        Some(self.now.seen.values().map(|seen| seen.last_accept_ns).max().unwrap_or(0))
    }

    /// What it did, as far as that was seen.
    fn finish(mut self) -> Finished {
        let last: Vec<Member> = self
            .holders
            .iter()
            .filter(|(pid, _)| !self.members.iter().any(|member| member.id.0 == *pid))
            .map(|(pid, holder)| member(pid, holder))
            .collect();
        self.members.extend(last);
        let parents = self.holders.parents();
        let mut histograms = Histograms::new();
        let mut members = Vec::with_capacity(self.members.len());
        for number in 0..self.members.len() {
            let waits = self.waits(self.members[number].id);
            let mut ended = self.ended(number, &parents);
            ended.accept_wait = waits.as_ref().map(|(ends, waits)| LatencySummary {
                ends: *ends,
                ..LatencySummary::of_waits(waits, 0, WaitMethod::Tracepoint)
            });
            members.push(ended);
            if let Some((_, waits)) = waits.filter(|(_, waits)| !waits.is_empty()) {
                histograms.insert(format!("w{number}.accept_wait"), waits);
            }
        }
        let sum = |of: fn(&MemberSeen) -> u64| {
            let all = |standing: &Standing| standing.seen.values().map(of).sum::<u64>();
            self.probing.accepts.is_some().then(|| all(&self.now).saturating_sub(all(&self.at_start)))
        };
        let probe = ProbeRow {
            level: self.probing.level,
            accepts: sum(|seen| seen.accepted),
            unstamped: sum(|seen| seen.unstamped).filter(|_| self.probing.knows_connections()),
            lost_events: sum(|_| 0).map(|_| self.now.lost_events - self.at_start.lost_events),
            missed_runs: sum(|_| 0).map(|_| self.now.missed_runs - self.at_start.missed_runs),
            aged_out: sum(|_| 0).map(|_| self.now.aged_out - self.at_start.aged_out),
            reset_in_queue: self.now.reset_in_queue.map(|now| now - self.at_start.reset_in_queue.unwrap_or(0)),
            missing: self.probing.missing.clone(),
            members: Vec::new(),
        };
        let ends: BTreeSet<WaitEnd> =
            self.now.seen.values().filter(|seen| seen.accepted > 0).map(|seen| seen.ends).collect();
        let helper = self.rest().map(|row| (row, Vec::new()));
        let changed = self.changes.account(&self.now, self.probing.knows_connections());
        Finished {
            changed,
            members,
            helper,
            histograms,
            foreign: sum(|seen| seen.foreign),
            probe: Some(probe),
            ends,
            ended_ns: self.ended_ns,
            ..Finished::default()
        }
    }

    /// The waits of what a member accepted of the connections since the window began, and what ended them; `None` if they are not seen.
    fn waits(&self, id: Id) -> Option<(Option<WaitEnd>, Counts)> {
        if !self.probing.knows_connections() {
            return None;
        }
        let mut measured = load::counts(iter::empty());
        let now = self.now.seen.get(&id);
        if let Some(now) = now {
            let before = self.at_start.seen.get(&id);
            measured.add(&before.map_or_else(|| now.waits.clone(), |before| now.waits.since(&before.waits)));
        }
        Some((now.map(|now| now.ends), measured))
    }

    fn ended(&self, number: usize, parents: &HashSet<i32>) -> Ended {
        let Member { id, comm, .. } = &self.members[number];
        let counted = self.probing.accepts.is_some();
        let total = self.between(*id, Some(&self.at_start), Some(&self.now));
        let seen = self.now.seen.get(id);
        // Without an end, the window is still open.
        let measured = WorkerCounts {
            accepted: counted.then(|| accepted_in_window(self.at_start.seen.get(id), seen)),
            ..self.between(*id, self.at_from.as_ref(), self.at_to.as_ref().or(Some(&self.now)))
        };
        Ended {
            pid: id.0,
            tid: id.1,
            comm: comm.clone(),
            supervises: parents.contains(&id.0)
                && !self.now.seen.iter().any(|(other, seen)| other.0 == id.0 && seen.accepted > 0),
            exit: None,
            generation: self.changes.generation(id.0),
            stopped: self.members[number].stopped,
            by: if counted { CountedBy::Tracepoint } else { CountedBy::None },
            open_peak: (counted && self.probing.knows_open()).then(|| seen.map_or(0, |seen| seen.open_peak)),
            total,
            measured,
            ..Ended::default()
        }
    }

    /// What a member did between two instants. What it did before it was first seen is nothing.
    fn between(&self, id: Id, from: Option<&Standing>, to: Option<&Standing>) -> WorkerCounts {
        let seen = |standing: Option<&Standing>, of: fn(&MemberSeen) -> u64| {
            standing.and_then(|standing| standing.seen.get(&id)).map_or(0, of)
        };
        let counted = |of: fn(&MemberSeen) -> u64| {
            self.probing.accepts.as_ref().map(|_| seen(to, of).saturating_sub(seen(from, of)))
        };
        WorkerCounts {
            accepted: counted(|seen| seen.accepted),
            accept_eagain: counted(|seen| seen.eagain),
            emfile: counted(|seen| seen.emfile),
            ..self.used([id], from, to)
        }
    }

    /// What its processes and threads did that are not members, as one; `None` if there are none. Whatever is
    /// seen to accept is a member.
    fn rest(&self) -> Option<HelperRow> {
        let others = |standing: &Standing| -> Vec<Id> {
            let members: HashSet<Id> = self.members.iter().map(|member| member.id).collect();
            standing.used.keys().filter(|id| !members.contains(id)).copied().collect()
        };
        let (pid, _) = others(&self.now).into_iter().min()?;
        let of = |from, to: &Standing| WorkerCounts {
            accepted: self.probing.accepts.as_ref().map(|_| 0),
            accept_eagain: self.probing.accepts.as_ref().map(|_| 0),
            emfile: self.probing.accepts.as_ref().map(|_| 0),
            ..self.used(others(to), from, Some(to))
        };
        Some(HelperRow {
            pid,
            total: of(Some(&self.at_start), &self.now),
            measured: of(self.at_from.as_ref(), self.at_to.as_ref().unwrap_or(&self.now)),
            descriptors: None,
            exit: Exit::Ok,
        })
    }

    /// What threads used of the processors between two instants, together; unknown of one that has ended.
    fn used(
        &self,
        threads: impl IntoIterator<Item = Id> + Clone,
        from: Option<&Standing>,
        to: Option<&Standing>,
    ) -> WorkerCounts {
        let sum = |of: fn(&CpuUse) -> u64| {
            let at = |standing: Option<&Standing>, id: &Id| standing.and_then(|standing| standing.used.get(id)).map(of);
            let one = |id: Id| match (at(from, &id), at(to, &id)) {
                (before, Some(after)) => Some(after.saturating_sub(before.unwrap_or(0))),
                // One that began later had used nothing by then.
                (None, None) if self.now.used.contains_key(&id) => Some(0),
                _ => None,
            };
            threads.clone().into_iter().map(one).sum::<Option<u64>>()
        };
        WorkerCounts {
            cpu_user_ns: sum(|used| used.user_ns),
            cpu_system_ns: sum(|used| used.system_ns),
            voluntary_switches: sum(|used| used.voluntary_switches),
            involuntary_switches: sum(|used| used.involuntary_switches),
            ..WorkerCounts::default()
        }
    }
}

/// How many of the accepts since the trial began were in the window, by their own time: the window's edge is looked at late.
fn accepted_in_window(at_start: Option<&MemberSeen>, now: Option<&MemberSeen>) -> u64 {
    let inside = |seen: Option<&MemberSeen>| seen.map_or(0, |seen| seen.accepted.saturating_sub(seen.outside));
    inside(now).saturating_sub(inside(at_start))
}

/// Where a server of somebody else comes from, and what becomes of it.
pub(super) trait Origin {
    /// What the record says it is.
    fn describe(&self) -> record::Subject;

    /// Its processes, given those that hold its listeners.
    fn pids(&self, holders: Vec<i32>) -> Vec<i32>;

    /// Fails if it has ended.
    fn check_running(&mut self) -> Result<()>;

    /// Does what an event does to it, or has it done, given the processes that hold its listeners.
    fn act(&mut self, act: &Act, holders: &[i32]) -> Result<()>;

    /// The trial ends.
    fn end(self: Box<Self>) -> Ending;
}

/// What became of a server of somebody else.
#[derive(Default)]
pub(super) struct Ending {
    /// The process that the trial started.
    pub pid: Option<i32>,
    /// How that ended before it was stopped; `None` if it ran until then.
    pub exit: Option<Exit>,
    /// What it printed, if that could be seen.
    pub output: Option<String>,
    /// Its keeper, if that died, and how.
    pub dead: Option<(String, Exit)>,
    /// What became of each event, in order.
    pub done: Vec<Done>,
}

/// A server of somebody else, under test.
pub struct Outside {
    watch: Watch,
    origin: Box<dyn Origin>,
}

impl Outside {
    pub(super) fn new(watch: Watch, origin: impl Origin + 'static) -> Self {
        Self { watch, origin: Box::new(origin) }
    }
}

impl Subject for Outside {
    fn describe(&self) -> record::Subject {
        self.origin.describe()
    }

    fn address(&self) -> SocketAddr {
        self.watch.address
    }

    fn members(&self) -> usize {
        self.watch.members.len()
    }

    fn pids(&self) -> Vec<i32> {
        self.origin.pids(self.watch.holders.pids())
    }

    /// Somebody else's server knows nothing of a barrier.
    fn at_barrier(&self) -> usize {
        0
    }

    fn check_running(&mut self) -> Result<()> {
        self.origin.check_running()
    }

    fn begin(&mut self) -> Result<()> {
        self.watch.begin_trial(&*self.origin)
    }

    fn expect(&mut self, window: Window) {
        self.watch.expect(window);
    }

    fn next_look_ns(&self) -> Option<u64> {
        self.watch.next_look_ns()
    }

    fn look(&mut self, now_ns: u64) -> Result<()> {
        self.watch.look(now_ns, &*self.origin)
    }

    fn refresh(&mut self) -> Result<()> {
        self.watch.see(&*self.origin)
    }

    fn count(&self, member: usize, count: Count) -> Option<u64> {
        self.watch.count(member, count)
    }

    fn total(&self, count: Count) -> Option<u64> {
        self.watch.probing.accepts.as_ref()?;
        (0..self.members()).map(|member| self.count(member, count)).sum()
    }

    fn last_accept_ns(&self) -> Option<u64> {
        self.watch.last_accept_ns()
    }

    fn held(&self, member: usize, transport: Transport) -> &[u32] {
        if transport == Transport::Tcp { &self.watch.members[member].listeners.inodes } else { &[] }
    }

    fn listeners(&self, transport: Transport) -> BTreeSet<u32> {
        if transport == Transport::Tcp { self.watch.listeners.clone() } else { BTreeSet::new() }
    }

    fn begin_event(&mut self, _event: usize, act: &Act) -> Result<()> {
        self.watch.begin_event(&*self.origin)?;
        let holders = self.watch.holders.pids();
        self.origin.act(act, &holders)
    }

    fn end_event(&mut self, _act: &Act) {}

    fn passage(&self, _event: usize) -> Option<super::Passage> {
        None
    }

    fn stop(&mut self) -> Result<()> {
        self.watch.drain(&*self.origin)
    }

    fn finish(self: Box<Self>) -> Finished {
        let Self { watch, origin } = *self;
        let mut finished = watch.finish();
        let Ending { pid, exit, output, dead, done } = origin.end();
        for (changed, done) in finished.changed.iter_mut().zip(done) {
            changed.done = Some(done);
        }
        if let Some(member) =
            finished.members.iter_mut().find(|member| pid == Some(member.pid) && pid == Some(member.tid))
        {
            member.exit.clone_from(&exit);
        }
        Finished { exit, output, dead: dead.into_iter().collect(), ..finished }
    }
}

/// The instant of the next look, after one that was due at an instant and is made now. Late looks do not delay those that follow:
/// samples keep their times as well.
fn next_on_grid(due_ns: u64, now_ns: u64) -> u64 {
    due_ns.saturating_add((1 + (now_ns - due_ns) / LOOK_NS).saturating_mul(LOOK_NS))
}

fn member(pid: i32, holder: &Holder) -> Member {
    Member { id: (pid, pid), comm: holder.comm.clone(), listeners: Rc::clone(&holder.held), stopped: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_keep_the_times_of_samples() {
        let due_ns = 7 + LOOK_NS;
        for (late_ns, ahead) in [(0, 1), (1, 1), (LOOK_NS - 1, 1), (LOOK_NS, 2), (3 * LOOK_NS + 5, 4)] {
            assert_eq!(next_on_grid(due_ns, due_ns + late_ns), due_ns + ahead * LOOK_NS, "{late_ns}");
        }
        // The last look is due at any time.
        assert_eq!(next_on_grid(LOOK_NS, u64::MAX), u64::MAX);
    }
}
