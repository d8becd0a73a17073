//! Verdicts: named conditions that a reader of the figures must know about.
//!
//! A verdict is one entry of the list in `list.rs`. To add one, write its entry there, and the rule that gives it: in `trial::judge` if a
//! single trial shows it, in `stats::judge` if it takes several. The compiler asks for every part of an entry; `results/README.md`
//! shows the list as a table.

mod list;

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use list::{Grounds, VerdictName, limits};

use super::{Connections, Datagrams, ErrorCount, EventKind};
use crate::format::counted;

/// A verdict on a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Name of the verdict.
    pub name: VerdictName,
    /// The numbers it rests on, in words.
    pub detail: String,
    /// Whether the trial's figures must not be used.
    pub invalidates: bool,
}

impl From<Grounds> for Verdict {
    fn from(grounds: Grounds) -> Self {
        let name = grounds.name();
        Self { name, detail: grounds.to_string(), invalidates: name.invalidates() }
    }
}

/// `cpu-steal: the host took 7.0 % of the processor time`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.detail)
    }
}

/// How many trials a verdict concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A single trial.
    Trial,
    /// Several trials together: a cell's, or the whole run's.
    Run,
}

/// Whether the figures of what a verdict concerns remain usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figures {
    Valid,
    /// They must not be used: they are not what they claim to be.
    Invalid,
}

impl VerdictName {
    /// Whether a trial with this verdict is kept out of the summary.
    pub fn invalidates(self) -> bool {
        self.figures() == Figures::Invalid
    }

    /// What it means for the figures, and what to do about it.
    pub fn advice(self) -> String {
        let remedy = self.remedy().map(|remedy| format!(" {remedy}"));
        format!("{}{}", self.meaning(), remedy.unwrap_or_default())
    }

    /// The verdict in full: its name, the numbers it rests on, what it means and what to do about it.
    pub fn explain(self, detail: &str) -> String {
        format!("{self}: {detail}. {}", self.advice())
    }
}

/// A sum that does not add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imbalance {
    Connections(Connections),
    Datagrams(Datagrams),
}

impl fmt::Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connections(Connections { established, accepted, left_in_queue, aborted, foreign, .. }) => write!(
                f,
                "{established} established ≠ {accepted} accepted + {left_in_queue} left in the queue + {aborted} aborted; \
                 {foreign} of those accepted had not been established by a loader"
            ),
            Self::Datagrams(Datagrams { sent, received, left_in_queue, lost, refused, aborted, .. }) => write!(
                f,
                "{sent} datagrams sent ≠ {received} received + {left_in_queue} left in the queue + {lost} lost + {refused} refused + \
                 {aborted} aborted"
            ),
        }
    }
}

/// What the deadline cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    Load,
    /// The fill of the ports.
    Fill,
}

/// Why there is nothing to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nothing {
    /// No start was due in the measured window.
    Due,
    /// The fill of the ports stopped early.
    Filled {
        established: u64,
        /// Connections that the ports can hold.
        capacity: u64,
        /// What stopped it.
        errors: Vec<ErrorCount>,
    },
}

/// How a loader fell behind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lateness {
    /// Some starts came after the window's end.
    Missed {
        missed: u64,
        /// All starts due in the window.
        planned: u64,
    },
    /// Starts came within the window, but late.
    Lag {
        /// The 99th percentile of the send lag.
        p99_ns: u64,
        /// The median response latency.
        response_p50_ns: u64,
    },
}

/// The mean of a quantity in the first and in the second half of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    pub before: f64,
    pub after: f64,
}

/// What became of a fault in the scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultOutcome {
    pub kind: EventKind,
    /// The worker's number, from 0.
    pub worker: usize,
    /// When it began and how long it lasted, in seconds; `None` if it was not carried out.
    pub carried_out: Option<(f64, f64)>,
}

impl fmt::Display for FaultOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of worker {} ", self.kind, self.worker)?;
        match self.carried_out {
            Some((at_s, lasted_s)) => write!(f, "at {at_s:.2} s for {lasted_s:.2} s"),
            None => write!(f, "not carried out: the load, or the fault's time, was over before it could begin"),
        }
    }
}

/// `connect ECONNREFUSED ×3, send EPIPE ×1`.
fn listed(errors: &[ErrorCount]) -> String {
    let errors: Vec<String> = errors.iter().map(ErrorCount::to_string).collect();
    errors.join(", ")
}

/// `; 12 connects took 1 s, 1 connect took 3 s`; empty if none took as long.
fn slow(connects_by_seconds: &BTreeMap<u64, u64>) -> String {
    let connects = |count| counted(count, "connect", "connects");
    let modes: Vec<String> =
        connects_by_seconds.iter().map(|(seconds, count)| format!("{} took {seconds} s", connects(*count))).collect();
    if modes.is_empty() { String::new() } else { format!("; {}", modes.join(", ")) }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    /// `results/README.md` shows the list: on failure, print the table to paste.
    #[test]
    fn the_readme_lists_every_verdict_once() {
        let readme = include_str!("../../../results/README.md");
        let row = |name: &VerdictName| {
            let figures = if name.invalidates() { "invalid" } else { "valid" };
            format!("| `{name}` | {} | {figures} | {} |", name.given_when(), name.advice())
        };
        let (trial, run): (Vec<_>, Vec<_>) =
            VerdictName::VARIANTS.iter().partition(|name| name.scope() == Scope::Trial);
        for names in [trial, run] {
            let table: Vec<String> = names.into_iter().map(row).collect();
            let table = format!("|---|---|---|---|\n{}\n\n", table.join("\n"));
            assert!(readme.contains(&table), "results/README.md lacks the table\n{table}");
        }
    }

    #[test]
    fn names_are_the_same_on_disk_and_in_words() {
        for name in VerdictName::VARIANTS {
            assert_eq!(serde_json::to_value(name).unwrap(), name.to_string());
        }
    }
}
