//! A forked worker: from its set-up to its report.

mod event_loop;
mod serving;

use std::{collections::VecDeque, os::fd::AsRawFd, sync::Arc};

use anyhow::{Context, Result};
use mio::{Interest, Poll, Token, unix::SourceFd};
use serde::{Deserialize, Serialize};
use slab::Slab;

use event_loop::Loop;

use super::{
    accept::{Acceptor, Receiver},
    app::Application,
    burn::Burns,
    datagrams::Datagrams,
};
use crate::{
    context::TrialContext,
    ipc::tally::Tally,
    record::ErrorCount,
    scenario::{AcceptBatch, keys},
    sys::{affinity, limits},
};

/// The token of the descriptor that wakes the worker when the phase changes.
const WAKE: Token = Token(2);
/// Tokens of connections are their slab keys, offset past the wake token and those of listeners.
const FIRST_CONNECTION: usize = 3;
/// Most events taken from epoll at once.
const EVENTS: usize = 1_024;

/// What a forked worker needs.
pub struct Worker {
    /// The worker's number, from 0.
    pub number: usize,
    /// Its place in the order of registration, from 0.
    pub rank: usize,
    pub context: TrialContext,
}

/// Where a worker's work comes from.
#[derive(Default)]
pub struct Intake {
    /// Its source of connections, if the scenario has any.
    pub acceptor: Option<Box<dyn Acceptor>>,
    /// Its source of datagrams.
    pub receiver: Option<Box<dyn Receiver>>,
}

/// What a worker sends when it ends. Its counters are in the control block.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Errors while accepting and serving.
    pub errors: Vec<ErrorCount>,
    /// Its scheduling policy, as read back from the kernel; `None` for a policy that scenarios cannot ask for.
    pub scheduler: Option<String>,
}

impl Worker {
    /// Runs until the phase changes.
    pub fn run(self, intake: Intake) -> Result<WorkerReport> {
        let files = limits::raise_open_files().context("raising the limit of open files")?;
        let allowed = affinity::allowed_cpus().context("sched_getaffinity")?;
        if let Some(cpu) = self.context.scenario.server.pin.processor(self.number, &allowed) {
            affinity::pin_to(cpu)
                .with_context(|| format!("pinning the worker to processor {cpu} (sched_setaffinity)"))?;
        }
        let scheduler = self.context.scenario.server.scheduler.enforce(keys::SERVER_SCHEDULER)?;
        let poll = Poll::new().context("epoll_create")?;
        poll.registry()
            .register(&mut SourceFd(&self.context.control.wake().as_raw_fd()), WAKE, Interest::READABLE)
            .context("registering the wake-up descriptor")?;
        let control = Arc::clone(&self.context.control);
        let mut work = Loop {
            poll,
            acceptor: intake.acceptor,
            datagrams: intake
                .receiver
                .map(|receiver| Datagrams::new(receiver, self.number, self.context.scenario.address)),
            application: Application::new(
                &self.context.scenario,
                self.number as u16,
                self.context.ledger.clone(),
                self.context.seed,
                self.stream(),
            ),
            connections: Slab::with_capacity(limits::room(files)),
            fresh: VecDeque::with_capacity(EVENTS),
            paused_until_ns: None,
            errors: Tally::default(),
            woke_ns: 0,
            worker: self,
        };
        let delay = work.worker.context.scenario.server.accept_delay;
        if delay.is_zero() {
            work.register()?;
        }
        let window = control.wait_for_start();
        let mut meter = control.meter(work.worker.number, window);
        let mut burns = Burns::new(&work.worker.context.scenario, work.worker.number, window);
        if !delay.is_zero() && work.sleep_until(window, delay, &mut burns)? {
            work.register()?;
        }
        work.run(&mut burns, &mut meter)?;
        // Connections that the strategy had already taken from the kernel count as accepted, though no worker will serve them.
        let taken = work.acceptor.as_mut().map(|acceptor| acceptor.stop()).transpose().context("stopping to accept")?;
        for accepted in taken.into_iter().flatten() {
            work.count(&accepted, &mut meter);
        }
        if let Some(datagrams) = &mut work.datagrams {
            datagrams.drain(&mut meter);
        }
        meter.stop();
        control.stopped_and_wait_for_exit();
        Ok(WorkerReport { errors: work.errors.counts(), scheduler })
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
