//! `uring`: one io_uring for everything that waits. A connection is a chain of connect, first request and first receive, which
//! the kernel works off by itself; what follows is queued and handed over once a turn.
//!
//! A start is handed over by itself, and the clock is read just before: several at once would have the last wait, uncounted,
//! until the kernel has begun the others.

use std::{io, net::Shutdown, os::fd::AsFd, time::Duration};

use anyhow::{Context, Result};
use socket2::SockRef;

use super::Engine;
use crate::{
    ipc::tally::{Cause, Step},
    load::{
        connection::{Connection, Phase, Stream},
        drive::end,
        exchange::Progress,
        work::{Attempt, TRIES, Work},
    },
    scenario::{CloseBy, CloseHow, Sockets, Transport},
    sys::{
        clock, socket,
        uring::{ClientRing, Done, Operation},
    },
};

/// Keys for which there is room before the start.
const ROOM: usize = 1_024;

pub(super) struct Uring {
    ring: ClientRing,
    seats: Vec<Seat>,
}

/// What the engine keeps by key.
#[derive(Default)]
struct Seat {
    /// A socket that is disconnected, for the next connection.
    parked: Option<Stream>,
    /// The socket of a connection that has ended while the kernel still had operations of it, and whether it is to be recycled.
    closing: Option<(Stream, bool)>,
    /// The errno of the connect that has failed, until the rest of its chain is back.
    refused: Option<i32>,
    /// Tries to find a port for the connection under way.
    tries: usize,
}

impl Uring {
    pub fn new(ring: ClientRing) -> Self {
        Self { ring, seats: Vec::with_capacity(ROOM) }
    }

    /// Begins a connection under a key.
    fn begin(&mut self, work: &mut Work, key: usize, intended_ns: u64) -> Result<(), (Step, io::Error)> {
        if self.seats.len() <= key {
            self.seats.resize_with(key + 1, Seat::default);
        }
        let parked = self.seats[key].parked.take();
        work.report.recycled += u64::from(parked.is_some());
        let stream = parked.map_or_else(|| Ok(Stream::Ring(work.socket(Transport::Tcp)?)), Ok);
        // What others have to say goes first, lest it delay this start after the clock was read.
        self.ring.submit().map_err(|error| (Step::Socket, error))?;
        let attempt = work.connects(Transport::Tcp, intended_ns);
        let stream = stream.map_err(|error| (Step::Socket, error))?;
        let Attempt { group, .. } = attempt;
        work.source.prepare(&SockRef::from(&stream), &group).map_err(|error| (Step::Bind, error))?;
        self.seats[key].tries = 1;
        work.begin(key, &attempt, work.loader.target, stream);
        Ok(())
    }

    /// Hands the chain of a connection to the kernel.
    fn launch(&mut self, work: &mut Work, key: usize) -> Result<()> {
        let connection = &work.connections[key];
        self.ring
            .connect(key, connection.stream.as_fd(), connection.unsent())
            .and_then(|()| self.ring.submit())
            .context("io_uring_enter")?;
        // The port is chosen. A connection that is over already has none any more.
        if let Ok(client) = connection.stream.local_addr() {
            work.named(key, client);
        }
        Ok(())
    }

    /// An operation is over.
    fn follow(&mut self, work: &mut Work, done: Done) -> Result<()> {
        let key = done.slot;
        if work.connections.get(key).is_none() {
            self.leave(work, key);
            return Ok(());
        }
        let now_ns = clock::monotonic_ns();
        let progress = self.advance(work, done, now_ns)?;
        if progress == Progress::Goes {
            return self.go_on(work, key);
        }
        end(work, self, key, progress, now_ns);
        Ok(())
    }

    fn advance(&mut self, work: &mut Work, done: Done, now_ns: u64) -> Result<Progress> {
        let key = done.slot;
        match (done.operation, done.result) {
            (Operation::Connect, Ok(_)) => {
                work.connections.buffer(key, |buffers| buffers.unsent.clear());
                work.established(key, now_ns);
            }
            (Operation::Connect, Err(errno)) => self.seats[key].refused = Some(errno),
            // The rest of a chain that has broken: what broke it is judged instead.
            (_, Err(libc::ECANCELED)) => {}
            (Operation::Send, Ok(_)) => {}
            (Operation::Send, Err(errno)) => return Ok(Progress::Failed(Step::Send, Cause::Errno(errno))),
            (Operation::Receive, Ok(0)) => return Ok(work.server_ended(key, Cause::EndOfFile, now_ns)),
            (Operation::Receive, Ok(length)) => {
                return Ok(work.take(key, &self.ring.received(key)[..length], now_ns));
            }
            (Operation::Receive, Err(errno)) => return Ok(work.server_ended(key, Cause::Errno(errno), now_ns)),
        }
        match self.seats[key].refused {
            Some(errno) if self.ring.is_quiet(key) => self.refused(work, key, errno, now_ns),
            _ => Ok(Progress::Goes),
        }
    }

    /// A connect has failed, and nothing of its chain is under way any more.
    fn refused(&mut self, work: &mut Work, key: usize, errno: i32, now_ns: u64) -> Result<Progress> {
        self.seats[key].refused = None;
        if errno == libc::ECONNRESET {
            // A reset in place of a refusal: the connection was established and then reset.
            work.connections.buffer(key, |buffers| buffers.unsent.clear());
            work.established(key, now_ns);
            return Ok(work.server_ended(key, Cause::Errno(errno), now_ns));
        }
        let group = work.groups[work.connections[key].group as usize];
        if errno == libc::EADDRNOTAVAIL && self.seats[key].tries < TRIES && work.source.try_elsewhere(&group) {
            self.seats[key].tries += 1;
            let socket = match work.socket(Transport::Tcp) {
                Ok(socket) => socket,
                Err(error) => return Ok(Progress::Failed(Step::Socket, Cause::from(&error))),
            };
            if let Err(error) = work.source.prepare(&socket, &group) {
                return Ok(Progress::Failed(Step::Bind, Cause::from(&error)));
            }
            work.connections[key].stream = Stream::Ring(socket);
            self.launch(work, key)?;
            return Ok(Progress::Goes);
        }
        Ok(Progress::Failed(Step::Connect, Cause::Errno(errno)))
    }

    /// Queues what a connection has to say, and a receive, so that also its end is noticed.
    fn go_on(&mut self, work: &mut Work, key: usize) -> Result<()> {
        let connection = &work.connections[key];
        if connection.phase == Phase::Connecting {
            return Ok(());
        }
        if !connection.unsent().is_empty() && !self.ring.is_under_way(key, Operation::Send) {
            self.ring.send(key, connection.stream.as_fd(), connection.unsent()).context("io_uring_enter")?;
            work.connections.buffer(key, |buffers| buffers.unsent.clear());
        }
        let connection = &work.connections[key];
        if !self.ring.is_under_way(key, Operation::Receive) {
            self.ring.receive(key, connection.stream.as_fd()).context("io_uring_enter")?;
        }
        Ok(())
    }

    /// A connection has ended, and its key is free once the kernel has nothing of it any more.
    fn leave(&mut self, work: &mut Work, key: usize) {
        if !self.ring.is_quiet(key) {
            return;
        }
        let seat = &mut self.seats[key];
        seat.refused = None;
        if let Some((stream, recycles)) = seat.closing.take() {
            seat.parked = Some(stream).filter(|_| recycles);
            work.connections.release(key);
        }
    }
}

impl Engine for Uring {
    fn name(&self) -> &'static str {
        "uring"
    }

    fn start(&mut self, work: &mut Work, intended_ns: u64) -> Result<()> {
        work.attempt();
        let key = work.connections.reserve();
        if let Err((step, error)) = self.begin(work, key, intended_ns) {
            work.connections.release(key);
            work.failed_to_start(step, &error);
            return Ok(());
        }
        work.ask(key);
        self.launch(work, key)
    }

    fn turn(&mut self, work: &mut Work, until_ns: Option<u64>) -> Result<()> {
        let left_ns = until_ns.map_or(0, |until_ns| until_ns.saturating_sub(clock::monotonic_ns()));
        self.ring.submit_and_wait(Duration::from_nanos(left_ns)).context("io_uring_enter")?;
        while let Some(done) = self.ring.next() {
            self.follow(work, done)?;
        }
        Ok(())
    }

    fn asked(&mut self, work: &mut Work, key: usize) -> Result<()> {
        self.go_on(work, key)
    }

    fn close(&mut self, work: &mut Work, key: usize, connection: Connection, completed: bool) {
        let load = &work.loader.scenario.load;
        let resets = load.close_by == CloseBy::Client && load.close_how == CloseHow::Rst;
        // Of a connection that has failed, nobody knows what is still to come.
        let recycles = load.sockets == Sockets::Recycled && completed;
        let quiet = self.ring.is_quiet(key);
        let disconnected = (recycles || (resets && !quiet)) && socket::disconnect(&connection.stream).is_ok();
        let socket = SockRef::from(&connection.stream);
        if resets && !disconnected {
            // Fails on a socket that is closed already, which is as well.
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
        if !quiet && !disconnected {
            // Operations under way keep the socket open after its descriptor's close.
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.seats[key].closing = Some((connection.stream, recycles && disconnected));
        self.leave(work, key);
    }
}
