//! The rehearsal of trials: what they need of the kernel is tried before the first of them.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    iter,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    Networks, Placed, Stray, UnwrittenSysctl,
    firewall::{self, NotLoaded},
    nat, set_sysctls,
};
use crate::{
    context::{Role, Side},
    format,
    ipc::family::{self, Patience},
    load::{self, Sizing},
    observe::{host::NetworkFacts, listeners, mptcp, ports::Range, sysctl},
    scenario::{
        Cell, Engine, LOOPBACK, Network, Scenario,
        keys::{self, AnyKey},
    },
    server::{self, ListenError, Site, SocketFile, accept},
};

/// The result of a rehearsal.
#[derive(Debug, Serialize, Deserialize)]
pub enum Rehearsal {
    /// The cell's networks can be created.
    Ready {
        /// Why the cell's strategy does not work here; `None` if it does.
        strategy_error: Option<String>,
        /// The ports that the loaders may choose from once the scenario's sysctls are set.
        ports: Range,
    },
    /// A setting of the scenario was refused: a sysctl, an address outside the cell's networks, or a rule of its firewall.
    Refused {
        /// The key in the scenario.
        path: String,
        /// The reason.
        why: String,
    },
}

/// Tries in a child what a cell's trials need: creating the networks, setting the sysctls, opening the strategy. Fails if the
/// networks cannot be created, with the reason and the remedy.
pub fn rehearse(cell: &Cell, role: Role<'_>, patience: Patience<'_>) -> Result<Rehearsal> {
    let (_, mut found) = rehearse_all(&[cell], role, patience)?;
    Ok(found.pop().expect("one result for one cell"))
}

/// The same for several cells, in one network: its facts before any sysctl is set, and the cells' results up to the first that was
/// refused, which is at least one. What the first cell leaves in the network must be what the others need, or overwritten by them.
pub fn rehearse_all(cells: &[&Cell], role: Role<'_>, patience: Patience<'_>) -> Result<(NetworkFacts, Vec<Rehearsal>)> {
    family::ask("lb:rehearsal", patience, || {
        // Outside of the networks: some sysctls are nowhere else.
        let names: HashSet<&String> =
            cells.iter().flat_map(|cell| &cell.scenario.sysctls).map(|(name, _)| name).collect();
        let full_names: FullNames<'_> =
            names.into_iter().map(|name| (name.as_str(), sysctl::full_name(name))).collect();
        let networks = match Networks::enter(&cells[0].scenario, false, role) {
            Ok(networks) => networks,
            Err(error) => {
                let Stray { path, problem } = error.downcast()?;
                return Ok((NetworkFacts::default(), vec![Rehearsal::Refused { path, why: problem }]));
            }
        };
        let facts = NetworkFacts::read();
        let mut found = Vec::with_capacity(cells.len());
        for cell in cells {
            let outcome = match networks.in_each(|| set_sysctls(cell)) {
                Ok(()) => try_in(&networks, &cell.scenario, found.is_empty(), role)?,
                Err(error) => refused_sysctl(&full_names, error)?,
            };
            found.push(outcome);
            if matches!(found.last(), Some(Rehearsal::Refused { .. })) {
                break;
            }
        }
        Ok((facts, found))
    })
}

/// Tries a scenario in its networks. `is_first`: none before has loaded their rules.
fn try_in(networks: &Networks, scenario: &Scenario, is_first: bool, role: Role<'_>) -> Result<Rehearsal> {
    if let Some(why) = server::check_descriptors(&scenario.server)? {
        return Ok(Rehearsal::Refused { path: keys::SERVER_OPEN_FILES.path().to_owned(), why });
    }
    let placed = Placed::of(scenario)?;
    let scenario = &placed.scenario;
    if scenario.protocol.is_multipath()
        && let Some(why) = networks.for_loaders(|| Ok(mptcp::lack()))?
    {
        return Ok(Rehearsal::Refused { path: keys::PROTOCOL.path().to_owned(), why });
    }
    if is_first && let Err(error) = firewall::load(scenario).and_then(|_| nat::load(scenario, networks)) {
        let NotLoaded { path, problem } = error.downcast()?;
        return Ok(Rehearsal::Refused { path: path.to_owned(), why: problem });
    }
    let behind = scenario.backend();
    let ours = if scenario.subject.is_own() { Some(scenario) } else { behind.as_ref() };
    // The clients of a server behind a proxy are on its own machine.
    let side = if scenario.subject.is_own() { role.side } else { Side::Whole };
    let tried = ours.into_iter().try_for_each(|ours| {
        ours.protocol.transports().try_for_each(|transport| {
            let site = Site::of(ours, transport);
            let places = accept::try_out(&ours.server.strategy, site)?;
            let _file = SocketFile::of(ours.unix.as_ref());
            if ours.unix.is_some() { Ok(()) } else { demand_taken(ours, &places, side) }
        })
    });
    // What a scenario binds to may not be there, which concerns all trials.
    if let Some(refused) = tried.as_ref().err().and_then(refused_place) {
        return Ok(refused);
    }
    let ports = networks.for_loaders(|| Range::read().context("reading ip_local_port_range"))?;
    Ok(Rehearsal::Ready { strategy_error: tried.err().map(|error| format::causes(&error)), ports })
}

/// Sysctls by their names in a scenario, with the machine's name for them if it has them.
type FullNames<'a> = HashMap<&'a str, Option<String>>;

/// Which of a cell's sysctls was not written, and why.
fn refused_sysctl(full_names: &FullNames<'_>, error: anyhow::Error) -> Result<Rehearsal> {
    let Some(UnwrittenSysctl(name)) = error.downcast_ref() else { return Err(error) };
    let why = match full_names.get(name.as_str()) {
        Some(Some(full)) if sysctl::path(name).is_none() => sysctl::machine_wide(full),
        _ => format::said_once(error.chain().skip(1).map(ToString::to_string)),
    };
    Ok(Rehearsal::Refused { path: keys::sysctl_path(name), why })
}

/// A server's listeners that its clients would not find on this machine.
#[derive(Debug, Error)]
#[error("{problem}")]
struct Missed {
    key: &'static str,
    problem: String,
}

/// Demands that listeners take what clients send, in the calling process's network. Scenarios with listeners elsewhere have been refused, so
/// what is left depends on this machine.
fn demand_taken(scenario: &Scenario, places: &[listeners::Place], side: Side) -> Result<()> {
    let (bind, address) = (&scenario.server.bind, scenario.address);
    // `serve` has no clients of its own.
    if !address.ip().is_unspecified() && places.iter().all(|place| place.fit(address).is_none()) {
        let (ip, all) = (address.ip(), places.iter().map(|place| place.address.ip().to_string()).collect::<Vec<_>>());
        let leaves_ipv4_alone = |place: &listeners::Place| {
            place.address.is_ipv6() && place.address.ip().is_unspecified() && !place.dual_stack
        };
        let (key, problem) = if ip.to_canonical().is_ipv4() && places.iter().any(leaves_ipv4_alone) {
            let has = "sysctl net.ipv6.bindv6only has listeners on :: leave IPv4 alone";
            (keys::SERVER_V6ONLY.path(), format!("clients connect to {ip}, and {has} here: set false"))
        } else {
            let all = all.join(", ");
            (keys::SERVER_BIND.path(), format!("clients connect to {ip}, and no listener on {all} takes that"))
        };
        bail!(Missed { key, problem });
    }
    let Some(device) = bind.device.as_deref().filter(|_| scenario.network == Network::Host) else { return Ok(()) };
    let problem = match side {
        Side::Whole if device != LOOPBACK => format!(
            "what loaders on the same machine send arrives at `{LOOPBACK}`, not at \"{device}\": use \"{LOOPBACK}\", or leave it out"
        ),
        Side::Server if device == LOOPBACK => format!(
            "what the job's other hosts send does not arrive at \"{LOOPBACK}\": use the device through which they reach this one, or \
             leave it out"
        ),
        _ => return Ok(()),
    };
    bail!(Missed { key: keys::SERVER_DEVICE.path(), problem })
}

/// What of a scenario is to blame for a server that cannot listen here, or not for its clients.
fn refused_place(error: &anyhow::Error) -> Option<Rehearsal> {
    let missed = error.downcast_ref::<Missed>().map(|missed| missed.key);
    let key = missed.or_else(|| error.downcast_ref::<ListenError>()?.key())?;
    Some(Rehearsal::Refused { path: key.to_owned(), why: format::causes(error) })
}

/// Tries in a child what a scenario's processes ask of the kernel, as many as there will be. Returns what the kernel refuses, with the reason
/// and the remedy.
pub fn refusals(scenario: &Scenario, sizing: &Sizing, patience: Patience<'_>) -> Result<Vec<String>> {
    let server = (Cow::Borrowed(keys::SERVER_SCHEDULER.path()), scenario.server.scheduler);
    let loaders = scenario.loads.iter().map(|load| (load.path(keys::LOAD_SCHEDULER), load.scheduler));
    let wanted: Vec<(Cow<'_, str>, _)> = iter::once(server).chain(loaders).collect();
    family::ask("lb:rehearsal", patience, || {
        let asking = scenario.loads.iter().zip(&sizing.of_loads).filter(|(load, _)| load.engine == Engine::Uring);
        let loaders = asking.map(|(_, loaders)| loaders).sum();
        let of_loaders = load::try_rings(loaders).context("`load.engine` = \"uring\"");
        let workers = if scenario.server.engine == Engine::Uring { scenario.server.workers } else { 0 };
        let of_workers = server::try_rings(workers).context("`server.engine` = \"uring\"");
        let rings = [of_loaders, of_workers];
        let refused = wanted.into_iter().map(|(path, scheduler)| scheduler.enforce(&path).map(drop)).chain(rings);
        Ok(refused.filter_map(Result::err).map(|error| format::causes(&error)).collect())
    })
}
