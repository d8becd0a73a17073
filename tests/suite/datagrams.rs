//! Datagrams: who gets them, what is lost, and both protocols on one port.

use crate::{
    common::{
        self, Bench, assert_balanced, assert_code, assert_datagrams_balanced, number, of_workers, scenario, stderr,
        strategies_without,
    },
    requires,
};
use serde_json::{Value, json};

tests! {
    nothing [
        every_datagram_is_answered,
        the_hash_spreads_flows_by_chance_and_keeps_them,
        connected_members_of_a_group_get_nothing,
        lost_datagrams_are_counted,
        datagrams_to_a_dead_servers_port_are_refused,
        a_killed_workers_datagrams_are_aborted,
        late_replies_are_not_another_flows,
        datagrams_do_not_starve_connections,
        both_protocols_share_a_port_number,
        what_has_no_meaning_for_datagrams_is_refused,
    ]
    root [
        round_robin_counts_datagrams,
    ]
}

fn strategies() -> Vec<String> {
    strategies_without("connections only")
}

/// Flows by the worker that answered them first.
fn flows(trial: &Value) -> Vec<u64> {
    trial["workers"].as_array().unwrap().iter().map(|worker| number(&worker["datagram_socket"]["flows"])).collect()
}

/// Every strategy that means something for datagrams answers each of them, over both address families and a device.
fn every_datagram_is_answered() {
    for network in ["", "address = \"::1\"", "network = \"veth\""] {
        let bench = Bench::new(&format!(
            r#"
            repetitions = 1
            protocol = "udp"
            {network}
            [server]
            workers = 3
            [load]
            concurrency = 16
            connections = 100
            requests = 3
            loaders = 2
            [matrix]
            server.strategy = {}
            server.accept_batch = ["drain", 1]
            "#,
            json!(strategies())
        ));
        for trial in bench.trials(0) {
            assert_datagrams_balanced(&trial);
            assert_balanced(&trial);
            let datagrams = &trial["datagrams"];
            assert_eq!((&datagrams["sent"], &datagrams["replies"]), (&300.into(), &300.into()), "{}", trial["cell"]);
            assert_eq!((&datagrams["flows"], &datagrams["answered_flows"]), (&100.into(), &100.into()));
            assert_eq!(trial["connections"]["completed"], 100);
            assert_eq!(trial["connections"]["verified"], 300);
            assert_eq!(flows(&trial).iter().sum::<u64>(), 100);
            for latency in ["response", "service", "receive_wait"] {
                assert_eq!(trial["latency_ns"][latency]["count"], 300, "{} {latency}", trial["cell"]);
            }
        }
    }
}

/// The hash throws flows like dice, and keeps each with its worker; a program that picks per datagram does not.
fn the_hash_spreads_flows_by_chance_and_keeps_them() {
    let bpf = if requires::root() { ", \"reuseport-random\"" } else { "" };
    let bench = Bench::new(&format!(
        r#"
        repetitions = 1
        protocol = "udp"
        [server]
        workers = 4
        [load]
        concurrency = 16
        connections = 2000
        requests = 4
        [matrix]
        server.strategy = ["reuseport"{bpf}]
        "#
    ));
    for trial in bench.trials(0) {
        assert_datagrams_balanced(&trial);
        let spread = &trial["flow_distribution"];
        assert!(spread["p_value"].as_f64().unwrap() > 1e-6, "{}: {spread}", trial["cell"]);
        let (sticky, moved) = (&trial["datagrams"]["sticky_flows"], &trial["datagrams"]["moved_flows"]);
        if trial["cell"]["strategy"] == "reuseport" {
            assert_eq!((number(sticky), number(moved)), (2000, 0));
        } else {
            // Four throws of four dice are equal once in 64: mean 31, sd 5.6.
            assert!((5..70).contains(&number(sticky)), "{}", trial["datagrams"]);
        }
    }
}

/// Sockets connected elsewhere take nothing from other peers; the others share evenly, whichever are connected.
fn connected_members_of_a_group_get_nothing() {
    let bench = scenario()
        .workers(5)
        .closed(4, 600)
        .set("protocol", "udp")
        .each("server.connected", json!([[0, 1], [1, 3], [4, 2]]))
        .bench();
    for trial in bench.trials(0) {
        assert_datagrams_balanced(&trial);
        let connected: Vec<u64> = trial["cell"]["connected"].as_array().unwrap().iter().map(number).collect();
        for (worker, datagrams) in of_workers(&trial, "datagrams").into_iter().enumerate() {
            if connected.contains(&(worker as u64)) {
                assert_eq!(datagrams, 0, "{}: {:?}", trial["cell"], of_workers(&trial, "datagrams"));
            } else {
                // Binomial, n = 600, p = 1/3: mean 200, sd 11.5.
                assert!((140..=260).contains(&datagrams), "{}: {:?}", trial["cell"], of_workers(&trial, "datagrams"));
            }
        }
    }
}

/// One loader, one datagram after the other: turns are exact.
fn round_robin_counts_datagrams() {
    let bench = scenario()
        .strategy("reuseport-round-robin")
        .workers(3)
        .closed(1, 20)
        .set("protocol", "udp")
        .set("load.requests", 5)
        .bench();
    let mut counts = of_workers(&bench.trials(0)[0], "datagrams");
    counts.sort_unstable();
    assert_eq!(counts, [33, 33, 34]);
}

/// A worker that is stopped, with room for a few datagrams only: what comes then is lost, counted by the kernel, and missed by
/// its sender; the rest is served afterwards.
fn lost_datagrams_are_counted() {
    let bench = scenario()
        .workers(1)
        .constant(500.0)
        .duration("1s")
        .set("protocol", "udp")
        .set("server.receive_buffer", 4_096)
        .set("load.reply_timeout", "2s")
        .event(json!({ "at": "100ms", "for": "600ms" }))
        .each("server.strategy", ["reuseport", "shared-epoll"])
        .bench();
    for trial in bench.trials(0) {
        assert_datagrams_balanced(&trial);
        let lost = number(&trial["datagrams"]["lost"]);
        // About 300 come meanwhile, and 8 KiB hold ten or so.
        assert!(lost > 0, "{}", trial["datagrams"]);
        assert_eq!(common::errors(&trial, "receive", "ETIMEDOUT"), lost);
        assert_eq!(number(&trial["workers"][0]["datagram_socket"]["lost"]), lost);
        assert_eq!(trial["outcome"], "valid");
        assert!(common::verdicts(&trial).contains(&"datagrams-lost"));
    }
}

/// With the only worker dead, nobody has the port: each datagram is accounted for to the unit, and those to the closed port by name.
fn datagrams_to_a_dead_servers_port_are_refused() {
    let bench = scenario()
        .workers(1)
        .poisson(200.0)
        .duration("3s")
        .set("protocol", "udp")
        .set("load.reply_timeout", "300ms")
        .event(json!({ "kind": "kill", "worker": 0, "at": "1s" }))
        .bench();
    let trial = &bench.trials(0)[0];
    assert_datagrams_balanced(trial);
    let datagrams = &trial["datagrams"];
    assert!(number(&datagrams["refused"]) > 0 && number(&datagrams["received"]) > 0, "{datagrams}");
    assert_eq!(trial["outcome"], "valid", "{}", trial["verdicts"]);
}

/// What a killed worker's socket held is gone with it, and said so.
fn a_killed_workers_datagrams_are_aborted() {
    let bench = scenario()
        .workers(2)
        .constant(400.0)
        .duration("1500ms")
        .set("protocol", "udp")
        .set("load.reply_timeout", "500ms")
        .event(json!({ "worker": 1, "at": "100ms" }))
        .event(json!({ "kind": "kill", "worker": 1, "at": "900ms" }))
        .bench();
    let trial = &bench.trials(0)[0];
    assert_datagrams_balanced(trial);
    let aborted = number(&trial["datagrams"]["aborted"]);
    // About 320 come while it is stopped, half of them its.
    assert!(aborted > 0, "{}", trial["datagrams"]);
    assert_eq!(trial["outcome"], "valid", "{}", trial["verdicts"]);
}

/// Late replies to flows that were given up come to whoever has their port now, and are told from replies to it.
fn late_replies_are_not_another_flows() {
    let bench = scenario()
        .workers(2)
        .constant(2_000.0)
        .duration("800ms")
        .set("protocol", "udp")
        .set("load.reply_timeout", "100ms")
        .set("sysctl.ip_local_port_range", "40000 40399")
        .event(json!({ "at": "200ms", "for": "300ms" }))
        .bench();
    let trial = &bench.trials(0)[0];
    assert_datagrams_balanced(trial);
    assert_eq!((&trial["connections"]["misdelivered"], &trial["outcome"]), (&0.into(), &"valid".into()));
    let meanwhile = &trial["events"][0]["datagrams"];
    // The worker may receive a few more between the reading before the stall and the moment it stands still.
    let few = number(&meanwhile["received"]) * 10 < number(&meanwhile["sent"]);
    assert!(number(&meanwhile["queue_bytes"]) > 0 && few, "{}", trial["events"]);
}

/// With a service time and no limit on batches, a busy socket of datagrams leaves connections their turn.
fn datagrams_do_not_starve_connections() {
    let bench = scenario()
        .workers(1)
        .constant(2_000.0)
        .duration("1s")
        .set("protocol", "tcp+udp")
        .set("server.service_time", "1ms")
        .set("load.udp_share", 0.95)
        .set("load.reply_timeout", "500ms")
        .set("answers", json!(["lost_share"]))
        .bench();
    let trial = &bench.trials(0)[0];
    assert_datagrams_balanced(trial);
    // 100 connections came; a pass of 64 datagrams takes 64 ms, so that all but the last were accepted in time.
    assert!(number(&trial["connections"]["accepted"]) > 60, "{}", trial["connections"]);
}

/// Connections and datagrams on one port number, as DNS servers have it: each with its own balance and latencies.
fn both_protocols_share_a_port_number() {
    let strategies: Vec<String> = strategies().into_iter().filter(|name| name != "reuseport-cid").collect();
    let bench = scenario()
        .workers(2)
        .closed(16, 400)
        .set("protocol", "tcp+udp")
        .set("load.requests", 2)
        .set("load.loaders", 2)
        .each("server.strategy", strategies)
        .each("load.udp_share", [0.25, 0.5])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_datagrams_balanced(&trial);
        let flows = (400.0 * trial["cell"]["udp_share"].as_f64().unwrap()) as u64;
        assert_eq!(number(&trial["datagrams"]["flows"]), flows, "{}", trial["cell"]);
        assert_eq!(number(&trial["connections"]["accepted"]), 400 - flows);
        assert_eq!(number(&trial["connections"]["completed"]), 400);
        assert_eq!(number(&trial["latency_ns"]["udp_response"]["count"]), 2 * flows);
        assert_eq!(number(&trial["latency_ns"]["response"]["count"]), 2 * (400 - flows));
        assert_eq!(number(&trial["latency_ns"]["accept_wait"]["count"]), 400 - flows);
        assert_eq!(number(&trial["latency_ns"]["receive_wait"]["count"]), 2 * flows);
    }
}

fn what_has_no_meaning_for_datagrams_is_refused() {
    let bench = Bench::new("protocol = \"udp\"");
    let output = bench.command(&["load", "scenario.toml", "7000"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("scenario.toml:1: `protocol`: datagrams require"), "{}", stderr(&output));
    for (text, parts) in [
        ("[server]\nstrategy = \"dispatcher\"", &["`server.strategy`", "datagrams", "reuseport"][..]),
        ("[server]\napp = \"http\"", &["`server.app`", "echo"]),
        ("[server]\nbacklog = 5", &["`server.backlog`", "no effect"]),
        ("[load]\nclose_how = \"rst\"", &["`load.close_how`", "no effect"]),
        ("[load]\nudp_share = 0.5", &["`load.udp_share`", "no effect"]),
        ("[server]\nreply_bytes = 65508", &["`server.reply_bytes`", "65507"]),
        ("[server]\nconnected = [2]", &["`server.connected`", "from 0 to 1"]),
        ("[server]\nconnected = [0, 1]", &["`server.connected`", "all workers"]),
    ] {
        let bench = Bench::new(&format!("protocol = \"udp\"\n{text}"));
        let output = bench.run(&[]);
        assert_code(&output, 2);
        for part in parts {
            assert!(stderr(&output).contains(part), "{text:?}: {:?} lacks {part:?}", stderr(&output));
        }
    }
}
