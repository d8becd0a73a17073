//! What is known of each strategy beforehand, demanded of the real binary.

use crate::{
    common::{self, Bench, assert_balanced, assert_code, number, of_workers, scenario, strategies, when_undisturbed},
    requires,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

tests! {
    nothing [
        every_strategy_balances,
        every_strategy_stops_in_order,
        blocked_threads_take_turns,
        the_receiving_processor_picks_the_worker,
        killing_the_holder_of_the_accept_mutex_does_not_stop_accepts,
        a_dispatcher_keeps_its_rule,
        killing_the_dispatcher_is_a_recorded_failure,
        the_first_registered_takes_nearly_all_of_an_exclusive_listener,
        hermes_has_room_for_64_workers,
        an_impossible_strategy_is_a_failed_cell_among_others,
        every_strategy_serves_ipv6,
    ]
    root [
        round_robin_differs_by_one_at_most,
        least_keeps_open_connections_level,
        hermes_leaves_a_stopped_worker_out,
    ]
}

fn accepted(trial: &Value) -> Vec<u64> {
    of_workers(trial, "accepted")
}

/// Every strategy serves every connection, whatever the batch and whoever closes.
fn every_strategy_balances() {
    let strategies = strategies();
    let bench = scenario()
        .workers(3)
        .closed(24, 300)
        .set("load.loaders", 2)
        .each("server.strategy", strategies)
        .each("server.accept_batch", json!(["drain", 2]))
        .each("server.app", ["close", "echo"])
        .each("load.close_how", ["fin", "rst"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(number(&trial["connections"]["completed"]), 300, "{}: {}", trial["cell"], trial["connections"]);
        assert_eq!(number(&trial["latency_ns"]["accept_wait"]["count"]), 300, "{}", trial["cell"]);
    }
}

/// An overload that nobody can serve in time ends with every connection accounted for in every strategy: what a thread
/// or the kernel's ring had taken counts as accepted, the rest is in the queue.
fn every_strategy_stops_in_order() {
    let strategies = strategies();
    let bench = scenario()
        .workers(2)
        .duration("200ms")
        .set("server.accept_batch", 1)
        .set("server.service_time", "20ms")
        .set("load.mode", "open")
        .set("load.arrivals", "burst")
        .set("load.burst_size", 200)
        .set("load.burst_every", "10s")
        // In a second two workers serve at most a hundred, and in all strategies some.
        .set("load.reply_timeout", "1s")
        .set("answers", vec!["lost_connections_share"])
        .each("server.strategy", strategies)
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(trial["outcome"], "valid", "{}: {}", trial["cell"], trial["verdicts"]);
        assert_eq!(number(&trial["connections"]["established"]), 200);
        assert!(number(&trial["connections"]["completed"]) < 200);
    }
}

/// The kernel wakes threads blocked in accept first in, first out: while each is back in time, they take turns.
fn blocked_threads_take_turns() {
    when_undisturbed(turns);
}

fn turns() {
    let bench = scenario()
        .strategy("shared-blocking")
        .workers(4)
        .constant(20.0)
        .connections(40)
        .set("server.accept_batch", 1)
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    assert!(accepted(trial).iter().all(|count| (8..=12).contains(count)), "{:?}", accepted(trial));
    // Nobody but the one that gets the connection is woken.
    let empty: u64 = trial["workers"].as_array().unwrap().iter().map(|worker| number(&worker["empty_wakeups"])).sum();
    assert!(empty <= 4, "{empty} empty wake-ups for 40 accepts");
}

/// Loaders pinned to processor i are served by worker i, all of them.
fn the_receiving_processor_picks_the_worker() {
    let cpus = requires::processors();
    let bench = scenario()
        .workers(cpus)
        .closed(cpus, 400)
        .set("load.pin", "spread")
        .set("load.loaders", cpus)
        .each("server.strategy", ["reuseport-cpu", "reuseport-incoming-cpu"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let loaders: Vec<u64> =
            trial["loaders"].as_array().unwrap().iter().map(|loader| number(&loader["attempted"])).collect();
        assert_eq!(accepted(&trial), loaders, "{}", trial["cell"]);
    }
}

/// The lock survives the death of its holder: the others go on accepting.
fn killing_the_holder_of_the_accept_mutex_does_not_stop_accepts() {
    let bench = scenario()
        .strategy("shared-accept-mutex")
        .workers(3)
        .constant(100.0)
        .duration("3s")
        .set("server.accept_mutex_delay", "20ms")
        .set("load.reply_timeout", "1s")
        .bench();
    let run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
    // Two of three die; the holder among them is whichever is asleep with the lock.
    for (victim, connections) in bench.wait_for("lb:worker", 3).into_iter().zip([40, 80]) {
        bench.wait_for_connections(victim, connections);
        kill(Pid::from_raw(victim as i32), Signal::SIGKILL).unwrap();
    }
    assert_code(&run.wait_with_output().unwrap(), 3);
    let trial = &bench.read_trials()[0];
    assert_eq!(trial["outcome"], "invalid");
    // One accept a connection at 100/s over three seconds, but for those that died with a worker: most of them after both.
    assert!(number(&trial["connections"]["completed"]) > 150, "{}", trial["connections"]);
    assert!(accepted(trial)[2] > 0, "{:?}", accepted(trial));
    bench.demand_nothing_left();
}

/// A dispatcher hands out in turn, or to whoever has least.
fn a_dispatcher_keeps_its_rule() {
    let bench = scenario()
        .strategy("dispatcher")
        .workers(4)
        .constant(400.0)
        .connections(81)
        .set("load.hold", "4s")
        .each("server.dispatch", ["round-robin", "least-connections"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let mut counts = accepted(&trial);
        counts.sort_unstable();
        assert_eq!(counts, [20, 20, 20, 21], "{}", trial["cell"]);
        assert!(number(&trial["helper"]["voluntary_switches"]) > 0 && trial["helper"]["exit"] == "ok");
    }
}

fn killing_the_dispatcher_is_a_recorded_failure() {
    let bench =
        scenario().strategy("dispatcher").poisson(200.0).duration("3s").set("load.reply_timeout", "500ms").bench();
    let run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
    let victim = bench.wait_for("lb:dispatcher", 1)[0];
    bench.wait_for_connections(victim, 60);
    kill(Pid::from_raw(victim as i32), Signal::SIGKILL).unwrap();
    assert_code(&run.wait_with_output().unwrap(), 3);
    let trial = &bench.read_trials()[0];
    assert_eq!((&trial["outcome"], &trial["helper"]["exit"]), (&"invalid".into(), &"killed by SIGKILL".into()));
    assert!(common::errors(trial, "connect", "ECONNREFUSED") > 0, "{}", trial["connections"]);
    assert!(common::verdicts(trial).contains(&"process-died"), "{}", trial["verdicts"]);
    assert!(number(&trial["connections"]["completed"]) > 0, "{}", trial["connections"]);
    bench.demand_nothing_left();
}

/// With EPOLLEXCLUSIVE the first registered worker that is idle takes nearly all, whichever its number.
fn the_first_registered_takes_nearly_all_of_an_exclusive_listener() {
    when_undisturbed(first_registered);
}

fn first_registered() {
    let bench = scenario()
        .strategy("shared-epoll-exclusive")
        .workers(4)
        .constant(50.0)
        .connections(40)
        .each("server.registration", ["ascending", "descending", "shuffled"])
        .bench();
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

/// 65 workers do not fit into the program's word.
fn hermes_has_room_for_64_workers() {
    let bench = Bench::new("[server]\nstrategy = \"reuseport-hermes\"\nworkers = 65");
    assert_code(&bench.run(&[]), 2);
}

/// An ordinary user's BPF cell fails with the reason, and the rest of the matrix runs.
fn an_impossible_strategy_is_a_failed_cell_among_others() {
    let bench = scenario().connections(20).each("server.strategy", ["reuseport", "reuseport-random"]).bench();
    assert_code(&bench.run_as_ordinary_user(), 3);
    for trial in bench.read_trials() {
        if trial["cell"]["strategy"] == "reuseport" {
            assert_eq!(trial["outcome"], "valid");
        } else {
            assert_eq!(trial["outcome"], "failed");
            let error = trial["error"].as_str().unwrap();
            assert!(error.contains("loading BPF programs is not permitted: run as root"), "{error}");
        }
    }
}

/// One loader, one connection after the other: turns are exact.
fn round_robin_differs_by_one_at_most() {
    let bench = scenario().strategy("reuseport-round-robin").workers(3).closed(1, 100).bench();
    let mut counts = accepted(&bench.trials(0)[0]);
    counts.sort_unstable();
    assert_eq!(counts, [33, 33, 34]);
}

/// With connections held open, the open ones differ by one at most.
fn least_keeps_open_connections_level() {
    // The program knows what the workers have accepted, so they must be in time.
    when_undisturbed(open_connections);
}

fn open_connections() {
    let bench = scenario()
        .strategy("reuseport-least")
        .workers(4)
        .constant(400.0)
        .connections(82)
        .set("load.hold", "3s")
        .bench();
    let trial = &bench.trials(0)[0];
    let peaks: Vec<u64> =
        trial["workers"].as_array().unwrap().iter().map(|worker| number(&worker["open_peak"])).collect();
    assert!(peaks.iter().all(|peak| (20..=21).contains(peak)), "{peaks:?}");
    let mut counts = accepted(trial);
    counts.sort_unstable();
    assert_eq!(counts, [20, 20, 21, 21]);
}

/// A stopped worker gets nothing once it has hung for the threshold; the hash goes on sending it its part.
fn hermes_leaves_a_stopped_worker_out() {
    when_undisturbed(what_a_stopped_worker_gets);
}

fn what_a_stopped_worker_gets() {
    let stranded = |strategy: &str| -> u64 {
        let bench = scenario()
            .strategy(strategy)
            .workers(4)
            .constant(300.0)
            .duration("2500ms")
            .set("load.reply_timeout", "300ms")
            .bench();
        let run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
        let victim = bench.wait_for("lb:worker", 4)[1];
        bench.wait_for_connections(victim, 100);
        kill(Pid::from_raw(victim as i32), Signal::SIGSTOP).unwrap();
        assert_code(&run.wait_with_output().unwrap(), 3);
        let trial = &bench.read_trials()[0];
        assert_balanced(trial);
        number(&trial["connections"]["left_in_queue"])
    };
    // About two seconds at 300/s: a quarter is 150. Hermes strands what comes within 100 ms: about 8.
    let (hermes, hash) = (stranded("reuseport-hermes"), stranded("reuseport"));
    assert!(hash > 90 && hermes < 40, "hermes {hermes}, hash {hash}");
}

/// IPv6 is like IPv4, for every strategy.
fn every_strategy_serves_ipv6() {
    let strategies = strategies();
    let bench = scenario()
        .closed(8, 100)
        .set("address", "::1")
        .each("server.strategy", strategies)
        .each("server.app", ["close", "echo"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(number(&trial["connections"]["completed"]), 100, "{}: {}", trial["cell"], trial["connections"]);
        assert_eq!(number(&trial["latency_ns"]["accept_wait"]["count"]), 100, "{}", trial["cell"]);
    }
}
