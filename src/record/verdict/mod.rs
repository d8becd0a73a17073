//! Verdicts: named conditions that a reader of the figures has to know.
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

/// A verdict on a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Name of the verdict.
    pub name: VerdictName,
    /// What it rests on, in numbers.
    pub detail: String,
    /// Whether it forbids using the trial's figures.
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

/// What a verdict is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A single trial.
    Trial,
    /// Several trials together: a cell's, or the whole run's.
    Run,
}

/// What becomes of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figures {
    /// They are used.
    Valid,
    /// They must not be used: they are not what they say.
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

    /// A verdict in full: its name, the numbers it rests on, what it means and what to do.
    pub fn explain(self, detail: &str) -> String {
        format!("{self}: {detail}. {}", self.advice())
    }
}

/// A sum that does not come out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imbalance {
    /// Of a trial's connections.
    Connections(Connections),
    /// Of a trial's datagrams.
    Datagrams(Datagrams),
}

impl fmt::Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connections(Connections { established, accepted, left_in_queue, aborted, foreign, .. }) => write!(
                f,
                "{established} established ≠ {accepted} accepted + {left_in_queue} left in the queue + {aborted} aborted; of the \
                 accepted, no loader established {foreign}"
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
    /// The load.
    Load,
    /// The fill of the ports.
    Fill,
}

/// Why there is nothing to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nothing {
    /// The measured window holds no start.
    Due,
    /// The fill of the ports stopped before it reached its end.
    Filled {
        /// Connections established.
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
    /// Starts came after the window's end.
    Missed {
        /// Those starts.
        missed: u64,
        /// All starts of the window.
        planned: u64,
    },
    /// Starts came late within the window.
    Lag {
        /// 99th percentile of the send lag.
        p99_ns: u64,
        /// Median response.
        response_p50_ns: u64,
    },
}

/// Levels before and after.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Mean before.
    pub before: f64,
    /// Mean after.
    pub after: f64,
}

/// What came of a fault of the scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultOutcome {
    /// What was to be done.
    pub kind: EventKind,
    /// Number of the worker.
    pub worker: usize,
    /// When it began and how long it lasted, in seconds; `None` where it was not carried out.
    pub carried_out: Option<(f64, f64)>,
}

impl fmt::Display for FaultOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of worker {} ", self.kind, self.worker)?;
        match self.carried_out {
            Some((at_s, lasted_s)) => write!(f, "at {at_s:.2} s for {lasted_s:.2} s"),
            None => write!(f, "not carried out: the load or the fault was over first"),
        }
    }
}

/// `connect ECONNREFUSED ×3, send EPIPE ×1`.
fn listed(errors: &[ErrorCount]) -> String {
    let errors: Vec<String> = errors.iter().map(ErrorCount::to_string).collect();
    errors.join(", ")
}

/// `; 12 connects took 1 s, 3 connects took 3 s`; nothing where none took as long.
fn slow(connects_by_seconds: &BTreeMap<u64, u64>) -> String {
    let modes: Vec<String> =
        connects_by_seconds.iter().map(|(seconds, count)| format!("{count} connects took {seconds} s")).collect();
    if modes.is_empty() { String::new() } else { format!("; {}", modes.join(", ")) }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    /// `results/README.md` shows the list: print what is missing, so that mending it is pasting.
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
