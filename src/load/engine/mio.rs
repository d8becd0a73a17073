//! `mio`: non-blocking sockets in an edge-triggered epoll, one system call per operation. What most programs do.

use std::{
    io::{self, ErrorKind, Read},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use anyhow::{Context, Result};
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use nix::sys::{
    time::{TimeSpec, TimeValLike},
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

use super::{
    Close, Engine, Event, Kind, Opened, Taken,
    seats::{Handshake, Seats, State},
};
use crate::{
    load::{dialler::Dialler, source::Group},
    record::{Cause, Step},
    scenario::Transport,
    sys::{clock, socket},
};

const TIMER: Token = Token(0);
/// Tokens of connections are their keys, moved past the timer's.
const FIRST_CONNECTION: usize = 1;
const EVENTS: usize = 1_024;
const SCRATCH_BYTES: usize = 65_536;

/// An epoll instance and a timer: epoll's own time-out has a resolution of one millisecond.
pub struct Mio {
    poll: Poll,
    timer: TimerFd,
    /// When the timer fires; it is set again only when that changes.
    armed_ns: u64,
    events: Events,
    /// Sockets that the last wait reported ready, and the index of the current one.
    ready: Vec<Ready>,
    at: usize,
    stage: Stage,
    now_ns: u64,
    scratch: Vec<u8>,
    seats: Seats,
    /// By key: what epoll watches the socket for, even while the socket awaits its next connection.
    watched: Vec<Option<Interest>>,
    /// Connections that epoll refused to watch.
    refused: Vec<(usize, Cause)>,
    fastopen: bool,
}

/// What epoll reported about a socket.
#[derive(Debug, Clone, Copy)]
struct Ready {
    key: usize,
    readable: bool,
    read_closed: bool,
}

/// The next step for the current socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing has been done with it yet.
    Fresh,
    /// Send what is still unsent.
    Flush,
    /// Read what has arrived.
    Read,
    /// Only renew the watch if necessary.
    Over,
}

/// A [`Kind`] whose bytes are in the scratch buffer.
enum Found {
    Received(usize),
    Other(Kind<'static>),
}

impl Mio {
    pub fn new(room: usize, fastopen: bool) -> Result<Self> {
        let poll = Poll::new().context("epoll_create")?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
            .context("timerfd_create")?;
        poll.registry()
            .register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)
            .context("registering the timer")?;
        Ok(Self {
            poll,
            timer,
            armed_ns: 0,
            events: Events::with_capacity(EVENTS),
            ready: Vec::with_capacity(EVENTS),
            at: 0,
            stage: Stage::Fresh,
            now_ns: 0,
            scratch: vec![0; SCRATCH_BYTES],
            seats: Seats::with_capacity(room),
            watched: Vec::with_capacity(room),
            refused: Vec::new(),
            fastopen,
        })
    }

    /// Makes epoll watch a connection for what it waits for. Writability matters only before the connection is established and while
    /// bytes are unsent: watching for it always would cause a useless event with every registration.
    fn renew_watch(&mut self, key: usize) {
        let seat = &self.seats[key];
        let writes = seat.state == State::Connecting || !seat.unsent().is_empty();
        if self.watched[key].is_some_and(|watched| watched.is_writable() || !writes) {
            return;
        }
        let interest = if writes { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let (token, registry) = (Token(FIRST_CONNECTION + key), self.poll.registry());
        let descriptor = seat.socket().as_raw_fd();
        let mut source = SourceFd(&descriptor);
        let known = self.watched[key].replace(interest).is_some();
        let result = if known {
            registry.reregister(&mut source, token, interest)
        } else {
            registry.register(&mut source, token, interest)
        };
        if let Err(error) = result {
            self.refused.push((key, Cause::from(&error)));
        }
    }

    /// Continues with the current socket. `None` when there is nothing more to do with it.
    fn follow(&mut self, ready: Ready) -> Option<Found> {
        let key = ready.key;
        loop {
            // It may have been closed in the meantime.
            if !self.seats.get(key)?.is_in_use() {
                return None;
            }
            match self.stage {
                Stage::Fresh => {
                    self.now_ns = clock::monotonic_ns();
                    if self.seats[key].state == State::Connecting {
                        return Some(Found::Other(self.handshake(key)));
                    }
                    self.stage = if self.seats[key].unsent().is_empty() { Stage::Read } else { Stage::Flush };
                }
                Stage::Flush => {
                    // A server may answer or close before it has read everything, or as soon as it accepts. That may be part of this
                    // event, and then no other follows.
                    self.stage = if ready.readable { Stage::Read } else { Stage::Over };
                    if self.seats[key].unsent().is_empty() {
                        continue;
                    }
                    match self.seats.flush(key) {
                        Ok(true) => return Some(Found::Other(Kind::Sent)),
                        Ok(false) => {}
                        Err(error) => return Some(Found::Other(Kind::Ended(Step::Send, Cause::from(&error)))),
                    }
                }
                Stage::Read => match self.read(ready) {
                    Some(found) => return Some(found),
                    None => self.stage = Stage::Over,
                },
                Stage::Over => {
                    self.renew_watch(key);
                    return None;
                }
            }
        }
    }

    fn handshake(&mut self, key: usize) -> Kind<'static> {
        let handshake = self.seats[key].handshake(self.fastopen);
        self.stage = if handshake == Handshake::Over { Stage::Flush } else { Stage::Over };
        match handshake {
            Handshake::Over => Kind::Connected,
            Handshake::Deferred => Kind::FastOpen,
            Handshake::Failed(step, cause) => Kind::Ended(step, cause),
        }
    }

    /// Reads once. `None` if there is nothing to read.
    fn read(&mut self, ready: Ready) -> Option<Found> {
        let seat = &self.seats[ready.key];
        let ended = |cause| Some(Found::Other(Kind::Ended(Step::Receive, cause)));
        loop {
            return match seat.socket().read(&mut self.scratch) {
                Ok(0) => ended(Cause::EndOfFile),
                Ok(length) => {
                    // A read that did not fill the buffer emptied the socket; later data causes another event. A server's close that
                    // came with the data does not, and there may be more datagrams.
                    if length < SCRATCH_BYTES && !ready.read_closed && seat.transport == Transport::Tcp {
                        self.stage = Stage::Over;
                    }
                    Some(Found::Received(length))
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => ended(Cause::from(&error)),
            };
        }
    }
}

impl Engine for Mio {
    fn name(&self) -> &'static str {
        "mio"
    }

    fn open(&mut self, transport: Transport, dialler: &Dialler) -> io::Result<Opened> {
        let opened = self.seats.open(transport, dialler)?;
        if self.watched.len() <= opened.key {
            self.watched.resize(opened.key + 1, None);
        }
        if !opened.recycled {
            self.watched[opened.key] = None;
        }
        Ok(opened)
    }

    fn connect(&mut self, key: usize, dialler: &mut Dialler, group: &Group) -> Result<SocketAddr, (Step, io::Error)> {
        let (client, replaced) = self.seats.connect(key, dialler, group)?;
        if replaced {
            self.watched[key] = None;
        }
        Ok(client)
    }

    fn send(&mut self, key: usize, bytes: &[u8]) -> io::Result<Taken> {
        // With TCP_FASTOPEN the kernel takes bytes before there is a connection.
        self.seats.send(key, bytes, !self.fastopen)
    }

    fn watch(&mut self, key: usize) -> Result<()> {
        self.renew_watch(key);
        Ok(())
    }

    fn wait(&mut self, until_ns: Option<u64>) -> Result<()> {
        self.ready.clear();
        (self.at, self.stage) = (0, Stage::Fresh);
        let until_ns = until_ns.filter(|_| self.refused.is_empty());
        let timeout = if until_ns.is_some() { None } else { Some(Duration::ZERO) };
        if let Some(until_ns) = until_ns.filter(|until_ns| *until_ns != self.armed_ns) {
            let at = Expiration::OneShot(TimeSpec::nanoseconds(until_ns as i64));
            self.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME).context("timerfd_settime")?;
            self.armed_ns = until_ns;
        }
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled.context("epoll_wait")?,
        }
        self.ready.extend(self.events.iter().filter(|event| event.token() != TIMER).map(|event| Ready {
            key: event.token().0 - FIRST_CONNECTION,
            readable: event.is_readable(),
            read_closed: event.is_read_closed(),
        }));
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Event<'_>>> {
        while let Some(&ready) = self.ready.get(self.at) {
            let Some(found) = self.follow(ready) else {
                self.at += 1;
                self.stage = Stage::Fresh;
                continue;
            };
            let kind = match found {
                Found::Received(length) => Kind::Received(&self.scratch[..length]),
                Found::Other(kind) => kind,
            };
            return Ok(Some(Event { key: ready.key, kind, now_ns: self.now_ns }));
        }
        while let Some((key, cause)) = self.refused.pop() {
            if self.seats[key].is_in_use() {
                let now_ns = clock::monotonic_ns();
                return Ok(Some(Event { key, kind: Kind::Ended(Step::Socket, cause), now_ns }));
            }
        }
        Ok(None)
    }

    fn settle(&mut self, key: usize) -> bool {
        self.seats[key].settle()
    }

    fn has_connection(&self, key: usize) -> bool {
        self.seats[key].has_connection()
    }

    fn close(&mut self, key: usize, how: Close) {
        let seat = &self.seats[key];
        // Events of the old connection cannot be mistaken for the new one's: those of this turn find no connection under the key, and
        // epoll reports the state at the time of the call.
        let recycles = how == Close::Recycle && socket::disconnect(seat.socket()).is_ok();
        if how != Close::Fin && !recycles {
            seat.reset_on_close();
        }
        self.seats.release(key, recycles);
    }
}
