//! How a load whose connections are all held at once comes to its height: does the next one cost more, the more there are?

use hdrhistogram::Histogram;

use super::view;
use crate::{
    ipc::control::Control,
    load::{self, Waits},
    record::{LatencySummary, Ramp, RampStep},
    scenario::{Bound, Protocol, Scenario},
    sys::clock,
};

/// Steps of a ramp.
const STEPS: u64 = 10;

/// Takes the figures of each step when a sample finds it done.
pub(super) struct RampWatch {
    /// All connections.
    planned: u64,
    waits: Waits,
    /// Workers and loaders.
    pids: Vec<i32>,
    start_ns: u64,
    /// At the end of the last step.
    accepted: u64,
    at_ns: u64,
    cpu_ns: u64,
    waited: Histogram<u64>,
    steps: Vec<RampStep>,
}

impl RampWatch {
    /// For a load of a number of connections that is to have all of them open at once; `None` for others.
    pub fn new(scenario: &Scenario, waits: Waits, pids: impl Iterator<Item = i32>) -> Option<Self> {
        let Bound::Connections(planned) = scenario.load.bound else { return None };
        let ramps = !scenario.load.hold.is_zero()
            && scenario.load.udp_share == 0.0
            && load::held_at_once(&scenario.load) >= planned;
        ramps.then(|| Self {
            planned,
            waits,
            pids: pids.collect(),
            start_ns: 0,
            accepted: 0,
            at_ns: 0,
            cpu_ns: 0,
            waited: load::histogram(),
            steps: Vec::with_capacity(STEPS as usize),
        })
    }

    /// The trial starts then.
    pub fn start(&mut self, start_ns: u64) {
        (self.start_ns, self.at_ns, self.cpu_ns) = (start_ns, start_ns, self.cpu_now_ns());
    }

    /// So many connections are accepted by now.
    pub fn look(&mut self, control: &Control, accepted: u64) {
        let step = |accepted: u64| accepted * STEPS / self.planned;
        if self.accepted >= self.planned || step(accepted) == step(self.accepted) {
            return;
        }
        let cpu_ns = self.cpu_now_ns();
        // The last accept's instant: the load may have been at its height for most of a sample's interval.
        let now_ns = control.last_accept_ns().max(self.at_ns);
        let mut waited = load::histogram();
        view::add_waits(control, self.waits, Protocol::Tcp, &mut waited);
        let mut waits = waited.clone();
        waits.subtract(&self.waited).expect("histograms of the same kind, and counts that only grow");
        let connections = (accepted - self.accepted) as f64;
        self.steps.push(RampStep {
            accepted,
            until_s: now_ns.saturating_sub(self.start_ns) as f64 / 1e9,
            accepted_per_s: connections * 1e9 / now_ns.saturating_sub(self.at_ns).max(1) as f64,
            cpu_ns_per_connection: cpu_ns.saturating_sub(self.cpu_ns) as f64 / connections,
            accept_wait: LatencySummary::of(&waits, Some(self.waits.method())),
        });
        (self.accepted, self.at_ns, self.cpu_ns, self.waited) = (accepted, now_ns, cpu_ns, waited);
    }

    /// The ramp, as far as it came.
    pub fn finish(self, control: &Control) -> Ramp {
        let ratio = |of: fn(&RampStep) -> f64| match &self.steps[..] {
            [first, .., last] if of(first) > 0.0 => Some(of(last) / of(first)),
            _ => None,
        };
        Ramp {
            seconds: control.last_accept_ns().saturating_sub(self.start_ns) as f64 / 1e9,
            rate_ratio: ratio(|step| step.accepted_per_s),
            cpu_ratio: ratio(|step| step.cpu_ns_per_connection),
            steps: self.steps,
        }
    }

    fn cpu_now_ns(&self) -> u64 {
        self.pids.iter().filter_map(|pid| clock::process_cpu_ns(*pid)).sum()
    }
}
