//! Finds predictable failures before the first trial.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{super::capacity, Chosen};
use crate::{
    ipc::family::Patience,
    live::Kind,
    observe::{
        host::{self, Probe},
        ports::Range,
    },
    report,
    scenario::{Network, Plan, Queues, Stamps, keys},
    server::{Listeners, Site},
    stats,
    trial::{self, Rehearsal},
};

/// Tries everything that each trial will need. Returns the sysctls of the network the trials will use.
pub(super) fn rehearse(
    chosen: &Chosen,
    force: bool,
    kind: Kind,
    patience: Patience<'_>,
) -> Result<BTreeMap<String, String>> {
    let Chosen { source, plan, sizings } = chosen;
    let name = &source.name;
    let mut sysctls = None;
    let mut tried: Vec<(_, Range)> = Vec::new();
    let mut asked = Vec::new();
    for (cell, sizing) in plan.cells.iter().zip(sizings) {
        let asks = (cell.scenario.server.scheduler, cell.scenario.load.scheduler, cell.scenario.load.engine);
        if !asked.contains(&asks) {
            asked.push(asks);
            for why in trial::refusals(&cell.scenario, patience)? {
                kind.note(format_args!("{name}: {why}; trials that need it will fail"));
            }
        }
        match cell.scenario.network {
            Network::Host if cell.scenario.address.ip().is_unspecified() => {
                let problem = "loaders cannot connect to the wildcard address: use one of this machine's addresses";
                anyhow::bail!(plan.wrong(keys::ADDRESS, problem));
            }
            Network::Host => {
                for transport in cell.scenario.protocol.transports() {
                    Listeners::open(Site::of(&cell.scenario.server, cell.scenario.address, transport), Queues::ONE)?;
                }
                sysctls.get_or_insert_with(host::sysctls);
                let ports = Range::read().context("reading ip_local_port_range")?;
                capacity::check(name, cell, sizing, &ports, force)?;
            }
            network @ (Network::Namespace | Network::Veth) => {
                let scenario = &cell.scenario;
                let new = (network, scenario.address, &scenario.sysctls, scenario.protocol, &scenario.server);
                if let Some((_, ports)) = tried.iter().find(|(known, _)| *known == new) {
                    capacity::check(name, cell, sizing, ports, force)?;
                    continue;
                }
                match trial::rehearse(cell, patience)? {
                    Rehearsal::Ready { sysctls: found, strategy_error, ports } => {
                        capacity::check(name, cell, sizing, &ports, force)?;
                        tried.push((new, ports));
                        sysctls.get_or_insert(found);
                        if let Some(why) = strategy_error {
                            let strategy = cell.scenario.server.strategy.name;
                            kind.note(format_args!(
                                "{name}: strategy {strategy} cannot run here, so its trials will fail: {why}"
                            ));
                        }
                    }
                    Rehearsal::Refused { sysctl, why } => {
                        anyhow::bail!(plan.refused_sysctl(&sysctl, why));
                    }
                }
            }
        }
    }
    Ok(sysctls.unwrap_or_default())
}

/// Warns if accept waits will only be upper bounds.
pub(super) fn warn_of_bounds<'a>(mut plans: impl Iterator<Item = &'a Plan>, probe: &Probe, kind: Kind) {
    let wants = |plan: &Plan| plan.cells.iter().any(|cell| cell.scenario.stamps == Stamps::Auto);
    if let (Some(why), true) = (&probe.stamps_error, plans.any(wants)) {
        kind.note(report::terminal::prose(&format!(
            "accept waits are only upper bounds here, measured from the client's connect() call; exact stamps are not available: {why}"
        )));
    }
}

/// Rejects unknown metrics and limits of the wrong unit.
pub(super) fn metrics_exist(plan: &Plan) -> Result<()> {
    if let Some(metric) = plan.whole.metric.as_ref().filter(|metric| stats::metric_named(metric).is_none()) {
        let known: Vec<&str> = stats::METRICS.iter().map(|metric| metric.name).collect();
        let problem = format_args!("unknown metric \"{metric}\"; known metrics: {}", known.join(", ")).to_string();
        anyhow::bail!(plan.wrong(keys::METRIC, problem));
    }
    if let Some(search) = &plan.whole.search {
        stats::search::Goal::of(search, plan.whole.repetitions).map_err(|(key, problem)| plan.wrong(key, problem))?;
    }
    Ok(())
}
