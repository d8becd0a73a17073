//! The server under test, as its trial sees it: who accepts, what can be counted, where it listens, and how it is stopped. Each
//! kind of server has its own file.

mod listening;
mod own;

use std::{collections::BTreeSet, net::SocketAddr};

use anyhow::Result;
use nix::sys::signal::Signal;

pub use self::{listening::Listening, own::OwnServer};
use super::loaders::Histograms;
use crate::{
    ipc::control::{Count, Counts},
    record::{self, CountedBy, ErrorCount, Exit, HelperRow},
    scenario::Transport,
};

/// The server under test.
///
/// Its members are whatever accepts, numbered from 0. A member that ends keeps its number, and one that appears later gets the next.
/// What is not counted, or cannot be known, is `None`.
pub trait Subject {
    /// What the record says it is.
    fn describe(&self) -> record::Subject;

    /// The address it listens on.
    fn address(&self) -> SocketAddr;

    /// Number of members so far.
    fn members(&self) -> usize;

    /// The processes whose CPU time and memory are the server's.
    fn pids(&self) -> Vec<i32>;

    /// How many of its processes wait at the trial's barrier after set-up.
    fn at_barrier(&self) -> usize;

    /// Fails if a process of the server has ended: with its error, or with how it ended.
    fn check_running(&mut self) -> Result<()>;

    /// What a member has counted so far.
    fn count(&self, member: usize, count: Count) -> Option<u64>;

    /// A counter summed over all members.
    fn total(&self, count: Count) -> Option<u64> {
        (0..self.members()).map(|member| self.count(member, count)).sum()
    }

    /// When a member last accepted, or received a datagram, in nanoseconds of CLOCK_MONOTONIC; 0 if none ever did.
    fn last_accept_ns(&self) -> Option<u64>;

    /// The inode of the socket that a member accepts from, or receives on. Members may share one.
    fn listener(&self, member: usize, transport: Transport) -> Option<u32>;

    /// The inodes of all those sockets.
    fn listeners(&self, transport: Transport) -> BTreeSet<u32> {
        (0..self.members()).filter_map(|member| self.listener(member, transport)).collect()
    }

    /// Sends a signal to a member that still runs.
    fn signal(&mut self, member: usize, signal: Signal);

    /// Makes the members stop accepting. Their listeners stay open, so that what is left in the queues can be counted.
    fn stop(&mut self);

    /// Ends the server and returns what each member did.
    fn finish(self: Box<Self>) -> Finished;
}

/// The account of a server that has ended.
pub struct Finished {
    /// The members by number.
    pub members: Vec<Ended>,
    /// The helper process and its errors, if there was one.
    pub helper: Option<(HelperRow, Vec<ErrorCount>)>,
    /// What members recorded, by `w<member>.<metric>`.
    pub histograms: Histograms,
}

/// A member's counts, and who took them.
pub struct Counted {
    pub by: CountedBy,
    /// Counts from the barrier to the member's end.
    pub total: Counts,
    /// Counts over the measured window.
    pub measured: Counts,
}

/// The account of a member that has ended.
pub struct Ended {
    pub pid: i32,
    /// Command name, as in process lists.
    pub comm: String,
    pub exit: Exit,
    /// Its counts; `None` if nobody took any.
    pub counted: Option<Counted>,
    /// Errors while accepting and serving.
    pub errors: Vec<ErrorCount>,
    /// Scheduling policy, as reported by the kernel; `None` for a member that died.
    pub scheduler: Option<String>,
}
