//! Scenarios from files, and those built into the binary.

use std::{borrow::Cow, fs, io, path::Path};

use anyhow::Context;

use super::{Usage, note};
use crate::{
    cli::Overrides,
    scenario::{
        Cell, Network, Plan, Scenario, Source,
        keys::{self, AnyKey},
    },
    sys::affinity,
};

/// The scenario `run` uses by default.
pub(super) const DEFAULT: &str = "quick";

/// The built-in scenarios by name.
const EMBEDDED: [(&str, &str); 19] = [
    ("quick", include_str!("../../bench-configs/quick.toml")),
    ("herd", include_str!("../../bench-configs/herd.toml")),
    ("tail", include_str!("../../bench-configs/tail.toml")),
    ("strategies", include_str!("../../bench-configs/strategies.toml")),
    ("accept-order", include_str!("../../bench-configs/accept-order.toml")),
    ("burst", include_str!("../../bench-configs/burst.toml")),
    ("stalled-worker", include_str!("../../bench-configs/stalled-worker.toml")),
    ("udp-spread", include_str!("../../bench-configs/udp-spread.toml")),
    ("backlog", include_str!("../../bench-configs/backlog.toml")),
    ("stages", include_str!("../../bench-configs/stages.toml")),
    ("ports-fill", include_str!("../../bench-configs/ports-fill.toml")),
    ("ports-sources", include_str!("../../bench-configs/ports-sources.toml")),
    ("ports-recover", include_str!("../../bench-configs/ports-recover.toml")),
    ("ports-churn", include_str!("../../bench-configs/ports-churn.toml")),
    ("hold", include_str!("../../bench-configs/hold.toml")),
    ("million", include_str!("../../bench-configs/million.toml")),
    ("sustain", include_str!("../../bench-configs/sustain.toml")),
    ("ceiling", include_str!("../../bench-configs/ceiling.toml")),
    ("smoke", include_str!("../../bench-configs/smoke.toml")),
];

/// Names of the built-in scenarios.
pub(super) fn built_in() -> impl Iterator<Item = &'static str> {
    EMBEDDED.iter().map(|(name, _)| *name)
}

/// A scenario's text and its origin.
pub(super) struct Text {
    /// The file, or the built-in scenario's name.
    pub name: String,
    text: Cow<'static, str>,
}

impl Text {
    /// The text as the planner takes it.
    pub fn source(&self) -> Source<'_> {
        Source { name: &self.name, text: &self.text }
    }
}

/// Reads a scenario file, or the built-in scenario of that name if there is no such file.
pub(super) fn text(name: &str) -> anyhow::Result<Text> {
    let embedded = EMBEDDED.iter().find(|(known, _)| *known == name);
    let text = match (fs::read_to_string(name), embedded) {
        (Ok(text), _) => Cow::Owned(text),
        (Err(error), Some((_, text))) if error.kind() == io::ErrorKind::NotFound => Cow::Borrowed(*text),
        // A folder that happens to share a built-in scenario's name.
        (Err(_), Some((_, text))) if Path::new(name).is_dir() => Cow::Borrowed(*text),
        (Err(error), _) => {
            let known: Vec<&str> = built_in().collect();
            anyhow::bail!(Usage(format!("{name}: {error}; expected a scenario file or one of {}", known.join(", "))));
        }
    };
    Ok(Text { name: name.to_owned(), text })
}

/// Plans a scenario.
pub(super) fn plan(text: &Text, overrides: &[String]) -> anyhow::Result<Plan> {
    let plan = Plan::read(&text.source(), overrides)?;
    let allowed = affinity::allowed_cpus().context("sched_getaffinity")?;
    plan.cells.iter().try_for_each(|cell| processors_exist(&plan, &cell.scenario, &allowed))?;
    Ok(plan)
}

/// Refuses processors this process is not allowed to use.
fn processors_exist(plan: &Plan, scenario: &Scenario, allowed: &[usize]) -> anyhow::Result<()> {
    let (server, load) = (&scenario.server, &scenario.load);
    let named: [(&dyn AnyKey, &[usize]); 3] = [
        (keys::SERVER_PIN, server.pin.named()),
        (keys::LOAD_PIN, load.pin.named()),
        (keys::SERVER_INCOMING_CPU, server.strategy.steering.incoming_cpus()),
    ];
    for (key, named) in named {
        if let Some(cpu) = named.iter().find(|cpu| !allowed.contains(cpu)) {
            let problem = format!("this process is not allowed to run on processor {cpu}; allowed: {allowed:?}");
            anyhow::bail!(plan.wrong(key, problem));
        }
    }
    Ok(())
}

/// The scenario's only cell, moved to the host's network, for `serve` and `load`. Cells that are the `same` as far as the
/// command is concerned count as one: `load` does not care about the server's strategy.
pub(super) fn single_cell(
    command: &str,
    name: &str,
    overrides: &Overrides,
    same: fn(&Scenario, &Scenario) -> bool,
) -> anyhow::Result<(Plan, Cell)> {
    let mut plan = plan(&text(name)?, &overrides.all())?;
    if plan.cells.iter().any(|cell| !same(&cell.scenario, &plan.cells[0].scenario)) {
        let flags: Vec<String> =
            plan.cells[0].swept.iter().map(|(path, value)| format!("--set {path}={value}")).collect();
        anyhow::bail!(Usage(format!(
            "{name}: `{command}` runs a single cell, but this scenario has {}: pin the swept keys, e.g. with {}",
            plan.cells.len(),
            flags.join(" ")
        )));
    }
    let mut cell = plan.cells.remove(0);
    if cell.scenario.fill.is_some() {
        anyhow::bail!(Usage(format!("{name}: `{command}` cannot run a scenario of kind \"ports\"")));
    }
    cell.scenario.network = Network::Host;
    for (sysctl, _) in std::mem::take(&mut cell.scenario.sysctls) {
        note(format_args!("{name}: `{command}` runs on the host's network and ignores `sysctl.{sysctl}`"));
    }
    if !std::mem::take(&mut cell.scenario.faults).is_empty() {
        note(format_args!("{name}: `{command}` ignores [[fault]]"));
    }
    Ok((plan, cell))
}
