//! `run --verbose`: why loads, ports and processes are sized as they are, and what was fallen back to.

use std::collections::BTreeMap;

use anyhow::Result;
use indexmap::IndexSet;

use super::Chosen;
use crate::{
    format::{causes, plural},
    load,
    observe::host::Probe,
    scenario::{
        Cell, Engine, Load, Plan, Scenario, Stamps,
        keys::{self, AnyKey},
    },
    server,
    trial::hosts::Hosts,
};

/// The lines about a scenario; what holds for several of its cells is said once.
pub(super) fn reasons(
    chosen: &Chosen,
    sysctls: &BTreeMap<String, String>,
    probe: &Probe,
    hosts: Option<&Hosts>,
) -> Result<Vec<String>> {
    let plan = &chosen.plan;
    let mut all: IndexSet<String> = IndexSet::new();
    for (cell, sizing) in plan.cells.iter().zip(&chosen.sizings) {
        all.extend(load::reasons(&cell.scenario, chosen.room));
        all.extend(cell.scenario.loads.iter().filter_map(Load::replayed));
        all.extend(members(plan, cell));
        let loads = cell.scenario.loads.iter().zip(&sizing.of_loads);
        all.extend(loads.map(|(load, loaders)| engine(load.engine, *loaders, hosts)));
        all.extend(workers_engine(&cell.scenario));
        all.extend(stamps(cell, probe, hosts));
    }
    // Loaders on other hosts have their own.
    if let (Some(range), None) = (sysctls.get("ip_local_port_range"), hosts) {
        let reserved = sysctls.get("ip_local_reserved_ports").filter(|ports| !ports.is_empty());
        let less = reserved.map_or_else(String::new, |ports| format!(", but for {ports}"));
        let range = range.split_whitespace().collect::<Vec<_>>().join("–");
        all.insert(format!("source ports {range}{less}, by ip_local_port_range"));
    }
    Ok(all.into_iter().map(|line| format!("{}: {line}", chosen.name)).collect())
}

/// What of traces an app has no use for; said in any case, as what was written is not all done.
pub(super) fn left_out(chosen: &Chosen) -> IndexSet<String> {
    let of_load = |cell: &Cell, load: &Load| {
        let (path, app) = (&load.replay.as_ref()?.asked.path, cell.scenario.server.app.name());
        let what = load.left_out()?;
        Some(format!(
            "{}: {path} is replayed without its {what}: server.app = \"{app}\" has no use for them",
            chosen.name
        ))
    };
    let of_cell = |cell| move |load| of_load(cell, load);
    chosen.plan.cells.iter().flat_map(|cell| cell.scenario.loads.iter().filter_map(of_cell(cell))).collect()
}

/// Why our own server has as many workers as it has.
fn members(plan: &Plan, cell: &Cell) -> Option<String> {
    let scenario = &cell.scenario;
    if scenario.fill.is_some() || !scenario.subject.is_own() {
        return None;
    }
    let path = keys::SERVER_WORKERS.path();
    let why = if plan.sets(path) { format!("`{path}` says so") } else { format!("the default of `{path}`") };
    Some(format!("{}: {why}", plural(scenario.server.workers, "worker")))
}

/// What moves the loaders' bytes.
fn engine(engine: Engine, loaders: usize, hosts: Option<&Hosts>) -> String {
    match engine {
        Engine::Auto { ring: true } if hosts.is_some() => "loaders use io_uring on hosts where it works".to_owned(),
        Engine::Mio => "loaders use epoll: `load.engine` is \"mio\"".to_owned(),
        Engine::Uring => "loaders use io_uring: `load.engine` is \"uring\"".to_owned(),
        Engine::Auto { ring: false } => "loaders use epoll: io_uring cannot do what this load requires".to_owned(),
        Engine::Auto { ring: true } => match load::try_rings(loaders) {
            Ok(()) => "loaders use io_uring, which works here".to_owned(),
            Err(error) => format!("loaders that can have no io_uring use epoll: {}", causes(&error)),
        },
    }
}

/// What moves the bytes of workers' connections, where a scenario asks for io_uring.
fn workers_engine(scenario: &Scenario) -> Option<String> {
    match scenario.server.engine {
        Engine::Mio | Engine::Auto { ring: false } => None,
        Engine::Uring => Some("workers use io_uring: `server.engine` is \"uring\"".to_owned()),
        Engine::Auto { ring: true } => Some(match server::try_rings(scenario.server.workers) {
            Ok(()) => "workers use io_uring, which works here".to_owned(),
            Err(error) => format!("workers that can have no io_uring use epoll: {}", causes(&error)),
        }),
    }
}

/// How accept waits are measured.
fn stamps(cell: &Cell, probe: &Probe, hosts: Option<&Hosts>) -> Option<String> {
    let scenario = &cell.scenario;
    if scenario.fill.is_some() || !scenario.subject.is_own() {
        // What can be seen of another server is found out in each trial, and said at its end.
        return None;
    }
    Some(match (scenario.stamps, &probe.stamps_error) {
        (Stamps::Auto, Some(why)) if hosts.is_some() => {
            format!("accept waits are not measured, because clients and server have different clocks: {why}")
        }
        (Stamps::Auto, Some(why)) => format!("accept waits fall back to upper bounds: {why}"),
        (Stamps::Auto, None) => "accept waits are exact: a BPF program of type sock_ops can be loaded here".to_owned(),
        (Stamps::SockOps | Stamps::Both, _) => "accept waits are exact, as `stamps` says".to_owned(),
        (Stamps::ConnectCall, _) => "accept waits are upper bounds, as `stamps` says".to_owned(),
    })
}
