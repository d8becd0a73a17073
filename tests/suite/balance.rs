//! Workers that hand over what they accept to the one with the fewest connections.

use std::collections::BTreeSet;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::common::{self, assert_balanced, assert_code, number, of_workers, scenario, strategies, when_undisturbed};

tests! {
    nothing [
        held_connections_are_level_whoever_accepts,
        every_strategy_hands_over,
        an_overload_stops_in_order,
        whatever_happens_to_a_worker_connections_balance,
        a_busy_worker_lets_others_accept,
        threads_of_one_process_share_what_one_accepts,
        a_burning_thread_leaves_its_part_to_the_others,
        a_dead_process_is_the_end_of_all_its_threads,
    ]
    root [
        exact_waits_end_where_the_connection_is_served,
    ]
}

/// What was handed over, by members and helper, and what was taken over.
fn exchanged(trial: &Value) -> (u64, u64) {
    let helper = if trial["helper"].is_null() { 0 } else { number(&trial["helper"]["handed_over"]) };
    (of_workers(trial, "handed_over").iter().sum::<u64>() + helper, of_workers(trial, "taken_over").iter().sum())
}

/// While no connection closes, workers' open connections differ by one at most: whether all arrive at one worker, or at random ones.
fn held_connections_are_level_whoever_accepts() {
    let bench = scenario()
        .workers(8)
        .constant(400.0)
        .connections(402)
        .set("load.hold", "3s")
        .each(
            "server.strategy",
            ["shared-epoll", "shared-epoll-exclusive", "shared-blocking", "shared-uring", "reuseport"],
        )
        .each("server.balance", ["off", "least"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let peaks = of_workers(&trial, "open_peak");
        let (least, most) = (peaks.iter().min().unwrap(), peaks.iter().max().unwrap());
        let (handed_over, taken_over) = exchanged(&trial);
        assert_eq!(handed_over, taken_over, "{}", trial["cell"]);
        if trial["cell"]["balance"] == "least" {
            let mut counts = of_workers(&trial, "accepted");
            counts.sort_unstable();
            assert_eq!(counts, [50, 50, 50, 50, 50, 50, 51, 51], "{}", trial["cell"]);
            assert_eq!((*least, *most), (50, 51), "{}: {peaks:?}", trial["cell"]);
        } else {
            assert_eq!(handed_over, 0, "{}", trial["cell"]);
            // Threads take turns while each is back in time.
            assert!(most - least > 1 || trial["cell"]["strategy"] == "shared-blocking", "{}: {peaks:?}", trial["cell"]);
        }
    }
}

/// Where others accept for the workers, they hand over everything.
fn every_strategy_hands_over() {
    let bench = scenario()
        .workers(3)
        .closed(24, 300)
        .set("load.loaders", 2)
        .set("server.balance", "least")
        .each("server.strategy", strategies())
        .each("server.accept_batch", json!(["drain", 1]))
        .each("server.app", ["close", "echo"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(number(&trial["connections"]["completed"]), 300, "{}: {}", trial["cell"], trial["connections"]);
        assert_eq!(number(&trial["latency_ns"]["accept_wait"]["count"]), 300, "{}", trial["cell"]);
        let (handed_over, taken_over) = exchanged(&trial);
        assert_eq!(handed_over, taken_over, "{}", trial["cell"]);
        if ["dispatcher", "shared-threads"].contains(&trial["cell"]["strategy"].as_str().unwrap()) {
            assert_eq!(taken_over, 300);
        }
    }
}

/// What is on its way to a worker at the end counts as accepted there.
fn an_overload_stops_in_order() {
    let bench = scenario()
        .workers(3)
        .duration("200ms")
        .set("server.service_time", "20ms")
        .set("server.balance", "least")
        .set("load.mode", "open")
        .set("load.arrivals", "burst")
        .set("load.burst_size", 300)
        .set("load.burst_every", "10s")
        .set("load.reply_timeout", "1s")
        .set("answers", vec!["lost_connections_share"])
        .each("server.accept_batch", json!(["drain", 1]))
        .each("server.strategy", ["shared-epoll", "shared-epoll-exclusive", "shared-blocking", "reuseport-uring"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(trial["outcome"], "valid", "{}: {}", trial["cell"], trial["verdicts"]);
        let (handed_over, taken_over) = exchanged(&trial);
        assert_eq!(handed_over, taken_over, "{}", trial["cell"]);
    }
}

/// The dead are handed nothing more, and what was on its way to them is accounted for.
fn whatever_happens_to_a_worker_connections_balance() {
    // A worker that gets no processor all through its time never burns.
    when_undisturbed(whatever_happens);
}

fn whatever_happens() {
    let bench = scenario()
        .workers(3)
        .poisson(600.0)
        .duration("700ms")
        .set("server.balance", "least")
        .event(json!({ "worker": 1, "at": "100ms", "for": "200ms" }))
        .each("server.strategy", ["shared-epoll", "reuseport", "shared-accept-mutex"])
        .each("event.0.kind", ["stall", "burn", "kill"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(trial["outcome"], "valid", "{}: {}", trial["cell"], trial["verdicts"]);
        assert_eq!(trial["events"][0]["stranded"], Value::Null, "only the worker knows what is on its way to it");
        let (handed_over, taken_over) = exchanged(&trial);
        if trial["cell"]["kind"] != "kill" {
            assert_eq!(handed_over, taken_over, "{}", trial["cell"]);
        }
    }
}

/// Each wait ends with the worker that serves, and the part after accept(2) is a hand-over where another accepted.
fn exact_waits_end_where_the_connection_is_served() {
    let bench = scenario()
        .workers(4)
        .constant(400.0)
        .connections(200)
        .set("load.hold", "3s")
        .set("server.balance", "least")
        .each("server.strategy", ["shared-epoll-exclusive", "reuseport", "reuseport-least"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let latencies = &trial["latency_ns"];
        assert_eq!(
            (&latencies["accept_wait"]["method"], &latencies["accept_wait"]["ends"]),
            (&"sock_ops".into(), &"serving".into())
        );
        let (handed_over, taken_over) = exchanged(&trial);
        assert_eq!(number(&latencies["accept_wait"]["count"]), 200, "{}", trial["cell"]);
        // The trial lacks this latency if nothing was handed over, which can happen with reuseport-least.
        assert_eq!(latencies["hand_over"]["count"].as_u64().unwrap_or(0), taken_over, "{}", trial["cell"]);
        assert!(
            handed_over == taken_over && (handed_over > 0 || trial["cell"]["strategy"] == "reuseport-least"),
            "{handed_over}"
        );
        let mut counts = of_workers(&trial, "accepted");
        counts.sort_unstable();
        assert_eq!(counts, [50, 50, 50, 50], "{}", trial["cell"]);
    }
}

/// A worker that lets others go first for longer than the trial lasts accepts only when it has nothing open.
fn a_busy_worker_lets_others_accept() {
    let bench = scenario()
        .workers(3)
        .burst(12)
        .set("load.hold", "200ms")
        .set("load.reply_timeout", "20s")
        .each("server.accept_later", ["0s", "1h"])
        .each("server.strategy", ["shared-epoll", "shared-epoll-edge", "shared-epoll-exclusive", "shared-accept-mutex"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(number(&trial["connections"]["completed"]), 12, "{}: {}", trial["cell"], trial["connections"]);
        let peaks = of_workers(&trial, "open_peak");
        if trial["cell"]["accept_later"] == "1h" {
            assert!(peaks.iter().all(|peak| *peak <= 1), "{}: {peaks:?}", trial["cell"]);
        } else {
            assert!(peaks.iter().any(|peak| *peak > 1), "{}: {peaks:?}", trial["cell"]);
        }
    }
}

/// Workers are threads: one pid, a thread id each, and CPU time of their own. All accepts are the helper's, and all are handed over.
fn threads_of_one_process_share_what_one_accepts() {
    let bench = scenario()
        .strategy("shared-threads")
        .workers(3)
        .burst(60)
        .set("server.accept_delay", "200ms")
        .set("server.service_time", "10ms")
        .each("server.accept_batch", json!(["drain", 1]))
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(number(&trial["connections"]["completed"]), 60, "{}", trial["connections"]);
        let ids = |name: &str| of_workers(&trial, name).into_iter().collect::<BTreeSet<u64>>();
        assert_eq!((ids("pid").len(), ids("tid").len()), (1, 3));
        assert_eq!(exchanged(&trial), (60, 60));
        assert_eq!(number(&trial["helper"]["handed_over"]), 60);
        assert!(ids("pid").contains(&number(&trial["helper"]["pid"])));
        if trial["cell"]["accept_batch"] == 1 {
            assert!(
                of_workers(&trial, "accepted").iter().all(|accepted| *accepted > 0),
                "{:?}",
                of_workers(&trial, "accepted")
            );
        }
        // Each burns 10 ms for each of its connections, and no more than that for the others'. The kernel estimates how CPU time splits
        // into user and system from its ticks; only the sum is exact.
        for row in trial["workers"].as_array().unwrap() {
            let accepted = number(&row["accepted"]);
            let burnt = number(&row["cpu_user_ns"]) + number(&row["cpu_system_ns"]);
            assert!(burnt >= accepted * 5_000_000 && burnt < accepted * 10_000_000 + 200_000_000, "{row}");
        }
        let wait = &trial["latency_ns"]["accept_wait"];
        assert_eq!((number(&wait["count"]), &wait["ends"]), (60, &"serving".into()));
        assert_eq!(number(&trial["latency_ns"]["hand_over"]["count"]), 60);
    }
}

/// What waits in the channel waits for nobody in particular.
fn a_burning_thread_leaves_its_part_to_the_others() {
    when_undisturbed(a_thread_burns);
}

fn a_thread_burns() {
    let bench = scenario()
        .strategy("shared-threads")
        .workers(3)
        .constant(300.0)
        .duration("900ms")
        .event(json!({ "kind": "burn", "worker": 1, "at": "200ms", "for": "400ms" }))
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    assert_eq!(
        (&trial["outcome"], &trial["events"][0]["stranded"]),
        (&"valid".into(), &0.into()),
        "{}",
        trial["events"]
    );
    assert_eq!(trial["events"][0]["accepted"], 0, "{}", trial["events"]);
}

/// A killed pool is a recorded failure of every worker, and what it had counted is kept.
fn a_dead_process_is_the_end_of_all_its_threads() {
    let bench =
        scenario().strategy("shared-threads").poisson(200.0).duration("3s").set("load.reply_timeout", "500ms").bench();
    let run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
    let victim = bench.wait_for("lb:threads", 1)[0];
    bench.wait_for_connections(victim, 60);
    kill(Pid::from_raw(victim as i32), Signal::SIGKILL).unwrap();
    assert_code(&run.wait_with_output().unwrap(), 3);
    let trial = &bench.read_trials()[0];
    assert_eq!(trial["outcome"], "invalid");
    assert!(
        trial["workers"].as_array().unwrap().iter().all(|row| row["exit"] == "killed by SIGKILL"),
        "{}",
        trial["workers"]
    );
    assert!(common::verdicts(trial).contains(&"process-died"), "{}", trial["verdicts"]);
    assert!(number(&trial["connections"]["completed"]) > 0, "{}", trial["connections"]);
    bench.demand_nothing_left();
}
