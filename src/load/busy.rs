//! How much of the processor time that it could get a loader used in the measured window, for as long as it had starts to make: a load that
//! is held after its last start needs almost none.

use serde::{Deserialize, Serialize};

use crate::{
    ipc::control::{Account, LoaderCount, Window},
    sys::clock,
};

/// Reads the loader's use of its processor at the window's edges, and enters it in its account.
#[derive(Debug)]
pub(super) struct BusyWatch {
    window: Window,
    from: Option<Mark>,
    /// Whether the window's end or the last start has been passed.
    ended: bool,
}

/// The loader's use up to an instant.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at_ns: u64,
    cpu_ns: u64,
    waited_ns: u64,
}

/// What a loader used of a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// CPU time in user mode and in the kernel.
    pub cpu_ns: u64,
    /// Time it was ready to run while others had its processor: it could not get that.
    pub waited_ns: u64,
    pub span_ns: u64,
}

impl Mark {
    fn at(at_ns: u64) -> Self {
        let cpu = clock::cpu_use();
        Self { at_ns, cpu_ns: cpu.user_ns + cpu.system_ns, waited_ns: clock::run_queue_wait_ns().unwrap_or(0) }
    }
}

impl BusyWatch {
    pub fn new(window: Window) -> Self {
        Self { window, from: None, ended: false }
    }

    /// It is now `now_ns`. `is_last`: no start follows.
    #[inline]
    pub fn pass(&mut self, now_ns: u64, is_last: bool, account: &Account) {
        if self.from.is_none() && now_ns >= self.window.measure_from_ns {
            self.from = Some(Mark::at(now_ns));
        }
        if !self.ended && (is_last || now_ns >= self.window.measure_to_ns) {
            self.end(now_ns, account);
        }
    }

    /// The load ended at `now_ns`, and with it a window that had begun and had not ended yet.
    pub fn finish(mut self, now_ns: u64, account: &Account) {
        self.pass(now_ns, true, account);
    }

    fn end(&mut self, now_ns: u64, account: &Account) {
        self.ended = true;
        let Some(from) = self.from else { return };
        let to = Mark::at(now_ns);
        account.set(LoaderCount::BusyCpuNs, to.cpu_ns.saturating_sub(from.cpu_ns));
        account.set(LoaderCount::BusyWaitedNs, to.waited_ns.saturating_sub(from.waited_ns));
        // Set last: it makes the others valid.
        account.set(LoaderCount::BusySpanNs, to.at_ns.saturating_sub(from.at_ns));
    }
}

impl Busy {
    /// CPU time ÷ the time in which no other process had the processor; `None` if there was none.
    pub fn share(self) -> Option<f64> {
        let could_get_ns = self.span_ns.checked_sub(self.waited_ns).filter(|ns| *ns > 0)?;
        Some((self.cpu_ns as f64 / could_get_ns as f64).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{
        fakes::{account, scenario},
        report::LoaderReport,
    };

    #[test]
    fn what_others_took_could_not_be_got() {
        let share = |cpu_ns, waited_ns, span_ns| Busy { cpu_ns, waited_ns, span_ns }.share();
        assert_eq!(share(45, 50, 100), Some(0.9));
        assert_eq!(share(45, 0, 100), Some(0.45));
        assert_eq!(share(101, 0, 100), Some(1.0), "of different clocks");
        assert_eq!((share(0, 100, 100), share(0, 0, 0)), (None, None));
    }

    #[test]
    fn a_window_that_never_began_has_no_share() {
        let window = Window { start_ns: 0, measure_from_ns: 10, measure_to_ns: 20, deadline_ns: 99 };
        let span_ns = |passes: &[u64], end_ns| {
            let account = account(&scenario(""));
            let mut watch = BusyWatch::new(window);
            passes.iter().for_each(|now_ns| watch.pass(*now_ns, false, &account));
            let at_passes = LoaderReport::read(&account).busy;
            watch.finish(end_ns, &account);
            (at_passes, LoaderReport::read(&account).busy.map(|busy| busy.span_ns))
        };
        assert_eq!(span_ns(&[], 9), (None, None));
        assert_eq!(span_ns(&[12], 15), (None, Some(3)));
        assert_eq!(span_ns(&[12, 23, 40], 50).1, Some(11));
        assert!(span_ns(&[12, 23], 50).0.is_some(), "known once the window has ended");
    }

    #[test]
    fn a_window_ends_with_the_last_start() {
        let window = Window { start_ns: 0, measure_from_ns: 10, measure_to_ns: 20, deadline_ns: 99 };
        let span_ns = |last_ns: u64, passes: &[u64]| {
            let account = account(&scenario(""));
            let mut watch = BusyWatch::new(window);
            passes.iter().for_each(|now_ns| watch.pass(*now_ns, *now_ns >= last_ns, &account));
            watch.finish(90, &account);
            LoaderReport::read(&account).busy.map(|busy| busy.span_ns)
        };
        assert_eq!(span_ns(15, &[12, 15, 18, 30]), Some(3));
        assert_eq!(span_ns(25, &[12, 15, 21, 30]), Some(9));
        assert_eq!(span_ns(5, &[5, 12, 30]), None, "all were due before");
    }
}
