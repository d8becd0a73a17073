//! `listenbench ports`: diagnoses a network namespace's ephemeral ports, or a single port. Read-only.

mod diagnosis;
mod meanings;
mod namespace;
mod one;
mod tracked;

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use comfy_table::{ContentArrangement, Table, presets};

pub(super) use self::diagnosis::{Diagnosis, Severity};
use super::{Ended, Lines, Usage, say, say_json};
use crate::{
    cli,
    format::thousands,
    observe::{holder::Process, sockets::State},
    report::terminal,
};

/// Table width if standard output is not a terminal.
const WIDTH: u16 = 120;

/// Runs the command.
pub fn run(options: &cli::Ports) -> Result<Ended> {
    if let Some(to) = options.to.filter(|to| to.port() == 0) {
        bail!(Usage(format!("--to {to}: port 0 cannot be connected to; give the server's port")));
    }
    let severity = match options.port {
        Some(port) => {
            let report = one::Report::read(port)?;
            if options.json { say_json(&report, Lines::Several) } else { report.print() }?;
            report.diagnosis.severity
        }
        None => {
            let report = namespace::Report::read(options.to)?;
            if options.json { say_json(&report, Lines::Several) } else { report.print() }?;
            report.diagnosis.severity
        }
    };
    Ok(if severity == Severity::Ok { Ended::Done } else { Ended::Flawed })
}

/// What is wrong with this namespace's ports, in one diagnosis.
pub(super) fn diagnose() -> Result<Diagnosis> {
    Ok(namespace::Report::read(None)?.diagnosis)
}

/// A table wrapped to the terminal's width, or to a readable one elsewhere.
pub(super) fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    // Else it would ask the terminal itself, which may claim to have no columns.
    table.set_width(terminal::width().map_or(WIDTH, |width| width.try_into().unwrap_or(u16::MAX)));
    table
}

/// `12 (nginx), 13 (nginx)`, or why the list is empty.
fn names(processes: &[Process]) -> String {
    if processes.is_empty() {
        return "not visible to this user (run as root to see)".to_owned();
    }
    processes.iter().map(|process| format!("{} ({})", process.pid, process.name)).collect::<Vec<_>>().join(", ")
}

/// `1,204 ESTABLISHED, 2 CLOSE (bound only)`.
fn states(counts: &BTreeMap<State, u64>) -> String {
    let one = |(state, count): (&State, &u64)| {
        let bound = if *state == State::CLOSE { " (bound only)" } else { "" };
        format!("{} {}{bound}", thousands(*count as f64), state.name())
    };
    counts.iter().map(one).collect::<Vec<_>>().join(", ")
}
