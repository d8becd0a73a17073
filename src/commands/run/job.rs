//! A run as a job of several hosts: rank 0 leads it, the others generate its load.

use std::{cell, net::IpAddr, time::Duration};

use anyhow::{Context, Result};

use super::{super::Ended, agent};
use crate::{
    hosts::{self, Frame, Place},
    ipc::{control::Recording, family::Patience},
    load::{Room, Sizing},
    observe::host,
    record::{HostFacts, HostRole},
    scenario::{
        Cell, Kind, Load, Network, Plan, Source, Stamps, Trial,
        keys::{self, AnyKey},
    },
    sys::addresses,
    trial::{
        Job,
        hosts::{Hosts, Order, Rehearsed, Task, Word},
    },
};

/// How long the hosts of a job may take to find each other: a launcher starts them one after the other.
const MEETING_PATIENCE: Duration = Duration::from_secs(60);
/// How long they may take to connect again when the run has ended, only to hear so.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// How long they may take to connect again.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Runs a command that leads the hosts of a job; on all hosts but the first, serves that one instead. Without a launcher there are none.
pub fn lead(run: impl FnOnce(Option<&Hosts>) -> Result<Ended>) -> Result<Ended> {
    // Without a launcher, nobody asks.
    let own = || addresses::own().unwrap_or_default();
    match hosts::meet(Patience::of(MEETING_PATIENCE), |rank| host::facts(rank, HostRole::Load, own()))? {
        None => run(None),
        Some(Place::Other(agent)) => agent::serve(agent),
        Some(Place::First(team)) => {
            let hosts = Hosts::new(host::facts(0, HostRole::Server, own()), team);
            let ended = run(Some(&hosts));
            if !hosts.in_step.get() {
                // Those that do not come have ended, too.
                let _ = hosts.team.borrow_mut().reconnect(Patience::of(LAST_PATIENCE));
            }
            for guest in &mut hosts.team.borrow_mut().guests {
                // Whoever does not hear it has gone already.
                let _ = guest.link.send(&Order::Over);
            }
            ended
        }
    }
}

/// The overrides of a scenario for the hosts of a job: where it says nothing, its server listens where the load hosts reach its host.
/// Fails if the scenario is not one that several hosts can run.
pub fn fit(hosts: &Hosts, source: &Source<'_>, mut overrides: Vec<String>) -> Result<Vec<String>> {
    let (size, reached_at) = (hosts.size(), hosts.reached_at());
    let ports: &'static str = Kind::Ports.into();
    Plan::gives(source, &overrides, keys::KIND, |value| {
        (value.as_str() == Some(ports)).then(|| {
            format!("\"{ports}\" measures one machine, and this job has {size} hosts: run it without the launcher")
        })
    })?;
    Plan::gives(source, &overrides, keys::STAMPS, |value| {
        let bound = value
            .as_str()
            .filter(|value| [Stamps::ConnectCall, Stamps::Both].iter().any(|of| *value == <&'static str>::from(*of)))?;
        Some(format!(
            "\"{bound}\" takes the clients' clock from the server's, and those of hosts differ: use \"auto\" or \"sock_ops\""
        ))
    })?;
    let network: &'static str = Network::Host.into();
    let gives_network = Plan::gives(source, &overrides, keys::NETWORK, |value| {
        let other = value.as_str().filter(|value| *value != network)?;
        Some(format!(
            "\"{other}\" is within one machine, and this job has {size} hosts: remove it, or set \"{network}\""
        ))
    })?;
    let several = cell::Cell::new(false);
    Plan::gives(source, &overrides, keys::HOSTS_SERVERS, |value| {
        several.set(several.get() || value.as_integer() > Some(1));
        None
    })?;
    let gives_address = Plan::gives(source, &overrides, keys::ADDRESS, |value| {
        let address: IpAddr = value.as_str()?.parse().ok()?;
        let problem = || {
            format!(
                "{address} is a loopback address, which no other host of this job reaches: remove it, or set {reached_at}"
            )
        };
        let one = || {
            let servers = keys::HOSTS_SERVERS.path();
            format!("{address} is that of one host, and `{servers}` asks for servers on several: remove it")
        };
        if address.is_loopback() { Some(problem()) } else { several.get().then(one) }
    })?;
    Plan::gives(source, &overrides, keys::SERVER_BIND, |value| {
        let own = |value: &toml::Value| value.as_str()?.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified());
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let address = values.iter().find_map(own).filter(|_| several.get())?;
        let servers = keys::HOSTS_SERVERS.path();
        Some(format!(
            "{address} is that of one host, and `{servers}` asks for servers on several: use 0.0.0.0 or ::, or remove it"
        ))
    })?;
    if !gives_network {
        overrides.push(format!("{}=\"{network}\"", keys::NETWORK.path()));
    }
    if !gives_address {
        overrides.push(format!("{}=\"{reached_at}\"", keys::ADDRESS.path()));
    }
    Ok(overrides)
}

/// Fails if a plan asks for what the hosts of a job do not have.
pub fn check(hosts: &Hosts, plan: &Plan) -> Result<()> {
    if plan.whole.servers >= hosts.size() {
        let problem = format!(
            "{} of the job's {} hosts would have servers, and none would be left to generate the load",
            plan.whole.servers,
            hosts.size()
        );
        return Err(plan.wrong(keys::HOSTS_SERVERS, problem).into());
    }
    for cell in &plan.cells {
        if cell.scenario.unix.is_some() {
            let problem = "a Unix socket is on one machine, and the job's load on others: run without the launcher, or use an IP address";
            return Err(plan.wrong(keys::ADDRESS, problem).into());
        }
        let server = &cell.scenario.server;
        let is_made = server.app.is_secured() && cell.scenario.subject.is_own() && server.certificate.is_none();
        let verifies = |load: &Load| load.security.as_ref().is_some_and(|one| one.verify && one.trust.is_none());
        if is_made && cell.scenario.loads.iter().any(verifies) {
            let problem = "\"https\" has the server make its certificate at start, which loaders on other hosts do not know: set load.verify = false, or \
                           server.certificate and server.private_key, and load.trust";
            return Err(plan.wrong(keys::SERVER_APP, problem).into());
        }
        if let Some(event) = cell.scenario.events.first() {
            let problem = "what an event did to clients is not known of loaders on other hosts: remove the event, or run \
                           without the launcher";
            return Err(plan.wrong_in_event(cell, event.number, keys::EVENT_AT, problem).into());
        }
    }
    Ok(())
}

/// Fails if a plan replays a trace, whose schedule is in a file of this host.
pub fn replays_nothing(plan: &Plan) -> Result<()> {
    for load in plan.cells.iter().flat_map(|cell| &cell.scenario.loads) {
        if load.replay.is_some() {
            let problem = "\"trace\" replays a file of this machine, which the load hosts of a job do not have: run without the launcher";
            return Err(plan.refused(&load.path(keys::LOAD_ARRIVALS), problem).into());
        }
    }
    Ok(())
}

/// Has each cell's server listen on its own host, where the scenario names no address.
pub fn place(hosts: &Hosts, plan: &mut Plan) {
    for Cell { scenario, .. } in plan.cells.iter_mut().filter(|cell| cell.scenario.server_host > 0) {
        if let Some(address) = hosts.address_of(scenario.server_host) {
            scenario.address.set_ip(address);
        }
    }
}

/// Fails if a plan is one for the hosts of a job, and there is none.
pub fn needs_none(plan: &Plan) -> Result<()> {
    if plan.whole.servers > 1 {
        let problem = format!(
            "{} server hosts are those of a job: start listenbench with mpirun, srun or prterun, or remove it",
            plan.whole.servers
        );
        return Err(plan.wrong(keys::HOSTS_SERVERS, problem).into());
    }
    Ok(())
}

/// What the machines allow that a load runs on: each load host has as many loaders as the weakest can have.
pub fn room(hosts: &Hosts, servers: usize, here: Room) -> Room {
    let team = hosts.team.borrow();
    let loads = Hosts::loads(&team.guests, servers);
    let facts = || loads.iter().map(|guest| &guest.facts);
    let files = facts().filter_map(|facts| facts.machine.open_files.get("hard")).min();
    Room {
        hosts: loads.len(),
        files: files.copied().unwrap_or(here.files),
        cpus: facts().map(|facts| facts.machine.cpus_allowed).min().unwrap_or(here.cpus).max(1),
        ..here
    }
}

/// Has each load host try its part of a cell's trials. Returns what they find, in the order of their ranks.
pub fn rehearse(
    hosts: &Hosts,
    (plan, cell): (&Plan, &Cell),
    (sizing, allow_remote): (&Sizing, bool),
    patience: Patience<'_>,
) -> Result<Vec<(HostFacts, Rehearsed)>> {
    let place = plan.cells.iter().position(|other| std::ptr::eq(other, cell)).expect("the plan has the cell");
    let job = Job {
        plan,
        trial: Trial { number: 0, repetition: 0, cell: place },
        sizing,
        searched: None,
        stamps_allowed: false,
        recording: Recording::On,
        seen: None,
        allow_remote,
        place: None,
        role: hosts.role(&[]),
        hosts: Some(hosts),
    };
    let mut team = hosts.team.borrow_mut();
    let first = Hosts::first_of_loads(&team.guests, plan.whole.servers);
    let loads = &mut team.guests[first..];
    for (number, guest) in loads.iter_mut().enumerate() {
        let task = Task::of(job, true, (number, guest.rank));
        guest.link.send(&Order::Rehearse(Box::new(task))).with_context(|| named(&guest.facts))?;
    }
    let mut found = Vec::with_capacity(loads.len());
    for guest in loads {
        let said = guest.link.receive(patience).with_context(|| named(&guest.facts))?;
        match said {
            Frame::Value(Word::Rehearsed(Ok(rehearsed))) => found.push((guest.facts.clone(), rehearsed)),
            Frame::Value(Word::Rehearsed(Err((path, problem)))) => {
                return Err(plan.refused(&path, format!("{problem} (on {})", named(&guest.facts))).into());
            }
            Frame::Value(Word::Failed(why)) => anyhow::bail!("{}: {why}", named(&guest.facts)),
            other => anyhow::bail!("{} said {other:?} when it was to rehearse", named(&guest.facts)),
        }
    }
    Ok(found)
}

/// Has the load hosts connect again after a trial that did not end as it should have.
pub fn restore(hosts: &Hosts) -> Result<()> {
    hosts.team.borrow_mut().reconnect(Patience::of(RECONNECT_PATIENCE)).context("the load hosts are to go on")
}

/// A host in messages.
pub fn named(facts: &HostFacts) -> String {
    format!("{} (rank {})", facts.name, facts.rank)
}
