//! `mio`: non-blocking sockets in an edge-triggered epoll, one system call per operation. What most programs do.

use std::{
    collections::VecDeque,
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
    Close, Engine, Event, Kind, Opened, READ_BYTES, READS_AT_ONCE, Taken,
    seats::{Handshake, Seats, State},
};
use crate::{
    load::{dialler::Dialler, source::Group},
    record::{Cause, Step},
    scenario::{Scenario, Transport},
    sys::{clock, socket},
};

const TIMER: Token = Token(0);
/// Tokens of connections are their keys, moved past the timer's.
const FIRST_CONNECTION: usize = 1;
const EVENTS: usize = 1_024;

/// An epoll instance and a timer: epoll's own time-out has a resolution of one millisecond.
pub struct Mio {
    poll: Poll,
    timer: TimerFd,
    /// When the timer fires; it is set again only when that changes.
    armed_ns: u64,
    events: Events,
    /// Keys of ready sockets, in the order in which they are served. A turn may end before all are; epoll won't report them again. A
    /// socket that still has more to read after its share goes to the end.
    ready: VecDeque<usize>,
    in_hand: Option<InHand>,
    now_ns: u64,
    scratch: Vec<u8>,
    seats: Seats,
    /// By key.
    watched: Vec<Watched>,
    /// Connections that epoll refused to watch.
    refused: Vec<(usize, Cause)>,
    fastopen: bool,
    /// Whether each read is of one message, after which more may wait.
    has_messages: bool,
}

/// What epoll knows of a key's socket, and has reported about it.
#[derive(Debug, Clone, Copy, Default)]
struct Watched {
    /// What epoll watches the socket for, even while the socket awaits its next connection.
    interest: Option<Interest>,
    /// The reports not yet dealt with. A key in the queue without any has been closed since.
    ready: Option<Ready>,
}

#[derive(Debug, Clone, Copy)]
struct Ready {
    readable: bool,
    read_closed: bool,
}

impl Watched {
    /// Adds a report. Returns whether it is the first that is not yet dealt with.
    fn report(&mut self, ready: Ready) -> bool {
        let before = self.ready;
        self.ready = Some(before.map_or(ready, |before| Ready {
            readable: before.readable || ready.readable,
            read_closed: before.read_closed || ready.read_closed,
        }));
        before.is_none()
    }
}

/// The socket whose events are being returned.
#[derive(Debug, Clone, Copy)]
struct InHand {
    key: usize,
    ready: Ready,
    stage: Stage,
    /// How often it has been read.
    reads: usize,
}

/// The next step for the socket in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing has been done with it yet.
    Fresh,
    /// Read what has arrived before anything was sent.
    ReadEarly,
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
    Early(usize),
    Other(Kind<'static>),
}

impl Mio {
    pub fn new(room: usize, scenario: &Scenario) -> Result<Self> {
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
            ready: VecDeque::with_capacity(EVENTS),
            in_hand: None,
            now_ns: 0,
            scratch: vec![0; READ_BYTES],
            seats: Seats::with_capacity(room),
            watched: Vec::with_capacity(room),
            refused: Vec::new(),
            fastopen: scenario.server.listen.fastopen > 0,
            has_messages: scenario.has_messages(),
        })
    }

    /// Makes epoll watch a connection for what it waits for. Writability matters only before the connection is established and while
    /// bytes are unsent: watching for it always would cause a useless event with every registration.
    fn renew_watch(&mut self, key: usize) {
        let seat = &self.seats[key];
        let writes = seat.state == State::Connecting || !seat.unsent().is_empty();
        if self.watched[key].interest.is_some_and(|watched| watched.is_writable() || !writes) {
            return;
        }
        let interest = if writes { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let (token, registry) = (Token(FIRST_CONNECTION + key), self.poll.registry());
        let descriptor = seat.socket().as_raw_fd();
        let mut source = SourceFd(&descriptor);
        let known = self.watched[key].interest.replace(interest).is_some();
        let result = if known {
            registry.reregister(&mut source, token, interest)
        } else {
            registry.register(&mut source, token, interest)
        };
        if let Err(error) = result {
            self.refused.push((key, Cause::from(&error)));
        }
    }

    /// Takes the next socket in hand.
    fn pick(&mut self) -> Option<InHand> {
        loop {
            let key = self.ready.pop_front()?;
            if let Some(ready) = self.watched[key].ready.take() {
                return Some(InHand { key, ready, stage: Stage::Fresh, reads: 0 });
            }
        }
    }

    /// Continues with a socket. `None` when there is nothing more to do with it.
    fn follow(&mut self, it: &mut InHand) -> Option<Found> {
        let key = it.key;
        loop {
            match it.stage {
                Stage::Fresh => {
                    self.now_ns = clock::monotonic_ns();
                    if self.seats[key].state == State::Connecting {
                        return Some(Found::Other(self.handshake(it)));
                    }
                    it.stage = if self.seats[key].unsent().is_empty() { Stage::Read } else { Stage::Flush };
                }
                Stage::ReadEarly => {
                    it.stage = Stage::Flush;
                    match self.read(it) {
                        Some(Found::Received(length)) => return Some(Found::Early(length)),
                        found @ Some(_) => return found,
                        None => {}
                    }
                }
                Stage::Flush => {
                    // A server may answer or close before it has read everything, or as soon as it accepts. That may be part of this
                    // event, and then no other follows.
                    it.stage = if it.ready.readable { Stage::Read } else { Stage::Over };
                    if self.seats[key].unsent().is_empty() {
                        continue;
                    }
                    match self.seats.flush(key) {
                        Ok(true) => return Some(Found::Other(Kind::Sent)),
                        Ok(false) => {}
                        Err(error) => return Some(Found::Other(Kind::Ended(Step::Send, Cause::from(&error)))),
                    }
                }
                Stage::Read if it.reads == READS_AT_ONCE => {
                    if self.watched[key].report(it.ready) {
                        self.ready.push_back(key);
                    }
                    it.stage = Stage::Over;
                }
                Stage::Read => match self.read(it) {
                    Some(found) => return Some(found),
                    None => it.stage = Stage::Over,
                },
                Stage::Over => {
                    self.renew_watch(key);
                    return None;
                }
            }
        }
    }

    fn handshake(&mut self, it: &mut InHand) -> Kind<'static> {
        let seat = &mut self.seats[it.key];
        let handshake = seat.handshake(self.fastopen);
        it.stage = match handshake {
            Handshake::Over if it.ready.readable && !seat.unsent().is_empty() => Stage::ReadEarly,
            Handshake::Over => Stage::Flush,
            Handshake::Deferred | Handshake::Failed(..) => Stage::Over,
        };
        match handshake {
            Handshake::Over => Kind::Connected,
            Handshake::Deferred => Kind::FastOpen,
            Handshake::Failed(step, cause) => Kind::Ended(step, cause),
        }
    }

    /// Reads once. `None` if there is nothing to read.
    fn read(&mut self, it: &mut InHand) -> Option<Found> {
        it.reads += 1;
        let seat = &self.seats[it.key];
        let ended = |cause| Some(Found::Other(Kind::Ended(Step::Receive, cause)));
        loop {
            return match seat.socket().read(&mut self.scratch) {
                Ok(0) => ended(Cause::EndOfFile),
                Ok(length) => {
                    // A read that did not fill the buffer emptied the socket; later data causes another event. A server's close that
                    // came with the data does not, and there may be more datagrams or messages.
                    if length < READ_BYTES
                        && !it.ready.read_closed
                        && seat.transport == Transport::Tcp
                        && !self.has_messages
                    {
                        it.stage = Stage::Over;
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
            self.watched.resize(opened.key + 1, Watched::default());
        }
        if !opened.recycled {
            self.watched[opened.key].interest = None;
        }
        Ok(opened)
    }

    fn connect(&mut self, key: usize, dialler: &mut Dialler, group: &Group) -> Result<SocketAddr, (Step, io::Error)> {
        let (client, replaced) = self.seats.connect(key, dialler, group)?;
        if replaced {
            self.watched[key].interest = None;
        }
        Ok(client)
    }

    fn rebind(&mut self, key: usize, dialler: &mut Dialler, group: &Group) -> Result<SocketAddr, (Step, io::Error)> {
        if self.watched[key].interest.take().is_some() {
            let descriptor = self.seats[key].socket().as_raw_fd();
            let gone = self.poll.registry().deregister(&mut SourceFd(&descriptor));
            gone.map_err(|error| (Step::Socket, error))?;
        }
        self.seats.rebind(key, dialler, group)
    }

    fn send(&mut self, key: usize, bytes: &[u8]) -> io::Result<Taken> {
        // With TCP_FASTOPEN the kernel takes bytes before there is a connection.
        self.seats.send(key, bytes, !self.fastopen)
    }

    fn send_last(&mut self, key: usize, bytes: &[u8]) {
        self.seats.send_last(key, bytes);
    }

    fn watch(&mut self, key: usize) -> Result<()> {
        self.renew_watch(key);
        Ok(())
    }

    fn wait(&mut self, until_ns: Option<u64>) -> Result<()> {
        let idle = self.in_hand.is_none() && self.ready.is_empty() && self.refused.is_empty();
        let until_ns = until_ns.filter(|_| idle);
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
        for event in self.events.iter().filter(|event| event.token() != TIMER) {
            let key = event.token().0 - FIRST_CONNECTION;
            let ready = Ready { readable: event.is_readable(), read_closed: event.is_read_closed() };
            // A socket that awaits its next connection still belongs to epoll.
            if self.seats[key].is_in_use() && self.watched[key].report(ready) {
                self.ready.push_back(key);
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Event<'_>>> {
        loop {
            let resumed = self.in_hand.take();
            let is_resumed = resumed.is_some();
            let Some(mut it) = resumed.or_else(|| self.pick()) else { break };
            let Some(found) = self.follow(&mut it) else { continue };
            self.in_hand = Some(it);
            if is_resumed {
                // What the former event led to takes time, and this may be the answer.
                self.now_ns = clock::monotonic_ns();
            }
            let kind = match found {
                Found::Received(length) => Kind::Received(&self.scratch[..length]),
                Found::Early(length) => Kind::Early(&self.scratch[..length]),
                Found::Other(kind) => kind,
            };
            return Ok(Some(Event { key: it.key, kind, now_ns: self.now_ns }));
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

    fn syn_retries(&self, key: usize) -> u32 {
        self.seats[key].syn_retries()
    }

    fn is_multipath(&self, key: usize) -> Option<bool> {
        socket::is_multipath(self.seats[key].socket())
    }

    fn close(&mut self, key: usize, how: Close) {
        // What epoll has reported of this connection is not the next one's; from now on, it reports the state at the time of the call.
        self.watched[key].ready = None;
        self.in_hand = self.in_hand.filter(|it| it.key != key);
        let seat = &self.seats[key];
        let recycles = how == Close::Recycle && socket::disconnect(seat.socket()).is_ok();
        if how != Close::Fin && !recycles {
            seat.reset_on_close();
        }
        self.seats.release(key, recycles);
    }
}
