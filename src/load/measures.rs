//! The histograms of a loader.

use hdrhistogram::Histogram;

use crate::scenario::Scenario;

/// Values from 1 ns …
const LOWEST_NS: u64 = 1;
/// … to 60 s are told apart; longer ones are recorded as 60 s and counted as overflow.
const HIGHEST_NS: u64 = 60_000_000_000;
/// Relative resolution 10⁻³.
const SIGNIFICANT_DIGITS: u8 = 3;
/// More workers than any scenario may have: a larger number in a receipt is no worker's.
const WORKERS_LIMIT: usize = 512;

/// An empty histogram of latencies in nanoseconds: 1 ns to 60 s, three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS).expect("constant, valid bounds")
}

/// What a loader measures of every connection besides the accept wait, by the names of records.
pub const LATENCIES: [&str; 5] = ["connect", "connect_from_intended", "response", "service", "send_lag"];

/// Indices into [`LATENCIES`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Latency {
    Connect,
    ConnectFromIntended,
    Response,
    Service,
    SendLag,
}

/// A loader's histograms, allocated before the start.
pub struct Measures {
    latencies: [Histogram<u64>; LATENCIES.len()],
    /// By worker.
    accept_wait: Vec<Histogram<u64>>,
    overflows: u64,
}

impl Measures {
    /// Empty histograms for a scenario's workers.
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self {
            latencies: std::array::from_fn(|_| histogram()),
            accept_wait: (0..scenario.server.workers).map(|_| histogram()).collect(),
            overflows: 0,
        }
    }

    #[inline]
    pub(super) fn record(&mut self, latency: Latency, value_ns: u64) {
        record(&mut self.latencies[latency as usize], value_ns, &mut self.overflows);
    }

    /// Records an accept wait; false when no scenario has a worker of this number.
    #[inline]
    pub(super) fn record_accept_wait(&mut self, worker: u16, value_ns: u64) -> bool {
        let worker = usize::from(worker);
        if worker >= WORKERS_LIMIT {
            return false;
        }
        // A server started apart, with more workers than this scenario names.
        while self.accept_wait.len() <= worker {
            self.accept_wait.push(histogram());
        }
        record(&mut self.accept_wait[worker], value_ns, &mut self.overflows);
        true
    }

    /// Values beyond the histograms' range.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// All histograms by name: those of [`LATENCIES`], and `accept_wait.<worker>`.
    pub fn named(&self) -> impl Iterator<Item = (String, &Histogram<u64>)> {
        let latencies = LATENCIES.iter().map(|name| (*name).to_owned()).zip(&self.latencies);
        let waits = self.accept_wait.iter().enumerate().map(|(worker, h)| (format!("accept_wait.{worker}"), h));
        latencies.chain(waits)
    }
}

#[inline]
fn record(histogram: &mut Histogram<u64>, value_ns: u64, overflows: &mut u64) {
    if value_ns > HIGHEST_NS {
        *overflows += 1;
    }
    histogram.saturating_record(value_ns);
}
