//! The loader's loop: start what is due, follow each connection to its end, count everything once.
//!
//! Every attempt ends in exactly one of two ways: completed, or one error counted by phase and errno.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    net::{Shutdown, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use nix::sys::{
    socket::{setsockopt, sockopt},
    time::{TimeSpec, TimeValLike},
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use slab::Slab;
use socket2::{Domain, SockRef, Socket, Type};

use super::{
    client::{self, Client},
    connection::{Answered, Connection, Phase, Stream},
    exchange::Progress,
    measures::{Latency, Measures, Waits},
    pacer::{Pacer, Part},
    report::LoaderReport,
    source::{self, Group, Share, Source},
    stages::Stage,
};
use crate::{
    ipc::{
        control::{Control, LoaderCount, Phase as ControlPhase, Window},
        ledger::Ledger,
        receipt::Tuple,
        tally::{Cause, Step, Tally},
    },
    observe::{ports::Range, stamps::Stamps},
    scenario::{CloseBy, CloseHow, Scenario, Transport, Waiting},
    sys::{affinity, clock, limits, socket},
};

const TIMER: Token = Token(0);
/// Tokens of connections are their slab keys, moved past the timer's.
pub(super) const FIRST_CONNECTION: usize = 1;
const EVENTS: usize = 1_024;
/// Starts in one go, before events are looked at again.
const STARTS_AT_ONCE: usize = 64;
/// How often time-outs are looked for.
const SWEEP_NS: u64 = 100_000_000;
/// A closed loop's pause after a connection that failed, lest a refusal that costs nothing turn into a busy loop.
const ERROR_PAUSE_NS: u64 = 10_000_000;
pub(super) const SCRATCH_BYTES: usize = 65_536;

/// What a forked loader needs.
pub struct Loader {
    /// Which part of the load is this one's.
    pub part: Part,
    /// The cell's scenario.
    pub scenario: Arc<Scenario>,
    /// Where to connect.
    pub target: SocketAddr,
    /// Seed of the schedule.
    pub seed: u64,
    /// Repetition, so that each has another schedule, and each strategy the same.
    pub repetition: usize,
    /// The trial's control block.
    pub control: Arc<Control>,
    /// The trial's port ledger; there is none for another program's server.
    pub ledger: Option<Arc<Ledger>>,
    /// When connections were established, where that is known.
    pub stamps: Option<Arc<Stamps>>,
    /// Which accept waits are recorded.
    pub waits: Waits,
}

impl Loader {
    /// Sets up, waits for the barrier, runs the load to its end and returns account and histograms.
    pub fn run(self) -> Result<(LoaderReport, Measures)> {
        limits::raise_open_files().context("raising the limit of open files")?;
        let allowed = affinity::allowed_cpus().context("sched_getaffinity")?;
        if let Some(cpu) = self.scenario.load.pin.processor(self.part.loader, &allowed) {
            affinity::pin_to(cpu)
                .with_context(|| format!("pinning the loader to processor {cpu} (sched_setaffinity)"))?;
        }
        let poll = Poll::new().context("epoll_create")?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
            .context("timerfd_create")?;
        poll.registry()
            .register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)
            .context("registering the timer")?;
        let measures = Measures::new(&self.scenario, self.waits, self.control.records());
        let client = client::build(&self.scenario, &self.target.to_string());
        let scratch = vec![0; SCRATCH_BYTES];
        let range = Range::read().context("reading ip_local_port_range")?;
        let groups = source::groups(&self.scenario.sources, &[self.target]);
        let share = Share { process: self.part.loader, processes: self.part.loaders };
        let window = self.control.wait_for_start();
        let before = clock::cpu_use();
        let mut work = Loop {
            pacer: Pacer::new(&self.scenario, window, self.part, self.seed, self.repetition),
            source: source::build(self.scenario.sources.selection, &range, groups.len(), share, self.seed),
            groups,
            window,
            poll,
            timer,
            armed_ns: 0,
            next_sweep_ns: window.start_ns + SWEEP_NS,
            client,
            connections: Slab::with_capacity(EVENTS),
            held: VecDeque::with_capacity(EVENTS),
            started: 0,
            nonce: 0,
            udp_owed: 0.0,
            follow_up_ns: self.scenario.load.follow_up.map(|after| window.start_ns + clock::nanoseconds(after)),
            strands: self.scenario.server.strategy.waiting() != Waiting::Never,
            scratch,
            request: Vec::with_capacity(SCRATCH_BYTES),
            measures,
            errors: Tally::default(),
            report: LoaderReport::default(),
            loader: self,
        };
        work.run()?;
        let cpu = clock::cpu_use();
        let measured = work.pacer.measured();
        let report = LoaderReport {
            measured_planned: measured.count,
            measured_first_ns: measured.first_ns,
            measured_last_ns: measured.last_ns,
            errors: work.errors.counts(),
            overflows: work.measures.overflows(),
            schedule: work.pacer.digest(),
            cpu_user_ns: cpu.user_ns - before.user_ns,
            cpu_system_ns: cpu.system_ns - before.system_ns,
            voluntary_switches: cpu.voluntary_switches - before.voluntary_switches,
            involuntary_switches: cpu.involuntary_switches - before.involuntary_switches,
            ..work.report
        };
        Ok((report, work.measures))
    }
}

/// A loader at work. `exchange` holds what it does with each connection's events.
pub(super) struct Loop {
    pub(super) loader: Loader,
    pub(super) window: Window,
    pub(super) poll: Poll,
    pub(super) timer: TimerFd,
    /// When the timer fires; it is set anew only when that changes.
    pub(super) armed_ns: u64,
    pub(super) next_sweep_ns: u64,
    pub(super) pacer: Pacer,
    source: Box<dyn Source>,
    groups: Vec<Group>,
    pub(super) client: Box<dyn Client>,
    pub(super) connections: Slab<Connection>,
    /// (end of hold, key, id), in order, because every hold is as long.
    pub(super) held: VecDeque<(u64, usize, u64)>,
    pub(super) started: u64,
    pub(super) nonce: u32,
    /// Flows that are due by the scenario's share of them; the next start is a flow when one is whole.
    udp_owed: f64,
    /// When the follow-up is due, until it is done.
    follow_up_ns: Option<u64>,
    /// Whether a worker's fault leaves connections with that worker.
    pub(super) strands: bool,
    pub(super) scratch: Vec<u8>,
    pub(super) request: Vec<u8>,
    pub(super) measures: Measures,
    pub(super) errors: Tally,
    pub(super) report: LoaderReport,
}

impl Loop {
    fn run(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let now_ns = clock::monotonic_ns();
            if now_ns >= self.window.deadline_ns {
                self.report.gave_up = true;
                self.give_up(Cause::Deadline, now_ns);
                return Ok(());
            }
            if self.loader.control.phase() != ControlPhase::Running {
                self.give_up(Cause::Interrupted, now_ns);
                return Ok(());
            }
            if self.follow_up_ns.is_some_and(|due_ns| due_ns <= now_ns) {
                self.follow_up(now_ns);
            }
            self.release_held(now_ns);
            if now_ns >= self.next_sweep_ns {
                self.sweep(now_ns);
            }
            self.start_due(now_ns);
            if self.connections.is_empty() && self.pacer.next().is_none() {
                return Ok(());
            }
            let timeout = self.arm(now_ns)?;
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.context("epoll_wait")?,
            }
            for event in events.iter().filter(|event| event.token() != TIMER) {
                self.follow(event);
            }
        }
    }

    /// Sets the timer to the next thing to do; a zero time-out when that is due already. epoll's own time-out counts
    /// in milliseconds only.
    fn arm(&mut self, now_ns: u64) -> Result<Option<Duration>> {
        let next_ns = [self.pacer.next(), self.held.front().map(|held| held.0), self.follow_up_ns]
            .into_iter()
            .flatten()
            .fold(self.next_sweep_ns.min(self.window.deadline_ns), u64::min);
        if next_ns <= now_ns {
            return Ok(Some(Duration::ZERO));
        }
        if next_ns != self.armed_ns {
            let at = Expiration::OneShot(TimeSpec::nanoseconds(next_ns as i64));
            self.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME).context("timerfd_settime")?;
            self.armed_ns = next_ns;
        }
        Ok(None)
    }

    fn start_due(&mut self, now_ns: u64) {
        for _ in 0..STARTS_AT_ONCE {
            if self.pacer.next().is_none_or(|next| next > now_ns) {
                return;
            }
            if let Some(intended_ns) = self.pacer.take() {
                self.start(intended_ns);
            }
        }
    }

    fn start(&mut self, intended_ns: u64) {
        self.report.attempted += 1;
        self.loader.control.add_loader(self.loader.part.loader, LoaderCount::Attempted);
        let measured = self.window.measures(intended_ns);
        let transport = self.next_transport();
        let socket = self.socket(transport);
        let connect_ns = clock::monotonic_ns();
        if measured {
            self.measures.record(Latency::SendLag, connect_ns - intended_ns);
            self.report.measured_in_time += u64::from(connect_ns < self.window.measure_to_ns);
        }
        let group = self.groups[self.report.attempted as usize % self.groups.len()];
        let socket = match socket.map_err(|error| (Step::Socket, error)) {
            Ok(socket) => self.connect(socket, transport, &group),
            Err(failed) => Err(failed),
        };
        let socket = match socket {
            Ok(socket) => socket,
            Err((step, error)) => return self.failed_to_start(step, &error),
        };
        let stream = Stream::new(transport, socket);
        let client = match stream.local_addr() {
            Ok(client) => client,
            Err(error) => return self.failed_to_start(Step::Connect, &error),
        };
        self.started += 1;
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let connection = entry.insert(Connection {
            stream,
            phase: Phase::Connecting,
            id: self.started,
            tuple: Tuple { client, server: self.loader.target },
            group: group.number,
            intended_ns,
            connect_ns,
            waiting_since_ns: connect_ns,
            response_from_ns: intended_ns,
            service_from_ns: connect_ns,
            measured,
            served: false,
            nonce: 0,
            requests_left: self.loader.scenario.load.requests,
            asked_early: false,
            following_up: false,
            hold_until_ns: 0,
            answered: Answered::default(),
            staged: false,
            input: Vec::new(),
            unsent: Vec::new(),
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(FIRST_CONNECTION + key);
        if let Err(error) = self.poll.registry().register(&mut connection.stream, token, interest) {
            self.end(key, Progress::Failed(Step::Socket, Cause::from(&error)), connect_ns);
        } else if transport == Transport::Udp {
            self.begin_flow(key, connect_ns);
        }
    }

    /// Begins to connect from a port of the scenario's selection.
    fn connect(
        &mut self,
        mut socket: Socket,
        transport: Transport,
        group: &Group,
    ) -> Result<Socket, (Step, io::Error)> {
        /// Windows, or ports of its own, that a loader tries before it counts a failure.
        const TRIES: usize = 64;
        for tries in 1.. {
            self.source.prepare(&socket, group).map_err(|error| (Step::Bind, error))?;
            match socket.connect(&self.loader.target.into()) {
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => break,
                Err(error)
                    if error.raw_os_error() == Some(libc::EADDRNOTAVAIL)
                        && tries < TRIES
                        && self.source.try_elsewhere(group) =>
                {
                    socket = self.socket(transport).map_err(|error| (Step::Socket, error))?;
                }
                Err(error) => return Err((Step::Connect, error)),
                Ok(()) => break,
            }
        }
        Ok(socket)
    }

    /// Spreads the scenario's share of flows evenly over the starts.
    fn next_transport(&mut self) -> Transport {
        self.udp_owed += self.loader.scenario.load.udp_share;
        if self.udp_owed >= 1.0 {
            self.udp_owed -= 1.0;
            return Transport::Udp;
        }
        Transport::Tcp
    }

    fn socket(&self, transport: Transport) -> io::Result<Socket> {
        let server = &self.loader.scenario.server;
        let kind = match transport {
            Transport::Tcp => Type::STREAM,
            Transport::Udp => Type::DGRAM,
        };
        let socket = Socket::new(Domain::for_address(self.loader.target), kind.nonblocking().cloexec(), None)?;
        if transport == Transport::Tcp && server.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        if transport == Transport::Tcp && server.listen.fastopen > 0 {
            setsockopt(&socket, sockopt::TcpFastOpenConnect, &true)?;
        }
        Ok(socket)
    }

    fn failed_to_start(&mut self, step: Step, error: &io::Error) {
        let now_ns = clock::monotonic_ns();
        if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE)) {
            self.report.first_exhausted_ns.get_or_insert(now_ns);
        }
        self.errors.add(step, error);
        self.loader.control.add_loader(self.loader.part.loader, LoaderCount::Failed);
        self.report.ended_ns = now_ns;
        self.pacer.freed(now_ns + ERROR_PAUSE_NS);
    }

    /// Counts a connection's end, completed or failed, and closes it as the scenario says.
    pub(super) fn end(&mut self, key: usize, progress: Progress, now_ns: u64) {
        let connection = self.connections.remove(key);
        let was_established = connection.phase != Phase::Connecting;
        let load = &self.loader.scenario.load;
        if connection.stream.is_udp() {
            self.report.flows.ended(&connection.answered);
        } else if was_established && !connection.served {
            self.report.unserved += 1;
        }
        self.report.ended_ns = now_ns;
        self.source.freed(&self.groups[connection.group], connection.tuple.client.port());
        if let Progress::Failed(step, cause) = progress {
            self.errors.add(step, cause);
            self.loader.control.add_loader(self.loader.part.loader, LoaderCount::Failed);
            self.pacer.freed(now_ns + ERROR_PAUSE_NS);
        } else {
            if let (true, Some(worker)) = (connection.staged, connection.answered.first) {
                self.measures.record_stage(worker, Stage::Close, now_ns - connection.waiting_since_ns);
            }
            self.report.completed += 1;
            self.report.measured_completed += u64::from(connection.measured);
            self.loader.control.add_loader(self.loader.part.loader, LoaderCount::Completed);
            self.pacer.freed(now_ns);
        }
        if let (Stream::Tcp(stream), CloseBy::Client, CloseHow::Rst) =
            (&connection.stream, load.close_by, load.close_how)
        {
            // Fails on a socket that is closed already, which is as well.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    fn release_held(&mut self, now_ns: u64) {
        while let Some(&(until_ns, key, id)) = self.held.front() {
            if until_ns > now_ns {
                return;
            }
            self.held.pop_front();
            // The slot may hold a later connection, if the server closed the held one early; and one whose follow-up is
            // under way ends with that.
            let held = |connection: &Connection| connection.id == id && connection.phase == Phase::Holding;
            if self.connections.get(key).is_some_and(held) {
                self.end(key, Progress::Completed, now_ns);
            }
        }
    }

    /// One request more on every connection that is held.
    fn follow_up(&mut self, now_ns: u64) {
        let Some(due_ns) = self.follow_up_ns.take() else { return };
        let held = self.connections.iter().filter(|(_, connection)| connection.phase == Phase::Holding);
        let held: Vec<usize> = held.map(|(key, _)| key).collect();
        for key in held {
            let connection = &mut self.connections[key];
            connection.phase = Phase::Exchanging;
            connection.following_up = true;
            connection.waiting_since_ns = now_ns;
            connection.response_from_ns = due_ns;
            connection.service_from_ns = clock::monotonic_ns();
            let progress = self.ask(key);
            if progress != Progress::Goes {
                self.end(key, progress, now_ns);
            }
        }
    }

    /// Ends what has waited longer than the scenario allows.
    fn sweep(&mut self, now_ns: u64) {
        self.next_sweep_ns = now_ns + SWEEP_NS;
        let load = &self.loader.scenario.load;
        let connect_ns = clock::nanoseconds(load.connect_timeout);
        let reply_ns = clock::nanoseconds(load.reply_timeout);
        let late: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                let limit_ns = match connection.phase {
                    Phase::Connecting => connect_ns,
                    Phase::Exchanging | Phase::AwaitingClose => reply_ns,
                    Phase::Holding => u64::MAX,
                };
                now_ns.saturating_sub(connection.waiting_since_ns) >= limit_ns
            })
            .map(|(key, _)| key)
            .collect();
        for key in late {
            self.abandon(key, Cause::TIMED_OUT, now_ns);
        }
    }

    fn give_up(&mut self, cause: Cause, now_ns: u64) {
        let open: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in open {
            self.abandon(key, cause, now_ns);
        }
    }

    fn abandon(&mut self, key: usize, cause: Cause, now_ns: u64) {
        let connection = &self.connections[key];
        if let (Phase::Connecting, Stream::Tcp(stream)) = (connection.phase, &connection.stream) {
            // A handshake may complete at this very moment. Shutting down first settles it: in SYN_SENT the kernel
            // drops the attempt (state CLOSE), otherwise the connection was established and the server has it.
            let _ = stream.shutdown(Shutdown::Both);
            if socket::has_connection(stream).unwrap_or(false) {
                self.established(key, now_ns);
            }
        }
        let step = self.connections[key].step();
        self.end(key, Progress::Failed(step, cause), now_ns);
    }
}
