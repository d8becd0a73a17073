//! The worker's loop: wait, accept, serve. It is the same for every strategy and every app.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    net::SocketAddr,
    os::fd::AsRawFd,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use mio::{Events, Interest, Poll, Registry, Token, event::Event, net::TcpStream, unix::SourceFd};
use nix::sys::eventfd::EventFd;
use serde::{Deserialize, Serialize};
use slab::Slab;
use socket2::SockRef;

use super::{
    accept::{self, Accepted, Acceptor, Receiver, Source},
    app::{Application, Arrival, Connection, Next},
    burn::Burns,
    datagrams::Datagrams,
};
use crate::{
    ipc::{
        control::{Control, Count, Meter, Phase, Window},
        ledger::Ledger,
        receipt::Tuple,
        tally::{ErrorCount, Step, Tally},
    },
    observe::stamps::Stamps,
    scenario::{AcceptBatch, CloseBy, CloseHow, Scenario},
    sys::{affinity, clock, limits},
};

const WAKE: Token = Token(2);
/// Tokens of connections are their slab keys, moved past that one and those of listeners.
const FIRST_CONNECTION: usize = 3;
const EVENTS: usize = 1_024;
/// How long a worker that is out of descriptors or memory leaves the listener alone.
const EXHAUSTED_PAUSE_NS: u64 = 10_000_000;

/// What a forked worker needs.
pub struct Worker {
    /// Number, from 0.
    pub number: usize,
    /// When it registers, from 0 for the first.
    pub rank: usize,
    /// The cell's scenario.
    pub scenario: Arc<Scenario>,
    /// Seed of service times.
    pub seed: u64,
    /// Repetition, so that each has other service times, and each strategy the same.
    pub repetition: usize,
    /// The trial's control block.
    pub control: Arc<Control>,
    /// The trial's port ledger; a server for other programs' load has none.
    pub ledger: Option<Arc<Ledger>>,
    /// When connections were established, where that is known.
    pub stamps: Option<Arc<Stamps>>,
    /// Becomes readable when the phase changes.
    pub wake: Arc<EventFd>,
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
    /// Errors of accepting and serving.
    pub errors: Vec<ErrorCount>,
    /// How the kernel scheduled it, as read back from the kernel; `None` for a policy that scenarios do not know.
    pub scheduler: Option<String>,
}

impl Worker {
    /// Runs until the phase changes.
    pub fn run(self, intake: Intake) -> Result<WorkerReport> {
        let files = limits::raise_open_files().context("raising the limit of open files")?;
        let allowed = affinity::allowed_cpus().context("sched_getaffinity")?;
        if let Some(cpu) = self.scenario.server.pin.processor(self.number, &allowed) {
            affinity::pin_to(cpu)
                .with_context(|| format!("pinning the worker to processor {cpu} (sched_setaffinity)"))?;
        }
        let scheduler = self.scenario.server.scheduler.enforce("server.scheduler")?;
        let poll = Poll::new().context("epoll_create")?;
        poll.registry()
            .register(&mut SourceFd(&self.wake.as_raw_fd()), WAKE, Interest::READABLE)
            .context("registering the wake-up descriptor")?;
        let control = Arc::clone(&self.control);
        let mut work = Loop {
            poll,
            acceptor: intake.acceptor,
            datagrams: intake.receiver.map(|receiver| Datagrams::new(receiver, self.number, self.scenario.address)),
            application: Application::new(
                &self.scenario,
                self.number as u16,
                self.ledger.clone(),
                self.seed,
                self.stream(),
            ),
            connections: Slab::with_capacity(limits::room(files)),
            fresh: VecDeque::with_capacity(EVENTS),
            paused_until_ns: None,
            errors: Tally::default(),
            woke_ns: 0,
            worker: self,
        };
        let delay = work.worker.scenario.server.accept_delay;
        if delay.is_zero() {
            work.register()?;
        }
        let window = control.wait_for_start();
        let mut meter = control.meter(work.worker.number, window);
        let mut burns = Burns::new(&work.worker.scenario, work.worker.number, window);
        if !delay.is_zero() && work.sleep_until(window, delay, &mut burns)? {
            work.register()?;
        }
        work.run(&mut burns, &mut meter)?;
        // What the strategy had taken from the kernel was accepted, though nobody will serve it.
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
        match self.scenario.server.accept_batch {
            AcceptBatch::Drain => u32::MAX,
            AcceptBatch::AtMost(count) => count,
        }
    }

    /// Tells this worker's random numbers from those of other workers, loaders and repetitions.
    fn stream(&self) -> u64 {
        1 << 63 | (self.repetition as u64) << 16 | self.number as u64
    }
}

struct Loop {
    worker: Worker,
    poll: Poll,
    acceptor: Option<Box<dyn Acceptor>>,
    datagrams: Option<Datagrams>,
    application: Application,
    connections: Slab<Connection>,
    /// Keys of connections accepted in this wake-up and not served yet.
    fresh: VecDeque<usize>,
    /// While the worker is out of descriptors or memory: until when it leaves the listener alone.
    paused_until_ns: Option<u64>,
    errors: Tally,
    /// When the wait for events last ended.
    woke_ns: u64,
}

impl Loop {
    /// Workers register one after the other: with EPOLLEXCLUSIVE the order decides who is woken.
    fn register(&mut self) -> Result<()> {
        self.worker.control.wait_for_registration_turn(self.worker.rank);
        for source in sources(&mut self.acceptor, &mut self.datagrams) {
            source.register(self.poll.registry()).context("adding the listener to epoll")?;
        }
        self.worker.control.registered(self.worker.rank);
        Ok(())
    }

    /// Waits before accepting; false when the trial ended meanwhile.
    fn sleep_until(&mut self, window: Window, delay: Duration, burns: &mut Burns) -> Result<bool> {
        let until = window.start_ns.saturating_add(clock::nanoseconds(delay));
        let mut events = Events::with_capacity(1);
        loop {
            let now_ns = clock::monotonic_ns();
            burns.burn_due(now_ns, &self.worker.control, || self.running());
            let left = until.min(burns.next_ns().unwrap_or(u64::MAX)).saturating_sub(now_ns);
            if !self.running() {
                return Ok(false);
            }
            if clock::monotonic_ns() >= until {
                return Ok(true);
            }
            wait(&mut self.poll, &mut events, Some(Duration::from_nanos(left)))?;
        }
    }

    fn run(&mut self, burns: &mut Burns, meter: &mut Meter<'_>) -> Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while self.running() {
            let now_ns = clock::monotonic_ns();
            burns.burn_due(now_ns, &self.worker.control, || self.running());
            if self.paused_until_ns.is_some_and(|until_ns| until_ns <= now_ns) {
                self.paused_until_ns = None;
                if let Some(acceptor) = &mut self.acceptor {
                    acceptor.register(self.poll.registry()).context("adding the listener to epoll")?;
                }
            }
            let next_ns = [self.paused_until_ns, burns.next_ns()].into_iter().flatten().min();
            let mut left = next_ns.map(|next_ns| Duration::from_nanos(next_ns.saturating_sub(now_ns)));
            for source in sources(&mut self.acceptor, &mut self.datagrams) {
                let patience = source.before_wait().context("preparing to accept")?;
                left = [left, patience].into_iter().flatten().min();
            }
            wait(&mut self.poll, &mut events, left)?;
            self.woke_ns = clock::monotonic_ns();
            meter.pass(self.woke_ns);
            for source in sources(&mut self.acceptor, &mut self.datagrams) {
                source.woke(events.iter().count());
            }
            self.take_in(&events, meter)?;
            for event in events.iter().filter(|event| event.token().0 >= FIRST_CONNECTION) {
                if !self.running() {
                    return Ok(());
                }
                self.ready(event, meter);
            }
        }
        Ok(())
    }

    /// Accepts and serves what is new.
    fn take_in(&mut self, events: &Events, meter: &mut Meter<'_>) -> Result<()> {
        let ready = |token: Token| events.iter().any(|event| event.token() == token);
        if ready(accept::TOKEN) {
            self.accept(meter)?;
        }
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.after_accepts().context("ending the accepts")?;
        }
        self.serve_fresh(meter);
        if let (true, Some(datagrams)) = (ready(accept::TOKEN_DATAGRAMS), &mut self.datagrams) {
            let worker = &self.worker;
            let running = || worker.control.phase() == Phase::Running;
            datagrams.serve(worker.batch(), running, &mut self.application, &mut self.errors, meter)?;
        }
        Ok(())
    }

    /// Looked at between any two requests: after a stop, what is still unserved has no client any more.
    fn running(&self) -> bool {
        self.worker.control.phase() == Phase::Running
    }

    /// Accepts a batch. It is served next: the batch's size decides how long the queue waits for the service.
    fn accept(&mut self, meter: &mut Meter<'_>) -> Result<()> {
        let Some(mut acceptor) = self.acceptor.take() else { return Ok(()) };
        let result = self.accept_from(acceptor.as_mut(), meter);
        self.acceptor = Some(acceptor);
        result
    }

    fn accept_from(&mut self, acceptor: &mut dyn Acceptor, meter: &mut Meter<'_>) -> Result<()> {
        let most = self.worker.batch();
        meter.add(Count::Wakeups, 1);
        let mut accepted = 0;
        let mut emptied = false;
        while accepted < most && self.running() {
            match acceptor.accept() {
                Ok(connection) => {
                    accepted += 1;
                    self.count(&connection, meter);
                    if !self.open(connection, meter) {
                        acceptor.closed();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    meter.add(Count::AcceptEagain, 1);
                    emptied = true;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.errors.add(Step::Accept, &error);
                    if error.kind() == ErrorKind::ConnectionAborted {
                        // It concerns one connection: the next may be well.
                        continue;
                    }
                    // EMFILE, ENFILE, ENOBUFS, ENOMEM: the worker can take none now, and a queue that is not empty would
                    // wake it again at once, for nothing.
                    acceptor.deregister().context("taking the listener out of epoll")?;
                    self.paused_until_ns = Some(clock::monotonic_ns() + EXHAUSTED_PAUSE_NS);
                    break;
                }
            }
        }
        if accepted == 0 && emptied {
            meter.add(Count::EmptyWakeups, 1);
        }
        if accepted > 0 {
            meter.batch(accepted);
        }
        if !emptied && self.paused_until_ns.is_none() {
            acceptor.left_some().context("re-arming the listener in epoll")?;
        }
        Ok(())
    }

    /// Enters a connection where all accepts are counted.
    fn count(&self, accepted: &Accepted, meter: &mut Meter<'_>) {
        meter.accepted(accepted.accept_ns);
        match (&self.worker.ledger, accepted.peer) {
            (Some(ledger), Some(peer)) => ledger.accepted(peer, self.worker.number as u16, accepted.accept_ns),
            (Some(ledger), None) => ledger.accepted_nameless(),
            (None, _) => {}
        }
        if let Some(stamps) = &self.worker.stamps {
            match accepted.peer.and_then(|peer| stamps.take(peer)) {
                Some(established_ns) if established_ns <= accepted.accept_ns => {
                    meter.waited(established_ns, accepted.accept_ns);
                }
                _ => meter.add(Count::Unstamped, 1),
            }
        }
    }

    /// Takes a connection up, to be served after the wake-up's accepts; false when it is over already.
    fn open(&mut self, accepted: Accepted, meter: &Meter<'_>) -> bool {
        // A client that has gone needs no service.
        let Some(peer) = accepted.peer else { return false };
        let Accepted { stream, accept_ns, .. } = accepted;
        match self.own_end(&stream) {
            Ok(server) => {
                let tuple = Tuple { client: peer, server };
                let arrival = Arrival { stream, tuple, accept_ns, woke_ns: self.woke_ns };
                let connection = self.application.take_up(arrival);
                meter.opened();
                self.fresh.push_back(self.connections.insert(connection));
                true
            }
            Err(error) => {
                self.errors.add(Step::Accept, &error);
                false
            }
        }
    }

    /// The server's end of a connection. A listener bound to one address has no connections of others.
    fn own_end(&self, stream: &TcpStream) -> io::Result<SocketAddr> {
        let bound = self.worker.scenario.address;
        if bound.ip().is_unspecified() { stream.local_addr() } else { Ok(bound) }
    }

    fn serve_fresh(&mut self, meter: &mut Meter<'_>) {
        while let Some(key) = self.fresh.pop_front() {
            if !self.running() {
                return;
            }
            self.serve(key, false, meter);
        }
    }

    fn ready(&mut self, event: &Event, meter: &mut Meter<'_>) {
        let key = event.token().0 - FIRST_CONNECTION;
        // Served and closed earlier in this wake-up.
        if self.connections.contains(key) {
            self.serve(key, event.is_read_closed(), meter);
        }
    }

    fn serve(&mut self, key: usize, ended: bool, meter: &mut Meter<'_>) {
        let connection = &mut self.connections[key];
        let next = match self.application.serve(connection, ended) {
            Ok(Next::Wait) => {
                // Registered only now: a connection served from its first read never needs it.
                match watch(self.poll.registry(), connection, Token(FIRST_CONNECTION + key)) {
                    Ok(()) => return,
                    Err(error) => {
                        self.errors.add(Step::Serve, &error);
                        Next::Gone
                    }
                }
            }
            Ok(next) => next,
            Err(error) => {
                // A client that closes by reset is as good as gone; what it still lacked, it counts itself.
                if error.kind() != ErrorKind::ConnectionReset {
                    self.errors.add(Step::Serve, &error);
                }
                Next::Gone
            }
        };
        // A close that the scenario leaves to the client, but the client's request asked for, is an orderly one.
        let load = &self.worker.scenario.load;
        if next == Next::Close && load.close_by == CloseBy::Server && load.close_how == CloseHow::Rst {
            let reset = SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO));
            if let Err(error) = reset {
                self.errors.add(Step::Serve, &error);
            }
        }
        // Closing the descriptor takes it out of epoll.
        self.connections.remove(key);
        meter.closed();
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.closed();
        }
    }
}

/// Has epoll watch a connection for what it waits for.
fn watch(registry: &Registry, connection: &mut Connection, token: Token) -> io::Result<()> {
    let awaited = connection.awaits();
    match connection.watched.replace(awaited) {
        Some(watched) if watched == awaited => Ok(()),
        Some(_) => registry.reregister(&mut connection.stream, token, awaited),
        None => registry.register(&mut connection.stream, token, awaited),
    }
}

/// What wakes the worker for new work.
fn sources<'a>(
    acceptor: &'a mut Option<Box<dyn Acceptor>>,
    datagrams: &'a mut Option<Datagrams>,
) -> impl Iterator<Item = &'a mut dyn Source> {
    let acceptor = acceptor.as_mut().map(|acceptor| acceptor.as_mut() as &mut dyn Source);
    let receiver = datagrams.as_mut().map(|datagrams| datagrams.receiver.as_mut() as &mut dyn Source);
    acceptor.into_iter().chain(receiver)
}

/// Waits for events; a signal counts as a wake-up without any.
fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        result => result.context("epoll_wait"),
    }
}
