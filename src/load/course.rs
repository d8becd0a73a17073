//! How much happened in the measured window, for its rates.

use serde::{Deserialize, Serialize};

use crate::ipc::control::{Account, LoaderCount, LoaderKept, Window};

/// Counts events of one kind as they happen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    window: Window,
    inside: LoaderCount,
    after: LoaderCount,
    /// If the window's end is not known yet: when they happened, in microseconds since its beginning.
    by_time: LoaderKept,
}

/// How many events of one kind happened, by when.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// In a window whose end was known beforehand.
    pub(super) inside: u64,
    /// After it.
    pub(super) after: u64,
    /// In a window whose end was not: numbers of events by when they happened, in microseconds since its beginning, to a
    /// thousandth.
    pub(super) by_us: Vec<(u64, u64)>,
}

impl Course {
    /// Of connections and flows that complete.
    pub fn of_completions(window: Window) -> Self {
        let (inside, after) = (LoaderCount::CompletedInWindow, LoaderCount::CompletedLater);
        Self { window, inside, after, by_time: LoaderKept::Completed }
    }

    /// Of requests that are answered.
    pub fn of_answers(window: Window) -> Self {
        let (inside, after) = (LoaderCount::AnsweredInWindow, LoaderCount::AnsweredLater);
        Self { window, inside, after, by_time: LoaderKept::Answered }
    }

    /// Of TLS handshakes that are completed.
    pub fn of_handshakes(window: Window) -> Self {
        let (inside, after) = (LoaderCount::SecuredInWindow, LoaderCount::SecuredLater);
        Self { window, inside, after, by_time: LoaderKept::Secured }
    }

    /// An event happened at `now_ns`.
    #[inline]
    pub fn happened(&self, now_ns: u64, account: &Account) {
        let Some(since_ns) = now_ns.checked_sub(self.window.measure_from_ns) else { return };
        match self.window.measure_to_ns {
            u64::MAX => account.keep(self.by_time, since_ns / 1_000),
            measure_to_ns if now_ns < measure_to_ns => account.add(self.inside, 1),
            _ => account.add(self.after, 1),
        }
    }
}

impl Happened {
    /// How many happened in the window. `length_ns` is its length, which only a window without a known end asks for.
    pub fn within(&self, length_ns: u64) -> u64 {
        self.inside
            + self.by_us.iter().filter(|(at_us, _)| at_us * 1_000 < length_ns).map(|(_, count)| count).sum::<u64>()
    }

    /// How many happened after the window, which is this long.
    pub fn after(&self, length_ns: u64) -> u64 {
        self.after
            + self.by_us.iter().filter(|(at_us, _)| at_us * 1_000 >= length_ns).map(|(_, count)| count).sum::<u64>()
    }

    pub fn add(&mut self, other: &Self) {
        self.inside += other.inside;
        self.after += other.after;
        self.by_us.extend(&other.by_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{
        fakes::{account, scenario},
        report::LoaderReport,
    };

    const MS: u64 = 1_000_000;

    fn happened(measure_to_ns: u64) -> Happened {
        let window = Window { start_ns: 0, measure_from_ns: 10 * MS, measure_to_ns, deadline_ns: u64::MAX };
        let (course, account) = (Course::of_answers(window), account(&scenario("")));
        [9, 10, 19, 20, 40].into_iter().for_each(|ms| course.happened(ms * MS, &account));
        let LoaderReport { completions, requests, .. } = LoaderReport::read(&account);
        assert_eq!(completions, Happened::default());
        requests
    }

    #[test]
    fn only_what_happens_in_the_window_counts() {
        // The window's beginning belongs to it, its end does not.
        let happened = happened(20 * MS);
        assert_eq!((happened.within(10 * MS), happened.after(10 * MS)), (2, 2));
    }

    #[test]
    fn an_open_ended_window_ends_where_it_is_told() {
        let open_ended = happened(u64::MAX);
        assert_eq!([10, 11, 30, 31].map(|ms| open_ended.within(ms * MS)), [2, 3, 3, 4]);
        assert_eq!([10, 11, 30, 31].map(|ms| open_ended.after(ms * MS)), [2, 1, 1, 0]);
        let mut both = open_ended.clone();
        both.add(&open_ended);
        assert_eq!(both.within(11 * MS), 6);
    }
}
