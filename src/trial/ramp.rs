//! How a load whose connections are all held at once builds up: does the next connection cost more the more there are?

use std::{iter, sync::Arc};

use super::{subject::Subject, view};
use crate::{
    context::{TrialContext, Waits},
    ipc::control::{Control, Count},
    load,
    record::{Counts, LatencySummary, Ramp, RampStep, TENTHS},
    scenario::{Bound, Protocol},
    sys::clock,
};

/// Takes the figures of each step once a sample finds it complete.
pub(super) struct RampWatch {
    /// Connections in total.
    planned: u64,
    /// How long each stays open, at least.
    hold_s: f64,
    waits: Waits,
    /// Workers and loaders.
    pids: Vec<i32>,
    start_ns: u64,
    /// Connections accepted by the end of the last step.
    accepted: u64,
    at_ns: u64,
    cpu_ns: u64,
    /// Accept waits before the current step, or before the last one.
    waited: Counts,
    steps: Vec<RampStep>,
}

impl RampWatch {
    /// Watches a load of a fixed number of connections, all measured, that are to be open at once; `None` for other loads.
    pub fn new(context: &TrialContext, pids: impl Iterator<Item = i32>) -> Option<Self> {
        let scenario = &context.scenario;
        let (Some(only), Bound::Connections(planned)) = (scenario.only_load(), scenario.span.bound) else {
            return None;
        };
        let ramps = !only.hold.is_zero()
            && scenario.span.warmup.is_zero()
            && only.udp_share == 0.0
            && load::held_at_once(scenario) >= planned;
        ramps.then(|| Self {
            planned,
            hold_s: only.hold.as_secs_f64(),
            waits: context.waits,
            pids: pids.collect(),
            start_ns: 0,
            accepted: 0,
            at_ns: 0,
            cpu_ns: 0,
            waited: load::counts(iter::empty()),
            steps: Vec::with_capacity(TENTHS as usize),
        })
    }

    /// Sets when the trial starts.
    pub fn start(&mut self, start_ns: u64) {
        (self.start_ns, self.at_ns, self.cpu_ns) = (start_ns, start_ns, self.cpu_now_ns());
    }

    /// Takes a step's figures if the step is complete.
    pub fn look(&mut self, subject: &dyn Subject, control: &Arc<Control>) {
        let Some(accepted) = subject.total(Count::Accepted) else { return };
        if self.accepted >= self.planned || self.tenths(accepted) == self.tenths(self.accepted) {
            return;
        }
        let cpu_ns = self.cpu_now_ns();
        // Use the last accept's instant: the load may have been at its peak for most of the sample's interval.
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

    /// The ramp, as far as it came; `None` if its first connections may have ended before the last ones began.
    pub fn end(mut self, control: &Arc<Control>) -> Option<Ramp> {
        // A wait is recorded only after its accept is counted, sometimes only after its reply is back.
        let last_waits = self.wait_since_last(&self.waited_by_now(control));
        let last = self.steps.last_mut()?;
        if self.accepted >= self.planned {
            last.accept_wait = last_waits;
        }
        let seconds = last.until_s;
        // Compare single tenths only: a step of several describes neither the beginning nor the end.
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

    fn waited_by_now(&self, control: &Arc<Control>) -> Counts {
        view::waits(control, self.waits, Protocol::Tcp)
    }

    fn wait_since_last(&self, waited: &Counts) -> LatencySummary {
        LatencySummary::of_waits(&waited.since(&self.waited), 0, self.waits.method())
    }

    fn cpu_now_ns(&self) -> u64 {
        self.pids.iter().filter_map(|pid| clock::process_cpu_ns(*pid)).sum()
    }
}
