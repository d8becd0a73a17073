//! What a stopped, burning or killed worker leaves, for every strategy.

use crate::common::{
    self, Bench, assert_balanced, assert_code, errors, number, of_workers, scenario, stderr, strategies,
};
use serde_json::{Value, json};

tests! {
    nothing [
        every_strategy_balances_with_every_fault,
        a_stopped_worker_strands_its_part_of_a_group_and_none_of_a_shared_queue,
        what_an_endless_stall_strands_is_left_in_the_queue,
        what_nobody_can_know_is_null,
        a_worker_killed_early_is_not_measured,
        a_fault_that_did_not_happen_is_named,
        a_killed_workers_queue_is_aborted_or_moves,
        a_dispatcher_leaves_a_dead_worker_out,
        impossible_faults_are_refused,
    ]
    root [
        hermes_sends_a_burning_worker_nothing_after_the_threshold,
    ]
}

fn fault(trial: &Value) -> &Value {
    &trial["events"][0]
}

fn share(trial: &Value) -> f64 {
    fault(trial)["share"].as_f64().unwrap()
}

/// Whatever happens to a worker, every established connection is accepted, left or aborted, and the trial is valid: the
/// scenario meant it.
fn every_strategy_balances_with_every_fault() {
    let strategies = strategies();
    let bench = scenario()
        .workers(3)
        .poisson(600.0)
        .duration("500ms")
        .set("load.reply_timeout", "2s")
        .fault(json!({ "worker": 1, "at": "150ms", "for": "200ms" }))
        .each("server.strategy", strategies)
        .each("fault.0.kind", ["stall", "burn", "kill"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(trial["outcome"], "valid", "{}: {}", trial["cell"], trial["verdicts"]);
        let kind = &trial["cell"]["kind"];
        assert_eq!((&fault(&trial)["kind"], &fault(&trial)["worker"]), (kind, &1.into()));
        assert!(common::verdicts(&trial).contains(&"faults"));
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
    let bench = scenario()
        .workers(4)
        .constant(800.0)
        .connections(1_200)
        .fault(json!({ "worker": 2, "at": "300ms", "for": "800ms" }))
        .each("server.strategy", ["reuseport", "shared-epoll", "shared-epoll-exclusive"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let fault = fault(&trial);
        let (stranded, answered) = (number(&fault["stranded"]), number(&fault["stranded_wait"]["count"]));
        if trial["cell"]["strategy"] == "reuseport" {
            // About 640 during the fault; binomial with p = 1/4: mean 160, sd 11.
            assert!((0.15..0.35).contains(&share(&trial)), "{fault}");
            assert!(number(&fault["accepted"]) == 0 && stranded >= 90, "{fault}");
            // Those under way at either instant may be on one side of it only.
            assert!(answered.abs_diff(stranded) <= 5, "{fault}");
            assert!(number(&fault["not_accepted"]) >= stranded, "{fault}");
            // The one that came first waited all the time, and each recorded its whole wait.
            assert!(number(&fault["stranded_wait"]["max"]) > 400_000_000, "{fault}");
        } else {
            assert_eq!((number(&fault["accepted"]), stranded, answered), (0, 0, 0), "{}: {fault}", trial["cell"]);
            assert!(share(&trial) < 0.01, "{}: {fault}", trial["cell"]);
        }
        assert_eq!(trial["connections"]["completed"], 1200);
    }
}

/// Userspace-directed steering takes the hung worker out after its threshold; the plain hash does not.
fn hermes_sends_a_burning_worker_nothing_after_the_threshold() {
    let bench = scenario()
        .workers(4)
        .constant(800.0)
        .connections(1_200)
        .set("server.hermes_hang", "50ms")
        .fault(json!({ "kind": "burn", "worker": 2, "at": "300ms", "for": "800ms" }))
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
        .connections(200)
        .set("load.reply_timeout", "300ms")
        .fault(json!({ "worker": 0, "at": "200ms" }))
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    let left = number(&trial["connections"]["left_in_queue"]);
    assert!(left > 20, "{}", trial["connections"]);
    assert_eq!(left, errors(trial, "receive", "ETIMEDOUT"), "{}", trial["connections"]);
    assert_eq!(left, number(&fault(trial)["stranded"]));
}

/// Where nobody can count who waits for a worker, the record says so, and what no worker has accepted is counted all the same:
/// a stopped holder of the accept mutex holds everybody up.
fn what_nobody_can_know_is_null() {
    let bench = scenario()
        .workers(1)
        .constant(400.0)
        .connections(300)
        .fault(json!({ "at": "200ms", "for": "300ms" }))
        .each(
            "server.strategy",
            ["shared-accept-mutex", "shared-blocking", "shared-uring", "reuseport-uring", "dispatcher"],
        )
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let fault = fault(&trial);
        assert_eq!(
            fault["stranded"].is_null(),
            trial["cell"]["strategy"] != "dispatcher",
            "{}: {fault}",
            trial["cell"]
        );
        // About 120 came meanwhile, and the only worker was stopped.
        assert!(number(&fault["not_accepted"]) > 60, "{}: {fault}", trial["cell"]);
    }
}

/// A worker killed in the warm-up has no part in the measured window, and what it used is not forgotten.
fn a_worker_killed_early_is_not_measured() {
    let bench = scenario()
        .workers(2)
        .constant(400.0)
        .duration("400ms")
        .set("server.service_time", "500us")
        .set("load.warmup", "400ms")
        .fault(json!({ "kind": "kill", "at": "200ms" }))
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    let dead = &trial["workers"][0];
    assert_eq!((&dead["measured"]["accepted"], &dead["measured"]["cpu_user_ns"]), (&0.into(), &0.into()), "{dead}");
    // 40 requests of half a millisecond.
    let cpu_ns = number(&dead["cpu_user_ns"]) + number(&dead["cpu_system_ns"]);
    assert!(number(&dead["accepted"]) > 10 && cpu_ns > 4_000_000, "{dead}");
    let accepted = trial["rates"]["accepted_per_s"].as_f64().unwrap();
    // 400/s; with the warm-up's it would be 640.
    assert!((300.0..=500.0).contains(&accepted), "{accepted}");
}

/// A fault that the load does not live to see, or that finds its worker too late, is said not to have happened.
fn a_fault_that_did_not_happen_is_named() {
    let bench = scenario().connections(20).fault(json!({ "at": "1h" })).bench();
    let trial = &bench.trials(0)[0];
    assert_eq!(trial["events"], Value::Null);
    let verdict = trial["verdicts"].as_array().unwrap().iter().find(|verdict| verdict["name"] == "faults").unwrap();
    assert!(verdict["detail"].as_str().unwrap().contains("not carried out"), "{verdict}");
    // One that is switched off needs no other key taken out.
    let output = bench.run(&["--set", "fault.0.kind=none", "--list"]);
    assert_code(&output, 0);
}

/// 50 connections wait over two listeners, one of which dies: they are aborted, or with net.ipv4.tcp_migrate_req moved to the
/// other.
fn a_killed_workers_queue_is_aborted_or_moves() {
    let bench = scenario()
        .workers(2)
        .burst(50)
        .set("server.accept_delay", "500ms")
        .fault(json!({ "kind": "kill", "worker": 1, "at": "250ms" }))
        .each("sysctl.tcp_migrate_req", [0, 1])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let connections = &trial["connections"];
        let stranded = number(&fault(&trial)["stranded"]);
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
        .connections(300)
        .fault(json!({ "kind": "kill", "worker": 0, "at": "200ms" }))
        .each("server.dispatch", ["round-robin", "least-connections"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        // At most what it had in hand.
        assert!(number(&trial["connections"]["completed"]) >= 297, "{}: {}", trial["cell"], trial["connections"]);
        assert!(number(&trial["workers"][1]["accepted"]) > 100);
    }
}

fn impossible_faults_are_refused() {
    for (faults, parts) in [
        ("[[fault]]\nat = \"1ms\"\nworker = 2", &["`fault.0.worker`", "no worker 2"][..]),
        ("[[fault]]\nat = \"2s\"", &["`fault.0.at`", "not before the end"]),
        ("[[fault]]\nworker = 1", &["`fault.0.at`", "missing"]),
        ("[[fault]]", &["`fault.0.at`", "empty"]),
        ("[[fault]]\nat = \"1ms\"\nkind = \"burn\"", &["`fault.0.for`", "missing"]),
        ("[[fault]]\nat = \"1ms\"\nkind = \"kill\"\nfor = \"1s\"", &["`fault.0.for`", "no effect"]),
        ("[[fault]]\nat = \"1ms\"\nhow = \"kill\"", &["unknown key `fault.0.how`"]),
        (
            "[[fault]]\nat = \"1ms\"\nkind = \"kill\"\n[[fault]]\nat = \"5ms\"",
            &["`fault.1.at`", "overlaps another fault"],
        ),
        ("[fault]\nat = \"1ms\"", &["[[fault]]"]),
        ("[matrix]\nfault.1.at = [\"1ms\", \"2ms\"]", &["`fault.1`", "without gaps"]),
    ] {
        let bench = Bench::new(faults);
        let output = bench.run(&[]);
        assert_code(&output, 2);
        let text = stderr(&output);
        for part in parts {
            assert!(text.contains(part), "{faults:?}: {text:?} lacks {part:?}");
        }
    }
}
