//! The rules that give a trial its verdicts. Each is a pure function of parts of the record, and returns the grounds for its verdict.

mod balance;
pub mod conntrack;
mod course;
mod firewall;
mod hosts;
mod kernel;
mod load;
mod nat;
mod subject;

use std::time::Duration;

use crate::{
    record::{Connections, Conntrack, Counts, Exit, Grounds, Lost, Measured, Ports, TrialRecord, Verdict, VerdictName},
    scenario::{Arrivals, Load, Mode, Scenario},
};

/// What a rate of accepts counts.
const ACCEPTED: &str = "accepted";

/// Facts about the load that the record does not hold.
pub(super) struct Loaded<'a> {
    /// Whether the deadline ended the load.
    pub gave_up: bool,
    /// Latencies beyond the histograms' range.
    pub overflows: u64,
    /// Whether the scenario's question is about failures.
    pub failures_are_asked: bool,
    /// The last line that another server printed, if that could be seen.
    pub last_output: Option<&'a str>,
    /// The sysctl net.core.somaxconn of the server's network, if it can be read.
    pub somaxconn: Option<u64>,
    /// Members of another server that were stopped when the load had ended, with the state's letter.
    pub stopped: &'a [(String, char)],
    /// Processes without a row that ended early, and how.
    pub dead: &'a [(String, Exit)],
    pub early: Option<Early<'a>>,
    /// Connect latencies of the measured connections.
    pub connects: &'a Counts,
    pub populations: &'a [Population<'a>],
}

/// What is known of a population when its trial is judged.
#[derive(Debug)]
pub(super) struct Population<'a> {
    pub load: &'a Load,
    /// Its name, if there are several.
    pub name: Option<&'a str>,
    pub measured: Measured,
    /// Starts per second that its schedule asked for, if it has one.
    pub offered_per_s: Option<f64>,
    /// The share that its busiest loader used of the processor time it could get.
    pub busiest: Option<f64>,
}

/// The early end of a load, or of a fill of the ports.
#[derive(Clone, Copy)]
pub(super) struct Early<'a> {
    /// When it was told to end, in seconds since its start.
    pub after_s: f64,
    /// Why, if it was not the user: packets would have left their networks.
    pub strayed: Option<&'a str>,
}

/// The verdicts on an otherwise complete record.
pub(super) fn judge(record: &TrialRecord, scenario: &Scenario, loaded: &Loaded<'_>) -> Vec<Verdict> {
    // Events change a trial on purpose, and so do rates that change.
    let is_steady = scenario.events.is_empty() && !scenario.loads.iter().any(has_changing_rate);
    let datagrams = record.datagrams.as_ref();
    let lost_to_events: Vec<Lost> = record.events.iter().map(|event| event.lost).collect();
    let met = met(record, loaded.populations);
    let is_of_accepts = met.iter().any(|(.., met)| met.is_some_and(|(what, _)| what == ACCEPTED));
    let grounds = [
        balance::connections(&record.connections),
        balance::foreign_members(&record.connections, datagrams, &record.workers),
        subject::other_clients(&record.subject, scenario.admit, &record.connections, datagrams),
        balance::misdelivered(&record.connections),
        datagrams.and_then(|datagrams| balance::datagrams(datagrams, &record.connections)),
        balance::stamps(&record.measured),
        record.tls.as_ref().and_then(|tls| balance::handshakes(tls, &record.connections)),
        subject::ended(&record.subject, loaded.last_output),
        course::event_failed(&record.events),
        subject::stranded(&record.subject, &record.connections),
        record.probe.as_ref().and_then(subject::lost_events),
        subject::unstamped(record),
        record.firewall.as_ref().and_then(|one| firewall::bypassed(one, &record.connections)),
    ];
    // What a firewall was to refuse is what was measured.
    let datagrams_refused = datagrams.is_some_and(|datagrams| datagrams.filtered > 0);
    let is_refused = scenario.firewall.refuses() && (record.latency_ns.failed_connect.count > 0 || datagrams_refused);
    let place = scenario.place();
    let stopped = subject::stopped(&place, loaded.stopped);
    let deaths = balance::deaths(record, loaded.dead);
    let tracking = conntrack::verdicts(&record.conntrack);
    let lost_hosts = hosts::lost(&record.hosts);
    let more = [
        load::ended_early(loaded.early, &record.connections, Some(&record.latency_ns.response)),
        load::deadline(loaded.gave_up),
        // Before what follows from it.
        load::unexpected(&record.connections, scenario.server.app),
        load::nothing_measured(&record.measured).filter(|_| loaded.early.is_none()),
        load::failures(&record.connections, &record.measured, loaded.failures_are_asked).filter(|_| !is_refused),
        load::fell_back(&record.connections, &record.kernel),
        loaded.populations.iter().find_map(load::saturated),
        subject::descriptors_used_up(&record.workers, record.helper.as_ref()),
        kernel::queue_overflow(&record.kernel, &record.workers, &record.listeners, loaded.somaxconn),
        kernel::syn_queue_overflow(&record.kernel),
        kernel::syn_cookies(&record.kernel, record.connections.cookies),
        kernel::time_wait_overflow(&record.kernel),
        record.nat.as_ref().and_then(|nat| nat::ports_short(nat, &record.conntrack)),
        kernel::retries(&record.kernel, loaded.connects).filter(|_| !is_refused),
        kernel::steal(record),
        kernel::contended(record),
        subject::mixed_engines(&record.workers, record.engine.as_deref(), &scenario.loads),
        rate_unmet(&met, lost_per_s(record, scenario.span.warmup, is_of_accepts)).filter(|_| !is_refused),
        datagrams.and_then(kernel::datagrams_lost),
        course::events(&scenario.events, &record.events),
        course::drift(&record.series, scenario.span.warmup, record.duration_s, record.workers.len(), is_steady),
        load::no_follow_up(scenario.loads.iter().any(|load| load.follow_up.is_some()), &record.latency_ns),
        kernel::ports_scarce(record, &scenario.sources()),
        record.upstream.as_ref().and_then(kernel::upstream_exhausted),
        record.upstream.as_ref().and_then(|upstream| kernel::upstream_unused(upstream, record.connections.replies)),
        record.upstream.as_ref().and_then(kernel::upstream_headers),
        load::errors(&record.connections, &lost_to_events).filter(|_| !is_refused),
        record.connections.statuses.and_then(load::error_replies),
        load::beyond_range(loaded.overflows),
    ];
    let grounds = grounds.into_iter().flatten().chain(lost_hosts).chain(stopped).chain(deaths).chain(tracking);
    unexplained(grounds.chain(more.into_iter().flatten()).collect())
}

fn has_changing_rate(load: &Load) -> bool {
    use Arrivals::{Mmpp, Ramp, Rates, Trace};
    matches!(load.mode, Mode::Open { arrivals: Ramp(_) | Mmpp(_) | Rates(_) | Trace(_), .. })
}

/// The verdicts that no other one explains.
fn unexplained(grounds: Vec<Grounds>) -> Vec<Verdict> {
    let names: Vec<VerdictName> = grounds.iter().map(Grounds::name).collect();
    let is_explained = |grounds: &Grounds| names.iter().any(|name| name.explains(grounds.name()));
    grounds.into_iter().filter(|grounds| !is_explained(grounds)).map(Verdict::from).collect()
}

/// The verdicts on a fill of the ports that was to end at `enough` connections, or at the wall.
pub(super) fn judge_fill(
    connections: &Connections,
    ports: &Ports,
    enough: Option<u64>,
    (gave_up, early): (bool, Option<Early<'_>>),
    tables: &[Conntrack],
    dead: Vec<(String, Exit)>,
) -> Vec<Verdict> {
    let grounds = [
        balance::connections(connections),
        load::ended_early(early, connections, None),
        load::fill_deadline(gave_up),
        load::fill_stopped(connections, ports, enough).filter(|_| early.is_none() && dead.is_empty()),
        load::odd_range(ports),
    ];
    let deaths = dead.into_iter().map(|(process, exit)| Grounds::ProcessDied { process, exit, in_flight: 0 });
    unexplained(grounds.into_iter().flatten().chain(conntrack::verdicts(tables)).chain(deaths).collect())
}

/// The name of one of several populations, what it offered, and the rate that should match it.
type Met<'a> = (Option<&'a str>, Option<f64>, Option<(&'static str, f64)>);

/// The rate that should match an open loop's: accepts per second or, of datagrams, requests and populations, which nobody accepts or
/// knows when accepting, what was due and answered, sooner or later.
fn met<'a>(record: &TrialRecord, populations: &[Population<'a>]) -> Vec<Met<'a>> {
    let answered = |measured: &Measured, offered_per_s: Option<f64>| {
        let due = measured.due().unwrap_or_default();
        let share = due.completed as f64 / due.planned.max(1) as f64;
        offered_per_s.map(|offered| ("answered", share * offered))
    };
    if populations.len() > 1 || populations.iter().any(|one| matches!(one.load.mode, Mode::Kept { .. })) {
        let met = |one: &Population<'a>| (one.name, one.offered_per_s, answered(&one.measured, one.offered_per_s));
        return populations.iter().map(met).collect();
    }
    let offered_per_s = record.rates.offered_per_s;
    let met = match &record.datagrams {
        None => record.rates.accepted_per_s.map(|rate| (ACCEPTED, rate)),
        Some(_) => answered(&record.measured, offered_per_s),
    };
    vec![(None, offered_per_s, met)]
}

/// The first rate that was not met, if events, to which all together lost so many per second, do not account for it: what other
/// populations miss may be among them.
fn rate_unmet(met: &[Met<'_>], lost_per_s: f64) -> Option<Grounds> {
    let missing =
        |(_, offered, met): &Met<'_>| offered.zip(*met).map_or(0.0, |(offered, met)| (offered - met.1).max(0.0));
    let all: f64 = met.iter().map(missing).sum();
    met.iter().find_map(|one| {
        let (name, offered, met) = *one;
        load::rate_unmet(name, offered, met, (lost_per_s - (all - missing(one))).max(0.0))
    })
}

/// Connections per second of the measured window that were lost to its events; `unaccepted`: without those that a member had accepted,
/// as far as these are told apart.
fn lost_per_s(record: &TrialRecord, warmup: Duration, unaccepted: bool) -> f64 {
    let measured = record.events.iter().filter(|event| event.at_s >= warmup.as_secs_f64());
    let of =
        |lost: Lost| if unaccepted && lost.reset_in_queue.is_some() { Lost { cut: Some(0), ..lost } } else { lost };
    let lost: u64 = measured.filter_map(|event| of(event.lost).total()).sum();
    if record.duration_s > 0.0 { lost as f64 / record.duration_s } else { 0.0 }
}

/// The grounds in words, for the rules' tests.
#[cfg(test)]
fn words(grounds: Option<Grounds>) -> Option<String> {
    grounds.map(|grounds| Verdict::from(grounds).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::EventRow;

    #[test]
    fn events_account_for_a_rate_once() {
        let met =
            [(Some("a"), Some(100.0), Some(("answered", 80.0))), (Some("b"), Some(100.0), Some(("answered", 70.0)))];
        let said = |lost_per_s| words(rate_unmet(&met, lost_per_s));
        assert_eq!(said(50.0), None);
        assert_eq!(said(45.0), None, "each may miss 5 %");
        assert_eq!(said(44.0).unwrap(), "rate-unmet: a: 80/s answered of 100/s offered");
        assert_eq!(said(0.0), said(44.0));
        let event = |at_s, cut| {
            let lost = Lost { reset_in_queue: Some(1), refused: Some(2), cut };
            EventRow { at_s, lost, ..EventRow::default() }
        };
        let events = vec![event(0.9, Some(7)), event(1.0, Some(7)), event(1.5, None)];
        let record = TrialRecord { events, duration_s: 2.0, ..TrialRecord::default() };
        let lost = [false, true].map(|unaccepted| lost_per_s(&record, Duration::from_secs(1), unaccepted));
        assert_eq!(lost, [5.0, 3.0]);
    }

    #[test]
    fn what_follows_from_another_verdict_is_left_out() {
        let names = |grounds: Vec<Grounds>| unexplained(grounds).iter().map(|one| one.name).collect::<Vec<_>>();
        let followers = || {
            vec![
                Grounds::Failures { failed: 9, attempted: 10, errors: Vec::new(), first: String::new() },
                Grounds::ProcessDied { process: "nginx (pid 7)".to_owned(), exit: Exit::Status(4), in_flight: 0 },
                Grounds::QueueOverflow { dropped: 1, limit: None, somaxconn: None },
                Grounds::RateUnmet { population: None, what: "accepted", met_per_s: 1.0, offered_per_s: 10.0 },
                Grounds::CpuSteal { share: 0.5, host: None },
            ]
        };
        assert_eq!(names(followers()).len(), 5, "each stands for itself");
        let ended = Grounds::SubjectEnded { name: "nginx".to_owned(), after_s: 0.5, exit: None, last_output: None };
        let with_cause = [vec![ended], followers()].concat();
        assert_eq!(names(with_cause), [VerdictName::SubjectEnded, VerdictName::CpuSteal]);
        let stranded = names([vec![Grounds::QueueStranded { left: 9 }], followers()].concat());
        // What makes a trial invalid still does.
        assert!(
            stranded.contains(&VerdictName::Failures) && !stranded.contains(&VerdictName::RateUnmet),
            "{stranded:?}"
        );
    }
}
