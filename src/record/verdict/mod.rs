//! Verdicts: named conditions that a reader of the figures must know about.
//!
//! A verdict is one entry of the list in `list.rs`. To add one, write its entry there, and the rule that gives it: in `trial::judge` if a
//! single trial shows it, in `stats::judge` if it takes several. The compiler asks for every part of an entry; `results/VERDICTS.md`
//! shows the list as a table.

mod list;

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use list::{Grounds, VerdictName, limits};

use super::{Connections, Datagrams, ErrorCount, EventKind, ForeignMember, ReloadHow};
use crate::format::{counted, duration, percent};

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

    /// Whether it touches every figure, so that no answer stands without it if most trials of a cell have it: what was measured is then
    /// something else than the server under the scenario's load, or depends on how long the trial lasted.
    pub fn qualifies_all(self) -> bool {
        matches!(
            self,
            Self::CpuSteal
                | Self::CpuContended
                | Self::LoaderSaturated
                | Self::RateUnmet
                | Self::DriftInTrial
                | Self::QueueOverflow
                | Self::SynQueueOverflow
                // These two stand for `rate-unmet` and `drift-in-trial`, which are not given beside them.
                | Self::DescriptorsUsedUp
                | Self::QueueStranded
                | Self::MemberStopped
                | Self::PortsScarce
                | Self::ConntrackFull
                | Self::NatPortsShort
                | Self::UpstreamPortsExhausted
                | Self::UpstreamUnused
                | Self::ErrorReplies
                | Self::FellBack
                | Self::MixedEngines
        )
    }

    /// Whether another verdict on the same trial says nothing beside this one: it follows from it, and its advice would mislead.
    pub fn explains(self, other: Self) -> bool {
        let of_failures = matches!(other, Self::RateUnmet | Self::Errors | Self::DriftInTrial | Self::LoaderSaturated);
        let of_silence = matches!(
            other,
            Self::ProcessDied
                | Self::NothingMeasured
                | Self::Failures
                | Self::NoFollowUp
                | Self::QueueOverflow
                | Self::SynQueueOverflow
                | Self::SynCookies
                | Self::SynRetries
        );
        match self {
            Self::SubjectEnded => of_failures || of_silence,
            // The rest of the load ends with it.
            Self::HostDied => {
                of_failures
                    || matches!(other, Self::NothingMeasured | Self::Failures | Self::NoFollowUp | Self::Interrupted)
            }
            // Their SYNs were not lost on the way.
            Self::ConntrackFull | Self::NatPortsShort => other == Self::SynRetries,
            // The rules about failures leave out what an early end cut short.
            Self::Interrupted | Self::RoutingChanged => {
                matches!(other, Self::RateUnmet | Self::DriftInTrial | Self::LoaderSaturated | Self::NoFollowUp)
            }
            Self::QueueStranded | Self::DescriptorsUsedUp => {
                matches!(other, Self::RateUnmet | Self::Errors | Self::DriftInTrial)
            }
            _ => false,
        }
    }

    /// What it means for the figures, and what to do about it.
    pub fn advice(self) -> String {
        format!("{} {}", self.meaning(), self.remedy())
    }

    /// The verdict in full: its name, the numbers it rests on, what it means and what to do about it.
    pub fn explain(self, detail: &str) -> String {
        format!("{self}: {detail}. {}", self.advice())
    }
}

/// What a load that was ended early had come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoFar {
    /// When, in seconds since the load began.
    pub after_s: f64,
    /// Connections completed by then.
    pub completed: u64,
    /// The median response by then, and its 99th percentile, in nanoseconds.
    pub response: Option<(u64, u64)>,
}

impl fmt::Display for SoFar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = counted(self.completed, "connection", "connections");
        write!(f, "after {:.2} s, with {connections} completed", self.after_s)?;
        match self.response {
            Some((p50_ns, p99_ns)) => {
                write!(f, ", response p50 {}, p99 {}", duration(p50_ns as f64), duration(p99_ns as f64))
            }
            None => Ok(()),
        }
    }
}

/// A sum that does not add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imbalance {
    Connections(Box<Connections>),
    Datagrams(Datagrams),
}

impl fmt::Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connections(sum) => {
                let Connections { established, self_connected, cookies, foreign, .. } = &**sum;
                write!(f, "{established} established")?;
                // Most trials have none of these.
                for (sign, count, what) in [
                    ('−', self_connected, "connected to themselves"),
                    ('+', cookies, "by SYN cookie only"),
                    ('+', foreign, "from other clients"),
                ] {
                    if *count > 0 {
                        write!(f, " {sign} {count} {what}")?;
                    }
                }
                // Where a part is unknown, nobody knows whether the sum adds up.
                let [accepted, aborted] = [sum.accepted, sum.aborted].map(Option::unwrap_or_default);
                let left_in_queue = sum.left_in_queue;
                write!(f, " ≠ {accepted} accepted")?;
                if let Some(shed @ 1..) = sum.shed {
                    write!(f, " ({shed} of them closed at once)")?;
                }
                write!(f, " + {left_in_queue} left in the queue + {aborted} aborted")
            }
            Self::Datagrams(Datagrams {
                sent,
                foreign,
                received,
                left_in_queue,
                lost,
                filtered,
                refused,
                aborted,
                ..
            }) => {
                write!(f, "{sent} datagrams sent")?;
                if *foreign > 0 {
                    write!(f, " + {foreign} from other clients")?;
                }
                write!(f, " ≠ {received} received + {left_in_queue} left in the queue + {lost} lost")?;
                if *filtered > 0 {
                    write!(f, " + {filtered} filtered")?;
                }
                write!(f, " + {refused} refused + {aborted} aborted")
            }
        }
    }
}

/// `nginx (pid 12) and nginx (pid 13)`.
fn names(members: &[ForeignMember]) -> String {
    all(&members.iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// `a, b and c`.
fn all(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}

/// What samples saw of the accept queues of a listener.
fn queues(full_share: f64, peak: u32, limit: u32, dropped: u64) -> String {
    let full = match full_share {
        0.0 => "full in no sample".to_owned(),
        share if share < 0.001 => "full in under 0.1 % of the samples".to_owned(),
        share => format!("full in {} of the samples", percent(share)),
    };
    let [most, dropped] =
        [counted(u64::from(peak), "connection", "connections"), counted(dropped, "segment", "segments")];
    format!("{full}, with at most {most} in a queue of limit {limit}; {dropped} dropped")
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
    /// No attempt ran to its planned end.
    Completed {
        attempted: u64,
        /// How they failed.
        errors: Vec<ErrorCount>,
        /// What the server sent that was not expected; empty if it did not.
        first: String,
    },
    /// The fill of the ports stopped early.
    Filled {
        established: u64,
        /// Connections that the ports can hold.
        capacity: u64,
        /// What stopped it.
        errors: Vec<ErrorCount>,
    },
}

/// The mean of a quantity in the first and in the second half of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    pub before: f64,
    pub after: f64,
}

/// What became of an event in the scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct EventOutcome {
    pub kind: EventKind,
    /// How a reload's new workers get their listeners.
    pub how: Option<ReloadHow>,
    /// The worker's number, from 0; `None` if it is done to no particular one.
    pub worker: Option<usize>,
    /// When it began and how long it lasted, in seconds; `None` if it was not carried out.
    pub carried_out: Option<(f64, f64)>,
}

impl fmt::Display for EventOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(how) = self.how {
            write!(f, " ({how})")?;
        }
        if let Some(worker) = self.worker {
            write!(f, " of worker {worker}")?;
        }
        match self.carried_out {
            Some((at_s, lasted_s)) => write!(f, " at {at_s:.2} s for {lasted_s:.2} s"),
            None => write!(f, " not carried out: the load, or the event's time, was over before it could begin"),
        }
    }
}

/// `connect ECONNREFUSED ×3, receive EOF ×1 (the server closed before it had answered)`.
fn listed(errors: &[ErrorCount]) -> String {
    errors.iter().map(ErrorCount::explained).collect::<Vec<_>>().join(", ")
}

/// `: -ERR unknown command\r\n`; empty if it is not known.
fn said(first: &str) -> String {
    if first.is_empty() { String::new() } else { format!(": {first}") }
}

/// `; the server sent -ERR unknown command\r\n`; empty if it sent nothing that was not expected.
fn sent(first: &str) -> String {
    if first.is_empty() { String::new() } else { format!("; the server sent {first}") }
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
    use std::{fmt::Write, path::Path};

    use strum::VariantArray;

    use super::*;

    /// If set, the test writes the page instead of comparing it.
    const RENEW: &str = "LISTENBENCH_RENEW_VERDICTS";
    /// Characters of a line.
    const WIDTH: usize = 138;

    fn page() -> String {
        let mut page = "# Verdicts\n\nA verdict names a condition that a reader of the figures has to know. An invalid trial stays in the record \
                        and out of the summary.\nThis page is generated from the program's own list.\n"
            .to_owned();
        for (scope, title) in [
            (Scope::Trial, "Verdicts on a trial, in `trials.jsonl`"),
            (Scope::Run, "Verdicts on several trials together, in `summary.json`"),
        ] {
            write!(page, "\n## {title}\n").unwrap();
            for name in VerdictName::VARIANTS.iter().filter(|name| name.scope() == scope) {
                let figures = if name.invalidates() { "Makes the trial invalid" } else { "Given" };
                let mark = name.given_when();
                let [mark, advice] =
                    [format!("{figures}: {mark}."), name.advice()].map(|text| textwrap::fill(&text, WIDTH));
                write!(page, "\n### `{name}`\n\n{mark}\n\n{advice}\n").unwrap();
            }
        }
        page
    }

    #[test]
    fn the_page_describes_every_verdict() {
        let path = "results/VERDICTS.md";
        if std::env::var_os(RENEW).is_some() {
            std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), page()).unwrap();
            return;
        }
        let found = include_str!("../../../results/VERDICTS.md");
        assert!(found == page(), "{path} does not match the verdicts; renew it with {RENEW}=1 cargo test verdict");
    }

    #[test]
    fn names_are_the_same_on_disk_and_in_words() {
        for name in VerdictName::VARIANTS {
            assert_eq!(serde_json::to_value(name).unwrap(), name.to_string());
        }
    }
}
