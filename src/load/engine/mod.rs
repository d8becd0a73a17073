//! The seam between a loader's work and the ways of moving bytes: one engine a file.
//!
//! An engine starts connections, moves bytes and closes. When something starts, from which port, what is said, what a reply is
//! worth and what counts are the same for all: [`Work`] decides.

mod mio;
mod opening;
mod uring;

use anyhow::{Context, Result};

use super::{connection::Connection, work::Work};
use crate::{
    scenario::{App, Engine as Key, Scenario},
    sys::uring::ClientRing,
};

/// A way of moving bytes.
pub(super) trait Engine {
    /// The name in scenarios.
    fn name(&self) -> &'static str;

    /// Starts a connection, or flow, that the schedule wanted at `intended_ns`.
    fn start(&mut self, work: &mut Work, intended_ns: u64) -> Result<()>;

    /// Waits for events until an instant of CLOCK_MONOTONIC, or not at all, and handles those that are there.
    fn turn(&mut self, work: &mut Work, until_ns: Option<u64>) -> Result<()>;

    /// A connection that had been at rest has a request to send.
    fn asked(&mut self, work: &mut Work, key: usize) -> Result<()>;

    /// Closes a connection that has ended, as the scenario says, and releases its key.
    fn close(&mut self, work: &mut Work, key: usize, connection: Connection, completed: bool);
}

/// Builds a scenario's engine, after the fork. `auto` is io_uring where the scenario and this kernel allow it.
pub(super) fn build(scenario: &Scenario) -> Result<Box<dyn Engine>> {
    match scenario.load.engine {
        Key::Uring => Ok(Box::new(uring::Uring::new(ring(scenario)?))),
        Key::Auto { ring: true } => match ring(scenario) {
            Ok(ring) => Ok(Box::new(uring::Uring::new(ring))),
            Err(_) => Ok(Box::new(mio::Mio::new()?)),
        },
        Key::Mio | Key::Auto { ring: false } => Ok(Box::new(mio::Mio::new()?)),
    }
}

/// Tries whether this kernel lets this user have io_uring for loaders. Fails with the reason and the remedy.
pub fn try_ring() -> Result<()> {
    ClientRing::new(1).map(drop).context(
        "io_uring for loaders; it may be switched off (sysctl kernel.io_uring_disabled), forbidden by a sandbox, or older than \
         Linux 5.11: take load.engine = \"mio\"",
    )
}

fn ring(scenario: &Scenario) -> Result<ClientRing> {
    /// Longer replies come in several receives: a slot is there for every connection, also for those that are held.
    const MOST: usize = 16_384;
    /// A reply's head.
    const HEAD: usize = 512;
    let reply_bytes = match scenario.server.app {
        App::Close => 0,
        App::Echo { reply_bytes, .. } => reply_bytes,
        App::Http { body_bytes } => body_bytes,
    };
    try_ring().context("`load.engine` = \"uring\"")?;
    ClientRing::new((reply_bytes + HEAD).min(MOST)).context("io_uring_setup")
}
