//! Several populations of a load at once, and kept connections.

use std::fs;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::common::{Bench, assert_balanced, assert_code, number, stderr, stdout, verdicts};

tests! {
    nothing [
        populations_add_up_to_the_totals,
        a_population_attempts_its_schedule_between_start_and_end,
        a_population_has_the_same_schedule_beside_another,
        requests_due_are_connections_times_rate_times_window,
        kept_connections_outlive_the_worker_that_served_them,
        kept_connections_outlive_a_reload,
        the_effective_scenario_runs_the_same,
        a_list_names_what_is_swept_by_population,
        a_dead_loader_costs_its_own_population_only,
    ]
}

const MIXED: &str = r#"
    seed = 3
    repetitions = 1
    [[load]]
    name = "kept"
    mode = "kept"
    arrivals = "constant"
    concurrency = 9
    request_rate = 20
    warmup = "100ms"
    duration = "500ms"
    [[load]]
    name = "storm"
    mode = "open"
    arrivals = "constant"
    rate = 500
    requests = 2
    start = "200ms"
    end = "400ms"
"#;

fn run(bench: &Bench, more: &[&str]) -> Vec<Value> {
    let output = bench.run(more);
    let trials = bench.read_trials();
    assert!(!trials.is_empty(), "{}", stderr(&output));
    trials.iter().for_each(assert_balanced);
    trials
}

fn load<'a>(trial: &'a Value, name: &str) -> &'a Value {
    let rows = trial["loads"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {rows:?}"))
}

fn sum(trial: &Value, of: impl Fn(&Value) -> u64) -> u64 {
    trial["loads"].as_array().unwrap().iter().map(of).sum()
}

fn populations_add_up_to_the_totals() {
    for set in ["server.app=echo", "server.app=http", "server.strategy=reuseport"] {
        let bench = Bench::new(MIXED);
        let trial = &run(&bench, &["--set", set, "--set", "load.storm.hold=20ms", "--set", "load.kept.loaders=2"])[0];
        for name in ["attempted", "established", "completed", "misdelivered", "reconnected"] {
            assert_eq!(
                sum(trial, |row| number(&row["connections"][name])),
                number(&trial["connections"][name]),
                "{name}"
            );
        }
        for name in ["planned", "in_time", "completed", "requests_in_window", "requests_in_drain"] {
            assert_eq!(sum(trial, |row| number(&row["measured"][name])), number(&trial["measured"][name]), "{name}");
        }
        for name in ["planned", "in_time", "completed"] {
            let kept = |measured: &Value| number(&measured["kept"][name]);
            assert_eq!(kept(&load(trial, "kept")["measured"]), kept(&trial["measured"]), "{name}");
            assert_eq!(load(trial, "kept")["measured"][name], 0, "{name}");
        }
        assert!(load(trial, "storm")["measured"]["kept"].is_null());
        assert!(trial["rates"]["offered_per_s"].is_null(), "requests and connections");
        assert_eq!(sum(trial, |row| number(&row["requests_completed"])), number(&trial["connections"]["replies"]));
        for name in ["response", "connect", "send_lag"] {
            let due = |latencies: &Value| number(&latencies[name]["due"]);
            assert_eq!(sum(trial, |row| due(&row["latency_ns"])), due(&trial["latency_ns"]), "{name}");
        }
        // Each loader makes connections of one population.
        let loaders: Vec<u64> = ["kept", "storm"]
            .iter()
            .flat_map(|name| load(trial, name)["loaders"].as_array().unwrap())
            .map(number)
            .collect();
        assert_eq!(loaders, [0, 1, 2]);
    }
}

fn a_population_attempts_its_schedule_between_start_and_end() {
    let bench = Bench::new(MIXED);
    let trial = &run(&bench, &[])[0];
    let storm = load(trial, "storm");
    // 500 per second for 200 ms, two requests each.
    assert_eq!((&storm["connections"]["attempted"], &storm["requests_completed"]), (&100.into(), &200.into()));
    assert_eq!((&storm["start_s"], &storm["end_s"]), (&0.2.into(), &0.4.into()));
    assert_eq!(storm["measured"]["planned"], 100);
    assert_eq!(storm["rates"]["offered_per_s"], 500.0);
    // The same of an only load.
    let alone = Bench::new(
        "repetitions = 1\n[load]\nmode = \"open\"\narrivals = \"constant\"\nrate = 500\nduration = \"500ms\"\n",
    );
    let trial = &run(&alone, &["--set", "load.start=100ms", "--set", "load.end=300ms"])[0];
    assert_eq!((&trial["connections"]["attempted"], &trial["rates"]["offered_per_s"]), (&100.into(), &500.0.into()));
    // What was accepted is compared with what was offered, over the same time.
    let accepted_per_s = &trial["rates"]["accepted_per_s"];
    assert!(accepted_per_s.is_null() || *accepted_per_s == 500.0, "{accepted_per_s}");
    assert!(!verdicts(trial).contains(&"rate-unmet"), "{}", trial["verdicts"]);
}

fn a_population_has_the_same_schedule_beside_another() {
    let storm = "[[load]]\nname = \"storm\"\nmode = \"open\"\nrate = 400\nduration = \"400ms\"\n";
    let other = "[[load]]\nname = \"other\"\nmode = \"open\"\nrate = 400\n";
    let kept = "[[load]]\nname = \"kept\"\nmode = \"kept\"\nconcurrency = 3\n";
    let of = |text: String| run(&Bench::new(&format!("repetitions = 1\n{text}")), &[]).remove(0);
    let alone = of(storm.to_owned());
    let beside = of(format!("{kept}{other}{storm}"));
    let schedule = |trial: &Value, name: &str| {
        let (row, measured) = (load(trial, name), &load(trial, name)["measured"]);
        (row["schedule"].clone(), measured["planned"].clone(), measured["kept"]["planned"].clone())
    };
    assert!(schedule(&alone, "storm").0.is_string());
    assert_eq!(schedule(&alone, "storm"), schedule(&beside, "storm"));
    assert_ne!(schedule(&beside, "other").0, schedule(&beside, "storm").0);
    assert_eq!(schedule(&beside, "kept"), schedule(&of(format!("{kept}duration = \"400ms\"\n")), "kept"));
}

fn requests_due_are_connections_times_rate_times_window() {
    for (arrivals, engine) in [("constant", "mio"), ("burst", "auto")] {
        let bench = Bench::new(MIXED);
        let engine = format!("load.kept.engine={engine}");
        let trial = &run(&bench, &["--set", &format!("load.kept.arrivals={arrivals}"), "--set", &engine])[0];
        let kept = load(trial, "kept");
        let due = 9 * 20 / 2;
        assert_eq!(
            (number(&kept["measured"]["kept"]["planned"]), number(&kept["latency_ns"]["response"]["due"])),
            (due, due)
        );
        assert_eq!(
            (number(&kept["measured"]["kept"]["completed"]), number(&kept["latency_ns"]["response"]["count"])),
            (due, due)
        );
        // With those of the warm-up.
        assert_eq!((number(&kept["connections"]["attempted"]), number(&kept["requests_completed"])), (9, due + 9 * 2));
        assert_eq!(kept["rates"]["offered_per_s"], 180.0);
    }
}

fn kept_connections_outlive_the_worker_that_served_them() {
    // Of 64 connections, each of two workers has some, unless the hash is not one.
    let bench = Bench::new(
        "repetitions = 1\nserver.strategy = \"reuseport\"\n[load]\nmode = \"kept\"\narrivals = \"constant\"\nconcurrency = 64\n\
         request_rate = 5\nduration = \"1s\"\nloaders = 1\n[[event]]\nkind = \"kill\"\nat = \"500ms\"\n",
    );
    bench.run(&[]);
    let trial = &bench.read_trials()[0];
    assert_eq!(trial["loaders"][0]["exit"], "ok");
    let (connections, response) = (&trial["connections"], &trial["latency_ns"]["response"]);
    let failed: u64 = connections["errors"].as_array().unwrap().iter().map(|error| number(&error["count"])).sum();
    let reconnected = number(&connections["reconnected"]);
    assert!(reconnected > 0, "{connections}");
    assert_eq!(number(&connections["attempted"]), number(&connections["completed"]) + failed);
    // What it was serving has failed, and goes on, too.
    assert_eq!(number(&connections["attempted"]), 64 + reconnected + failed);
    assert_eq!(number(&response["due"]), 64 * 5);
    assert_eq!(number(&response["count"]) + number(&response["lost"]), 64 * 5);
}

/// What old workers close when their drain is over has its replies, and goes on with the new ones.
fn kept_connections_outlive_a_reload() {
    for how in ["inherit", "reopen"] {
        let bench = Bench::new(
            "repetitions = 1\nserver.strategy = \"reuseport\"\n[load]\nmode = \"kept\"\narrivals = \"constant\"\nconcurrency = 8\n\
             request_rate = 20\nduration = \"1s\"\n[[event]]\nkind = \"reload\"\nat = \"300ms\"\ndrain = \"100ms\"\n",
        );
        bench.run(&["--set", &format!("event.0.how={how}")]);
        let trial = &bench.read_trials()[0];
        let connections = &trial["connections"];
        let errors = connections["errors"].as_array().unwrap();
        // A request may be on its way as they close.
        assert!(errors.iter().all(|error| error["phase"] != "close"), "{connections}");
        let failed: u64 = errors.iter().map(|error| number(&error["count"])).sum();
        assert_eq!(number(&connections["reconnected"]) + failed, 8, "{how}: {connections}");
        assert_eq!(number(&connections["attempted"]), 16, "{how}: {connections}");
        assert_eq!(number(&trial["measured"]["kept"]["planned"]), 8 * 20);
    }
}

fn the_effective_scenario_runs_the_same() {
    let first = Bench::new(MIXED);
    let trial = run(&first, &["--set", "load.storm.arrivals=poisson"]).remove(0);
    let text = fs::read_to_string(first.path("out/scenario.toml")).unwrap();
    let again = Bench::new(&text);
    let repeated = run(&again, &[]).remove(0);
    assert_eq!(trial["schedule"], repeated["schedule"]);
    assert!(trial["schedule"].is_string());
    assert_eq!(fs::read_to_string(again.path("out/scenario.toml")).unwrap(), text);
}

fn a_list_names_what_is_swept_by_population() {
    let bench = Bench::new(MIXED);
    let output =
        bench.command(&["run", "scenario.toml", "--list", "--set", "load.storm.rate=[100, 200]"]).output().unwrap();
    assert_code(&output, 0);
    assert!(stdout(&output).contains("storm.rate=200"), "{}", stdout(&output));
    let output = bench.command(&["run", "scenario.toml", "--list", "--set", "load.rate=5"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("write `load.kept.rate` or `load.storm.rate`"), "{}", stderr(&output));
}

fn a_dead_loader_costs_its_own_population_only() {
    let bench = Bench::new(MIXED);
    let mut child = bench.spawn(&[
        "run",
        "scenario.toml",
        "--out",
        "out",
        "--set",
        "load.duration=3s",
        "--set",
        "load.storm.end=3s",
    ]);
    let loaders = bench.wait_for("lb:loader1", 1);
    bench.wait_for_connections(loaders[0], 1);
    kill(Pid::from_raw(loaders[0] as i32), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    let trial = &bench.read_trials()[0];
    let (kept, storm) = (load(trial, "kept"), load(trial, "storm"));
    assert_eq!(kept["latency_ns"]["response"]["lost"], 0);
    assert_eq!(number(&kept["latency_ns"]["response"]["due"]), 9 * 20 * 3);
    // 500 per second from 200 ms on, with two requests each.
    let due = |row: &Value| number(&row["latency_ns"]["response"]["due"]);
    assert_eq!((due(storm), &storm["measured"]["planned"]), (2 * 1_400, &1_400.into()));
    assert!(number(&storm["latency_ns"]["response"]["lost"]) > 0);
}
