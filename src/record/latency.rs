//! Summaries of histograms.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{WaitEnd, WaitMethod};

/// Summary of a histogram of latencies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencySummary {
    /// How the accept wait was measured; absent for other latencies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<WaitMethod>,
    /// What ended the accept wait; absent for other latencies, and if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<WaitEnd>,
    /// Number of values.
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
    /// Whether no value was recorded.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether it summarises accept waits that are upper bounds.
    pub fn is_bound(&self) -> bool {
        self.method == Some(WaitMethod::ConnectCall)
    }

    /// Summarises a histogram.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            method: None,
            ends: None,
            count: histogram.len(),
            // The minimum and the maximum of an empty histogram are 0.
            min: histogram.min(),
            mean: histogram.mean().round() as u64,
            p50: histogram.value_at_quantile(0.50),
            p90: histogram.value_at_quantile(0.90),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }

    /// Summarises a histogram of accept waits.
    pub fn of_waits(histogram: &Histogram<u64>, method: WaitMethod, ends: Option<WaitEnd>) -> Self {
        Self { method: Some(method), ends, ..Self::of(histogram) }
    }
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
    /// With `stamps = "both"`: the client's connect call to accept's return, an upper bound of the exact wait.
    #[serde(default, skip_serializing_if = "LatencySummary::is_empty")]
    pub accept_wait_bound: LatencySummary,
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
}
