//! A loader's work, whichever engine does it: what starts when and from where, and what came of it.
//!
//! Every attempt ends in exactly one of two ways: completed, or one error counted by phase and errno.

use std::{
    io,
    net::{IpAddr, Shutdown, SocketAddr},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockRef, Socket, Type};

use super::{
    client::Client,
    connection::{Connection, Phase, Stream},
    connections::Connections,
    exchange::Progress,
    loader::Loader,
    measures::Measures,
    pacer::Pacer,
    report::LoaderReport,
    source::{Group, Source},
};
use crate::{
    ipc::{
        control::{LoaderCount, Window},
        interner::Interner,
        receipt::Tuple,
        tally::Tally,
    },
    record::{Cause, Latency, Stage, Step},
    scenario::Transport,
    sys::{clock, socket},
};

/// A closed loop's pause after a connection that failed, lest a refusal that costs nothing turn into a busy loop.
const ERROR_PAUSE_NS: u64 = 10_000_000;
/// Windows, or ports of its own, that a loader tries before it counts a failure.
const TRIES: usize = 64;

/// A loader at work. `exchange` and `verify` hold what it does with a connection.
pub(super) struct Work {
    pub loader: Loader,
    pub window: Window,
    pub pacer: Pacer,
    pub source: Box<dyn Source>,
    pub groups: Vec<Group>,
    pub client: Box<dyn Client>,
    pub connections: Connections,
    /// Addresses that the kernel picked for connections whose tuple group names none: as good as always one.
    pub picked: Interner<IpAddr>,
    pub nonce: u32,
    /// Flows that are due by the scenario's share of them; the next start is a flow when one is whole.
    pub udp_owed: f64,
    /// The instant of the scenario's follow-up, from which its response times count.
    pub follow_up_ns: u64,
    /// Whether a worker's fault leaves connections with that worker.
    pub strands: bool,
    pub request: Vec<u8>,
    pub measures: Measures,
    pub errors: Tally,
    pub report: LoaderReport,
}

/// A start that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pub transport: Transport,
    pub group: Group,
    /// The schedule's time.
    pub intended_ns: u64,
    /// Just before connect(2).
    pub connect_ns: u64,
}

impl Work {
    /// Counts a start, and decides of what kind it is.
    pub fn attempt(&mut self) -> Transport {
        self.report.attempted += 1;
        self.loader.context.control.add_loader(self.loader.part.loader, LoaderCount::Attempted);
        self.next_transport()
    }

    /// The socket is there and connects next: reads the clock, and says from which group.
    pub fn connects(&mut self, transport: Transport, intended_ns: u64) -> Attempt {
        let connect_ns = clock::monotonic_ns();
        if self.window.measures(intended_ns) {
            self.measures.record(Latency::SendLag, connect_ns - intended_ns);
            self.report.measured_in_time += u64::from(connect_ns < self.window.measure_to_ns);
        }
        let group = self.groups[self.report.attempted as usize % self.groups.len()];
        Attempt { transport, group, intended_ns, connect_ns }
    }

    /// Begins to connect from a port of the scenario's selection. Returns a socket that takes the place of the given one, where
    /// another try wanted that.
    pub fn connect(&mut self, socket: &Socket, attempt: &Attempt) -> Result<Option<Socket>, (Step, io::Error)> {
        let connected = self.try_connect(socket, attempt);
        if connected.is_err() {
            self.source.given_up(&attempt.group);
        }
        connected
    }

    fn try_connect(&mut self, socket: &Socket, attempt: &Attempt) -> Result<Option<Socket>, (Step, io::Error)> {
        let group = &attempt.group;
        let mut another = None;
        for tries in 1.. {
            let socket = another.as_ref().unwrap_or(socket);
            self.source.prepare(socket, group).map_err(|error| (Step::Bind, error))?;
            if attempt.transport == Transport::Tcp && !self.loader.context.scenario.load.quickack {
                // Anew for each connection: a disconnect forgets it.
                socket::delay_acks(socket).map_err(|error| (Step::Socket, error))?;
            }
            match socket.connect(&self.loader.context.target.into()) {
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => break,
                Err(error)
                    if error.raw_os_error() == Some(libc::EADDRNOTAVAIL)
                        && tries < TRIES
                        && self.source.try_elsewhere(group) =>
                {
                    another = Some(self.socket(attempt.transport).map_err(|error| (Step::Socket, error))?);
                }
                Err(error) => return Err((Step::Connect, error)),
                Ok(()) => break,
            }
        }
        Ok(another)
    }

    /// Spreads the scenario's share of flows evenly over the starts.
    fn next_transport(&mut self) -> Transport {
        self.udp_owed += self.loader.context.scenario.load.udp_share;
        if self.udp_owed >= 1.0 {
            self.udp_owed -= 1.0;
            return Transport::Udp;
        }
        Transport::Tcp
    }

    /// A new socket with the scenario's options.
    pub fn socket(&self, transport: Transport) -> io::Result<Socket> {
        let server = &self.loader.context.scenario.server;
        let kind = match transport {
            Transport::Tcp => Type::STREAM,
            Transport::Udp => Type::DGRAM,
        };
        let socket = Socket::new(Domain::for_address(self.loader.context.target), kind.nonblocking().cloexec(), None)?;
        if transport == Transport::Tcp && server.listen.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        if transport == Transport::Tcp && server.listen.fastopen > 0 {
            setsockopt(&socket, sockopt::TcpFastOpenConnect, &true)?;
        }
        Ok(socket)
    }

    /// A start has come so far that it is a connection, whose end will count.
    pub fn begin(&mut self, key: usize, attempt: &Attempt, client: SocketAddr, stream: Stream) {
        // A scenario has 256 source addresses at most.
        let address =
            if attempt.group.source.is_some() { attempt.group.number as u16 } else { self.picked.number(client.ip()) };
        let instants = (attempt.intended_ns, attempt.connect_ns);
        let connection = Connection {
            requests_left: self.loader.context.scenario.load.requests,
            measured: self.window.measures(attempt.intended_ns),
            ..Connection::begun(stream, (address, client.port()), instants)
        };
        self.connections.begin(key, connection);
    }

    /// Both ends of a connection.
    #[inline]
    pub fn tuple(&self, key: usize) -> Tuple {
        Tuple { client: self.client(&self.connections[key]), server: self.loader.context.target }
    }

    /// A connection's own end.
    #[inline]
    pub fn client(&self, connection: &Connection) -> SocketAddr {
        let named = self.group(connection).source;
        SocketAddr::new(named.unwrap_or_else(|| self.picked[connection.address]), connection.port)
    }

    /// A connection's tuple group. A loader has one destination, so a group for each source address that the scenario names, or
    /// one for all that the kernel picks.
    #[inline]
    fn group(&self, connection: &Connection) -> &Group {
        let named = self.groups[0].source.is_some();
        &self.groups[if named { usize::from(connection.address) } else { 0 }]
    }

    /// A start has failed before there was a connection.
    pub fn failed_to_start(&mut self, step: Step, error: &io::Error) {
        let now_ns = clock::monotonic_ns();
        self.failed(step, Cause::from(error), now_ns);
    }

    fn failed(&mut self, step: Step, cause: Cause, now_ns: u64) {
        if matches!(cause, Cause::Errno(libc::EADDRNOTAVAIL | libc::EADDRINUSE)) {
            self.report.first_exhausted_ns.get_or_insert(now_ns);
        }
        self.errors.add(step, cause);
        self.loader.context.control.add_loader(self.loader.part.loader, LoaderCount::Failed);
        self.report.ended_ns = now_ns;
        self.pacer.freed(now_ns + ERROR_PAUSE_NS);
    }

    /// Counts a connection's end, completed or failed, and hands it out to be closed.
    pub fn end(&mut self, key: usize, progress: Progress, now_ns: u64) -> Connection {
        let connection = self.connections.take(key);
        let was_established = connection.phase != Phase::Connecting;
        if connection.stream.is_udp() {
            self.report.flows.ended(&connection.answered);
        } else if was_established && !connection.served {
            self.report.unserved += 1;
        }
        let group = *self.group(&connection);
        self.source.freed(&group, connection.port);
        if let Progress::Failed(step, cause) = progress {
            self.failed(step, cause, now_ns);
            return connection;
        }
        if let (true, Some(worker)) = (connection.staged, connection.answered.first()) {
            // A hold is the scenario's own time.
            let from_ns = connection.waiting_since_ns.max(connection.hold_until_ns.min(now_ns));
            self.measures.record_stage(worker, Stage::Close, now_ns - from_ns);
        }
        self.report.completed += 1;
        self.report.measured_completed += u64::from(connection.measured);
        self.loader.context.control.add_loader(self.loader.part.loader, LoaderCount::Completed);
        self.report.ended_ns = now_ns;
        self.pacer.freed(now_ns);
        connection
    }

    /// A connection is given up: says what that is to count as.
    pub fn abandon(&mut self, key: usize, cause: Cause, now_ns: u64) -> Progress {
        let connection = &self.connections[key];
        if connection.phase == Phase::Connecting && !connection.stream.is_udp() {
            // A handshake may complete at this very moment. Shutting down first settles it: in SYN_SENT the kernel
            // drops the attempt (state CLOSE), otherwise the connection was established and the server has it.
            let _ = SockRef::from(&connection.stream).shutdown(Shutdown::Both);
            if socket::has_connection(&connection.stream).unwrap_or(false) {
                self.established(key, now_ns);
            }
        }
        Progress::Failed(self.connections[key].step(), cause)
    }
}
