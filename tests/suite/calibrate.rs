//! `listenbench calibrate`, and what `run` makes of it.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    common::{Bench, assert_code, number, read_json, scenario, stderr, stdout},
    requires,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

tests! {
    nothing [
        every_contestant_runs_in_every_round_and_is_counted_by_the_kernel,
        an_ordinary_user_can_calibrate_without_stamps,
        every_manner_of_closing_and_every_app_can_be_calibrated,
        what_would_not_tell_the_harness_s_cost_is_refused_with_the_remedy,
        a_run_keeps_the_calibration_of_this_machine_and_refuses_another_s,
        an_interrupt_leaves_no_process_and_keeps_ended_runs,
    ]
}

const SHORT: [&str; 5] = ["calibrate", "--rounds", "2", "--seconds", "0.3"];

/// One calibration at a time: each has dozens of busy processes, and a trial that gets no processor for its whole window has
/// nothing to show.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn of_runs<T>(calibration: &Value, of: impl Fn(&Value) -> T) -> Vec<T> {
    let rounds = calibration["rounds"].as_array().unwrap();
    rounds.iter().flat_map(|round| round["runs"].as_array().unwrap()).map(of).collect()
}

fn contestants(round: &Value) -> BTreeSet<&str> {
    round["runs"].as_array().unwrap().iter().map(|run| run["contestant"].as_str().unwrap()).collect()
}

fn positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|value| value > 0.0)
}

/// All figures are there, every contestant is in every round, and the kernel counts as many connections as we do.
fn assert_whole(calibration: &Value, stamps: bool) {
    let mut all = BTreeSet::from(["bare", "recording-off", "recording-on"]);
    all.extend(stamps.then_some("exact-stamps"));
    let rounds = calibration["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2);
    assert!(rounds.iter().all(|round| contestants(round) == all), "{calibration:#}");
    for run in of_runs(calibration, Value::clone) {
        assert!(["connections_per_s", "cpu_ns_per_connection"].iter().all(|name| positive(&run[name])), "{run}");
        assert!(number(&run["connections"]) > 0, "{run}");
        assert_eq!(run["connections"], run["active_opens"], "{run}");
    }
    assert_eq!(calibration["stamps_error"].is_null(), stamps, "{calibration:#}");
    let ratios = calibration["ratios"].as_array().unwrap();
    assert_eq!(ratios.len(), all.len() - 1);
    for ratio in ratios {
        assert_eq!(ratio["rate"]["values"].as_array().unwrap().len(), 2);
        // Two rounds show nothing of a limit, and nothing is demanded of the bare loop.
        let verdict = if ratio["against"] == "bare" { Value::Null } else { json!("too-few-rounds") };
        assert_eq!((&ratio["verdict"], &ratio["cpu_verdict"]), (&verdict, &verdict), "{ratio}");
    }
    let costs = calibration["costs"].as_object().unwrap();
    let wanted = |name: &str| name != "stamp_lookup_ns" || stamps;
    // What fits between two iterations of an empty loop costs nothing.
    let figure = |ns: &Value| ns.as_f64().is_some_and(|ns| ns >= 0.0);
    assert!(costs.iter().all(|(name, ns)| if wanted(name) { figure(ns) } else { ns.is_null() }), "{costs:?}");
    assert!(positive(&costs["clock_read_ns"]), "{costs:?}");
    for lag in ["timer", "round_trip"] {
        let lag = &calibration["lags"][lag];
        let figures = ["p50", "p99", "max"].map(|name| number(&lag[name]));
        assert!(number(&lag["count"]) > 0 && figures.is_sorted(), "{lag}");
    }
}

fn every_contestant_runs_in_every_round_and_is_counted_by_the_kernel() {
    let _alone = alone();
    let bench = Bench::new("");
    let output = bench.command(&[&SHORT[..], &["--json", "--out", "here.json"]].concat()).output().unwrap();
    assert_code(&output, 0);
    let calibration: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(calibration, read_json(&bench.path("here.json")));
    assert_whole(&calibration, requires::root());
    bench.demand_nothing_left();
    // It is kept as records are.
    let again = bench.command(&[&SHORT[..], &["--out", "here.json"]].concat()).output().unwrap();
    assert_code(&again, 2);
    assert!(stderr(&again).contains("here.json"), "{}", stderr(&again));
}

fn an_ordinary_user_can_calibrate_without_stamps() {
    let _alone = alone();
    let bench = Bench::new("");
    let output = bench.command_as_ordinary_user(&[&SHORT[..], &["--json"]].concat()).output().unwrap();
    assert_code(&output, 0);
    assert_whole(&serde_json::from_str(&stdout(&output)).unwrap(), false);
}

fn every_manner_of_closing_and_every_app_can_be_calibrated() {
    let _alone = alone();
    let bench = Bench::new(
        "[server]\nworkers = 1\nstrategy = \"shared-epoll-exclusive\"\n[load]\nmode = \"closed\"\nconcurrency = 4\n",
    );
    for sets in [
        &["server.app=close"][..],
        &["server.app=http", "load.close_by=server"],
        &["server.app=echo", "load.requests=3", "load.close_how=fin"],
        &["server.app=echo", "load.close_by=server", "load.close_how=rst"],
    ] {
        let mut arguments = vec!["calibrate", "scenario.toml", "--rounds=1", "--seconds=0.3", "--json"];
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        let output = bench.command(&arguments).output().unwrap();
        assert_code(&output, 0);
        let calibration: Value = serde_json::from_str(&stdout(&output)).unwrap();
        for run in of_runs(&calibration, Value::clone) {
            assert_eq!(run["connections"], run["active_opens"], "{sets:?}: {run}");
        }
    }
}

fn what_would_not_tell_the_harness_s_cost_is_refused_with_the_remedy() {
    let bench = Bench::new("");
    for (sets, remedy) in [
        (&["server.strategy=[reuseport, shared-epoll]"][..], "--set server.strategy="),
        (&["load.mode=open", "load.concurrency=", "load.rate=100.0"], "--set load.mode=closed"),
        (&["server.service_time=1ms"], "--set server.service_time=0s"),
        (&["load.hold=1ms"], "--set load.hold=0s"),
        (&["protocol=tcp+udp"], "--set protocol=tcp"),
    ] {
        let mut arguments = SHORT.to_vec();
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        let output = bench.command(&arguments).output().unwrap();
        assert_code(&output, 2);
        assert!(stderr(&output).contains(remedy), "{sets:?}: {}", stderr(&output));
    }
    assert_code(&bench.command(&["calibrate", "--seconds", "0"]).output().unwrap(), 2);
}

fn a_run_keeps_the_calibration_of_this_machine_and_refuses_another_s() {
    let _alone = alone();
    let bench = scenario().strategy("reuseport").workers(1).closed(2, 50).bench();
    assert_code(&bench.command(&[&SHORT[..], &["--out", "here.json"]].concat()).output().unwrap(), 0);
    let here = read_json(&bench.path("here.json"));
    let output = bench.run(&["--calibration", "here.json"]);
    assert_code(&output, 0);
    assert_eq!(read_json(&bench.path("out/host.json"))["calibration"], here);
    let summary = fs::read_to_string(bench.path("out/summary.md")).unwrap();
    let page = fs::read_to_string(bench.path("out/report.html")).unwrap();
    for text in [&summary, &page, &stdout(&output)] {
        assert!(text.contains("What the harness itself costs") && text.contains("bare loop"), "{text}");
    }
    // Without one, the record says that there is none.
    assert_code(&bench.command(&["run", "scenario.toml", "--out", "plain"]).output().unwrap(), 0);
    assert!(read_json(&bench.path("plain/host.json"))["calibration"].is_null());
    for file in ["plain/summary.md", "plain/report.html"] {
        assert!(!fs::read_to_string(bench.path(file)).unwrap().contains("harness itself"), "{file}");
    }

    for (key, value, said) in [("kernel", "2.6.39", "kernel 2.6.39 there"), ("revision", "0123456789ab", "revision")] {
        let mut foreign = here.clone();
        foreign["machine"][key] = value.into();
        fs::write(bench.path("foreign.json"), foreign.to_string()).unwrap();
        let output = bench.command(&["run", "scenario.toml", "--out", key, "--calibration", "foreign.json"]).output();
        let output = output.unwrap();
        assert_code(&output, 2);
        assert!(stderr(&output).contains("foreign.json") && stderr(&output).contains(said), "{}", stderr(&output));
        assert!(!bench.path(key).exists(), "a refused calibration leaves no record");
    }
    let mut empty = here.clone();
    empty["rounds"] = Value::Array(Vec::new());
    fs::write(bench.path("empty.json"), empty.to_string()).unwrap();
    let output =
        bench.command(&["run", "scenario.toml", "--out", "empty", "--calibration", "empty.json"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("empty.json has no rounds: measure again"), "{}", stderr(&output));
    assert!(!bench.path("empty").exists());
    fs::write(bench.path("foreign.json"), "{}").unwrap();
    for (file, code) in [("foreign.json", 2), ("nowhere.json", 1)] {
        let arguments = ["run", "scenario.toml", "--out", "other", "--calibration", file];
        assert_code(&bench.command(&arguments).output().unwrap(), code);
    }
}

fn an_interrupt_leaves_no_process_and_keeps_ended_runs() {
    let _alone = alone();
    for name in ["lb:bareserver", "lb:worker"] {
        let bench = Bench::new("");
        let mut child = bench.spawn(&["calibrate", "--rounds", "50", "--seconds", "1", "--out", "here.json"]);
        bench.wait_for(name, 1);
        kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        bench.demand_nothing_left();
        // Contestants run in random order: one of them may have ended before.
        if let Ok(text) = fs::read_to_string(bench.path("here.json")) {
            let here: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&here["partial"], here["rounds"].as_array().unwrap().len()), (&true.into(), 1), "{here}");
        }
    }
}
