//! `uring`: one io_uring for every wait: for a handshake that does not complete at once, for room to send, and for bytes. Receives
//! are queued with their buffers and submitted together once per turn, which saves both the registration and the read.

use std::{
    io::{self, ErrorKind, Read},
    net::SocketAddr,
    os::fd::AsFd,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{
    Close, Engine, Event, Kind, Opened, READ_BYTES, READS_AT_ONCE, Taken,
    seats::{Handshake, Seats, State},
};
use crate::{
    load::{dialler::Dialler, source::Group},
    record::{Cause, Step},
    scenario::Transport,
    sys::{
        clock, socket,
        uring::{ClientRing, Done, Operation},
    },
};

/// A ring and the connections that wait in it.
pub struct Uring {
    ring: ClientRing,
    seats: Seats,
    /// The connection of the event returned last, and the next step for it. A turn may end before that.
    in_hand: Option<(usize, Stage)>,
    /// For replies longer than a slot's buffer: what is left is read directly.
    scratch: Vec<u8>,
    now_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Read what has arrived before anything was sent.
    ReadEarly,
    /// Send what is still unsent.
    Flush,
    /// Read on: the last receive filled its buffer. So many reads are left in this turn.
    Read(usize),
    /// Queue its next wait.
    Over,
}

/// A [`Kind`] whose bytes are in the slot's buffer, unless stated otherwise.
enum Found {
    Received(usize),
    /// The bytes are in the scratch buffer.
    Read(usize),
    /// Likewise.
    Early(usize),
    Other(Kind<'static>),
}

impl Uring {
    pub fn new(ring: ClientRing, room: usize) -> Self {
        Self { ring, seats: Seats::with_capacity(room), in_hand: None, scratch: vec![0; READ_BYTES], now_ns: 0 }
    }

    /// Continues with the current connection, then with the next completed operation.
    fn follow(&mut self) -> Result<Option<(usize, Found)>> {
        loop {
            if let Some((key, stage)) = self.in_hand.take() {
                match self.next_step(key, stage) {
                    Some(found) => {
                        // What the former event led to takes time, and this may be the answer.
                        self.now_ns = clock::monotonic_ns();
                        return Ok(Some((key, found)));
                    }
                    None if self.in_hand.is_some() => continue,
                    None => self.queue_wait(key)?,
                }
            }
            let Some(done) = self.ring.next() else { return Ok(None) };
            let key = done.slot;
            if !self.seats[key].is_in_use() {
                self.free_if_quiet(key);
                continue;
            }
            self.now_ns = clock::monotonic_ns();
            self.in_hand = Some((key, Stage::Over));
            if let Some(found) = self.found(done) {
                return Ok(Some((key, found)));
            }
        }
    }

    /// Takes the next step for the current connection, and notes the one after it; none is left if only the wait is.
    fn next_step(&mut self, key: usize, stage: Stage) -> Option<Found> {
        match stage {
            Stage::ReadEarly => {
                self.in_hand = Some((key, Stage::Flush));
                match self.read(key)? {
                    Found::Read(length) => Some(Found::Early(length)),
                    found => Some(found),
                }
            }
            Stage::Flush if !self.seats[key].unsent().is_empty() => {
                self.in_hand = Some((key, Stage::Over));
                match self.seats.flush(key) {
                    Ok(true) => Some(Found::Other(Kind::Sent)),
                    Ok(false) => None,
                    Err(error) => Some(Found::Other(Kind::Ended(Step::Send, Cause::from(&error)))),
                }
            }
            Stage::Read(left @ 1..) => {
                let found = self.read(key)?;
                self.in_hand = Some((key, Stage::Read(left - 1)));
                Some(found)
            }
            Stage::Flush | Stage::Read(0) | Stage::Over => None,
        }
    }

    /// Reads once. `None` if there is nothing to read.
    fn read(&mut self, key: usize) -> Option<Found> {
        let ended = |cause| Some(Found::Other(Kind::Ended(Step::Receive, cause)));
        loop {
            return match self.seats[key].socket().read(&mut self.scratch) {
                Ok(0) => ended(Cause::EndOfFile),
                Ok(length) => Some(Found::Read(length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => ended(Cause::from(&error)),
            };
        }
    }

    /// Translates a completed operation.
    fn found(&mut self, done: Done) -> Option<Found> {
        let key = done.slot;
        Some(Found::Other(match (done.operation, done.result) {
            (Operation::Connect, Ok(events)) => match self.seats[key].handshake(false) {
                Handshake::Over => {
                    let early = events & libc::POLLIN as usize != 0 && !self.seats[key].unsent().is_empty();
                    self.in_hand = Some((key, if early { Stage::ReadEarly } else { Stage::Flush }));
                    Kind::Connected
                }
                Handshake::Deferred => return None,
                Handshake::Failed(step, cause) => Kind::Ended(step, cause),
            },
            (Operation::Connect, Err(errno)) => Kind::Ended(Step::Connect, Cause::Errno(errno)),
            // Kernels before 5.19 may send only part; the rest is queued again.
            (Operation::Send, Ok(length)) => return self.seats.sent(key, length).then_some(Found::Other(Kind::Sent)),
            (Operation::Send, Err(errno)) => Kind::Ended(Step::Send, Cause::Errno(errno)),
            (Operation::Receive, Ok(0)) => Kind::Ended(Step::Receive, Cause::EndOfFile),
            (Operation::Receive, Ok(length)) => {
                if length == self.ring.receive_bytes() {
                    self.in_hand = Some((key, Stage::Read(READS_AT_ONCE)));
                }
                return Some(Found::Received(length));
            }
            (Operation::Receive, Err(errno)) => Kind::Ended(Step::Receive, Cause::Errno(errno)),
        }))
    }

    /// Queues the next wait: for the end of the handshake, or for room to send and for bytes, which also reveals the connection's end.
    fn queue_wait(&mut self, key: usize) -> Result<()> {
        let seat = &self.seats[key];
        let socket = seat.socket().as_fd();
        if seat.state == State::Connecting {
            if !self.ring.is_under_way(key, Operation::Connect) {
                self.ring.connected(key, socket).context("io_uring_enter")?;
            }
            return Ok(());
        }
        if !seat.unsent().is_empty() && !self.ring.is_under_way(key, Operation::Send) {
            self.ring.send(key, socket, seat.unsent()).context("io_uring_enter")?;
        }
        if !self.ring.is_under_way(key, Operation::Receive) {
            self.ring.receive(key, socket).context("io_uring_enter")?;
        }
        Ok(())
    }

    /// Frees the key of a closed connection once the kernel has no operation on it left.
    fn free_if_quiet(&mut self, key: usize) {
        if let State::Closing { recycles } = self.seats[key].state
            && self.ring.is_quiet(key)
        {
            self.seats.release(key, recycles);
        }
    }
}

impl Engine for Uring {
    fn name(&self) -> &'static str {
        "uring"
    }

    fn open(&mut self, transport: Transport, dialler: &Dialler) -> io::Result<Opened> {
        self.seats.open(transport, dialler)
    }

    fn connect(&mut self, key: usize, dialler: &mut Dialler, group: &Group) -> Result<SocketAddr, (Step, io::Error)> {
        self.seats.connect(key, dialler, group).map(|(client, _)| client)
    }

    fn rebind(&mut self, _: usize, _: &mut Dialler, _: &Group) -> Result<SocketAddr, (Step, io::Error)> {
        // Scenarios allow no flows here.
        Err((Step::Socket, ErrorKind::Unsupported.into()))
    }

    fn send(&mut self, key: usize, bytes: &[u8]) -> io::Result<Taken> {
        self.seats.send(key, bytes, true)
    }

    fn send_last(&mut self, key: usize, bytes: &[u8]) {
        self.seats.send_last(key, bytes);
    }

    fn watch(&mut self, key: usize) -> Result<()> {
        self.queue_wait(key)
    }

    fn wait(&mut self, until_ns: Option<u64>) -> Result<()> {
        // What the last turn left needs no waiting for.
        let until_ns = until_ns.filter(|_| self.in_hand.is_none());
        let left_ns = until_ns.map_or(0, |until_ns| until_ns.saturating_sub(clock::monotonic_ns()));
        self.ring.submit_and_wait(Duration::from_nanos(left_ns)).context("io_uring_enter")
    }

    fn next(&mut self) -> Result<Option<Event<'_>>> {
        Ok(self.follow()?.map(|(key, found)| {
            let kind = match found {
                Found::Received(length) => Kind::Received(&self.ring.received(key)[..length]),
                Found::Read(length) => Kind::Received(&self.scratch[..length]),
                Found::Early(length) => Kind::Early(&self.scratch[..length]),
                Found::Other(kind) => kind,
            };
            Event { key, kind, now_ns: self.now_ns }
        }))
    }

    fn settle(&mut self, key: usize) -> bool {
        self.seats[key].settle()
    }

    fn has_connection(&self, key: usize) -> bool {
        self.seats[key].has_connection()
    }

    fn syn_retries(&self, key: usize) -> u32 {
        self.seats[key].syn_retries()
    }

    fn is_multipath(&self, key: usize) -> Option<bool> {
        socket::is_multipath(self.seats[key].socket())
    }

    fn close(&mut self, key: usize, how: Close) {
        self.in_hand = self.in_hand.filter(|(in_hand, _)| *in_hand != key);
        let quiet = self.ring.is_quiet(key);
        let seat = &mut self.seats[key];
        let resets_now = how == Close::Recycle || (how == Close::Rst && !quiet);
        let disconnected = resets_now && socket::disconnect(seat.socket()).is_ok();
        if how != Close::Fin && !disconnected {
            seat.reset_on_close();
        }
        if !quiet && !disconnected {
            // Operations in progress keep the socket open after its descriptor is closed.
            seat.shut_down();
        }
        seat.state = State::Closing { recycles: how == Close::Recycle && disconnected };
        self.free_if_quiet(key);
    }
}
