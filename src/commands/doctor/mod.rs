//! `listenbench doctor`: checks what this machine allows and how it fares, and says what to change.

mod host;
mod launcher;
mod trials;

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use comfy_table::Table;
use serde::Serialize;

use super::{Ended, Lines, say, say_json, sources};
use crate::cli;

/// What the checks of strategies are called; what they found is the strategy's name.
const STRATEGY: &str = "strategy";

/// One finding.
#[derive(Debug, Serialize)]
struct Check {
    about: About,
    name: &'static str,
    status: Status,
    found: String,
    /// What to change, or what the finding means if there is nothing to change.
    advice: String,
}

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum About {
    /// This host and its network, as every server and client here finds them.
    Host,
    /// What trials need.
    Trials,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// Nothing to do.
    Ok,
    /// Works, with a limitation.
    Limited,
    /// Does not work.
    Missing,
}

impl Check {
    /// What was checked: a strategy, or what the check is called.
    fn subject(&self) -> &str {
        if self.name == STRATEGY { &self.found } else { self.name }
    }
}

/// Runs the command.
pub fn run(options: &cli::Doctor) -> Result<Ended> {
    let checks: Vec<Check> = host::checks().into_iter().chain(trials::checks()).chain([launcher::check()]).collect();
    if options.json {
        say_json(&checks, Lines::Several)?;
    } else {
        for (about, title) in [(About::Host, "This host and its network"), (About::Trials, "What trials need")] {
            say(title)?;
            say(table(checks.iter().filter(|check| check.about == about)))?;
        }
    }
    let needed = needed_by_default()?;
    let missing = checks.iter().filter(|check| check.status == Status::Missing).map(Check::subject);
    let lacks: Vec<&str> = missing.filter(|subject| needed.contains(*subject)).collect();
    if !lacks.is_empty() {
        bail!("`listenbench run` needs what is missing here: {}", lacks.join(", "));
    }
    Ok(if checks.iter().all(|check| check.status == Status::Ok) { Ended::Done } else { Ended::Flawed })
}

/// What the default scenario cannot do without: checks and strategies, by name.
fn needed_by_default() -> Result<BTreeSet<&'static str>> {
    let plan = sources::plan(&sources::text(sources::DEFAULT)?, &[])?;
    let strategies = plan.cells.iter().map(|cell| cell.scenario.server.strategy.name);
    Ok(strategies.chain(["namespaces", "open files", "port range", "sock_diag"]).collect())
}

/// One row per check, what is wrong first, wrapped to the terminal's width.
fn table<'a>(checks: impl Iterator<Item = &'a Check>) -> Table {
    let mut table = super::ports::table();
    let mut checks: Vec<&Check> = checks.collect();
    checks.sort_by_key(|check| match check.status {
        Status::Missing => 0,
        Status::Limited => 1,
        Status::Ok => 2,
    });
    for check in checks {
        let status = match check.status {
            Status::Ok => "ok",
            Status::Limited => "limited",
            Status::Missing => "missing",
        };
        table.add_row([status, check.name, &format!("{}\n{}", check.found, check.advice)]);
    }
    table
}
