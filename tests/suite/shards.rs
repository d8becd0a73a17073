//! Fewer queues than workers, and how their workers learn of connections.

use serde_json::{Value, json};

use crate::common::{Scenario, assert_balanced, assert_datagrams_balanced, number, of_workers, scenario, strategies};

tests! {
    nothing [
        a_part_of_the_queues_gets_the_hashes_of_their_parts,
        all_workers_accept_from_a_single_queue,
        datagrams_of_a_shared_socket_are_told_apart_from_losses,
    ]
    root [
        every_wake_up_works_with_every_steering,
        least_counts_the_workers_of_a_queue,
    ]
}

fn accepted(trial: &Value) -> Vec<u64> {
    of_workers(trial, "accepted")
}

/// Each way to be woken with each way to steer, for a queue with two workers and one with one: every connection is served, with an exact
/// wait that ends where it is served.
fn every_wake_up_works_with_every_steering() {
    let steerings: Vec<String> =
        strategies().into_iter().filter(|name| name.starts_with("reuseport") && name != "reuseport-uring").collect();
    assert_eq!(steerings.len(), 7, "{steerings:?}");
    let bench = scenario()
        .workers(3)
        .closed(16, 120)
        .set("load.loaders", 2)
        .set("server.listeners", 2)
        .each("server.strategy", steerings)
        .each("server.wake", ["level", "edge", "exclusive", "blocking", "uring"])
        .bench();
    let trials = bench.trials(0);
    assert_eq!(trials.len(), 35);
    for trial in trials {
        assert_balanced(&trial);
        assert_eq!(number(&trial["connections"]["completed"]), 120, "{}: {}", trial["cell"], trial["connections"]);
        let wait = &trial["latency_ns"]["accept_wait"];
        assert_eq!((number(&wait["count"]), &wait["ends"]), (120, &"serving".into()), "{}", trial["cell"]);
    }
}

/// The same clients on the host's network, where the hash of a 4-tuple is always the same.
fn same_clients() -> Scenario {
    scenario().set("network", "host").set("load.source_ports", "explicit").closed(8, 200)
}

/// The kernel scales a hash to the number of queues: half of two is what two of four get, to the connection. From each queue, only the
/// workers that share it accept.
fn a_part_of_the_queues_gets_the_hashes_of_their_parts() {
    let bench = same_clients().workers(4).each("server.listeners", json!([1, 2, "per-worker"])).bench();
    let trials = bench.trials(0);
    let of = |listeners: Value| {
        let trial = trials.iter().find(|trial| trial["cell"]["listeners"] == listeners).unwrap();
        assert_balanced(trial);
        accepted(trial)
    };
    let (one, two, four) = (of(json!(1)), of(json!(2)), of(json!("per-worker")));
    assert_eq!(one.iter().sum::<u64>(), 200);
    assert_eq!(two[0] + two[2], four[0] + four[1], "{two:?} {four:?}");
    assert_eq!(two[1] + two[3], four[2] + four[3], "{two:?} {four:?}");
    assert!(four.iter().all(|count| *count > 0), "{four:?}");
}

/// Workers that serve one connection at a time take turns at a backlog that is there before they begin.
fn all_workers_accept_from_a_single_queue() {
    let bench = scenario()
        .workers(3)
        .burst(30)
        .set("server.listeners", 1)
        .set("server.accept_batch", 1)
        .set("server.accept_delay", "300ms")
        .set("server.service_time", "30ms")
        .each("server.strategy", ["reuseport", "reuseport-cpu"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert!(accepted(&trial).iter().all(|count| *count > 0), "{}: {:?}", trial["cell"], accepted(&trial));
        assert_eq!(trial["distribution"]["draws"], Value::Null, "chance does not decide who is faster");
        let queues: Vec<&Value> = trial["workers"].as_array().unwrap().iter().map(|row| &row["queue"]).collect();
        assert!(queues.iter().all(|queue| *queue == queues[0] && !queue.is_null()), "{queues:?}");
    }
}

/// Two sockets for three workers: each flow's datagrams arrive at one socket, whose workers answer them.
fn datagrams_of_a_shared_socket_are_told_apart_from_losses() {
    let bench = scenario()
        .set("protocol", "udp")
        .workers(3)
        .closed(8, 200)
        .set("server.listeners", 2)
        .each("server.wake", ["level", "edge", "exclusive"])
        .bench();
    for trial in bench.trials(0) {
        assert_datagrams_balanced(&trial);
        assert_eq!(number(&trial["datagrams"]["received"]), 200, "{}: {}", trial["cell"], trial["datagrams"]);
    }
}

/// One loader, one connection after the other, all of them held: three workers at two queues get a third of the connections each, so the
/// queue of two gets two thirds.
fn least_counts_the_workers_of_a_queue() {
    let bench = scenario()
        .strategy("reuseport-least")
        .workers(3)
        .constant(200.0)
        .connections(60)
        .set("load.hold", "4s")
        .set("server.listeners", 2)
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    let counts = accepted(trial);
    assert_eq!((counts[0] + counts[2], counts[1]), (40, 20), "{counts:?}");
}
