//! `uring`: one io_uring for everything that waits: a handshake that is not over at once, room to send, and what comes. A
//! receive is queued with its buffer and handed over with all others once a turn, so that there is neither a registration nor
//! a read of its own.

use std::{net::Shutdown, os::fd::AsFd, time::Duration};

use anyhow::{Context, Result};
use socket2::SockRef;

use super::{
    Engine,
    opening::{Begun, ask_early, begin, connecting},
};
use crate::{
    load::{
        connection::{Connection, Phase, Stream},
        drive::end,
        exchange::Progress,
        work::Work,
    },
    record::{Cause, Step},
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
}

impl Uring {
    pub fn new(ring: ClientRing) -> Self {
        Self { ring, seats: Vec::with_capacity(ROOM) }
    }

    /// An operation is over.
    fn follow(&mut self, work: &mut Work, done: Done) -> Result<()> {
        let key = done.slot;
        if work.connections.get(key).is_none() {
            self.leave(work, key);
            return Ok(());
        }
        let now_ns = clock::monotonic_ns();
        let progress = self.advance(work, done, now_ns);
        if progress == Progress::Goes {
            return self.go_on(work, key);
        }
        end(work, self, key, progress, now_ns);
        Ok(())
    }

    fn advance(&mut self, work: &mut Work, done: Done, now_ns: u64) -> Progress {
        let key = done.slot;
        match (done.operation, done.result) {
            (Operation::Connect, Ok(_)) => connecting(work, key, now_ns),
            (Operation::Connect, Err(errno)) => Progress::Failed(Step::Connect, Cause::Errno(errno)),
            // Kernels before 5.19 may send a part; the rest is queued again.
            (Operation::Send, Ok(length)) => {
                work.connections.sent(key, length);
                Progress::Goes
            }
            (Operation::Send, Err(errno)) => Progress::Failed(Step::Send, Cause::Errno(errno)),
            (Operation::Receive, Ok(0)) => work.server_ended(key, Cause::EndOfFile, now_ns),
            (Operation::Receive, Ok(length)) => work.take(key, &self.ring.received(key)[..length], now_ns),
            (Operation::Receive, Err(errno)) => work.server_ended(key, Cause::Errno(errno), now_ns),
        }
    }

    /// Queues the wait for what comes next: that the handshake is over; or for room to send, and for bytes, so that also the
    /// end is noticed.
    fn go_on(&mut self, work: &mut Work, key: usize) -> Result<()> {
        let connection = &work.connections[key];
        if connection.phase == Phase::Connecting {
            if !self.ring.is_under_way(key, Operation::Connect) {
                self.ring.connected(key, connection.stream.as_fd()).context("io_uring_enter")?;
            }
            return Ok(());
        }
        if !connection.unsent().is_empty() && !self.ring.is_under_way(key, Operation::Send) {
            self.ring.send(key, connection.stream.as_fd(), connection.unsent()).context("io_uring_enter")?;
        }
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
        if self.seats.len() <= key {
            self.seats.resize_with(key + 1, Seat::default);
        }
        let left = self.seats[key].parked.take();
        if begin(work, key, Transport::Tcp, intended_ns, left, Stream::Ring) == Begun::Not {
            return Ok(());
        }
        let progress = ask_early(work, key);
        if progress == Progress::Goes {
            return self.go_on(work, key);
        }
        end(work, self, key, progress, clock::monotonic_ns());
        Ok(())
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
        let load = &work.loader.context.scenario.load;
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
