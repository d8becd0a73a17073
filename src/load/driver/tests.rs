//! The loop with a fake engine and a fake clock: whole loads in no time at all.

use std::cell::RefMut;

use super::*;
use crate::{
    load::{
        fakes::{FakeClock, FakeEngine, FakeObserver, TARGET, World, recorded, scenario, shared},
        measures::Measures,
        pacer::Part,
        report::LoaderReport,
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
    let (scenario, clock, trial) = (scenario(text), FakeClock::default(), FakeObserver::default());
    clock.set(START_NS);
    let engine = FakeEngine::new(&clock, world);
    let window = Window {
        start_ns: START_NS,
        measure_from_ns: START_NS,
        measure_to_ns: u64::MAX,
        deadline_ns: START_NS + 60_000 * MS,
    };
    let range = Range { low: 40_000, high: 40_999, reserved: Vec::new() };
    let share = source::Share { process: 0, processes: 1 };
    let source = source::build(scenario.sources.selection, &range, 1, share, 1);
    let parts = Parts {
        engine: engine.clone(),
        clock: clock.clone(),
        table: Table::with_capacity(0),
        shared: shared(&scenario, trial.clone()),
        pacer: Pacer::new(&scenario, window, Part { loader: 0, loaders: 1 }, 1, 0),
        dialler: Dialler::new(&scenario, TARGET, source),
        window,
    };
    Bench { driver: Driver::new(parts, &scenario.load), engine, trial, clock }
}

impl Bench {
    fn world(&self) -> RefMut<'_, World> {
        self.engine.world.borrow_mut()
    }

    fn run(mut self) -> (LoaderReport, Measures) {
        self.driver.run().unwrap();
        assert!(self.driver.table.is_empty());
        self.driver.into_parts().0.into_parts()
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
fn connections_that_wait_too_long_are_abandoned() {
    let text = "[load]\nconcurrency = 1\nconnections = 1\nconnect_timeout = \"300ms\"\nreply_timeout = \"500ms\"";
    let never = 100_000 * MS;
    for (world, established, expected, ended_ms) in [
        (World::default(), 1, error(Step::Receive, Cause::TIMED_OUT, 1), 500),
        (World { handshake_ns: Some(never), ..World::default() }, 0, error(Step::Connect, Cause::TIMED_OUT, 1), 300),
        // Established just now, with its request not sent yet.
        (
            World { handshake_ns: Some(never), settles: true, ..World::default() },
            1,
            error(Step::Send, Cause::TIMED_OUT, 1),
            300,
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
