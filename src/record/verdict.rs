//! Verdicts on a trial's figures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A named condition of a trial's figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Which.
    pub name: VerdictName,
    /// With its numbers.
    pub detail: String,
    /// Whether it forbids using the trial's figures.
    pub invalidates: bool,
}

/// The verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictName {
    /// Established connections that are neither accepted nor lost by name.
    Unaccounted,
    /// Replies that belong to another connection.
    Misdelivered,
    /// A worker ended early.
    WorkerDied,
    /// The deadline ended the trial.
    Deadline,
    /// Nothing was measured.
    NothingMeasured,
    /// The offered rate was not reached, or starts came late.
    LoaderSaturated,
    /// An accept queue was full.
    QueueOverflow,
    /// Segments were sent again.
    SynRetries,
    /// The host took processor time.
    CpuSteal,
    /// Other processes used the processors.
    CpuContended,
    /// An open loop's connections were not all accepted in the window.
    RateUnmet,
    /// Connections failed.
    Errors,
    /// Over half of the ephemeral ports were in use or in TIME_WAIT.
    PortsScarce,
    /// Latencies beyond the histograms' range.
    BeyondRange,
    /// The kernel destroyed TIME_WAITs.
    TimeWaitOverflow,
    /// Stamps of connections that cannot be right.
    StampsImpossible,
    /// Sockets lost datagrams.
    DatagramsLost,
    /// The scenario's faults were carried out, or not.
    Faults,
    /// The scenario's follow-up found no connection held.
    NoFollowUp,
    /// The first and the second half of a trial differ.
    DriftInTrial,
    /// A run became faster or slower from repetition to repetition.
    DriftOverRepetitions,
    /// The trials of a cell fall into two camps.
    Bimodal,
    /// The intervals never became as narrow as the scenario asks.
    IntervalWide,
}

impl VerdictName {
    /// As in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unaccounted => "unaccounted",
            Self::Misdelivered => "misdelivered",
            Self::WorkerDied => "worker-died",
            Self::Deadline => "deadline",
            Self::NothingMeasured => "nothing-measured",
            Self::LoaderSaturated => "loader-saturated",
            Self::QueueOverflow => "queue-overflow",
            Self::SynRetries => "syn-retries",
            Self::CpuSteal => "cpu-steal",
            Self::CpuContended => "cpu-contended",
            Self::RateUnmet => "rate-unmet",
            Self::Errors => "errors",
            Self::PortsScarce => "ports-scarce",
            Self::BeyondRange => "beyond-range",
            Self::TimeWaitOverflow => "time-wait-overflow",
            Self::StampsImpossible => "stamps-impossible",
            Self::DatagramsLost => "datagrams-lost",
            Self::Faults => "faults",
            Self::NoFollowUp => "no-follow-up",
            Self::DriftInTrial => "drift-in-trial",
            Self::DriftOverRepetitions => "drift-over-repetitions",
            Self::Bimodal => "bimodal",
            Self::IntervalWide => "interval-wide",
        }
    }

    /// Whether a trial with this verdict must not enter a summary: its figures are not what they say.
    pub fn invalidates(self) -> bool {
        matches!(
            self,
            Self::Unaccounted
                | Self::Misdelivered
                | Self::StampsImpossible
                | Self::WorkerDied
                | Self::Deadline
                | Self::NothingMeasured
        )
    }
}
