//! Serving a worker's connections.

use std::{io, time::Duration};

use mio::{Registry, Token, event::Event};
use socket2::SockRef;

use super::{FIRST_CONNECTION, event_loop::Loop};
use crate::{
    ipc::control::{Count, Meter},
    record::{Cause, Step},
    scenario::{CloseBy, CloseHow},
    server::app::{Connection, Next},
};

impl Loop {
    /// Serves what was accepted in this wake-up.
    pub(super) fn serve_fresh(&mut self, meter: &mut Meter<'_>) {
        while let Some(key) = self.fresh.pop_front() {
            if !self.running() {
                return;
            }
            self.serve(key, false, meter);
        }
    }

    /// Serves a connection that has an event.
    pub(super) fn ready(&mut self, event: &Event, meter: &mut Meter<'_>) {
        let key = event.token().0 - FIRST_CONNECTION;
        // Unless it was served and closed earlier in this wake-up.
        if self.connections.contains(key) {
            self.serve(key, event.is_read_closed(), meter);
        }
    }

    fn serve(&mut self, key: usize, ended: bool, meter: &mut Meter<'_>) {
        let connection = &mut self.connections[key];
        let before = connection.served();
        let served = self.application.serve(connection, ended);
        meter.add(Count::Requests, connection.served() - before);
        if let Some(secured) = self.application.take_secured() {
            meter.add(Count::Handshakes, 1);
            meter.add(Count::HandshakesResumed, u64::from(secured.resumed));
        }
        let next = match served {
            Ok(Next::Wait) => {
                // Registered only now, because a connection served by its first read never needs it.
                match watch(self.poll.registry(), connection, Token(FIRST_CONNECTION + key)) {
                    Ok(()) => return,
                    Err(error) => {
                        meter.add_error(Step::Serve, &error);
                        Next::Gone
                    }
                }
            }
            Ok(next) => next,
            Err(cause) => {
                // A client that closes by reset is gone; the loader itself counts the replies it missed.
                if cause != Cause::Errno(libc::ECONNRESET) {
                    meter.add_error(Step::Serve, cause);
                }
                Next::Gone
            }
        };
        // If the client's request asked for the close, it is orderly even though the scenario leaves closing to the client.
        let closing = self.worker.context.scenario.closing();
        if next == Next::Close && closing.close_by == CloseBy::Server && closing.close_how == CloseHow::Rst {
            let reset = SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO));
            if let Err(error) = reset {
                meter.add_error(Step::Serve, &error);
            }
        }
        // Closing the descriptor takes it out of epoll.
        self.connections.remove(key);
        meter.closed();
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.closed();
        }
    }
}

/// Makes epoll watch a connection for what it waits for.
fn watch(registry: &Registry, connection: &mut Connection, token: Token) -> io::Result<()> {
    let awaited = connection.awaits();
    match connection.watched.replace(awaited) {
        Some(watched) if watched == awaited => Ok(()),
        Some(_) => registry.reregister(&mut connection.stream, token, awaited),
        None => registry.register(&mut connection.stream, token, awaited),
    }
}
