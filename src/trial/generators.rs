//! What generates a trial's load: loaders of this host, or those of other hosts.

use std::time::Duration;

use anyhow::Result;

use super::{
    Job,
    hosts::{Conductor, Heard},
    loaders::{Left, Loaders, fork_loaders, loader_accounts},
    networks::Networks,
};
use crate::{
    context::TrialContext,
    ipc::{control::Window, family::Patience},
    record::HostRow,
};

/// Time from all processes being ready to the start, so that each of them knows the start before it comes: this long, and as much longer for
/// each process, of which a processor wakes one after the other.
const START_AHEAD_NS: u64 = 3_000_000;
const START_AHEAD_EACH_NS: u64 = 100_000;
/// How much longer other hosts may take to end than loaders of this one: they end their own in time, and then say so.
const HOSTS_PATIENCE: Duration = Duration::from_secs(5);

/// The generators of a trial's load.
pub(super) enum Generators<'a> {
    Here(Loaders),
    Hosts(Box<Conductor<'a>>),
}

impl<'a> Generators<'a> {
    /// Forks the loaders, or sets the load hosts to work.
    pub fn begin(job: Job<'a>, networks: &Networks, context: &TrialContext) -> Result<Self> {
        Ok(match job.hosts {
            None => Self::Here(networks.for_loaders(|| fork_loaders(context, job.sizing, 0))?),
            Some(hosts) => Self::Hosts(Box::new(Conductor::begin(job, hosts.team.borrow_mut(), context)?)),
        })
    }

    /// The loaders of this host.
    pub fn pids(&self) -> Vec<i32> {
        match self {
            Self::Here(loaders) => loaders.pids().collect(),
            Self::Hosts(_) => Vec::new(),
        }
    }

    /// How many of this host's processes wait at the trial's barrier.
    pub fn at_barrier(&self) -> usize {
        match self {
            Self::Here(loaders) => loaders.len(),
            Self::Hosts(_) => 0,
        }
    }

    /// Fails if a loader of this host has ended.
    pub fn check_running(&mut self) -> Result<()> {
        match self {
            Self::Here(loaders) => loaders.check_running(),
            Self::Hosts(_) => Ok(()),
        }
    }

    /// Waits until other hosts are ready. `check` fails if there is nothing more to wait for.
    pub fn await_others(&mut self, patience: Patience<'_>, check: impl FnMut() -> Result<()>) -> Result<()> {
        match self {
            Self::Here(_) => Ok(()),
            Self::Hosts(conductor) => conductor.await_ready(patience, check),
        }
    }

    /// The rows of the hosts that were lost while they were awaited.
    pub fn lost(&self) -> Vec<HostRow> {
        match self {
            Self::Here(_) => Vec::new(),
            Self::Hosts(conductor) => conductor.lost_before_start(),
        }
    }

    /// How long before the start all have to know of it, if this many processes of this host wait for it.
    pub fn start_ahead_ns(&self, waiting: usize) -> u64 {
        match self {
            Self::Here(_) => START_AHEAD_NS + waiting as u64 * START_AHEAD_EACH_NS,
            Self::Hosts(conductor) => conductor.start_ahead_ns(),
        }
    }

    /// The barrier is open, and these are the trial's instants.
    pub fn start(&mut self, window: Window) {
        if let Self::Hosts(conductor) = self {
            conductor.start(window);
        }
    }

    /// How long beyond the time for loaders of this host to wait for their end.
    pub fn patience(&self) -> Duration {
        match self {
            Self::Here(_) => Duration::ZERO,
            Self::Hosts(_) => HOSTS_PATIENCE,
        }
    }

    /// Reads what they send, for no longer than `at_most`. Returns true once the load has ended.
    pub fn drain(&mut self, at_most: Duration) -> Result<bool> {
        match self {
            Self::Here(loaders) => Ok(loaders.drain(at_most)),
            Self::Hosts(conductor) => conductor.drain(at_most),
        }
    }

    /// Gives up those that have not ended when they should have.
    pub fn give_up(&mut self) {
        match self {
            Self::Here(loaders) => loaders.kill_hung(),
            Self::Hosts(conductor) => conductor.give_up(),
        }
    }

    /// What they leave; of other hosts, also what became of these.
    pub fn finish(self, job: Job<'_>, context: &TrialContext, window: Window) -> Result<(Left, Option<Heard>)> {
        match self {
            Self::Here(loaders) => Ok((loader_accounts(context, (job.sizing, 0, None), window, loaders)?, None)),
            Self::Hosts(conductor) => conductor.finish(window).map(|(left, heard)| (left, Some(heard))),
        }
    }
}
