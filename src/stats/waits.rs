//! What a cell's accept waits are. Waits that were measured differently, or end at different events, are never compared.

use std::fmt;

use super::{metrics::Metric, summary::CellSummary};
use crate::record::{TrialRecord, WaitEnd, WaitMethod};

/// What a cell's accept waits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// How they were measured; `None` without any.
    pub method: Option<WaitMethod>,
    /// What ends them; `None` without any, and if that differs between members or trials.
    pub ends: Option<WaitEnd>,
}

impl Waits {
    /// Upper bounds beside exact waits: replies show them, which come from the worker that serves.
    pub const BOUND: Self = Self { method: Some(WaitMethod::ConnectCall), ends: Some(WaitEnd::Serving) };

    /// Those of a cell's trials.
    pub fn of<'a>(trials: impl Iterator<Item = &'a TrialRecord>) -> Self {
        // Bounds beside them end where they do only by chance.
        let mut all = trials.map(|trial| &trial.latency_ns.accept_wait).filter(|waits| !waits.is_empty());
        let Some(first) = all.next() else { return Self { method: None, ends: None } };
        Self { method: first.method, ends: first.ends.filter(|ends| all.all(|one| one.ends == Some(*ends))) }
    }

    /// Those that a metric of a cell is about; `None` if it is not about accept waits, or the cell does not have it.
    pub fn of_metric(metric: &Metric, cell: &CellSummary) -> Option<Self> {
        let waits = Self { method: cell.accept_wait_method, ends: cell.accept_wait_ends };
        (metric.is_of_accepts() && cell.metrics.contains_key(metric.name)).then_some(if metric.is_accept_wait() {
            waits
        } else {
            Self::BOUND
        })
    }

    /// Whether they may be compared with others.
    pub fn are_like(self, other: Self) -> bool {
        self == other && self.ends.is_some()
    }
}

/// `waits until accept returned`, `upper bounds of waits until the serving worker has the connection`.
impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.method == Some(WaitMethod::ConnectCall) { "upper bounds of waits" } else { "waits" };
        write!(f, "{kind} {}", until(self.ends))
    }
}

/// What ends a wait, in words.
pub fn until(ends: Option<WaitEnd>) -> &'static str {
    match ends {
        Some(WaitEnd::Serving) => "until the serving worker has the connection",
        Some(WaitEnd::Accept) => "until accept returned",
        Some(WaitEnd::Completion) => "until an io_uring completed the accept",
        None => "to an end that differs between members or trials",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::LatencySummary;

    #[test]
    fn bounds_beside_exact_waits_do_not_say_what_ends_those() {
        let trial = |ends: &[Option<WaitEnd>]| -> Vec<TrialRecord> {
            let of = |ends: &Option<WaitEnd>| {
                let mut trial = TrialRecord::default();
                let waits = LatencySummary { count: 1, due: 1, ..LatencySummary::default() };
                trial.latency_ns.accept_wait =
                    LatencySummary { method: Some(WaitMethod::Tracepoint), ends: *ends, ..waits.clone() };
                trial.latency_ns.accept_wait_bound =
                    LatencySummary { method: Some(WaitMethod::ConnectCall), ends: Some(WaitEnd::Serving), ..waits };
                trial
            };
            ends.iter().map(of).collect()
        };
        let (accept, completion) = (Some(WaitEnd::Accept), Some(WaitEnd::Completion));
        let exact = Some(WaitMethod::Tracepoint);
        for (ends, expected) in [
            (&[accept, accept][..], Waits { method: exact, ends: accept }),
            (&[accept, completion], Waits { method: exact, ends: None }),
            (&[None, None], Waits { method: exact, ends: None }),
            (&[], Waits { method: None, ends: None }),
        ] {
            assert_eq!(Waits::of(trial(ends).iter()), expected, "{ends:?}");
        }
        assert_eq!(Waits::BOUND.to_string(), "upper bounds of waits until the serving worker has the connection");
        let mixed = Waits { method: exact, ends: None };
        assert_eq!(mixed.to_string(), "waits to an end that differs between members or trials");
    }
}
