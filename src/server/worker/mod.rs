//! A forked worker: from its set-up to its report.

mod coming;
mod event_loop;
mod mover;
mod pause;
mod serving;

use std::{collections::VecDeque, os::fd::AsRawFd, sync::Arc};

use anyhow::{Context, Result};
use mio::{Interest, Poll, Token, unix::SourceFd};
use nix::unistd::gettid;
use serde::{Deserialize, Serialize};
use slab::Slab;

use event_loop::{Ending, Loop, count_refused};
pub use mover::try_rings;
use mover::{AnyMover, Mover};
use pause::Pauses;

use super::{
    accept::{self, Acceptor, Receiver},
    app::Application,
    burn::Burns,
    datagrams::Datagrams,
    descriptors::Spare,
};
use crate::{
    context::TrialContext,
    ipc::control::Count,
    scenario::{
        AcceptBatch, Turn,
        keys::{self, AnyKey},
    },
    sys::{affinity, clock, limits},
};

/// The token of the descriptor that wakes the worker when the phase changes.
const WAKE: Token = Token(2);
/// Tokens of connections are their slab keys, offset past the wake token and those of listeners.
const FIRST_CONNECTION: usize = accept::TOKENS;
/// Most events taken from epoll at once.
const EVENTS: usize = 1_024;

/// What a forked worker needs.
pub struct Worker {
    /// The worker's number, from 0.
    pub number: usize,
    /// Its number in its generation.
    pub place: usize,
    /// Its turn to register.
    pub turn: Turn,
    /// Whether it begins to accept only when an event says so.
    pub waits: bool,
    pub context: TrialContext,
}

/// Where a worker's work comes from.
#[derive(Default)]
pub struct Intake {
    /// Its source of connections, if the scenario has any.
    pub acceptor: Option<Box<dyn Acceptor>>,
    /// Its source of datagrams, and the number of its socket among all that the trial opens.
    pub receiver: Option<(Box<dyn Receiver>, u16)>,
}

/// How a worker was set up. What it counts is in the control block.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct WorkerSetUp {
    /// The id of its thread: that of its process, unless workers are threads of one.
    pub tid: i32,
    /// Its scheduling policy, as read back from the kernel; `None` for a policy that scenarios cannot ask for.
    pub scheduler: Option<String>,
    /// The engine that moves the bytes of its connections; `None` for what only accepts.
    pub engine: Option<String>,
}

impl Worker {
    /// Sets up, reports how, and runs until the phase changes.
    pub fn run(self, intake: Intake, report: impl FnOnce(&WorkerSetUp) -> Result<()>) -> Result<WorkerSetUp> {
        let files = limits::raise_open_files().context("raising the limit of open files")?;
        let allowed = affinity::allowed_cpus().context("sched_getaffinity")?;
        if let Some(cpu) = self.context.scenario.server.pin.processor(self.place, &allowed) {
            affinity::pin_to(cpu)
                .with_context(|| format!("pinning the worker to processor {cpu} (sched_setaffinity)"))?;
        }
        let scheduler = self.context.scenario.server.scheduler.enforce(keys::SERVER_SCHEDULER.path())?;
        let mover = AnyMover::build(&self.context.scenario)?;
        let engine = intake.acceptor.is_some().then(|| mover.name().to_owned());
        let set_up = WorkerSetUp { tid: gettid().as_raw(), scheduler, engine };
        report(&set_up)?;
        match mover {
            AnyMover::Mio(mover) => self.work(intake, mover, files),
            AnyMover::Uring(mover) => self.work(intake, *mover, files),
        }?;
        Ok(set_up)
    }

    fn work<M: Mover>(self, intake: Intake, mover: M, files: limits::OpenFiles) -> Result<()> {
        let poll = Poll::new().context("epoll_create")?;
        poll.registry()
            .register(&mut SourceFd(&self.context.control.wake().as_raw_fd()), WAKE, Interest::READABLE)
            .context("registering the wake-up descriptor")?;
        if self.context.scenario.changes_workers() {
            poll.registry()
                .register(&mut SourceFd(&self.context.control.orders().as_raw_fd()), WAKE, Interest::READABLE)
                .context("registering the descriptor of orders")?;
        }
        let control = Arc::clone(&self.context.control);
        let mut work = Loop {
            poll,
            mover,
            acceptor: intake.acceptor,
            datagrams: intake.receiver.map(|receiver| Datagrams::new(receiver, self.number, &self.context)),
            application: Application::new(
                &self.context.scenario,
                self.number as u16,
                self.context.ledger.clone(),
                self.context.seed,
                self.stream(),
            )
            .with_tls(self.context.tls.clone()),
            connections: Slab::with_capacity(limits::room(files)),
            fresh: VecDeque::with_capacity(EVENTS),
            only_end: self.context.scenario.only_end(),
            pauses: Pauses::new(self.context.scenario.server.accept_later),
            descriptors: None,
            spare: Spare::default(),
            drain_until_ns: None,
            woke_ns: 0,
            worker: self,
        };
        let (delay, waits) = (work.worker.context.scenario.server.accept_delay, work.worker.waits);
        if delay.is_zero() && !waits {
            work.begin()?;
        }
        let window = control.wait_for_start();
        let mut meter = if work.worker.context.scenario.server.strategy.is_pool() {
            control.thread_meter(work.worker.number, window)
        } else {
            control.meter(work.worker.number, window)
        };
        let mut burns = Burns::new(&work.worker.context.scenario, work.worker.number, window);
        let registers_now = if waits {
            work.wait_for_order()?
        } else {
            !delay.is_zero() && work.sleep_until(window, delay, &mut burns)?
        };
        if registers_now {
            work.begin()?;
        }
        if let Some(descriptors) = work.descriptors {
            descriptors.enter(&meter);
        }
        if let Ending::Left = work.run(&mut burns, &mut meter)? {
            meter.stop();
            control.left(work.worker.number, clock::monotonic_ns());
            return Ok(());
        }
        // Connections that the strategy had already taken from the kernel count as accepted, though no worker will serve them.
        // What other processes have handed over needs descriptors to be received.
        limits::raise_open_files().context("raising the limit of open files")?;
        let taken = work.acceptor.as_mut().map(|acceptor| acceptor.stop()).transpose().context("stopping to accept")?;
        for taken in taken.into_iter().flatten() {
            work.count(&taken, &mut meter);
        }
        if let Some(acceptor) = &mut work.acceptor {
            count_refused(acceptor.as_mut(), &meter);
        }
        if let Some(datagrams) = &mut work.datagrams {
            datagrams.drain(Count::DatagramsLeft, &mut meter);
        }
        meter.stop();
        control.stopped_and_wait_for_exit();
        Ok(())
    }

    /// The most accepts, or receptions, per wake-up.
    fn batch(&self) -> u32 {
        match self.context.scenario.server.accept_batch {
            AcceptBatch::Drain => u32::MAX,
            AcceptBatch::AtMost(count) => count,
        }
    }

    /// The random stream of this worker and repetition, distinct from those of loaders.
    fn stream(&self) -> u64 {
        1 << 63 | (self.context.repetition as u64) << 16 | self.number as u64
    }
}
