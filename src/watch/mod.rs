//! Watches servers that run, without load of our own: their listeners, accept queues and members.
//!
//! [`Watch`] asks the kernel; `tally` adds up plain values and knows nothing of it; `judge` has the rules of the verdicts; a [`Look`] is
//! what a screen, a line or a program shows of one interval.

mod exposure;
mod judge;
mod look;
mod metrics;
mod record;
mod rows;
mod tally;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use netlink_packet_sock_diag::inet::StateFlags;
use nix::net::if_::if_indextoname;

pub use self::look::{ListenerLook, Look, MemberLook};
#[cfg(test)]
pub use self::{
    exposure::Exposure,
    look::{SocketLook, WaitLook},
};
use self::{
    record::Observed,
    rows::{Row, Rows},
    tally::{MemberTally, Seen, Tally},
};
use crate::{
    format::{causes, plural},
    observe::{
        accepts::{Accepts, Filter},
        counters::{self, CounterReader, Counters, CpuTicks, SocketReader},
        holder,
        listeners::{ListenerReader, Place},
        processes::{self, Task},
        rules,
        sockets::{self, SockDiag},
        sysctl,
        tracking::Tracking,
    },
    record::{
        Conntrack, ConntrackTable, Counts, NetworkRules, ProbeLevel, ProbeRow, SCHEMA, Sockets, TrialRecord, Verdict,
        Whose,
    },
    scenario::Transport,
    sys::clock,
    trial,
};

/// Room for this many accepting threads. What more of them do is counted as lost.
const MEMBERS: usize = 1_024;

/// Most listeners that a sentence names.
const NAMED: usize = 3;

/// Listeners that a user asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// As the user named them.
    pub name: String,
    pub what: WantedPlaces,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedPlaces {
    /// Those that get connections to one of these addresses.
    Addresses(Vec<SocketAddr>),
    /// All on a port.
    Port(u16),
}

impl Wanted {
    fn of(&self, places: &BTreeSet<Place>) -> Vec<Place> {
        let all = || places.iter().copied();
        match &self.what {
            WantedPlaces::Addresses(to) => to.iter().flat_map(|to| Place::of_connections_to(*to, all())).collect(),
            WantedPlaces::Port(port) => all().filter(|place| place.address.port() == *port).collect(),
        }
    }
}

/// An observation of the calling process's current network namespace.
pub struct Watch {
    wanted: Vec<Wanted>,
    listeners: ListenerReader,
    connections: ConnectionReader,
    counters: CounterReader,
    /// At the beginning, and at the last look.
    kernel: [Counters; 2],
    /// Who accepts; `None` if that cannot be counted here.
    accepts: Option<Accepts>,
    lost_events: Option<u64>,
    missed_runs: Option<u64>,
    /// How accepts are counted.
    level: ProbeLevel,
    aged_out: Option<u64>,
    reset_in_queue: Option<u64>,
    /// What cannot be counted of accepts, and why.
    uncounted: Option<String>,
    tally: Tally,
    rows: Rows,
    sockets: SocketReader,
    sockets_peak: Sockets,
    /// `None` if connection tracking is not loaded.
    tracking: Option<Tracking>,
    /// What was tracked, as of the last look.
    tracked: Option<Conntrack>,
    rules: Option<NetworkRules>,
    machine: CpuTicks,
    samples: u64,
    /// What all of them took.
    sampled_ns: u64,
    verdicts: Vec<Verdict>,
    started: SystemTime,
    began_ns: u64,
    looked_ns: u64,
    is_root: bool,
}

impl Watch {
    /// Begins with a first sample. Fails if a wanted listener does not exist, or the kernel does not answer.
    pub fn begin(wanted: Vec<Wanted>) -> Result<Self> {
        let mut listeners = ListenerReader::new()?;
        let places: BTreeSet<Place> = listeners.read()?.into_iter().map(|listener| listener.place).collect();
        let absent = wanted.iter().filter(|wanted| wanted.of(&places).is_empty());
        let absent: Vec<&str> = absent.map(|wanted| &wanted.name[..]).collect();
        if !absent.is_empty() {
            bail!(
                "nothing listens at {} in this network namespace: start the server first; without an address, `observe` shows all \
                 listeners, and with --pid those of another namespace",
                absent.join(", ")
            );
        }
        // Accepts count from here on: whatever the first look sees has been counted.
        let wanted_places: BTreeSet<Place> = wanted.iter().flat_map(|wanted| wanted.of(&places)).collect();
        let filter = Filter::here(wanted_places.iter().map(|place| place.address).collect())?;
        let accepts = Accepts::attach(None, &filter, MEMBERS);
        let uncounted = match &accepts {
            Ok((accepts, _)) => accepts.missing().map(str::to_owned),
            Err(error) => Some(format!("who accepted what, and accept waits: {}", causes(error))),
        };
        let level = match &accepts {
            Ok((_, level)) => <&str>::from(*level).parse().expect("record and probe spell levels alike"),
            Err(_) => ProbeLevel::Off,
        };
        let mut counters = CounterReader::default();
        counters.add_namespace().context("opening the network namespace's counters in /proc/self/net")?;
        let kernel = counters.read().context("reading the network namespace's counters")?;
        let now_ns = clock::monotonic_ns();
        let mut watch = Self {
            wanted,
            listeners,
            connections: ConnectionReader::new()?,
            counters,
            kernel: [kernel.clone(), kernel],
            accepts: accepts.ok().map(|(accepts, _)| accepts),
            lost_events: None,
            missed_runs: None,
            level,
            aged_out: None,
            reset_in_queue: None,
            uncounted,
            tally: Tally::default(),
            rows: Rows::default(),
            sockets: SocketReader::open().context("opening /proc/self/net/sockstat")?,
            sockets_peak: Sockets::default(),
            tracking: Tracking::begin(Whose::Shared),
            tracked: None,
            rules: rules::of_network(Whose::Shared),
            machine: CpuTicks::read().context("reading /proc/stat")?,
            samples: 0,
            sampled_ns: 0,
            verdicts: Vec::new(),
            started: clock::wall(),
            began_ns: now_ns,
            looked_ns: now_ns,
            is_root: nix::unistd::geteuid().is_root(),
        };
        watch.sample()?;
        // What members have used of the processors until now.
        let seen = watch.seen(0.0)?;
        watch.tally.see(seen);
        Ok(watch)
    }

    /// Samples the queues.
    pub fn sample(&mut self) -> Result<()> {
        let before_ns = clock::monotonic_ns();
        let mut listeners = self.listeners.read()?;
        self.sampled_ns += clock::monotonic_ns() - before_ns;
        self.samples += 1;
        if !self.wanted.is_empty() {
            let all: BTreeSet<Place> = listeners.iter().map(|listener| listener.place).collect();
            let places: BTreeSet<Place> = self.wanted.iter().flat_map(|wanted| wanted.of(&all)).collect();
            listeners.retain(|listener| places.contains(&listener.place));
        }
        self.tally.sample(&listeners);
        Ok(())
    }

    /// Ends an interval: samples the queues, and looks at everything else.
    pub fn look(&mut self) -> Result<Look> {
        self.sample()?;
        let now_ns = clock::monotonic_ns();
        let interval_s = (now_ns - self.looked_ns) as f64 / 1e9;
        let seen = self.seen(interval_s)?;
        self.tally.see(seen);
        self.rows.push(Row::of(&self.tally));
        self.tracked = self.tracking.as_mut().map(Tracking::so_far).transpose()?.flatten();
        self.sockets_peak.peak(&self.sockets.read().context("reading /proc/self/net/sockstat")?);
        let kernel = self.counters.read().context("reading the network namespace's counters")?;
        let [began, looked] = &self.kernel;
        let gained = counters::difference(looked, &kernel);
        self.verdicts = self.judge(&counters::difference(began, &kernel));
        self.kernel[1] = kernel;
        self.looked_ns = now_ns;
        Ok(Look {
            schema: SCHEMA,
            at: humantime::format_rfc3339_millis(clock::wall()).to_string(),
            elapsed_s: (now_ns - self.began_ns) as f64 / 1e9,
            interval_s,
            missing: self.missing(),
            lost_events: self.lost_events,
            syn_retries: gained.get("TCPSynRetrans").copied().unwrap_or(0),
            conntrack: self.table(),
            packet_filter: self.rules.as_ref().and_then(NetworkRules::in_words),
            listeners: self.tally.listeners(device),
            verdicts: self.verdicts.clone(),
        })
    }

    fn seen(&mut self, interval_s: f64) -> Result<Seen> {
        let places = self.tally.places();
        let connections = self.connections.read(&places)?;
        let inodes: HashSet<u64> =
            self.tally.inodes().chain(connections.iter().map(|(inode, _)| u64::from(*inode))).collect();
        let mut holders = holder::of_sockets(&inodes);
        let mut open: HashMap<Place, u64> = HashMap::new();
        let mut open_of: HashMap<(Place, i32), u64> = HashMap::new();
        for (inode, place) in connections {
            *open.entry(place).or_default() += 1;
            for process in holders.remove(&u64::from(inode)).unwrap_or_default() {
                *open_of.entry((place, process.pid)).or_default() += 1;
            }
        }
        let counts = match &mut self.accepts {
            None => None,
            Some(accepts) => {
                let snapshot = accepts.read()?;
                (self.lost_events, self.aged_out) = (Some(snapshot.lost_events), Some(snapshot.aged_out));
                self.reset_in_queue = snapshot.reset_in_queue;
                self.missed_runs = Some(snapshot.missed_runs);
                Some(snapshot.members)
            }
        };
        let pids: BTreeSet<i32> = holders.values().flatten().map(|process| process.pid).collect();
        // Whoever has a listener has this many of its connections open, or none.
        for (place, pid) in places.iter().flat_map(|place| pids.iter().map(move |pid| (*place, *pid))) {
            open_of.entry((place, pid)).or_default();
        }
        let threads = counts.iter().flatten().map(|member| (member.pid, member.tid));
        let ids: BTreeSet<(i32, i32)> = threads.chain(pids.into_iter().map(|pid| (pid, pid))).collect();
        let tasks = ids.iter().filter_map(|id| Some((*id, Task::read(id.0, id.1)?))).collect();
        let used = ids.iter().filter_map(|id| Some((*id, processes::thread_use(id.0, id.1)?))).collect();
        Ok(Seen { interval_s, tasks, used, open: Some(open), holders, open_of, counts })
    }

    /// Everything up to the last look, as if that were one interval; `None` before the first.
    pub fn whole(&self) -> Option<Look> {
        let elapsed_s = (self.looked_ns - self.began_ns) as f64 / 1e9;
        (elapsed_s > 0.0).then(|| Look {
            schema: SCHEMA,
            at: humantime::format_rfc3339_millis(clock::wall()).to_string(),
            elapsed_s,
            interval_s: elapsed_s,
            missing: self.missing(),
            lost_events: self.lost_events,
            syn_retries: self.syn_retries(),
            conntrack: self.table(),
            packet_filter: self.rules.as_ref().and_then(NetworkRules::in_words),
            listeners: self.tally.whole(elapsed_s, device),
            verdicts: self.verdicts.clone(),
        })
    }

    /// SYNs and SYN/ACKs sent again, from the beginning to the last look.
    fn syn_retries(&self) -> u64 {
        let [began, looked] = &self.kernel;
        counters::difference(began, looked).get("TCPSynRetrans").copied().unwrap_or(0)
    }

    /// The table of tracked connections as of the last look, with counts since the beginning; `None` if nothing is tracked.
    fn table(&self) -> Option<ConntrackTable> {
        self.tracked.as_ref().map(|seen| ConntrackTable { entries: seen.after, ..seen.table() })
    }

    /// Everything up to the last look as OpenMetrics text.
    pub fn metrics(&self) -> String {
        metrics::render(&self.tally, self.syn_retries(), self.lost_events, self.table(), &self.verdicts)
    }

    /// The mean cost of a sample of all queues, in nanoseconds.
    pub fn sample_cost_ns(&self) -> u64 {
        self.sampled_ns / self.samples.max(1)
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.tally.places().into_iter().map(|place| place.address).collect()
    }

    /// The record of everything since the beginning, up to the last look, and the members' accept waits.
    pub fn record(
        &self,
        scenario: &str,
        interval: Duration,
        error: Option<String>,
    ) -> Result<(TrialRecord, BTreeMap<String, Counts>)> {
        let counts = || self.tally.members.values().map(|member| member.count.as_ref());
        let [began, looked] = &self.kernel;
        let observed = Observed {
            scenario: scenario.to_owned(),
            started: self.started,
            duration_s: (self.looked_ns - self.began_ns) as f64 / 1e9,
            interval_ms: interval.as_millis() as u64,
            error,
            verdicts: self.verdicts.clone(),
            kernel: counters::difference(began, looked),
            sockets_peak: self.sockets_peak,
            conntrack: self.tracking.as_ref().zip(self.tracked.clone()).map(|(table, seen)| table.list(seen)),
            rules: self.rules.clone(),
            machine: CpuTicks::read().context("reading /proc/stat")?.since(&self.machine),
            probe: ProbeRow {
                level: self.level,
                accepts: counts()
                    .map(|count| Some(count?.accepted))
                    .sum::<Option<u64>>()
                    .filter(|_| self.accepts.is_some()),
                unstamped: counts()
                    .map(|count| Some(count?.unstamped))
                    .sum::<Option<u64>>()
                    .filter(|_| self.accepts.is_some()),
                lost_events: self.lost_events,
                missed_runs: self.missed_runs,
                aged_out: self.aged_out,
                reset_in_queue: self.reset_in_queue,
                missing: self.uncounted.clone(),
                members: Vec::new(),
            },
        };
        Ok(record::record(&self.tally, &self.rows, observed))
    }

    fn judge(&self, kernel: &Counters) -> Vec<Verdict> {
        let somaxconn = sysctl::read("somaxconn").and_then(|value| value.parse().ok());
        let watched = self.tally.watched(exposure::has_outside());
        let of_listeners = watched.iter().flat_map(|listener| judge::judge(listener, somaxconn));
        let accepts = self.tally.members.values().map(MemberTally::accepted).sum();
        let lost = judge::lost_events(self.lost_events, accepts);
        let tracking = trial::tracking_verdicts(self.tracked.as_slice());
        let all = lost.into_iter().chain(of_listeners).chain(tracking).chain(judge::syn_retries(kernel));
        all.map(Verdict::from).collect()
    }

    /// What cannot be known.
    fn missing(&self) -> Vec<String> {
        let uncounted = self.uncounted.as_ref().map(|what| format!("missing: {what}"));
        uncounted.into_iter().chain(hidden(&self.tally.unseen(), self.is_root)).collect()
    }
}

/// Of which listeners the processes are not seen, and what would help; `None` if there are none.
fn hidden(listeners: &BTreeSet<SocketAddr>, is_root: bool) -> Option<String> {
    let first: Vec<String> = listeners.iter().take(NAMED).map(SocketAddr::to_string).collect();
    let first = first.join(", ");
    let named = match listeners.len() {
        0 => return None,
        few if few <= NAMED => first,
        several => format!("{first} and {}", plural(several - NAMED, "other listener")),
    };
    let theirs = if listeners.len() == 1 { "its processes" } else { "their processes" };
    Some(match is_root {
        true => format!("{named}: {theirs} are outside this PID namespace; run `observe` on the host to see them"),
        false => format!("{named}: {theirs} cannot be seen by this user; run as root to see them"),
    })
}

/// The name of a network device; its index if it has just gone.
fn device(index: u32) -> Option<String> {
    let name = |index| if_indextoname(index).map(|name| name.to_string_lossy().into_owned());
    (index != 0).then(|| name(index).unwrap_or_else(|_| format!("device {index}")))
}

/// Reads the connections of listeners that somebody has accepted and not closed.
struct ConnectionReader {
    /// One for each family.
    questions: Vec<SockDiag>,
}

impl ConnectionReader {
    fn new() -> Result<Self> {
        let wildcards = [IpAddr::from([0; 4]), IpAddr::from([0_u16; 8])].map(|any| SocketAddr::new(any, 0));
        let open = StateFlags::ESTABLISHED | StateFlags::CLOSE_WAIT;
        let questions = wildcards.into_iter().map(|of| SockDiag::new(Transport::Tcp, open.clone(), of));
        Ok(Self { questions: questions.collect::<Result<_>>().context(sockets::REMEDY)? })
    }

    /// Each connection's inode and the place that it was accepted from.
    fn read(&mut self, places: &BTreeSet<Place>) -> Result<Vec<(u32, Place)>> {
        let mut by_port: HashMap<u16, Vec<Place>> = HashMap::new();
        places.iter().for_each(|place| by_port.entry(place.address.port()).or_default().push(*place));
        let mut connections = Vec::new();
        for question in &mut self.questions {
            question.each(|response| {
                let header = &response.header;
                let id = &header.socket_id;
                let Some(places) = by_port.get(&id.source_port) else { return };
                let local = SocketAddr::new(id.source_address.to_canonical(), id.source_port);
                let place = Place::of_connections_to(local, places.iter().copied()).into_iter().next();
                // Without a descriptor it still waits in the queue.
                connections.extend(place.filter(|_| header.inode != 0).map(|place| (header.inode, place)));
            })?;
        }
        Ok(connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_whose_processes_are_hidden_are_named() {
        let of = |ports: &[u16], is_root| {
            hidden(&ports.iter().map(|port| SocketAddr::from(([0, 0, 0, 0], *port))).collect(), is_root)
        };
        assert_eq!((of(&[], true), of(&[], false)), (None, None));
        assert_eq!(
            of(&[2024], true).unwrap(),
            "0.0.0.0:2024: its processes are outside this PID namespace; run `observe` on the host to see them"
        );
        assert_eq!(
            of(&[1, 2, 3], false).unwrap(),
            "0.0.0.0:1, 0.0.0.0:2, 0.0.0.0:3: their processes cannot be seen by this user; run as root to see them"
        );
        assert!(
            of(&[1, 2, 3, 4], false)
                .unwrap()
                .starts_with("0.0.0.0:1, 0.0.0.0:2, 0.0.0.0:3 and 1 other listener: their ")
        );
    }
}
