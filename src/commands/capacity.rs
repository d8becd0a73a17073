//! Capacity checks before a run: can this machine hold all of a load's connections at once? Counts ports, the machine's open
//! files and memory. (The per-process file limit decides the number of loaders; see `load::size`.)

use std::fmt;

use anyhow::{Context, Result};

use super::note;
use crate::{
    format::{counted, thousands},
    ipc::family::Patience,
    load::{self, Sizing},
    observe::{
        limits::{files_of_machine, may_administrate},
        memory,
        ports::Range,
        sockets,
        tuples::Usage,
    },
    scenario::{Cell, Network, Plan, Scenario, ScenarioError, Transport},
    sys::{affinity, limits},
    trial::{self, Rehearsal},
};

/// Memory of one idle loopback connection in bytes, kernel (both ends) and processes together, as measured by the scenario
/// `million` on Linux 6.18.
pub(super) const CONNECTION_BYTES: u64 = 10_000;
/// Memory of a loader or worker before its first connection: histograms and buffers.
const PROCESS_BYTES: u64 = 5 << 20;
/// Open files of a loader or worker other than its connections.
const PROCESS_FILES: u64 = 32;

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

/// Sizes a scenario's load for this process's limit of open files and its processors.
pub(super) fn size(scenario: &Scenario) -> Result<Sizing> {
    let files = limits::open_files().context("getrlimit(RLIMIT_NOFILE)")?.hard;
    let cpus = affinity::allowed_cpus().context("sched_getaffinity")?.len();
    load::size(scenario, files, cpus)
}

/// What a cell's load needs at its peak. `range` is the port range of the loaders' network. Empty if the load holds nothing, or
/// if finding the limit is its purpose.
pub(super) fn needs(scenario: &Scenario, sizing: &Sizing, range: &Range) -> Result<Vec<Need>> {
    let all = load::held_at_once(&scenario.load);
    if scenario.fill.is_some() || all == 0 {
        return Ok(Vec::new());
    }
    let flows = (all as f64 * scenario.load.udp_share) as u64;
    let held = Held { connections: all - flows, flows };
    let processes = (sizing.loaders + scenario.server.workers) as u64;
    Ok(vec![ports(scenario, held, range)?, files(held, processes)?, bytes(held, processes)?])
}

/// What a load holds open at once.
#[derive(Clone, Copy)]
struct Held {
    connections: u64,
    /// UDP sockets.
    flows: u64,
}

impl Held {
    /// Both ends of a connection are sockets on this machine; a UDP flow has one socket of its own.
    fn sockets(self) -> u64 {
        2 * self.connections + self.flows
    }

    /// TCP and UDP have separate port spaces.
    fn ports(self) -> u64 {
        self.connections.max(self.flows)
    }
}

fn ports(scenario: &Scenario, held: Held, range: &Range) -> Result<Need> {
    let sources = scenario.sources.addresses.len().max(1) as u64;
    let taken = match scenario.network {
        // A fresh namespace is empty.
        Network::Namespace | Network::Veth => 0,
        Network::Host => {
            let all = sockets::read(Transport::Tcp, None).context("reading this machine's sockets")?;
            Usage::of(range, &all, Some(scenario.address)).fill.used
        }
    };
    Ok(Need {
        what: "source ports",
        wanted: held.ports(),
        there: (sources * range.usable()).saturating_sub(taken),
        sum: Sum { sources, range, taken }.to_string(),
        remedy: format!(
            "use {} source addresses (`load.source_addresses`), widen `sysctl.ip_local_port_range`, or lower `load.concurrency`, \
             `load.rate` or `load.hold`",
            (held.ports() + taken).div_ceil(range.usable().max(1))
        ),
        bytes: false,
        exempt: false,
    })
}

fn files(held: Held, processes: u64) -> Result<Need> {
    let wanted = held.sockets() + processes * PROCESS_FILES;
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

fn bytes(held: Held, processes: u64) -> Result<Need> {
    Ok(Need {
        what: "memory",
        wanted: held.sockets() * CONNECTION_BYTES / 2 + processes * PROCESS_BYTES,
        there: memory::available_bytes().context("reading /proc/meminfo")?,
        sum: format!(
            "{} bytes per connection, {} MiB per process",
            thousands(CONNECTION_BYTES as f64),
            PROCESS_BYTES >> 20
        ),
        remedy: "lower `load.concurrency`, `load.rate` or `load.hold`".to_owned(),
        bytes: true,
        exempt: false,
    })
}

/// What the cell with the largest load needs, if that is worth mentioning.
pub(super) fn of_height(plan: &Plan, sizings: &[Sizing]) -> Result<Vec<Need>> {
    let held = plan.cells.iter().map(|cell| load::held_at_once(&cell.scenario.load));
    let most = held.zip(plan.cells.iter().zip(sizings)).max_by_key(|(held, _)| *held);
    let Some((_, (cell, sizing))) = most.filter(|(held, _)| *held >= MENTION_FROM) else { return Ok(Vec::new()) };
    let range = match cell.scenario.network {
        Network::Host => Range::read().context("reading ip_local_port_range")?,
        Network::Namespace | Network::Veth => match trial::rehearse(cell, Patience::of(trial::SETUP_PATIENCE))? {
            Rehearsal::Ready { ports, .. } => ports,
            Rehearsal::Refused { sysctl, why } => anyhow::bail!("`sysctl.{sysctl}`: {why}"),
        },
    };
    needs(&cell.scenario, sizing, &range)
}

/// Refuses a load this machine cannot hold, showing the arithmetic and the remedy; with `force`, only warns.
pub(super) fn check(name: &str, cell: &Cell, sizing: &Sizing, range: &Range, force: bool) -> Result<()> {
    let Some(lacks) = needs(&cell.scenario, sizing, range)?.into_iter().find(|need| !need.is_met()) else {
        return Ok(());
    };
    let held = load::held_at_once(&cell.scenario.load);
    let problem = format!(
        "{}: the load holds up to {held} connections at once and needs {lacks}: {}, or use --force",
        cell.label(),
        lacks.remedy
    );
    if force {
        note(format_args!("{name}: {problem}"));
        return Ok(());
    }
    anyhow::bail!(ScenarioError::other(name, problem))
}

/// The arithmetic behind the number of ports.
struct Sum<'a> {
    sources: u64,
    range: &'a Range,
    taken: u64,
}

impl fmt::Display for Sum<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sources, range, taken } = self;
        let addresses = counted(*sources, "source address", "source addresses");
        write!(f, "{addresses} × {} usable ports ({}–{}", range.usable(), range.low, range.high)?;
        if range.size() > range.usable() {
            write!(f, ", less {} reserved", range.size() - range.usable())?;
        }
        write!(f, ") × 1 destination")?;
        if *taken > 0 {
            write!(f, ", less {taken} in use or in TIME_WAIT now")?;
        }
        Ok(())
    }
}
