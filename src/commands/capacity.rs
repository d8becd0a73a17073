//! The arithmetic before a run: do the ports and the memory suffice for what a load holds at once? (Open files are counted
//! where loaders are.)

use std::fmt;

use anyhow::{Context, Result};

use super::note;
use crate::{
    load,
    observe::{memory, ports::Range, sockets, tuples::Usage},
    scenario::{Cell, Network, ScenarioError, Transport},
};

/// What a connection takes that does nothing but stay open, in bytes: the kernel's part, both ends on loopback, and the
/// processes', as measured by the scenario `hold` on Linux 6.18.
pub(super) const CONNECTION_BYTES: u64 = 14_000;

/// Refuses a load that this machine cannot hold, with the sum and the remedy; with `force`, only says so.
pub(super) fn check(name: &str, cell: &Cell, range: &Range, force: bool) -> Result<()> {
    let scenario = &cell.scenario;
    if scenario.fill.is_some() {
        // It is there to find the end.
        return Ok(());
    }
    let held = load::held_at_once(&scenario.load);
    let sources = scenario.sources.addresses.len().max(1) as u64;
    let taken = match scenario.network {
        // A namespace of one's own is empty.
        Network::Namespace | Network::Veth => 0,
        Network::Host => {
            let all = sockets::read(Transport::Tcp, None).context("reading this machine's sockets")?;
            Usage::of(range, &all, Some(scenario.address)).fill.used
        }
    };
    let capacity = (sources * range.usable()).saturating_sub(taken);
    if held > capacity {
        let sum = Sum { sources, range, taken };
        let problem = format!(
            "the load holds up to {held} connections at once, and the ports take {capacity}: {sum}. Add addresses \
             (`load.source_addresses`), widen `sysctl.ip_local_port_range`, lower `load.concurrency`, `load.rate` or \
             `load.hold`, or take --force"
        );
        return refuse(name, cell, problem, force);
    }
    let (wanted, there) = (held * CONNECTION_BYTES, memory::available_bytes().context("reading /proc/meminfo")?);
    if wanted > there {
        let mebibytes = |bytes: u64| bytes >> 20;
        let problem = format!(
            "the load holds up to {held} connections at once, about {} MiB at {CONNECTION_BYTES} bytes each, and {} MiB \
             are available: lower `load.concurrency`, `load.rate` or `load.hold`, or take --force",
            mebibytes(wanted),
            mebibytes(there)
        );
        return refuse(name, cell, problem, force);
    }
    Ok(())
}

/// The capacity, as it is computed.
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

fn refuse(name: &str, cell: &Cell, problem: String, force: bool) -> Result<()> {
    let problem = format!("{}: {problem}", cell.label());
    if force {
        note(format_args!("{name}: {problem}"));
        return Ok(());
    }
    anyhow::bail!(ScenarioError { source_name: name.to_owned(), problem })
}
