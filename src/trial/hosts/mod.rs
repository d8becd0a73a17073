//! A trial over several hosts: the server's host conducts it, and the load hosts generate its load.
//!
//! What they say to each other is here. A load host's trial knows its own loaders, its own clock and the part of the schedule that is
//! its own; the conductor knows the rest. Nothing that they exchange grows with the length of a trial.

mod conductor;
mod guest;
mod remote;
mod rows;
mod watched;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use self::watched::Watched;
pub(super) use self::{
    conductor::{Conductor, Heard},
    rows::enter,
};
pub use self::{
    guest::{lend, rehearse},
    remote::{conduct, have_conducted},
};
use super::{ceiling::Ceiling, loaders::LoaderAccount};
use crate::{
    context::{Role, Side},
    hosts::{Card, Guest, Team},
    ipc::control::Window,
    load::Sizing,
    observe::ports::Range,
    record::{ErrorCount, HostFacts, HostRole},
};

/// The hosts of a job, as the server's sees them.
#[derive(Debug)]
pub struct Hosts {
    /// This host.
    pub here: HostFacts,
    /// The others. A trial's process uses the links while its parent waits.
    pub team: RefCell<Team>,
    /// Whether they wait for an order, as far as is known: after a trial that was cut off, they may be in the middle of something.
    pub in_step: Cell<bool>,
    /// The addresses of all of them.
    addresses: Vec<IpAddr>,
}

impl Hosts {
    /// The hosts of a job: this one, which leads it, and the others.
    pub fn new(here: HostFacts, team: Team) -> Self {
        let guests = || team.guests.iter();
        let mut addresses = here.addresses.clone();
        addresses.extend(guests().flat_map(|guest| guest.facts.addresses.iter().copied()));
        addresses.extend(guests().flat_map(|guest| [guest.link.local().ip(), guest.link.peer().ip()]));
        let known: BTreeSet<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
        Self { here, team: RefCell::new(team), in_step: Cell::new(true), addresses: known.into_iter().collect() }
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        1 + self.team.borrow().guests.len()
    }

    /// This host's address as the others have reached it: most of them, if they differ.
    pub fn reached_at(&self) -> IpAddr {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for guest in &self.team.borrow().guests {
            *counts.entry(guest.link.local().ip().to_canonical()).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.expect("a job has other hosts").0
    }

    /// What started the job, and all hosts, as records have them; those of the first ranks have servers.
    pub fn for_record(&self, servers: usize) -> (String, Vec<HostFacts>) {
        let team = self.team.borrow();
        let guests = team.guests.iter().map(|guest| guest.facts.clone());
        let role = |rank| if rank < servers { HostRole::Server } else { HostRole::Load };
        let all = std::iter::once(self.here.clone()).chain(guests);
        let all = all.map(|host| HostFacts { role: role(host.rank), ..host });
        (team.launcher.to_owned(), all.collect())
    }

    /// The hosts that generate load where the first of the job's ranks, this many, have servers.
    pub fn loads(guests: &[Guest], servers: usize) -> &[Guest] {
        &guests[Self::first_of_loads(guests, servers)..]
    }

    /// The place of the first of them.
    pub fn first_of_loads(guests: &[Guest], servers: usize) -> usize {
        guests.partition_point(|guest| guest.rank < servers)
    }

    /// The address of a server host, by its rank, as others reach it.
    pub fn address_of(&self, rank: usize) -> Option<IpAddr> {
        if rank == self.here.rank {
            return Some(self.reached_at());
        }
        let team = self.team.borrow();
        team.guests.iter().find(|guest| guest.rank == rank).map(|guest| guest.link.peer().ip().to_canonical())
    }

    /// What this host is in a trial with these clients.
    pub fn role<'a>(&'a self, clients: &'a [IpAddr]) -> Role<'a> {
        Role { side: Side::Server, job: &self.addresses, clients }
    }
}

/// What the conductor asks of a load host.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// To try whether it can do its part of a cell's trials.
    Rehearse(Box<Task>),
    /// To set up its part of a trial.
    SetUp(Box<Task>),
    /// To begin.
    Start {
        /// The trial's instants, by the conductor's clock.
        window: Window,
        /// By how much this host's clock is ahead of the conductor's, in nanoseconds.
        ahead_ns: i64,
    },
    /// To end its load early.
    EndEarly,
    /// To send what its loaders measured.
    Report,
    /// To conduct a trial with the load hosts, which come to a door of its own.
    Conduct(Box<Task>),
    /// To do as the host with this card says until that is done.
    Visit(Card),
    /// To end: there are no more trials.
    Over,
}

/// A load host's part of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// What errors call the scenario.
    pub source: String,
    /// The scenario with every effective value, whichever host reads it.
    pub scenario: String,
    /// Index into its cells.
    pub cell: usize,
    /// The trial's number, from 0.
    pub number: usize,
    pub repetition: usize,
    /// The value that a search tries for the cell's last swept key.
    pub searched: Option<f64>,
    pub sizing: Sizing,
    /// The host's number among the load hosts, from 0.
    pub host: usize,
    /// Its rank in the job.
    pub rank: usize,
    /// Whether loaders record, or only count.
    pub records: bool,
    /// Whether a running server may be outside the job.
    pub allow_remote: bool,
    /// The addresses of the job's hosts.
    pub job: Vec<IpAddr>,
    /// Where the server listens.
    pub address: SocketAddr,
    /// Whether the kernel may stamp what is established, for `stamps = "auto"`.
    pub stamps_allowed: bool,
    /// Of the server's host: the ranks of the load hosts, and where their loaders connect from.
    pub guests: Vec<usize>,
    pub clients: Vec<IpAddr>,
}

/// What a load host tells the conductor.
#[derive(Debug, Serialize, Deserialize)]
pub enum Word {
    /// What a rehearsal found, or the path of the key that rules the host out, and why.
    Rehearsed(Result<Rehearsed, (String, String)>),
    /// Where the load hosts of a trial that it conducts come to.
    Card(Card),
    /// The next part of the record of the trial that it has conducted, as JSON.
    Record(String),
    /// All of that trial has been sent: with what the server printed, and whether its hosts can be asked for more.
    Conducted { output: Option<String>, in_step: bool },
    /// It cannot do its part, and why.
    Failed(String),
    /// Its loaders wait for the start: their processes, and what their ports sustain.
    Ready(Vec<i32>, Ceiling),
    /// What each of its loaders has counted so far.
    Progress(Vec<Figures>),
    /// Its load has ended: early for this reason, unless the conductor asked for that.
    Ended { early: Option<String> },
    /// What its kernel and machine counted.
    Watched(Box<Watched>),
    /// What is known of one of its loaders.
    Account(Box<LoaderAccount>),
    /// A part of its port ledger: what it did with so many ports of one of its addresses.
    Ports(IpAddr, Vec<(u16, u32)>),
    /// All has been sent.
    Done,
}

/// What a load host's rehearsal found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// The addresses that its loaders connect from.
    pub clients: Vec<IpAddr>,
    /// The ports that they may choose from.
    pub ports: Range,
    /// What its kernel refuses of what the scenario asks for.
    pub refused: Vec<String>,
    /// What it lacks to hold its part of the connections, with the remedy.
    pub lack: Option<String>,
}

/// What a loader has counted, as far as it can be told in a few words: each of its figures, and its errors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub words: Vec<u64>,
    pub errors: Vec<ErrorCount>,
}

/// How often the conductor hears what loaders have counted; more rarely from more than so many hosts.
const PROGRESS: Duration = Duration::from_millis(250);
const HOSTS_OFTEN: usize = 64;

/// How often it hears each of so many hosts.
fn progress_every(hosts: usize) -> Duration {
    PROGRESS * hosts.div_ceil(HOSTS_OFTEN).max(1) as u32
}

/// The name under which a histogram travels: that of its population, by number, before its own.
fn tagged(load: usize, name: &str) -> String {
    format!("{load} {name}")
}

/// The reverse of [`tagged`].
fn untagged(tag: &str) -> Option<(usize, &str)> {
    let (load, name) = tag.split_once(' ')?;
    Some((load.parse().ok()?, name))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::hosts::Link;

    #[test]
    fn load_hosts_come_after_those_with_servers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let guest = |rank| {
            let link = Link::over(TcpStream::connect(listener.local_addr().unwrap()).unwrap()).unwrap();
            Guest { rank, facts: HostFacts { rank, ..HostFacts::default() }, link }
        };
        let ranks = |guests: &[Guest], servers| {
            Hosts::loads(guests, servers).iter().map(|guest| guest.rank).collect::<Vec<_>>()
        };
        // As rank 0 sees them, and as rank 1 does, to which only load hosts come.
        let (of_first, of_second) = ([1, 2, 3].map(guest), [2, 3].map(guest));
        assert_eq!((ranks(&of_first, 1), ranks(&of_first, 2)), (vec![1, 2, 3], vec![2, 3]));
        assert_eq!(ranks(&of_second, 2), [2, 3]);
    }

    #[test]
    fn many_hosts_are_heard_more_rarely() {
        let every = |hosts| progress_every(hosts).as_millis();
        assert_eq!([1, 64, 65, 1_000].map(every), [250, 250, 500, 4_000]);
    }

    #[test]
    fn histograms_travel_with_their_population() {
        assert_eq!(untagged(&tagged(3, "w0.accept_wait")), Some((3, "w0.accept_wait")));
        assert_eq!(untagged("w0.accept_wait"), None);
        assert_eq!(untagged("x y"), None);
    }
}
