//! `listenbench ports`: reports on a network namespace's ephemeral ports, or on a single port. Read-only.

mod meanings;
mod namespace;
mod one;

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use comfy_table::{ContentArrangement, Table, presets};

use super::{Ended, Usage, say};
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
    match options.port {
        Some(port) => {
            let report = one::Report::read(port)?;
            if options.json { say(serde_json::to_string_pretty(&report)?) } else { report.print() }
        }
        None => {
            let report = namespace::Report::read(options.to)?;
            if options.json { say(serde_json::to_string_pretty(&report)?) } else { report.print() }
        }
    }?;
    Ok(Ended::Done)
}

/// A table wrapped to the terminal's width, or to a readable one elsewhere.
fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if terminal::width().is_none() {
        table.set_width(WIDTH);
    }
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
