//! listenbench's own server: forked workers that obtain connections by the scenario's strategy.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::{Counted, Ended, Finished, Listening, Subject};
use crate::{
    context::TrialContext,
    ipc::{
        control::{Control, Count, Kept, Phase},
        family::{self, Account, Family, Patience},
    },
    load,
    record::{self, CountedBy, HelperRow},
    scenario::{Transport, keys},
    server::{Worker, WorkerReport, accept::Helper},
    sys::clock,
    trial::Histograms,
};

/// How long a worker may take to leave its loop: longer than any reasonable service time.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How long a stopped worker may take to exit.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The workers of one server, in a trial or in `listenbench serve`.
pub struct OwnServer {
    /// The workers, followed by the strategy's helper if it has one.
    family: Family<WorkerReport>,
    workers: usize,
    control: Arc<Control>,
    /// Workers that this process has stopped with SIGSTOP.
    stalled: Vec<usize>,
    inodes: Vec<u32>,
    datagram_inodes: Vec<u32>,
    address: SocketAddr,
}

impl OwnServer {
    /// Forks the workers, each with its own part of `listening`. They wait at the control block's barrier.
    pub fn fork(context: &TrialContext, mut listening: Listening) -> Result<Self> {
        let server = &context.scenario.server;
        let (inodes, datagram_inodes) = (listening.inodes(Transport::Tcp)?, listening.inodes(Transport::Udp)?);
        let mut family = Family::default();
        let ranks = server.registration.ranks(server.workers, context.seed, context.repetition);
        for (number, rank) in ranks.into_iter().enumerate() {
            let worker = Worker { number, rank, context: context.clone() };
            let run = |_: &mut _| worker.run(listening.intake(number)?);
            family.fork(&process_name(number), format!("worker {number}"), run)?;
        }
        if let Some(name) = listening.helper() {
            family.fork(name, "the strategy's helper", |_| {
                let helper = listening.take_helper().context("the strategy names a helper but does not provide it")?;
                help(helper, context)
            })?;
        }
        // Close this process's copies of the listeners, so that a worker's listener dies with the worker.
        drop(listening);
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
}

impl Subject for OwnServer {
    fn describe(&self) -> record::Subject {
        record::Subject::own()
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn members(&self) -> usize {
        self.workers
    }

    fn pids(&self) -> Vec<i32> {
        self.family.pids().collect()
    }

    fn at_barrier(&self) -> usize {
        self.family.len()
    }

    fn check_running(&mut self) -> Result<()> {
        self.family.check_running()
    }

    fn count(&self, member: usize, count: Count) -> Option<u64> {
        Some(self.control.count(member, count))
    }

    fn last_accept_ns(&self) -> Option<u64> {
        Some(self.control.last_accept_ns())
    }

    fn listener(&self, member: usize, transport: Transport) -> Option<u32> {
        let inodes = match transport {
            Transport::Tcp => &self.inodes,
            Transport::Udp => &self.datagram_inodes,
        };
        inodes.get(member).copied()
    }

    fn signal(&mut self, member: usize, signal: Signal) {
        match signal {
            Signal::SIGSTOP => self.stalled.push(member),
            Signal::SIGCONT => self.stalled.retain(|stalled| *stalled != member),
            _ => {}
        }
        self.family.signal(member, signal);
    }

    /// Waits up to ten seconds until the workers no longer accept. A worker that hangs keeps its queue, so what is stranded there can
    /// still be counted.
    fn stop(&mut self) {
        self.control.set_phase(Phase::Stop);
        for worker in std::mem::take(&mut self.stalled) {
            self.signal(worker, Signal::SIGCONT);
        }
        let (family, control, workers) = (&mut self.family, &self.control, self.workers);
        let all_stopped = || control.stopped() >= family.running(0..workers) as u64;
        // Workers that hang are killed later.
        let _ = family::wait_until(Patience::of(STOP_PATIENCE), all_stopped, || Ok(()));
    }

    /// Lets the stopped workers close their listeners and exit. One that hangs is killed.
    fn finish(self: Box<Self>) -> Finished {
        let Self { family, workers, control, .. } = *self;
        control.set_phase(Phase::Exit);
        let mut accounts = family.finish(Patience::of(EXIT_PATIENCE));
        let helper = accounts.split_off(workers).pop().map(|account| {
            let (total, measured) = (control.since_start(workers), control.measured(workers));
            let (total, measured) = ((&total).into(), (&measured).into());
            let row = HelperRow { pid: account.pid, total, measured, exit: account.exit };
            (row, account.report.unwrap_or_default().errors)
        });
        let members = accounts.into_iter().enumerate().map(|(number, account)| ended(&control, number, account));
        Finished { members: members.collect(), helper, histograms: histograms(&control) }
    }
}

/// A worker's name in process lists.
fn process_name(number: usize) -> String {
    format!("lb:worker{number}")
}

fn ended(control: &Control, number: usize, account: Account<WorkerReport>) -> Ended {
    if !account.exit.is_ok() {
        // A dead worker has not updated its own counters.
        control.died(number, account.cpu);
    }
    let report = account.report.unwrap_or_default();
    Ended {
        pid: account.pid,
        comm: process_name(number),
        exit: account.exit,
        counted: Some(Counted {
            by: CountedBy::Own,
            total: control.since_start(number),
            measured: control.measured(number),
        }),
        errors: report.errors,
        scheduler: report.scheduler,
    }
}

/// The histograms that workers recorded in shared memory, by name; those of dead workers too.
fn histograms(control: &Control) -> Histograms {
    let mut histograms = Histograms::new();
    for worker in 0..control.workers() {
        for (kept, name) in [(Kept::AcceptWait, "accept_wait"), (Kept::AcceptBatch, "accept_batch")] {
            let mut histogram = load::histogram();
            control.add_to(worker, kept, &mut histogram);
            if !histogram.is_empty() {
                histograms.insert(format!("w{worker}.{name}"), histogram);
            }
        }
    }
    histograms
}

/// Runs the helper process from its set-up to its end.
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
