//! The list of verdicts.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};

use super::{Change, FaultOutcome, Figures, Imbalance, Lateness, Nothing, Scope, Unfinished, listed, slow};
use crate::record::{ErrorCount, Exit};

/// From where on the rules give a verdict.
pub mod limits {
    /// Share of the starts that may miss the window, or come after its end.
    pub const STARTS_MISSED: f64 = 0.01;
    /// Share of the median response that the p99 of the send lag may reach.
    pub const SEND_LAG: f64 = 0.1;
    /// Share of the processor time that the machine's host may take.
    pub const STEAL: f64 = 0.05;
    /// Share of the processor time that other processes may use. Clearing away and the kernel's own threads stay well below.
    pub const OTHERS: f64 = 0.15;
    /// Share of an open loop's rate that must be met. The window's end cuts a few connections off; an overload leaves more.
    pub const RATE_MET: f64 = 0.95;
    /// Share of the connections that may fail.
    pub const ERRORS: f64 = 0.001;
    /// Share of the ephemeral ports that may be taken.
    pub const PORTS: f64 = 0.5;
    /// Relative change between the two halves of a trial …
    pub const DRIFT_IN_TRIAL: f64 = 0.1;
    /// … and the same in standard errors of the rows' scatter, since neighbouring rows are not independent.
    pub const DRIFT_STANDARD_ERRORS: f64 = 4.0;
    /// Relative change over the repetitions of a run …
    pub const DRIFT_OVER_REPETITIONS: f64 = 0.03;
    /// … at this level of significance, …
    pub const DRIFT_LEVEL: f64 = 0.05;
    /// … with so many repetitions at least: of four, 2 of the 4! orders are monotone.
    pub const DRIFT_REPETITIONS: usize = 5;
    /// Share of a cell's variance that its division into two groups must explain …
    pub const BIMODAL_EXPLAINED: f64 = 0.97;
    /// … with so many trials at least.
    pub const BIMODAL_TRIALS: usize = 7;
}

macro_rules! verdicts {
    ($(
        $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? } {
            scope: $scope:ident,
            figures: $figures:ident,
            given_when: $given_when:expr,
            detail: $detail:expr,
            meaning: $meaning:literal,
            remedy: $remedy:expr $(,)?
        }
    )*) => {
        /// Name of a verdict.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Display, IntoStaticStr,
            VariantArray,
        )]
        #[serde(rename_all = "kebab-case")]
        #[strum(serialize_all = "kebab-case")]
        pub enum VerdictName {
            $(#[doc = $meaning] $name,)*
        }

        impl VerdictName {
            /// Whether it is about a trial, or about several.
            pub fn scope(self) -> Scope {
                match self { $(Self::$name => Scope::$scope,)* }
            }

            /// What becomes of the figures.
            pub fn figures(self) -> Figures {
                match self { $(Self::$name => Figures::$figures,)* }
            }

            /// The rule in words.
            pub fn given_when(self) -> String {
                match self { $(Self::$name => String::from($given_when),)* }
            }

            /// What it means for the figures: a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What to do about it: a sentence; `None` where there is nothing to do.
            pub fn remedy(self) -> Option<&'static str> {
                match self { $(Self::$name => $remedy,)* }
            }
        }

        /// A verdict with the data it rests on. Its text is the verdict's detail.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Grounds {
            $(#[doc = $meaning] $name { $($(#[$field_doc])* $field: $type),* },)*
        }

        impl Grounds {
            /// The verdict's name.
            pub fn name(&self) -> VerdictName {
                match self { $(Self::$name { .. } => VerdictName::$name,)* }
            }
        }

        impl fmt::Display for Grounds {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&match self { $(Self::$name { $($field),* } => String::from($detail),)* })
            }
        }
    };
}

verdicts! {
    Unaccounted {
        /// The sum.
        sum: Imbalance,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "the connections, or the datagrams, do not add up",
        detail: sum.to_string(),
        meaning: "Connections or datagrams went missing or were counted twice: the figures cannot be trusted.",
        remedy: Some("Make sure that no other program uses the server's port; otherwise, report it as a bug."),
    }

    Misdelivered {
        /// Replies.
        replies: u64,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "a reply belonged to another connection, request or 4-tuple",
        detail: format!("{replies} replies belong to another connection"),
        meaning: "Clients received replies that were meant for others: the figures cannot be trusted.",
        remedy: Some("Make sure that nothing between client and server rewrites packets; otherwise, report it as a bug."),
    }

    WorkerDied {
        /// The process, its pid included.
        process: String,
        /// How it ended.
        exit: Exit,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "a worker ended early or had to be killed, and no fault of the scenario meant it to",
        detail: format!("{process}: {exit}"),
        meaning: "The trial ended with fewer processes than it was meant to measure.",
        remedy: Some("Look for the reason on standard error and in the kernel's log, for instance the out-of-memory killer."),
    }

    Deadline {
        /// What was under way.
        unfinished: Unfinished,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "the load, or the fill of the ports, had not ended by the deadline",
        detail: match unfinished {
            Unfinished::Load => "the load had not ended by the deadline",
            Unfinished::Fill => "the ports were not full by the deadline",
        },
        meaning: "The trial was cut short.",
        remedy: Some("Lower the load, or raise `deadline`."),
    }

    NothingMeasured {
        /// Why.
        nothing: Nothing,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "no connection was due in the window, or a fill of the ports stopped before its end",
        detail: match nothing {
            Nothing::Due => "no connection was due in the measured window".to_owned(),
            Nothing::Filled { established, capacity, errors } => {
                format!("the fill stopped at {established} of {capacity} connections: {}", listed(errors))
            }
        },
        meaning: "There is nothing to measure.",
        remedy: Some("Lengthen `load.duration`, shorten `load.warmup`, or fix the errors that stopped the fill."),
    }

    LoaderSaturated {
        /// How late it was.
        lateness: Lateness,
        /// Rate of an open loop; `None` in a closed one.
        offered_per_s: Option<f64>,
        /// Share of a processor that the busiest loader used, where it is known.
        busiest: Option<f64>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "over {:.0} % of the starts came after the window's end, or the p99 of `send_lag` is above {:.0} % of the median \
             response; how busy the loaders were tells an overload from timers that are merely late",
            100.0 * limits::STARTS_MISSED,
            100.0 * limits::SEND_LAG
        ),
        detail: {
            let rate = offered_per_s.map_or_else(String::new, |offered| format!(" at {offered:.0}/s"));
            let late = match lateness {
                Lateness::Missed { missed, planned } => {
                    format!("{missed} of {planned} starts{rate} came after the window's end")
                }
                Lateness::Lag { p99_ns, response_p50_ns } => format!(
                    "send lag p99 {:.3} ms{rate}, more than {:.0} % of the response p50 {:.3} ms",
                    *p99_ns as f64 / 1e6,
                    100.0 * limits::SEND_LAG,
                    *response_p50_ns as f64 / 1e6
                ),
            };
            let busiest = busiest.map(|share| format!("; the busiest loader used {:.0} % of a processor", 100.0 * share));
            late + &busiest.unwrap_or_default()
        },
        meaning: "Connections began later than intended, and their latencies include the delay: busy loaders compete with the \
                  server for the processors, idle ones show how late timers fire.",
        remedy: Some("If the loaders are busy, lower the rate or the concurrency, or use a larger machine."),
    }

    QueueOverflow {
        /// Segments dropped, by ListenOverflows.
        dropped: u64,
        /// The longest backlog in force.
        limit: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "ListenOverflows grew: an accept queue was full",
        detail: format!("{dropped} segments were dropped at a full accept queue (limit {limit})"),
        meaning: "An accept queue was full, and connections had to try again.",
        remedy: Some("Raise `server.backlog` (and `sysctl.somaxconn`), unless overflow is what you are measuring."),
    }

    SynRetries {
        /// Segments sent again.
        segments: u64,
        /// Of those, SYNs.
        syns: u64,
        /// Connects that ended soon after a whole number of seconds, by that number.
        slow: BTreeMap<u64, u64>,
        /// Segments dropped at full accept queues.
        dropped: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "RetransSegs grew: segments, perhaps SYNs, were sent again; the detail counts the connects that took whole \
                     seconds for it, and the drops at full queues",
        detail: {
            let dropped = if slow.is_empty() { String::new() } else { format!("; {dropped} segments were dropped at full queues") };
            format!("{segments} segments were sent again, {syns} of them SYNs{}{dropped}", self::slow(slow))
        },
        meaning: "A lost segment is sent again only after 200 ms or more, and the latencies include the delay.",
        remedy: Some("Find out where segments are lost: at full accept queues or in the network."),
    }

    CpuSteal {
        /// Share of the processor time.
        share: f64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!("the machine's host took over {:.0} % of the processor time", 100.0 * limits::STEAL),
        detail: format!("the host took {:.1} % of the processor time", 100.0 * share),
        meaning: "Another guest of the machine's host had the processors, which lengthens latencies.",
        remedy: Some("Repeat on a quieter machine."),
    }

    CpuContended {
        /// Share of the processor time.
        share: f64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!("other processes used over {:.0} % of the processor time (`cpu_others_share`)", 100.0 * limits::OTHERS),
        detail: format!("other processes used {:.0} % of the processor time", 100.0 * share),
        meaning: "Other programs competed for the processors, which lengthens latencies.",
        remedy: Some("Stop them, or repeat on a quieter machine."),
    }

    RateUnmet {
        /// What is counted.
        what: &'static str,
        /// Rate in the window.
        met_per_s: f64,
        /// Rate asked for.
        offered_per_s: f64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "under {:.0} % of an open loop's offered rate was accepted (with datagrams: completed) in the window",
            100.0 * limits::RATE_MET
        ),
        detail: format!("{met_per_s:.0}/s {what} of {offered_per_s:.0}/s offered"),
        meaning: "The server, or the ports, could not keep up with the offered rate: latencies grow with the length of the trial.",
        remedy: Some("Lower `load.rate`, or let `[search]` find the highest rate that is met."),
    }

    Errors {
        /// By phase and errno.
        errors: Vec<ErrorCount>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!("over {} % of the connections failed", 100.0 * limits::ERRORS),
        detail: listed(errors),
        meaning: "Connections failed, and a failed connection has no latency.",
        remedy: Some("Fix what the errors point to, or lower the load."),
    }

    PortsScarce {
        /// The most ports in use or in TIME_WAIT.
        peak: u64,
        /// Ports there are.
        capacity: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "over {:.0} % of the ephemeral ports were in use or in TIME_WAIT; not given where the program chooses its ports itself \
             (`explicit`)",
            100.0 * limits::PORTS
        ),
        detail: format!("up to {peak} of {capacity} ports were in use or in TIME_WAIT"),
        meaning: "Once half of the ephemeral ports are taken, connect() spends milliseconds searching for a free one: what was \
                  measured is the port range.",
        remedy: Some("Set `load.close_how = \"rst\"`, or widen `sysctl.ip_local_port_range`."),
    }

    BeyondRange {
        /// Latencies.
        values: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "latencies over 60 s were recorded as 60 s",
        detail: format!("{values} latencies over 60 s were recorded as 60 s"),
        meaning: "The longest latencies are longer than shown.",
        remedy: Some("Lower `load.connect_timeout` and `load.reply_timeout`, or the load."),
    }

    TimeWaitOverflow {
        /// Connections, by TCPTimeWaitOverflow.
        connections: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "TCPTimeWaitOverflow grew: tcp_max_tw_buckets was reached, and connections ended without a TIME_WAIT",
        detail: format!("{connections} connections ended without a TIME_WAIT, since tcp_max_tw_buckets was reached"),
        meaning: "Ports could be used again sooner than TIME_WAIT allows.",
        remedy: Some("Raise `sysctl.tcp_max_tw_buckets`."),
    }

    StampsImpossible {
        /// Stamps.
        stamps: u64,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "a client found its stamp before its connect call or after accept",
        detail: format!("{stamps} stamps lie outside their connection's handshake"),
        meaning: "The kernel's stamps contradict the clients' clocks: the accept waits cannot be trusted.",
        remedy: Some("Measure with `stamps = \"connect-call\"`, and report it as a bug."),
    }

    DatagramsLost {
        /// Datagrams lost.
        lost: u64,
        /// Datagrams sent.
        sent: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "a socket lost datagrams because its buffer was full",
        detail: {
            let share = 100.0 * *lost as f64 / (*sent).max(1) as f64;
            format!("{lost} datagrams ({share:.1} % of those sent) found the receive buffer full")
        },
        meaning: "Receive buffers were full, and whoever sent the lost datagrams waited in vain.",
        remedy: Some("Raise `server.receive_buffer` (and the sysctl net.core.rmem_max), or lower the rate."),
    }

    Faults {
        /// Every fault of the scenario.
        faults: Vec<FaultOutcome>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "the scenario has faults; the detail says when each was carried out, or that it was not",
        detail: faults.iter().map(FaultOutcome::to_string).collect::<Vec<_>>().join(", "),
        meaning: "The scenario did this to the workers on purpose, and all figures include it.",
        remedy: None,
    }

    NoFollowUp {} {
        scope: Trial,
        figures: Valid,
        given_when: "no connection was held when `load.follow_up` was due",
        detail: "no measured connection was held when the follow-up was due",
        meaning: "No follow-up was sent, so there is no latency for it.",
        remedy: Some("Let the connections begin before `load.follow_up`, and `load.hold` last beyond it."),
    }

    DriftInTrial {
        /// Accepts per second.
        accepts_per_s: Option<Change>,
        /// Longest queues, all workers together.
        queued: Option<Change>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "the two halves of the measured window differ in accepts/s, or in the queues' peaks, by over {:.0} % and {} standard errors \
             of the rows' scatter; not given with faults",
            100.0 * limits::DRIFT_IN_TRIAL,
            limits::DRIFT_STANDARD_ERRORS
        ),
        detail: {
            let accepts = accepts_per_s.map(|Change { before, after }| {
                format!("{before:.0} accepts/s in the first half, {after:.0} in the second")
            });
            let queued = queued.map(|Change { before, after }| {
                format!("queues of up to {before:.1} connections in the first half, {after:.1} in the second")
            });
            accepts.into_iter().chain(queued).collect::<Vec<_>>().join("; ")
        },
        meaning: "The two halves of the trial differ: its figures describe no steady state.",
        remedy: Some("Lengthen `load.warmup`, or lower the load."),
    }

    DriftOverRepetitions {
        /// Label of the metric that ranks.
        metric: &'static str,
        /// Relative change from the first repetition to the last.
        change: f64,
        /// Of Mann and Kendall's test.
        p_value: f64,
    } {
        scope: Run,
        figures: Valid,
        given_when: format!(
            "the ranking metric rose or fell from repetition to repetition by over {:.0} % in all, over all cells together: Kendall's \
             test (Mann 1945) has p ≤ {}, from {} repetitions on",
            100.0 * limits::DRIFT_OVER_REPETITIONS,
            limits::DRIFT_LEVEL,
            limits::DRIFT_REPETITIONS
        ),
        detail: format!(
            "{metric}: {:+.1} % from the first repetition to the last, over all cells (p = {p_value:.3})",
            100.0 * change
        ),
        meaning: "The machine became faster or slower during the run. Cells are interleaved, so their ratios hold; absolute figures do \
                  not.",
        remedy: Some("Repeat once the machine has settled."),
    }

    Bimodal {
        /// Label of the cell.
        cell: String,
        /// Label of the metric that ranks.
        metric: &'static str,
        /// Trials in the lower group.
        low_trials: usize,
        /// All trials.
        trials: usize,
        /// Mean of the lower group, with its unit.
        low: String,
        /// Mean of the higher group, with its unit.
        high: String,
    } {
        scope: Run,
        figures: Valid,
        given_when: format!(
            "two groups of a cell's trials explain {:.0} % of the ranking metric's variance, from {} trials on: a hint, not a test",
            100.0 * limits::BIMODAL_EXPLAINED,
            limits::BIMODAL_TRIALS
        ),
        detail: format!("{cell}: {metric}: {low_trials} of {trials} trials lie near {low}, the others near {high}"),
        meaning: "The trials of one cell fall into two groups, and the median belongs to neither.",
        remedy: Some("Look at the trials one by one."),
    }

    IntervalWide {
        /// Label of the widest cell.
        cell: String,
        /// Half of the interval ÷ the median: what the scenario asks for.
        asked: f64,
        /// What was reached; `None` where there are too few trials for an interval.
        reached: Option<f64>,
        /// Valid trials of the cell.
        trials: usize,
    } {
        scope: Run,
        figures: Valid,
        given_when: "the intervals never became as narrow as `[stop]` asks",
        detail: {
            let reached = reached.map_or_else(
                || "are too few for an interval".to_owned(),
                |reached| format!("reached ±{:.1} %", 100.0 * reached),
            );
            format!("{cell}: ±{:.1} % was asked for; {trials} valid trials {reached}", 100.0 * asked)
        },
        meaning: "The intervals are wider than the scenario asks.",
        remedy: Some("Raise `stop.max_repetitions`, lengthen `load.duration`, or use a quieter machine."),
    }
}
