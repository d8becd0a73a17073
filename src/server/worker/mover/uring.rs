//! `uring`: receives, sends and closes are operations of a ring, which are submitted together, by the same system call that waits. The
//! reply to a request leaves with the receive of the next one, or with the close, in one chain.

use std::{io, net, os::fd::AsFd, time::Duration};

use anyhow::{Context, Result};
use mio::{Events, Poll};
use slab::Slab;

use super::{Mover, wait};
use crate::{
    ipc::control::Meter,
    record::Cause,
    scenario::Server,
    server::{
        app::{Application, Connection, Next, Outlet},
        worker::{EVENTS, event_loop::Loop, serving::failed},
    },
    sys::uring::{Outgoing, Receive, Served, ServerRing},
};

/// Replies to pipelined requests leave together, up to about this many bytes.
const TOGETHER_BYTES: usize = 65_536;

/// A ring, and what it has reported.
pub(in super::super) struct Uring {
    ring: ServerRing,
    done: Vec<Served>,
    /// Whether the ring watches the worker's epoll instance.
    watches: bool,
    /// Whether a reply leaves before the next request is served: not if it is served in no time.
    at_once: bool,
}

impl Uring {
    pub fn new(ring: ServerRing, server: &Server) -> Self {
        Self { ring, done: Vec::with_capacity(EVENTS), watches: false, at_once: !server.service_time.is_zero() }
    }
}

impl Mover for Uring {
    fn wait(&mut self, poll: &mut Poll, events: &mut Events, at_most: Option<Duration>) -> Result<usize> {
        events.clear();
        if !self.watches {
            self.ring.watch(poll.registry().as_fd()).context("io_uring_enter")?;
            self.watches = true;
        }
        self.ring.submit_and_wait(at_most).context("io_uring_enter")?;
        self.done.clear();
        let mut closed = 0;
        while let Some(done) = self.ring.next().context("io_uring_enter")? {
            match done {
                Served::Watched => {
                    self.watches = false;
                    wait(poll, events, Some(Duration::ZERO))?;
                }
                Served::Closed => closed += 1,
                done => self.done.push(done),
            }
        }
        Ok(closed)
    }

    fn pending(&self, events: &Events) -> usize {
        self.done.len() + events.iter().count()
    }

    fn begin(&mut self, _: usize, connection: &mut Connection, application: &mut Application) -> Result<Next, Cause> {
        Ok(application.begin(connection).unwrap_or(Next::Wait))
    }

    fn serve_ready(work: &mut Loop<Self>, _: &Events, meter: &mut Meter<'_>) -> Result<()> {
        let mut all = std::mem::take(&mut work.mover.done);
        for done in all.drain(..) {
            if !work.running() {
                break;
            }
            match done {
                Served::Watched | Served::Closed => {}
                Served::Received { key, received } => {
                    work.serve(key, meter, |mover, connection, application| {
                        if received.is_end() {
                            return application.end(connection);
                        }
                        let at_once = mover.at_once;
                        let (bytes, outgoing) = mover.ring.hand(&received);
                        let mut outlet = Queue { outgoing, key, at_once };
                        application.hear(connection, bytes, &mut outlet).map(|()| next(connection))
                    });
                    work.mover.ring.give_back(&received);
                }
                Served::Unreceived { key } => work.serve(key, meter, |_, _, _| Ok(Next::Wait)),
                Served::Sent { key } => work.serve(key, meter, |mover, connection, application| {
                    let at_once = mover.at_once;
                    let mut outlet = Queue { outgoing: mover.ring.outgoing(), key, at_once };
                    application.resume(connection, &mut outlet).map(|_| next(connection))
                }),
                Served::Failed { key: Some(key), errno } => {
                    work.serve(key, meter, |_, _, _| Err(Cause::Errno(errno)));
                }
                Served::Failed { key: None, errno } => failed(Cause::Errno(errno), meter),
            }
        }
        work.mover.done = all;
        // The loop waits no more.
        if work.running() { Ok(()) } else { work.mover.ring.submit().context("io_uring_enter") }
    }

    fn watch(&mut self, _: &Poll, key: usize, connection: &mut Connection) -> io::Result<()> {
        // A client sends its first request at once, and another once it has the reply.
        let receive = if connection.is_served() { Receive::Later } else { Receive::Now };
        let receive = is_free(self.ring.outgoing(), key, self.at_once).then_some(receive);
        self.ring.go_on(key, connection.stream.as_fd(), receive)?;
        self.leave()
    }

    fn close(&mut self, key: usize, connection: Connection) -> io::Result<bool> {
        self.ring.close(key, net::TcpStream::from(connection.stream).into())?;
        self.leave().map(|()| false)
    }

    fn closing(&self) -> usize {
        self.ring.closing()
    }

    fn cut_off(&mut self, connections: &mut Slab<Connection>) -> Result<()> {
        self.ring.cancel_all().context("io_uring_register")?;
        connections.clear();
        Ok(())
    }
}

impl Uring {
    /// Has what was queued leave before the next request is served, if that takes time.
    fn leave(&mut self) -> io::Result<()> {
        if self.at_once { self.ring.submit() } else { Ok(()) }
    }
}

/// Keeps what is said on a connection until the loop submits it.
struct Queue<'a> {
    outgoing: &'a mut Outgoing,
    key: usize,
    at_once: bool,
}

impl Outlet for Queue<'_> {
    fn send(&mut self, _: &mut Connection, bytes: &[u8]) -> io::Result<()> {
        self.outgoing.put(self.key, bytes);
        Ok(())
    }

    fn is_free(&self, _: &Connection) -> bool {
        is_free(self.outgoing, self.key, self.at_once)
    }
}

fn is_free(outgoing: &Outgoing, key: usize, at_once: bool) -> bool {
    outgoing.unsent(key) < if at_once { 1 } else { TOGETHER_BYTES }
}

fn next(connection: &Connection) -> Next {
    if connection.is_closing() { Next::Close } else { Next::Wait }
}
