//! What a trial waits for at the moment.

use std::time::Duration;

use crate::{
    format::{counted, seconds, thousands},
    ipc::control::LoaderCount,
    scenario::{Bound, Scenario, UnderTest},
    sys::clock,
    trial::{Stage, View},
};

/// The stage's name, as users see it.
pub(super) const fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::SetUp => "set-up",
        Stage::WarmUp => "warm-up",
        Stage::Measuring => "measuring",
        Stage::Closing => "closing",
        Stage::Filling => "filling",
        Stage::Recovering => "recovering",
    }
}

/// What the trial waits for, as a clause.
pub(super) fn waits_for(scenario: &Scenario, has_hosts: bool, view: &View<'_>) -> String {
    let now_ns = clock::monotonic_ns();
    let until = |at_ns: u64| seconds(Duration::from_nanos(at_ns.saturating_sub(now_ns)));
    let window = view.window();
    match (view.stage(), view.fill) {
        (Stage::SetUp, None) if window.is_some() => "waiting for the instant at which all processes start".to_owned(),
        (Stage::SetUp, _) => match &scenario.subject {
            UnderTest::Command(command) => format!(
                "waiting for the server to listen on {}, at most {}",
                scenario.place(),
                seconds(command.ready_within)
            ),
            _ if has_hosts => "waiting for the server and all hosts to be ready".to_owned(),
            UnderTest::Own | UnderTest::Running => "waiting for networks and processes to be ready".to_owned(),
        },
        (Stage::WarmUp, _) => {
            format!("measuring begins in {}", until(window.map_or(0, |window| window.measure_from_ns)))
        }
        (Stage::Measuring, _) => match scenario.span.bound {
            Bound::Duration(_) => {
                format!("the load ends in {}", until(window.map_or(0, |window| window.measure_to_ns)))
            }
            Bound::Connections(count) => {
                format!("{} of {} connections have ended", thousands(ended(view) as f64), thousands(count as f64))
            }
        },
        (Stage::Closing, Some(_)) => "waiting for connections to be closed".to_owned(),
        (Stage::Closing, None) => match view.load(LoaderCount::Attempted).saturating_sub(ended(view)) {
            0 if has_hosts => "gathering what the hosts measured".to_owned(),
            0 => "counting what the processes report".to_owned(),
            open => format!("waiting for {} to end", counted(open, "connection", "connections")),
        },
        (Stage::Filling, fill) => {
            let [open, capacity] = fill.map_or([0, 0], |fill| [fill.open(), fill.capacity()]);
            format!("{} of {} ports are taken", thousands(open as f64), thousands(capacity as f64))
        }
        (Stage::Recovering, fill) => {
            let free = fill.map_or(0, |fill| fill.open());
            let within = scenario.fill.as_ref().map_or(Duration::ZERO, |fill| fill.recover_within);
            format!(
                "waiting for ports to leave TIME_WAIT, at most {}: {} can be used again",
                seconds(within),
                thousands(free as f64)
            )
        }
    }
}

/// The part of a trial's load that is done, where the load is a number of connections.
pub(super) fn part(scenario: &Scenario, view: &View<'_>) -> Option<f64> {
    let (done, all) = match (view.fill, scenario.span.bound) {
        (Some(fill), _) => {
            let until = scenario.fill.as_ref().and_then(|fill| fill.until_permille).unwrap_or(1_000);
            (fill.open(), fill.capacity() * u64::from(until) / 1_000)
        }
        (None, Bound::Connections(count)) => (ended(view), count),
        (None, Bound::Duration(_)) => return None,
    };
    (all > 0).then(|| done as f64 / all as f64)
}

/// Connections that have ended, one way or the other.
fn ended(view: &View<'_>) -> u64 {
    view.load(LoaderCount::Completed) + view.load(LoaderCount::Failed)
}
