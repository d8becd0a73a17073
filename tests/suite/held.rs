//! Loads that hold all their connections at once: how they come to their height, what a connection costs, and whether they fit.

use serde_json::Value;

use crate::common::{Bench, assert_balanced, assert_code, number, scenario, stderr, stdout};

tests! {
    nothing [
        a_ramp_has_all_connections_and_both_exchanges,
        a_held_connection_is_small,
        without_a_height_there_is_no_ramp,
        connections_that_end_early_or_are_not_measured_make_no_ramp,
        a_plan_says_whether_it_fits,
    ]
}

const SCENARIO: &str = r#"
    repetitions = 1
    [server]
    workers = 3
    backlog = 4096
    [load]
    mode = "open"
    arrivals = "constant"
    rate = 1000.0
    connections = 1000
    hold = "5s"
    follow_up = "3s"
    close_how = "rst"
    source_ports = "explicit"
    source_addresses = "127.0.0.2-127.0.0.4"
    [sysctl]
    somaxconn = 4096
"#;

/// All are open at once, every reply of both exchanges is checked, and the ramp's steps add up to the load.
fn a_ramp_has_all_connections_and_both_exchanges() {
    let bench = Bench::new(SCENARIO);
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    let connections = &trial["connections"];
    assert_eq!((number(&connections["completed"]), number(&connections["verified"])), (1_000, 2_000), "{connections}");
    assert_eq!(number(&trial["latency_ns"]["follow_up"]["count"]), 1_000);
    assert_eq!(number(&trial["memory"]["open"]), 1_000, "{}", trial["memory"]);

    let ramp = &trial["ramp"];
    let steps = ramp["steps"].as_array().unwrap();
    let of = |key: &str| -> Vec<u64> { steps.iter().map(|step| number(&step[key])).collect() };
    assert!((2..=10).contains(&steps.len()), "{ramp}");
    assert_eq!(of("accepted").last(), Some(&1_000));
    assert!(of("accepted").is_sorted());
    let waits: u64 = steps.iter().map(|step| number(&step["accept_wait"]["count"])).sum();
    assert_eq!(waits, 1_000, "each accept's wait belongs to one step");
    let times: Vec<f64> = steps.iter().map(|step| step["until_s"].as_f64().unwrap()).collect();
    assert!(times.is_sorted() && ramp["seconds"].as_f64().unwrap() >= *times.last().unwrap() - 1e-6, "{ramp}");
    // The ends of a ramp can only be compared where each has a step of its own.
    let tenths: Vec<u64> = of("accepted").iter().map(|accepted| accepted / 100).collect();
    let ends = tenths.first() == Some(&1) && tenths.iter().nth_back(1) == Some(&9);
    assert_eq!(ramp["rate_ratio"].is_null(), !ends, "{ramp}");
    // 1,000 at 1,000/s: the schedule's last start is due just before a second has passed.
    assert!(ramp["seconds"].as_f64().unwrap() > 0.99, "{ramp}");

    let summary = std::fs::read_to_string(bench.path("out/summary.md")).unwrap();
    assert!(summary.contains("Over the ramp") && summary.contains("ramp: the time until all connections"), "{summary}");
    let report = std::fs::read_to_string(bench.path("out/report.html")).unwrap();
    assert!(report.contains("Over the ramp"));
}

/// An idle connection is a few hundred bytes of the processes', and several thousand of the kernel's.
fn a_held_connection_is_small() {
    let bench = Bench::new(SCENARIO);
    let output = bench.run(&[
        "--set=load.rate=5000",
        "--set=load.connections=20000",
        "--set=load.hold=12s",
        "--set=server.workers=2",
    ]);
    assert_code(&output, 0);
    let memory = &bench.read_trials()[0]["memory"];
    assert_eq!(number(&memory["open"]), 20_000, "{memory}");
    let bytes = |key: &str| memory[key].as_f64().unwrap();
    // 80 and 88 bytes an entry, and what else a process touches meanwhile: histograms, mostly.
    for side in ["loader_bytes_per_connection", "worker_bytes_per_connection"] {
        assert!((40.0..300.0).contains(&bytes(side)), "{side}: {memory}");
    }
    let parts = bytes("loader_bytes") + bytes("worker_bytes") + bytes("shared_bytes");
    assert_eq!(parts, bytes("user_bytes"), "{memory}");
}

/// A load that ends its connections as it begins others comes to no height.
fn without_a_height_there_is_no_ramp() {
    for changes in [
        ["--set", "load.hold=20ms", "--set", "load.follow_up="],
        ["--set", "load.connections=", "--set", "load.duration=300ms"],
    ] {
        let bench = Bench::new(SCENARIO);
        let output = bench.run(&changes);
        assert_code(&output, 0);
        assert_eq!(bench.read_trials()[0]["ramp"], Value::Null);
    }
}

/// A closed loop may have as many connections under way as it has in all, and end the first before it begins the last; and those
/// of a warm-up are not measured.
fn connections_that_end_early_or_are_not_measured_make_no_ramp() {
    let bench = scenario().workers(2).closed(1_000, 1_000).set("load.hold", "1ms").set("load.close_how", "rst").bench();
    let _ = bench.run(&[]);
    assert_eq!(bench.read_trials()[0]["ramp"], Value::Null);
    let bench = Bench::new(SCENARIO);
    assert_code(&bench.run(&["--set", "load.warmup=200ms"]), 0);
    assert_eq!(bench.read_trials()[0]["ramp"], Value::Null);
}

/// The plan says what a load wants of the machine, and what to change where it does not fit.
fn a_plan_says_whether_it_fits() {
    let bench = Bench::new(SCENARIO);
    let list = stdout(&bench.run(&["--list"]));
    for part in ["needs 1,000 source ports of 84,696", "3 source addresses", "open files in total", "MiB memory of"] {
        assert!(list.contains(part), "{part}: {list}");
    }
    let many =
        ["--set=load.rate=4000", "--set=load.connections=100000", "--set=load.hold=60s", "--set=server.workers=512"];
    let list = stdout(&bench.run(&[&many[..], &["--list"]].concat()));
    assert!(list.contains("not enough; use 4 source addresses (`load.source_addresses`)"), "{list}");
    let output = bench.run(&many);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("100,000 source ports of 84,696"), "{}", stderr(&output));
    // Connections and flows of datagrams have ports of their own.
    let both = [
        "--set=protocol=tcp+udp",
        "--set=load.udp_share=0.5",
        "--set=load.rate=4000",
        "--set=load.connections=160000",
        "--set=load.hold=60s",
        "--set=load.follow_up=",
        "--set=server.workers=512",
        "--list",
    ];
    let list = stdout(&bench.run(&both));
    assert!(list.contains("needs 80,000 source ports of 84,696"), "{list}");
    let doctor = stdout(&bench.command(&["doctor", "--json"]).output().unwrap());
    let checks: Vec<Value> = serde_json::from_str(&doctor).unwrap();
    let million = checks.iter().find(|check| check["name"] == "a million connections").expect(&doctor);
    assert!(million["found"].as_str().unwrap().len() > 10, "{million}");
}
