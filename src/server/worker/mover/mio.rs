//! `mio`: epoll says which connections are ready, and the worker reads and writes itself.

use std::{
    io::{self, ErrorKind, Read, Write},
    time::Duration,
};

use anyhow::Result;
use mio::{Events, Poll, Token};
use slab::Slab;

use super::{Mover, wait};
use crate::{
    ipc::control::Meter,
    record::Cause,
    server::{
        app::{Application, Connection, Next, Outlet},
        worker::{FIRST_CONNECTION, event_loop::Loop},
    },
};

/// Most bytes per read.
const SCRATCH_BYTES: usize = 65_536;

/// Reads and writes of a worker's own.
pub(in super::super) struct Mio {
    scratch: Vec<u8>,
    /// Whether each read is of one message, after which more may wait.
    has_messages: bool,
}

impl Mio {
    pub fn new(has_messages: bool) -> Self {
        Self { scratch: vec![0; SCRATCH_BYTES], has_messages }
    }

    /// Serves what is there: reads requests and replies to them until the socket has no more, or its buffer is full.
    /// `ended`: an event says that the client has closed, so the end is there to be read.
    fn serve(
        &mut self,
        connection: &mut Connection,
        application: &mut Application,
        ended: bool,
    ) -> Result<Next, Cause> {
        loop {
            if !flush(connection)? {
                return Ok(Next::Wait);
            }
            if connection.is_closing() {
                return Ok(Next::Close);
            }
            // A stuck reply has now been sent: whole requests may be waiting behind it.
            if application.resume(connection, &mut Direct)? && (connection.has_unsent() || connection.is_closing()) {
                continue;
            }
            let length = match connection.stream.read(&mut self.scratch) {
                Ok(0) => return application.end(connection),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Wait),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            application.hear(connection, &self.scratch[..length], &mut Direct)?;
            // A read that did not fill the buffer has emptied the socket, and later bytes cause an event of their own:
            // reading again would be a wasted system call. A close that came with the bytes causes no further event.
            let emptied = length < SCRATCH_BYTES && !self.has_messages;
            if emptied && !ended && !connection.has_unsent() && !connection.is_closing() {
                return Ok(Next::Wait);
            }
        }
    }
}

impl Mover for Mio {
    fn wait(&mut self, poll: &mut Poll, events: &mut Events, at_most: Option<Duration>) -> Result<usize> {
        wait(poll, events, at_most).map(|()| 0)
    }

    fn pending(&self, events: &Events) -> usize {
        events.iter().count()
    }

    fn begin(&mut self, _: usize, connection: &mut Connection, application: &mut Application) -> Result<Next, Cause> {
        application.begin(connection).map_or_else(|| self.serve(connection, application, false), Ok)
    }

    fn serve_ready(work: &mut Loop<Self>, events: &Events, meter: &mut Meter<'_>) -> Result<()> {
        for event in events.iter().filter(|event| event.token().0 >= FIRST_CONNECTION) {
            if !work.running() {
                break;
            }
            let ended = event.is_read_closed();
            work.serve(event.token().0 - FIRST_CONNECTION, meter, |mover, connection, application| {
                mover.serve(connection, application, ended)
            });
        }
        Ok(())
    }

    fn watch(&mut self, poll: &Poll, key: usize, connection: &mut Connection) -> io::Result<()> {
        let (registry, token) = (poll.registry(), Token(FIRST_CONNECTION + key));
        let awaited = connection.awaits();
        match connection.watched.replace(awaited) {
            Some(watched) if watched == awaited => Ok(()),
            Some(_) => registry.reregister(&mut connection.stream, token, awaited),
            None => registry.register(&mut connection.stream, token, awaited),
        }
    }

    fn close(&mut self, _: usize, connection: Connection) -> io::Result<bool> {
        // Closing the descriptor takes it out of epoll.
        drop(connection);
        Ok(true)
    }

    fn closing(&self) -> usize {
        0
    }

    fn cut_off(&mut self, connections: &mut Slab<Connection>) -> Result<()> {
        connections.clear();
        Ok(())
    }
}

/// Writes at once; what the socket does not take becomes unsent.
struct Direct;

impl Outlet for Direct {
    fn send(&mut self, connection: &mut Connection, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match connection.stream.write(bytes) {
                Ok(length) => bytes = &bytes[length..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.keep_unsent(bytes);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_free(&self, connection: &Connection) -> bool {
        !connection.has_unsent()
    }
}

/// Sends what is unsent; true if nothing is left.
fn flush(connection: &mut Connection) -> io::Result<bool> {
    if connection.has_unsent() {
        let unsent = connection.take_unsent();
        Direct.send(connection, &unsent)?;
    }
    Ok(!connection.has_unsent())
}
