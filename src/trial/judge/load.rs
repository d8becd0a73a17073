//! Whether the load was what the scenario asked for.

use crate::record::{
    Connections, ErrorCount, Grounds, Latencies, LatencySummary, Lateness, Measured, Nothing, Ports, Unfinished, limits,
};

pub(super) fn deadline(gave_up: bool) -> Option<Grounds> {
    gave_up.then_some(Grounds::Deadline { unfinished: Unfinished::Load })
}

pub(super) fn fill_deadline(gave_up: bool) -> Option<Grounds> {
    gave_up.then_some(Grounds::Deadline { unfinished: Unfinished::Fill })
}

pub(super) fn nothing_measured(measured: &Measured) -> Option<Grounds> {
    (measured.planned == 0).then_some(Grounds::NothingMeasured { nothing: Nothing::Due })
}

/// Whether a fill stopped before the wall and before the number of connections that the scenario asks for.
pub(super) fn fill_stopped(connections: &Connections, ports: &Ports, enough: Option<u64>) -> Option<Grounds> {
    let (established, capacity) = (connections.established, ports.capacity);
    let stopped = ports.wall.is_none() && enough.is_none_or(|enough| established < enough);
    let errors = || connections.errors.clone();
    stopped.then(|| Grounds::NothingMeasured { nothing: Nothing::Filled { established, capacity, errors: errors() } })
}

/// Whether the loaders' lateness is too large compared with what they measured.
pub fn late(send_lag: &LatencySummary, response: &LatencySummary) -> Option<Lateness> {
    let late = response.count > 0 && send_lag.p99 as f64 > limits::SEND_LAG * response.p50 as f64;
    late.then_some(Lateness::Lag { p99_ns: send_lag.p99, response_p50_ns: response.p50 })
}

/// Whether too many starts missed the window or came late. How busy the loaders were distinguishes overload from late timers.
pub(super) fn saturated(
    measured: &Measured,
    latencies: &Latencies,
    offered_per_s: Option<f64>,
    busiest: Option<f64>,
) -> Option<Grounds> {
    let (planned, missed) = (measured.planned, measured.planned.saturating_sub(measured.in_time));
    // The shorter of the two, if connections and datagrams have separate latencies.
    let responses = [&latencies.response, &latencies.udp_response];
    let response = responses.into_iter().filter(|response| !response.is_empty()).min_by_key(|response| response.p50)?;
    let missing = missed as f64 > limits::STARTS_MISSED * planned as f64;
    let lateness =
        missing.then_some(Lateness::Missed { missed, planned }).or_else(|| late(&latencies.send_lag, response))?;
    Some(Grounds::LoaderSaturated { lateness, offered_per_s, busiest })
}

/// Whether an open loop's rate was not met in the window.
pub(super) fn rate_unmet(offered_per_s: Option<f64>, met: Option<(&'static str, f64)>) -> Option<Grounds> {
    let (offered_per_s, (what, met_per_s)) = offered_per_s.zip(met)?;
    (met_per_s < limits::RATE_MET * offered_per_s).then_some(Grounds::RateUnmet { what, met_per_s, offered_per_s })
}

pub(super) fn no_follow_up(asked: bool, latencies: &Latencies) -> Option<Grounds> {
    (asked && latencies.follow_up.is_empty()).then_some(Grounds::NoFollowUp {})
}

/// Whether enough connections failed that a reader must know.
pub fn errors(errors: &[ErrorCount], attempted: u64) -> Option<Grounds> {
    let failed: u64 = errors.iter().map(|error| error.count).sum();
    (failed as f64 > limits::ERRORS * attempted as f64).then(|| Grounds::Errors { errors: errors.to_vec() })
}

pub(super) fn beyond_range(values: u64) -> Option<Grounds> {
    (values > 0).then_some(Grounds::BeyondRange { values })
}

#[cfg(test)]
mod tests {
    use super::{super::words, *};
    use crate::record::{Cause, Step};

    fn latency(count: u64, p50: u64, p99: u64) -> LatencySummary {
        LatencySummary { count, p50, p99, ..LatencySummary::default() }
    }

    #[test]
    fn a_single_occurrence_is_enough() {
        let planned = |planned| words(nothing_measured(&Measured { planned, ..Measured::default() }));
        let followed = |count| Latencies { follow_up: latency(count, 1, 1), ..Latencies::default() };
        for (given, expected) in [
            (words(deadline(false)), None),
            (words(deadline(true)), Some("deadline: the load had not finished by the deadline")),
            (words(fill_deadline(false)), None),
            (words(fill_deadline(true)), Some("deadline: the ports were not full by the deadline")),
            (planned(1), None),
            (planned(0), Some("nothing-measured: no connection was due in the measured window")),
            (words(beyond_range(0)), None),
            (words(beyond_range(1)), Some("beyond-range: 1 latency over 60 s was recorded as 60 s")),
            (words(no_follow_up(false, &followed(0))), None),
            (words(no_follow_up(true, &followed(1))), None),
            (
                words(no_follow_up(true, &followed(0))),
                Some("no-follow-up: no measured connection was held when the follow-up was due"),
            ),
        ] {
            assert_eq!(given.as_deref(), expected);
        }
    }

    #[test]
    fn a_fill_reaches_the_wall_or_the_number_asked_for() {
        let errors = vec![ErrorCount { phase: Step::Connect, errno: Cause::Errno(libc::EMFILE), count: 3 }];
        let stopped = |established, enough, wall| {
            let connections = Connections { established, errors: errors.clone(), ..Connections::default() };
            words(fill_stopped(&connections, &Ports { capacity: 100, wall, ..Ports::default() }, enough))
        };
        assert_eq!(stopped(100, None, Some(100)), None);
        assert_eq!(stopped(50, Some(50), None), None);
        let said = |open| format!("nothing-measured: the fill stopped at {open} of 100 connections: connect EMFILE ×3");
        assert_eq!(stopped(49, Some(50), None), Some(said(49)));
        assert_eq!(stopped(100, None, None), Some(said(100)));
    }

    #[test]
    fn late_and_missing_starts_saturate_a_loader() {
        let said = |in_time, lag, offered, busiest| {
            let measured = Measured { planned: 1_000, in_time, ..Measured::default() };
            let response = latency(900, 1_000_000, 9_000_000);
            let latencies = Latencies { response, send_lag: latency(900, 1, lag), ..Latencies::default() };
            words(saturated(&measured, &latencies, offered, busiest))
        };
        assert_eq!(said(990, 100_000, Some(400.0), Some(0.5)), None);
        assert_eq!(
            said(989, 100_000, Some(400.0), Some(0.5)).unwrap(),
            "loader-saturated: 11 of 1000 starts at 400/s came after the window's end; the busiest loader used 50 % of a processor"
        );
        assert_eq!(
            said(990, 100_001, None, None).unwrap(),
            "loader-saturated: send lag p99 0.100 ms, more than 10 % of the response p50 1.000 ms"
        );
        // Nothing was answered, so there is nothing to compare with.
        let measured = Measured { planned: 1_000, ..Measured::default() };
        assert_eq!(saturated(&measured, &Latencies::default(), None, None), None);
        // Datagram flows are answered sooner, but delayed by as much.
        let (response, udp_response) = (latency(9, 2_000, 2_000), latency(9, 1_000, 1_000));
        let both = Latencies { response, udp_response, send_lag: latency(18, 1, 150), ..Latencies::default() };
        assert!(saturated(&Measured::default(), &both, None, None).is_some());
    }

    #[test]
    fn a_rate_is_met_from_95_percent_on() {
        let unmet = |offered, met| words(rate_unmet(offered, met));
        assert_eq!(unmet(Some(400.0), Some(("accepted", 380.0))), None);
        let said = unmet(Some(400.0), Some(("accepted", 379.0)));
        assert_eq!(said.unwrap(), "rate-unmet: 379/s accepted of 400/s offered");
        assert_eq!(unmet(None, Some(("accepted", 0.0))), None, "a closed loop offers no rate");
        assert_eq!(unmet(Some(400.0), None), None);
    }

    #[test]
    fn one_failure_in_a_thousand_is_tolerated() {
        let count = |phase, count| ErrorCount { phase, errno: Cause::Errno(libc::EPIPE), count };
        let said = |counts: &[ErrorCount]| words(errors(counts, 2_000));
        assert_eq!(said(&[count(Step::Send, 1), count(Step::Receive, 1)]), None);
        let failed = said(&[count(Step::Send, 2), count(Step::Receive, 1)]);
        assert_eq!(failed.unwrap(), "errors: send EPIPE ×2, receive EPIPE ×1");
    }
}
