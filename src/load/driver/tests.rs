//! The loop with a fake engine and a fake clock: whole loads in no time at all.

use std::cell::RefMut;

use super::*;
use crate::{
    load::{
        fakes::{FakeClock, FakeEngine, FakeObserver, TARGET, World, recorded, scenario, shared},
        measures::Measures,
        pacer::Part,
        report::{LoaderReport, Lost},
        source,
    },
    observe::ports::Range,
    record::{ErrorCount, Step},
    scenario::Transport,
};

const MS: u64 = 1_000_000;
const START_NS: u64 = 1_000 * MS;

/// A load with a fake world around it.
struct Bench {
    driver: Driver<FakeEngine, FakeObserver, FakeClock>,
    engine: FakeEngine,
    trial: FakeObserver,
    clock: FakeClock,
}

fn bench(text: &str, world: World) -> Bench {
    bench_after(0, text, world)
}

/// One that measures nothing before so many nanoseconds are over.
fn bench_after(warmup_ns: u64, text: &str, world: World) -> Bench {
    let (scenario, clock, trial) = (scenario(text), FakeClock::default(), FakeObserver::default());
    clock.set(START_NS);
    let engine = FakeEngine::new(&clock, world);
    let window = Window {
        start_ns: START_NS,
        measure_from_ns: START_NS + warmup_ns,
        measure_to_ns: u64::MAX,
        deadline_ns: START_NS + 60_000 * MS,
    };
    let range = Range { low: 40_000, high: 40_999, reserved: Vec::new() };
    let share = source::Share { process: 0, processes: 1 };
    let source = source::build(scenario.loads[0].sources.selection, &range, 1, share, 1);
    let parts = Parts {
        engine: engine.clone(),
        clock: clock.clone(),
        table: Table::with_capacity(0),
        shared: shared(&scenario, trial.clone()),
        pacer: Pacer::new((&scenario.loads[0], scenario.span.bound), window, Part { loader: 0, loaders: 1 }, 1, 0),
        dialler: Dialler::new(&scenario, &scenario.loads[0], TARGET, source).unwrap(),
        window,
    };
    Bench { driver: Driver::new(parts, &scenario.loads[0]), engine, trial, clock }
}

impl Bench {
    fn world(&self) -> RefMut<'_, World> {
        self.engine.world.borrow_mut()
    }

    fn run(mut self) -> (LoaderReport, Measures) {
        self.driver.run().unwrap();
        assert!(self.driver.table.is_empty());
        let shared = self.driver.finish();
        (LoaderReport::read(&shared.account), shared.measures)
    }
}

fn error(phase: Step, errno: Cause, count: u64) -> ErrorCount {
    ErrorCount { phase, errno, count }
}

#[test]
fn a_closed_loop_keeps_its_connections_busy() {
    let bench = bench(
        "[load]\nconcurrency = 2\nconnections = 5\nclose_how = \"rst\"",
        World { reply_ns: Some(MS), ..World::default() },
    );
    let (clock, engine) = (bench.clock.clone(), bench.engine.clone());
    let (report, measures) = bench.run();
    assert_eq!((report.attempted, report.established, report.completed, report.replies), (5, 5, 5, 5));
    // Two at a time: three rounds of a millisecond.
    assert_eq!(clock.now_ns(), START_NS + 3 * MS);
    assert_eq!(report.ended_ns, START_NS + 3 * MS);
    assert_eq!(recorded(&measures, "response").0, 5);
    let world = engine.world.borrow();
    assert!(world.closed.len() == 5 && world.closed.iter().all(|(_, how)| *how == Close::Rst));
}

#[test]
fn a_handshake_that_takes_time_delays_nothing_but_its_connection() {
    let world = World { handshake_ns: Some(2 * MS), reply_ns: Some(MS), ..World::default() };
    let (report, measures) = bench("[load]\nconcurrency = 3\nconnections = 3", world).run();
    assert_eq!((report.established, report.completed), (3, 3));
    assert_eq!(recorded(&measures, "connect").1 / MS, 2);
    assert_eq!(recorded(&measures, "response").1 / MS, 3);
}

#[test]
fn a_flood_keeps_no_loop_from_its_clock() {
    let text =
        "[load]\nmode = \"open\"\narrivals = \"constant\"\nrate = 100.0\nconnections = 20\nreply_timeout = \"300ms\"";
    let event_ns = 10_000;
    let (report, measures) = bench(text, World { flood_ns: Some(event_ns), ..World::default() }).run();
    assert_eq!(report.errors, [error(Step::Receive, Cause::TIMED_OUT, 20)]);
    // The last began after 190 ms.
    assert!((START_NS + 490 * MS..START_NS + 502 * MS).contains(&report.ended_ns), "{}", report.ended_ns);
    // Only the event in hand delays a start.
    let (starts, lag_ns) = recorded(&measures, "send_lag");
    assert!(starts == 20 && lag_ns <= event_ns, "{lag_ns}");
}

#[test]
fn a_server_that_speaks_first_is_never_taken_to_answer() {
    let text = "[load]\nconcurrency = 1\nconnections = 3";
    let world = |ns| World { handshake_ns: Some(0), reply_ns: Some(10), unasked_ns: Some(ns), ..World::default() };
    let unasked = error(Step::Receive, Cause::Unasked, 3);
    // Heard at the last moment, by the one connection that there is time for before the measurement.
    let (report, _) = bench_after(MS, text, world(UNASKED_NS - 1)).run();
    assert_eq!((report.attempted, report.replies, report.errors), (4, 0, vec![ErrorCount { count: 4, ..unasked }]));
    // Too late to be heard; and without a warm-up nothing listens. What comes first is the reply.
    for (warmup_ns, unasked_ns) in [(MS, UNASKED_NS + MS), (0, MS)] {
        let (report, _) = bench_after(warmup_ns, text, world(unasked_ns)).run();
        let unmeasured = u64::from(warmup_ns > 0);
        assert_eq!((report.completed, report.errors), (3 + unmeasured, Vec::new()), "{warmup_ns}");
    }
}

#[test]
fn connections_that_wait_too_long_are_abandoned() {
    let text = "[load]\nconcurrency = 1\nconnections = 1\nconnect_timeout = \"312ms\"\nreply_timeout = \"555ms\"";
    let never = 100_000 * MS;
    for (world, established, expected, ended_ms) in [
        (World::default(), 1, error(Step::Receive, Cause::TIMED_OUT, 1), 555),
        (World { handshake_ns: Some(never), ..World::default() }, 0, error(Step::Connect, Cause::TIMED_OUT, 1), 312),
        // Established just now, with its request not sent yet.
        (
            World { handshake_ns: Some(never), settles: true, ..World::default() },
            1,
            error(Step::Send, Cause::TIMED_OUT, 1),
            312,
        ),
    ] {
        let (report, _) = bench(text, world).run();
        assert_eq!((report.established, &report.errors), (established, &vec![expected]));
        assert_eq!((report.ended_ns - START_NS) / MS, ended_ms);
    }
}

#[test]
fn the_deadline_and_an_interruption_end_a_load_with_their_names() {
    let text = "[load]\nconcurrency = 3\nreply_timeout = \"100s\"\nduration = \"10s\"";
    let (report, _) = bench(text, World::default()).run();
    assert_eq!((report.gave_up, &report.errors), (true, &vec![error(Step::Receive, Cause::Deadline, 3)]));

    let mut bench = bench(text, World::default());
    assert!(bench.driver.turn().unwrap());
    bench.trial.interrupted.set(true);
    let (report, _) = bench.run();
    assert_eq!((report.gave_up, &report.errors), (false, &vec![error(Step::Receive, Cause::Interrupted, 3)]));
}

#[test]
fn a_failed_start_counts_and_the_next_waits_a_moment() {
    let bench = bench(
        "[load]\nconcurrency = 1\nconnections = 3",
        World { refuses: Some(libc::EADDRNOTAVAIL), ..World::default() },
    );
    let clock = bench.clock.clone();
    let (report, _) = bench.run();
    assert_eq!(report.errors, [error(Step::Connect, Cause::Errno(libc::EADDRNOTAVAIL), 3)]);
    assert_eq!((report.attempted, report.first_exhausted_ns), (3, Some(START_NS)));
    assert_eq!(clock.now_ns(), START_NS + 2 * ERROR_PAUSE_NS);
}

#[test]
fn send_lag_is_the_delay_before_the_connect_call() {
    let bench = bench(
        "[load]\nmode = \"open\"\narrivals = \"burst\"\nburst_size = 3\nconnections = 3",
        World { open_ns: 2 * MS, reply_ns: Some(MS), ..World::default() },
    );
    let (report, measures) = bench.run();
    assert_eq!(report.completed, 3);
    // The third start waits while the first two sockets are created.
    assert_eq!(recorded(&measures, "send_lag").1 / MS, 6);
    // The first connects after 2 ms, and its reply is read only when all have been started.
    assert_eq!(recorded(&measures, "service").1 / MS, 4);
}

#[test]
fn what_queued_behind_another_start_is_told_from_the_timer_s_lateness() {
    let of = |text: &str, open_ns| {
        let (_, measures) = bench(text, World { open_ns, reply_ns: Some(MS), ..World::default() }).run();
        ["send_lag", "timer_lag", "queued_lag"]
            .map(|name| recorded(&measures, name))
            .map(|(count, max)| (count, max / MS))
    };
    let burst = "[load]\nmode = \"open\"\narrivals = \"burst\"\nburst_size = 3\nconnections = 3";
    assert_eq!(of(burst, 2 * MS), [(3, 6), (1, 2), (2, 6)]);
    // Due every 4 ms: each is made before the next is due, or 3 ms after it.
    let constant = "[load]\nmode = \"open\"\narrivals = \"constant\"\nrate = 250\nconnections = 3";
    assert_eq!(of(constant, 2 * MS), [(3, 2), (3, 2), (0, 0)]);
    assert_eq!(of(constant, 7 * MS), [(3, 13), (1, 7), (2, 13)]);
}

#[test]
fn replies_are_read_even_if_a_start_is_always_due() {
    // Each start takes until the one after the next is due.
    let text = "[load]\nmode = \"open\"\narrivals = \"constant\"\nrate = 500.0\nconnections = 60";
    let (report, measures) = bench(text, World { open_ns: 4 * MS, reply_ns: Some(MS), ..World::default() }).run();
    assert_eq!((report.completed, report.ended_ns), (60, START_NS + 241 * MS));
    // Not all of them are read after the last start.
    assert!(recorded(&measures, "service").1 < 160 * MS, "{:?}", recorded(&measures, "service"));
}

#[test]
fn held_connections_end_with_their_hold_and_answer_the_follow_up() {
    let text = "[load]\nmode = \"open\"\narrivals = \"burst\"\nburst_size = 4\nconnections = 4\nhold = \"50ms\"\n\
                follow_up = \"20ms\"\nreply_timeout = \"1s\"";
    let first = bench(text, World { reply_ns: Some(MS), ..World::default() });
    let (clock, engine) = (first.clock.clone(), first.engine.clone());
    let (report, measures) = first.run();
    assert_eq!((report.completed, report.replies), (4, 8));
    assert_eq!(recorded(&measures, "follow_up").0, 4);
    assert_eq!((clock.now_ns() - START_NS) / MS, 51);
    let world = engine.world.borrow();
    assert!(world.sent[4..].iter().all(|(at_ns, _)| *at_ns == START_NS + 20 * MS));
    drop(world);

    // The follow-up goes unanswered and is abandoned after its own time-out, past the end of the hold.
    let mut second = bench(text, World { reply_ns: Some(MS), ..World::default() });
    while (second.clock.now_ns() - START_NS) / MS < 20 {
        assert!(second.driver.turn().unwrap());
    }
    second.world().reply_ns = None;
    let (report, _) = second.run();
    assert_eq!(report.errors, [error(Step::Receive, Cause::TIMED_OUT, 4)]);
}

#[test]
fn only_completed_connections_leave_their_socket_for_reuse() {
    let text =
        "[load]\nconcurrency = 1\nconnections = 1\nclose_how = \"rst\"\nsockets = \"recycled\"\nreply_timeout = \"1s\"";
    for (reply_ns, how) in [(Some(MS), Close::Recycle), (None, Close::Rst)] {
        let bench = bench(text, World { reply_ns, ..World::default() });
        let engine = bench.engine.clone();
        bench.run();
        assert_eq!(engine.world.borrow().closed, [(0, how)]);
    }
}

#[test]
fn flows_are_spread_evenly_over_the_starts() {
    let bench = bench(
        "protocol = \"tcp+udp\"\n[load]\nconcurrency = 1\nconnections = 8\nudp_share = 0.25\nclose_how = \"rst\"",
        World { reply_ns: Some(MS), ..World::default() },
    );
    let engine = bench.engine.clone();
    let (report, measures) = bench.run();
    let flows: Vec<bool> = engine.world.borrow().transports.iter().map(|one| *one == Transport::Udp).collect();
    assert_eq!(flows, [false, false, false, true, false, false, false, true]);
    assert_eq!((report.flows.begun, report.flows.replies, report.established), (2, 2, 6));
    assert_eq!((recorded(&measures, "udp_response").0, recorded(&measures, "response").0), (2, 6));
    assert!(engine.world.borrow().closed.iter().filter(|(_, how)| *how == Close::Fin).count() == 2);
}

#[test]
fn what_fails_is_lost_to_every_latency_it_has_not_reached() {
    let text = "[load]\nconcurrency = 2\nconnections = 4\nrequests = 3\nconnect_timeout = \"300ms\"\nreply_timeout = \"500ms\"";
    let never = 100_000 * MS;
    let silent = Lost { waits: 4, responses: 12, ..Lost::default() };
    for (world, lost) in [
        (World { reply_ns: Some(MS), ..World::default() }, Lost::default()),
        // Established, and never answered: none of the requests of the plan was.
        (World::default(), silent),
        (World { handshake_ns: Some(never), ..World::default() }, Lost { connects: 4, ..silent }),
        (World { refuses: Some(libc::EADDRNOTAVAIL), ..World::default() }, Lost { connects: 4, ..silent }),
    ] {
        let (report, measures) = bench(text, world).run();
        assert_eq!(report.lost, lost);
        assert_eq!(recorded(&measures, "response").0 + report.lost.responses, 12);
    }
}

#[test]
fn what_never_began_was_due_too_unless_the_user_ended_it() {
    let text =
        "[load]\nmode = \"open\"\narrivals = \"constant\"\nrate = 10\nconnections = 50\nreply_timeout = \"100s\"";
    let mut late = bench(text, World::default());
    // Five starts are due before the deadline.
    late.driver.window.deadline_ns = START_NS + 450 * MS;
    let (report, _) = late.run();
    assert_eq!((report.gave_up, report.attempted), (true, 5));
    assert_eq!(report.lost, Lost { starts: 45, connects: 45, waits: 50, responses: 50, ..Lost::default() });

    let mut interrupted = bench(text, World::default());
    assert!(interrupted.driver.turn().unwrap());
    interrupted.trial.interrupted.set(true);
    assert_eq!(interrupted.run().0.lost, Lost::default());
}

#[test]
fn a_follow_up_is_due_where_a_connection_was_to_be_held() {
    let held = "[load]\nmode = \"open\"\narrivals = \"burst\"\nburst_size = 4\nconnections = 4\nhold = \"50ms\"\n\
                reply_timeout = \"10ms\"\n";
    let never_held = World::default;
    // The requests fail after 100 ms, when the loop first looks.
    for (follow_up, lost) in [("20ms", 4), ("49ms", 4), ("50ms", 0)] {
        let (report, _) = bench(&format!("{held}follow_up = \"{follow_up}\""), never_held()).run();
        assert_eq!((report.lost.follow_ups, report.lost.responses), (lost, 4), "{follow_up}");
    }
    let mut silent = bench(&format!("{held}follow_up = \"20ms\""), World { reply_ns: Some(MS), ..World::default() });
    while (silent.clock.now_ns() - START_NS) / MS < 20 {
        assert!(silent.driver.turn().unwrap());
    }
    silent.world().reply_ns = None;
    let (report, _) = silent.run();
    assert_eq!(report.lost, Lost { follow_ups: 4, ..Lost::default() });
}

#[test]
fn syns_sent_again_are_counted_where_there_was_time_for_it() {
    let load =
        |connect_ms: &str| format!("[load]\nconcurrency = 1\nconnections = 2\nconnect_timeout = \"{connect_ms}ms\"");
    for (handshake_ms, timeout, retries) in [(199, "900", 0), (200, "900", 6), (2_000, "900", 6), (2_000, "100", 0)] {
        let world =
            World { handshake_ns: Some(handshake_ms * MS), reply_ns: Some(MS), syn_retries: 3, ..World::default() };
        let (report, _) = bench(&load(timeout), world).run();
        assert_eq!((report.syn_retries, report.syn_retried), (retries, retries / 3), "{handshake_ms} {timeout}");
    }
}

#[test]
fn connections_that_asked_for_mptcp_are_looked_at_once_they_are_established() {
    let of = |protocol: &str, is_multipath, handshake_ms, settles| {
        let text = format!(
            "protocol = \"{protocol}\"\n[load]\nconcurrency = 1\nconnections = 2\nconnect_timeout = \"100ms\"\nreply_timeout = \"100ms\""
        );
        let handshake_ns = Some(handshake_ms * MS);
        let world = World { handshake_ns, reply_ns: Some(MS), is_multipath, settles, ..World::default() };
        let (report, _) = bench(&text, world).run();
        (report.established, report.fell_back, report.fallback_unknown)
    };
    assert_eq!(of("mptcp", Some(true), 1, false), (2, 0, 0));
    assert_eq!(of("mptcp", Some(false), 1, false), (2, 2, 0));
    assert_eq!(of("mptcp", None, 1, false), (2, 0, 2));
    // Given up: never established, or just before.
    assert_eq!(of("mptcp", Some(false), 5_000, false), (0, 0, 0));
    assert_eq!(of("mptcp", Some(false), 5_000, true), (2, 2, 0));
    assert_eq!(of("tcp", Some(false), 1, false), (2, 0, 0), "nobody asked");
}

const KEPT: &str =
    "[load]\nmode = \"kept\"\narrivals = \"constant\"\nend = \"1s\"\nduration = \"2s\"\nreply_timeout = \"100ms\"\n";

#[test]
fn kept_connections_ask_when_it_is_due_and_stay_open_until_the_end() {
    let text = format!("{KEPT}concurrency = 2\nrequest_rate = 10");
    let bench = bench(&text, World { reply_ns: Some(MS), ..World::default() });
    let engine = bench.engine.clone();
    let (report, measures) = bench.run();
    assert_eq!((report.attempted, report.completed, report.replies), (2, 2, 20));
    assert_eq!((report.measured_planned, report.measured_completed, report.measured_in_time), (20, 20, 20));
    let (replies, longest_ns) = recorded(&measures, "response");
    assert_eq!((replies, longest_ns / MS, recorded(&measures, "send_lag").0), (20, 1, 20));
    assert!(report.schedule.is_some() && report.lost == Lost::default());
    assert_eq!(report.ended_ns, START_NS + 1_000 * MS);
    let sent: Vec<u64> = engine.world.borrow().sent.iter().map(|(at_ns, _)| (at_ns - START_NS) / MS).collect();
    assert_eq!(sent, (0..20).map(|k| k * 50).collect::<Vec<_>>());
}

#[test]
fn a_kept_connection_s_requests_wait_for_slow_replies_by_the_schedule() {
    let text = format!("{KEPT}concurrency = 1\nrequest_rate = 20");
    let (report, measures) = bench(&text, World { reply_ns: Some(60 * MS), ..World::default() }).run();
    assert_eq!((report.attempted, report.replies, report.lost), (1, 20, Lost::default()));
    // Each is 10 ms later than the one before, though served as fast; and the loader itself is never late.
    let near = |(count, longest): (u64, u64)| (count, longest / MS);
    assert_eq!(near(recorded(&measures, "response")), (20, 60 + 19 * 10));
    assert_eq!(near(recorded(&measures, "service")), (20, 60));
    assert_eq!(near(recorded(&measures, "send_lag")), (20, 0));
}

#[test]
fn what_a_kept_connection_cannot_ask_is_lost() {
    // Refused every 10 ms, with a request a millisecond.
    let text = format!("{KEPT}concurrency = 1\nrequest_rate = 1000");
    let refused = World { refuses: Some(libc::ECONNREFUSED), ..World::default() };
    let (report, measures) = bench(&text, refused).run();
    assert!((95..=105).contains(&report.attempted), "{}", report.attempted);
    let asked = recorded(&measures, "send_lag").0;
    assert_eq!((report.measured_planned, report.lost.responses, asked + report.lost.starts), (1_000, 1_000, 1_000));
    // Without replies, each time-out makes room for the next request on another connection.
    let text = format!("{KEPT}concurrency = 1\nrequest_rate = 5");
    let (report, _) = bench(&text, World::default()).run();
    assert_eq!((report.attempted, report.lost.responses, report.reconnected), (5, 5, 0));
    assert_eq!(report.errors, [error(Step::Receive, Cause::TIMED_OUT, 5)]);
}

#[test]
fn the_deadline_loses_what_kept_connections_have_not_asked() {
    let text = "[load]\nmode = \"kept\"\narrivals = \"constant\"\nconcurrency = 1\nrequest_rate = 1\nduration = \"2m\"\nend = \"100s\"";
    let bench = bench(text, World { reply_ns: Some(MS), ..World::default() });
    let (report, measures) = bench.run();
    // It comes after a minute.
    assert_eq!((report.measured_planned, recorded(&measures, "response").0), (100, 60));
    assert_eq!((report.lost.starts, report.lost.responses, report.schedule), (40, 40, None));
}

#[test]
fn an_interrupt_loses_nothing_of_kept_connections() {
    let text = format!("{KEPT}concurrency = 2\nrequest_rate = 10");
    let bench = bench(&text, World { reply_ns: Some(MS), ..World::default() });
    bench.trial.interrupted.set(true);
    let (report, _) = bench.run();
    assert_eq!((report.measured_planned, report.lost), (0, Lost::default()));
}

#[test]
fn clients_that_think_wait_for_the_reply_and_then_for_their_time() {
    let text = format!("{KEPT}concurrency = 2\nthink_time = \"40ms\"\nthink_distribution = \"fixed\"")
        .replace("arrivals = \"constant\"\n", "");
    let bench = bench(&text, World { reply_ns: Some(10 * MS), ..World::default() });
    let engine = bench.engine.clone();
    let (report, measures) = bench.run();
    let sent: Vec<u64> = engine.world.borrow().sent.iter().map(|(at_ns, _)| at_ns - START_NS).collect();
    // Every 50 ms from the first on, which is due within 40 ms: 20 requests of each client in a second.
    let mut firsts = [sent[0], sent[1]];
    firsts.sort_unstable();
    assert!(firsts[1] < 40 * MS, "{firsts:?}");
    assert_eq!((report.attempted, report.completed, sent.len()), (2, 2, 40));
    assert!(
        sent.iter().zip(sent.iter().skip(2)).all(|(one, next)| (50 * MS..51 * MS).contains(&(next - one))),
        "{sent:?}"
    );
    assert_eq!((report.measured_planned, report.schedule, report.lost), (40, None, Lost::default()));
    // Each response counts from when its client had thought.
    assert_eq!(recorded(&measures, "response").1 / MS, 10);
}

#[test]
fn clients_that_think_lose_no_more_than_they_asked() {
    // Refused every time, with a pause of 10 ms and 40 ms of thought.
    let text = format!("{KEPT}concurrency = 1\nthink_time = \"40ms\"\nthink_distribution = \"fixed\"")
        .replace("arrivals = \"constant\"\n", "");
    let refused = World { refuses: Some(libc::ECONNREFUSED), ..World::default() };
    let (report, _) = bench(&text, refused).run();
    assert!((19..=20).contains(&report.attempted), "{}", report.attempted);
    assert_eq!((report.measured_planned, report.lost.responses), (report.attempted, report.attempted));
}

#[test]
fn connections_are_replaced_when_their_lifetime_is_over() {
    let text =
        format!("{KEPT}concurrency = 1\nrequest_rate = 20\nlifetime = \"120ms\"\nlifetime_distribution = \"fixed\"");
    let (report, measures) = bench(&text, World { reply_ns: Some(MS), ..World::default() }).run();
    // Requests come every 50 ms. Each connection carries those at 0, 50 and 100 ms of its life, and the next one opens another: at 0, 150, …, 900.
    assert_eq!((report.attempted, report.replaced, report.completed, report.reconnected), (7, 6, 7, 0));
    assert_eq!((report.replies, report.lost, recorded(&measures, "response").0), (20, Lost::default(), 20));
    assert!(report.schedule.is_some() && report.errors.is_empty());
}
