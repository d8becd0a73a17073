//! The seam between a loader's work and the ways of moving bytes: one engine a file.
//!
//! An engine starts connections, moves bytes and closes. When something starts, from which port, what is said, what a reply is
//! worth and what counts are the same for all: [`Work`] decides.

mod mio;

use anyhow::Result;

use super::{connection::Connection, work::Work};

/// A way of moving bytes.
pub(super) trait Engine {
    /// Starts a connection, or flow, that the schedule wanted at `intended_ns`.
    fn start(&mut self, work: &mut Work, intended_ns: u64) -> Result<()>;

    /// Waits for events until an instant of CLOCK_MONOTONIC, or not at all, and handles those that are there.
    fn turn(&mut self, work: &mut Work, until_ns: Option<u64>) -> Result<()>;

    /// A connection that had been at rest has a request to send.
    fn asked(&mut self, work: &mut Work, key: usize) -> Result<()>;

    /// Closes a connection that has ended, as the scenario says, and releases its key.
    fn close(&mut self, work: &mut Work, key: usize, connection: Connection, completed: bool);
}

/// Builds a scenario's engine, after the fork.
pub(super) fn build() -> Result<Box<dyn Engine>> {
    Ok(Box::new(mio::Mio::new()?))
}
