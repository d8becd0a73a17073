//! The loader's loop: start what is due, follow each connection to its end, count everything once.
//!
//! Every attempt ends in exactly one of two ways: completed, or one error counted by phase and errno.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use mio::{Events, Interest, Poll, Token, event::Event, unix::SourceFd};
use nix::sys::{
    time::{TimeSpec, TimeValLike},
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use serde::{Deserialize, Serialize};
use slab::Slab;
use socket2::{Domain, SockRef, Socket, Type};

use super::{
    client::{self, Client, Reply},
    connection::{Connection, Phase},
    measures::{Latency, Measures},
    pacer::{Pacer, Part},
};
use crate::{
    ipc::{
        control::{Control, LoaderCount, Window},
        ledger::Ledger,
        receipt::{Receipt, Tuple},
        tally::{Cause, ErrorCount, Step, Tally},
    },
    scenario::{App, CloseBy, CloseHow, Scenario},
    sys::{clock, limits, socket},
};

const TIMER: Token = Token(0);
/// Tokens of connections are their slab keys, moved past the timer's.
const FIRST_CONNECTION: usize = 1;
const EVENTS: usize = 1_024;
/// Starts in one go, before events are looked at again.
const STARTS_AT_ONCE: usize = 64;
/// How often time-outs are looked for.
const SWEEP_NS: u64 = 100_000_000;
/// A closed loop's pause after a connection that failed, lest a refusal that costs nothing turn into a busy loop.
const ERROR_PAUSE_NS: u64 = 10_000_000;
const SCRATCH_BYTES: usize = 65_536;

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
}

/// A loader's account.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct LoaderReport {
    /// Connections begun.
    pub attempted: u64,
    /// Of those, established.
    pub established: u64,
    /// Of those, gone as planned to their end.
    pub completed: u64,
    /// Established, and over without a sign that a worker accepted them.
    pub unserved: u64,
    /// Replies that belong to another connection or request.
    pub misdelivered: u64,
    /// Replies.
    pub replies: u64,
    /// Of those, with a receipt that was checked.
    pub verified: u64,
    /// Starts intended within the measured window.
    pub measured_planned: u64,
    /// Of those, begun before the window's end.
    pub measured_in_time: u64,
    /// Of those, completed.
    pub measured_completed: u64,
    /// Failed connections by phase and errno; their sum is attempted − completed.
    pub errors: Vec<ErrorCount>,
    /// Latencies beyond the histograms' 60 s.
    pub overflows: u64,
    /// Names the schedule; open loop only.
    pub schedule: Option<u64>,
    /// When the last connection ended, in nanoseconds of CLOCK_MONOTONIC.
    pub ended_ns: u64,
    /// Whether the deadline ended the load.
    pub gave_up: bool,
    /// CPU time in user mode from the barrier on.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel from the barrier on.
    pub cpu_system_ns: u64,
}

impl Loader {
    /// Sets up, waits for the barrier, runs the load to its end and returns account and histograms.
    pub fn run(self) -> Result<(LoaderReport, Measures)> {
        limits::raise_open_files().context("raising the limit of open files")?;
        let poll = Poll::new().context("epoll_create")?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
            .context("timerfd_create")?;
        poll.registry()
            .register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)
            .context("registering the timer")?;
        let measures = Measures::new(&self.scenario);
        let client = client::build(&self.scenario, &self.target.to_string());
        let scratch = vec![0; SCRATCH_BYTES];
        let window = self.control.wait_for_start();
        let before = clock::cpu_use();
        let mut work = Loop {
            pacer: Pacer::new(&self.scenario, window, self.part, self.seed, self.repetition),
            loader: self,
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
            scratch,
            request: Vec::with_capacity(SCRATCH_BYTES),
            measures,
            errors: Tally::default(),
            report: LoaderReport::default(),
        };
        work.run()?;
        let cpu = clock::cpu_use();
        let report = LoaderReport {
            measured_planned: work.pacer.measured(),
            errors: work.errors.counts(),
            overflows: work.measures.overflows(),
            schedule: work.pacer.digest(),
            cpu_user_ns: cpu.user_ns - before.user_ns,
            cpu_system_ns: cpu.system_ns - before.system_ns,
            ..work.report
        };
        Ok((report, work.measures))
    }
}

struct Loop {
    loader: Loader,
    window: Window,
    poll: Poll,
    timer: TimerFd,
    /// When the timer fires; it is set anew only when that changes.
    armed_ns: u64,
    next_sweep_ns: u64,
    pacer: Pacer,
    client: Box<dyn Client>,
    connections: Slab<Connection>,
    /// (end of hold, key, id), in order, because every hold is as long.
    held: VecDeque<(u64, usize, u64)>,
    started: u64,
    nonce: u32,
    scratch: Vec<u8>,
    request: Vec<u8>,
    measures: Measures,
    errors: Tally,
    report: LoaderReport,
}

/// Whether a connection goes on or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Goes,
    Completed,
    Failed(Step, Cause),
}

impl Loop {
    fn run(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let now_ns = clock::monotonic_ns();
            if now_ns >= self.window.deadline_ns {
                self.give_up(now_ns);
                return Ok(());
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
        let next_ns = [self.pacer.next(), self.held.front().map(|held| held.0)]
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
        let socket = match self.socket() {
            Ok(socket) => socket,
            Err(error) => return self.failed_to_start(Step::Socket, &error),
        };
        let connect_ns = clock::monotonic_ns();
        if measured {
            self.measures.record(Latency::SendLag, connect_ns - intended_ns);
            self.report.measured_in_time += u64::from(connect_ns < self.window.measure_to_ns);
        }
        match socket.connect(&self.loader.target.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                return self.failed_to_start(Step::Connect, &error);
            }
            _ => {}
        }
        let stream = mio::net::TcpStream::from_std(socket.into());
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
            intended_ns,
            connect_ns,
            waiting_since_ns: connect_ns,
            response_from_ns: intended_ns,
            service_from_ns: connect_ns,
            measured,
            served: false,
            nonce: 0,
            requests_left: self.loader.scenario.load.requests,
            input: Vec::new(),
            unsent: Vec::new(),
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) =
            self.poll.registry().register(&mut connection.stream, Token(FIRST_CONNECTION + key), interest)
        {
            self.end(key, Progress::Failed(Step::Socket, Cause::from(&error)), connect_ns);
        }
    }

    fn socket(&self) -> io::Result<Socket> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(self.loader.target), kind, None)?;
        if self.loader.scenario.server.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        Ok(socket)
    }

    fn failed_to_start(&mut self, step: Step, error: &io::Error) {
        let now_ns = clock::monotonic_ns();
        self.errors.add(step, error);
        self.report.ended_ns = now_ns;
        self.pacer.freed(now_ns + ERROR_PAUSE_NS);
    }

    /// Something happened on a connection.
    fn follow(&mut self, event: &Event) {
        let key = event.token().0 - FIRST_CONNECTION;
        // It may have ended in this round already.
        if !self.connections.contains(key) {
            return;
        }
        let now_ns = clock::monotonic_ns();
        let progress = self.advance(key, event, now_ns);
        if progress != Progress::Goes {
            self.end(key, progress, now_ns);
        }
    }

    fn advance(&mut self, key: usize, event: &Event, now_ns: u64) -> Progress {
        let connection = &mut self.connections[key];
        if connection.phase == Phase::Connecting {
            match connection.stream.take_error() {
                // A reset in place of a refusal: the connection was established and then reset, which is for the
                // exchange to judge.
                Ok(Some(error)) if error.kind() != ErrorKind::ConnectionReset => {
                    return Progress::Failed(Step::Connect, Cause::from(&error));
                }
                Err(error) => return Progress::Failed(Step::Connect, Cause::from(&error)),
                Ok(reset) => {
                    self.established(key, now_ns);
                    if reset.is_some() {
                        return self.server_ended(key, Cause::Errno(libc::ECONNRESET), now_ns);
                    }
                }
            }
            let progress = self.ask(key);
            // A server that closes at once may be in the same event as the establishment, and then no other comes.
            if progress != Progress::Goes || !event.is_readable() {
                return progress;
            }
        } else if !connection.unsent.is_empty() {
            let progress = self.send(key);
            if progress != Progress::Goes || !self.connections[key].unsent.is_empty() {
                return progress;
            }
        }
        self.receive(key, event.is_read_closed(), now_ns)
    }

    fn established(&mut self, key: usize, now_ns: u64) {
        let connection = &mut self.connections[key];
        connection.phase = Phase::Exchanging;
        connection.waiting_since_ns = now_ns;
        self.report.established += 1;
        self.loader.control.add_loader(self.loader.part.loader, LoaderCount::Established);
        if let Some(ledger) = &self.loader.ledger {
            ledger.established(connection.tuple.client.port());
        }
        if connection.measured {
            self.measures.record(Latency::Connect, now_ns - connection.connect_ns);
            self.measures.record(Latency::ConnectFromIntended, now_ns - connection.intended_ns);
        }
    }

    /// Sends the next request.
    fn ask(&mut self, key: usize) -> Progress {
        let connection = &mut self.connections[key];
        connection.requests_left = connection.requests_left.saturating_sub(1);
        self.nonce = self.nonce.wrapping_add(1);
        connection.nonce = self.nonce;
        self.request.clear();
        self.client.ask(self.nonce, connection.requests_left == 0, &mut self.request);
        match write(connection, &self.request) {
            Ok(length) => {
                connection.unsent.extend_from_slice(&self.request[length..]);
                Progress::Goes
            }
            Err(error) => Progress::Failed(Step::Send, Cause::from(&error)),
        }
    }

    fn send(&mut self, key: usize) -> Progress {
        let connection = &mut self.connections[key];
        let unsent = std::mem::take(&mut connection.unsent);
        match write(connection, &unsent) {
            Ok(length) => {
                connection.unsent.extend_from_slice(&unsent[length..]);
                Progress::Goes
            }
            Err(error) => Progress::Failed(Step::Send, Cause::from(&error)),
        }
    }

    /// Reads what has come. `ended`: the event says that the server has closed, so the end is there to be read.
    fn receive(&mut self, key: usize, ended: bool, now_ns: u64) -> Progress {
        loop {
            let connection = &mut self.connections[key];
            let length = match connection.stream.read(&mut self.scratch) {
                Ok(0) => return self.server_ended(key, Cause::EndOfFile, now_ns),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Goes,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.server_ended(key, Cause::from(&error), now_ns),
            };
            let progress = self.take(key, length, now_ns);
            // A read that did not fill the buffer emptied the socket; what comes later makes an event of its own. The
            // server's close that came with the data does not.
            if progress != Progress::Goes || (length < SCRATCH_BYTES && !ended) {
                return progress;
            }
        }
    }

    /// Judges `length` new bytes in the scratch buffer.
    fn take(&mut self, key: usize, length: usize, now_ns: u64) -> Progress {
        let connection = &mut self.connections[key];
        if connection.phase != Phase::Exchanging {
            return Progress::Failed(Step::Close, Cause::BadReply);
        }
        let fresh = &self.scratch[..length];
        let reply = if connection.input.is_empty() {
            let reply = self.client.take(fresh, false);
            if reply == Reply::Partial {
                connection.input.extend_from_slice(fresh);
            }
            reply
        } else {
            connection.input.extend_from_slice(fresh);
            self.client.take(&connection.input, false)
        };
        match reply {
            Reply::Partial => Progress::Goes,
            Reply::Bad(cause) => Progress::Failed(Step::Receive, cause),
            Reply::Whole { length: whole, receipt } => {
                let had = if connection.input.is_empty() { length } else { connection.input.len() };
                connection.input.clear();
                // A client that has asked once is owed one reply.
                if whole != had {
                    return Progress::Failed(Step::Receive, Cause::BadReply);
                }
                self.replied(key, receipt, now_ns)
            }
        }
    }

    /// The server has closed or reset the connection: as planned, as a reply's end, or too early.
    fn server_ended(&mut self, key: usize, cause: Cause, now_ns: u64) -> Progress {
        let load = &self.loader.scenario.load;
        let reset = cause == Cause::Errno(libc::ECONNRESET);
        let as_agreed = load.close_by == CloseBy::Server && reset == (load.close_how == CloseHow::Rst);
        let connection = &mut self.connections[key];
        match connection.phase {
            Phase::AwaitingClose if as_agreed => Progress::Completed,
            Phase::Exchanging if as_agreed || cause == Cause::EndOfFile => {
                let input = std::mem::take(&mut connection.input);
                match self.client.take(&input, true) {
                    Reply::Whole { receipt, .. } => match self.replied(key, receipt, now_ns) {
                        Progress::Goes if self.connections[key].phase == Phase::Exchanging => {
                            Progress::Failed(Step::Receive, Cause::EndOfFile)
                        }
                        // The reply's end was the connection's end.
                        Progress::Goes => Progress::Completed,
                        progress => progress,
                    },
                    Reply::Bad(cause) => Progress::Failed(Step::Receive, cause),
                    Reply::Partial => Progress::Failed(Step::Receive, cause),
                }
            }
            _ => Progress::Failed(connection.step(), cause),
        }
    }

    /// A whole reply has come: checks whose it is, records it, goes on to what follows.
    fn replied(&mut self, key: usize, receipt: Option<Receipt>, now_ns: u64) -> Progress {
        self.report.replies += 1;
        if !self.verify(key, receipt) {
            self.report.misdelivered += 1;
            return Progress::Failed(Step::Receive, Cause::BadReply);
        }
        let connection = &mut self.connections[key];
        if connection.measured {
            self.measures.record(Latency::Response, now_ns - connection.response_from_ns);
            self.measures.record(Latency::Service, now_ns - connection.service_from_ns);
        }
        connection.waiting_since_ns = now_ns;
        if connection.requests_left > 0 {
            connection.response_from_ns = now_ns;
            connection.service_from_ns = now_ns;
            return self.ask(key);
        }
        let load = &self.loader.scenario.load;
        if load.close_by == CloseBy::Server {
            connection.phase = Phase::AwaitingClose;
            Progress::Goes
        } else if load.hold.is_zero() {
            Progress::Completed
        } else {
            connection.phase = Phase::Holding;
            self.held.push_back((now_ns + clock::nanoseconds(load.hold), key, connection.id));
            Progress::Goes
        }
    }

    /// Checks a reply's receipt and records the accept wait of the connection's first; false when it is not ours.
    fn verify(&mut self, key: usize, receipt: Option<Receipt>) -> bool {
        let connection = &mut self.connections[key];
        let first = !std::mem::replace(&mut connection.served, true);
        let (worker, wait_ns) = match receipt {
            Some(receipt) => {
                self.report.verified += 1;
                // Only this machine's clock can be compared with ours.
                if !connection.tuple.server.ip().is_loopback() && self.loader.ledger.is_none() {
                    return receipt.belongs_to(connection.nonce, &connection.tuple);
                }
                match receipt.wait_since(connection.connect_ns) {
                    Some(wait_ns) if receipt.belongs_to(connection.nonce, &connection.tuple) => {
                        (receipt.worker, wait_ns)
                    }
                    _ => return false,
                }
            }
            None if matches!(self.loader.scenario.server.app, App::Close) => {
                // Nobody replies; but the worker has entered the accept in the ledger before it closed.
                let entry = self
                    .loader
                    .ledger
                    .as_ref()
                    .and_then(|ledger| ledger.entry(connection.tuple.client.port(), connection.connect_ns));
                match entry {
                    Some(entry) => (entry.worker, entry.accept_ns - connection.connect_ns),
                    None => {
                        // Whoever closed it, no worker of ours did; or this server has no ledger.
                        connection.served = self.loader.ledger.is_none();
                        return true;
                    }
                }
            }
            // Another server's reply. Ours always has a receipt, so within a trial it is not a worker's.
            None => return self.loader.ledger.is_none(),
        };
        !(connection.measured && first) || self.measures.record_accept_wait(worker, wait_ns)
    }

    fn end(&mut self, key: usize, progress: Progress, now_ns: u64) {
        let connection = self.connections.remove(key);
        let was_established = connection.phase != Phase::Connecting;
        let load = &self.loader.scenario.load;
        if was_established && !connection.served {
            self.report.unserved += 1;
        }
        self.report.ended_ns = now_ns;
        match progress {
            Progress::Failed(step, cause) => {
                self.errors.add(step, cause);
                self.pacer.freed(now_ns + ERROR_PAUSE_NS);
            }
            Progress::Completed | Progress::Goes => {
                self.report.completed += 1;
                self.report.measured_completed += u64::from(connection.measured);
                self.loader.control.add_loader(self.loader.part.loader, LoaderCount::Completed);
                self.pacer.freed(now_ns);
            }
        }
        if load.close_by == CloseBy::Client && load.close_how == CloseHow::Rst {
            // Fails on a socket that is closed already, which is as well.
            let _ = SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO));
        }
    }

    fn release_held(&mut self, now_ns: u64) {
        while let Some(&(until_ns, key, id)) = self.held.front() {
            if until_ns > now_ns {
                return;
            }
            self.held.pop_front();
            // The slot may hold a later connection, if the server closed the held one early.
            if self.connections.get(key).is_some_and(|connection| connection.id == id) {
                self.end(key, Progress::Completed, now_ns);
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

    fn give_up(&mut self, now_ns: u64) {
        self.report.gave_up = true;
        let open: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in open {
            self.abandon(key, Cause::Deadline, now_ns);
        }
    }

    fn abandon(&mut self, key: usize, cause: Cause, now_ns: u64) {
        let connection = &self.connections[key];
        if connection.phase == Phase::Connecting {
            // A handshake may complete at this very moment. Shutting down first settles it: in SYN_SENT the kernel
            // drops the attempt (state CLOSE), otherwise the connection was established and the server has it.
            let _ = connection.stream.shutdown(Shutdown::Both);
            if socket::has_connection(&connection.stream).unwrap_or(false) {
                self.established(key, now_ns);
            }
        }
        let step = self.connections[key].step();
        self.end(key, Progress::Failed(step, cause), now_ns);
    }
}

/// Writes as much as the socket takes.
fn write(connection: &mut Connection, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match connection.stream.write(&bytes[written..]) {
            Ok(length) => written += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
