//! What moves the bytes of a worker's connections between their sockets and the application: one file per engine, behind one trait.
//!
//! A mover waits for the loop, reads, writes and closes. Whatever wakes a worker for new work is in the worker's epoll instance with either
//! engine, so that strategies know nothing of it; a ring watches that instance. The loop counts, and decides what becomes of a connection.

mod mio;
mod uring;

use std::{io, time::Duration};

use ::mio::{Events, Poll};
use anyhow::{Context, Result};
use slab::Slab;

pub(super) use self::{mio::Mio, uring::Uring};
use super::event_loop::Loop;
use crate::{
    ipc::control::Meter,
    record::Cause,
    scenario::{Engine, Scenario},
    server::app::{Application, Connection, Next},
    sys::uring::ServerRing,
};

/// Moves the bytes of a worker's connections, which it knows by their keys in the worker's slab.
pub(super) trait Mover: Sized {
    /// Waits for events of the loop's sources, which are in `events` then, and of connections. Returns how many of those that were being
    /// closed are closed now: what is accepted next may take their place.
    fn wait(&mut self, poll: &mut Poll, events: &mut Events, at_most: Option<Duration>) -> Result<usize>;

    /// How many events of either kind the last wait has found.
    fn pending(&self, events: &Events) -> usize;

    /// Begins to serve a connection that was just accepted.
    fn begin(&mut self, key: usize, connection: &mut Connection, application: &mut Application) -> Result<Next, Cause>;

    /// Serves the connections that the last wait has found something of, until the trial ends.
    fn serve_ready(work: &mut Loop<Self>, events: &Events, meter: &mut Meter<'_>) -> Result<()>;

    /// Sees to it that what a connection waits for is found.
    fn watch(&mut self, poll: &Poll, key: usize, connection: &mut Connection) -> io::Result<()>;

    /// Closes a connection once what was said on it has left. Returns whether it is closed now; if not, the loop is told later.
    fn close(&mut self, key: usize, connection: Connection) -> io::Result<bool>;

    /// How many connections are being closed.
    fn closing(&self) -> usize;

    /// Closes all connections now, whatever they have left to say.
    fn cut_off(&mut self, connections: &mut Slab<Connection>) -> Result<()>;
}

/// Any of the movers.
pub(super) enum AnyMover {
    Mio(Mio),
    Uring(Box<Uring>),
}

impl AnyMover {
    /// The mover that a scenario asks for. Call it in the worker's thread. `auto` means io_uring if this kernel allows it.
    pub fn build(scenario: &Scenario) -> Result<Self> {
        Ok(match ring_for(scenario.server.engine, ring)? {
            Some(ring) => Self::Uring(Box::new(Uring::new(ring, &scenario.server))),
            None => Self::Mio(Mio::new(scenario.has_messages())),
        })
    }

    /// Its name in scenarios.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mio(_) => "mio",
            Self::Uring(_) => "uring",
        }
    }
}

/// Tries whether kernel and user permit io_uring for so many workers at once. Fails with the reason and the remedy.
pub fn try_rings(workers: usize) -> Result<()> {
    (0..workers).map(|_| ring()).collect::<Result<Vec<_>>>().map(drop)
}

/// The ring of an engine that has one.
fn ring_for<R>(engine: Engine, ring: impl FnOnce() -> Result<R>) -> Result<Option<R>> {
    match engine {
        Engine::Uring => ring().context("`server.engine` = \"uring\"").map(Some),
        Engine::Auto { ring: true } => Ok(ring().ok()),
        Engine::Mio | Engine::Auto { ring: false } => Ok(None),
    }
}

fn ring() -> Result<ServerRing> {
    ServerRing::new().context(
        "io_uring for workers; it may be switched off (sysctl kernel.io_uring_disabled), forbidden by a sandbox, short of memory that \
         may be locked (`ulimit -l`), or older than Linux 6.1: take server.engine = \"mio\", or fewer workers",
    )
}

/// Waits in epoll; a signal counts as a wake-up without events.
pub(super) fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        result => result.context("epoll_wait"),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn without_io_uring_auto_falls_back_and_uring_says_why() {
        let forbidden = || Err::<(), _>(anyhow!("forbidden"));
        let auto = Engine::Auto { ring: true };
        assert!(ring_for(auto, || Ok(())).unwrap().is_some() && ring_for(auto, forbidden).unwrap().is_none());
        assert!(ring_for(Engine::Uring, || Ok(())).unwrap().is_some());
        let error = format!("{:#}", ring_for(Engine::Uring, forbidden).unwrap_err());
        assert_eq!(error, "`server.engine` = \"uring\": forbidden");
        assert!(ring_for(Engine::Mio, || Ok(())).unwrap().is_none());
    }
}
