//! A loader's account of what it did, and the total over all loaders.

use serde::{Deserialize, Serialize};

use super::{busy::Busy, client::EXAMPLE_BYTES, course::Happened};
use crate::{
    format,
    ipc::control::{Account, LoaderCount, LoaderKept},
    record::{ClientHandshakes, Due, ErrorCount, Followed, Latency, Measured, Rates, Statuses, Unexpected},
    scenario::{Asking, Bound, Load, Mode, Protocol},
};

/// A loader's account, up to its end.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoaderReport {
    /// Connections and flows begun.
    pub attempted: u64,
    /// Connections among those that reused the socket of an earlier one.
    pub recycled: u64,
    /// Connections among those attempted that continued the requests of one that the server had ended.
    pub reconnected: u64,
    /// Those that replaced one whose lifetime was over.
    pub replaced: u64,
    /// Requests among theirs that the server had left unanswered as it ended the connection.
    pub retried: u64,
    /// Connections established.
    pub established: u64,
    /// Those of them that the kernel connected to themselves.
    pub self_connected: u64,
    /// Those of them that asked for MPTCP and are plain TCP.
    pub fell_back: u64,
    /// Those that asked for it and were reset before it could be seen what they are.
    pub fallback_unknown: u64,
    /// Connections and flows that ran to their planned end, or to a server's close after a reply.
    pub completed: u64,
    /// Established connections that ended without a sign that a worker accepted them.
    pub unserved: u64,
    /// Replies that belong to another connection or request.
    pub misdelivered: u64,
    /// Replies received.
    pub replies: u64,
    /// Replies that are not as the scenario expects; with app `connect`, connections on which the server sent anything.
    pub unexpected: u64,
    /// How the first of them began, as far as it is known.
    pub unexpected_first: Option<Vec<u8>>,
    /// HTTP replies by status; `None` if there were none.
    pub statuses: Option<Statuses>,
    /// Replies checked by their receipt.
    pub verified: u64,
    /// Those of them that came through a proxy or translated addresses: the server saw another 4-tuple.
    pub proxied: u64,
    /// Those of them whose proxy had named this connection to the server.
    pub named: u64,
    /// TLS handshakes.
    pub tls: ClientHandshakes,
    /// SYNs that the kernel sent again.
    pub syn_retries: u64,
    /// Connections that needed them, established or not.
    pub syn_retried: u64,
    /// Stamps earlier than the connect call or later than accept's return. Must be 0.
    pub stamps_impossible: u64,
    /// The account of datagram flows.
    pub flows: Flows,
    /// Starts intended within the measured window.
    pub measured_planned: u64,
    /// When the first of those starts was due, in nanoseconds of CLOCK_MONOTONIC.
    pub measured_first_ns: u64,
    /// When the last of those starts was due.
    pub measured_last_ns: u64,
    /// How many of those starts were still due after as many had been made as are made at once.
    pub measured_queued: u64,
    /// How busy it was in the window; of several loaders, the busiest.
    pub busy: Option<Busy>,
    /// How many of those starts came before the window's end.
    pub measured_in_time: u64,
    /// How many of those connections and flows completed.
    pub measured_completed: u64,
    /// Connections and flows that completed, by when, whenever they were due.
    pub completions: Happened,
    /// Replies that belonged where they arrived, by when.
    pub requests: Happened,
    /// TLS handshakes that were completed, by when.
    pub handshakes: Happened,
    /// When the last connection or flow completed, in nanoseconds of CLOCK_MONOTONIC; 0 if none did.
    pub last_completed_ns: u64,
    /// What was due in the measured window and has no value.
    pub lost: Lost,
    /// When the source ports first ran out, in nanoseconds of CLOCK_MONOTONIC.
    pub first_exhausted_ns: Option<u64>,
    /// Failed connections by phase and errno; their sum is attempted − completed.
    pub errors: Vec<ErrorCount>,
    /// Latencies beyond the histograms' 60 s.
    pub overflows: u64,
    /// Identifies the schedule, if it was followed to its end; `None` in a closed loop.
    pub schedule: Option<u64>,
    /// When the last connection ended, in nanoseconds of CLOCK_MONOTONIC.
    pub ended_ns: u64,
    /// Whether the deadline ended the load.
    pub gave_up: bool,
}

/// Attempts that were due in the measured window and left no value, because they failed or never began. What the user's interruption
/// cut short was not due.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Starts that never came.
    pub starts: u64,
    /// Connections that were never established.
    pub connects: u64,
    /// Connections whose TLS handshake was never completed.
    pub handshakes: u64,
    /// Connections without a sign that a worker accepted them.
    pub waits: u64,
    /// Requests that a connection was to make and that were not answered.
    pub responses: u64,
    /// The same of datagram flows.
    pub flow_responses: u64,
    /// Connections that were to be held when the follow-up was due, and failed before they had its reply.
    pub follow_ups: u64,
}

impl Lost {
    fn add(&mut self, other: Self) {
        self.starts += other.starts;
        self.connects += other.connects;
        self.handshakes += other.handshakes;
        self.waits += other.waits;
        self.responses += other.responses;
        self.flow_responses += other.flow_responses;
        self.follow_ups += other.follow_ups;
    }

    /// How many attempts have no value of a latency.
    pub fn of(&self, latency: Latency, protocol: Protocol) -> u64 {
        match latency {
            Latency::Connect | Latency::ConnectFromIntended => self.connects,
            // Flows and connections have separate latencies if there are both.
            Latency::Response | Latency::Service if protocol == Protocol::Both => self.responses,
            Latency::Response | Latency::Service => self.responses + self.flow_responses,
            Latency::UdpResponse | Latency::UdpService if protocol == Protocol::Both => self.flow_responses,
            Latency::UdpResponse | Latency::UdpService => 0,
            Latency::Tls => self.handshakes,
            Latency::SendLag => self.starts,
            Latency::FollowUp => self.follow_ups,
            // Those are about what failed, or what was started.
            Latency::FailedConnect | Latency::QueuedLag | Latency::TimerLag => 0,
        }
    }
}

impl LoaderReport {
    /// Reads what a loader has counted so far.
    pub fn read(account: &Account) -> Self {
        let of = |count| account.get(count);
        let some = |count| Some(of(count)).filter(|value| *value != 0);
        let statuses = Statuses {
            successful: of(LoaderCount::Successful),
            redirected: of(LoaderCount::Redirected),
            client_errors: of(LoaderCount::ClientErrors),
            server_errors: of(LoaderCount::ServerErrors),
        };
        let busy = Busy {
            cpu_ns: of(LoaderCount::BusyCpuNs),
            waited_ns: of(LoaderCount::BusyWaitedNs),
            span_ns: of(LoaderCount::BusySpanNs),
        };
        Self {
            attempted: of(LoaderCount::Attempted),
            recycled: of(LoaderCount::Recycled),
            reconnected: of(LoaderCount::Reconnected),
            replaced: of(LoaderCount::Replaced),
            retried: of(LoaderCount::Retried),
            established: of(LoaderCount::Established),
            self_connected: of(LoaderCount::SelfConnected),
            fell_back: of(LoaderCount::FellBack),
            fallback_unknown: of(LoaderCount::FallbackUnknown),
            completed: of(LoaderCount::Completed),
            unserved: of(LoaderCount::Unserved),
            misdelivered: of(LoaderCount::Misdelivered),
            replies: of(LoaderCount::Replies),
            unexpected: of(LoaderCount::Unexpected),
            unexpected_first: account.unexpected(),
            statuses: Some(statuses).filter(|statuses| statuses.all() > 0),
            verified: of(LoaderCount::Verified),
            proxied: of(LoaderCount::Proxied),
            named: of(LoaderCount::Named),
            tls: ClientHandshakes {
                completed: of(LoaderCount::Handshakes),
                resumed: of(LoaderCount::HandshakesResumed),
                offered: of(LoaderCount::TicketsOffered),
                without_ticket: of(LoaderCount::TicketsMissing),
                tls_1_3: of(LoaderCount::HandshakesTls13),
                alpn: of(LoaderCount::HandshakesAlpn),
            },
            syn_retries: of(LoaderCount::SynRetries),
            syn_retried: of(LoaderCount::SynRetried),
            stamps_impossible: of(LoaderCount::StampsImpossible),
            flows: Flows {
                begun: of(LoaderCount::Flows),
                sent: of(LoaderCount::Sent),
                replies: of(LoaderCount::FlowReplies),
                stale: of(LoaderCount::Stale),
                sticky: of(LoaderCount::Sticky),
                moved: of(LoaderCount::Moved),
                rebound: of(LoaderCount::Rebound),
                after_rebinding: Followed {
                    stayed: of(LoaderCount::ReboundStayed),
                    moved: of(LoaderCount::ReboundMoved),
                },
                after_reload: Followed { stayed: of(LoaderCount::ReloadStayed), moved: of(LoaderCount::ReloadMoved) },
                by_worker: account.flows(),
            },
            measured_planned: of(LoaderCount::Planned),
            measured_first_ns: of(LoaderCount::FirstPlannedNs),
            measured_last_ns: of(LoaderCount::LastPlannedNs),
            measured_queued: of(LoaderCount::Queued),
            busy: Some(busy).filter(|busy| busy.span_ns > 0),
            measured_in_time: of(LoaderCount::InTime),
            measured_completed: of(LoaderCount::PlannedCompleted),
            completions: Happened {
                inside: of(LoaderCount::CompletedInWindow),
                after: of(LoaderCount::CompletedLater),
                by_us: account.kept(LoaderKept::Completed).collect(),
            },
            requests: Happened {
                inside: of(LoaderCount::AnsweredInWindow),
                after: of(LoaderCount::AnsweredLater),
                by_us: account.kept(LoaderKept::Answered).collect(),
            },
            handshakes: Happened {
                inside: of(LoaderCount::SecuredInWindow),
                after: of(LoaderCount::SecuredLater),
                by_us: account.kept(LoaderKept::Secured).collect(),
            },
            last_completed_ns: of(LoaderCount::LastCompletedNs),
            lost: Lost {
                starts: of(LoaderCount::LostStarts),
                connects: of(LoaderCount::LostConnects),
                handshakes: of(LoaderCount::LostHandshakes),
                waits: of(LoaderCount::LostWaits),
                responses: of(LoaderCount::LostResponses),
                flow_responses: of(LoaderCount::LostFlowResponses),
                follow_ups: of(LoaderCount::LostFollowUps),
            },
            first_exhausted_ns: some(LoaderCount::FirstExhaustedNs),
            errors: account.errors(),
            overflows: of(LoaderCount::Overflows),
            schedule: some(LoaderCount::Schedule),
            ended_ns: of(LoaderCount::EndedNs),
            gave_up: of(LoaderCount::GaveUp) != 0,
        }
    }

    /// The same with instants of a clock that is behind by this much; of one that is ahead, by a negative number.
    pub fn by_clock_behind(self, by_ns: i64) -> Self {
        let shifted = |at_ns: u64| if at_ns == 0 { 0 } else { at_ns.saturating_add_signed(-by_ns) };
        Self {
            measured_first_ns: shifted(self.measured_first_ns),
            measured_last_ns: shifted(self.measured_last_ns),
            last_completed_ns: shifted(self.last_completed_ns),
            first_exhausted_ns: self.first_exhausted_ns.map(shifted),
            ended_ns: shifted(self.ended_ns),
            ..self
        }
    }

    /// Connections and flows that were in progress when the loader counted for the last time: only if it died are there any.
    pub fn in_flight(&self) -> u64 {
        let ended = self.completed + self.errors.iter().map(|error| error.count).sum::<u64>();
        self.attempted.saturating_sub(ended)
    }

    /// What was not expected, as a record says it.
    pub fn unexpected(&self) -> Option<Unexpected> {
        (self.unexpected > 0).then(|| Unexpected {
            count: self.unexpected,
            first: self.unexpected_first.as_deref().map_or_else(String::new, example),
        })
    }

    /// What was due in the window: connections, or requests where these are kept.
    pub fn due(&self) -> Due {
        Due {
            planned: self.measured_planned,
            in_time: self.measured_in_time,
            queued: self.measured_queued,
            completed: self.measured_completed,
        }
    }

    /// Counts of a window of this length, as the clients saw it, without what was due.
    pub fn measured(&self, length_ns: u64) -> Measured {
        Measured {
            completed_in_window: self.completions.within(length_ns),
            completed_in_drain: self.completions.after(length_ns),
            requests_in_window: self.requests.within(length_ns),
            requests_in_drain: self.requests.after(length_ns),
            ..Measured::default()
        }
    }

    /// The rates of a window from one instant to another, as the clients saw it: beside what was offered, and requests if connections
    /// may make several.
    pub fn rates(
        &self,
        (offered_per_s, asks_again, is_secured): (Option<f64>, bool, bool),
        from_ns: u64,
        to_ns: u64,
    ) -> Rates {
        let length_ns = to_ns.saturating_sub(from_ns);
        let length_s = length_ns as f64 / 1e9;
        let per_second = |count: u64| if length_ns > 0 { count as f64 / length_s } else { 0.0 };
        Rates {
            offered_per_s,
            completed_per_s: Some(per_second(self.completions.within(length_ns))),
            requests_per_s: asks_again.then(|| per_second(self.requests.within(length_ns))),
            handshakes_per_s: is_secured.then(|| per_second(self.handshakes.within(length_ns))),
            drain_s: Some(self.last_completed_ns.saturating_sub(to_ns) as f64 / 1e9),
            ..Rates::default()
        }
    }

    /// Starts per second that an open loop's schedule asked for; of kept connections, requests.
    pub fn offered_per_s(&self, load: &Load, bound: Bound, length_s: f64) -> Option<f64> {
        let asked = match &load.mode {
            Mode::Open { arrivals, .. } => arrivals.per_second(),
            Mode::Kept { connections, asking: Asking::Scheduled { rate, .. }, .. } => *connections as f64 * rate,
            // When the server answers decides.
            Mode::Kept { asking: Asking::Thinking(_), .. } | Mode::Closed { .. } => return None,
        };
        let span_s = self.measured_last_ns.saturating_sub(self.measured_first_ns) as f64 / 1e9;
        Some(match bound {
            Bound::Duration(_) if length_s > 0.0 => self.measured_planned as f64 / length_s,
            // n starts have n − 1 gaps between them. A single burst has none, so the scenario's rate is used.
            Bound::Connections(_) if span_s > 0.0 => (self.measured_planned - 1) as f64 / span_s,
            Bound::Duration(_) | Bound::Connections(_) => asked,
        })
    }
}

/// The account of datagram flows. A flow is a client socket with a 4-tuple of its own.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// Flows begun.
    pub begun: u64,
    /// Datagrams sent, one per request.
    pub sent: u64,
    /// Replies received.
    pub replies: u64,
    /// Late replies to earlier, abandoned flows with the same 4-tuple.
    pub stale: u64,
    /// Flows with several replies, all from one worker.
    pub sticky: u64,
    /// Flows with replies from more than one worker.
    pub moved: u64,
    /// Flows that went on from another port.
    pub rebound: u64,
    /// Who answered them next.
    pub after_rebinding: Followed,
    /// Who answered flows next after a reload.
    pub after_reload: Followed,
    /// Flows by the worker that answered first.
    pub by_worker: Vec<u64>,
}

impl Flows {
    fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.sent += other.sent;
        self.replies += other.replies;
        self.stale += other.stale;
        self.sticky += other.sticky;
        self.moved += other.moved;
        self.rebound += other.rebound;
        self.after_rebinding.add(other.after_rebinding);
        self.after_reload.add(other.after_reload);
        self.by_worker.resize(self.by_worker.len().max(other.by_worker.len()), 0);
        for (sum, one) in self.by_worker.iter_mut().zip(&other.by_worker) {
            *sum += one;
        }
    }
}

/// The beginning of what a server sent, as text, with a sign of what is left out.
fn example(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(EXAMPLE_BYTES - 1)];
    format::escaped(shown) + if shown.len() < bytes.len() { "…" } else { "" }
}

/// Adds up the accounts of all loaders.
pub fn total<'a>(reports: impl Iterator<Item = &'a LoaderReport> + Clone) -> LoaderReport {
    let followed = reports.clone().all(|one| one.schedule.is_some());
    let mut sum = reports.fold(LoaderReport::default(), |mut sum, one| {
        sum.attempted += one.attempted;
        sum.recycled += one.recycled;
        sum.reconnected += one.reconnected;
        sum.replaced += one.replaced;
        sum.retried += one.retried;
        sum.established += one.established;
        sum.self_connected += one.self_connected;
        sum.fell_back += one.fell_back;
        sum.fallback_unknown += one.fallback_unknown;
        sum.completed += one.completed;
        sum.unserved += one.unserved;
        sum.misdelivered += one.misdelivered;
        sum.replies += one.replies;
        sum.unexpected += one.unexpected;
        sum.unexpected_first = sum.unexpected_first.take().or_else(|| one.unexpected_first.clone());
        if let Some(statuses) = &one.statuses {
            sum.statuses.get_or_insert_default().add(statuses);
        }
        sum.verified += one.verified;
        sum.proxied += one.proxied;
        sum.named += one.named;
        sum.tls.add(&one.tls);
        sum.syn_retries += one.syn_retries;
        sum.syn_retried += one.syn_retried;
        sum.stamps_impossible += one.stamps_impossible;
        sum.flows.add(&one.flows);
        if one.measured_planned > 0 {
            let first = if sum.measured_planned == 0 { u64::MAX } else { sum.measured_first_ns };
            sum.measured_first_ns = first.min(one.measured_first_ns);
            sum.measured_last_ns = sum.measured_last_ns.max(one.measured_last_ns);
        }
        sum.measured_planned += one.measured_planned;
        sum.measured_in_time += one.measured_in_time;
        sum.measured_queued += one.measured_queued;
        let share = |busy: &Option<Busy>| busy.and_then(Busy::share).unwrap_or(0.0);
        if share(&one.busy) >= share(&sum.busy) {
            sum.busy = one.busy;
        }
        sum.measured_completed += one.measured_completed;
        sum.lost.add(one.lost);
        sum.completions.add(&one.completions);
        sum.requests.add(&one.requests);
        sum.handshakes.add(&one.handshakes);
        sum.last_completed_ns = sum.last_completed_ns.max(one.last_completed_ns);
        sum.first_exhausted_ns = [sum.first_exhausted_ns, one.first_exhausted_ns].into_iter().flatten().min();
        sum.overflows += one.overflows;
        sum.errors.extend(one.errors.iter().cloned());
        // All that walked the schedule to its end agree on it; if one did not, the load did not follow it.
        sum.schedule = one.schedule.filter(|_| followed);
        sum.ended_ns = sum.ended_ns.max(one.ended_ns);
        sum.gave_up |= one.gave_up;
        sum
    });
    sum.errors = ErrorCount::merged(sum.errors);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_expected_is_shown_up_to_a_length() {
        let of = |bytes: &[u8]| {
            let first =
                LoaderReport { unexpected: 1, unexpected_first: Some(bytes.to_vec()), ..LoaderReport::default() };
            let later =
                LoaderReport { unexpected: 2, unexpected_first: Some(b"later".to_vec()), ..LoaderReport::default() };
            total([LoaderReport::default(), first, later].iter()).unexpected().unwrap()
        };
        let expected = |first: &str| Unexpected { count: 3, first: first.to_owned() };
        assert_eq!(of(b"-ERR no\r\n"), expected("-ERR no\\r\\n"));
        assert_eq!(of(&[b'x'; 80]), expected(&"x".repeat(80)));
        assert_eq!(of(&[b'x'; 81]), expected(&format!("{}…", "x".repeat(80))));
        assert_eq!(LoaderReport::default().unexpected(), None);
    }

    #[test]
    fn instants_move_to_another_clock_and_nothing_else_does() {
        let here = LoaderReport {
            attempted: 7,
            measured_first_ns: 1_000,
            measured_last_ns: 2_000,
            last_completed_ns: 0,
            first_exhausted_ns: Some(1_500),
            ended_ns: 3_000,
            ..LoaderReport::default()
        };
        let there = here.clone().by_clock_behind(300);
        assert_eq!((there.measured_first_ns, there.measured_last_ns, there.ended_ns), (700, 1_700, 2_700));
        // Nothing completed, by whichever clock.
        assert_eq!((there.attempted, there.last_completed_ns, there.first_exhausted_ns), (7, 0, Some(1_200)));
        assert_eq!(there.by_clock_behind(-300), here);
    }
}
