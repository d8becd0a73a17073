//! Scenarios from files, and those built into the binary.

use std::{borrow::Cow, fmt, fs::File, io, os::fd::AsFd, path::Path};

use anyhow::Context;

use super::{Usage, beside, meant, note, shorthands};
use crate::{
    cli::Overrides,
    record::{bounds, read_bounded},
    scenario::{
        Cell, Network, Plan, Scenario, Source,
        keys::{self, AnyKey},
    },
    sys::affinity,
};

/// The scenario `run` uses by default.
pub(super) const DEFAULT: &str = "quick";

/// The built-in scenarios by name, each with how many seconds it takes in all on two processors: with `[stop]` those of the fewest and of the
/// most repetitions.
const EMBEDDED: &[(&str, u64, u64, &str)] = &[
    ("quick", 12, 20, include_str!("../../bench-configs/quick.toml")),
    ("herd", 170, 380, include_str!("../../bench-configs/herd.toml")),
    ("tail", 120, 300, include_str!("../../bench-configs/tail.toml")),
    ("shards", 195, 330, include_str!("../../bench-configs/shards.toml")),
    ("strategies", 1100, 1660, include_str!("../../bench-configs/strategies.toml")),
    ("accept-order", 147, 336, include_str!("../../bench-configs/accept-order.toml")),
    ("burst", 120, 300, include_str!("../../bench-configs/burst.toml")),
    ("burstiness", 82, 280, include_str!("../../bench-configs/burstiness.toml")),
    ("storm", 280, 480, include_str!("../../bench-configs/storm.toml")),
    ("tls-storm", 75, 170, include_str!("../../bench-configs/tls-storm.toml")),
    ("stalled-worker", 540, 840, include_str!("../../bench-configs/stalled-worker.toml")),
    ("udp-spread", 180, 400, include_str!("../../bench-configs/udp-spread.toml")),
    ("quic-rebinding", 15, 50, include_str!("../../bench-configs/quic-rebinding.toml")),
    ("backlog", 300, 510, include_str!("../../bench-configs/backlog.toml")),
    ("firewall", 200, 470, include_str!("../../bench-configs/firewall.toml")),
    ("filtered", 30, 80, include_str!("../../bench-configs/filtered.toml")),
    ("nat", 240, 340, include_str!("../../bench-configs/nat.toml")),
    ("conntrack", 120, 120, include_str!("../../bench-configs/conntrack.toml")),
    ("stages", 165, 290, include_str!("../../bench-configs/stages.toml")),
    ("ports-fill", 120, 120, include_str!("../../bench-configs/ports-fill.toml")),
    ("ports-sources", 60, 60, include_str!("../../bench-configs/ports-sources.toml")),
    ("ports-recover", 60, 60, include_str!("../../bench-configs/ports-recover.toml")),
    ("ports-churn", 60, 60, include_str!("../../bench-configs/ports-churn.toml")),
    ("hold", 60, 60, include_str!("../../bench-configs/hold.toml")),
    ("million", 240, 240, include_str!("../../bench-configs/million.toml")),
    ("sustain", 180, 180, include_str!("../../bench-configs/sustain.toml")),
    ("ceiling", 45, 115, include_str!("../../bench-configs/ceiling.toml")),
    ("nginx", 160, 360, include_str!("../../bench-configs/nginx.toml")),
    ("haproxy", 110, 250, include_str!("../../bench-configs/haproxy.toml")),
    ("nginx-upstream", 300, 420, include_str!("../../bench-configs/nginx-upstream.toml")),
    ("haproxy-upstream", 300, 420, include_str!("../../bench-configs/haproxy-upstream.toml")),
    ("reload", 180, 360, include_str!("../../bench-configs/reload.toml")),
    ("nginx-reload", 120, 180, include_str!("../../bench-configs/nginx-reload.toml")),
    ("haproxy-reload", 60, 120, include_str!("../../bench-configs/haproxy-reload.toml")),
    ("gunicorn", 120, 300, include_str!("../../bench-configs/gunicorn.toml")),
    ("redis", 30, 120, include_str!("../../bench-configs/redis.toml")),
    ("beside", 60, 120, include_str!("../../bench-configs/beside.toml")),
    ("smoke", 2, 2, include_str!("../../bench-configs/smoke.toml")),
];

/// Names of the built-in scenarios.
pub(super) fn built_in() -> impl Iterator<Item = &'static str> {
    EMBEDDED.iter().map(|(name, ..)| *name)
}

/// About how many seconds something takes at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Takes(pub u64, pub u64);

impl fmt::Display for Takes {
    /// `2 min`, `12 to 20 s`, `45 s to 2 min`. Minutes are rounded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |seconds: u64| if seconds < 60 { (seconds, "s") } else { ((seconds + 30) / 60, "min") };
        match (shown(self.0), shown(self.1)) {
            (least, (count, unit)) if least == (count, unit) => write!(f, "{count} {unit}"),
            ((least, same), (most, unit)) if same == unit => write!(f, "{least} to {most} {unit}"),
            ((least, unit), (most, other)) => write!(f, "{least} {unit} to {most} {other}"),
        }
    }
}

/// About how long a built-in scenario takes.
pub(super) fn takes(name: &str) -> Option<Takes> {
    EMBEDDED.iter().find(|(known, ..)| *known == name).map(|(_, least, most, _)| Takes(*least, *most))
}

/// The text of a built-in scenario.
#[cfg(any(test, fuzzing))]
pub fn built_in_text(name: &str) -> Option<&'static str> {
    EMBEDDED.iter().find(|(known, ..)| *known == name).map(|(.., text)| *text)
}

/// A scenario's text and its origin.
#[derive(Clone)]
pub(super) struct Text {
    /// The file, or the built-in scenario's name.
    pub name: String,
    text: Cow<'static, str>,
}

impl Text {
    /// A text that is part of the binary.
    pub fn of_binary(name: &str, text: &'static str) -> Self {
        Self { name: name.to_owned(), text: Cow::Borrowed(text) }
    }

    /// The text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text as the planner takes it.
    pub fn source(&self) -> Source<'_> {
        Source { name: &self.name, text: &self.text }
    }
}

/// How the command line names standard input.
pub(super) const STDIN: &str = "-";

/// How it names standard output.
pub(super) const STDOUT: &str = "-";

/// Reads standard input, a scenario file, or, if no such file exists, the built-in scenario of that name.
pub(super) fn text(name: &str) -> anyhow::Result<Text> {
    if name == STDIN {
        let name = "standard input".to_owned();
        let read = io::stdin().as_fd().try_clone_to_owned().and_then(|stdin| read_text(stdin.into()));
        let text = read.map_err(|error| Usage(format!("{name}: {error}; expected a scenario")))?;
        // The program that was to write it has probably failed. A file may be empty: all of its values are defaults.
        if text.trim().is_empty() {
            anyhow::bail!(Usage(format!("{name} is empty; expected a scenario")));
        }
        return Ok(Text { name, text: Cow::Owned(text) });
    }
    let embedded = EMBEDDED.iter().find(|(known, ..)| *known == name);
    let text = match (read(name), embedded) {
        (Ok(text), _) => Cow::Owned(text),
        (Err(error), Some((.., text))) if error.kind() == io::ErrorKind::NotFound => Cow::Borrowed(*text),
        // A folder that happens to share a built-in scenario's name.
        (Err(_), Some((.., text))) if Path::new(name).is_dir() => Cow::Borrowed(*text),
        (Err(error), _) => {
            let known: Vec<&str> = built_in().collect();
            let files = beside(Path::new(name), |entry| entry.file_name().to_string_lossy().ends_with(".toml"));
            let meant = meant(name, known.iter().copied().chain(files.iter().map(String::as_str)));
            let meant =
                if meant.is_empty() { "; `listenbench list` has the built-in scenarios".to_owned() } else { meant };
            anyhow::bail!(Usage(format!("{name}: {error}{meant}")));
        }
    };
    Ok(Text { name: name.to_owned(), text })
}

/// A text file that the user names, which may be a pipe.
fn read(name: &str) -> io::Result<String> {
    read_text(File::open(name)?)
}

fn read_text(file: File) -> io::Result<String> {
    let bytes = read_bounded(file, bounds::TEXT_BYTES)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text (UTF-8)"))
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
    // Behind a proxy, the workers are those of its upstream.
    let backend = scenario.backend();
    let server = backend.as_ref().map_or(&scenario.server, |backend| &backend.server);
    let of_server: [(&dyn AnyKey, &[usize]); 2] =
        [(keys::SERVER_PIN, server.pin.named()), (keys::SERVER_INCOMING_CPU, server.strategy.steering.incoming_cpus())];
    let of_server = of_server.into_iter().map(|(key, named)| (Cow::Borrowed(key.path()), named));
    let of_loads = scenario.loads.iter().map(|load| (load.path(keys::LOAD_PIN), load.pin.named()));
    for (path, named) in of_server.chain(of_loads) {
        if let Some(cpu) = named.iter().find(|cpu| !allowed.contains(cpu)) {
            let problem = format!("this process is not allowed to run on processor {cpu}; allowed: {allowed:?}");
            anyhow::bail!(plan.refused(&path, problem));
        }
    }
    Ok(())
}

/// The scenario's only cell, moved to the host's network, for `command`. Cells that are the `same` as far as the command is concerned
/// count as one: `serve` does not care about the load's rate.
pub(super) fn single_cell(
    command: &str,
    name: &str,
    overrides: &Overrides,
    same: fn(&Scenario, &Scenario) -> bool,
) -> anyhow::Result<(Plan, Cell)> {
    shorthands::settings(&[], overrides)?;
    let text = text(name)?;
    let name = &text.name;
    let mut plan = plan(&text, &overrides.all())?;
    if plan.cells.iter().any(|cell| !same(&cell.scenario, &plan.cells[0].scenario)) {
        let flags: Vec<String> =
            plan.cells[0].swept.iter().map(|(path, value)| format!("--set {path}={value}")).collect();
        anyhow::bail!(Usage(format!(
            "{name}: `{command}` runs a single cell, but this scenario has {}: pin the swept keys, e.g. with {}",
            plan.cells.len(),
            flags.join(" ")
        )));
    }
    let rules = plan.cells.iter().find_map(|cell| cell.scenario.firewall.key());
    let nat = plan.cells.iter().find_map(|cell| cell.scenario.nat.map(|_| -> &dyn AnyKey { keys::NAT_CLIENTS }));
    let packets = rules.into_iter().chain(nat);
    let mut cell = plan.cells.remove(0);
    if cell.scenario.fill.is_some() {
        anyhow::bail!(Usage(format!("{name}: `{command}` cannot run a scenario of kind \"ports\"")));
    }
    if !cell.scenario.subject.is_own() {
        anyhow::bail!(Usage(format!(
            "{name}: `{command}` runs listenbench's own server, and this scenario is about another: use --set server.subject=own"
        )));
    }
    cell.scenario.network = Network::Host;
    for (sysctl, _) in std::mem::take(&mut cell.scenario.sysctls) {
        note(format_args!("{name}: `{command}` runs on the host's network and ignores `sysctl.{sysctl}`"));
    }
    for key in packets {
        note(format_args!(
            "{name}: `{command}` runs on the host's network, loads no rules there, and ignores `{}`",
            key.path()
        ));
    }
    if !std::mem::take(&mut cell.scenario.events).is_empty() {
        note(format_args!("{name}: `{command}` ignores [[event]]"));
    }
    Ok((plan, cell))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::PRESETS;

    #[test]
    fn help_and_documents_list_every_built_in_scenario() {
        let help = include_str!("../cli/run.rs").split_once("names of built-in scenarios: ").unwrap().1;
        let help = help.split_once("#[arg").unwrap().0.replace("///", "");
        let help: Vec<&str> = help.split(',').map(str::trim).collect();
        let scenarios = include_str!("../../bench-configs/README.md");
        let changes = include_str!("../../CHANGELOG.md");
        for name in built_in() {
            assert!(
                help.iter().any(|listed| listed.split(' ').next() == Some(name)),
                "`run --help` lacks {name}: {help:?}"
            );
            let takes = takes(name).unwrap();
            let row = scenarios.lines().find(|line| line.starts_with(&format!("| `{name}.toml` | ")));
            assert!(
                row.is_some_and(|row| row.ends_with(&format!(" | {takes} |"))),
                "bench-configs/README.md should say that {name} takes {takes}: {row:?}"
            );
            assert!(changes.contains(&format!("`{name}`")), "CHANGELOG.md lacks {name}");
        }
        // The scenario is about connections.
        let strategies = PRESETS.iter().filter(|preset| preset.with_defaults().takes_connections()).count();
        let count = ["fifteen", "sixteen", "seventeen", "eighteen"].get(strategies - 15);
        assert!(include_str!("../../README.md").contains(&format!("compares all {} strategies", count.unwrap())));
    }
}
