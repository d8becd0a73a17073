//! The workers of a server: forking them, stopping them and hearing what they report.
//! A trial and `listenbench serve` use the same.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use nix::sys::{
    eventfd::{EfdFlags, EventFd},
    signal::Signal,
};

use super::doors::Doors;
use crate::{
    ipc::{
        control::{Control, Phase},
        ledger::Ledger,
        message::{self, Inbox},
    },
    observe::stamps::Stamps,
    record::Exit,
    scenario::{Scenario, Transport},
    server::{
        Worker, WorkerReport,
        accept::{Helper, HelperContext},
    },
    sys::{
        clock::{self, CpuUse},
        process::{self, Child, End},
    },
};

/// How long a worker may take to leave its loop: longer than any service time that makes sense.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// A worker that has stopped exits at once.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The workers of one server.
pub struct Crew {
    /// The workers, and after them the strategy's helper, if it has one.
    members: Vec<Member>,
    workers: usize,
    control: Arc<Control>,
    wake: Arc<EventFd>,
    /// Workers that are stopped.
    stalled: Vec<usize>,
    inodes: Vec<u32>,
    datagram_inodes: Vec<u32>,
    address: SocketAddr,
}

/// What a crew is for.
#[derive(Clone, Copy)]
pub struct CrewJob<'a> {
    /// The cell's scenario.
    pub scenario: &'a Arc<Scenario>,
    /// The control block.
    pub control: &'a Arc<Control>,
    /// The port ledger; there is none without loaders of our own.
    pub ledger: Option<&'a Arc<Ledger>>,
    /// Where stamps of connections are, if there are any.
    pub stamps: Option<&'a Arc<Stamps>>,
    /// Seed of service times.
    pub seed: u64,
    /// Repetition, from 0.
    pub repetition: usize,
}

/// One worker as its parent sees it.
struct Member {
    child: Child,
    inbox: Inbox,
    exit: Option<End>,
}

impl Member {
    /// Hears the worker to its end and says how that was.
    fn hear_out(&mut self) -> Result<(Exit, CpuUse)> {
        let patience_ns = clock::monotonic_ns() + clock::nanoseconds(EXIT_PATIENCE);
        let mut hangs = false;
        loop {
            let left_ns = patience_ns.saturating_sub(clock::monotonic_ns());
            if left_ns == 0 && !hangs {
                hangs = true;
                process::kill_now(self.child.pid);
            }
            if self.child.readable(Duration::from_nanos(left_ns).max(LOOK_AGAIN))
                && self.inbox.read_from(&mut self.child.pipe).context("reading a worker's pipe")?
            {
                break;
            }
        }
        let exit = self.exit.take().unwrap_or_else(|| process::wait(self.child.pid));
        let how = Exit::from(exit.status);
        let how = if hangs { Exit::Other(format!("did not stop within {STOP_PATIENCE:?}: {how}")) } else { how };
        Ok((how, exit.cpu))
    }
}

/// How a worker ended.
#[derive(Debug)]
pub struct Ended {
    /// Process id.
    pub pid: i32,
    /// How it ended.
    pub exit: Exit,
    /// Its report, unless it died.
    pub report: Option<WorkerReport>,
}

impl Crew {
    /// Forks the workers, each with its own part of the doors. They wait at the control block's barrier.
    pub fn fork(job: CrewJob<'_>, mut doors: Doors) -> Result<Self> {
        let CrewJob { scenario, control, seed, repetition, .. } = job;
        let server = &scenario.server;
        let (inodes, datagram_inodes) = (doors.inodes(Transport::Tcp)?, doors.inodes(Transport::Udp)?);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_value_and_flags(0, flags).context("eventfd")?);
        let mut members = Vec::with_capacity(server.workers);
        let ranks = server.registration.ranks(server.workers, seed, repetition);
        for (number, rank) in ranks.into_iter().enumerate() {
            let worker = Worker {
                number,
                rank,
                scenario: Arc::clone(scenario),
                seed,
                repetition,
                control: Arc::clone(control),
                ledger: job.ledger.cloned(),
                stamps: job.stamps.cloned(),
                wake: Arc::clone(&wake),
            };
            let child = process::spawn(&format!("lb:worker{number}"), |pipe| {
                message::answer(pipe, |sender| sender.json(&worker.run(doors.intake(number)?)?))
            })
            .with_context(|| format!("forking worker {number}"))?;
            members.push(Member { child, inbox: Inbox::default(), exit: None });
        }
        if let Some(name) = doors.helper() {
            let child = process::spawn(name, |pipe| {
                message::answer(pipe, |sender| {
                    let helper = doors.take_helper().context("a strategy names a helper and has none")?;
                    sender.json(&help(helper, scenario, control, &wake)?)
                })
            })
            .with_context(|| format!("forking {name}"))?;
            members.push(Member { child, inbox: Inbox::default(), exit: None });
        }
        let (workers, address) = (server.workers, scenario.address);
        // With this process's copies of the listeners closed, a worker's dies with it.
        drop(doors);
        Ok(Self {
            members,
            workers,
            control: Arc::clone(control),
            wake,
            stalled: Vec::new(),
            inodes,
            datagram_inodes,
            address,
        })
    }

    /// How many processes there are.
    #[allow(clippy::len_without_is_empty, reason = "there is always a worker")]
    pub fn len(&self) -> usize {
        self.members.len()
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
        self.members.iter().map(|member| member.child.pid.as_raw())
    }

    /// Stops a worker (SIGSTOP) until [`Self::resume`], or until the whole crew stops.
    pub fn stall(&mut self, worker: usize) {
        process::send_signal(self.members[worker].child.pid, Signal::SIGSTOP);
        self.stalled.push(worker);
    }

    /// Lets a stopped worker go on.
    pub fn resume(&mut self, worker: usize) {
        self.stalled.retain(|stalled| *stalled != worker);
        process::send_signal(self.members[worker].child.pid, Signal::SIGCONT);
    }

    /// Kills a worker.
    pub fn kill(&self, worker: usize) {
        process::kill_now(self.members[worker].child.pid);
    }

    /// Notices workers that have ended, and says of the first which it is and how it ended.
    pub fn first_dead(&mut self) -> Option<(usize, Exit)> {
        for member in &mut self.members {
            if member.exit.is_none() {
                member.exit = process::ended(member.child.pid);
            }
        }
        self.members.iter().enumerate().find_map(|(number, member)| Some((number, member.exit.as_ref()?.status.into())))
    }

    /// Makes the workers stop accepting, and waits until they have, or ten seconds: a worker that hangs still has its
    /// queue, and what is stranded there can be counted.
    pub fn stop(&mut self) -> Result<()> {
        self.control.set_phase(Phase::Stop);
        self.wake.write(1).context("waking the workers")?;
        for worker in std::mem::take(&mut self.stalled) {
            self.resume(worker);
        }
        let patience_ns = clock::monotonic_ns() + clock::nanoseconds(STOP_PATIENCE);
        loop {
            self.first_dead();
            let alive = self.members[..self.workers].iter().filter(|member| member.exit.is_none()).count();
            if self.control.stopped() >= alive as u64 || clock::monotonic_ns() > patience_ns {
                return Ok(());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Lets the stopped workers close their listeners and exit, and hears their reports. One that hangs is killed.
    pub fn dismiss(mut self) -> Result<Vec<Ended>> {
        self.control.set_phase(Phase::Exit);
        let (workers, control) = (self.workers, &self.control);
        self.members
            .iter_mut()
            .enumerate()
            .map(|(number, member)| {
                let (exit, cpu) = member.hear_out()?;
                if !exit.is_ok() && number < workers {
                    // It has not brought its own counters up to date.
                    control.died(number, cpu);
                }
                let (exit, report) = match member.inbox.open::<WorkerReport>() {
                    Ok(message) => (exit, message.map(|message| message.report)),
                    Err(error) => (Exit::Other(format!("{error:#}")), None),
                };
                Ok(Ended { pid: member.child.pid.as_raw(), exit, report })
            })
            .collect()
    }

    /// A process of the crew by name.
    pub fn name(&self, number: usize) -> String {
        if number < self.workers { format!("worker {number}") } else { "the strategy's own process".to_owned() }
    }

    /// Fails with the error of a process that has ended, which none should before the barrier opens.
    pub fn check_setup(&mut self) -> Result<()> {
        let Some((number, exit)) = self.first_dead() else { return Ok(()) };
        let name = self.name(number);
        let member = &mut self.members[number];
        while let Ok(false) = member.inbox.read_from(&mut member.child.pipe) {}
        member.inbox.open::<WorkerReport>().with_context(|| name.clone())?;
        bail!("{name} ended during set-up: {exit}");
    }
}

/// The process besides the workers, from its set-up to its end.
fn help(helper: Box<dyn Helper>, scenario: &Scenario, control: &Control, wake: &EventFd) -> Result<WorkerReport> {
    let scheduler = scenario.server.scheduler.enforce("server.scheduler")?;
    let window = control.wait_for_start();
    let mut meter = control.meter(control.workers(), window);
    let begin_ns = window.start_ns.saturating_add(clock::nanoseconds(scenario.server.accept_delay));
    while clock::monotonic_ns() < begin_ns && control.phase() == Phase::Running {
        std::thread::sleep(LOOK_AGAIN);
    }
    let errors = helper.run(&HelperContext { control, wake }, &mut meter)?;
    meter.stop();
    Ok(WorkerReport { errors, scheduler })
}
