//! A loader's histograms: which there are, and what they are called.

use std::io;

use hdrhistogram::Histogram;
use strum::{EnumCount, VariantArray};

use crate::{
    context::Waits,
    ipc::control::{Account, Control, LoaderCount, LoaderKept},
    record::{Counts, Latency, Stage},
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

/// The same, by its filled buckets, of values with how often each came.
pub fn counts(values: impl Iterator<Item = (u64, u64)>) -> Counts {
    let mut counts = Counts::new(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS).expect("constant, valid bounds");
    counts.extend(values);
    counts
}

/// A loader's histograms, which are part of its account.
pub struct Measures {
    account: Account,
    places: Places,
    /// Whether anything is recorded.
    on: bool,
    waits: Waits,
    /// Whether the server under test is the trial's own.
    own: bool,
    /// The number in the scenario of each event, and its occurrence.
    events: Vec<(usize, usize)>,
}

/// The places of histograms in a loader's account: those of [`Latency`], then by worker accept waits from the client's connect call,
/// receive waits from the client's send and the stages, then by event the accept waits of the connections that it stranded.
#[derive(Debug, Clone, Copy)]
struct Places {
    /// Workers with accept waits, with receive waits, and with stages.
    accepting: usize,
    receiving: usize,
    staged: usize,
    events: usize,
}

impl Places {
    fn of(scenario: &Scenario) -> Self {
        let workers = workers(scenario);
        let with = |transport| if scenario.protocol.has(transport) { workers } else { 0 };
        // Only the trial's own workers write journeys.
        let staged = if scenario.subject.is_own() { scenario.all_workers() } else { 0 };
        let (accepting, receiving) = (with(Transport::Tcp), with(Transport::Udp));
        Self { accepting, receiving, staged, events: scenario.events.len() }
    }

    fn accept_wait(&self, worker: usize) -> Option<usize> {
        (worker < self.accepting).then_some(Latency::COUNT + worker)
    }

    fn receive_wait(&self, worker: usize) -> Option<usize> {
        (worker < self.receiving).then_some(Latency::COUNT + self.accepting + worker)
    }

    fn stage(&self, worker: usize, stage: Stage) -> Option<usize> {
        let before = Latency::COUNT + self.accepting + self.receiving;
        (worker < self.staged).then_some(before + worker * Stage::COUNT + stage as usize)
    }

    fn stranded(&self, event: usize) -> usize {
        Latency::COUNT + self.accepting + self.receiving + self.staged * Stage::COUNT + event
    }

    fn count(&self) -> usize {
        self.stranded(self.events)
    }
}

/// How many workers may answer: a server that is not the trial's own may have more than the scenario.
fn workers(scenario: &Scenario) -> usize {
    if scenario.subject.is_own() { scenario.all_workers() } else { WORKERS_LIMIT }
}

/// Makes room in a control block for the accounts of a scenario's loaders.
pub fn make_room(control: Control, scenario: &Scenario) -> io::Result<Control> {
    control.with_room(workers(scenario), Places::of(scenario).count())
}

impl Measures {
    /// The histograms of an account for which there is room. With `on` false, nothing is recorded.
    pub fn new(scenario: &Scenario, waits: Waits, account: Account, on: bool) -> Self {
        Self {
            account,
            places: Places::of(scenario),
            on,
            waits,
            own: scenario.subject.is_own(),
            events: scenario.events.iter().map(|event| (event.number, event.occurrence)).collect(),
        }
    }

    #[inline]
    pub(super) fn record(&self, latency: Latency, value_ns: u64) {
        if self.on {
            self.count(latency as usize, value_ns);
        }
    }

    /// Records an accept wait. Returns false if the server cannot have a worker of this number.
    #[inline]
    pub(super) fn record_accept_wait(&self, worker: u16, value_ns: u64) -> bool {
        if !(self.on && self.waits.bound) {
            return true;
        }
        let Some(place) = self.places.accept_wait(worker.into()) else { return false };
        self.count(place, value_ns);
        // Whether or not anybody watches, so that watching costs nothing.
        self.account.keep(LoaderKept::AcceptWait, value_ns);
        true
    }

    /// Whether the server can have a worker of this number.
    pub(super) fn has_worker(&self, worker: u16) -> bool {
        usize::from(worker) < self.places.accepting.max(self.places.receiving)
    }

    /// Records how long a stage of one of a worker's connections took.
    #[inline]
    pub(super) fn record_stage(&self, worker: u16, stage: Stage, value_ns: u64) {
        if let (true, Some(place)) = (self.on, self.places.stage(worker.into(), stage)) {
            self.count(place, value_ns);
        }
    }

    /// Records a datagram's receive wait. Returns false if the server cannot have a worker of this number.
    #[inline]
    pub(super) fn record_receive_wait(&self, worker: u16, value_ns: u64) -> bool {
        if !self.on {
            return true;
        }
        let Some(place) = self.places.receive_wait(worker.into()) else { return false };
        self.count(place, value_ns);
        self.account.keep(LoaderKept::ReceiveWait, value_ns);
        true
    }

    /// Records the accept wait of a connection that an event stranded.
    #[inline]
    pub(super) fn record_stranded(&self, event: usize, value_ns: u64) {
        if self.on {
            self.count(self.places.stranded(event), value_ns);
        }
    }

    #[inline]
    fn count(&self, place: usize, value_ns: u64) {
        if value_ns > HIGHEST_NS {
            self.account.add(LoaderCount::Overflows, 1);
        }
        self.account.keep_own(place, value_ns);
    }

    /// All histograms that hold values, by name: those of [`Latency`], `w<worker>.accept_wait` (or, if there are exact waits too,
    /// `w<worker>.accept_wait_bound`), `w<worker>.receive_wait`, `w<worker>.stage_<stage>` and `e<event>-<occurrence>.stranded_wait`. Another server's
    /// workers are not the trial's members, whatever number a receipt gives them: `r<worker>.accept_wait_bound`.
    pub fn named(&self) -> impl Iterator<Item = (String, Counts)> {
        let (places, who) = (self.places, if self.own { 'w' } else { 'r' });
        let bound = if self.waits.exact || !self.own { "accept_wait_bound" } else { "accept_wait" };
        let latencies = Latency::VARIANTS.iter().map(|latency| (latency.to_string(), *latency as usize));
        let accepts = (0..places.accepting)
            .filter_map(move |worker| Some((format!("{who}{worker}.{bound}"), places.accept_wait(worker)?)));
        let receptions = (0..places.receiving)
            .filter_map(move |worker| Some((format!("{who}{worker}.receive_wait"), places.receive_wait(worker)?)));
        let stages = (0..places.staged).flat_map(move |worker| {
            Stage::VARIANTS
                .iter()
                .filter_map(move |stage| Some((format!("w{worker}.stage_{stage}"), places.stage(worker, *stage)?)))
        });
        let stranded = self.events.iter().enumerate();
        let stranded = stranded.map(move |(place, (event, occurrence))| {
            (format!("e{event}-{occurrence}.stranded_wait"), places.stranded(place))
        });
        let all = latencies.chain(accepts).chain(receptions).chain(stages).chain(stranded);
        all.filter_map(|(name, place)| {
            let whole = counts(self.account.own(place));
            (!whole.is_empty()).then_some((name, whole))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::fakes::{account, scenario};

    fn measures(text: &str, waits: Waits, on: bool) -> Measures {
        let scenario = scenario(text);
        Measures::new(&scenario, waits, account(&scenario), on)
    }

    const BOUND: Waits = Waits { exact: false, bound: true };

    fn names(measures: &Measures) -> Vec<String> {
        measures.named().map(|(name, _)| name).collect()
    }

    fn overflows(measures: &Measures) -> u64 {
        measures.account.get(LoaderCount::Overflows)
    }

    #[test]
    fn histograms_are_named_and_empty_ones_are_left_out() {
        let text = "protocol = \"tcp+udp\"\n[server]\nworkers = 2";
        for (exact, wait) in [(false, "w1.accept_wait"), (true, "w1.accept_wait_bound")] {
            let measures = measures(text, Waits { exact, bound: true }, true);
            measures.record(Latency::Service, 5);
            measures.record_stage(0, Stage::Queue, 7);
            assert!(measures.record_accept_wait(1, 9) && measures.record_receive_wait(1, 11));
            assert_eq!(names(&measures), ["service", wait, "w1.receive_wait", "w0.stage_queue"]);
        }
    }

    #[test]
    fn every_histogram_has_a_place_of_its_own() {
        let text = "protocol = \"tcp+udp\"\n[server]\nworkers = 3\n[load]\nduration = \"1s\"\n\
                    [[event]]\nworker = 0\nat = \"200ms\"\nkind = \"kill\"";
        let places = Places::of(&scenario(text));
        let mut taken: Vec<usize> = (0..Latency::COUNT).collect();
        taken.extend((0..4).filter_map(|worker| places.accept_wait(worker)));
        taken.extend((0..4).filter_map(|worker| places.receive_wait(worker)));
        let stages = (0..4).flat_map(|worker| Stage::VARIANTS.iter().map(move |stage| places.stage(worker, *stage)));
        taken.extend(stages.flatten());
        taken.push(places.stranded(0));
        assert_eq!(taken, (0..places.count()).collect::<Vec<_>>());
    }

    #[test]
    fn another_server_s_workers_are_nobody_s_members_and_taken_up_to_the_limit() {
        let measures = measures("network = \"host\"\nserver.subject = \"running\"", BOUND, true);
        assert!(measures.record_accept_wait(1, 9) && measures.record_accept_wait(WORKERS_LIMIT as u16 - 1, 9));
        assert!(!measures.record_accept_wait(WORKERS_LIMIT as u16, 9));
        assert_eq!(names(&measures), ["r1.accept_wait_bound", "r511.accept_wait_bound"]);
    }

    #[test]
    fn the_trial_s_own_server_has_the_scenario_s_workers_and_no_more() {
        let measures = measures("[server]\nworkers = 2", BOUND, true);
        assert!(measures.record_accept_wait(1, 9));
        assert!(!measures.record_accept_wait(2, 9));
        assert_eq!(names(&measures), ["w1.accept_wait"]);
    }

    #[test]
    fn a_value_beyond_the_range_is_an_overflow_and_recorded_as_the_largest() {
        let measures = measures("", BOUND, true);
        measures.record(Latency::Response, HIGHEST_NS + 1);
        assert_eq!((overflows(&measures), names(&measures)), (1, vec!["response".to_owned()]));
    }

    #[test]
    fn nothing_is_recorded_when_recording_is_off() {
        let measures = measures("", BOUND, false);
        measures.record(Latency::Response, HIGHEST_NS + 1);
        measures.record_stage(0, Stage::Queue, 7);
        assert!(measures.record_accept_wait(0, 9));
        assert_eq!((overflows(&measures), names(&measures).len()), (0, 0));
    }
}
