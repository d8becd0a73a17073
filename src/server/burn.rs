//! A worker's part in the scenario's faults: it burns CPU and serves no connection, as during a request that takes too long, until
//! the trial's process ends the fault. The trial's process itself stops and kills workers.

use crate::{
    ipc::control::{Control, Window},
    scenario::{FaultKind, Scenario},
    sys::clock,
};

/// One worker's pending burns, the next one last.
pub(super) struct Burns {
    ahead: Vec<Burn>,
}

struct Burn {
    /// Its number among the scenario's faults.
    fault: usize,
    from_ns: u64,
}

impl Burns {
    pub fn new(scenario: &Scenario, worker: usize, window: Window) -> Self {
        let faults = scenario.faults.iter().enumerate().filter(|(_, fault)| fault.worker == worker);
        let mut ahead: Vec<Burn> = faults
            .filter_map(|(number, fault)| {
                let FaultKind::Burn(_) = fault.kind else { return None };
                Some(Burn { fault: number, from_ns: window.start_ns.saturating_add(clock::nanoseconds(fault.at)) })
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
            if control.fault(burn.fault).over_ns != 0 {
                // The worker's loop got here too late: the fault is over.
                continue;
            }
            control.fault_begins(burn.fault, now_ns);
            while control.fault(burn.fault).over_ns == 0 && running() {
                std::hint::spin_loop();
            }
        }
    }
}
