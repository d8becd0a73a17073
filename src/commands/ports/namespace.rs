//! How many of a network namespace's ephemeral ports are left.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
};

use anyhow::Result;
use comfy_table::CellAlignment;
use serde::Serialize;

use super::{
    diagnosis::{Diagnosis, Seen},
    meanings::{Here, Meaning},
    say, states, table,
    tracked::{Tracked, worse},
};
use crate::{
    format::{percent, plural, thousands},
    observe::{
        holder::{self, Process},
        ports::{self, Range},
        sockets::{self, State},
        tuples::{Fill, TupleGroup, Usage},
    },
    scenario::Transport,
};

/// Largest number of groups and of processes shown.
const SHOWN: usize = 10;

/// The whole report. Counts are of ports unless they say sockets.
#[derive(Debug, Serialize)]
pub struct Report {
    pub diagnosis: Diagnosis,
    range: RangeRow,
    capacity: Capacity,
    /// The destination given with `--to`.
    to: Option<SocketAddr>,
    in_use: InUse,
    processes: Processes,
    /// Fill of the fullest tuple group, or of a new one if there is none.
    fill: Fill,
    /// Number of tuple groups.
    tuple_groups_count: usize,
    /// The fullest groups, fullest first.
    tuple_groups: Vec<TupleGroup>,
    /// The table of tracked connections; `null` if connection tracking is not loaded.
    conntrack: Option<Tracked>,
    sysctls: Vec<Meaning>,
}

#[derive(Debug, Serialize)]
struct RangeRow {
    low: u16,
    high: u16,
    size: u64,
    /// Reserved ports inside and outside the range: first and last port of each run.
    reserved: Vec<(u16, u16)>,
    reserved_inside: u64,
    usable: u64,
}

#[derive(Debug, Serialize)]
struct Capacity {
    /// Connections one tuple group can have at once.
    per_tuple_group: u64,
    /// The same with a second source address, destination address or destination port.
    of_two_groups: u64,
    formula: &'static str,
}

#[derive(Debug, Serialize)]
struct InUse {
    /// TCP sockets whose local port is in the range; with `--to`, connections to that destination.
    sockets: u64,
    by_state: BTreeMap<State, u64>,
    time_wait: u64,
    /// Sockets in TIME_WAIT in the namespace, whatever their port.
    time_wait_namespace: u64,
    /// Distinct local ports of the sockets.
    ports: u64,
    /// Usable ports that are bound: connect without bind skips them.
    barred: u64,
}

/// The processes that use the sockets.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Processes {
    /// The processes with the most sockets. A socket opened by several counts for each.
    most: Vec<ProcessRow>,
    /// Number of processes found.
    count: usize,
    /// Sockets without a descriptor, for example in TIME_WAIT or not yet accepted.
    without_process: u64,
    /// Sockets whose processes this user may not see.
    unseen: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct ProcessRow {
    #[serde(flatten)]
    process: Process,
    sockets: u64,
}

impl Report {
    /// Reads the caller's network namespace. Fails if /proc or sock_diag does not answer.
    pub fn read(to: Option<SocketAddr>) -> Result<Self> {
        // In the form in which sockets are shown.
        let to = to.map(|to| SocketAddr::new(to.ip().to_canonical(), to.port()));
        let range = Range::read()?;
        let sockets = sockets::read(Transport::Tcp, None)?;
        let time_wait = sockets.iter().filter(|socket| socket.state == State::TIME_WAIT).count() as u64;
        let usage = Usage::of(&range, &sockets, to);
        let usable = range.usable();
        let processes = Processes::of(&usage.inodes);
        let sysctls = Here { range: &range, time_wait }.read();
        let sysctl = |name: &str| {
            let found = sysctls.iter().find(|sysctl| sysctl.name == name);
            found.and_then(|sysctl| sysctl.value.as_ref()?.parse::<u64>().ok())
        };
        let timestamps = sysctl("tcp_timestamps") != Some(0);
        let reuse = if timestamps { sysctl("tcp_tw_reuse").unwrap_or(0) } else { 0 };
        let holder = processes.most.first().map(|row| (row.process.to_string(), row.sockets));
        let conntrack = Tracked::read(usable * usage.groups.len().max(1) as u64);
        let of_ports = Seen { range: &range, usage: &usage, reuse, timestamps, holder }.diagnose();
        Ok(Self {
            diagnosis: worse(of_ports, conntrack.as_ref().and_then(Tracked::diagnose)),
            conntrack,
            capacity: Capacity {
                per_tuple_group: usable,
                of_two_groups: ports::capacity(2, usable, 1, 1),
                formula: "source addresses × usable × destination addresses × destination ports",
            },
            to,
            in_use: InUse {
                sockets: usage.sockets(),
                time_wait: usage.time_wait(),
                time_wait_namespace: time_wait,
                ports: usage.ports,
                barred: usage.barred,
                by_state: usage.by_state,
            },
            processes,
            fill: usage.fill,
            tuple_groups_count: usage.groups.len(),
            tuple_groups: usage.groups.into_iter().take(SHOWN).collect(),
            sysctls,
            range: RangeRow {
                low: range.low,
                high: range.high,
                size: range.size(),
                reserved_inside: range.size() - usable,
                usable,
                reserved: range.reserved.iter().map(|ports| (*ports.start(), *ports.end())).collect(),
            },
        })
    }

    /// Prints the report as tables.
    pub fn print(&self) -> Result<()> {
        let mut facts = table();
        facts.add_row(["diagnosis", &self.diagnosis.lines()]);
        facts.add_row(["range", &self.range.line()]);
        facts.add_row(["capacity", &self.capacity.line()]);
        facts.add_row([&self.in_use_title(), &self.in_use.line()]);
        facts.add_row(["processes", &self.processes.line()]);
        facts.add_row([self.fill_title(), &self.fill_lines()]);
        if let Some(tracked) = &self.conntrack {
            facts.add_row(["connection\ntracking", &tracked.line()]);
        }
        say(facts)?;
        if !self.tuple_groups.is_empty() {
            say(self.groups())?;
        }
        if self.tuple_groups_count > self.tuple_groups.len() {
            say(format_args!("and {}", plural(self.tuple_groups_count - self.tuple_groups.len(), "more tuple group")))?;
        }
        let mut sysctls = table();
        sysctls.set_header(["sysctl", "value", "effect here"]);
        for Meaning { name, value, meaning } in &self.sysctls {
            sysctls.add_row([name, value.as_deref().unwrap_or("–"), meaning]);
        }
        say(sysctls)
    }

    fn in_use_title(&self) -> String {
        self.to.map_or_else(|| "in use".to_owned(), |to| format!("in use to\n{to}"))
    }

    fn fill_title(&self) -> &'static str {
        if self.tuple_groups.is_empty() { "a new\ntuple group" } else { "fullest\ntuple group" }
    }

    fn fill_lines(&self) -> String {
        let name = self.tuple_groups.first().map(|group| format!("{} → {}\n", group.source, group.destination));
        format!(
            "{}{}\nknee: connect() without bind() tries the ports of one parity first and, once those are taken, searches all of \
             them in vain; wall: EADDRNOTAVAIL",
            name.unwrap_or_default(),
            line(&self.fill)
        )
    }

    fn groups(&self) -> comfy_table::Table {
        let mut groups = table();
        groups.set_header(["source", "destination", "connections", "TIME_WAIT", "fill"]);
        for group in &self.tuple_groups {
            groups.add_row([
                group.source.to_string(),
                group.destination.to_string(),
                thousands(group.connections as f64),
                thousands(group.time_wait as f64),
                percent(group.fill.share),
            ]);
        }
        for column in groups.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        groups
    }
}

/// Distance to the knee and the wall.
fn line(fill: &Fill) -> String {
    let [usable, knee, to_knee] = [fill.usable, fill.knee, fill.to_knee].map(|ports| thousands(ports as f64));
    let knee_left = if fill.to_knee == 0 { "passed".to_owned() } else { format!("{to_knee} away") };
    let wall_left =
        if fill.to_wall == 0 { "reached".to_owned() } else { format!("{} away", thousands(fill.to_wall as f64)) };
    let used = thousands(fill.used as f64);
    format!(
        "fill {} of {usable} ({used} used); knee at {knee} ({knee_left}), wall at {usable} ({wall_left})",
        percent(fill.share)
    )
}

impl RangeRow {
    fn line(&self) -> String {
        let [size, reserved, usable] =
            [self.size, self.reserved_inside, self.usable].map(|ports| thousands(ports as f64));
        format!("{}–{}: {size} ports, {reserved} of them reserved, {usable} usable", self.low, self.high)
    }
}

impl Capacity {
    fn line(&self) -> String {
        format!(
            "{} connections per tuple group (source address, destination address, destination port)\ntotal: {}; with a \
             second of any: {}",
            thousands(self.per_tuple_group as f64),
            self.formula,
            thousands(self.of_two_groups as f64)
        )
    }
}

impl InUse {
    fn line(&self) -> String {
        let states = if self.by_state.is_empty() { String::new() } else { format!("\n{}", states(&self.by_state)) };
        format!(
            "TCP sockets: {}, on ports of the range: {}{states}\nports with a listener or bound, skipped by connect() without \
             bind(): {}",
            thousands(self.sockets as f64),
            thousands(self.ports as f64),
            thousands(self.barred as f64)
        )
    }
}

impl Processes {
    /// Finds the processes that have these inodes open.
    fn of(inodes: &[u32]) -> Self {
        let wanted: HashSet<u64> = inodes.iter().filter(|inode| **inode != 0).map(|inode| u64::from(*inode)).collect();
        let holders = if wanted.is_empty() { Default::default() } else { holder::of_sockets(&wanted) };
        let mut sockets: BTreeMap<&Process, u64> = BTreeMap::new();
        for process in holders.values().flatten() {
            *sockets.entry(process).or_default() += 1;
        }
        let mut rows: Vec<ProcessRow> =
            sockets.into_iter().map(|(process, sockets)| ProcessRow { process: process.clone(), sockets }).collect();
        rows.sort_by_key(|row| u64::MAX - row.sockets);
        Self {
            count: rows.len(),
            most: rows.into_iter().take(SHOWN).collect(),
            without_process: inodes.iter().filter(|inode| **inode == 0).count() as u64,
            unseen: (wanted.len() - holders.len()) as u64,
        }
    }

    fn line(&self) -> String {
        let mut parts: Vec<String> = self
            .most
            .iter()
            .map(|row| format!("{} ({}): {}", row.process.pid, row.process.name, thousands(row.sockets as f64)))
            .collect();
        if self.count > self.most.len() {
            parts.push(format!("and {} more", self.count - self.most.len()));
        }
        for (count, what) in [
            (self.unseen, "not visible to this user"),
            (self.without_process, "without a process (TIME_WAIT, not accepted)"),
        ] {
            if count > 0 {
                parts.push(format!("{what}: {}", thousands(count as f64)));
            }
        }
        if parts.is_empty() { "none".to_owned() } else { parts.join("\n") }
    }
}
