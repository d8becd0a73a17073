//! The descriptors of a process that accepts: how many it may have, and the one that it may keep to spare.

use std::fs::File;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    ipc::control::{Count, Meter},
    scenario::{
        Server,
        keys::{self, AnyKey},
    },
    sys::limits,
};

/// What a worker opens after its limit is set, with room to spare: its listener and what wakes it for that, and a connection.
const LEAST: u64 = 4;

/// What is wrong with the limit that a scenario sets for its server, in this process's view; `None` if nothing is known to be.
pub fn check(server: &Server) -> Result<Option<String>> {
    let Some(limit) = server.open_files else { return Ok(None) };
    let hard = limits::open_files().context("getrlimit(RLIMIT_NOFILE)")?.hard;
    Ok((limit > hard).then(|| {
        format!(
            "{limit} is above the hard limit of open files here, {hard}: lower it, or raise that (`ulimit -Hn`, or LimitNOFILE= of the \
             service that this runs in)"
        )
    }))
}

/// That a limit has no room for a connection.
fn too_few(limit: u64, least: u64) -> String {
    format!("{limit} leaves a worker no descriptor for a connection: it needs at least {least}; raise it")
}

/// A process's descriptors just before its first connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptors {
    /// Its limit of open files. One is no descriptor's number.
    pub limit: u64,
    /// How many below the limit are in use.
    pub before: u64,
}

impl Descriptors {
    /// Limits the calling process's as the scenario says. Fails if that leaves none for a connection beside what is opened from here on.
    pub fn limit(server: &Server) -> Result<()> {
        let Some(limit) = server.open_files else { return Ok(()) };
        let least = limits::lowest_limit(LEAST, 0).context("reading /proc/self/fd")?;
        if least > limit {
            bail!("`{}`: {}", keys::SERVER_OPEN_FILES.path(), too_few(limit, least));
        }
        limits::lower_open_files(limit).context("setrlimit(RLIMIT_NOFILE)")
    }

    /// Those of the calling process, which has all but connections to this port.
    pub fn count(port: u16) -> Result<Self> {
        let limit = limits::open_files().context("getrlimit(RLIMIT_NOFILE)")?.soft;
        let before = limits::in_use_below(limit, port).context("reading /proc/self/fd")?;
        if before >= limit {
            let least = limits::lowest_limit(1, port).context("reading /proc/self/fd")?;
            bail!("the limit of open files: {}", too_few(limit, least));
        }
        Ok(Self { limit, before })
    }

    /// Enters them in the process's counters.
    pub fn enter(self, meter: &Meter<'_>) {
        meter.add(Count::DescriptorLimit, self.limit);
        meter.add(Count::DescriptorsBefore, self.before);
    }

    /// Whether there may be none left beside those of so many connections; if not, there is one.
    #[inline]
    pub fn may_be_used_up(self, connections: usize) -> bool {
        /// For whatever is opened later than these were counted.
        const UNCOUNTED: u64 = 8;
        self.before + connections as u64 + UNCOUNTED >= self.limit
    }
}

/// A descriptor that can be freed for a connection when there is none left.
#[derive(Debug, Default)]
pub struct Spare(Option<File>);

impl Spare {
    /// Takes a descriptor, unless it has one. Returns whether it has one now.
    pub fn take(&mut self) -> bool {
        if self.0.is_none() {
            self.0 = File::open("/").ok();
        }
        self.0.is_some()
    }

    /// Frees it.
    pub fn free(&mut self) {
        self.0 = None;
    }
}
