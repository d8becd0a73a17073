//! A worker's part in the scenario's events: it burns CPU and serves no connection, as during a request that takes too long, until
//! the trial's process ends the event. The trial's process itself stops and kills workers.

use crate::{
    ipc::control::{Control, Window},
    scenario::{Act, Scenario},
    sys::clock,
};

/// One worker's pending burns, the next one last.
pub(super) struct Burns {
    ahead: Vec<Burn>,
}

struct Burn {
    /// Its number among the scenario's events.
    event: usize,
    from_ns: u64,
}

impl Burns {
    pub fn new(scenario: &Scenario, worker: usize, window: Window) -> Self {
        let events = scenario.events.iter().enumerate();
        let mut ahead: Vec<Burn> = events
            .filter_map(|(number, event)| {
                let Act::Burn { worker: burning, .. } = event.act else { return None };
                if burning != worker {
                    return None;
                }
                Some(Burn { event: number, from_ns: window.start_ns.saturating_add(clock::nanoseconds(event.at)) })
            })
            .collect();
        ahead.sort_unstable_by_key(|burn| std::cmp::Reverse(burn.from_ns));
        Self { ahead }
    }

    /// When the next burn is due.
    pub fn next_ns(&self) -> Option<u64> {
        self.ahead.last().map(|burn| burn.from_ns)
    }

    /// Carries out a burn that is due, until its end and only as long as `running` returns true.
    pub fn burn_due(&mut self, now_ns: u64, control: &Control, running: impl Fn() -> bool) {
        while let Some(burn) = self.ahead.pop_if(|burn| burn.from_ns <= now_ns) {
            if control.event(burn.event).over_ns != 0 {
                // The worker's loop got here too late: the event is over.
                continue;
            }
            control.event_begins(burn.event, now_ns);
            while control.event(burn.event).over_ns == 0 && running() {
                std::hint::spin_loop();
            }
        }
    }
}
