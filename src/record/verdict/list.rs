//! The list of verdicts, each with its data, texts and effect on the trial.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};

use super::{
    Change, EventOutcome, Figures, Imbalance, Nothing, Scope, SoFar, Unfinished, all, listed, names, queues, said,
    sent, slow,
};
use crate::{
    format::{self, counted, number, p_equals, percent, thousands},
    record::{ErrorCount, EventKind, Exit, ForeignMember, Handshakes, ProbeLevel, Statuses, Step, Whose},
};

/// Thresholds of the verdict rules.
pub mod limits {
    /// From this share on of the processor time that it could get, a loader is too busy to be punctual.
    pub const BUSY: f64 = 0.9;
    /// Largest share of the starts that may still be due after a loader has made as many as it makes at once.
    pub const STARTS_QUEUED: f64 = 0.01;
    /// Largest share of the attempts that may fail, unless failures are what was asked about.
    pub const FAILURES: f64 = 0.05;
    /// Largest p99 of the send lag, as a share of the median response, that goes without mention.
    pub const SEND_LAG: f64 = 0.1;
    /// Largest share of the processor time that the hypervisor may take.
    pub const STEAL: f64 = 0.05;
    /// Largest share of the processor time that other processes may use. Clean-up and kernel threads stay well below it.
    pub const OTHERS: f64 = 0.15;
    /// Smallest share of an open loop's rate that must be met. The window's end cuts off a few connections; an overload, many more.
    pub const RATE_MET: f64 = 0.95;
    /// Largest share of the connections that may fail.
    pub const ERRORS: f64 = 0.001;
    /// Largest share of the accepts whose exact wait may be unknown.
    pub const UNSTAMPED: f64 = 0.001;
    /// Largest share of another server's accepts that may come from clients other than the loaders: a health check stays below it.
    pub const OTHER_CLIENTS: f64 = 0.01;
    /// Largest share of the ephemeral ports that may be taken.
    pub const PORTS: f64 = 0.5;
    /// Share of the table of tracked connections from which it is nearly full.
    pub const CONNTRACK: f64 = 0.9;
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
    /// Largest number of events that an observation may lose, as a share of the accepts.
    pub const LOST_EVENTS: f64 = 0.01;
    /// Share of a listener's accepts from which on one of several members takes nearly everything.
    pub const CONCENTRATED: f64 = 0.9;
    /// Fewest accepts of a listener from which to judge how its members share them.
    pub const ACCEPTS_TO_JUDGE: u64 = 100;
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

            /// What to do about it, as a sentence.
            pub fn remedy(self) -> &'static str {
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
        remedy: "Make sure that no other program uses the server's port, and that rules of your own (`firewall.rules`) drop no datagrams, which nobody \
                 counts; if so, and `probe.missed_runs` is 0 or null, report it as a bug.",
    }

    Misdelivered {
        /// Replies that reached the wrong connection.
        replies: u64,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "a reply belonged to another connection, request or 4-tuple; not given with `foreign-members`, whose replies belong nowhere",
        detail: counted(*replies, "reply belongs to another connection", "replies belong to another connection"),
        meaning: "Clients received replies meant for others: the figures cannot be trusted.",
        remedy: "Make sure that nothing between client and server rewrites packets; if nothing does, report it as a bug.",
    }

    HandshakesDiffer {
        /// What loaders counted.
        clients: Handshakes,
        /// What our server counted.
        server: Handshakes,
        /// Connections that failed, of which the two may think differently.
        failed: u64,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "loaders and our own server counted different numbers of TLS handshakes, or of resumed ones, and not as many connections failed",
        detail: format!(
            "clients completed {} ({} resumed), the server {} ({} resumed), and {} failed",
            counted(clients.completed, "TLS handshake", "TLS handshakes"),
            thousands(clients.resumed as f64),
            thousands(server.completed as f64),
            thousands(server.resumed as f64),
            counted(*failed, "connection", "connections")
        ),
        meaning: "Client and server do not agree on what happened, so that rates and times of handshakes cannot be trusted.",
        remedy: "Make sure that nothing between client and server ends TLS; if nothing does, report it as a bug.",
    }

    ForeignMembers {
        /// Who joined.
        members: Vec<ForeignMember>,
        /// Connections that they got together.
        taken: u64,
        /// Datagrams that no worker received and no queue lost: theirs.
        datagrams: u64,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "a process outside of the trial had a socket on the server's address and port, before the trial or during it",
        detail: {
            let got = [counted(*taken, "connection", "connections"), counted(*datagrams, "datagram", "datagrams")];
            let got: Vec<&str> =
                [*taken, *datagrams].iter().zip(&got).filter(|(count, _)| **count > 0).map(|(_, got)| &got[..]).collect();
            let got = if got.is_empty() { String::new() } else { format!(", and got {}", got.join(" and ")) };
            format!("{} had a socket on the server's address and port{got}", names(members))
        },
        meaning: "The kernel gave that process a share of the load: the figures describe only a part of it.",
        remedy: "Stop the process, choose another `port`, or let the trial have a network of its own (`network = \"netns\"`).",
    }

    ForeignConnections {
        /// Connections that did not come from a loader.
        foreign: u64,
        /// The same of datagrams.
        datagrams: u64,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "with `network = \"host\"`, the server got connections or, in a job of several hosts, datagrams that did not come from a loader",
        detail: {
            let got = [(foreign, "connection", "connections"), (datagrams, "datagram", "datagrams")];
            let got = got.into_iter().filter(|(count, ..)| **count > 0).map(|(count, one, many)| counted(*count, one, many));
            format!("{} that the server got did not come from a loader", got.collect::<Vec<_>>().join(" and "))
        },
        meaning: "Another program used the server's port during the trial, and what that cost is in the figures.",
        remedy: "Make sure that no other program connects to the server's port; if none does, report it as a bug.",
    }

    OtherClients {
        /// Connections, or datagrams, that did not come from a loader.
        foreign: u64,
        /// All that the server accepted, or received.
        accepted: u64,
        /// Whether these are datagrams.
        datagrams: bool,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "over {:.0} % of the connections that another server than listenbench's accepted, or of the connections or datagrams that \
             listenbench's got with `hosts.admit = \"anyone\"`, did not come from a loader",
            100.0 * limits::OTHER_CLIENTS
        ),
        detail: {
            let of = if *datagrams { "datagrams received" } else { "accepted connections" };
            format!("{foreign} of {accepted} {of} came from other clients")
        },
        meaning: "The server had other clients beside the loaders, such as health checks: accepts/s and what its members did include their connections, accept waits don't.",
        remedy: "Keep them away from the server during the run, unless they belong to what you are measuring.",
    }

    SubjectEnded {
        /// The server's name.
        name: String,
        /// From the trial's start, in seconds.
        after_s: f64,
        /// How its first process ended, if that is known.
        exit: Option<Exit>,
        /// The last line that it printed, if that could be seen.
        last_output: Option<String>,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "a server other than listenbench's stopped listening before the load was over; what follows from that, such as failed \
                     attempts, gets no verdict of its own",
        detail: {
            let exit = exit.as_ref().map(|exit| if exit.is_ok() { ": exit status 0".to_owned() } else { format!(": {exit}") });
            let last_output = last_output.as_ref().map(|line| format!("; its last output: {line}"));
            let [exit, last_output] = [exit, last_output].map(Option::unwrap_or_default);
            format!("{name} stopped listening after {after_s:.1} s of the trial{exit}{last_output}")
        },
        meaning: "From then on, nobody served the load.",
        remedy: "Look for the cause in the server's output, which the record keeps if the trial started it, and in its own log.",
    }

    EventFailed {
        /// Its number in the scenario.
        event: usize,
        kind: EventKind,
        /// How many of its occurrences failed, and of how many.
        failed: usize,
        occurrences: usize,
        /// What went wrong the first time.
        why: String,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "the signal of an event could not be sent to another server, or the command of an event could not be started or ended with an error",
        detail: match occurrences {
            1 => format!("event {event} ({kind}): {why}"),
            _ => format!("event {event} ({kind}), {failed} of {occurrences} times: {why}"),
        },
        meaning: "What the scenario asks about did not happen to the server, or not as it was meant.",
        remedy: "Try the command of the event by hand; what it printed is in the server's output, which the record keeps.",
    }

    ProbeLostEvents {
        lost: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "the probe missed an event: a map was full, or an accept showed nowhere; `observe` gives it if \
             events were lost that are over {:.0} % of the accepts",
            100.0 * limits::LOST_EVENTS
        ),
        detail: counted(*lost, "event was not recorded", "events were not recorded"),
        meaning: "Members may have accepted more than was counted, or waited differently from what was recorded: where a trial's connections \
                  add up, no accept is missing.",
        remedy: "Run fewer processes and threads; if it stays, report it as a bug.",
    }

    AcceptsUnstamped {
        unstamped: u64,
        accepts: u64,
        /// How a probe stamped them; `None` if our own server did.
        probe: Option<ProbeLevel>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!("where accept waits are exact, over {} % of the accepts have none", 100.0 * limits::UNSTAMPED),
        detail: {
            let part = *unstamped as f64 / (*accepts).max(1) as f64;
            let of = format!("{} of {}", thousands(*unstamped as f64), counted(*accepts, "accept", "accepts"));
            let above = number((accepts.saturating_sub(*unstamped).saturating_mul(1_000) / (*accepts).max(1)) as f64 / 10.0);
            let better = match probe {
                Some(ProbeLevel::Tracepoints) => "; `probe = \"btf\"`, as root, may know more of them",
                _ => "",
            };
            format!(
                "the wait of {of} ({}) is unknown: percentiles above {above} may be far higher than shown{better}",
                format::share(part)
            )
        },
        meaning: "It is unknown when these connections were established: accept waits, and the number of those that were due, are without them. They may have \
                  waited longer than all others.",
        remedy: "Judge by percentiles below the part whose wait is known, as the detail says. If the number of unknown waits grows with the rate, lower the rate.",
    }

    ProcessDied {
        /// Name and pid of the process.
        process: String,
        exit: Exit,
        /// Connections and flows that it had in progress, if only it knew what became of them.
        in_flight: u64,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "a worker, a loader, another process of the trial, or a member of another server, ended early with an error or had to be killed, other than by an event in the scenario",
        detail: match in_flight {
            0 => format!("{process}: {exit}"),
            1 => format!("{process}: {exit}; what became of its connection in progress is unknown"),
            count => format!("{process}: {exit}; what became of its {count} connections in progress is unknown"),
        },
        meaning: "The trial lacked a part of its server or of its load from then on.",
        remedy: "Look for the cause on standard error and in the kernel log (the out-of-memory killer, for example).",
    }

    HostDied {
        /// Its rank in the job.
        rank: usize,
        name: String,
        /// What was noticed.
        how: Exit,
        /// From the trial's start, in seconds.
        after_s: f64,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "with several hosts, the connection to one of them ended during a trial, nothing came from it for too long, or it was told to end; \
                     what follows from that, such as failed attempts, gets no verdict of its own",
        detail: format!("{name} (rank {rank}) left the trial after {after_s:.1} s: {how}"),
        meaning: "From then on the load lacked that host's part, and the other hosts ended theirs. What they measured stays in the record; of \
                  that host only counts do, unless it could still send the rest.",
        remedy: "Look for the cause on that host: the launcher's output, standard error, the kernel log (the out-of-memory killer, for \
                 example), its network.",
    }

    Interrupted {
        so_far: SoFar,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "the user ended the run before the load, or the fill of the ports, had finished; what follows from that gets no verdict of its own",
        detail: so_far.to_string(),
        meaning: "The trial's figures are those of a shorter time than the scenario asks for: they stay in the record, and out of the summary.",
        remedy: "Run the scenario again and let it end; `--list` says how long it takes.",
    }

    RoutingChanged {
        so_far: SoFar,
        /// Which address is affected, and where packets would go.
        why: String,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "with `network = \"host\"`, a change of the machine's devices, addresses, routes or rules would have led packets to other machines \
                     during the load, which was ended; what follows from that gets no verdict of its own",
        detail: format!("{so_far}: {why}"),
        meaning: "The trial's figures are those of a shorter time than the scenario asks for, and its last packets may have gone astray: they stay in \
                  the record, and out of the summary.",
        remedy: "Leave this machine's network alone during a run, or use `network = \"netns\"`.",
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
        remedy: "Lower the load, or raise `deadline`.",
    }

    NothingMeasured {
        /// Why there is nothing.
        nothing: Nothing,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "no connection was due in the window, none was completed, or the fill of the ports stopped early",
        detail: match nothing {
            Nothing::Due => "no connection was due in the measured window".to_owned(),
            Nothing::Completed { attempted, errors, first } => {
                let attempts = counted(*attempted, "attempt", "attempts");
                format!("none of {attempts} was completed: {}{}", listed(errors), sent(first))
            }
            Nothing::Filled { established, capacity, errors } => {
                format!("the fill stopped at {established} of {capacity} connections: {}", listed(errors))
            }
        },
        meaning: "There is nothing to measure.",
        remedy: "Lengthen the load (`load.duration` or `load.connections`), shorten `load.warmup`, or fix what the errors point to. Connects that time out may meet rules of a packet filter: the report's conditions name those that there were.",
    }

    RulesBypassed {
        /// Connections that reached the server.
        established: u64,
        /// Packets that passed the generated rules.
        passed: u64,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: "more connections were established than packets passed the rules that `firewall` generates",
        detail: format!(
            "{} established, and only {} passed the rules",
            counted(*established, "connection was", "connections were"),
            counted(*passed, "packet", "packets")
        ),
        meaning: "Connections came another way than through the rules, whose cost the figures then do not show.",
        remedy: "Look in the user's ruleset (`firewall.rules`) for what changes the port of packets before the input hook, or counters after it.",
    }

    LoaderSaturated {
        /// The population whose loaders these are, if there are several.
        population: Option<String>,
        /// What was due: `starts` of connections or, where they are kept, `requests`.
        what: &'static str,
        /// Starts per second that the schedule asks for; `None` for bursts, whose starts have no rate.
        offered_per_s: Option<f64>,
        /// Starts that were still due after their loader had made 64 at once.
        queued: u64,
        /// All starts due in the window.
        planned: u64,
        /// Share that the busiest loader used of the processor time it could get; `None` if unknown.
        busiest: Option<f64>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "in an open loop, or where connections are kept, a loader used at least {:.0} % of the processor time it could get (`busy_share`; not with `load.pacer = \"spin\"`, \
             which never sleeps), or over {:.0} % of the starts were still due after their loader had made 64 at once",
            100.0 * limits::BUSY,
            100.0 * limits::STARTS_QUEUED
        ),
        detail: {
            let rate = offered_per_s.map_or_else(String::new, |per_s| format!(" at {per_s:.0}/s"));
            let late = format!("{queued} of {planned} {what}{rate} were still due after 64 had been made at once");
            let late = (*queued > 0).then_some(late);
            let busy = busiest.map(|share| format!("the busiest loader used {:.0} % of the time it could get", 100.0 * share));
            let whose = population.as_ref().map_or_else(String::new, |name| format!("{name}: "));
            whose + &late.into_iter().chain(busy).collect::<Vec<_>>().join("; ")
        },
        meaning: "The loaders lacked processor time: connections began later than intended, and their latencies include the delay.",
        remedy: "Lower the rate, or give the loaders more processors: those of a larger machine, or of more load hosts.",
    }

    QueueOverflow {
        /// Growth of ListenOverflows.
        dropped: u64,
        /// The longest backlog in effect; `None` if no listener is known.
        limit: Option<u64>,
        /// The sysctl net.core.somaxconn of the server's network, if it can be read.
        somaxconn: Option<u64>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "ListenOverflows grew: an accept queue was full",
        detail: {
            let dropped = counted(*dropped, "segment was dropped", "segments were dropped");
            let limit = limit.map(|limit| match somaxconn {
                Some(somaxconn) if limit < *somaxconn => format!(" (limit {limit}, the server's backlog)"),
                Some(somaxconn) if limit == *somaxconn => format!(" (limit {limit}, net.core.somaxconn)"),
                _ => format!(" (limit {limit})"),
            });
            format!("{dropped} at a full accept queue{}", limit.unwrap_or_default())
        },
        meaning: "An accept queue was full, and connections had to retry.",
        remedy: "Raise what limits the queue, unless overflow is what you are measuring: the server's backlog (`server.backlog` for listenbench's own) or \
             net.core.somaxconn (`sysctl.somaxconn`; with `network = \"host\"`, `sysctl -w` before the server starts).",
    }

    DescriptorsUsedUp {
        /// Accepts that failed.
        refused: u64,
        /// Members among which they did, and all.
        members: (usize, usize),
        /// Connections that were accepted with a spare descriptor, and closed.
        shed: u64,
        /// The lowest limit of these members' open files, if it is known.
        limit: Option<u64>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "a member of the server, or its helper, had no descriptor left for a connection: accepts failed with EMFILE or, for the whole machine, \
                     ENFILE, by the count of our own workers or of a probe; what follows from that gets no verdict of its own",
        detail: {
            let who = match members {
                (0, _) => "the helper".to_owned(),
                (some, all) => format!("{some} of {}", counted(*all as u64, "member", "members")),
            };
            let limit = limit.map_or_else(String::new, |limit| format!(" (limit {limit})"));
            let shed = (*shed > 0).then(|| format!("; {} closed at once", counted(*shed, "connection was", "connections were")));
            let refused = counted(*refused, "accept", "accepts");
            format!("{who} had no descriptor left{limit}: {refused} failed{}", shed.unwrap_or_default())
        },
        meaning: "The server had no file descriptor left for another connection; what else it has open counts towards the limit, too. Connections waited \
                  in its queue, or were closed or lost: what clients saw is the limit's doing. While fewer are accepted than arrive, the queue grows, and \
                  latencies depend on how long the trial lasts.",
        remedy: "Raise the limit, unless that is what you are measuring: `server.open_files` or, where that is not set, `ulimit -n`; for a server of \
                 your own, also what its configuration says (nginx: `worker_rlimit_nofile`), or its service (LimitNOFILE=). Or use more \
                 workers.",
    }

    FellBack {
        fell_back: u64,
        established: u64,
        /// SYNs that the kernel sent again: it leaves the option out of a connection's later ones.
        syn_retries: u64,
        /// Connections for which the kernel no longer asked, because earlier ones were answered only without MPTCP.
        disabled: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "connections of the loaders were plain TCP, though `protocol` is `mptcp`, by getsockopt(MPTCP_INFO) on each",
        detail: {
            let of = counted(*established, "connection", "connections");
            let retries = match syn_retries {
                0 => String::new(),
                some => format!("; {} sent again", counted(*some, "SYN was", "SYNs were")),
            };
            let disabled = match disabled {
                0 => String::new(),
                some => format!("; for {some}, the kernel no longer asked (MPCapableSYNTXDisabled)"),
            };
            format!("{fell_back} of {of} fell back to TCP{retries}{disabled}")
        },
        meaning: "The figures include connections by plain TCP, though the trial was to measure MPTCP.",
        remedy: "If all fell back, the server does not speak MPTCP, or something on the way removes the option: start the server through `mptcpize run`, or switch \
                 MPTCP on in its configuration. If some did, their first SYNs were lost, and the kernel leaves the option out of later ones \
                 (net.mptcp.syn_retrans_before_tcp_fallback), and for an hour out of all (net.mptcp.blackhole_timeout).",
    }

    SynQueueOverflow {
        /// Growth of TCPReqQFullDrop.
        dropped: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "TCPReqQFullDrop grew: a SYN queue was full, and SYN cookies are off",
        detail: format!("{} at a full SYN queue", counted(*dropped, "SYN was dropped", "SYNs were dropped")),
        meaning: "The queue of unfinished handshakes was full, and clients had to send their SYNs again.",
        remedy: "Raise what limits the queue, unless overflow is what you are measuring: the server's backlog (`server.backlog` for listenbench's own) or \
             net.core.somaxconn (`sysctl.somaxconn`; with `network = \"host\"`, `sysctl -w` before the server starts).",
    }

    SynCookies {
        /// Growth of SyncookiesSent.
        sent: u64,
        /// Growth of SyncookiesRecv.
        returned: u64,
        /// Connections that only the server has.
        server_only: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "SyncookiesSent or SyncookiesRecv grew: the kernel answered SYNs with cookies, because a SYN queue was full or \
                     tcp_syncookies is 2",
        detail: {
            let sent = counted(*sent, "SYN was answered", "SYNs were answered");
            let returned = counted(*returned, "segment", "segments");
            let server_only = match server_only {
                0 => String::new(),
                more => format!(
                    "; {} on the server only",
                    counted(*more, "connection was established", "connections were established")
                ),
            };
            format!("{sent} with a cookie, and {returned} with a valid one came back{server_only}")
        },
        meaning: "The server keeps no state of a handshake with a cookie: a client may hold a connection that the server does not have \
                  yet, and the server one that its client has given up.",
        remedy: "Raise what limits the queue, the server's backlog (`server.backlog` for listenbench's own) or net.core.somaxconn, or set \
             tcp_syncookies to 0: by `sysctl.…` or, with `network = \"host\"`, by `sysctl -w`.",
    }

    SynRetries {
        /// Segments retransmitted, without tail loss probes.
        segments: u64,
        /// How many of those were SYNs.
        syns: u64,
        /// Tail loss probes.
        probes: u64,
        /// Number of connects that took just over N whole seconds, by N.
        slow: BTreeMap<u64, u64>,
        /// Segments dropped at full accept queues.
        at_accept_queues: u64,
        /// SYNs dropped at full SYN queues.
        at_syn_queues: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "RetransSegs grew by more than TCPLossProbes, or TCPSynRetrans or TCPTimeouts grew: segments, perhaps SYNs, were \
                     retransmitted; the detail counts the connects that took whole seconds because of it, and the drops at full accept \
                     queues and SYN queues; `observe` gives it only if SYNs were among the segments",
        detail: {
            let at_accept_queues = counted(*at_accept_queues, "segment was dropped", "segments were dropped");
            let at_syn_queues = counted(*at_syn_queues, "SYN", "SYNs");
            let dropped = match slow.is_empty() {
                true => String::new(),
                false => format!("; {at_accept_queues} at full accept queues, and {at_syn_queues} at full SYN queues"),
            };
            let segments = counted(*segments, "segment was retransmitted", "segments were retransmitted");
            let syns = match syns {
                0 => "none of them a SYN".to_owned(),
                1 => "1 of them a SYN".to_owned(),
                several => format!("{several} of them SYNs"),
            };
            let probes = match probes {
                0 => String::new(),
                1 => "; 1 tail loss probe, which comes sooner and needs no loss, is not counted".to_owned(),
                several => format!("; {several} tail loss probes, which come sooner and need no loss, are not counted"),
            };
            format!("{segments} ({syns}){}{dropped}{probes}", self::slow(slow))
        },
        meaning: "A lost segment is retransmitted only after 200 ms or more, and the latencies include the delay.",
        remedy: "Find out where segments are lost: at full accept queues, at full SYN queues, or in the network.",
    }

    CpuSteal {
        /// Share of the processor time.
        share: f64,
        /// The host that it is of, if there are several.
        host: Option<String>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "the hypervisor took over {:.0} % of the processor time; of several hosts, on one of them (`cpu_steal_share`)",
            100.0 * limits::STEAL
        ),
        detail: {
            let host = host.as_ref().map_or_else(String::new, |host| format!(" of {host}"));
            format!("the hypervisor took {:.1} % of the processor time{host}", 100.0 * share)
        },
        meaning: "The hypervisor gave the processors to other guests, which lengthens latencies.",
        remedy: "Repeat on a quieter machine.",
    }

    CpuContended {
        /// Share of the processor time.
        share: f64,
        /// The host that it is of, if there are several.
        host: Option<String>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "other processes used over {:.0} % of the processor time (`cpu_others_share`); of several hosts, on one of them",
            100.0 * limits::OTHERS
        ),
        detail: {
            let host = host.as_ref().map_or_else(String::new, |host| format!(" of {host}"));
            format!("other processes used {:.0} % of the processor time{host}", 100.0 * share)
        },
        meaning: "Other programs competed for the processors, which lengthens latencies.",
        remedy: "Stop them, or repeat on a quieter machine.",
    }

    Failures {
        failed: u64,
        attempted: u64,
        errors: Vec<ErrorCount>,
        /// What the server sent that was not expected; empty if it did not.
        first: String,
    } {
        scope: Trial,
        figures: Invalid,
        given_when: format!(
            "over {:.0} % of the attempts failed, and none of the scenario's `answers` is about failures",
            100.0 * limits::FAILURES
        ),
        detail: {
            let (of_server, of_clients): (Vec<_>, Vec<_>) = errors.iter().cloned().partition(|error| error.phase == Step::Accept);
            let server = if of_server.is_empty() { String::new() } else { format!("; of the server: {}", listed(&of_server)) };
            format!("{failed} of {attempted} attempts failed: {}{}{server}", listed(&of_clients), sent(first))
        },
        meaning: "Too many attempts failed: the trial did not carry the load that it was to measure.",
        remedy: "Fix what the errors point to, or lower the load; if failures are what you ask about, list one of their metrics in \
             `answers`, such as `lost_connections_share`.",
    }

    RateUnmet {
        /// The population that it is of, if there are several.
        population: Option<String>,
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
            "less than {:.0} % of an open loop's offered rate was accepted in the window (of datagrams, of kept connections' requests, and of each of \
             several populations: answered, sooner or later), and the scenario's events did not lose what is missing",
            100.0 * limits::RATE_MET
        ),
        detail: {
            let whose = population.as_ref().map_or_else(String::new, |name| format!("{name}: "));
            format!("{whose}{met_per_s:.0}/s {what} of {offered_per_s:.0}/s offered")
        },
        meaning: "Part of what was offered in the window was not served in it: it waited, had to retry or failed, so latencies and losses \
                  depend on the trial's length.",
        remedy: "Offer less, unless overload, or the highest rate, is what you are measuring.",
    }

    Errors {
        errors: Vec<ErrorCount>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!("over {} % of the connections failed, without those lost to the scenario's events and those of `unexpected-replies`", 100.0 * limits::ERRORS),
        detail: listed(errors),
        meaning: "Percentiles count attempts that failed as slower than any other; means leave them out.",
        remedy: "Fix what the errors point to, or lower the load.",
    }

    ErrorReplies {
        statuses: Statuses,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!("over {} % of the HTTP replies have a status of 4xx or 5xx", 100.0 * limits::ERRORS),
        detail: format!("{} of {}: {statuses}", statuses.errors(), counted(statuses.all(), "reply", "replies")),
        meaning: "The server refused or failed these requests. Their replies count as completed, and may be quicker than the ones you want to measure.",
        remedy: "Check `load.path`, `load.host` and the server's own log.",
    }

    MixedEngines {
        /// `workers` or `loaders`.
        whose: String,
        /// The key that let each of them choose.
        key: String,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "with the engine `auto`, some workers or loaders could have an io_uring and others could not",
        detail: format!("some {whose} use io_uring, the others epoll, as `{key}` lets each choose"),
        meaning: "The trial measured a mixture of two engines.",
        remedy: "Choose one, or raise what ran short: for users other than root, as a rule the memory that may be locked (`ulimit -l`).",
    }

    UnexpectedReplies {
        count: u64,
        /// How one of the first began.
        first: String,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "a server's reply with app `line` does not begin as `load.expect` says",
        detail: format!("{} than `load.expect` says{}", counted(*count, "reply began otherwise", "replies began otherwise"), said(first)),
        meaning: "The server answered, but not as the scenario expects. These connections count as failed: percentiles take them as slower than any other; means leave them out.",
        remedy: "Compare the reply with `load.expect`; if it is an error, correct `load.send`, or look at the server's own log.",
    }

    ServerSpoke {
        count: u64,
        established: u64,
        /// How what it sent on one of the first began.
        first: String,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "a server sends something to clients that say nothing (app `connect`)",
        detail: format!("on {count} of {}{}", counted(*established, "connection", "connections"), said(first)),
        meaning: "Clients of app `connect` ask for nothing, and ignore what they get. A greeting does no harm; if it is a refusal, these connections were of no use.",
        remedy: "If it is a greeting, app `line` with an empty `load.send` can check it; if it is a refusal, raise the server's limit of connections.",
    }

    PortsScarce {
        /// The most ports in use or in TIME_WAIT at once.
        peak: u64,
        /// Number of ephemeral ports.
        capacity: u64,
        /// The host whose ports these are, if there are several.
        host: Option<String>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "over {:.0} % of the ephemeral ports were in use or in TIME_WAIT; not given if listenbench chooses the ports itself \
             (`explicit`)",
            100.0 * limits::PORTS
        ),
        detail: {
            let host = host.as_ref().map_or_else(String::new, |host| format!(" of {host}"));
            format!("up to {peak} of {capacity} ports{host} were in use or in TIME_WAIT")
        },
        meaning: "Once half of the ephemeral ports are taken, connect() spends milliseconds searching for a free one: the trial \
                  measured the port range.",
        remedy: "Set `load.close_how = \"rst\"`, or widen `ip_local_port_range`: by `sysctl.…` or, with `network = \"host\"`, by `sysctl -w` where the \
             loaders are.",
    }

    ConntrackFull {
        network: Whose,
        limit: u64,
        /// Packets dropped because no entry could be made for them.
        dropped: u64,
        /// Entries removed to make room.
        evicted: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "connection tracking dropped packets, or removed entries early, with its table at least {:.0} % full",
            100.0 * limits::CONNTRACK
        ),
        detail: format!(
            "the table of {} had no room beyond {} entries: {} dropped, and {} removed to make room",
            network.words(),
            thousands(*limit as f64),
            counted(*dropped, "packet was", "packets were"),
            counted(*evicted, "entry was", "entries were")
        ),
        meaning: "A connection without an entry does not begin: its SYN is dropped without an error, and the client repeats it after a second or more, until \
                  it times out. What is measured is the table.",
        remedy: "Raise net.netfilter.nf_conntrack_max in the initial network namespace (others cannot set it), let entries go sooner \
                 (net.netfilter.nf_conntrack_tcp_timeout_time_wait), or exempt the server's port (`notrack`).",
    }

    ConntrackNear {
        network: Whose,
        /// The most entries at once.
        peak: u64,
        limit: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "the table of tracked connections was at least {:.0} % full, and connection tracking dropped nothing",
            100.0 * limits::CONNTRACK
        ),
        detail: format!(
            "{} tracked up to {} connections, of at most {}",
            network.words(),
            thousands(*peak as f64),
            thousands(*limit as f64)
        ),
        meaning: "A little more load fills the table, and then SYNs are dropped without an error. From 95 % on, the kernel removes entries of connections \
                  that are closing.",
        remedy: "Raise net.netfilter.nf_conntrack_max in the initial network namespace (others cannot set it), let entries go sooner \
                 (net.netfilter.nf_conntrack_tcp_timeout_time_wait), or exempt the server's port (`notrack`).",
    }

    NatPortsShort {
        /// Packets that were dropped because another connection had the port.
        dropped: u64,
        /// Packets that began a connection and came to NAT, if that was counted.
        begun: Option<u64>,
        /// The most entries at once in the table that NAT takes ports by.
        taken: u64,
        /// Ports that NAT may choose from; `None` for the kernel's choice.
        ports: Option<u64>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "NAT dropped packets that begin a connection because another connection had their port (insert_failed of the loaders' network)",
        detail: {
            let of = begun.map_or_else(String::new, |begun| format!(" of {}", thousands(begun as f64)));
            let ports = ports.map_or_else(String::new, |ports| format!(" of {}", thousands(ports as f64)));
            format!(
                "{}{of} that begin a connection found no free port; up to {}{ports} were taken at once",
                counted(*dropped, "packet", "packets"),
                thousands(*taken as f64)
            )
        },
        meaning: "Without a free port, NAT drops a SYN without an error: the client repeats it after a second or more, until it gets a port or times out. In a range of \
                  over 128 ports the kernel tries only some of them.",
        remedy: "Give NAT more ports (`nat.port_count`) or more addresses, or have connections end sooner. On kernels before about 6.18, a closed one may \
                 keep its port as long as its entry stays (net.netfilter.nf_conntrack_tcp_timeout_time_wait).",
    }

    UpstreamPortsExhausted {
        /// When no source address had a port left, in seconds from the trial's start.
        after_s: f64,
        /// Usable ports of all source addresses that the proxy connected from.
        capacity: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "every port that the proxy could connect to its upstream from was in use or in TIME_WAIT".to_owned(),
        detail: format!("none of the {capacity} ports towards the upstream was free {after_s:.1} s after the start"),
        meaning: "Without a free port, the proxy cannot reach its upstream (EADDRNOTAVAIL), and its clients get errors.",
        remedy: "Let the proxy keep its connections alive, let the upstream close first, or give the proxy more source addresses.",
    }

    UpstreamUnused {
        /// Replies that clients got nonetheless.
        replies: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "with `server.backend`, not a single connection reached the upstream",
        detail: format!(
            "no connection reached the upstream, and clients got {} without it",
            counted(*replies, "reply", "replies")
        ),
        meaning: "What was measured is not a proxy: the server answered by itself, or its connections to the upstream failed.",
        remedy: "Have the server pass requests on to `{backend}`, and look for errors in its output and its logs.",
    }

    UpstreamHeaders {
        /// Those of the upstream that are about headers.
        errors: Vec<ErrorCount>,
        /// Connections that the upstream accepted.
        accepted: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "with `server.backend_proxy_protocol`, the upstream closed connections because they did not begin with a PROXY protocol header",
        detail: format!(
            "the upstream closed {} of {}: {}",
            errors.iter().map(|error| error.count).sum::<u64>(),
            counted(*accepted, "connection", "connections"),
            listed(errors)
        ),
        meaning: "The proxy, or whatever else connects to the upstream, sends no PROXY protocol header that the upstream could read.",
        remedy: "Have the proxy send headers to `{backend}`, as HAProxy does with `send-proxy-v2`, or set `server.backend_proxy_protocol = false`.",
    }

    OddRange {
        /// Connections at the wall.
        wall: u64,
        /// Those that the usable ports allow.
        capacity: u64,
        /// Ports in the range.
        range: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "the wall came before the capacity, by one port of a tuple group at most, in a range of odd size",
        detail: format!("the wall is at {wall} of {capacity} connections, because the range has an odd number of ports ({range})"),
        meaning: "The kernel's search for a port covers an even number of ports, so in a range of odd size each search passes over one: in \
                  about one fill in eight a port stays free.",
        remedy: "Choose a `sysctl.ip_local_port_range` of even size.",
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
        remedy: "Lower `load.connect_timeout` and `load.reply_timeout`, or the load.",
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
        remedy: "Raise `sysctl.tcp_max_tw_buckets`.",
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
        remedy: "Measure with `stamps = \"connect-call\"`, and report this as a bug.",
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
        remedy: "Raise `server.receive_buffer` (and the sysctl net.core.rmem_max), or lower the rate.",
    }

    Events {
        /// Every event of the scenario.
        events: Vec<EventOutcome>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "the scenario has events; the detail says when each was carried out, or why it was not",
        detail: events.iter().map(EventOutcome::to_string).collect::<Vec<_>>().join(", "),
        meaning: "These events are part of the scenario, and all figures include their effects.",
        remedy: "Nothing needs to change. To see the figures without events, run the scenario with `--set event.0.kind=none`.",
    }

    NoFollowUp {} {
        scope: Trial,
        figures: Valid,
        given_when: "no measured connection was held when `load.follow_up` was due",
        detail: "no measured connection was held when the follow-up was due",
        meaning: "No follow-up was sent, so its latency is unknown.",
        remedy: "Start the connections before `load.follow_up`, and make `load.hold` outlast it.",
    }

    DriftInTrial {
        accepts_per_s: Option<Change>,
        /// Peak queue lengths, the mean over all workers.
        queued: Option<Change>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "the two halves of the measured window differ in accepts/s or in queue peaks by over {:.0} % and by over {} standard errors \
             of the rows' scatter; not given with events",
            100.0 * limits::DRIFT_IN_TRIAL,
            limits::DRIFT_STANDARD_ERRORS
        ),
        detail: {
            let accepts = accepts_per_s.map(|Change { before, after }| {
                format!("{before:.0} accepts/s in the first half, {after:.0} in the second")
            });
            let queued = queued.map(|Change { before, after }| {
                format!("queue peaks of {before:.1} connections on average in the first half, {after:.1} in the second")
            });
            accepts.into_iter().chain(queued).collect::<Vec<_>>().join("; ")
        },
        meaning: "The two halves of the trial differ: its figures do not describe a steady state.",
        remedy: "Lengthen `load.warmup`, or lower the load.",
    }

    QueueFull {
        listener: SocketAddr,
        /// Share of the samples that found a queue full.
        full_share: f64,
        /// The most connections in a queue among the samples.
        peak: u32,
        /// The largest of the queues' limits.
        limit: u32,
        /// Segments dropped.
        dropped: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "`observe` found an accept queue full, or its listener dropped segments; not given with `nobody-accepts`",
        detail: format!("{listener}: {}", queues(*full_share, *peak, *limit, *dropped)),
        meaning: "Connections come faster than the server accepts them, and whoever finds a queue full has to try again a second later.",
        remedy: "Let the server accept sooner, or raise its backlog (and the sysctl net.core.somaxconn).",
    }

    NobodyAccepts {
        listener: SocketAddr,
        /// Share of the samples that found a queue full.
        full_share: f64,
        /// The most connections in a queue among the samples.
        peak: u32,
        /// The largest of the queues' limits.
        limit: u32,
        /// Segments dropped.
        dropped: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "`observe` found an accept queue full, or its listener dropped segments, and no member accepted anything",
        detail: format!("{listener}: no connection was accepted; {}", queues(*full_share, *peak, *limit, *dropped)),
        meaning: "The server has a listener and accepts nothing from it: its clients wait without an answer.",
        remedy: "Find out what the processes that have it do: they may be stopped, busy or deadlocked, or hold the listener without knowing. A \
             larger backlog only lets more clients wait.",
    }

    BacklogCapped {
        listener: SocketAddr,
        somaxconn: u32,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "with `queue-full`, and the queue's limit is that of the sysctl net.core.somaxconn",
        detail: format!("{listener}: the limit of its queue is net.core.somaxconn, {somaxconn}"),
        meaning: "The kernel allows no longer queue, whatever backlog the server asks for.",
        remedy: "Raise net.core.somaxconn and the server's backlog, then restart the server: listen() fixes the limit.",
    }

    OneMemberTakesMost {
        listener: SocketAddr,
        /// Name and pid of the member.
        member: String,
        /// Its part of the accepts.
        share: f64,
        /// Accepts of all members.
        accepted: u64,
        /// Number of other members.
        others: usize,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "`observe` saw one of several members accept at least {:.0} % of at least {} connections",
            100.0 * limits::CONCENTRATED,
            limits::ACCEPTS_TO_JUDGE
        ),
        detail: {
            let others = match others {
                1 => "another member has the listener, too".to_owned(),
                several => format!("{several} other members have the listener, too"),
            };
            format!("{listener}: {member} accepted {} of {accepted} connections; {others}", percent(*share))
        },
        meaning: "One member has nearly all connections, and the others hardly any.",
        remedy: "At a low rate this is how EPOLLEXCLUSIVE works; if it stays so under load, let the kernel spread connections (SO_REUSEPORT), \
             or the server.",
    }

    MemberStopped {
        listener: String,
        /// Name and pid of the member.
        member: String,
        /// The state's letter in /proc.
        state: char,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "a process or thread of another server that has the listener was stopped (state T or t): when a trial's load had ended, or while \
                     `observe` watched",
        detail: format!("{listener}: {member} is stopped (state {state})"),
        meaning: "It accepts nothing until somebody continues it, and connections in a queue that it alone serves wait as long.",
        remedy: "Continue it (`kill -CONT`), or end it.",
    }

    QueueStranded {
        /// Connections left in the queues.
        left: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "connections waited in the queues of another server until the trial ended; `rate-unmet`, `errors` and `drift-in-trial`, which may \
                     follow from that, are then not given",
        detail: format!("{} never accepted", counted(*left, "connection that waited in a queue was", "connections that waited in queues were")),
        meaning: "Whoever should have accepted these connections was stopped, was busy with others, or has the listener without accepting from it.",
        remedy: "Look among the members for one that accepted nothing: continue it, or close the listener there. If all accept, the server is \
             overloaded: offer less.",
    }

    NeverAccepts {
        listener: SocketAddr,
        /// Names and pids of the members.
        members: Vec<String>,
        /// Accepts of all others.
        accepted: u64,
    } {
        scope: Trial,
        figures: Valid,
        given_when: format!(
            "`observe` saw members that have the listener accept none of at least {} connections; not given to the parent of a member, nor \
             with `one-member-takes-most` or `member-stopped`",
            limits::ACCEPTS_TO_JUDGE
        ),
        detail: format!("{listener}: {} accepted none of {accepted} connections", all(members)),
        meaning: "Whoever has a listener but accepts nothing from it takes no part in the work.",
        remedy: "If it is meant to accept, find out what keeps it busy; if it has only inherited the descriptor, close it there: a socket of an \
             SO_REUSEPORT group gets its share of the connections even if nobody accepts from it.",
    }

    OpenToAll {
        listener: SocketAddr,
        /// What it is.
        service: &'static str,
        /// Name and pid of the process; `None` if this user may not see it.
        process: Option<String>,
    } {
        scope: Trial,
        figures: Valid,
        given_when: "`observe` found a database or an administrator's port that listens on every address of a network with more than \
                     loopback addresses",
        detail: match process {
            Some(process) => format!("{listener}: {process} listens on every address ({service})"),
            None => format!("{listener}: a process that this user may not see listens on every address, on the port of {service}"),
        },
        meaning: "Whoever reaches this machine can connect, unless a firewall forbids it.",
        remedy: "Bind it to a loopback or an internal address, or let a firewall decide who may connect.",
    }

    DriftOverRepetitions {
        /// Label of the headline's metric.
        metric: &'static str,
        /// Relative change from the first repetition to the last.
        change: f64,
        /// The p-value of the Mann–Kendall test.
        p_value: f64,
    } {
        scope: Run,
        figures: Valid,
        given_when: format!(
            "the headline's metric, over all cells together, rose or fell from repetition to repetition by over {:.0} % in total: Kendall's \
             test (Mann 1945) has p ≤ {}; takes at least {} repetitions",
            100.0 * limits::DRIFT_OVER_REPETITIONS,
            limits::DRIFT_LEVEL,
            limits::DRIFT_REPETITIONS
        ),
        detail: format!(
            "{metric}: {:+.1} % from the first repetition to the last, over all cells ({})",
            100.0 * change,
            p_equals(*p_value)
        ),
        meaning: "The machine became faster or slower during the run. Cells are interleaved, so their ratios hold; absolute figures do \
                  not.",
        remedy: "Rerun when the machine is quiet.",
    }

    Bimodal {
        /// Label of the cell.
        cell: String,
        /// Label of the headline's metric.
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
            "splitting a cell's trials into two groups explains {:.0} % of the variance of the headline's metric; takes at least {} trials: a \
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
        remedy: "Look at the individual trials.",
    }

    Emulated {} {
        scope: Run,
        figures: Valid,
        given_when: "the run's processor was emulated (`virtualization` in `host.json`)",
        detail: "QEMU's TCG emulated the processor",
        meaning: "Counts hold, but times and rates are the emulator's: no difference in them is tested or claimed.",
        remedy: "To judge times, run on a real processor, or in a virtual machine with KVM.",
    }

    IntervalWide {
        /// Label of the widest cell.
        cell: String,
        /// Half-width of the interval ÷ median that the scenario asks for.
        asked: f64,
        /// The same as reached; `None` if there are too few trials for an interval, or an end of it was not reached.
        reached: Option<f64>,
        /// Valid trials of the cell.
        trials: usize,
    } {
        scope: Run,
        figures: Valid,
        given_when: "the intervals never became as narrow as `stop.relative_error` asks",
        detail: {
            let trials = *trials as u64;
            let reached = match reached {
                None => counted(trials, "valid trial gives no interval", "valid trials give no interval"),
                Some(reached) => format!("{} reached ±{:.1} %", counted(trials, "valid trial", "valid trials"), 100.0 * reached),
            };
            format!("{cell}: ±{:.1} % was asked for; {reached}", 100.0 * asked)
        },
        meaning: "The intervals are wider than the scenario asks.",
        remedy: "Raise `stop.max_repetitions`, lengthen the load (`load.duration` or `load.connections`), or use a quieter machine.",
    }
}
