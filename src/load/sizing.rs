//! How many loader processes a scenario needs on this machine, computed before the run.

use std::{fmt, time::Duration};

use anyhow::{Result, bail};

use crate::{
    format::plural,
    scenario::{Arrivals, Bound, Load, Mode, Scenario, keys},
};

const LOADERS_LIMIT: usize = keys::LOAD_LOADERS.max();
const WORKERS_LIMIT: u64 = keys::SERVER_WORKERS.max() as u64;
/// Descriptors that a loader or worker has open besides its connections, with room to spare.
const RESERVED_FILES: u64 = 64;
/// Starts per second that leave a single loader ample time between them.
const STARTS_PER_LOADER: f64 = 10_000.0;
/// In a closed loop, the concurrency that justifies another loader, as long as there are processors.
const CONCURRENCY_PER_LOADER: usize = 16;
/// How long a connection of an open loop is assumed to last besides its hold.
const SECONDS_IN_FLIGHT: f64 = 1.0;

/// How many loaders a load needs, and what they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizing {
    /// The number of loader processes.
    pub loaders: usize,
    /// Connections that may be open at once in all loaders together.
    pub connections: u64,
    /// Open files that each loader needs.
    pub files_each: u64,
    /// Open files that each loader may have.
    pub files_limit: u64,
}

impl fmt::Display for Sizing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.connections == 0 {
            return write!(f, "as many connections as there are ports");
        }
        write!(
            f,
            "{} for up to {} connections at once ({} of {} open files each)",
            plural(self.loaders, "loader"),
            self.connections,
            self.files_each,
            self.files_limit
        )
    }
}

/// Sizes a scenario's load for a limit of open files per process and a number of processors.
///
/// Fails if the loaders or the workers cannot hold the connections; the error names the key and the remedy.
pub fn size(scenario: &Scenario, files_limit: u64, cpus: usize) -> Result<Sizing> {
    let load = &scenario.load;
    if scenario.fill.is_some() {
        // The trial counts the ports and forks as many processes as they need.
        return Ok(Sizing { loaders: 1, connections: 0, files_each: files_limit, files_limit });
    }
    let connections = connections_at_once(load);
    let room = files_limit.saturating_sub(RESERVED_FILES).max(1);
    let for_files = usize::try_from(connections.div_ceil(room)).unwrap_or(usize::MAX);
    let for_pace = match load.mode {
        Mode::Closed { concurrency } => concurrency.div_ceil(CONCURRENCY_PER_LOADER).min(cpus).min(concurrency),
        Mode::Open { arrivals, .. } => ((arrivals.per_second() / STARTS_PER_LOADER).ceil() as usize).min(LOADERS_LIMIT),
    };
    let loaders = load.loaders.unwrap_or_else(|| for_files.max(for_pace).max(1));
    let remedy = "raise the limit of open files (`ulimit -n`), or lower `load.concurrency`, `load.rate` or `load.hold`";
    if for_files > loaders || loaders > LOADERS_LIMIT {
        bail!(
            "the load may have {connections} connections open at once, which requires {for_files} loaders of {files_limit} \
             open files each: raise `load.loaders` (at most {LOADERS_LIMIT}), {remedy}"
        );
    }
    let workers = scenario.server.workers as u64;
    // Datagram flows do not use a worker's descriptors.
    let accepted = (connections as f64 * (1.0 - load.udp_share)).ceil() as u64;
    // Workers that share a queue cover for each other: if one has no files left, another takes the connection.
    let most = |workers: u64| {
        let queues = scenario.server.strategy.queues.count(workers as usize) as u64;
        most_of_one(accepted, queues).div_ceil(workers / queues)
    };
    if most(workers) > room {
        let enough = (workers..=WORKERS_LIMIT).find(|workers| most(*workers) <= room);
        let raise = enough.map(|enough| format!("raise `server.workers` to {enough}, ")).unwrap_or_default();
        bail!(
            "the load may have {accepted} connections open at once, and {workers} workers of {files_limit} open files \
             each cannot hold them: {raise}{remedy}"
        );
    }
    Ok(Sizing { loaders, connections, files_each: connections.div_ceil(loaders as u64) + RESERVED_FILES, files_limit })
}

/// An upper bound on the connections of the busiest worker when a hash spreads them: four standard deviations above the mean of
/// the multinomial distribution. An even spread would be the exception.
fn most_of_one(connections: u64, workers: u64) -> u64 {
    let mean = connections as f64 / workers as f64;
    let deviation = (mean * (1.0 - 1.0 / workers as f64)).sqrt();
    (mean + 4.0 * deviation).ceil() as u64
}

/// Connections and flows that a load is certain to hold at once, each of which needs its own port. The connections that an open loop
/// has open besides its holds depend on the server, and are not counted.
pub fn held_at_once(load: &Load) -> u64 {
    let begun_in = |span: Duration| match load.mode {
        Mode::Closed { concurrency } => concurrency as u64,
        // A burst begins all at once; the first burst is at the start.
        Mode::Open { arrivals: Arrivals::Burst { size, every }, .. } if !span.is_zero() => {
            size.saturating_mul(1 + (span.as_secs_f64() / every.as_secs_f64()) as u64)
        }
        Mode::Open { arrivals, .. } => (arrivals.per_second() * span.as_secs_f64()) as u64,
    };
    let held = begun_in(load.hold);
    match load.bound {
        Bound::Connections(most) => held.min(most),
        // No connection begins at the end itself.
        Bound::Duration(span) => held.min(begun_in((load.warmup + span).saturating_sub(Duration::from_nanos(1)))),
    }
}

fn connections_at_once(load: &Load) -> u64 {
    let seconds = load.hold.as_secs_f64() + SECONDS_IN_FLIGHT;
    let most = match load.bound {
        // The number excludes connections of the warm-up.
        Bound::Connections(count) if load.warmup.is_zero() => count,
        _ => u64::MAX,
    };
    let at_once = match load.mode {
        Mode::Closed { concurrency } => concurrency as u64,
        Mode::Open { arrivals: Arrivals::Burst { size, every }, .. } => {
            size.saturating_mul((seconds / every.as_secs_f64()).ceil() as u64)
        }
        Mode::Open { arrivals, .. } => (arrivals.per_second() * seconds).ceil() as u64,
    };
    at_once.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Plan, Source};

    fn sized(text: &str) -> Result<Sizing> {
        let plan = Plan::read(&Source { name: "t", text }, &[]).unwrap();
        size(&plan.cells[0].scenario, 20_000, 2)
    }

    #[test]
    fn files_rate_and_concurrency_decide() {
        for (text, loaders) in [
            ("[load]\nconcurrency = 1", 1),
            ("[load]\nconcurrency = 64", 2),
            ("[server]\nworkers = 3\n[load]\nconcurrency = 50000", 3),
            ("[load]\nmode = \"open\"\nrate = 25000.0", 3),
            ("[load]\nmode = \"open\"\nrate = 5000.0\nhold = \"20s\"\n[server]\nworkers = 6", 6),
            ("[load]\nmode = \"open\"\narrivals = \"burst\"\nburst_size = 10", 1),
            ("[load]\nloaders = 5", 5),
        ] {
            assert_eq!(sized(text).unwrap().loaders, loaders, "{text}");
        }
    }

    #[test]
    fn a_burst_is_held_at_once() {
        for (text, held) in [
            ("burst_every = \"20s\"\nhold = \"4s\"\nduration = \"1s\"", 3_200),
            ("burst_every = \"1s\"\nhold = \"2s\"\nduration = \"10s\"", 9_600),
            ("burst_every = \"1s\"\nhold = \"2s\"\nduration = \"1s\"", 3_200),
            ("burst_every = \"1s\"\nhold = \"2s\"\nconnections = 5000", 5_000),
            ("burst_every = \"1s\"\nduration = \"1s\"", 0),
        ] {
            let text = format!("[load]\nmode = \"open\"\narrivals = \"burst\"\nburst_size = 3200\n{text}");
            let plan = Plan::read(&Source { name: "t", text: &text }, &[]).unwrap();
            assert_eq!(held_at_once(&plan.cells[0].scenario.load), held, "{text}");
        }
    }

    #[test]
    fn too_few_loaders_or_workers_are_refused_with_the_number_needed() {
        let error = sized("[load]\nconcurrency = 50000\nloaders = 2").unwrap_err().to_string();
        assert!(error.contains("50000") && error.contains("3 loaders") && error.contains("load.loaders"), "{error}");
        let error = sized("[load]\nconcurrency = 50000").unwrap_err().to_string();
        assert!(error.contains("2 workers") && error.contains("`server.workers` to 3"), "{error}");
        // Of a million over 51 workers, the busiest will have 20,163, where the mean is 19,608.
        let million = |workers: u32| {
            sized(&format!(
                "[load]\nmode = \"open\"\nrate = 1e4\nconnections = 1000000\nhold = \"100s\"\n[server]\n\
                 strategy = \"reuseport\"\nworkers = {workers}"
            ))
        };
        assert!(million(51).unwrap_err().to_string().contains("`server.workers` to 52"));
        assert_eq!(million(52).unwrap().loaders, 51);
        assert_eq!(
            sized("[load]\nmode = \"open\"\nrate = 9.9e6\nloaders = 512\n[server]\nworkers = 512").unwrap().loaders,
            512
        );
    }
}
