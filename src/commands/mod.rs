//! The commands, one file each.

pub mod calibrate;
mod capacity;
pub mod compare;
pub mod completions;
pub mod doctor;
pub mod load;
pub mod man;
pub mod ports;
pub mod report;
pub mod run;
#[cfg(test)]
mod schemas;
pub mod serve;
mod sources;

use std::{
    fmt::Display,
    io::{ErrorKind, Write, stderr, stdout},
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use thiserror::Error;

use crate::{ipc::family::Cut, record::RecordExists, scenario::ScenarioError, sys::signals};

/// How a command ended, if it could run at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Completed.
    Done,
    /// Completed, but at least one trial is invalid or failed.
    Flawed,
    /// Interrupted by a signal; finished trials are kept.
    Interrupted,
}

/// The command line asks for something that makes no sense.
#[derive(Debug, Error)]
#[error("{0}")]
struct Usage(String);

/// Whether the user has to fix the scenario or the command line (exit code 2).
pub fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Usage>() || cause.is::<ScenarioError>() || cause.is::<RecordExists>())
}

/// Whether an error says that the user interrupted the command.
pub fn is_interrupt(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref() == Some(&Cut::Interrupted))
}

/// Prints a line to standard output. A closed pipe (`| head`) is not an error.
fn say(line: impl Display) -> Result<()> {
    match writeln!(stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("writing to standard output"),
    }
}

/// Prints a line to standard error. Failures are ignored: a closed terminal must not end a run.
fn note(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}

/// A flag set by SIGINT, SIGTERM and SIGHUP, except those ignored when the program started: its caller wants it to
/// continue.
fn interrupt_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        if !signals::is_ignored(signal).context("sigaction")? {
            signal_hook::flag::register(signal, Arc::clone(&flag)).context("installing a signal handler")?;
        }
    }
    Ok(flag)
}
