//! Loaders' engines and sockets: whichever moves the bytes, the same connections, the same truth, the same segments.

mod common;

use common::{Bench, assert_balanced, assert_code, errors, number, stderr};
use serde_json::Value;

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

/// Of each cell's sockets: fresh ones are never used again; of recycled ones there are as many as connections at once.
fn demand_recycling(trial: &Value, connections: u64, at_once: u64) {
    let least = if trial["cell"]["sockets"] == "recycled" { connections - at_once } else { 0 };
    assert_eq!(recycled(trial), least, "{}", trial["cell"]);
}

#[test]
fn every_app_and_strategy_balances_with_recycled_sockets() {
    for (app, strategies) in [
        ("echo", r#"["reuseport", "shared-epoll", "shared-uring", "dispatcher", "shared-blocking"]"#),
        ("http", r#"["reuseport", "shared-epoll-exclusive"]"#),
        ("close", r#"["reuseport", "shared-accept-mutex"]"#),
    ] {
        let bench = Bench::new(&format!(
            r#"
            repetitions = 1
            [server]
            app = "{app}"
            [load]
            concurrency = 8
            loaders = 2
            connections = 400
            close_how = "rst"
            [matrix]
            server.strategy = {strategies}
            load.sockets = ["fresh", "recycled"]
            "#
        ));
        for trial in bench.trials(0) {
            demand_all(&trial, 400);
            demand_recycling(&trial, 400, 8);
            assert_eq!(trial["connections"]["errors"], serde_json::json!([]), "{}", trial["cell"]);
        }
    }
}

/// A disconnect is a close by reset, on the wire as well: one reset a connection.
#[test]
fn recycled_sockets_send_as_many_resets_as_fresh_ones() {
    let bench = Bench::new(
        r#"
        repetitions = 1
        [load]
        concurrency = 4
        connections = 300
        requests = 3
        hold = "1ms"
        close_how = "rst"
        [matrix]
        load.sockets = ["fresh", "recycled"]
        network = ["netns", "veth"]
        "#,
    );
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

#[test]
fn recycled_sockets_take_their_ports_as_the_scenario_says() {
    let bench = Bench::new(
        r#"
        repetitions = 1
        [sysctl]
        ip_local_port_range = "40000 40999"
        [load]
        concurrency = 4
        connections = 300
        close_how = "rst"
        sockets = "recycled"
        source_addresses = "127.0.0.2-127.0.0.4"
        [matrix]
        load.source_ports = ["bind-zero", "bind-no-port", "range-window"]
        "#,
    );
    for trial in bench.trials(0) {
        demand_all(&trial, 300);
        assert_eq!(recycled(&trial), 296, "{}", trial["cell"]);
    }
}

/// Beside flows of datagrams, which have sockets of their own.
#[test]
fn connections_recycle_beside_datagrams() {
    let bench = Bench::new(
        r#"
        repetitions = 1
        protocol = "tcp+udp"
        [load]
        concurrency = 4
        connections = 300
        close_how = "rst"
        sockets = "recycled"
        "#,
    );
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    common::assert_datagrams_balanced(trial);
    assert_eq!(trial["connections"]["completed"], 300);
    assert!(recycled(trial) > 0);
}

/// A socket whose connection failed is closed, not recycled.
#[test]
fn failed_connections_are_not_recycled() {
    let bench = Bench::new(
        r#"
        repetitions = 1
        [server]
        workers = 1
        service_time = "30ms"
        [load]
        concurrency = 2
        connections = 20
        reply_timeout = "10ms"
        close_how = "rst"
        sockets = "recycled"
        "#,
    );
    let output = bench.run(&[]);
    let trial = &bench.read_trials()[0];
    assert_balanced(trial);
    let failed = errors(trial, "receive", "ETIMEDOUT");
    assert!(failed > 0, "{}{}", trial["connections"], stderr(&output));
    assert!(recycled(trial) <= number(&trial["connections"]["completed"]));
}

#[test]
fn what_recycling_cannot_do_is_refused_by_its_key() {
    for (load, key) in [
        ("sockets = \"recycled\"", "load.sockets"),
        ("sockets = \"recycled\"\nclose_how = \"rst\"\nsource_ports = \"explicit\"", "load.sockets"),
        ("sockets = \"used\"", "load.sockets"),
        ("sockets = \"recycled\"\nclose_how = \"rst\"\n[server]\nfastopen = 8", "load.sockets"),
    ] {
        let output = Bench::new(&format!("[load]\n{load}")).run(&[]);
        assert_code(&output, 2);
        assert!(stderr(&output).contains(key), "{}", stderr(&output));
    }
}
