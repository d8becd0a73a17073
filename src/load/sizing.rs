//! How many loader processes a scenario needs on each host that generates its load, computed before the run.

use std::{fmt, time::Duration};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::pacer::Part;
use crate::{
    format::{counted, plural, rate, thousands},
    scenario::{Arrivals, Bound, Load, Mode, Scenario, Span, keys},
};

const LOADERS_LIMIT: usize = keys::LOAD_LOADERS.max();
const WORKERS_LIMIT: u64 = keys::SERVER_WORKERS.max() as u64;
/// Descriptors that a loader or worker has open besides its connections, with room to spare.
const RESERVED_FILES: u64 = 64;
/// Starts per second that leave a single loader ample time between them.
const STARTS_PER_LOADER: f64 = 10_000.0;
/// The same of starts with a TLS handshake, each of which takes a loader a few hundred microseconds.
const HANDSHAKES_PER_LOADER: f64 = 1_000.0;
/// In a closed loop, the concurrency that justifies another loader, as long as there are processors.
const CONCURRENCY_PER_LOADER: usize = 16;
/// How long a connection of an open loop is assumed to last besides its hold.
const SECONDS_IN_FLIGHT: f64 = 1.0;

/// What the machines allow that a load runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// How many hosts generate load; 1 if this machine does it all.
    pub hosts: usize,
    /// Open files that a loader may have; of several hosts, the fewest.
    pub files: u64,
    /// Processors for loaders; of several hosts, the fewest.
    pub cpus: usize,
    /// Open files that a worker may have.
    pub server_files: u64,
}

/// How many loaders a load needs, and what they need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizing {
    /// How many hosts share the load: each has as many loaders.
    pub hosts: usize,
    /// The number of loader processes of each population on a host.
    pub of_loads: Vec<usize>,
    /// Connections that may be open at once in all loaders of all hosts together.
    pub connections: u64,
    /// Open files that a loader needs: the one that needs most.
    pub files_each: u64,
    /// Open files that each loader may have.
    pub files_limit: u64,
}

impl Sizing {
    /// The number of loader processes on a host.
    pub fn loaders(&self) -> usize {
        self.of_loads.iter().sum()
    }

    /// The loaders of one of the hosts, which are counted from 0, in order of their numbers there: each one's population and its part of
    /// it. How many hosts share a population makes no difference to its schedule.
    pub fn parts(&self, host: usize) -> impl Iterator<Item = (usize, Part)> {
        let hosts = self.hosts;
        let of_load = move |(load, loaders): (usize, &usize)| {
            let loaders = *loaders;
            let part = move |loader| Part { loader: host * loaders + loader, loaders: hosts * loaders };
            (0..loaders).map(move |loader| (load, part(loader)))
        };
        self.of_loads.iter().enumerate().flat_map(of_load)
    }
}

impl fmt::Display for Sizing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.connections == 0 {
            return write!(f, "as many connections as there are ports");
        }
        let on_each = if self.hosts > 1 { format!(" on each of {} load hosts", self.hosts) } else { String::new() };
        write!(
            f,
            "{}{on_each} for up to {} at once ({} of {} open files each)",
            plural(self.loaders(), "loader"),
            counted(self.connections, "connection", "connections"),
            thousands(self.files_each as f64),
            thousands(self.files_limit as f64)
        )
    }
}

/// The end of an error about open files: what to do, with the keys that decide how many connections a population has open.
fn files_remedy(load: &Load) -> String {
    format!("raise the limit of open files (`ulimit -n`), or lower {}", load.size_keys())
}

/// The population that may have the most connections open.
pub fn largest(scenario: &Scenario) -> &Load {
    let most = scenario.loads.iter().max_by_key(|load| connections_at_once(scenario, load));
    most.expect("a scenario has a load")
}

/// Sizes a scenario's load for what the machines allow.
///
/// Fails if the loaders or the workers cannot hold the connections; the error names the key and the remedy.
pub fn size(scenario: &Scenario, room: Room) -> Result<Sizing> {
    let sizing = size_of_load(scenario, room)?;
    // How many connections another server can hold is its own affair.
    if scenario.subject.is_own() {
        workers_hold(scenario, room.server_files)?;
    }
    Ok(sizing)
}

fn size_of_load(scenario: &Scenario, room: Room) -> Result<Sizing> {
    let Room { hosts, files: files_limit, .. } = room;
    if scenario.fill.is_some() {
        // The trial counts the ports and forks as many processes as they need.
        return Ok(Sizing { hosts, of_loads: vec![1], connections: 0, files_each: files_limit, files_limit });
    }
    let mut all = Sizing { hosts, of_loads: Vec::new(), connections: 0, files_each: 0, files_limit };
    for load in &scenario.loads {
        let (loaders, connections) = size_of_one(scenario, load, room)?;
        all.of_loads.push(loaders);
        all.connections += connections;
        let sockets = sockets_of(load, connections);
        all.files_each = all.files_each.max(sockets.div_ceil((loaders * hosts) as u64) + RESERVED_FILES);
    }
    let loaders = all.loaders();
    if loaders > LOADERS_LIMIT {
        let most = scenario.loads.iter().zip(&all.of_loads).max_by_key(|(_, loaders)| **loaders);
        let (most, its) = most.expect("a scenario has a load");
        bail!(
            "the load's {} populations require {loaders} loaders{}, more than the {LOADERS_LIMIT} that there may be, and \"{}\" \
             {its} of them: set a lower `{}`, {}",
            scenario.loads.len(),
            room.on_each(),
            most.name,
            most.path(keys::LOAD_LOADERS),
            files_remedy(most)
        );
    }
    Ok(all)
}

impl Room {
    /// Where its loaders are, if that is not this machine.
    fn on_each(self) -> &'static str {
        if self.hosts > 1 { " on each load host" } else { "" }
    }
}

/// What decides how many loaders a population has on a host.
struct Reasons {
    /// The connections that it may have open at once, and their sockets.
    connections: u64,
    sockets: u64,
    for_files: usize,
    for_pace: usize,
    /// Why its pace takes that many.
    pace: String,
}

impl Reasons {
    fn of(scenario: &Scenario, load: &Load, Room { hosts, files, cpus, .. }: Room) -> Self {
        let connections = connections_at_once(scenario, load);
        let room = files.saturating_sub(RESERVED_FILES).max(1);
        let each = if hosts > 1 { format!(" over {hosts} load hosts") } else { String::new() };
        let by_starts = |per_second: f64, most: usize, of_one: f64| {
            let loaders = ((per_second / hosts as f64 / of_one).ceil() as usize).min(most);
            (
                loaders.min(LOADERS_LIMIT),
                format!("{} starts/s{each}, of which a loader takes {}", rate(per_second), thousands(of_one)),
            )
        };
        let (for_pace, pace) = match &load.mode {
            Mode::Closed { concurrency } => (
                concurrency.div_ceil(hosts).div_ceil(CONCURRENCY_PER_LOADER).min(cpus).min(*concurrency),
                format!(
                    "{concurrency} connections at once{each}, of which a loader takes {CONCURRENCY_PER_LOADER}, and {}",
                    plural(cpus, "processor")
                ),
            ),
            Mode::Kept { connections, asking, .. } => {
                by_starts(asking.per_second() * *connections as f64, *connections, STARTS_PER_LOADER)
            }
            Mode::Open { arrivals, .. } => {
                let of_one = if load.security.is_some() { HANDSHAKES_PER_LOADER } else { STARTS_PER_LOADER };
                let (loaders, why) = by_starts(arrivals.peak_per_second(), usize::MAX, of_one);
                (loaders, if arrivals.peak_per_second() > arrivals.per_second() { format!("up to {why}") } else { why })
            }
        };
        let sockets = sockets_of(load, connections);
        let for_files = usize::try_from(sockets.div_ceil(hosts as u64).div_ceil(room)).unwrap_or(usize::MAX);
        Self { connections, sockets, for_files, for_pace, pace }
    }

    fn at_once(&self) -> String {
        let Self { connections, sockets, .. } = self;
        let of_both = if sockets > connections {
            format!(" with {sockets} sockets, as flows change their ports,")
        } else {
            String::new()
        };
        format!("{connections} connections{of_both} open at once")
    }

    fn loaders(&self, load: &Load) -> usize {
        load.loaders.unwrap_or_else(|| self.for_files.max(self.for_pace).max(1))
    }
}

/// Why each population has as many loaders as it has, a clause each.
pub fn reasons(scenario: &Scenario, room: Room) -> Vec<String> {
    let files_limit = room.files;
    if scenario.fill.is_some() {
        return vec![format!("a process for each {files_limit} ports, by its limit of open files")];
    }
    let of_load = |load: &Load| {
        let reasons = Reasons::of(scenario, load, room);
        let why = match load.loaders {
            Some(_) => format!("`{}` says so", load.path(keys::LOAD_LOADERS)),
            None if reasons.for_files > reasons.for_pace => {
                format!("up to {}, and {files_limit} open files each", reasons.at_once())
            }
            None => reasons.pace.clone(),
        };
        let name = if scenario.loads.len() > 1 { format!(" of \"{}\"", load.name) } else { String::new() };
        format!("{}{}{name}: {why}", plural(reasons.loaders(load), "loader"), room.on_each())
    };
    scenario.loads.iter().map(of_load).collect()
}

/// Sockets of so many connections and flows of a population.
fn sockets_of(load: &Load, connections: u64) -> u64 {
    let flows = (connections as f64 * load.udp_share).ceil() as u64;
    connections + flows * (load.ports_of_flow() - 1)
}

/// How many loaders a population needs, and the connections that it may have open at once.
fn size_of_one(scenario: &Scenario, load: &Load, room: Room) -> Result<(usize, u64)> {
    let files_limit = room.files;
    let reasons = Reasons::of(scenario, load, room);
    let Reasons { connections, for_files, .. } = reasons;
    let at_once = reasons.at_once();
    let loaders = reasons.loaders(load);
    if for_files > loaders || loaders > LOADERS_LIMIT {
        bail!(
            "the load may have {at_once}, which requires {for_files} loaders of {files_limit} \
             open files each{}: raise `{}` (at most {LOADERS_LIMIT}), {}",
            room.on_each(),
            load.path(keys::LOAD_LOADERS),
            files_remedy(load)
        );
    }
    Ok((loaders, connections))
}

/// Fails if the scenario's workers cannot hold the connections.
fn workers_hold(scenario: &Scenario, files_limit: u64) -> Result<()> {
    let room = files_limit.saturating_sub(RESERVED_FILES).max(1);
    let workers = scenario.server.workers as u64;
    // Datagram flows do not use a worker's descriptors.
    let of_load = |load: &Load| (connections_at_once(scenario, load) as f64 * (1.0 - load.udp_share)).ceil() as u64;
    let accepted = scenario.loads.iter().map(of_load).sum();
    // Workers that share a queue cover for each other: if one has no files left, another takes the connection.
    let most = |workers: u64| {
        let queues = scenario.server.strategy.queues.count(workers as usize) as u64;
        most_of_one(accepted, queues).div_ceil(workers / queues)
    };
    if scenario.server.strategy.is_pool() {
        if accepted > room {
            bail!(
                "the load may have {accepted} connections open at once, and a process with {files_limit} open files, whose threads \
                 are the workers, cannot hold them: {}",
                files_remedy(largest(scenario))
            );
        }
        return Ok(());
    }
    if most(workers) > room {
        let enough = (workers..=WORKERS_LIMIT).find(|workers| most(*workers) <= room);
        let raise = enough.map(|enough| format!("raise `server.workers` to {enough}, ")).unwrap_or_default();
        bail!(
            "the load may have {accepted} connections open at once, and {workers} workers of {files_limit} open files \
             each cannot hold them: {raise}{}",
            files_remedy(largest(scenario))
        );
    }
    Ok(())
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
pub fn held_at_once(scenario: &Scenario) -> u64 {
    held_by_each(scenario).sum()
}

/// The same for each population.
pub fn held_by_each(scenario: &Scenario) -> impl Iterator<Item = u64> {
    // The most are held when the connections of some population stop, or when a rate changes, or a hold after that.
    let changes = |load: &Load| match &load.mode {
        Mode::Open { arrivals, .. } if !load.hold.is_zero() => arrivals.changes(),
        Mode::Open { .. } | Mode::Closed { .. } | Mode::Kept { .. } => Vec::new(),
    };
    let after = |load: &Load, change: Duration| [load.start + change, load.start + change + load.hold];
    let changed = |load| changes(load).into_iter().flat_map(move |change| after(load, change));
    let ends = scenario.loads.iter().filter_map(|load| load.end.or(scenario.span.fixed()));
    let ends = ends.chain(scenario.loads.iter().flat_map(changed));
    let held_at = |at: Duration| scenario.loads.iter().map(|load| held_by(load, scenario.span, at)).collect::<Vec<_>>();
    let most = ends.map(held_at).max_by_key(|held| held.iter().sum::<u64>());
    most.unwrap_or_else(|| held_at(Duration::MAX)).into_iter()
}

/// Those of one population just before an instant, counted from the trial's start.
fn held_by(load: &Load, span: Span, at: Duration) -> u64 {
    // In the last so much of some time since the population's start.
    let begun_in = |span: Duration, until: Duration| match &load.mode {
        Mode::Closed { concurrency } | Mode::Kept { connections: concurrency, .. } => *concurrency as u64,
        // A burst begins all at once; the first burst is at the start.
        Mode::Open { arrivals: Arrivals::Burst { size, every }, .. } if !span.is_zero() => {
            size.saturating_mul(1 + (span.as_secs_f64() / every.as_secs_f64()) as u64)
        }
        // As many as are held at the busiest time of the trace.
        Mode::Open { arrivals: Arrivals::Trace(figures), .. } if !span.is_zero() => figures.most_held,
        Mode::Open { arrivals, .. } => arrivals.expected_between(until.saturating_sub(span), until) as u64,
    };
    if let Bound::Connections(most) = span.bound {
        return begun_in(load.hold, load.hold).min(most);
    }
    let end = load.end.or(span.fixed()).map_or(at, |end| end.min(at));
    // No connection begins at the end itself.
    let begun = end.saturating_sub(load.start).saturating_sub(Duration::from_nanos(1));
    let kept = load.longest_hold().saturating_sub(at - end);
    match load.mode {
        Mode::Closed { .. } | Mode::Kept { .. } if begun.is_zero() || at > end => 0,
        Mode::Closed { .. } | Mode::Kept { .. } | Mode::Open { .. } => begun_in(begun.min(kept), begun),
    }
}

fn connections_at_once(scenario: &Scenario, load: &Load) -> u64 {
    let seconds = load.hold.as_secs_f64() + SECONDS_IN_FLIGHT;
    let most = match scenario.span.bound {
        // The number excludes connections of the warm-up.
        Bound::Connections(count) if scenario.span.warmup.is_zero() => count,
        _ => u64::MAX,
    };
    let at_once = match &load.mode {
        Mode::Closed { concurrency } | Mode::Kept { connections: concurrency, .. } => *concurrency as u64,
        Mode::Open { arrivals: Arrivals::Burst { size, every }, .. } => {
            size.saturating_mul((seconds / every.as_secs_f64()).ceil() as u64)
        }
        // Counted with a second in flight, as SECONDS_IN_FLIGHT says.
        Mode::Open { arrivals: Arrivals::Trace(figures), .. } => figures.most_open,
        Mode::Open { arrivals, .. } => arrivals.most_within(Duration::from_secs_f64(seconds)).ceil() as u64,
    };
    at_once.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Plan, Source};

    fn sized(text: &str) -> Result<Sizing> {
        let plan = Plan::read(&Source { name: "t", text }, &[]).unwrap();
        size(&plan.cells[0].scenario, ALONE)
    }

    const ALONE: Room = Room { hosts: 1, files: 20_000, cpus: 2, server_files: 20_000 };

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
            assert_eq!(sized(text).unwrap().loaders(), loaders, "{text}");
        }
    }

    #[test]
    fn hosts_share_what_decides_and_every_part_has_one_owner() {
        let over = |text: &str, hosts: usize| {
            let plan = Plan::read(&Source { name: "t", text }, &[]).unwrap();
            size(&plan.cells[0].scenario, Room { hosts, server_files: 1 << 20, ..ALONE })
        };
        for (text, hosts, loaders) in [
            ("[load]\nconcurrency = 64", 2, 2),
            ("[load]\nconcurrency = 64", 4, 1),
            ("[load]\nconcurrency = 50000", 2, 2),
            ("[load]\nmode = \"open\"\nrate = 45000.0", 2, 3),
            // As many on each of them.
            ("[load]\nloaders = 3", 2, 3),
        ] {
            assert_eq!(over(text, hosts).unwrap().loaders(), loaders, "{text}");
        }
        let sizing = over("[load]\nconcurrency = 50000\nloaders = 2", 2).unwrap();
        assert_eq!((sizing.files_each, sizing.connections), (12_500 + RESERVED_FILES, 50_000));
        let owners: Vec<usize> =
            (0..2).flat_map(|host| sizing.parts(host).map(|(_, part)| part.loader).collect::<Vec<_>>()).collect();
        assert_eq!(owners, [0, 1, 2, 3]);
        assert!((0..2).all(|host| sizing.parts(host).all(|(load, part)| (load, part.loaders) == (0, 4))));
        let error = over("[load]\nconcurrency = 90000\nloaders = 2", 2).unwrap_err().to_string();
        assert!(error.contains("3 loaders of 20000 open files each on each load host"), "{error}");
        assert!(
            over("[load]\nconcurrency = 64", 2).unwrap().to_string().starts_with("2 loaders on each of 2 load hosts")
        );
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
            assert_eq!(held_at_once(&plan.cells[0].scenario), held, "{text}");
        }
    }

    #[test]
    fn changing_rates_count_by_their_peak_and_by_what_a_hold_spans() {
        for (text, loaders) in [
            ("arrivals = \"ramp\"\nrate_to = 25000", 3),
            ("arrivals = \"mmpp\"\nrate_high = 15000\nrate_low = 0", 2),
            ("arrivals = \"rates\"\nrates = [[0, 100], [0.5, 35000]]", 4),
            ("arrivals = \"rates\"\nrates = [[0, 100], [5, 35000]]", 1),
        ] {
            assert_eq!(sized(&format!("[load]\nmode = \"open\"\n{text}")).unwrap().loaders(), loaders, "{text}");
        }
        for (text, held, at_once) in [
            // The last two of ten seconds, and three of them with the second in flight.
            ("arrivals = \"ramp\"\nrate_to = 1000", 1_800, 2_550),
            ("arrivals = \"ramp\"\nrate_from = 1000\nrate_to = 0", 1_800, 2_550),
            ("arrivals = \"rates\"\nrates = [[0, 10], [4, 1000], [5, 10]]", 1_010, 1_020),
            ("arrivals = \"mmpp\"\nrate_low = 0\nrate_high = 400\ndwell_low = \"1s\"\ndwell_high = \"1s\"", 400, 1_200),
        ] {
            let text = format!("[load]\nmode = \"open\"\nhold = \"2s\"\nduration = \"10s\"\n{text}");
            let plan = Plan::read(&Source { name: "t", text: &text }, &[]).unwrap();
            let scenario = &plan.cells[0].scenario;
            let near = |count: u64, expected: u64| count.abs_diff(expected) <= 1;
            assert!(near(held_at_once(scenario), held), "{text}: {}", held_at_once(scenario));
            let connections = size(scenario, ALONE).unwrap().connections;
            assert!(near(connections, at_once), "{text}: {connections}");
        }
    }

    #[test]
    fn populations_are_held_together_only_while_both_run() {
        let populations = |late: &str| {
            let text = format!(
                "[[load]]\nname = \"kept\"\nconcurrency = 100\nduration = \"4s\"\n{late}\n[[load]]\nname = \"storm\"\n\
                 mode = \"open\"\nrate = 1000\nhold = \"500ms\"\nend = \"2s\""
            );
            let plan = Plan::read(&Source { name: "t", text: &text }, &[]).unwrap();
            let sizing = size(&plan.cells[0].scenario, ALONE).unwrap();
            (held_at_once(&plan.cells[0].scenario), sizing.of_loads)
        };
        assert_eq!(populations("").0, 100 + 500);
        assert_eq!(populations("start = \"1999ms\"").0, 100 + 500);
        assert_eq!(populations("start = \"2s\"").0, 500);
        assert_eq!(populations("").1, [2, 1]);
    }

    #[test]
    fn too_few_loaders_or_workers_are_refused_with_the_number_needed() {
        let error = sized("[load]\nconcurrency = 50000\nloaders = 2").unwrap_err().to_string();
        assert!(error.contains("50000") && error.contains("3 loaders") && error.contains("load.loaders"), "{error}");
        let error = sized("[load]\nconcurrency = 50000").unwrap_err().to_string();
        assert!(error.contains("2 workers") && error.contains("`server.workers` to 3"), "{error}");
        let populations = |storm: &str| {
            sized(&format!(
                "[[load]]\nname = \"kept\"\nmode = \"kept\"\nconcurrency = 16\n[[load]]\nname = \"storm\"\n{storm}"
            ))
        };
        let error = populations("concurrency = 50000\nloaders = 2").unwrap_err().to_string();
        assert!(error.contains("raise `load.storm.loaders`"), "{error}");
        assert!(error.ends_with("or lower `load.storm.concurrency`"), "{error}");
        let error = populations("mode = \"open\"\nrate = 2e4\nhold = \"3s\"").unwrap_err().to_string();
        assert!(error.ends_with("or lower `load.storm.rate` or `load.storm.hold`"), "{error}");
        // Of a million over 51 workers, the busiest will have 20,163, where the mean is 19,608.
        let million = |workers: u32| {
            sized(&format!(
                "[load]\nmode = \"open\"\nrate = 1e4\nconnections = 1000000\nhold = \"100s\"\n[server]\n\
                 strategy = \"reuseport\"\nworkers = {workers}"
            ))
        };
        assert!(million(51).unwrap_err().to_string().contains("`server.workers` to 52"));
        assert_eq!(million(52).unwrap().loaders(), 51);
        assert_eq!(
            sized("[load]\nmode = \"open\"\nrate = 9.9e6\nloaders = 512\n[server]\nworkers = 512").unwrap().loaders(),
            512
        );
    }
}
