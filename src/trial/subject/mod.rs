//! The server under test, as its trial sees it: who accepts, what can be counted, where it listens, and how it is stopped. Each
//! kind of server has its own file.

mod beside;
mod changes;
mod command;
mod folder;
mod generations;
mod holders;
mod keeper;
mod keeping;
mod listening;
mod output;
mod outside;
mod own;
mod pool;
mod running;

use std::{collections::BTreeSet, net::SocketAddr};

use anyhow::Result;

pub use self::{
    beside::Beside,
    changes::{Changed, enter as enter_changes},
    command::{NotReady, described, start},
    folder::{DIR, Placed, sweep},
    keeper::end_orphans,
    listening::Listening,
    output::last_line,
    own::OwnServer,
    running::{find, locate},
};
use super::loaders::Histograms;
use crate::{
    ipc::control::{Count, Window},
    observe::listeners::Place,
    record::{
        self, CountedBy, DescriptorRow, ErrorCount, Exit, HelperRow, LatencySummary, ProbeRow, WaitEnd, WorkerCounts,
    },
    scenario::{Act, Transport},
};

/// The server under test.
///
/// Its members are whatever accepts, numbered from 0. A member that ends keeps its number, and one that appears later gets the next.
/// What is not counted, or cannot be known, is `None`.
pub trait Subject {
    /// What the record says it is.
    fn describe(&self) -> record::Subject;

    /// The address that its clients connect to.
    fn address(&self) -> SocketAddr;

    /// What its listeners are bound to; of another's server, only where clients connect to is known.
    fn places(&self) -> Vec<Place> {
        vec![Place::at(self.address())]
    }

    /// Number of members so far.
    fn members(&self) -> usize;

    /// The processes whose CPU time and memory are the server's.
    fn pids(&self) -> Vec<i32>;

    /// How many of its processes wait at the trial's barrier after set-up.
    fn at_barrier(&self) -> usize;

    /// Fails if a process of the server has ended: with its error, or with how it ended.
    fn check_running(&mut self) -> Result<()>;

    /// All is set up, and the barrier is about to open: nothing before now belongs to the trial.
    fn begin(&mut self) -> Result<()>;

    /// The barrier opens, and these are the trial's instants.
    fn expect(&mut self, window: Window);

    /// When it is to be looked at next; `None` if it counts by itself.
    fn next_look_ns(&self) -> Option<u64>;

    /// Looks at what it does, if that is due.
    fn look(&mut self, now_ns: u64) -> Result<()>;

    /// Brings its counts up to now, if they are not always.
    fn refresh(&mut self) -> Result<()> {
        Ok(())
    }

    /// What a member has counted so far, as of the latest look or refresh.
    fn count(&self, member: usize, count: Count) -> Option<u64>;

    /// A counter summed over all members. Without any, it is 0 only where they would be seen.
    fn total(&self, count: Count) -> Option<u64> {
        (0..self.members()).map(|member| self.count(member, count)).sum()
    }

    /// When a member last accepted, or received a datagram, in nanoseconds of CLOCK_MONOTONIC; 0 if none ever did.
    fn last_accept_ns(&self) -> Option<u64>;

    /// The inodes of the sockets that a member holds to accept from, or receive on: one, unless it has one on each of several addresses,
    /// first the one that gets what is sent to the server's address, or it is unknown which of several it uses. Members may share one.
    fn held(&self, member: usize, transport: Transport) -> &[u32];

    /// The inodes of all those sockets.
    fn listeners(&self, transport: Transport) -> BTreeSet<u32> {
        (0..self.members()).flat_map(|member| self.held(member, transport)).copied().collect()
    }

    /// Begins what an event asks for. `event` is its place among the scenario's.
    fn begin_event(&mut self, event: usize, act: &Act) -> Result<()>;

    /// Ends it, if its length is set.
    fn end_event(&mut self, act: &Act);

    /// What has become of an event that lasts as long as it takes; `None` for others.
    fn passage(&self, event: usize) -> Option<Passage>;

    /// The load has ended: our own members stop accepting, others accept what still waits. Their listeners stay open, so that what is
    /// left in the queues can be counted.
    fn stop(&mut self) -> Result<()>;

    /// Ends the server and returns what each member did.
    fn finish(self: Box<Self>) -> Finished;
}

/// What has become of an event that replaces members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passage {
    /// When it was over, in nanoseconds of CLOCK_MONOTONIC; `None` as long as it is not, and if it has no end of its own.
    pub over_ns: Option<u64>,
    /// Time from the first member's close of its listener to the last one's end; `None` if none ended, or not all have.
    pub drain_ns: Option<u64>,
    /// Connections that waited in the listeners that it closed; `None` if it closed none, or that is unknown.
    pub queued: Option<u64>,
    /// The members that were there when it began, and those that it brought, by generation.
    pub generations: Vec<(usize, Vec<usize>)>,
}

/// The account of a server that has ended.
#[derive(Default)]
pub struct Finished {
    /// The members by number.
    pub members: Vec<Ended>,
    /// The helper process and its errors, if there was one.
    pub helper: Option<(HelperRow, Vec<ErrorCount>)>,
    /// What members recorded, by `w<member>.<metric>`.
    pub histograms: Histograms,
    /// Connections accepted that did not come from a loader, by the probe's count; `None` without a probe.
    pub foreign: Option<u64>,
    /// What a probe saw of it.
    pub probe: Option<ProbeRow>,
    /// What each event of another server changed, in order.
    pub changed: Vec<Changed>,
    /// What ended the waits that the probe saw.
    pub ends: BTreeSet<WaitEnd>,
    /// When nothing was found to listen any more before the load had ended, in nanoseconds of CLOCK_MONOTONIC.
    pub ended_ns: Option<u64>,
    /// How the process that the trial started ended, if it did so before it was stopped.
    pub exit: Option<Exit>,
    /// What the server printed, if that could be seen.
    pub output: Option<String>,
    /// Processes without a row that ended early, and how.
    pub dead: Vec<(String, Exit)>,
}

/// The account of a member that has ended.
#[derive(Default)]
pub struct Ended {
    pub pid: i32,
    pub tid: i32,
    /// Command name, as in process lists.
    pub comm: String,
    /// After how many events it appeared; 0 if it was there before all of them.
    pub generation: usize,
    /// Whether it only starts those that accept.
    pub supervises: bool,
    /// How it ended; `None` if it still ran, or nobody could wait for it.
    pub exit: Option<Exit>,
    /// The state's letter in /proc, if it was stopped when the load had ended.
    pub stopped: Option<char>,
    /// Who counted.
    pub by: CountedBy,
    /// Counts from the barrier to the member's end.
    pub total: WorkerCounts,
    /// Counts over the measured window.
    pub measured: WorkerCounts,
    /// Most connections open at once.
    pub open_peak: Option<u64>,
    /// Its process's descriptors, if it is one of ours.
    pub descriptors: Option<DescriptorRow>,
    /// Accept waits of the connections it accepted, if a probe saw them.
    pub accept_wait: Option<LatencySummary>,
    /// Only of our own workers: what has no place in the rows.
    pub aside: Aside,
    /// Errors while accepting and serving.
    pub errors: Vec<ErrorCount>,
    /// Scheduling policy, as reported by the kernel; `None` for another server's member.
    pub scheduler: Option<String>,
    /// What moves the bytes of its connections; `None` for another server's member, and for one that only accepts.
    pub engine: Option<String>,
}

/// What our own workers count besides.
#[derive(Debug, Clone, Copy, Default)]
pub struct Aside {
    /// Accepts whose exact wait is unknown.
    pub unstamped: u64,
    /// Accepts from a ring whose time in it is unknown.
    pub hand_over_unknown: u64,
    /// Datagrams found in the socket after the load's end.
    pub datagrams_left: u64,
    /// Those among all it received, and among these two, that came from outside the job.
    pub datagrams_foreign: u64,
    /// Datagrams found in the socket when the worker closed it before that, in a change of workers.
    pub datagrams_dropped: u64,
    /// Datagrams that the socket had lost when it last delivered one.
    pub datagrams_lost: u64,
}
