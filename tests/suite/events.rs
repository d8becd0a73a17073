//! What a stopped, burning or killed worker leaves, for every strategy.

use crate::common::{
    self, Bench, assert_balanced, assert_code, errors, number, of_workers, scenario, stderr, strategies_without,
    when_undisturbed,
};
use serde_json::{Value, json};

tests! {
    nothing [
        every_strategy_balances_with_every_event,
        a_stopped_worker_strands_its_part_of_a_group_and_none_of_a_shared_queue,
        what_an_endless_stall_strands_is_left_in_the_queue,
        what_nobody_can_know_is_null,
        a_worker_killed_early_is_not_measured,
        attempts_refused_for_want_of_a_listener_are_not_accepted,
        an_event_that_did_not_happen_is_named,
        a_killed_workers_queue_is_aborted_or_moves,
        a_dispatcher_leaves_a_dead_worker_out,
        impossible_events_are_refused,
    ]
    root [
        hermes_sends_a_burning_worker_nothing_after_the_threshold,
    ]
}

fn event(trial: &Value) -> &Value {
    &trial["events"][0]
}

fn share(trial: &Value) -> f64 {
    event(trial)["share"].as_f64().unwrap()
}

/// Whatever happens to a worker, every established connection is accepted, left or aborted, and the trial is valid: the
/// scenario meant it.
fn every_strategy_balances_with_every_event() {
    // A worker that gets no processor all through the event's time never burns.
    when_undisturbed(whatever_happens_to_a_worker);
}

fn whatever_happens_to_a_worker() {
    // A signal reaches all threads of a process.
    let strategies = strategies_without("one process");
    let bench = scenario()
        .workers(3)
        .poisson(600.0)
        .duration("700ms")
        .event(json!({ "worker": 1, "at": "100ms", "for": "200ms" }))
        .each("server.strategy", strategies)
        .each("event.0.kind", ["stall", "burn", "kill"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(trial["outcome"], "valid", "{}: {}", trial["cell"], trial["verdicts"]);
        let kind = &trial["cell"]["kind"];
        assert_eq!((&event(&trial)["kind"], &event(&trial)["worker"]), (kind, &1.into()));
        assert!(common::verdicts(&trial).contains(&"events"));
        let exit = if kind == "kill" { "killed by SIGKILL" } else { "ok" };
        assert_eq!(trial["workers"][1]["exit"], exit, "{}", trial["cell"]);
        if kind != "kill" {
            assert_eq!(trial["connections"]["errors"], serde_json::json!([]), "{}", trial["cell"]);
        }
    }
}

/// With a queue each, a stopped worker goes on getting its part, and who gets there waits until it is back. A shared queue
/// is emptied by the others.
fn a_stopped_worker_strands_its_part_of_a_group_and_none_of_a_shared_queue() {
    // What is counted as an event begins and ends is off by what happens until the signal is sent.
    when_undisturbed(what_a_stopped_worker_strands);
}

fn what_a_stopped_worker_strands() {
    let bench = scenario()
        .workers(4)
        .constant(800.0)
        .connections(1_200)
        .event(json!({ "worker": 2, "at": "300ms", "for": "800ms" }))
        .each("server.strategy", ["reuseport", "shared-epoll", "shared-epoll-exclusive"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let event = event(&trial);
        let (stranded, answered) = (number(&event["stranded"]), number(&event["stranded_wait"]["count"]));
        if trial["cell"]["strategy"] == "reuseport" {
            // About 640 during the event; binomial with p = 1/4: mean 160, sd 11.
            assert!((0.15..0.35).contains(&share(&trial)), "{event}");
            assert!(number(&event["accepted"]) == 0 && stranded >= 90, "{event}");
            // Those under way at either instant may be on one side of it only.
            assert!(answered.abs_diff(stranded) <= 5, "{event}");
            assert!(number(&event["not_accepted"]) >= stranded, "{event}");
            // The one that came first waited nearly all the time, and each recorded its whole wait.
            assert!(number(&event["stranded_wait"]["max"]) > 400_000_000, "{event}");
        } else {
            assert_eq!((number(&event["accepted"]), stranded, answered), (0, 0, 0), "{}: {event}", trial["cell"]);
            assert!(share(&trial) < 0.01, "{}: {event}", trial["cell"]);
        }
        assert_eq!(trial["connections"]["completed"], 1200);
    }
}

/// Userspace-directed steering takes the hung worker out after its threshold; the plain hash does not. Where all look hung, since
/// none gets a processor, the hash decides for both.
fn hermes_sends_a_burning_worker_nothing_after_the_threshold() {
    when_undisturbed(what_a_burning_worker_is_sent);
}

fn what_a_burning_worker_is_sent() {
    let bench = scenario()
        .workers(4)
        .constant(800.0)
        .connections(1_200)
        .set("server.hermes_hang", "50ms")
        .event(json!({ "kind": "burn", "worker": 2, "at": "300ms", "for": "800ms" }))
        .each("server.strategy", ["reuseport", "reuseport-hermes"])
        .bench();
    let trials = bench.trials(0);
    let share_of = |strategy: &str| share(trials.iter().find(|trial| trial["cell"]["strategy"] == strategy).unwrap());
    // A sixteenth of the time at a quarter: 1.6 %; on a slow machine somewhat more.
    assert!(share_of("reuseport") > 0.15 && share_of("reuseport-hermes") < 0.1, "{:?}", trials);
}

/// A stall without end: the clients that the hash sent there give up, and their connections are found in the queue.
fn what_an_endless_stall_strands_is_left_in_the_queue() {
    let bench = scenario()
        .workers(2)
        .poisson(300.0)
        .connections(300)
        .set("load.reply_timeout", "3s")
        .event(json!({ "worker": 0, "at": "200ms" }))
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    let left = number(&trial["connections"]["left_in_queue"]);
    assert!(left > 0, "{}", trial["connections"]);
    assert_eq!(left, number(&event(trial)["stranded"]));
    // The worker may have been stopped between accept and reply.
    let unanswered = of_workers(trial, "accepted")[0] - of_workers(trial, "requests")[0];
    assert_eq!(errors(trial, "receive", "ETIMEDOUT"), left + unanswered, "{trial}");
}

/// Where nobody can count who waits for a worker, the record says so, and what no worker has accepted is counted all the same:
/// a stopped holder of the accept mutex holds everybody up.
fn what_nobody_can_know_is_null() {
    let bench = scenario()
        .workers(1)
        .constant(400.0)
        .connections(300)
        .event(json!({ "at": "100ms", "for": "500ms" }))
        .each(
            "server.strategy",
            ["shared-accept-mutex", "shared-blocking", "shared-uring", "reuseport-uring", "dispatcher"],
        )
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let event = event(&trial);
        assert_eq!(
            event["stranded"].is_null(),
            trial["cell"]["strategy"] != "dispatcher",
            "{}: {event}",
            trial["cell"]
        );
        // About 200 came meanwhile, and the only worker was stopped.
        assert!(number(&event["not_accepted"]) > 0, "{}: {event}", trial["cell"]);
    }
}

/// A worker killed in the warm-up has no part in the measured window, and what it used is not forgotten.
fn a_worker_killed_early_is_not_measured() {
    let bench = scenario()
        .workers(2)
        .constant(400.0)
        .duration("400ms")
        .set("server.service_time", "500us")
        .set("load.warmup", "1500ms")
        .event(json!({ "kind": "kill", "at": "400ms" }))
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    let [dead, other] = &trial["workers"].as_array().unwrap()[..] else { panic!("{trial}") };
    assert_eq!((&dead["measured"]["accepted"], &dead["measured"]["cpu_user_ns"]), (&0.into(), &0.into()), "{dead}");
    // About 80 requests of half a millisecond, in the last of which it may have died.
    let cpu_ns = number(&dead["cpu_user_ns"]) + number(&dead["cpu_system_ns"]);
    let requests = number(&dead["requests"]);
    assert!(requests > 1 && cpu_ns >= (requests - 1) * 500_000, "{dead}");
    // Nor is the warm-up in the rate.
    let measured = number(&other["measured"]["accepted"]);
    assert_eq!(trial["rates"]["accepted_per_s"].as_f64().unwrap(), measured as f64 / 0.4);
    assert!(measured < number(&other["accepted"]), "{other}");
}

/// Once nothing listens any more, attempts are refused: no worker accepts those either.
fn attempts_refused_for_want_of_a_listener_are_not_accepted() {
    let bench = scenario()
        .workers(1)
        .strategy("shared-epoll")
        .constant(200.0)
        .connections(200)
        .event(json!({ "kind": "kill", "at": "200ms" }))
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    let refused = errors(trial, "connect", "ECONNREFUSED");
    // Most of them come after the kill.
    assert!(refused > 0, "{}", trial["connections"]);
    assert_eq!(number(&event(trial)["unconnected"]), refused, "{trial}");
    let summary = common::read_json(&bench.path("out/summary.json"));
    let median = &summary["cells"][0]["metrics"]["event_not_accepted"]["median"];
    assert_eq!(median.as_f64(), Some((number(&event(trial)["not_accepted"]) + refused) as f64));
}

/// An event that the load does not live to see, or that finds its worker too late, is said not to have happened.
fn an_event_that_did_not_happen_is_named() {
    let bench = scenario().connections(20).event(json!({ "at": "1h" })).bench();
    let trial = &bench.trials(0)[0];
    assert_eq!(trial["events"], Value::Null);
    let verdict = trial["verdicts"].as_array().unwrap().iter().find(|verdict| verdict["name"] == "events").unwrap();
    assert!(verdict["detail"].as_str().unwrap().contains("not carried out"), "{verdict}");
    // One that is switched off needs no other key taken out.
    let output = bench.command(&["run", "scenario.toml", "--set", "event.0.kind=none", "--list"]).output().unwrap();
    assert_code(&output, 0);
}

/// 50 connections wait over two listeners, one of which dies: they are aborted, or with net.ipv4.tcp_migrate_req moved to the
/// other.
fn a_killed_workers_queue_is_aborted_or_moves() {
    let bench = scenario()
        .workers(2)
        .burst(50)
        .set("server.accept_delay", "3s")
        .event(json!({ "kind": "kill", "worker": 1, "at": "1500ms" }))
        .each("sysctl.tcp_migrate_req", [0, 1])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let connections = &trial["connections"];
        let stranded = number(&event(&trial)["stranded"]);
        assert!((5..=45).contains(&stranded), "{}", trial["events"]);
        let aborted = if trial["cell"]["tcp_migrate_req"] == 1 { 0 } else { stranded };
        assert_eq!(number(&connections["aborted"]), aborted, "{}: {connections}", trial["cell"]);
        assert_eq!(number(&connections["accepted"]), 50 - aborted);
        assert_eq!(of_workers(&trial, "accepted"), [50 - aborted, 0]);
    }
}

/// A dispatcher has one worker less, and nobody else notices.
fn a_dispatcher_leaves_a_dead_worker_out() {
    let bench = scenario()
        .strategy("dispatcher")
        .workers(3)
        .constant(400.0)
        .connections(400)
        .event(json!({ "kind": "kill", "worker": 0, "at": "100ms" }))
        .each("server.dispatch", ["round-robin", "least-connections"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        // What it had in hand is lost, and nothing else.
        let connections = &trial["connections"];
        let in_hand =
            number(&connections["aborted"]) + of_workers(&trial, "accepted")[0] - of_workers(&trial, "requests")[0];
        let completed = number(&connections["completed"]);
        // It may have died between answering a request and counting it.
        assert!((400..=401).contains(&(completed + in_hand)), "{}: {connections} {}", trial["cell"], trial["workers"]);
        assert!(of_workers(&trial, "accepted")[1] > of_workers(&trial, "accepted")[0], "{}", trial["workers"]);
    }
}

fn impossible_events_are_refused() {
    for (events, parts) in [
        ("[[event]]\nat = \"1ms\"\nworker = 2", &["`event.0.worker`", "no worker 2"][..]),
        ("[[event]]\nat = \"2s\"", &["`event.0.at`", "the load ends at"]),
        ("[[event]]\nworker = 1", &["`event.0.at`", "missing"]),
        ("[[event]]", &["`event.0.at`", "empty"]),
        ("[[event]]\nat = \"1ms\"\nkind = \"burn\"", &["`event.0.for`", "missing"]),
        ("[[event]]\nat = \"1ms\"\nkind = \"kill\"\nfor = \"1s\"", &["`event.0.for`", "no effect"]),
        ("[[event]]\nat = \"1ms\"\nhow = \"inherit\"", &["`event.0.how`", "no effect"]),
        ("[[event]]\nat = \"1ms\"\nwhy = \"kill\"", &["unknown key `event.0.why`"]),
        ("[[event]]\nat = \"1ms\"\nkind = \"signal\"", &["`event.0.kind`", "is for another server", "server.subject"]),
        (
            "[load]\nconnections = 5\n[[event]]\nat = \"1ms\"\nfor = \"1ms\"\nevery = \"5ms\"",
            &["`event.0.every`", "whose end is known"],
        ),
        ("[[event]]\nat = \"1ms\"\nfor = \"9ms\"\nevery = \"5ms\"", &["`event.0.every`", "shorten `for`"]),
        ("[[event]]\nat = \"0s\"\nfor = \"1us\"\nevery = \"500us\"", &["`event.0.every`", "1000 are allowed"]),
        ("[[event]]\nat = \"1ms\"\nkind = \"kill\"\n[[event]]\nat = \"5ms\"", &["`event.1.at`", "overlaps `event.0`"]),
        ("[event]\nat = \"1ms\"", &["[[event]]"]),
        ("[matrix]\nevent.1.at = [\"1ms\", \"2ms\"]", &["`event.1`", "without gaps"]),
    ] {
        let bench = Bench::new(events);
        let output = bench.run(&[]);
        assert_code(&output, 2);
        let text = stderr(&output);
        for part in parts {
            assert!(text.contains(part), "{events:?}: {text:?} lacks {part:?}");
        }
    }
}
