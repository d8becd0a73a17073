//! How a load whose connections are all held at once comes to its height: does the next one cost more, the more there are?

use hdrhistogram::Histogram;

use super::{subject::Subject, view};
use crate::{
    context::{TrialContext, Waits},
    ipc::control::{Control, Count},
    load,
    record::{LatencySummary, Ramp, RampStep, TENTHS, WaitEnd},
    scenario::{Bound, Protocol},
    sys::clock,
};

/// Takes the figures of each step when a sample finds it done.
pub(super) struct RampWatch {
    /// All connections.
    planned: u64,
    /// How long each stays open at least.
    hold_s: f64,
    waits: Waits,
    ends: WaitEnd,
    /// Workers and loaders.
    pids: Vec<i32>,
    start_ns: u64,
    /// At the end of the last step.
    accepted: u64,
    at_ns: u64,
    cpu_ns: u64,
    /// Waits before the step that is under way, or before the last one.
    waited: Histogram<u64>,
    steps: Vec<RampStep>,
}

impl RampWatch {
    /// For a load of a number of connections, all of them measured, that is to have all open at once; `None` for others.
    pub fn new(context: &TrialContext, pids: impl Iterator<Item = i32>) -> Option<Self> {
        let scenario = &context.scenario;
        let Bound::Connections(planned) = scenario.load.bound else { return None };
        let ramps = !scenario.load.hold.is_zero()
            && scenario.load.warmup.is_zero()
            && scenario.load.udp_share == 0.0
            && load::held_at_once(&scenario.load) >= planned;
        ramps.then(|| Self {
            planned,
            hold_s: scenario.load.hold.as_secs_f64(),
            waits: context.waits,
            ends: scenario.server.strategy.wait_end(),
            pids: pids.collect(),
            start_ns: 0,
            accepted: 0,
            at_ns: 0,
            cpu_ns: 0,
            waited: load::histogram(),
            steps: Vec::with_capacity(TENTHS as usize),
        })
    }

    /// The trial starts then.
    pub fn start(&mut self, start_ns: u64) {
        (self.start_ns, self.at_ns, self.cpu_ns) = (start_ns, start_ns, self.cpu_now_ns());
    }

    /// Takes a step's figures if it is done.
    pub fn look(&mut self, subject: &dyn Subject, control: &Control) {
        let Some(accepted) = subject.total(Count::Accepted) else { return };
        if self.accepted >= self.planned || self.tenths(accepted) == self.tenths(self.accepted) {
            return;
        }
        let cpu_ns = self.cpu_now_ns();
        // The last accept's instant: the load may have been at its height for most of a sample's interval.
        let now_ns = subject.last_accept_ns().unwrap_or(0).max(self.at_ns);
        let waited = self.waited_by_now(control);
        let connections = (accepted - self.accepted) as f64;
        self.steps.push(RampStep {
            accepted,
            until_s: now_ns.saturating_sub(self.start_ns) as f64 / 1e9,
            accepted_per_s: connections * 1e9 / now_ns.saturating_sub(self.at_ns).max(1) as f64,
            cpu_ns_per_connection: cpu_ns.saturating_sub(self.cpu_ns) as f64 / connections,
            accept_wait: self.wait_since_last(&waited),
        });
        (self.accepted, self.at_ns, self.cpu_ns) = (accepted, now_ns, cpu_ns);
        if accepted < self.planned {
            self.waited = waited;
        }
    }

    /// The ramp, as far as it came; `None` where its first connections may have ended before the last ones began.
    pub fn end(mut self, control: &Control) -> Option<Ramp> {
        // A wait is on record only after its accept is counted, or even its reply is back.
        let last_waits = self.wait_since_last(&self.waited_by_now(control));
        let last = self.steps.last_mut()?;
        if self.accepted >= self.planned {
            last.accept_wait = last_waits;
        }
        let seconds = last.until_s;
        // Of one tenth each: several together say nothing of begin or end.
        let ends = match &self.steps[..] {
            [first, .., before, last]
                if [first, before, last].map(|step| self.tenths(step.accepted)) == [1, TENTHS - 1, TENTHS] =>
            {
                Some((first, last))
            }
            _ => None,
        };
        let ratio = |of: fn(&RampStep) -> f64| {
            ends.filter(|(first, _)| of(first) > 0.0).map(|(first, last)| of(last) / of(first))
        };
        let (rate_ratio, cpu_ratio) = (ratio(|step| step.accepted_per_s), ratio(|step| step.cpu_ns_per_connection));
        (seconds <= self.hold_s).then_some(Ramp { seconds, rate_ratio, cpu_ratio, steps: self.steps })
    }

    /// Whole tenths of all connections.
    fn tenths(&self, accepted: u64) -> u64 {
        accepted * TENTHS / self.planned
    }

    fn waited_by_now(&self, control: &Control) -> Histogram<u64> {
        let mut waited = load::histogram();
        view::add_waits(control, self.waits, Protocol::Tcp, &mut waited);
        waited
    }

    fn wait_since_last(&self, waited: &Histogram<u64>) -> LatencySummary {
        let mut waits = waited.clone();
        waits.subtract(&self.waited).expect("histograms of the same kind, and counts that only grow");
        LatencySummary::of_waits(&waits, self.waits.method(), Some(self.ends))
    }

    fn cpu_now_ns(&self) -> u64 {
        self.pids.iter().filter_map(|pid| clock::process_cpu_ns(*pid)).sum()
    }
}
