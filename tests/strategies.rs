//! What is known of each strategy beforehand, demanded of the real binary.

mod common;

use common::{Bench, assert_balanced, assert_code, number};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

const ALL: &str = r#"["shared-blocking", "shared-epoll", "shared-epoll-edge", "shared-epoll-exclusive",
    "shared-accept-mutex", "shared-uring", "reuseport", "reuseport-uring", "reuseport-cpu", "reuseport-incoming-cpu", "dispatcher"]"#;

fn accepted(trial: &Value) -> Vec<u64> {
    trial["workers"].as_array().unwrap().iter().map(|worker| number(&worker["accepted"])).collect()
}

/// Every strategy serves every connection, whatever the batch and whoever closes.
#[test]
fn every_strategy_balances() {
    let bench = Bench::new(&format!(
        r#"
        repetitions = 1
        [server]
        workers = 3
        [load]
        concurrency = 24
        connections = 300
        loaders = 2
        [matrix]
        server.strategy = {ALL}
        server.accept_batch = ["drain", 2]
        server.app = ["close", "echo"]
        load.close_how = ["fin", "rst"]
        "#
    ));
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(number(&trial["connections"]["completed"]), 300, "{}: {}", trial["cell"], trial["connections"]);
        assert_eq!(number(&trial["latency_ns"]["accept_wait"]["count"]), 300, "{}", trial["cell"]);
    }
}

/// An overload that nobody can serve in time ends with every connection accounted for in every strategy: what a thread
/// or the kernel's ring had taken counts as accepted, the rest is in the queue.
#[test]
fn every_strategy_stops_in_order() {
    let bench = Bench::new(&format!(
        r#"
        repetitions = 1
        [server]
        workers = 2
        accept_batch = 1
        service_time = "20ms"
        [load]
        mode = "open"
        arrivals = "burst"
        burst_size = 200
        burst_every = "10s"
        duration = "200ms"
        reply_timeout = "200ms"
        [matrix]
        server.strategy = {ALL}
        "#
    ));
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(trial["outcome"], "valid", "{}: {}", trial["cell"], trial["verdicts"]);
        assert_eq!(number(&trial["connections"]["established"]), 200);
        assert!(number(&trial["connections"]["completed"]) < 200);
    }
}

/// The kernel wakes threads blocked in accept first in, first out: at a low rate they take turns.
#[test]
fn blocked_threads_take_turns() {
    let bench = Bench::new(
        r#"
        repetitions = 1
        [server]
        strategy = "shared-blocking"
        workers = 4
        [load]
        mode = "open"
        arrivals = "constant"
        rate = 50.0
        connections = 40
        "#,
    );
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    assert!(accepted(trial).iter().all(|count| (9..=11).contains(count)), "{:?}", accepted(trial));
}

/// Loaders pinned to processor i are served by worker i, all of them.
#[test]
fn the_receiving_processor_picks_the_worker() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let bench = Bench::new(&format!(
        r#"
        repetitions = 1
        [server]
        workers = {cpus}
        [load]
        pin = "spread"
        loaders = {cpus}
        concurrency = {cpus}
        connections = 400
        [matrix]
        server.strategy = ["reuseport-cpu", "reuseport-incoming-cpu"]
        "#
    ));
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let loaders: Vec<u64> =
            trial["loaders"].as_array().unwrap().iter().map(|loader| number(&loader["attempted"])).collect();
        assert_eq!(accepted(&trial), loaders, "{}", trial["cell"]);
    }
}

/// The lock survives the death of its holder: the others go on accepting.
#[test]
fn killing_the_holder_of_the_accept_mutex_does_not_stop_accepts() {
    let bench = Bench::new(
        r#"
        repetitions = 1
        [server]
        strategy = "shared-accept-mutex"
        accept_mutex_delay = "20ms"
        workers = 3
        [load]
        mode = "open"
        arrivals = "constant"
        rate = 100.0
        duration = "3s"
        reply_timeout = "1s"
        "#,
    );
    let run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
    // Two of three die; the holder among them is whichever is asleep with the lock.
    for victim in &bench.wait_for("lb:worker", 3)[..2] {
        std::thread::sleep(std::time::Duration::from_millis(800));
        kill(Pid::from_raw(*victim as i32), Signal::SIGKILL).unwrap();
    }
    assert_code(&run.wait_with_output().unwrap(), 3);
    let trial = &bench.read_trials()[0];
    assert_eq!(trial["outcome"], "invalid");
    // One accept a connection at 100/s over three seconds, but for those that died with a worker.
    assert!(number(&trial["connections"]["completed"]) > 250, "{}", trial["connections"]);
    assert!(accepted(trial)[2] > 50, "{:?}", accepted(trial));
    bench.demand_nothing_left();
}

/// A dispatcher hands out in turn, or to whoever has least.
#[test]
fn a_dispatcher_keeps_its_rule() {
    let bench = Bench::new(
        r#"
        repetitions = 1
        [server]
        strategy = "dispatcher"
        workers = 4
        [load]
        mode = "open"
        arrivals = "constant"
        rate = 400.0
        connections = 81
        hold = "2s"
        [matrix]
        server.dispatch = ["round-robin", "least-connections"]
        "#,
    );
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let mut counts = accepted(&trial);
        counts.sort_unstable();
        assert_eq!(counts, [20, 20, 20, 21], "{}", trial["cell"]);
        assert!(number(&trial["helper"]["voluntary_switches"]) > 0 && trial["helper"]["exit"] == "ok");
    }
}

#[test]
fn killing_the_dispatcher_is_a_recorded_failure() {
    let bench = Bench::new(
        r#"
        repetitions = 1
        [server]
        strategy = "dispatcher"
        [load]
        mode = "open"
        rate = 200.0
        duration = "1s"
        reply_timeout = "500ms"
        "#,
    );
    let run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
    let victim = bench.wait_for("lb:dispatcher", 1)[0];
    std::thread::sleep(std::time::Duration::from_millis(400));
    kill(Pid::from_raw(victim as i32), Signal::SIGKILL).unwrap();
    assert_code(&run.wait_with_output().unwrap(), 3);
    let trial = &bench.read_trials()[0];
    assert_eq!((&trial["outcome"], &trial["helper"]["exit"]), (&"invalid".into(), &"killed by SIGKILL".into()));
    assert!(common::errors(trial, "connect", "ECONNREFUSED") > 0, "{}", trial["connections"]);
    bench.demand_nothing_left();
}

/// With EPOLLEXCLUSIVE the first registered worker that is idle takes nearly all, whichever its number.
#[test]
fn the_first_registered_takes_nearly_all_of_an_exclusive_listener() {
    let bench = Bench::new(
        r#"
        repetitions = 1
        [server]
        strategy = "shared-epoll-exclusive"
        workers = 4
        [load]
        mode = "open"
        arrivals = "constant"
        rate = 50.0
        connections = 40
        [matrix]
        server.registration = ["ascending", "descending", "shuffled"]
        "#,
    );
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let rows = trial["workers"].as_array().unwrap();
        let first = rows.iter().find(|row| row["registration_rank"] == 0).unwrap();
        assert!(number(&first["accepted"]) >= 30, "{}: {:?}", trial["cell"], accepted(&trial));
        let mut ranks: Vec<u64> = rows.iter().map(|row| number(&row["registration_rank"])).collect();
        match trial["cell"]["registration"].as_str().unwrap() {
            "ascending" => assert_eq!(ranks, [0, 1, 2, 3]),
            "descending" => assert_eq!(ranks, [3, 2, 1, 0]),
            _ => ranks.sort_unstable(),
        }
        ranks.sort_unstable();
        assert_eq!(ranks, [0, 1, 2, 3]);
    }
}
