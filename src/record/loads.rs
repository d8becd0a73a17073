//! The populations of a load: connections that are made alike, and measured by themselves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ErrorCount, Latencies, Measured, Rates, Replayed};

/// A population: the connections of one `[load]`, as its own loaders saw them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadRow {
    /// Its name in the scenario; `load` for a single `[load]`.
    pub name: String,
    /// From when on its connections were due, in seconds from the trial's start.
    pub start_s: f64,
    /// Until when they were; `null` if a number of connections decides.
    pub end_s: Option<f64>,
    /// The numbers of its loaders. No loader makes connections of two populations.
    pub loaders: Vec<usize>,
    /// Identifies the schedule that was followed, in 16 hex digits; `null` in a closed loop, and of clients that think.
    pub schedule: Option<String>,
    /// Version of the PROXY protocol header that each of its connections began with, 1 or 2; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<u8>,
    /// The trace that it replayed; absent if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replayed>,
    /// Rates over the measured window. `accepted_per_s` is `null` beside another population: members do not tell whose connections
    /// they accept.
    pub rates: Rates,
    /// Counts over the whole trial, warm-up included.
    pub connections: LoadConnections,
    /// Replies over the whole trial that belonged where they arrived.
    pub requests_completed: u64,
    /// Counts over the measured window: if connections are kept, `kept` has the requests that were due on them. What members count is `null` beside another population.
    pub measured: Measured,
    /// Latencies of the population's connections intended to start in the measured window. Beside another population, accept waits are
    /// there only as far as its loaders could bound them.
    pub latency_ns: Latencies,
}

/// Bytes of the longest name of a population.
pub const LONGEST_POPULATION: usize = 64;

impl LoadRow {
    /// Whether a population may have this name: a lowercase letter, then lowercase letters, digits and hyphens. It stands before the names of
    /// metrics, in tags and in names of files.
    pub fn may_be_called(name: &str) -> bool {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        name.len() <= LONGEST_POPULATION
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(plain)
    }
}

/// Where the connections of a population went, as far as its loaders can tell: attempted = completed + errors + in_flight.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadConnections {
    /// Connections and datagram flows begun.
    pub attempted: u64,
    /// Connections established.
    pub established: u64,
    /// Those of them that the kernel connected to themselves.
    pub self_connected: u64,
    /// Those of them that ended without a sign that a member accepted them.
    pub unserved: u64,
    /// Connections and datagram flows that ran to their planned end, or to a server's close after a reply.
    pub completed: u64,
    /// Connections and datagram flows that were in progress when their loader died.
    pub in_flight: u64,
    /// Replies that belong to another connection, request or 4-tuple. Must be 0.
    pub misdelivered: u64,
    /// Connections among those attempted that continued the requests of one that the server had ended after a reply.
    pub reconnected: u64,
    /// Connections among those attempted that replaced one whose lifetime was over (`load.lifetime`).
    #[serde(default)]
    pub replaced: u64,
    /// Errors by phase and errno.
    pub errors: Vec<ErrorCount>,
}

impl LoadConnections {
    /// Those that failed.
    pub fn failed(&self) -> u64 {
        self.errors.iter().map(|error| error.count).sum()
    }

    /// Whether attempted = completed + errors + in_flight.
    pub fn adds_up(&self) -> bool {
        let ends = [self.completed, self.failed(), self.in_flight];
        ends.into_iter().map(u128::from).sum::<u128>() == u128::from(self.attempted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Cause, Step};

    #[test]
    fn a_population_has_a_plain_name() {
        let longest = "a".repeat(LONGEST_POPULATION);
        for name in ["a", "kept", "http-2", &longest] {
            assert!(LoadRow::may_be_called(name), "{name}");
        }
        let longer = "a".repeat(LONGEST_POPULATION + 1);
        for name in ["", "2", "-a", "Kept", "a.b", "a/b", "a b", "ä", &longer] {
            assert!(!LoadRow::may_be_called(name), "{name}");
        }
    }

    #[test]
    fn what_a_population_attempted_was_completed_or_failed() {
        let error = ErrorCount { phase: Step::Connect, errno: Cause::Deadline, count: 3 };
        let of = |attempted| LoadConnections {
            attempted,
            completed: 5,
            in_flight: 1,
            errors: vec![error],
            ..LoadConnections::default()
        };
        assert_eq!([8, 9, 10].map(|attempted| of(attempted).adds_up()), [false, true, false]);
        assert!(LoadConnections::default().adds_up());
    }
}
