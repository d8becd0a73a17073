//! Loaders' engines and sockets: whichever moves the bytes, the same connections, the same truth, the same segments.

use crate::common::{self, Bench, assert_balanced, assert_code, errors, number, scenario, stderr};
use serde_json::{Value, json};

tests! {
    nothing [
        every_engine_balances_with_every_app_strategy_and_kind_of_socket,
        recycled_sockets_send_as_many_resets_as_fresh_ones,
        recycled_sockets_take_their_ports_as_the_scenario_says,
        connections_recycle_beside_datagrams,
        failed_connections_are_not_recycled,
        engines_agree_on_orderly_closes_and_long_replies,
        requests_that_no_buffer_takes_whole_arrive_whole,
        engines_keep_the_same_schedule,
        engines_agree_on_what_went_wrong,
        auto_takes_what_can_be_had_and_the_record_says_what,
        what_an_engine_cannot_do_is_refused_by_its_key,
    ]
}

/// Connections that were begun on a socket used before.
fn recycled(trial: &Value) -> u64 {
    trial["loaders"].as_array().unwrap().iter().map(|loader| number(&loader["recycled"])).sum()
}

fn demand_all(trial: &Value, connections: u64) {
    assert_balanced(trial);
    let counts = &trial["connections"];
    for name in ["attempted", "established", "accepted", "completed"] {
        assert_eq!(counts[name], connections, "{name} of {}: {counts}", trial["cell"]);
    }
    assert_eq!(trial["measured"]["stamps_impossible"], 0, "{}", trial["cell"]);
}

/// Fresh sockets are never used again. Recycled ones are, but for as many as there are connections at once, and as many again
/// where an engine cannot let go of one at once.
fn demand_recycling(trial: &Value, connections: u64, at_once: u64) {
    let again = recycled(trial);
    if trial["cell"]["sockets"] == "recycled" {
        assert!((connections - 2 * at_once..connections).contains(&again), "{again}: {}", trial["cell"]);
    } else {
        assert_eq!(again, 0, "{}", trial["cell"]);
    }
}

fn every_engine_balances_with_every_app_strategy_and_kind_of_socket() {
    for (app, strategies) in [
        ("echo", json!(["reuseport", "shared-epoll", "shared-uring", "dispatcher", "shared-blocking"])),
        ("http", json!(["reuseport", "shared-epoll-exclusive"])),
        ("close", json!(["reuseport", "shared-accept-mutex"])),
    ] {
        let bench = scenario()
            .closed(8, 400)
            .set("server.app", app)
            .set("load.loaders", 2)
            .set("load.close_how", "rst")
            .each("server.strategy", strategies)
            .each("load.engine", ["mio", "uring"])
            .each("load.sockets", ["fresh", "recycled"])
            .bench();
        for trial in bench.trials(0) {
            demand_all(&trial, 400);
            demand_recycling(&trial, 400, 8);
            assert_eq!(trial["engine"], trial["cell"]["engine"]);
            assert_eq!(trial["connections"]["errors"], serde_json::json!([]), "{}", trial["cell"]);
        }
    }
}

/// A disconnect is a close by reset, on the wire as well: one reset a connection.
fn recycled_sockets_send_as_many_resets_as_fresh_ones() {
    let bench = scenario()
        .closed(4, 300)
        .set("load.requests", 3)
        .set("load.hold", "1ms")
        .set("load.close_how", "rst")
        .each("load.engine", ["mio", "uring"])
        .each("load.sockets", ["fresh", "recycled"])
        .each("network", ["netns", "veth"])
        .bench();
    let mut veth = true;
    let output = bench.run(&[]);
    for trial in bench.read_trials() {
        if trial["cell"]["network"] == "veth" && !trial["error"].is_null() {
            veth = false;
            continue;
        }
        demand_all(&trial, 300);
        demand_recycling(&trial, 300, 4);
        assert_eq!(trial["connections"]["replies"], 900);
        assert_eq!(trial["kernel"]["OutRsts"], 300, "{}", trial["cell"]);
        // Nothing stays behind.
        assert_eq!(trial["kernel"]["TW"], 0, "{}", trial["cell"]);
    }
    assert_code(&output, if veth { 0 } else { 3 });
}

fn recycled_sockets_take_their_ports_as_the_scenario_says() {
    let bench = scenario()
        .closed(4, 300)
        .set("sysctl.ip_local_port_range", "40000 40999")
        .set("load.close_how", "rst")
        .set("load.sockets", "recycled")
        .set("load.source_addresses", "127.0.0.2-127.0.0.4")
        .each("load.engine", ["mio", "uring"])
        .each("load.source_ports", ["bind-zero", "bind-no-port", "range-window"])
        .bench();
    for trial in bench.trials(0) {
        demand_all(&trial, 300);
        assert!(recycled(&trial) >= 292, "{}", trial["cell"]);
    }
    let fresh = ["run", "scenario.toml", "--out=fresh", "--set=load.sockets=fresh"];
    let output = bench.command(&[&fresh[..], &["--set=load.source_ports=explicit"]].concat()).output().unwrap();
    assert_code(&output, 0);
    for trial in common::read_trials(&bench.path("fresh")) {
        demand_all(&trial, 300);
    }
}

/// Beside flows of datagrams, which have sockets of their own.
fn connections_recycle_beside_datagrams() {
    let bench = scenario()
        .closed(4, 300)
        .set("protocol", "tcp+udp")
        .set("load.close_how", "rst")
        .set("load.sockets", "recycled")
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    common::assert_datagrams_balanced(trial);
    assert_eq!(trial["connections"]["completed"], 300);
    assert!(recycled(trial) > 0);
}

/// A socket whose connection failed is closed, not recycled.
fn failed_connections_are_not_recycled() {
    let bench = scenario()
        .workers(1)
        .closed(2, 20)
        .set("server.service_time", "30ms")
        .set("load.reply_timeout", "10ms")
        .set("load.close_how", "rst")
        .set("load.sockets", "recycled")
        .each("load.engine", ["mio", "uring"])
        .bench();
    let output = bench.run(&[]);
    for trial in &bench.read_trials() {
        assert_balanced(trial);
        let failed = errors(trial, "receive", "ETIMEDOUT");
        assert!(failed > 0, "{}{}", trial["connections"], stderr(&output));
        assert!(recycled(trial) <= number(&trial["connections"]["completed"]));
    }
}

/// An orderly close, by either side, over several requests, and replies longer than a receive.
fn engines_agree_on_orderly_closes_and_long_replies() {
    let bench = scenario()
        .closed(4, 100)
        .set("server.reply_bytes", 60_000)
        .set("load.requests", 3)
        .each("load.engine", ["mio", "uring"])
        .each("load.close_by", ["client", "server"])
        .each("load.close_how", ["fin", "rst"])
        .each("server.app", ["echo", "http"])
        .bench();
    for trial in bench.trials(0) {
        demand_all(&trial, 100);
        assert_eq!(trial["connections"]["replies"], 300, "{}", trial["cell"]);
        assert_eq!(trial["connections"]["verified"], 300, "{}", trial["cell"]);
    }
}

/// Requests and replies go out in as many parts as the sockets' buffers make of them.
fn requests_that_no_buffer_takes_whole_arrive_whole() {
    let bench = scenario()
        .workers(2)
        .closed(8, 60)
        .set("sysctl.tcp_wmem", "4096 4608 4608")
        .set("sysctl.tcp_rmem", "4096 4608 8192")
        .set("server.request_bytes", 65_536)
        .set("server.reply_bytes", 65_536)
        .set("load.requests", 3)
        .set("load.loaders", 2)
        .each("load.engine", ["mio", "uring"])
        .each("load.close_how", ["fin", "rst"])
        .bench();
    for trial in bench.trials(0) {
        demand_all(&trial, 60);
        assert_eq!(trial["connections"]["verified"], 180, "{}", trial["cell"]);
    }
}

/// The same schedule from the same seed, and a follow-up on what is held.
fn engines_keep_the_same_schedule() {
    let bench = scenario()
        .poisson(1_000.0)
        .duration("300ms")
        .set("seed", 7)
        .set("load.hold", "3s")
        .set("load.follow_up", "1500ms")
        .set("load.close_how", "rst")
        .each("load.engine", ["mio", "uring", "auto"])
        .each("load.sockets", ["fresh", "recycled"])
        .bench();
    bench.run(&[]);
    let trials = bench.read_trials();
    assert_eq!(trials.len(), 6);
    for trial in &trials {
        assert_balanced(trial);
        assert_eq!(trial["schedule"], trials[0]["schedule"], "{}", trial["cell"]);
        assert_eq!(trial["connections"]["attempted"], trials[0]["connections"]["attempted"]);
        assert_eq!(trial["connections"]["completed"], trials[0]["connections"]["attempted"], "{}", trial["cell"]);
        assert_eq!(trial["latency_ns"]["follow_up"]["count"], trials[0]["connections"]["attempted"]);
    }
}

/// What goes wrong is counted by the same phase and errno, whichever engine saw it.
fn engines_agree_on_what_went_wrong() {
    let nobody_accepts =
        "[server]\naccept_delay = \"1h\"\n[load]\nconnections = 20\nconcurrency = 5\nreply_timeout = \"150ms\"";
    let no_ports =
        "[sysctl]\nip_local_port_range = \"40000 40009\"\n[load]\nconnections = 40\nconcurrency = 20\nhold = \"200ms\"";
    let nobody_listens = "[server]\nworkers = 1\n[load]\nduration = \"2s\"\nconcurrency = 2\n[[event]]\nkind = \"kill\"\nworker = 0\nat = \"200ms\"";
    for (scenario, phase, errno) in [
        (nobody_accepts, "receive", "ETIMEDOUT"),
        (no_ports, "connect", "EADDRNOTAVAIL"),
        (nobody_listens, "connect", "ECONNREFUSED"),
    ] {
        for how in ["fresh", "recycled"] {
            let bench =
                Bench::new(&format!("repetitions = 1\n{scenario}\n[matrix]\nload.engine = [\"mio\", \"uring\"]"));
            let sockets = format!("--set=load.sockets={how}");
            bench.run(&["--force", "--set=load.close_how=rst", &sockets]);
            let trials = bench.read_trials();
            assert_eq!(trials.len(), 2);
            for trial in &trials {
                assert_balanced(trial);
                assert!(errors(trial, phase, errno) > 0, "{}: {}", trial["cell"], trial["connections"]);
                let exhausted = errno == "EADDRNOTAVAIL";
                assert_eq!(trial["ports_exhausted_after_s"].is_number(), exhausted, "{}", trial["cell"]);
            }
            if errno == "ETIMEDOUT" {
                assert!(trials.iter().all(|trial| errors(trial, phase, errno) == 20), "{}", trials[0]["connections"]);
            }
        }
    }
}

fn auto_takes_what_can_be_had_and_the_record_says_what() {
    let doctor = Bench::new("").command(&["doctor", "--json"]).output().unwrap();
    let checks: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let check = checks.as_array().unwrap().iter().find(|check| check["name"] == "load engine").unwrap();
    let best = if check["status"] == "ok" { "uring" } else { "mio" };
    let bench = scenario().connections(20).set("load.engine", "auto").each("protocol", ["tcp", "tcp+udp"]).bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let expected = if trial["cell"]["protocol"] == "tcp" { best } else { "mio" };
        assert_eq!(trial["engine"], expected, "{}", trial["cell"]);
    }
}

fn what_an_engine_cannot_do_is_refused_by_its_key() {
    for (load, key) in [
        ("engine = \"uring\"\n[server]\nfastopen = 8", "load.engine"),
        ("engine = \"epoll\"", "load.engine"),
        ("sockets = \"recycled\"", "load.sockets"),
        ("sockets = \"recycled\"\nclose_how = \"rst\"\nsource_ports = \"explicit\"", "load.sockets"),
        ("sockets = \"used\"", "load.sockets"),
        ("sockets = \"recycled\"\nclose_how = \"rst\"\n[server]\nfastopen = 8", "load.sockets"),
    ] {
        let output = Bench::new(&format!("[load]\n{load}")).run(&[]);
        assert_code(&output, 2);
        assert!(stderr(&output).contains(key), "{}", stderr(&output));
    }
    let output = Bench::new("[load]\nengine = \"uring\"").run(&["--set=protocol=udp"]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("load.engine") && stderr(&output).contains("datagrams"), "{}", stderr(&output));
}
