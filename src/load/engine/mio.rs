//! `mio`: non-blocking sockets in mio's edge-triggered epoll, a system call an operation. What most programs do.

use std::{
    io::ErrorKind,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use anyhow::{Context, Result};
use mio::{Events, Interest, Poll, Token, event::Event, unix::SourceFd};
use nix::sys::{
    time::{TimeSpec, TimeValLike},
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
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
    sys::{clock, socket},
};

const TIMER: Token = Token(0);
/// Tokens of connections are their keys, moved past the timer's.
const FIRST_CONNECTION: usize = 1;
const EVENTS: usize = 1_024;
const SCRATCH_BYTES: usize = 65_536;

/// An epoll instance and a timer: epoll's own time-out counts in milliseconds only.
pub(super) struct Mio {
    poll: Poll,
    timer: TimerFd,
    /// When the timer fires; it is set anew only when that changes.
    armed_ns: u64,
    events: Events,
    scratch: Vec<u8>,
    /// By key: a socket that is disconnected, for the next connection, and what epoll watches it for under the key's token.
    parked: Vec<Option<(Stream, Option<Interest>)>>,
}

impl Mio {
    pub fn new() -> Result<Self> {
        let poll = Poll::new().context("epoll_create")?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
            .context("timerfd_create")?;
        poll.registry()
            .register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)
            .context("registering the timer")?;
        let (events, scratch) = (Events::with_capacity(EVENTS), vec![0; SCRATCH_BYTES]);
        Ok(Self { poll, timer, armed_ns: 0, events, scratch, parked: Vec::with_capacity(EVENTS) })
    }

    /// Has epoll watch a connection for what it waits for. That it can be written to is news only before it is established, and
    /// while bytes are unsent: asked for always, it would make an event for nothing of every registration.
    fn watch(&mut self, work: &mut Work, key: usize) -> Progress {
        let connection = &mut work.connections[key];
        let writes = connection.phase == Phase::Connecting || !connection.unsent().is_empty();
        if connection.watched.is_some_and(|watched| watched.is_writable() || !writes) {
            return Progress::Goes;
        }
        let interest = if writes { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let (token, registry) = (Token(FIRST_CONNECTION + key), self.poll.registry());
        let known = connection.watched.replace(interest).is_some();
        let result = if known {
            registry.reregister(&mut connection.stream, token, interest)
        } else {
            registry.register(&mut connection.stream, token, interest)
        };
        result.map_or_else(|error| Progress::Failed(Step::Socket, Cause::from(&error)), |()| Progress::Goes)
    }

    /// Ends a connection, or waits for what comes next.
    fn go_on(&mut self, work: &mut Work, key: usize, mut progress: Progress, now_ns: Option<u64>) {
        if progress == Progress::Goes {
            progress = self.watch(work, key);
        }
        if progress != Progress::Goes {
            end(work, self, key, progress, now_ns.unwrap_or_else(clock::monotonic_ns));
        }
    }

    /// Something happened on a connection.
    fn follow(&mut self, work: &mut Work, event: &Event) {
        let key = event.token().0 - FIRST_CONNECTION;
        // It may have ended in this round already.
        if work.connections.get(key).is_none() {
            return;
        }
        let now_ns = clock::monotonic_ns();
        let progress = self.advance(work, key, event, now_ns);
        self.go_on(work, key, progress, Some(now_ns));
    }

    fn advance(&mut self, work: &mut Work, key: usize, event: &Event, now_ns: u64) -> Progress {
        let connection = &work.connections[key];
        if connection.phase == Phase::Connecting {
            let progress = connecting(work, key, now_ns);
            // A server that closes at once may be in the same event as the establishment, and then no other comes.
            if progress != Progress::Goes || work.connections[key].phase == Phase::Connecting || !event.is_readable() {
                return progress;
            }
        } else if !connection.unsent().is_empty() {
            let progress = work.transmit_rest(key);
            // A server may answer, or close, before it has read everything, and says so once.
            if progress != Progress::Goes || !event.is_readable() {
                return progress;
            }
        }
        self.receive(work, key, event.is_read_closed(), now_ns)
    }

    /// Reads what has come. `ended`: the event says that the server has closed, so the end is there to be read.
    fn receive(&mut self, work: &mut Work, key: usize, ended: bool, now_ns: u64) -> Progress {
        loop {
            let length = match work.connections[key].stream.read(&mut self.scratch) {
                Ok(0) => return work.server_ended(key, Cause::EndOfFile, now_ns),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Goes,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return work.server_ended(key, Cause::from(&error), now_ns),
            };
            let progress = work.take(key, &self.scratch[..length], now_ns);
            // A read that did not fill the buffer emptied the socket; what comes later makes an event of its own. The
            // server's close that came with the data does not, and of datagrams there may be more.
            if progress != Progress::Goes
                || (length < SCRATCH_BYTES && !ended && !work.connections[key].stream.is_udp())
            {
                return progress;
            }
        }
    }
}

impl Engine for Mio {
    fn name(&self) -> &'static str {
        "mio"
    }

    fn start(&mut self, work: &mut Work, intended_ns: u64) -> Result<()> {
        let transport = work.attempt();
        let key = work.connections.reserve();
        // A flow leaves nothing to the key's last connection, whose events would seem to be its own.
        let parked = self.parked.get_mut(key).and_then(Option::take).filter(|_| transport == Transport::Tcp);
        let (left, watched) = parked.unzip();
        match begin(work, key, transport, intended_ns, left, |socket| Stream::new(transport, socket)) {
            Begun::Not => return Ok(()),
            Begun::Fresh => {}
            Begun::Recycled => work.connections[key].watched = watched.flatten(),
        }
        let progress = match transport {
            Transport::Tcp => ask_early(work, key),
            Transport::Udp => work.begin_flow(key),
        };
        self.go_on(work, key, progress, None);
        Ok(())
    }

    fn turn(&mut self, work: &mut Work, until_ns: Option<u64>) -> Result<()> {
        let timeout = if until_ns.is_some() { None } else { Some(Duration::ZERO) };
        if let Some(until_ns) = until_ns.filter(|until_ns| *until_ns != self.armed_ns) {
            let at = Expiration::OneShot(TimeSpec::nanoseconds(until_ns as i64));
            self.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME).context("timerfd_settime")?;
            self.armed_ns = until_ns;
        }
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.poll.poll(&mut events, timeout);
        if polled.is_ok() {
            for event in events.iter().filter(|event| event.token() != TIMER) {
                self.follow(work, event);
            }
        }
        self.events = events;
        match polled {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            polled => polled.context("epoll_wait"),
        }
    }

    fn asked(&mut self, work: &mut Work, key: usize) -> Result<()> {
        // What the socket did not take goes out when it is writable again.
        self.go_on(work, key, Progress::Goes, None);
        Ok(())
    }

    fn close(&mut self, work: &mut Work, key: usize, connection: Connection, completed: bool) {
        let load = &work.loader.context.scenario.load;
        // Of a connection that has failed, nobody knows what is still to come.
        let recycles = load.sockets == Sockets::Recycled && completed && !connection.stream.is_udp();
        if recycles && socket::disconnect(&connection.stream).is_ok() {
            // Events of the old connection cannot be taken for the new one's: those of this turn find no connection under
            // the key, and epoll reports what is true when it is asked.
            if self.parked.len() <= key {
                self.parked.resize_with(key + 1, || None);
            }
            self.parked[key] = Some((connection.stream, connection.watched));
        } else if let (Stream::Tcp(stream), CloseBy::Client, CloseHow::Rst) =
            (&connection.stream, load.close_by, load.close_how)
        {
            // Fails on a socket that is closed already, which is as well.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
        work.connections.release(key);
    }
}
