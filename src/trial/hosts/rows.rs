//! The rows of a job's hosts.

use std::{collections::HashSet, net::IpAddr};

use super::{
    Hosts,
    conductor::{Heard, LoadHost},
    watched,
};
use crate::{
    hosts::Guest,
    load::{Busy, total},
    record::{Exit, HostClock, HostFacts, HostLatencies, HostRole, HostRow, Latency, LatencySummary, TrialRecord},
    scenario::Scenario,
    sys::namespace::Namespace,
    trial::{
        loaders::{Left, LoaderAccount},
        merged,
    },
};

/// Enters a row for each host: the server's, which is this one, and those with load.
pub fn enter(scenario: &Scenario, hosts: &Hosts, heard: &Heard, left: &Left, record: &mut TrialRecord) {
    let Hosts { here, team, .. } = hosts;
    let team = team.borrow();
    // The team's first guests may be server hosts.
    let pairs = || heard.hosts.iter().zip(&team.guests[heard.first..]);
    let server = HostRow {
        rank: here.rank,
        name: here.name.clone(),
        role: HostRole::Server,
        address: Some(scenario.address.ip()),
        cpu_user_ns: record.workers.iter().map(|member| member.total.cpu_user_ns).sum(),
        cpu_system_ns: record.workers.iter().map(|member| member.total.cpu_system_ns).sum(),
        ..HostRow::default()
    };
    let loads = pairs().map(|(host, guest)| {
        let accounts: Vec<&LoaderAccount> =
            left.accounts.iter().filter(|account| account.host == Some(guest.rank)).collect();
        let lost = heard.lost.iter().find(|lost| lost.rank == guest.rank);
        HostRow {
            lost_after_s: lost.map(|lost| lost.after_s),
            exit: lost.map_or(Exit::Ok, |lost| Exit::Other(lost.how.clone())),
            ..row(scenario, here, (host, guest), &accounts, left)
        }
    });
    record.hosts = std::iter::once(server).chain(loads).collect();
    let own = Namespace::current().and_then(|network| Ok(network.inode()?)).ok();
    let mut known = HashSet::from([(here.machine.boot.as_ref(), own)]);
    let networks = pairs().filter_map(|(host, guest)| {
        let watched = host.watched.as_ref()?;
        known.insert((guest.facts.machine.boot.as_ref(), Some(watched.network))).then_some(watched)
    });
    watched::add(networks, record);
    record.gather = Some(heard.gather);
}

fn row(
    scenario: &Scenario,
    here: &HostFacts,
    (host, guest): (&LoadHost, &Guest),
    accounts: &[&LoaderAccount],
    left: &Left,
) -> HostRow {
    let sum = total(accounts.iter().map(|account| &account.report));
    // Of a lost host, nobody knows what its loaders used.
    let cpu = |of: fn(&LoaderAccount) -> u64| (!host.is_lost()).then(|| accounts.iter().map(|one| of(one)).sum());
    let latency = |latency: Latency| {
        let histogram = merged::of_owner(&left.histograms, &format!("h{}.{}", guest.rank, latency.name()));
        LatencySummary::with_lost(&histogram, sum.lost.of(latency, scenario.protocol))
    };
    let boot = &guest.facts.machine.boot;
    let shares_machine = boot.is_some() && *boot == here.machine.boot;
    let elsewhere = host.watched.as_ref().filter(|_| !shares_machine);
    let address: IpAddr = guest.link.peer().ip().to_canonical();
    HostRow {
        rank: guest.rank,
        name: guest.facts.name.clone(),
        role: HostRole::Load,
        address: Some(address),
        loaders: accounts.len(),
        attempted: sum.attempted,
        established: sum.established,
        completed: sum.completed,
        failed: sum.errors.iter().map(|error| error.count).sum(),
        in_flight: sum.in_flight(),
        busy_share: sum.busy.and_then(Busy::share),
        cpu_user_ns: cpu(|account| account.cpu.user_ns),
        cpu_system_ns: cpu(|account| account.cpu.system_ns),
        shares_machine,
        ports_peak: host.watched.as_ref().map(|watched| watched.ports),
        cpu_steal_share: elsewhere.map(|watched| watched.steal_share),
        cpu_others_share: elsewhere.map(|watched| watched.others_share),
        clock: host.before.map(|before| HostClock {
            offset_ns: before.offset_ns,
            bound_ns: before.bound_ns,
            drift_ns: host.after.map(|after| before.drift_ns(after)),
            drift_bound_ns: host.after.map(|after| before.bound_ns + after.bound_ns),
        }),
        latency_ns: (!host.is_lost()).then(|| HostLatencies {
            connect: latency(Latency::Connect),
            response: latency(Latency::Response),
            send_lag: latency(Latency::SendLag),
        }),
        bytes: host.bytes,
        ..HostRow::default()
    }
}
