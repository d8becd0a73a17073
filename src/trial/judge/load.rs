//! Whether the load was what the scenario asked for.

use std::collections::BTreeMap;

use super::{Early, Population};
use crate::{
    record::{
        Cause, Connections, Due, ErrorCount, Grounds, Latencies, LatencySummary, Lost, Measured, Nothing, Ports, SoFar,
        Statuses, Unexpected, Unfinished, limits,
    },
    scenario::{App, Mode, Pacer, Selection},
    trial::losses::Losses,
};

/// Whether connections that asked for MPTCP are plain TCP.
pub(super) fn fell_back(connections: &Connections, kernel: &BTreeMap<String, u64>) -> Option<Grounds> {
    let fell_back = connections.fell_back.filter(|fell_back| *fell_back > 0)?;
    Some(Grounds::FellBack {
        fell_back,
        established: connections.established,
        syn_retries: connections.syn_retries,
        disabled: kernel.get("MPCapableSYNTXDisabled").copied().unwrap_or(0),
    })
}

pub(super) fn deadline(gave_up: bool) -> Option<Grounds> {
    gave_up.then_some(Grounds::Deadline { unfinished: Unfinished::Load })
}

/// What was measured by the time that it was told to end early.
pub(super) fn ended_early(
    early: Option<Early<'_>>,
    connections: &Connections,
    response: Option<&LatencySummary>,
) -> Option<Grounds> {
    let Early { after_s, strayed } = early?;
    let so_far = SoFar {
        after_s,
        completed: connections.completed,
        response: response.and_then(|response| response.p50.zip(response.p99)),
    };
    Some(match strayed {
        None => Grounds::Interrupted { so_far },
        Some(why) => Grounds::RoutingChanged { so_far, why: why.to_owned() },
    })
}

pub(super) fn fill_deadline(gave_up: bool) -> Option<Grounds> {
    gave_up.then_some(Grounds::Deadline { unfinished: Unfinished::Fill })
}

pub(super) fn nothing_measured(measured: &Measured) -> Option<Grounds> {
    let kept = measured.kept.map_or(0, |kept| kept.planned);
    (measured.planned + kept == 0).then_some(Grounds::NothingMeasured { nothing: Nothing::Due })
}

/// Whether a fill stopped before the wall and before the number of connections that the scenario asks for.
pub(super) fn fill_stopped(connections: &Connections, ports: &Ports, enough: Option<u64>) -> Option<Grounds> {
    let (established, capacity) = (connections.established, ports.capacity);
    let stopped = ports.wall.is_none() && enough.is_none_or(|enough| established < enough);
    let errors = || connections.errors.clone();
    stopped.then(|| Grounds::NothingMeasured { nothing: Nothing::Filled { established, capacity, errors: errors() } })
}

/// Whether the wall came a little before the capacity because the kernel searches an even number of ports.
pub(super) fn odd_range(ports: &Ports) -> Option<Grounds> {
    let Ports { groups, range, capacity, wall, .. } = *ports;
    let wall = wall?;
    let short = (1..=groups).contains(&capacity.saturating_sub(wall));
    // With `explicit`, the kernel does not search.
    let searches = ports.selection != Selection::Explicit.name();
    (short && range % 2 == 1 && searches).then_some(Grounds::OddRange { wall, capacity, range })
}

/// Whether an open loop's loaders lacked processor time. A closed loop is as fast as its loaders by design, and a loader that spins is
/// always busy.
pub(super) fn saturated(population: &Population<'_>) -> Option<Grounds> {
    let Population { load, name, measured, offered_per_s, busiest } = population;
    let pacer = load.mode.pacer()?;
    let Due { planned, queued, .. } = measured.due()?;
    let busiest = busiest.filter(|_| pacer != Pacer::Spin);
    let is_busy = busiest.is_some_and(|share| share >= limits::BUSY);
    let is_behind = queued as f64 > limits::STARTS_QUEUED * planned as f64;
    let offered_per_s = offered_per_s.filter(|_| load.mode.is_steady());
    (is_busy || is_behind).then_some(Grounds::LoaderSaturated {
        population: name.map(str::to_owned),
        what: if matches!(load.mode, Mode::Kept { .. }) { "requests" } else { "starts" },
        offered_per_s,
        queued,
        planned,
        busiest,
    })
}

/// Errors other than those of attempts that an early end cut short, which have not failed.
fn true_failures(errors: &[ErrorCount]) -> Vec<ErrorCount> {
    errors.iter().filter(|error| error.errno != Cause::Interrupted).copied().collect()
}

/// Whether nothing was completed or, unless the question is about failures, too much failed. Connections that are kept need not be
/// completed for their requests to be answered.
pub(super) fn failures(connections: &Connections, measured: &Measured, are_asked: bool) -> Option<Grounds> {
    let Connections { attempted, completed, .. } = *connections;
    let errors = true_failures(&connections.errors);
    let interrupted: u64 = connections.errors.iter().map(|error| error.count).sum::<u64>()
        - errors.iter().map(|error| error.count).sum::<u64>();
    let failed = attempted.saturating_sub(completed + interrupted);
    let first = connections.unexpected.as_ref().map_or_else(String::new, |unexpected| unexpected.first.clone());
    if completed + measured.requests_in_window + measured.requests_in_drain == 0 {
        let nothing = Nothing::Completed { attempted, errors, first };
        return (failed > 0).then_some(Grounds::NothingMeasured { nothing });
    }
    let too_many = !are_asked && failed as f64 > limits::FAILURES * attempted as f64;
    too_many.then_some(Grounds::Failures { failed, attempted, errors, first })
}

/// Whether an open loop's rate was not met in the window, for other reasons than the scenario's events, to which it lost so many per
/// second.
pub(super) fn rate_unmet(
    population: Option<&str>,
    offered_per_s: Option<f64>,
    met: Option<(&'static str, f64)>,
    to_events_per_s: f64,
) -> Option<Grounds> {
    let (offered_per_s, (what, met_per_s)) = offered_per_s.zip(met)?;
    (met_per_s + to_events_per_s < limits::RATE_MET * offered_per_s).then_some(Grounds::RateUnmet {
        population: population.map(str::to_owned),
        what,
        met_per_s,
        offered_per_s,
    })
}

pub(super) fn no_follow_up(asked: bool, latencies: &Latencies) -> Option<Grounds> {
    (asked && latencies.follow_up.is_empty()).then_some(Grounds::NoFollowUp {})
}

/// Replies that refuse the request or fail it.
pub(super) fn error_replies(statuses: Statuses) -> Option<Grounds> {
    (statuses.errors() as f64 > limits::ERRORS * statuses.all() as f64).then_some(Grounds::ErrorReplies { statuses })
}

/// Replies that are not what the scenario expects, or what was sent to clients that expect nothing.
pub(super) fn unexpected(connections: &Connections, app: App) -> Option<Grounds> {
    let Unexpected { count, first } = connections.unexpected.clone()?;
    let established = connections.established;
    Some(match app {
        App::Connect => Grounds::ServerSpoke { count, established, first },
        _ => Grounds::UnexpectedReplies { count, first },
    })
}

/// Whether enough connections failed that a reader must know, without those that the record has as lost to the scenario's events, and those
/// that [`unexpected`] is about. Not every error is a connection that failed: one handed to a worker that has died goes to another.
pub(super) fn errors(connections: &Connections, lost: &[Lost]) -> Option<Grounds> {
    let Connections { attempted, completed, .. } = *connections;
    let mut errors = true_failures(&connections.errors);
    errors.retain(|error| error.errno != Cause::Mismatch);
    let others = errors.iter().map(|error| error.count).sum::<u64>() - Losses::of(&errors).explained_by(lost);
    let failed = others.min(attempted.saturating_sub(completed));
    (failed as f64 > limits::ERRORS * attempted as f64).then_some(Grounds::Errors { errors })
}

pub(super) fn beyond_range(values: u64) -> Option<Grounds> {
    (values > 0).then_some(Grounds::BeyondRange { values })
}

#[cfg(test)]
mod tests {
    use super::{super::words, unexpected as unexpected_of, *};
    use crate::{
        record::{Cause, LatencySummary, Step},
        scenario::{Load, Plan, Source},
    };

    fn latency(count: u64, p50: u64, p99: u64) -> LatencySummary {
        LatencySummary { due: count, count, p50: Some(p50), p99: Some(p99), ..LatencySummary::default() }
    }

    #[test]
    fn connections_that_fell_back_are_counted_where_mptcp_was_asked_for() {
        let found = |fell_back, syn_retries, disabled: u64| {
            let connections = Connections { established: 12, fell_back, syn_retries, ..Connections::default() };
            words(super::fell_back(&connections, &[("MPCapableSYNTXDisabled".to_owned(), disabled)].into()))
        };
        assert_eq!((found(None, 3, 1), found(Some(0), 3, 1)), (None, None));
        assert_eq!(found(Some(1), 0, 0).unwrap(), "fell-back: 1 of 12 connections fell back to TCP");
        assert_eq!(
            found(Some(9), 36, 4).unwrap(),
            "fell-back: 9 of 12 connections fell back to TCP; 36 SYNs were sent again; for 4, the kernel no longer asked \
             (MPCapableSYNTXDisabled)"
        );
    }

    #[test]
    fn a_few_replies_may_be_errors() {
        let found = |successful, client_errors, server_errors| {
            words(error_replies(Statuses { successful, client_errors, server_errors, ..Statuses::default() }))
        };
        assert_eq!(found(0, 0, 0), None);
        assert_eq!(found(999, 1, 0), None);
        assert_eq!(found(998, 1, 1).unwrap(), "error-replies: 2 of 1,000 replies: 2xx ×998, 3xx ×0, 4xx ×1, 5xx ×1");
        assert!(found(0, 1, 0).is_some());
    }

    #[test]
    fn what_was_not_expected_is_shown() {
        let found = |app, first: &str, count| {
            let unexpected = Some(Unexpected { count, first: first.to_owned() });
            words(unexpected_of(&Connections { unexpected, established: 9, ..Connections::default() }, app))
        };
        assert_eq!(words(unexpected_of(&Connections::default(), App::Line)), None);
        assert_eq!(
            found(App::Line, "-ERR no\\r\\n", 1).unwrap(),
            "unexpected-replies: 1 reply began otherwise than `load.expect` says: -ERR no\\r\\n"
        );
        assert_eq!(
            found(App::Line, "", 2).unwrap(),
            "unexpected-replies: 2 replies began otherwise than `load.expect` says"
        );
        assert_eq!(found(App::Connect, "220 hi", 3).unwrap(), "server-spoke: on 3 of 9 connections: 220 hi");
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
            (
                words(nothing_measured(&Measured {
                    kept: Some(Due { planned: 1, ..Due::default() }),
                    ..Measured::default()
                })),
                None,
            ),
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
    fn a_range_of_odd_size_may_lose_a_port_of_each_group() {
        let said = |selection: &str, groups, range, wall| {
            let ports =
                Ports { selection: selection.to_owned(), groups, range, wall, capacity: 99, ..Ports::default() };
            words(odd_range(&ports))
        };
        assert_eq!(
            said("kernel", 1, 99, Some(98)).unwrap(),
            "odd-range: the wall is at 98 of 99 connections, because the range has an odd number of ports (99)"
        );
        assert!(said("bind-zero", 3, 33, Some(96)).is_some());
        for (selection, groups, range, wall) in [
            ("kernel", 1, 99, None),
            ("kernel", 1, 99, Some(99)),
            ("kernel", 1, 99, Some(97)),
            ("kernel", 1, 100, Some(98)),
            ("explicit", 1, 99, Some(98)),
        ] {
            assert_eq!(said(selection, groups, range, wall), None, "{selection} {groups} {range} {wall:?}");
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
    fn only_a_loader_that_lacks_processor_time_is_saturated() {
        let load = |keys: &str| {
            let text = format!("[load]\n{keys}");
            let plan = Plan::read(&Source { name: "t", text: &text }, &[]).unwrap();
            plan.cells[0].scenario.loads[0].clone()
        };
        let (open, closed) = (load("mode = \"open\"\nrate = 400"), load("concurrency = 4"));
        let spinning = load("mode = \"open\"\nrate = 400\npacer = \"spin\"");
        let said = |load: &Load, queued, busiest| {
            let measured = Measured { planned: 1_000, queued, ..Measured::default() };
            words(saturated(&Population { load, name: None, measured, offered_per_s: Some(400.0), busiest }))
        };
        assert_eq!(said(&open, 10, Some(0.89)), None);
        assert_eq!(
            said(&open, 11, None).unwrap(),
            "loader-saturated: 11 of 1000 starts at 400/s were still due after 64 had been made at once"
        );
        assert_eq!(
            said(&open, 0, Some(0.9)).unwrap(),
            "loader-saturated: the busiest loader used 90 % of the time it could get"
        );
        let burst = load("mode = \"open\"\narrivals = \"burst\"");
        assert_eq!(
            said(&burst, 11, Some(0.9)).unwrap(),
            "loader-saturated: 11 of 1000 starts were still due after 64 had been made at once; the busiest loader used \
             90 % of the time it could get"
        );
        assert_eq!(said(&closed, 1_000, Some(1.0)), None, "a closed loop is saturated by design");
        assert_eq!(said(&spinning, 10, Some(1.0)), None, "a loader that spins is always busy");
        assert!(said(&spinning, 11, Some(1.0)).is_some());
        let kept = load("mode = \"kept\"");
        let measured = Measured { planned: 1_000, queued: 11, ..Measured::default() };
        let kept = Population { load: &kept, name: Some("kept"), measured, offered_per_s: Some(400.0), busiest: None };
        assert_eq!(
            words(saturated(&kept)).unwrap(),
            "loader-saturated: kept: 11 of 1000 requests at 400/s were still due after 64 had been made at once"
        );
    }

    #[test]
    fn one_failure_in_twenty_is_too_many_unless_asked_about() {
        let said = |attempted, completed, errno, are_asked| {
            let errors = vec![ErrorCount { phase: Step::Receive, errno, count: attempted - completed }];
            let connections = Connections { attempted, completed, errors, ..Connections::default() };
            words(failures(&connections, &Measured::default(), are_asked))
        };
        assert_eq!(said(1_000, 950, Cause::TIMED_OUT, false), None);
        let failed = "failures: 51 of 1000 attempts failed: receive ETIMEDOUT ×51";
        assert_eq!(said(1_000, 949, Cause::TIMED_OUT, false).as_deref(), Some(failed));
        assert_eq!(said(1_000, 949, Cause::TIMED_OUT, true), None);
        assert_eq!(said(1_000, 100, Cause::Interrupted, false), None);
        // Of what was interrupted, nobody knows whether it would have failed; of others that is known.
        assert_eq!(said(7, 0, Cause::Interrupted, false), None);
        let count = |errno, count| ErrorCount { phase: Step::Receive, errno, count };
        let both = vec![count(Cause::BadReply, 6), count(Cause::Interrupted, 1)];
        let replies = "receive BADREPLY ×6 (not a reply, or another connection's)";
        let all = Connections { attempted: 7, errors: both, ..Connections::default() };
        assert_eq!(words(errors(&all, &[])).unwrap(), format!("errors: {replies}"));
        assert_eq!(
            words(failures(&all, &Measured::default(), false)).unwrap(),
            format!("nothing-measured: none of 7 attempts was completed: {replies}")
        );
        // A kept connection that ended with an error had answers before.
        let answered = Measured { requests_in_window: 85, ..Measured::default() };
        let failed = "failures: 6 of 7 attempts failed: ";
        assert_eq!(words(failures(&all, &answered, false)).unwrap(), format!("{failed}{replies}"));
        // What the server said instead is the cause.
        let unexpected = Some(Unexpected { count: 6, first: "-ERR no\\r\\n".to_owned() });
        let refused = Connections { unexpected, ..all };
        for (measured, begins) in
            [(answered, failed), (Measured::default(), "nothing-measured: none of 7 attempts was completed: ")]
        {
            let said = words(failures(&refused, &measured, false)).unwrap();
            assert_eq!(said, format!("{begins}{replies}; the server sent -ERR no\\r\\n"));
        }
        // Nothing is not an answer to any question.
        let nothing = "nothing-measured: none of 7 attempts was completed: receive ETIMEDOUT ×7";
        assert_eq!(
            [false, true].map(|asked| said(7, 0, Cause::TIMED_OUT, asked)),
            [(); 2].map(|()| Some(nothing.to_owned()))
        );
        assert_eq!(words(failures(&Connections::default(), &Measured::default(), false)), None);
    }

    #[test]
    fn a_rate_is_met_from_95_percent_on() {
        let unmet = |offered, met| words(rate_unmet(None, offered, met, 0.0));
        assert_eq!(unmet(Some(400.0), Some(("accepted", 380.0))), None);
        let said = unmet(Some(400.0), Some(("accepted", 379.0)));
        assert_eq!(said.unwrap(), "rate-unmet: 379/s accepted of 400/s offered");
        assert_eq!(unmet(None, Some(("accepted", 0.0))), None, "a closed loop offers no rate");
        assert_eq!(unmet(Some(400.0), None), None);
        let said = words(rate_unmet(Some("storm"), Some(400.0), Some(("answered", 379.0)), 0.0));
        assert_eq!(said.unwrap(), "rate-unmet: storm: 379/s answered of 400/s offered");
        let beside = |to_events| words(rate_unmet(None, Some(400.0), Some(("accepted", 300.0)), to_events));
        assert_eq!(beside(79.0).unwrap(), "rate-unmet: 300/s accepted of 400/s offered");
        assert_eq!(beside(80.0), None, "events account for what is missing");
    }

    #[test]
    fn one_failure_in_a_thousand_is_tolerated() {
        let count = |phase, count| ErrorCount { phase, errno: Cause::Errno(libc::EPIPE), count };
        let of = |counts: &[ErrorCount], completed: u64, lost: &[Lost]| {
            let errors = counts.to_vec();
            let connections = Connections { attempted: 2_000, completed, errors, ..Connections::default() };
            words(super::errors(&connections, lost))
        };
        let said = |counts: &[ErrorCount]| of(counts, 0, &[]);
        assert_eq!(said(&[count(Step::Send, 1), count(Step::Receive, 1)]), None);
        let failed = said(&[count(Step::Send, 2), count(Step::Receive, 1)]);
        let listed = "errors: send EPIPE ×2, receive EPIPE ×1";
        assert_eq!(failed.as_deref(), Some(listed));
        // Another verdict tells of replies that are not as expected.
        let mismatch = ErrorCount { phase: Step::Receive, errno: Cause::Mismatch, count: 2_000 };
        assert_eq!(said(&[mismatch]), None);
        assert_eq!(said(&[count(Step::Send, 2), mismatch, count(Step::Receive, 1)]).as_deref(), Some(listed));
        // What one worker could not take, another did.
        assert_eq!(of(&[count(Step::Accept, 3)], 2_000, &[]), None);
        // What was lost to events is what the scenario asks about.
        let of_events = |cut, refused| {
            let lost = Lost { cut: Some(cut), refused: Some(refused), reset_in_queue: None };
            of(&[count(Step::Send, 2), count(Step::Receive, 1)], 0, &[lost])
        };
        assert_eq!([(1, 0), (3, 0)].map(|(cut, refused)| of_events(cut, refused)), [None, None]);
        assert_eq!([(0, 0), (0, 3)].map(|(cut, refused)| of_events(cut, refused).unwrap()), [listed, listed]);
    }
}
