//! The arithmetic before a run: does this machine take what a load holds at once? Ports, open files of the machine, memory. (How
//! many files each process may open decides how many loaders and workers it takes, and is counted where those are.)

use std::fmt;

use anyhow::{Context, Result};

use super::note;
use crate::{
    format::thousands,
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

/// What a connection takes that does nothing but stay open, in bytes: the kernel's part, both ends on loopback, and the
/// processes', as measured by the scenario `million` on Linux 6.18.
pub(super) const CONNECTION_BYTES: u64 = 10_000;
/// What a loader or worker takes before it has any connection: histograms, buffers.
const PROCESS_BYTES: u64 = 5 << 20;
/// Open files of a loader or worker besides its connections.
const PROCESS_FILES: u64 = 32;

/// Fewer connections at once fit everywhere.
const WORTH_A_WORD: u64 = 1_000;

/// Something that a load wants of the machine.
#[derive(Debug)]
pub(super) struct Need {
    /// As it stands in a sentence.
    pub what: &'static str,
    pub wanted: u64,
    pub there: u64,
    /// How `there` is made up; may be empty.
    sum: String,
    /// What to change where it does not suffice.
    pub remedy: String,
    /// Whether both numbers are bytes.
    bytes: bool,
    /// Whether the user may go beyond what is there.
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

/// What a cell's load wants at its height, of ports that were read where its loaders will be. Empty where the load is there to
/// find the end, or holds nothing.
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

/// What a load holds at once.
#[derive(Clone, Copy)]
struct Held {
    connections: u64,
    /// Of datagrams.
    flows: u64,
}

impl Held {
    /// Both ends of a connection are sockets of this machine; a flow has one socket of its own.
    fn sockets(self) -> u64 {
        2 * self.connections + self.flows
    }

    /// Connections and flows have port numbers of their own.
    fn ports(self) -> u64 {
        self.connections.max(self.flows)
    }
}

fn ports(scenario: &Scenario, held: Held, range: &Range) -> Result<Need> {
    let sources = scenario.sources.addresses.len().max(1) as u64;
    let taken = match scenario.network {
        // A namespace of one's own is empty.
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
            "take {} addresses (`load.source_addresses`), widen `sysctl.ip_local_port_range`, lower `load.concurrency`, \
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
        what: "open files in all",
        wanted,
        there: machine.limit.saturating_sub(machine.open),
        sum: format!(
            "fs.file-max {}, less {} open now",
            thousands(machine.limit as f64),
            thousands(machine.open as f64)
        ),
        remedy: format!("raise the limit (`sysctl -w fs.file-max={}`), or lower what is held", machine.open + wanted),
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
            "{} bytes a connection, {} MiB a process",
            thousands(CONNECTION_BYTES as f64),
            PROCESS_BYTES >> 20
        ),
        remedy: "lower `load.concurrency`, `load.rate` or `load.hold`".to_owned(),
        bytes: true,
        exempt: false,
    })
}

/// What the cell wants that holds most at once, where that is worth a word.
pub(super) fn of_height(plan: &Plan, sizings: &[Sizing]) -> Result<Vec<Need>> {
    let held = plan.cells.iter().map(|cell| load::held_at_once(&cell.scenario.load));
    let most = held.zip(plan.cells.iter().zip(sizings)).max_by_key(|(held, _)| *held);
    let Some((_, (cell, sizing))) = most.filter(|(held, _)| *held >= WORTH_A_WORD) else { return Ok(Vec::new()) };
    let range = match cell.scenario.network {
        Network::Host => Range::read().context("reading ip_local_port_range")?,
        Network::Namespace | Network::Veth => match trial::rehearse(cell)? {
            Rehearsal::Ready { ports, .. } => ports,
            Rehearsal::Refused(why) => anyhow::bail!(why),
        },
    };
    needs(&cell.scenario, sizing, &range)
}

/// Refuses a load that this machine cannot hold, with the sum and the remedy; with `force`, only says so.
pub(super) fn check(name: &str, cell: &Cell, sizing: &Sizing, range: &Range, force: bool) -> Result<()> {
    let Some(lacks) = needs(&cell.scenario, sizing, range)?.into_iter().find(|need| !need.is_met()) else {
        return Ok(());
    };
    let held = load::held_at_once(&cell.scenario.load);
    let problem = format!(
        "{}: the load holds up to {held} connections at once, and wants {lacks}: {}, or take --force",
        cell.label(),
        lacks.remedy
    );
    if force {
        note(format_args!("{name}: {problem}"));
        return Ok(());
    }
    anyhow::bail!(ScenarioError { source_name: name.to_owned(), problem })
}

/// The ports, as they are counted.
struct Sum<'a> {
    sources: u64,
    range: &'a Range,
    taken: u64,
}

impl fmt::Display for Sum<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sources, range, taken } = self;
        let plural = if *sources == 1 { "" } else { "es" };
        write!(f, "{sources} source address{plural} × {} usable ports ({}–{}", range.usable(), range.low, range.high)?;
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
