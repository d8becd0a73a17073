//! Capacity checks before a run: can this machine hold all of a load's connections at once? Counts ports, the machine's open
//! files and memory. (The per-process file limit decides the number of loaders; see `load::size`.)

use std::fmt;

use anyhow::{Context, Result};

use super::note;
use crate::{
    context::{Role, Side},
    format::{counted, thousands},
    ipc::family::Patience,
    load::{self, Room, Sizing, source},
    observe::{
        limits::{files_of_machine, may_administrate},
        memory,
        ports::Range,
        sockets,
        tuples::Usage,
    },
    scenario::{
        AtOpenFiles, Balance, Cell, Network, Plan, Scenario, ScenarioError, Transport, Wake,
        keys::{self, AnyKey},
    },
    sys::{affinity, limits, unix},
    trial::{self, Rehearsal},
};

/// Memory of one idle loopback connection in bytes, kernel (both ends) and processes together, as measured by the scenario
/// `million` on Linux 6.18.
pub(super) const CONNECTION_BYTES: u64 = 10_000;
/// What TLS adds to that: a session on either side.
const TLS_BYTES: u64 = 10_000;
/// Memory of a loader or worker before its first connection: histograms and buffers.
const PROCESS_BYTES: u64 = 5 << 20;
/// Open files of a loader or worker other than its connections.
const PROCESS_FILES: u64 = 32;

/// The ends of a channel, which processes that connections are handed over between have each.
const CHANNEL_FILES: u64 = 2;

/// Loads that hold fewer connections at once fit everywhere and are not mentioned.
const MENTION_FROM: u64 = 1_000;

/// A resource the load needs.
#[derive(Debug)]
pub(super) struct Need {
    /// Noun phrase for messages.
    pub what: &'static str,
    pub wanted: u64,
    pub there: u64,
    /// How `there` was calculated; may be empty.
    sum: String,
    /// What to change if there is not enough.
    pub remedy: String,
    /// Whether both numbers are in bytes.
    bytes: bool,
    /// Whether the user may exceed the limit.
    exempt: bool,
}

impl Need {
    pub fn is_met(&self) -> bool {
        self.exempt || self.wanted <= self.there
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |count: u64| {
            if self.bytes { format!("{} MiB", thousands((count >> 20) as f64)) } else { thousands(count as f64) }
        };
        write!(f, "{} {} of {}", show(self.wanted), self.what, show(self.there))?;
        if self.sum.is_empty() { Ok(()) } else { write!(f, " ({})", self.sum) }
    }
}

/// What this machine allows a load that runs on it alone.
pub(super) fn room() -> Result<Room> {
    let files = limits::open_files().context("getrlimit(RLIMIT_NOFILE)")?.hard;
    let cpus = affinity::allowed_cpus().context("sched_getaffinity")?.len();
    Ok(Room { hosts: 1, files, cpus, server_files: files })
}

/// What a cell's load needs at its peak of this machine, which has this side of it. `range` is the port range of the loaders' network.
/// Empty if the load holds nothing, or if finding the limit is its purpose.
pub(super) fn needs(scenario: &Scenario, sizing: &Sizing, range: &Range, side: Side) -> Result<Vec<Need>> {
    let all = load::held_at_once(scenario);
    if scenario.fill.is_some() || all == 0 {
        return Ok(Vec::new());
    }
    let of_each = scenario.loads.iter().zip(load::held_by_each(scenario));
    let flows = of_each.map(|(load, held)| ((held as f64 * load.udp_share) as u64, load.ports_of_flow()));
    let (flows, sockets): (Vec<u64>, Vec<u64>) = flows.map(|(flows, each)| (flows, flows * each)).unzip();
    let all = Held { connections: all - flows.iter().sum::<u64>(), flows: sockets.iter().sum() };
    let (held, processes) = match side {
        Side::Whole => (all, sizing.loaders() + scenario.all_workers()),
        Side::Server => (all, scenario.all_workers()),
        Side::Load => (all.on_each_of(sizing.hosts as u64), sizing.loaders()),
    };
    let (sockets, processes) = (held.sockets(side), processes as u64);
    let mut needs = vec![files(sockets, processes)?, bytes(scenario, sockets, processes)?];
    if side != Side::Server {
        match scenario.unix {
            // Clients of other servers have no names.
            Some(_) if scenario.subject.is_own() => needs.insert(0, names(scenario, held)),
            Some(_) => {}
            None => needs.insert(0, ports(scenario, held, range)?),
        }
    }
    Ok(needs)
}

/// Why the process that opens all listeners of our own server, before the workers are forked, cannot have so many files open; `None` if
/// it can.
pub(super) fn crowd_of_listeners(scenario: &Scenario) -> Result<Option<String>> {
    let behind = scenario.backend();
    let ours = if scenario.subject.is_own() { Some(scenario) } else { behind.as_ref() };
    let Some(ours) = ours else { return Ok(None) };
    let (limit, addresses) = (room()?.files, ours.bound().len() as u64);
    let transports = ours.protocol.transports().count() as u64;
    let queues: usize = ours.crew().listeners.iter().map(|set| set.queues(&ours.server).count(set.workers)).sum();
    let sockets = queues as u64 * addresses * transports;
    let strategy = &ours.server.strategy;
    let hands_over = strategy.balance == Balance::Least || matches!(strategy.wake, Wake::Dispatcher { .. });
    // It hears from each worker through a pipe.
    let of_worker = 1 + if hands_over { CHANNEL_FILES } else { 0 };
    let wanted = sockets + ours.all_workers() as u64 * of_worker + PROCESS_FILES;
    if wanted <= limit {
        return Ok(None);
    }
    let (workers, bind) = (keys::SERVER_WORKERS.path(), keys::SERVER_BIND.path());
    let fewer = if addresses > 1 { format!("list fewer addresses in `{bind}`") } else { format!("lower `{workers}`") };
    Ok(Some(format!(
        "its server's {} and their workers need {} open files in one process, of which the limit allows {}: raise it (`ulimit -Hn`), {fewer}, \
         or use --force",
        counted(sockets, "listener", "listeners"),
        thousands(wanted as f64),
        thousands(limit as f64)
    )))
}

/// That the load holds more connections than the server's processes can have descriptors for, and what becomes of the others; `None` if
/// the scenario sets no limit, or it is high enough. Whoever sets one may want to see just that.
pub(super) fn beyond_limit(scenario: &Scenario) -> Option<String> {
    let limit = scenario.server.open_files?;
    let held = load::held_at_once(scenario);
    let key = keys::SERVER_OPEN_FILES.path();
    if !scenario.subject.is_own() {
        return (held > limit).then(|| {
            format!(
                "the load holds up to {held} connections at once, for which a server needs at least {} with {limit} open files each \
                 (`{key}`)",
                counted(held.div_ceil(limit), "process", "processes")
            )
        });
    }
    let (processes, who) = accepting(scenario);
    let others = match scenario.server.at_open_files {
        AtOpenFiles::Pause | AtOpenFiles::Spin => "the others wait in the queue until some of these close",
        AtOpenFiles::Reserve => "the others are accepted and closed",
    };
    (held > processes * limit).then(|| {
        format!(
            "the load holds up to {held} connections at once, and the server fewer than {} ({who}, `{key}` = {limit}): {others}",
            processes * limit
        )
    })
}

/// The processes of our own server that hold connections.
fn accepting(scenario: &Scenario) -> (u64, String) {
    if scenario.server.strategy.is_pool() {
        return (1, "one process".to_owned());
    }
    let workers = scenario.all_workers() as u64;
    (workers, counted(workers, "worker", "workers"))
}

/// What decides whether a cell's load fits; loads for which it is the same need the same.
pub(super) fn demand(scenario: &Scenario, sizing: &Sizing, range: &Range) -> String {
    let each = load::held_by_each(scenario).zip(&scenario.loads);
    let each: Vec<(u64, f64, u64)> = each.map(|(held, load)| (held, load.udp_share, load.ports_of_flow())).collect();
    let processes = sizing.loaders() + scenario.server.workers;
    let (sources, network) = (scenario.sources(), scenario.network);
    format!("{each:?} {processes} {sources:?} {network:?} {:?} {range:?}", scenario.destinations())
}

/// What a load holds open at once.
#[derive(Clone, Copy)]
struct Held {
    connections: u64,
    /// UDP sockets: one of each flow, or two if its port changes.
    flows: u64,
}

impl Held {
    /// What one of several hosts holds of it.
    fn on_each_of(self, hosts: u64) -> Self {
        Self { connections: self.connections.div_ceil(hosts), flows: self.flows.div_ceil(hosts) }
    }

    /// Sockets on the machine that has this side: each end of a connection is one, and a UDP flow has its own at its client's only.
    fn sockets(self, side: Side) -> u64 {
        match side {
            Side::Whole => 2 * self.connections + self.flows,
            Side::Server => self.connections,
            Side::Load => self.connections + self.flows,
        }
    }

    /// TCP and UDP have separate port spaces.
    fn ports(self) -> u64 {
        self.connections.max(self.flows)
    }
}

/// The names of a Unix socket's clients.
fn names(scenario: &Scenario, held: Held) -> Need {
    Need {
        what: "names of clients",
        wanted: held.connections,
        there: unix::MOST_CLIENTS,
        sum: String::new(),
        remedy: format!("lower {}", load::largest(scenario).size_keys()),
        bytes: false,
        exempt: false,
    }
}

fn ports(scenario: &Scenario, held: Held, range: &Range) -> Result<Need> {
    let (sources, largest) = (scenario.sources(), load::largest(scenario));
    let groups = source::groups(&sources, &[scenario.address]);
    let usable = source::usable(range, sources.selection, &groups, &source::bound(scenario)?);
    let count = groups.len() as u64;
    let there: u64 = usable.iter().sum();
    let taken = match scenario.network {
        // A fresh namespace is empty.
        Network::Namespace | Network::Veth => 0,
        Network::Host => {
            let all = sockets::read(Transport::Tcp, None).context("reading this machine's sockets")?;
            let usage = Usage::of(range, &all, Some(scenario.address));
            usage.fill.used - usage.barred
        }
    };
    Ok(Need {
        what: if scenario.loads.iter().any(|load| load.rebind_after > 0) {
            "source ports (two for each flow, as it changes its port)"
        } else {
            "source ports"
        },
        wanted: held.ports(),
        there: there.saturating_sub(taken),
        sum: Sum { sources: count, range, bound: count * range.usable() - there, taken }.to_string(),
        remedy: format!(
            "use {} source addresses (`{}`), widen `sysctl.ip_local_port_range`, or lower {}",
            (held.ports() + taken).div_ceil(usable.into_iter().min().unwrap_or(0).max(1)),
            largest.path(keys::LOAD_SOURCE_ADDRESSES),
            largest.size_keys()
        ),
        bytes: false,
        exempt: false,
    })
}

fn files(sockets: u64, processes: u64) -> Result<Need> {
    let wanted = sockets + processes * PROCESS_FILES;
    let machine = files_of_machine().context("reading /proc/sys/fs/file-nr")?;
    Ok(Need {
        what: "open files in total",
        wanted,
        there: machine.limit.saturating_sub(machine.open),
        sum: format!(
            "fs.file-max {}, less {} open now",
            thousands(machine.limit as f64),
            thousands(machine.open as f64)
        ),
        remedy: format!(
            "raise the limit (`sysctl -w fs.file-max={}`), or hold fewer connections",
            machine.open + wanted
        ),
        bytes: false,
        // fs/file_table.c, alloc_empty_file.
        exempt: may_administrate().context("reading /proc/self")?,
    })
}

fn bytes(scenario: &Scenario, sockets: u64, processes: u64) -> Result<Need> {
    let each = CONNECTION_BYTES + if scenario.server.app.is_secured() { TLS_BYTES } else { 0 };
    Ok(Need {
        what: "memory",
        wanted: sockets * each / 2 + processes * PROCESS_BYTES,
        there: memory::available_bytes().context("reading /proc/meminfo")?,
        sum: format!("{} bytes per connection, {} MiB per process", thousands(each as f64), PROCESS_BYTES >> 20),
        remedy: format!("lower {}", load::largest(scenario).size_keys()),
        bytes: true,
        exempt: false,
    })
}

/// What the cell with the largest load needs of this machine, which has this side of it, if that is worth mentioning.
pub(super) fn of_height(plan: &Plan, sizings: &[Sizing], side: Side) -> Result<Vec<Need>> {
    let held = plan.cells.iter().map(|cell| load::held_at_once(&cell.scenario));
    let most = held.zip(plan.cells.iter().zip(sizings)).max_by_key(|(held, _)| *held);
    let Some((_, (cell, sizing))) = most.filter(|(held, _)| *held >= MENTION_FROM) else { return Ok(Vec::new()) };
    let range = match cell.scenario.network {
        Network::Host => Range::read().context("reading ip_local_port_range")?,
        Network::Namespace | Network::Veth => {
            match trial::rehearse(cell, Role::default(), Patience::of(trial::SETUP_PATIENCE))? {
                Rehearsal::Ready { ports, .. } => ports,
                Rehearsal::Refused { path, why } => anyhow::bail!(plan.refused(&path, why)),
            }
        }
    };
    needs(&cell.scenario, sizing, &range, side)
}

/// Why this machine cannot hold its side of a load, with the arithmetic and the remedy; `None` if it can.
pub(super) fn lack(cell: &Cell, sizing: &Sizing, range: &Range, side: Side) -> Result<Option<String>> {
    let Some(lacks) = needs(&cell.scenario, sizing, range, side)?.into_iter().find(|need| !need.is_met()) else {
        return Ok(None);
    };
    let held = load::held_at_once(&cell.scenario);
    let whose = match side {
        Side::Whole => "",
        Side::Server => ", over all load hosts,",
        Side::Load => ", over all load hosts, of which this one",
    };
    let (label, remedy) = (cell.label(), lacks.remedy.clone());
    let needs = if side == Side::Load { "needs" } else { "and needs" };
    Ok(Some(format!(
        "{label}: the load holds up to {held} connections at once{whose} {needs} {lacks}: {remedy}, or use --force"
    )))
}

/// Refuses a load because of what a machine lacks to hold it; with `force`, only warns.
pub(super) fn refuse(name: &str, problem: &str, force: bool) -> Result<()> {
    if force {
        note(format_args!("{name}: {problem}"));
        return Ok(());
    }
    anyhow::bail!(ScenarioError::other(name, problem.to_owned()))
}

/// The arithmetic behind the number of ports.
struct Sum<'a> {
    sources: u64,
    range: &'a Range,
    /// Ports that sockets are bound to, for all sources together.
    bound: u64,
    taken: u64,
}

impl fmt::Display for Sum<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sources, range, bound, taken } = self;
        let addresses = counted(*sources, "source address", "source addresses");
        write!(f, "{addresses} × {} usable ports ({}–{}", range.usable(), range.low, range.high)?;
        if range.size() > range.usable() {
            write!(f, ", less {} reserved", range.size() - range.usable())?;
        }
        write!(f, ") × 1 destination")?;
        if *bound > 0 {
            write!(f, ", less {bound} that sockets are bound to")?;
        }
        if *taken > 0 {
            write!(f, ", less {taken} in use or in TIME_WAIT now")?;
        }
        Ok(())
    }
}
