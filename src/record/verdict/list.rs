//! The list of verdicts, each with its data, texts and effect on the trial.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};

use super::{Change, FaultOutcome, Figures, Imbalance, Lateness, Nothing, Scope, Unfinished, listed, slow};
use crate::{
    format::counted,
    record::{ErrorCount, Exit},
};

/// Thresholds of the verdict rules.
pub mod limits {
    /// Largest share of the starts that may come after the window's end.
    pub const STARTS_MISSED: f64 = 0.01;
    /// Largest p99 of the send lag, as a share of the median response.
    pub const SEND_LAG: f64 = 0.1;
    /// Largest share of the processor time that the hypervisor may take.
    pub const STEAL: f64 = 0.05;
    /// Largest share of the processor time that other processes may use. Clean-up and kernel threads stay well below it.
    pub const OTHERS: f64 = 0.15;
    /// Smallest share of an open loop's rate that must be met. The window's end cuts off a few connections; an overload, many more.
    pub const RATE_MET: f64 = 0.95;
    /// Largest share of the connections that may fail.
    pub const ERRORS: f64 = 0.001;
    /// Largest share of the ephemeral ports that may be taken.
    pub const PORTS: f64 = 0.5;
    /// Largest relative change between the two halves of a trial.
    pub const DRIFT_IN_TRIAL: f64 = 0.1;
    /// The same change in standard errors of the rows' scatter; high, because neighbouring rows are not independent.
    pub const DRIFT_STANDARD_ERRORS: f64 = 4.0;
    /// Largest relative change over the repetitions of a run.
    pub const DRIFT_OVER_REPETITIONS: f64 = 0.03;
    /// Significance level at which that change counts.
    pub const DRIFT_LEVEL: f64 = 0.05;
    /// Fewest repetitions it takes: with four, 2 of the 4! orders are monotone, too many for this level.
    pub const DRIFT_REPETITIONS: usize = 5;
    /// Share of a cell's variance that splitting its trials into two groups must explain.
    pub const BIMODAL_EXPLAINED: f64 = 0.97;
    /// Fewest trials it takes.
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
        /// The name of a verdict.
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
            /// Whether it concerns one trial or several.
            pub fn scope(self) -> Scope {
                match self { $(Self::$name => Scope::$scope,)* }
            }

            /// Whether the figures remain usable.
            pub fn figures(self) -> Figures {
                match self { $(Self::$name => Figures::$figures,)* }
            }

            /// The rule in words: a row's "given when".
            pub fn given_when(self) -> String {
                match self { $(Self::$name => String::from($given_when),)* }
            }

            /// What it means for the figures, as a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What to do about it, as a sentence; `None` if nothing needs doing.
            pub fn remedy(self) -> Option<&'static str> {
                match self { $(Self::$name => $remedy,)* }
            }
        }

        /// A verdict with the data it rests on. Its `Display` is the verdict's detail.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Grounds {
            $(#[doc = $meaning] $name { $($(#[$field_doc])* $field: $type),* },)*
        }

        impl Grounds {
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
        /// The sum that does not add up.
        sum: Imbalance,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "the connections, or the datagrams, do not add up",
        detail: sum.to_string(),
        meaning: "Connections or datagrams went missing or were counted twice: the figures cannot be trusted.",
        remedy: Some("Make sure that no other program uses the server's port; if none does, report it as a bug."),
    }

    Misdelivered {
        /// Replies that reached the wrong connection.
        replies: u64,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "a reply belonged to another connection, request or 4-tuple",
        detail: counted(*replies, "reply belongs to another connection", "replies belong to another connection"),
        meaning: "Clients received replies meant for others: the figures cannot be trusted.",
        remedy: Some("Make sure that nothing between client and server rewrites packets; if nothing does, report it as a bug."),
    }

    WorkerDied {
        /// Name and pid of the process.
        process: String,
        exit: Exit,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "a worker ended early or had to be killed, other than by a fault in the scenario",
        detail: format!("{process}: {exit}"),
        meaning: "The trial ended with fewer processes than it was meant to measure.",
        remedy: Some("Look for the cause on standard error and in the kernel log (the out-of-memory killer, for example)."),
    }

    Deadline {
        /// What the deadline cut short.
        unfinished: Unfinished,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "the load, or the fill of the ports, had not finished by the deadline",
        detail: match unfinished {
            Unfinished::Load => "the load had not finished by the deadline",
            Unfinished::Fill => "the ports were not full by the deadline",
        },
        meaning: "The trial was cut short.",
        remedy: Some("Lower the load, or raise `deadline`."),
    }

    NothingMeasured {
        /// Why there is nothing.
        nothing: Nothing,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "no connection was due in the window, or the fill of the ports stopped early",
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
        lateness: Lateness,
        /// An open loop's rate; `None` in a closed loop.
        offered_per_s: Option<f64>,
        /// Share of one processor that the busiest loader used; `None` if unknown.
        busiest: Option<f64>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "over {:.0} % of the starts came after the window's end, or the p99 of `send_lag` is above {:.0} % of the median \
             response; how busy the loaders were distinguishes overload from timers that merely fire late",
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
                  server for processors; if the loaders were mostly idle, timers fired late.",
        remedy: Some("If the loaders are busy, lower the rate or the concurrency, or use a larger machine."),
    }

    QueueOverflow {
        /// Growth of ListenOverflows.
        dropped: u64,
        /// The longest backlog in effect.
        limit: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "ListenOverflows grew: an accept queue was full",
        detail: {
            let dropped = counted(*dropped, "segment was dropped", "segments were dropped");
            format!("{dropped} at a full accept queue (limit {limit})")
        },
        meaning: "An accept queue was full, and connections had to retry.",
        remedy: Some("Raise `server.backlog` (and `sysctl.somaxconn`), unless overflow is what you are measuring."),
    }

    SynRetries {
        /// Segments retransmitted.
        segments: u64,
        /// How many of those were SYNs.
        syns: u64,
        /// Number of connects that took just over N whole seconds, by N.
        slow: BTreeMap<u64, u64>,
        /// Segments dropped at full accept queues.
        dropped: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "RetransSegs grew: segments, perhaps SYNs, were retransmitted; the detail counts the connects that took whole \
                     seconds because of it, and the drops at full queues",
        detail: {
            let dropped = counted(*dropped, "segment was dropped", "segments were dropped");
            let dropped = if slow.is_empty() { String::new() } else { format!("; {dropped} at full queues") };
            let segments = counted(*segments, "segment was retransmitted", "segments were retransmitted");
            format!("{segments}, including {}{}{dropped}", counted(*syns, "SYN", "SYNs"), self::slow(slow))
        },
        meaning: "A lost segment is retransmitted only after 200 ms or more, and the latencies include the delay.",
        remedy: Some("Find out where segments are lost: at full accept queues, or in the network."),
    }

    CpuSteal {
        /// Share of the processor time.
        share: f64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!("the hypervisor took over {:.0} % of the processor time", 100.0 * limits::STEAL),
        detail: format!("the hypervisor took {:.1} % of the processor time", 100.0 * share),
        meaning: "The hypervisor gave the processors to other guests, which lengthens latencies.",
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
        /// What the rate counts, such as `accepted`.
        what: &'static str,
        /// Rate in the window.
        met_per_s: f64,
        /// Rate the scenario asks for.
        offered_per_s: f64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "less than {:.0} % of an open loop's offered rate was accepted (with datagrams: completed) in the window",
            100.0 * limits::RATE_MET
        ),
        detail: format!("{met_per_s:.0}/s {what} of {offered_per_s:.0}/s offered"),
        meaning: "The server, or the supply of ports, could not keep up with the offered rate: the longer the trial, the longer the \
                  latencies.",
        remedy: Some("Lower `load.rate`, or let `[search]` find the highest rate that can be met."),
    }

    Errors {
        errors: Vec<ErrorCount>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!("over {} % of the connections failed", 100.0 * limits::ERRORS),
        detail: listed(errors),
        meaning: "Some attempts failed, and the latencies do not include them.",
        remedy: Some("Fix what the errors point to, or lower the load."),
    }

    PortsScarce {
        /// The most ports in use or in TIME_WAIT at once.
        peak: u64,
        /// Number of ephemeral ports.
        capacity: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "over {:.0} % of the ephemeral ports were in use or in TIME_WAIT; not given if listenbench chooses the ports itself \
             (`explicit`)",
            100.0 * limits::PORTS
        ),
        detail: format!("up to {peak} of {capacity} ports were in use or in TIME_WAIT"),
        meaning: "Once half of the ephemeral ports are taken, connect() spends milliseconds searching for a free one: the trial \
                  measured the port range.",
        remedy: Some("Set `load.close_how = \"rst\"`, or widen `sysctl.ip_local_port_range`."),
    }

    BeyondRange {
        /// Latencies over 60 s.
        values: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "latencies over 60 s were recorded as 60 s",
        detail: format!("{} as 60 s", counted(*values, "latency over 60 s was recorded", "latencies over 60 s were recorded")),
        meaning: "The longest latencies are longer than shown.",
        remedy: Some("Lower `load.connect_timeout` and `load.reply_timeout`, or the load."),
    }

    TimeWaitOverflow {
        /// Growth of TCPTimeWaitOverflow.
        connections: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "TCPTimeWaitOverflow grew: tcp_max_tw_buckets was reached, and connections skipped TIME_WAIT",
        detail: {
            let connections = counted(*connections, "connection skipped", "connections skipped");
            format!("{connections} TIME_WAIT because tcp_max_tw_buckets was reached")
        },
        meaning: "Ports could be reused sooner than TIME_WAIT allows.",
        remedy: Some("Raise `sysctl.tcp_max_tw_buckets`."),
    }

    StampsImpossible {
        stamps: u64,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "a client found its connection's stamp earlier than its connect() call or later than accept",
        detail: {
            let stamps = counted(*stamps, "stamp is", "stamps are");
            format!("{stamps} earlier than the client's connect() call or later than accept")
        },
        meaning: "The kernel's stamps contradict the clients' clocks: the accept waits cannot be trusted.",
        remedy: Some("Measure with `stamps = \"connect-call\"`, and report this as a bug."),
    }

    DatagramsLost {
        lost: u64,
        sent: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "a socket lost datagrams because its buffer was full",
        detail: {
            let share = 100.0 * *lost as f64 / (*sent).max(1) as f64;
            format!("{} ({share:.1} % of those sent) found the receive buffer full", counted(*lost, "datagram", "datagrams"))
        },
        meaning: "Receive buffers were full, and the lost datagrams were never answered.",
        remedy: Some("Raise `server.receive_buffer` (and the sysctl net.core.rmem_max), or lower the rate."),
    }

    Faults {
        /// Every fault of the scenario.
        faults: Vec<FaultOutcome>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "the scenario has faults; the detail says when each was carried out, or why it was not",
        detail: faults.iter().map(FaultOutcome::to_string).collect::<Vec<_>>().join(", "),
        meaning: "These faults are part of the scenario, and all figures include their effects.",
        remedy: None,
    }

    NoFollowUp {} {
        scope: Trial,
        figures: Valid,
        given_when: "no measured connection was held when `load.follow_up` was due",
        detail: "no measured connection was held when the follow-up was due",
        meaning: "No follow-up was sent, so its latency is unknown.",
        remedy: Some("Start the connections before `load.follow_up`, and make `load.hold` outlast it."),
    }

    DriftInTrial {
        accepts_per_s: Option<Change>,
        /// Peak queue lengths, summed over all workers.
        queued: Option<Change>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "the two halves of the measured window differ in accepts/s or in queue peaks by over {:.0} % and by over {} standard errors \
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
        meaning: "The two halves of the trial differ: its figures do not describe a steady state.",
        remedy: Some("Lengthen `load.warmup`, or lower the load."),
    }

    DriftOverRepetitions {
        /// Label of the ranking metric.
        metric: &'static str,
        /// Relative change from the first repetition to the last.
        change: f64,
        /// The p-value of the Mann–Kendall test.
        p_value: f64,
    } {
        scope: Run,
        figures: Valid,
        given_when: format!(
            "the ranking metric, over all cells together, rose or fell from repetition to repetition by over {:.0} % in total: Kendall's \
             test (Mann 1945) has p ≤ {}; takes at least {} repetitions",
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
        remedy: Some("Rerun when the machine is quiet."),
    }

    Bimodal {
        /// Label of the cell.
        cell: String,
        /// Label of the ranking metric.
        metric: &'static str,
        /// Trials in the lower group.
        low_trials: usize,
        /// Trials in both groups.
        trials: usize,
        /// Mean of the lower group, with its unit.
        low: String,
        /// Mean of the higher group, with its unit.
        high: String,
    } {
        scope: Run,
        figures: Valid,
        given_when: format!(
            "splitting a cell's trials into two groups explains {:.0} % of the ranking metric's variance; takes at least {} trials: a \
             hint, not a test",
            100.0 * limits::BIMODAL_EXPLAINED,
            limits::BIMODAL_TRIALS
        ),
        detail: {
            let others = if trials - low_trials == 1 { "the other" } else { "the others" };
            let lie = if *low_trials == 1 { "lies" } else { "lie" };
            format!("{cell}: {metric}: {low_trials} of {trials} trials {lie} near {low}, {others} near {high}")
        },
        meaning: "The trials of one cell fall into two groups, and the median may represent neither.",
        remedy: Some("Look at the individual trials."),
    }

    IntervalWide {
        /// Label of the widest cell.
        cell: String,
        /// Half-width of the interval ÷ median that the scenario asks for.
        asked: f64,
        /// The same as reached; `None` if there are too few trials for an interval.
        reached: Option<f64>,
        /// Valid trials of the cell.
        trials: usize,
    } {
        scope: Run,
        figures: Valid,
        given_when: "the intervals never became as narrow as `[stop]` asks",
        detail: {
            let trials = *trials as u64;
            let reached = match reached {
                None => counted(trials, "valid trial is too few for an interval", "valid trials are too few for an interval"),
                Some(reached) => format!("{} reached ±{:.1} %", counted(trials, "valid trial", "valid trials"), 100.0 * reached),
            };
            format!("{cell}: ±{:.1} % was asked for; {reached}", 100.0 * asked)
        },
        meaning: "The intervals are wider than the scenario asks.",
        remedy: Some("Raise `stop.max_repetitions`, lengthen `load.duration`, or use a quieter machine."),
    }
}
