//! Serving a worker's connections.

use std::time::Duration;

use socket2::SockRef;

use super::{event_loop::Loop, mover::Mover};
use crate::{
    ipc::control::{Count, Meter},
    record::{Cause, Step},
    scenario::{CloseBy, CloseHow},
    server::app::{Application, Connection, Next},
};

impl<M: Mover> Loop<M> {
    /// Serves what was accepted in this wake-up.
    pub(super) fn serve_fresh(&mut self, meter: &mut Meter<'_>) {
        while let Some(key) = self.fresh.pop_front() {
            if !self.running() {
                return;
            }
            self.serve(key, meter, |mover, connection, application| mover.begin(key, connection, application));
        }
    }

    /// Serves a connection in a way of the mover's, and does what follows.
    pub(super) fn serve(
        &mut self,
        key: usize,
        meter: &mut Meter<'_>,
        serve: impl FnOnce(&mut M, &mut Connection, &mut Application) -> Result<Next, Cause>,
    ) {
        // Unless it was served and closed earlier in this wake-up.
        let Some(connection) = self.connections.get_mut(key) else { return };
        let before = self.application.answered();
        let served = serve(&mut self.mover, connection, &mut self.application);
        meter.add(Count::Requests, self.application.answered() - before);
        if let Some(secured) = self.application.take_secured() {
            meter.add(Count::Handshakes, 1);
            meter.add(Count::HandshakesResumed, u64::from(secured.resumed));
        }
        let next = match served {
            Ok(Next::Wait) => {
                // Only now, because a connection served by its first read never needs it.
                match self.mover.watch(&self.poll, key, connection) {
                    Ok(()) => return,
                    Err(error) => {
                        meter.add_error(Step::Serve, &error);
                        Next::Gone
                    }
                }
            }
            Ok(next) => next,
            Err(cause) => {
                failed(cause, meter);
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
        let connection = self.connections.remove(key);
        match self.mover.close(key, connection) {
            Ok(true) => self.closed(meter),
            Ok(false) => {}
            Err(error) => meter.add_error(Step::Serve, &error),
        }
    }

    /// A connection is closed.
    pub(super) fn closed(&mut self, meter: &Meter<'_>) {
        meter.closed();
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.closed();
        }
    }
}

/// Counts what went wrong while a connection was served.
pub(super) fn failed(cause: Cause, meter: &Meter<'_>) {
    // A client that closes by reset is gone; the loader itself counts the replies it missed.
    if cause != Cause::Errno(libc::ECONNRESET) {
        meter.add_error(Step::Serve, cause);
    }
}
