//! Summaries of histograms.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{WaitEnd, WaitMethod, counts::Counts, limits};

/// Summary of latencies: how long each attempt took that was due, if it got that far. One that failed has no value, and counts as
/// slower than any other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencySummary {
    /// How the accept wait was measured; absent for other latencies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<WaitMethod>,
    /// What ended the accept wait; absent for other latencies, and if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<WaitEnd>,
    /// Attempts that were due: count + lost.
    pub due: u64,
    /// Those of them without a value, because they failed or never began.
    pub lost: u64,
    /// Number of values.
    pub count: u64,
    /// Smallest value, ns.
    pub min: u64,
    /// Mean of the values, ns.
    pub mean: u64,
    /// Median of what was due, ns; like the other percentiles, `null` if it falls among the lost.
    pub p50: Option<u64>,
    /// 90th percentile of what was due, ns.
    pub p90: Option<u64>,
    /// 99th percentile of what was due, ns.
    pub p99: Option<u64>,
    /// 99.9th percentile of what was due, ns.
    pub p999: Option<u64>,
    /// Largest value, ns.
    pub max: u64,
}

impl LatencySummary {
    /// Whether nothing was due.
    pub fn is_empty(&self) -> bool {
        self.due == 0
    }

    /// Whether nobody could measure it: an accept wait without a method.
    fn is_unknown(&self) -> bool {
        self.is_empty() && self.method.is_none()
    }

    /// The 99th percentile, unless so few were due that it is about the largest.
    pub fn p99_of_many(&self) -> Option<u64> {
        self.p99.filter(|_| self.due >= 100)
    }

    /// The largest value, unless what was lost would have been larger.
    pub fn longest(&self) -> Option<u64> {
        (self.lost == 0 && self.count > 0).then_some(self.max)
    }

    /// Of the send lag: its 99th percentile and the median response, if the first is long enough beside the second to be mentioned.
    pub fn lag_beside(&self, response: &Self) -> Option<(u64, u64)> {
        let (lag_ns, response_ns) = self.p99.zip(response.p50)?;
        (lag_ns as f64 > limits::SEND_LAG * response_ns as f64).then_some((lag_ns, response_ns))
    }

    /// Whether it summarises accept waits that are upper bounds.
    pub fn is_bound(&self) -> bool {
        self.method == Some(WaitMethod::ConnectCall)
    }

    /// Summarises a histogram of attempts that all have a value.
    pub fn of(values: &Counts) -> Self {
        Self::with_lost(values, 0)
    }

    /// Summarises a histogram, beside which so many attempts were lost.
    pub fn with_lost(values: &Counts, lost: u64) -> Self {
        let at = |quantile| values.value_at(lost, quantile);
        Self {
            method: None,
            ends: None,
            due: values.len() + lost,
            lost,
            count: values.len(),
            // The minimum and the maximum of an empty histogram are 0.
            min: values.min(),
            mean: values.mean().round() as u64,
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            p999: at(0.999),
            max: values.max(),
        }
    }

    /// Summarises accept waits, all of which ended when the worker that serves the connection had it, and beside which so many
    /// connections were lost.
    pub fn of_waits(values: &Counts, lost: u64, method: WaitMethod) -> Self {
        Self { method: Some(method), ends: Some(WaitEnd::Serving), ..Self::with_lost(values, lost) }
    }
}

impl Counts {
    /// The smallest value that at least this share of all attempts does not exceed, where lost attempts exceed every value; `None` if the
    /// quantile falls among the lost.
    pub fn value_at(&self, lost: u64, quantile: f64) -> Option<u64> {
        rank_at(self.len(), lost, quantile).map(|rank| self.ranked(rank))
    }
}

/// The rank of a quantile among all attempts, counted from 1; `None` if it is one of the lost.
fn rank_at(count: u64, lost: u64, quantile: f64) -> Option<u64> {
    let rank = ((quantile * (count + lost) as f64).ceil() as u64).max(1);
    (rank <= count).then_some(rank)
}

/// Summary of a histogram of plain numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchSummary {
    /// Number of values.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// Largest.
    pub max: u64,
}

impl BatchSummary {
    /// Summarises a histogram.
    pub fn of(values: &Counts) -> Self {
        let at = |quantile| values.value_at(0, quantile).unwrap_or(0);
        Self { count: values.len(), mean: values.mean(), p50: at(0.50), p99: at(0.99), max: values.max() }
    }
}

/// All latencies of a trial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latencies {
    /// Established (or, with `connect-call`, the client's connect call) until the worker that serves the connection has it.
    ///
    /// Of another server: until accept(2) returned, or its completion, as `ends` says, for the loaders' connections alone; absent if
    /// unknown.
    #[serde(default, skip_serializing_if = "LatencySummary::is_unknown")]
    pub accept_wait: LatencySummary,
    /// With `stamps = "both"`: from the client's connect call, an upper bound of the exact wait.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub accept_wait_bound: LatencySummary,
    /// The part of the accept wait after accept(2) returned in a thread or process that hands connections over or, with io_uring and
    /// exact accept waits, after the kernel completed the accept; absent where workers accept themselves, and where times of
    /// completions are unknown. Of the same connections as exact accept waits, less `hand_over_unknown`; without those, of connections
    /// accepted in the measured window.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub hand_over: LatencySummary,
    /// The connect call to writable.
    pub connect: LatencySummary,
    /// Intended start to writable.
    pub connect_from_intended: LatencySummary,
    /// Intended start (for later requests of a connection: when the request was sent) to the last byte of the reply.
    pub response: LatencySummary,
    /// Actual start to the last byte of the reply.
    pub service: LatencySummary,
    /// Intended to actual start: the loader's own lateness.
    pub send_lag: LatencySummary,
    /// `send_lag` of starts that were due before the one before them had been made: they queued behind it.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub queued_lag: LatencySummary,
    /// `send_lag` of all other starts that came: the lateness of the timer and of the loader's wake-up, or what was left of handling an event.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub timer_lag: LatencySummary,
    /// Intended instant of the follow-up to the last byte of its reply.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub follow_up: LatencySummary,
    /// From sending a datagram to a worker's receiving it: an upper bound of its time in the socket's queue.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub receive_wait: LatencySummary,
    /// `response` of datagram flows, in a trial that also has connections.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub udp_response: LatencySummary,
    /// `service` of datagram flows, in a trial that also has connections.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub udp_service: LatencySummary,
    /// The TLS handshake: from when the client knows that the connection is established until its handshake is over. Absent without TLS.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub tls: LatencySummary,
    /// Of connections that were not established: the connect call until the client knew, by an answer or by `load.connect_timeout`. Absent if
    /// there were none.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub failed_connect: LatencySummary,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: u64) -> Counts {
        let mut values = Counts::new(1, 60_000_000_000, 3).unwrap();
        values.extend((1..=count).map(|value| (value, 1)));
        values
    }

    #[test]
    fn what_was_lost_is_slower_than_any_value() {
        // Of 100 due, the 99th is the last that has a value; of 101, it is lost.
        let (reached, not_reached) =
            (LatencySummary::with_lost(&values(99), 1), LatencySummary::with_lost(&values(99), 2));
        assert_eq!((reached.p50, reached.p90, reached.p99, reached.p999), (Some(50), Some(90), Some(99), None));
        assert_eq!((not_reached.p50, not_reached.p90, not_reached.p99), (Some(51), Some(91), None));
        assert_eq!((reached.due, reached.count, reached.max, reached.longest()), (100, 99, 99, None));
        assert_eq!(LatencySummary::of(&values(99)).longest(), Some(99));
    }

    #[test]
    fn the_survivors_alone_answer_for_nobody() {
        // 40 of 500 were accepted, however quickly.
        let few = LatencySummary::with_lost(&values(40), 460);
        assert_eq!((few.p50, few.p90, few.due), (None, None, 500));
        let none = LatencySummary::with_lost(&values(0), 7);
        assert!(none.p50.is_none() && none.longest().is_none() && !none.is_empty());
        assert!(LatencySummary::of(&values(0)).is_empty());
    }

    #[test]
    fn a_lag_is_mentioned_from_a_tenth_of_the_response_on() {
        let at = |p50, p99| LatencySummary { due: 1, p50, p99, ..LatencySummary::default() };
        let response = at(Some(1_000_000), None);
        assert_eq!(at(None, Some(100_000)).lag_beside(&response), None);
        assert_eq!(at(None, Some(100_001)).lag_beside(&response), Some((100_001, 1_000_000)));
        assert_eq!(at(None, Some(100_001)).lag_beside(&at(None, None)), None, "nothing to compare with");
    }
}
