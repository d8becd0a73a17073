//! A loader's histograms.

use hdrhistogram::Histogram;
use strum::{EnumCount, VariantArray};

use crate::{
    context::Waits,
    ipc::histogram::LocalHistogram,
    record::{Latency, Stage},
    scenario::{Scenario, Transport, keys},
};

/// The smallest value that histograms distinguish.
const LOWEST_NS: u64 = 1;
/// The largest: longer latencies are recorded as this one and counted as overflow.
const HIGHEST_NS: u64 = 60_000_000_000;
/// A relative resolution of 10⁻³.
const SIGNIFICANT_DIGITS: u8 = 3;
/// A higher number in a receipt cannot be a worker's.
const WORKERS_LIMIT: usize = keys::SERVER_WORKERS.max();

/// An empty histogram of latencies in nanoseconds: 1 ns to 60 s, three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS).expect("constant, valid bounds")
}

/// A loader's histograms, allocated before the start.
pub struct Measures {
    /// Whether anything is recorded.
    on: bool,
    latencies: [LocalHistogram; Latency::COUNT],
    waits: Waits,
    /// By worker, from the client's connect call.
    accept_wait: Vec<LocalHistogram>,
    /// By worker and [`Stage`].
    stages: Vec<[LocalHistogram; Stage::COUNT]>,
    /// By worker, from the client's send.
    receive_wait: Vec<LocalHistogram>,
    /// Accept waits of the connections that each fault stranded, with the fault's number in the scenario.
    stranded: Vec<(usize, LocalHistogram)>,
    overflows: u64,
}

impl Measures {
    /// Empty histograms for a scenario's workers. With `on` false, nothing is recorded.
    pub(super) fn new(scenario: &Scenario, waits: Waits, on: bool) -> Self {
        Self {
            on,
            waits,
            latencies: std::array::from_fn(|_| LocalHistogram::new()),
            accept_wait: by_worker(scenario, Transport::Tcp),
            stages: (0..scenario.server.workers).map(|_| std::array::from_fn(|_| LocalHistogram::new())).collect(),
            receive_wait: by_worker(scenario, Transport::Udp),
            stranded: scenario.faults.iter().map(|fault| (fault.number, LocalHistogram::new())).collect(),
            overflows: 0,
        }
    }

    #[inline]
    pub(super) fn record(&mut self, latency: Latency, value_ns: u64) {
        if self.on {
            record(&mut self.latencies[latency as usize], value_ns, &mut self.overflows);
        }
    }

    /// Records an accept wait. Returns false if no scenario can have a worker of this number.
    #[inline]
    pub(super) fn record_accept_wait(&mut self, worker: u16, value_ns: u64) -> bool {
        !(self.on && self.waits.bound) || record_of_worker(&mut self.accept_wait, worker, value_ns, &mut self.overflows)
    }

    /// Records how long a stage of one of a worker's connections took.
    #[inline]
    pub(super) fn record_stage(&mut self, worker: u16, stage: Stage, value_ns: u64) {
        if let (true, Some(stages)) = (self.on, self.stages.get_mut(usize::from(worker))) {
            record(&mut stages[stage as usize], value_ns, &mut self.overflows);
        }
    }

    /// Records a datagram's receive wait. Returns false if no scenario can have a worker of this number.
    #[inline]
    pub(super) fn record_receive_wait(&mut self, worker: u16, value_ns: u64) -> bool {
        !self.on || record_of_worker(&mut self.receive_wait, worker, value_ns, &mut self.overflows)
    }

    /// Records the accept wait of a connection that a fault stranded.
    #[inline]
    pub(super) fn record_stranded(&mut self, fault: usize, value_ns: u64) {
        if self.on {
            record(&mut self.stranded[fault].1, value_ns, &mut self.overflows);
        }
    }

    /// Number of values beyond the histograms' range.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// All histograms that hold values, by name: those of [`Latency`], `w<worker>.accept_wait` (or, if there are exact waits too,
    /// `w<worker>.accept_wait_bound`), `w<worker>.receive_wait`, `w<worker>.stage_<stage>` and `f<fault>.stranded_wait`.
    pub fn named(&self) -> impl Iterator<Item = (String, Histogram<u64>)> {
        let of_workers = |histograms: &'_ [LocalHistogram], name: &str| -> Vec<String> {
            (0..histograms.len()).map(|number| format!("w{number}.{name}")).collect()
        };
        let latencies = Latency::VARIANTS.iter().map(ToString::to_string).zip(&self.latencies);
        let bound = if self.waits.exact { "accept_wait_bound" } else { "accept_wait" };
        let accepts = of_workers(&self.accept_wait, bound).into_iter().zip(&self.accept_wait);
        let stages = self.stages.iter().enumerate().flat_map(|(worker, stages)| {
            Stage::VARIANTS.iter().map(move |stage| format!("w{worker}.stage_{stage}")).zip(stages)
        });
        let receptions = of_workers(&self.receive_wait, "receive_wait").into_iter().zip(&self.receive_wait);
        let stranded = self.stranded.iter().map(|(fault, own)| (format!("f{fault}.stranded_wait"), own));
        latencies
            .chain(accepts)
            .chain(receptions)
            .chain(stages)
            .chain(stranded)
            .map(|(name, own)| {
                let mut whole = histogram();
                own.add_to(&mut whole);
                (name, whole)
            })
            .filter(|(_, histogram)| !histogram.is_empty())
    }
}

/// A histogram for each worker, if the scenario uses this transport.
fn by_worker(scenario: &Scenario, transport: Transport) -> Vec<LocalHistogram> {
    let workers = if scenario.protocol.has(transport) { scenario.server.workers } else { 0 };
    (0..workers).map(|_| LocalHistogram::new()).collect()
}

fn record_of_worker(histograms: &mut Vec<LocalHistogram>, worker: u16, value_ns: u64, overflows: &mut u64) -> bool {
    let worker = usize::from(worker);
    if worker >= WORKERS_LIMIT {
        return false;
    }
    // A server started separately may have more workers than this scenario.
    while histograms.len() <= worker {
        histograms.push(LocalHistogram::new());
    }
    record(&mut histograms[worker], value_ns, overflows);
    true
}

#[inline]
fn record(histogram: &mut LocalHistogram, value_ns: u64, overflows: &mut u64) {
    if value_ns > HIGHEST_NS {
        *overflows += 1;
    }
    histogram.record(value_ns);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::fakes::scenario;

    fn names(measures: &Measures) -> Vec<String> {
        measures.named().map(|(name, _)| name).collect()
    }

    #[test]
    fn histograms_are_named_and_empty_ones_are_left_out() {
        let scenario = scenario("protocol = \"tcp+udp\"\n[server]\nworkers = 2");
        for (exact, wait) in [(false, "w1.accept_wait"), (true, "w1.accept_wait_bound")] {
            let mut measures = Measures::new(&scenario, Waits { exact, bound: true }, true);
            measures.record(Latency::Service, 5);
            measures.record_stage(0, Stage::Queue, 7);
            assert!(measures.record_accept_wait(1, 9) && measures.record_receive_wait(1, 11));
            assert_eq!(names(&measures), ["service", wait, "w1.receive_wait", "w0.stage_queue"]);
        }
    }

    #[test]
    fn workers_beyond_the_scenario_are_taken_up_to_the_limit() {
        let mut measures = Measures::new(&scenario(""), Waits { exact: false, bound: true }, true);
        assert!(measures.record_accept_wait(20, 9));
        assert!(!measures.record_accept_wait(WORKERS_LIMIT as u16, 9));
        assert_eq!(names(&measures), ["w20.accept_wait"]);
    }

    #[test]
    fn a_value_beyond_the_range_is_an_overflow_and_recorded_as_the_largest() {
        let mut measures = Measures::new(&scenario(""), Waits { exact: false, bound: true }, true);
        measures.record(Latency::Response, HIGHEST_NS + 1);
        assert_eq!((measures.overflows(), names(&measures)), (1, vec!["response".to_owned()]));
    }

    #[test]
    fn nothing_is_recorded_when_recording_is_off() {
        let mut measures = Measures::new(&scenario(""), Waits { exact: false, bound: true }, false);
        measures.record(Latency::Response, HIGHEST_NS + 1);
        measures.record_stage(0, Stage::Queue, 7);
        assert!(measures.record_accept_wait(0, 9));
        assert_eq!((measures.overflows(), names(&measures).len()), (0, 0));
    }
}
