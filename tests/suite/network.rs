//! Server and loaders in two network namespaces, joined by a veth pair: demanded of the real binary.

use serde_json::json;

use crate::common::{Bench, assert_balanced, assert_code, errors, number, read_json, scenario, stderr, verdicts};

tests! {
    nothing [
        connections_cross_the_pair,
        a_hundred_ports_make_a_hundred_connections_across_the_pair,
        the_servers_time_wait_takes_no_port,
        counters_of_both_sides_are_recorded,
        an_address_that_cannot_cross_is_refused,
    ]
}

/// Every connection is served, its accept wait known, and counted once on either side.
fn connections_cross_the_pair() {
    let bench = scenario()
        .workers(3)
        .closed(24, 300)
        .set("network", "veth")
        .set("load.loaders", 2)
        .each("address", ["198.18.0.1", "2001:2::1"])
        .each("server.strategy", ["reuseport", "shared-epoll-exclusive", "dispatcher"])
        .each("server.app", ["close", "echo"])
        .bench();
    let trials = bench.trials(0);
    assert_eq!(trials.len(), 12);
    for trial in trials {
        assert_balanced(&trial);
        assert_eq!(number(&trial["connections"]["completed"]), 300, "{}: {}", trial["cell"], trial["connections"]);
        assert_eq!(number(&trial["latency_ns"]["accept_wait"]["count"]), 300, "{}", trial["cell"]);
        assert_eq!(number(&trial["kernel"]["ActiveOpens"]), 300, "{}", trial["kernel"]);
        assert_eq!(number(&trial["kernel"]["PassiveOpens"]), 300, "{}", trial["kernel"]);
    }
    assert_eq!(read_json(&bench.path("out/host.json"))["network"], "veth");
}

/// Sysctls hold on both sides: the queue's limit on the server's, the port range on the loaders'. The default
/// `tcp_tw_reuse = 2` means loopback: there ports in TIME_WAIT serve again after a second, across the pair they do not.
fn a_hundred_ports_make_a_hundred_connections_across_the_pair() {
    let bench = scenario()
        .constant(100.0)
        .connections(300)
        .set("sysctl.ip_local_port_range", "40000 40099")
        .set("sysctl.somaxconn", 77)
        .set("answers", json!(["ports_exhausted_after_s"]))
        .each("network", ["netns", "veth"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(number(&trial["usable_ports"]), 100);
        assert_eq!(number(&trial["workers"][0]["queue_limit"]), 77);
        let completed = number(&trial["connections"]["completed"]);
        if trial["cell"]["network"] == "netns" {
            assert!(completed > 100, "{}", trial["connections"]);
        } else {
            assert_eq!((completed, errors(&trial, "connect", "EADDRNOTAVAIL")), (100, 200), "{}", trial["connections"]);
            assert_eq!(number(&trial["ports_peak"]), 100);
            assert!(verdicts(&trial).contains(&"ports-scarce"), "{}", trial["verdicts"]);
        }
    }
    assert_eq!(read_json(&bench.path("out/host.json"))["network"], "netns and veth");
    // Each cell has the address that its network has by default, in the record's scenario too.
    let again = Bench::new(&std::fs::read_to_string(bench.path("out/scenario.toml")).unwrap());
    assert_code(&again.run(&["--list"]), 0);
}

/// A server that closes first has TIME_WAIT on its side, where it takes no client's port.
fn the_servers_time_wait_takes_no_port() {
    let bench = scenario().closed(4, 500).set("network", "veth").set("load.close_by", "server").bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    assert_eq!(number(&trial["connections"]["completed"]), 500);
    assert!(number(&trial["ports_peak"]) < 250, "{}", trial["ports_peak"]);
}

/// The kernel counts a full queue where the server is, and SYNs sent again where the loaders are; the record has both.
fn counters_of_both_sides_are_recorded() {
    let bench = scenario()
        .workers(1)
        .closed(10, 10)
        .set("network", "veth")
        .set("server.backlog", 2)
        .set("server.accept_delay", "1h")
        .set("load.loaders", 1)
        .set("load.connect_timeout", "1500ms")
        .set("load.reply_timeout", "400ms")
        .bench();
    // Nothing is completed, so the trial is invalid; its counts hold all the same.
    let trial = &bench.trials(3)[0];
    assert_balanced(trial);
    assert_eq!(number(&trial["connections"]["left_in_queue"]), 3, "{}", trial["connections"]);
    assert!(number(&trial["kernel"]["ListenOverflows"]) > 0, "{}", trial["kernel"]);
    assert!(number(&trial["kernel"]["TCPSynRetrans"]) > 0, "{}", trial["kernel"]);
    assert!(verdicts(trial).contains(&"queue-overflow") && verdicts(trial).contains(&"syn-retries"));
}

fn an_address_that_cannot_cross_is_refused() {
    for address in ["127.0.0.1", "::1", "0.0.0.0", "224.0.0.1", "fe80::1"] {
        let bench = Bench::new(&format!("network = \"veth\"\naddress = \"{address}\""));
        let output = bench.run(&[]);
        assert_code(&output, 2);
        let message = stderr(&output);
        assert!(message.contains("`address`") && message.contains(address), "{message}");
        assert!(!bench.path("out").exists());
    }
}
