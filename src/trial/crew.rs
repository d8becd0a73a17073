//! The workers of a server: forking them, stopping them, and their accounts. A trial and `listenbench serve` use the same.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::doors::Doors;
use crate::{
    context::TrialContext,
    ipc::{
        control::{Control, Phase},
        family::{self, Account, Family, Patience},
    },
    scenario::{Transport, keys},
    server::{Worker, WorkerReport, accept::Helper},
    sys::clock,
};

/// How long a worker may take to leave its loop: longer than any service time that makes sense.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How long a stopped worker may take to exit.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The workers of one server.
pub struct Crew {
    /// The workers, and after them the strategy's helper, if it has one.
    family: Family<WorkerReport>,
    workers: usize,
    control: Arc<Control>,
    /// Workers that are stopped.
    stalled: Vec<usize>,
    inodes: Vec<u32>,
    datagram_inodes: Vec<u32>,
    address: SocketAddr,
}

impl Crew {
    /// Forks the workers, each with its own part of the doors. They wait at the control block's barrier.
    pub fn fork(context: &TrialContext, mut doors: Doors) -> Result<Self> {
        let server = &context.scenario.server;
        let (inodes, datagram_inodes) = (doors.inodes(Transport::Tcp)?, doors.inodes(Transport::Udp)?);
        let mut family = Family::default();
        let ranks = server.registration.ranks(server.workers, context.seed, context.repetition);
        for (number, rank) in ranks.into_iter().enumerate() {
            let worker = Worker { number, rank, context: context.clone() };
            let run = |_: &mut _| worker.run(doors.intake(number)?);
            family.fork(&format!("lb:worker{number}"), format!("worker {number}"), run)?;
        }
        if let Some(name) = doors.helper() {
            family.fork(name, "the strategy's own process", |_| {
                let helper = doors.take_helper().context("a strategy names a helper and has none")?;
                help(helper, context)
            })?;
        }
        // With this process's copies of the listeners closed, a worker's dies with it.
        drop(doors);
        Ok(Self {
            family,
            workers: server.workers,
            control: Arc::clone(&context.control),
            stalled: Vec::new(),
            inodes,
            datagram_inodes,
            address: context.scenario.address,
        })
    }

    /// How many processes there are.
    #[allow(clippy::len_without_is_empty, reason = "there is always a worker")]
    pub fn len(&self) -> usize {
        self.family.len()
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The inode of each worker's listener; none without connections.
    pub fn inodes(&self) -> &[u32] {
        &self.inodes
    }

    /// The inode of each worker's socket of datagrams; none without datagrams.
    pub fn datagram_inodes(&self) -> &[u32] {
        &self.datagram_inodes
    }

    /// The process ids.
    pub fn pids(&self) -> impl Iterator<Item = i32> {
        self.family.pids()
    }

    /// Stops a worker (SIGSTOP) until [`Self::resume`], or until the whole crew stops.
    pub fn stall(&mut self, worker: usize) {
        self.family.signal(worker, Signal::SIGSTOP);
        self.stalled.push(worker);
    }

    /// Lets a stalled worker continue.
    pub fn resume(&mut self, worker: usize) {
        self.stalled.retain(|stalled| *stalled != worker);
        self.family.signal(worker, Signal::SIGCONT);
    }

    /// Kills a worker.
    pub fn kill(&self, worker: usize) {
        self.family.signal(worker, Signal::SIGKILL);
    }

    /// Fails if a process of the crew has ended, with its error or with how it ended.
    pub fn check_running(&mut self) -> Result<()> {
        self.family.check_running()
    }

    /// Makes the workers stop accepting, and waits until they have, for ten seconds at most: a worker that hangs still has its
    /// queue, and what is stranded there can be counted.
    pub fn stop(&mut self) {
        self.control.set_phase(Phase::Stop);
        for worker in std::mem::take(&mut self.stalled) {
            self.resume(worker);
        }
        let (family, control, workers) = (&mut self.family, &self.control, self.workers);
        let all_stopped = || control.stopped() >= family.running(0..workers) as u64;
        // Those that hang are killed in the end.
        let _ = family::wait_until(Patience::of(STOP_PATIENCE), all_stopped, || Ok(()));
    }

    /// Lets the stopped workers close their listeners and exit, and returns their accounts. One that hangs is killed.
    pub fn dismiss(self) -> Vec<Account<WorkerReport>> {
        self.control.set_phase(Phase::Exit);
        let accounts = self.family.finish(Patience::of(EXIT_PATIENCE));
        for (worker, account) in accounts.iter().enumerate().take(self.workers) {
            if !account.exit.is_ok() {
                // It has not brought its own counters up to date.
                self.control.died(worker, account.cpu);
            }
        }
        accounts
    }
}

/// The process besides the workers, from its set-up to its end.
fn help(helper: Box<dyn Helper>, context: &TrialContext) -> Result<WorkerReport> {
    let TrialContext { scenario, control, .. } = context;
    let scheduler = scenario.server.scheduler.enforce(keys::SERVER_SCHEDULER)?;
    let window = control.wait_for_start();
    let mut meter = control.meter(control.workers(), window);
    let begin_ns = window.start_ns.saturating_add(clock::nanoseconds(scenario.server.accept_delay));
    while clock::monotonic_ns() < begin_ns && control.phase() == Phase::Running {
        std::thread::sleep(LOOK_AGAIN);
    }
    let errors = helper.run(control, &mut meter)?;
    meter.stop();
    Ok(WorkerReport { errors, scheduler })
}
