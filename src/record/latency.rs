//! Histograms in numbers.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{WaitEnd, WaitMethod};

/// A histogram in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencySummary {
    /// How the accept wait was measured; absent for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<WaitMethod>,
    /// What ended it; absent for all others, and where that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<WaitEnd>,
    /// Values.
    pub count: u64,
    /// Smallest, ns.
    pub min: u64,
    /// Mean, ns.
    pub mean: u64,
    /// Median, ns.
    pub p50: u64,
    /// 90th percentile, ns.
    pub p90: u64,
    /// 99th percentile, ns.
    pub p99: u64,
    /// 99.9th percentile, ns.
    pub p999: u64,
    /// Largest, ns.
    pub max: u64,
}

impl LatencySummary {
    /// Whether there was nothing to measure.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether it is of accept waits that are upper bounds.
    pub fn is_bound(&self) -> bool {
        self.method == Some(WaitMethod::ConnectCall)
    }

    /// Sums a histogram up.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            method: None,
            ends: None,
            count: histogram.len(),
            // An empty histogram's minimum is 0, its maximum too.
            min: histogram.min(),
            mean: histogram.mean().round() as u64,
            p50: histogram.value_at_quantile(0.50),
            p90: histogram.value_at_quantile(0.90),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }

    /// Sums a histogram of accept waits up.
    pub fn of_waits(histogram: &Histogram<u64>, method: WaitMethod, ends: Option<WaitEnd>) -> Self {
        Self { method: Some(method), ends, ..Self::of(histogram) }
    }
}

/// A histogram of numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchSummary {
    /// Values.
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
    /// Sums a histogram up.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            mean: histogram.mean(),
            p50: histogram.value_at_quantile(0.50),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        }
    }
}

/// All latencies of a trial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latencies {
    /// Established (or, with `connect-call`, the client's connect call) to accept's return.
    pub accept_wait: LatencySummary,
    /// With `stamps = "both"`: the client's connect call to accept's return, an upper bound of the same.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub accept_wait_bound: LatencySummary,
    /// connect call to writable.
    pub connect: LatencySummary,
    /// Intended start to writable.
    pub connect_from_intended: LatencySummary,
    /// Intended start (for later requests of a connection: the request's sending) to the last byte of the reply.
    pub response: LatencySummary,
    /// The same from the actual start.
    pub service: LatencySummary,
    /// Intended to actual start: the loader's own lateness.
    pub send_lag: LatencySummary,
    /// Intended instant of the follow-up to the last byte of its reply.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub follow_up: LatencySummary,
    /// Sending of a datagram to its reception by a worker: an upper bound of its time in the socket's queue.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub receive_wait: LatencySummary,
    /// With connections and datagrams in one trial, `response` of the flows of datagrams.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub udp_response: LatencySummary,
    /// And their `service`.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub udp_service: LatencySummary,
}
