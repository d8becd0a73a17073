//! Finds predictable failures before the first trial.

use std::{collections::HashSet, iter, net::IpAddr};

use anyhow::{Context, Error, Result, bail};

use super::{
    super::capacity,
    Chosen, job,
    set_ups::{self, Place, SetUps},
};
use crate::{
    context::{Role, Side},
    format::{self, plural},
    ipc::family::Patience,
    live::Kind,
    load,
    observe::{
        host::{NetworkFacts, Probe},
        mptcp,
        ports::Range,
    },
    report,
    scenario::{
        Cell, Network, Plan, Queues, Scenario, Stamps, UnderTest, Wake,
        keys::{self, AnyKey},
    },
    server::{Listeners, Site, SocketFile},
    stats, tls,
    trial::{self, DIR, Rehearsal, Stray, hosts::Hosts},
};

/// Where what a cell's trials need is tried.
enum Where {
    /// On the host of its server.
    Elsewhere,
    /// In this machine's network, which has been looked at.
    Here,
    /// In a set-up.
    In(Place),
    /// Nowhere before the trials: there are too many set-ups.
    Untried,
}

/// Tries everything that each trial will need. Returns the facts of the network the trials will use.
pub(super) fn rehearse(
    chosen: &Chosen,
    force: bool,
    hosts: Option<&Hosts>,
    (kind, patience): (Kind, Patience<'_>),
) -> Result<NetworkFacts> {
    let Chosen { source, plan, sizings, .. } = chosen;
    let name = &source.name;
    let mut set_ups = SetUps::default();
    let mut wheres = Vec::with_capacity(plan.cells.len());
    let mut asked = Vec::new();
    let mut located = HashSet::new();
    let mut exposed = HashSet::new();
    let mut crowded = HashSet::new();
    let mut said = HashSet::new();
    let role = hosts.map_or_else(Role::default, |hosts| hosts.role(&[]));
    for (cell, sizing) in plan.cells.iter().zip(sizings) {
        let loaders: Vec<_> = cell.scenario.loads.iter().map(|load| (load.scheduler, load.engine)).collect();
        let server = &cell.scenario.server;
        let asks = (server.scheduler, server.engine, server.workers, loaders, &sizing.of_loads);
        if !asked.contains(&asks) {
            asked.push(asks);
            for why in trial::refusals(&cell.scenario, sizing, patience)? {
                kind.note(format_args!("{name}: {why}; trials that need it will fail"));
            }
        }
        tls::check(&cell.scenario).map_err(|(key, error)| plan.wrong(key, format::causes(&error)))?;
        if let Some(problem) = capacity::crowd_of_listeners(&cell.scenario)?
            && crowded.insert(problem.clone())
        {
            capacity::refuse(name, &format!("{}: {problem}", cell.label()), force)?;
        }
        if let Some(why) = capacity::beyond_limit(&cell.scenario)
            && said.insert(why.clone())
        {
            kind.note(format_args!("{name}: {}: {why}", cell.label()));
        }
        wheres.push(match cell.scenario.network {
            // Its server's host finds out.
            Network::Host if hosts.is_some() && cell.scenario.server_host > 0 => Where::Elsewhere,
            Network::Host => {
                trial::confine(&cell.scenario, chosen.allow_remote, role).map_err(|error| match error.downcast() {
                    Ok(Stray { path, problem }) => plan.refused(&path, problem).into(),
                    Err(error) => error,
                })?;
                if cell.scenario.protocol.is_multipath()
                    && hosts.is_none()
                    && let Some(why) = mptcp::lack()
                {
                    bail!(plan.refused(keys::PROTOCOL.path(), why));
                }
                if cell.scenario.subject == UnderTest::Running {
                    if located.insert(cell.scenario.place()) {
                        trial::locate(&cell.scenario)?;
                    }
                    Where::Here
                } else {
                    let behind = cell.scenario.backend();
                    let ours = if cell.scenario.subject.is_own() { Some(&cell.scenario) } else { behind.as_ref() };
                    let all = ours.into_iter().flat_map(Scenario::beyond_loopback).map(|bound| bound.to_string());
                    let all: Vec<String> = all.filter(|_| hosts.is_none()).collect();
                    if !all.is_empty() && exposed.insert(all.clone()) {
                        let whose = if behind.is_some() { "the server behind the proxy" } else { "their server" };
                        kind.note(format_args!(
                            "{name}: while trials run, {whose} listens on {}: other machines may reach it",
                            all.join(", ")
                        ));
                    }
                    match set_ups.of(cell) {
                        Some((place, is_new)) => {
                            if is_new {
                                demand_free(plan, iter::once(&cell.scenario).chain(&behind))?;
                            }
                            Where::In(place)
                        }
                        None => Where::Untried,
                    }
                }
            }
            Network::Namespace | Network::Veth => {
                set_ups.of(cell).map_or(Where::Untried, |(place, _)| Where::In(place))
            }
        });
    }
    let tried = set_ups.rehearse(role, patience)?;
    for (cell, outcome) in tried.all() {
        match outcome {
            Rehearsal::Ready { strategy_error: None, .. } => {}
            Rehearsal::Ready { strategy_error: Some(why), .. } => kind.note(cannot_run(name, cell, why)),
            Rehearsal::Refused { path, why } => bail!(plan.refused(path, why)),
        }
    }
    let here = Range::read().context("reading ip_local_port_range")?;
    let side = if hosts.is_some() { Side::Server } else { Side::Whole };
    let mut checked = HashSet::new();
    for ((cell, sizing), place) in plan.cells.iter().zip(sizings).zip(&wheres) {
        let ports = match place {
            Where::In(place) => match tried.get(*place) {
                Some(Rehearsal::Ready { ports, .. }) => ports,
                _ => continue,
            },
            Where::Here => &here,
            Where::Elsewhere | Where::Untried => continue,
        };
        // Cells that differ in other respects need the same.
        if checked.insert(capacity::demand(&cell.scenario, sizing, ports))
            && let Some(problem) = capacity::lack(cell, sizing, ports, side)?
        {
            capacity::refuse(name, &problem, force)?;
        }
    }
    let untried = wheres.iter().filter(|place| matches!(place, Where::Untried)).count();
    if untried > 0 {
        kind.note(format_args!(
            "{name}: tried {} of the set-ups that its cells need; {} of them {} others, which only their trials will try",
            set_ups::MOST,
            plural(untried, "cell"),
            if untried == 1 { "needs" } else { "need" },
        ));
    }
    let is_here = wheres.iter().any(|place| matches!(place, Where::Here));
    Ok(tried.facts.or_else(|| is_here.then(NetworkFacts::read)).unwrap_or_default())
}

/// Demands that what a cell's servers listen on is free on this machine.
fn demand_free<'a>(plan: &Plan, servers: impl Iterator<Item = &'a Scenario>) -> Result<()> {
    for scenario in servers {
        if scenario.unix.as_ref().is_some_and(|unix| unix.contains(DIR)) {
            // Each trial has a folder of its own.
            continue;
        }
        for transport in scenario.protocol.transports() {
            let site = Site::of(scenario, transport);
            let unix = scenario.unix.as_ref();
            let _file = Listeners::open(site, Queues::One)
                .map_err(|error| match error.key() {
                    Some(path) => plan.refused(path, error).into(),
                    None => Error::from(error),
                })
                .map(|_| SocketFile::of(unix))?;
        }
    }
    Ok(())
}

/// Has the load hosts try their parts of each cell's trials, and learns where their clients are.
pub(super) fn on_hosts(
    chosen: &mut Chosen,
    force: bool,
    hosts: &Hosts,
    (kind, patience): (Kind, Patience<'_>),
) -> Result<()> {
    let Chosen { source, plan, sizings, allow_remote, .. } = &*chosen;
    // Cells that differ in other respects ask the same of them.
    let mut known: Vec<(_, Vec<IpAddr>)> = Vec::new();
    let mut clients = Vec::with_capacity(plan.cells.len());
    for (cell, sizing) in plan.cells.iter().zip(sizings) {
        let Scenario { address, protocol, subject, loads, .. } = &cell.scenario;
        let of_loads: Vec<_> = loads.iter().map(|load| (&load.sources, load.scheduler, load.engine)).collect();
        let (held, loaders) = (load::held_at_once(&cell.scenario), &sizing.of_loads);
        let asks = (*address, *protocol, *subject == UnderTest::Running, of_loads, held, loaders);
        if let Some((_, addresses)) = known.iter().find(|(known, _)| *known == asks) {
            clients.push(addresses.clone());
            continue;
        }
        let mut addresses = Vec::new();
        for (facts, found) in job::rehearse(hosts, (plan, cell), (sizing, *allow_remote), patience)? {
            for why in found.refused {
                kind.note(format_args!(
                    "{}: {}: {why}; trials that need it will fail",
                    source.name,
                    job::named(&facts)
                ));
            }
            if let Some(problem) = found.lack {
                capacity::refuse(&source.name, &format!("{}: {problem}", job::named(&facts)), force)?;
            }
            addresses.extend(found.clients);
        }
        known.push((asks, addresses.clone()));
        clients.push(addresses);
    }
    chosen.clients = clients;
    Ok(())
}

fn cannot_run(name: &str, cell: &Cell, why: &str) -> String {
    let strategy = cell.scenario.server.strategy.name;
    format!("{name}: strategy {strategy} cannot run here, so its trials will fail: {why}")
}

/// Warns if accept waits will only be upper bounds, of clients on other hosts not even that, or lack a part.
pub(super) fn warn_of_bounds<'a>(
    mut plans: impl Iterator<Item = &'a Plan> + Clone,
    (probe, hosts): (&Probe, Option<&Hosts>),
    kind: Kind,
) {
    let stamped = |scenario: &Scenario| scenario.stamps == Stamps::Auto;
    let wants = |plan: &Plan| plan.cells.iter().any(|cell| stamped(&cell.scenario) && cell.scenario.subject.is_own());
    let has_backend =
        |plan: &Plan| plan.cells.iter().any(|cell| stamped(&cell.scenario) && cell.scenario.backend().is_some());
    if let (Some(why), true) = (&probe.stamps_error, plans.clone().any(wants)) {
        let what = match hosts {
            None => "are only upper bounds here, measured from the client's connect() call",
            Some(_) => "are not measured: the clients' clocks are other hosts'",
        };
        kind.note(report::terminal::prose(&format!("accept waits {what}; exact stamps are not available: {why}")));
    }
    if let (Some(why), true) = (&probe.stamps_error, plans.clone().any(has_backend)) {
        kind.note(report::terminal::prose(&format!(
            "accept waits behind the proxy cannot be measured here; exact stamps are not available: {why}"
        )));
    }
    let has_rings = |plan: &Plan| {
        let timed = |scenario: &Scenario| {
            scenario.stamps != Stamps::ConnectCall && scenario.server.strategy.wake == Wake::Uring
        };
        plan.cells.iter().any(|cell| timed(&cell.scenario))
    };
    if let (Some(why), true) = (&probe.completions_error, plans.any(has_rings)) {
        kind.note(report::terminal::prose(&format!(
            "how long connections lie in an io_uring before the worker takes them is not known here: {why}"
        )));
    }
}

/// Rejects unknown metrics and limits of the wrong unit.
pub(super) fn metrics_exist(plan: &Plan) -> Result<()> {
    let populations = plan.populations();
    stats::metrics_named(&plan.whole.answers, &populations).map_err(|problem| plan.wrong(keys::ANSWERS, problem))?;
    if let Some(search) = &plan.whole.search {
        stats::search::Goal::of(search, plan.whole.repetitions, &populations)
            .map_err(|(key, problem)| plan.wrong(key, problem))?;
    }
    Ok(())
}
