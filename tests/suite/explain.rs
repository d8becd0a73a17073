//! The binary explains itself: `list`, `show`, `new`, `explain`, and what it says of slips.

use std::fs;

use serde_json::Value;

use crate::common::{Bench, assert_code, stderr, stdout};

tests! {
    nothing [
        built_in_scenarios_are_listed_and_shown,
        the_effective_scenario_is_the_same_scenario,
        a_new_scenario_runs_and_is_never_overwritten,
        a_new_scenario_for_a_running_server_loads_it,
        names_are_explained_with_all_meanings,
        slips_are_met_with_the_nearest_match,
    ]
    nginx [a_new_scenario_for_a_command_runs]
}

fn said(bench: &Bench, arguments: &[&str]) -> String {
    let output = bench.command(arguments).output().unwrap();
    assert_code(&output, 0);
    stdout(&output)
}

fn built_in_scenarios_are_listed_and_shown() {
    let bench = Bench::new("");
    let text = said(&bench, &["list"]);
    let all: Vec<Value> = serde_json::from_str(&said(&bench, &["list", "--json"])).unwrap();
    assert!(all.len() > 20, "{text}");
    for entry in &all {
        let name = entry["name"].as_str().unwrap();
        assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}: {text}");
        let shown = said(&bench, &["show", name]);
        assert!(shown.contains(&format!("question = \"{}\"", entry["question"].as_str().unwrap())), "{name}: {shown}");
        assert!(entry["cells"].as_u64() > Some(0) && entry["requires"].is_array(), "{entry}");
    }
    let nginx = all.iter().find(|entry| entry["name"] == "nginx").unwrap();
    let takes = ["seconds_least", "seconds_most"].map(|seconds| nginx[seconds].as_u64());
    assert_eq!((&nginx["requires"][0], takes), (&"nginx".into(), [Some(160), Some(360)]), "{nginx}");
    assert!(text.contains("about 3 to 6 min, 56 to 128 trials"), "{text}");
}

fn the_effective_scenario_is_the_same_scenario() {
    let bench = Bench::new("");
    let effective = said(&bench, &["show", "quick", "--effective", "--set", "server.workers=3"]);
    assert!(effective.contains("workers = 3") && effective.contains("backlog = 1024"), "{effective}");
    fs::write(bench.path("quick.toml"), &effective).unwrap();
    assert_eq!(said(&bench, &["show", "./quick.toml", "--effective"]), effective);
    let output = bench.command(&["show", "quick", "--set", "server.workers=3"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("--effective"), "{}", stderr(&output));
}

/// Runs a new scenario, shortened.
fn run_new(bench: &Bench, file: &str) {
    let shorter = ["--set=repetitions=1", "--set=load.duration=100ms", "--set=load.warmup=10ms", "--set=load.rate=100"];
    let output = bench.command(&["run", file, "--out", "out"]).args(shorter).output().unwrap();
    assert!([Some(0), Some(3)].contains(&output.status.code()), "{}{}", stdout(&output), stderr(&output));
    assert!(bench.read_trials().iter().all(|trial| trial["outcome"] != "failed"));
}

fn a_new_scenario_runs_and_is_never_overwritten() {
    let bench = Bench::new("");
    assert!(said(&bench, &["new", "mine.toml"]).contains("listenbench run mine.toml"));
    let text = fs::read_to_string(bench.path("mine.toml")).unwrap();
    assert_eq!(said(&bench, &["new"]), text);
    let output = bench.command(&["new", "mine.toml", "--for", "command"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("mine.toml exists already"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(bench.path("mine.toml")).unwrap(), text);
    assert_eq!(said(&bench, &["new", "-"]), text);
    assert!(!bench.path("-").exists());
    let output = bench.command(&["new", "no/such/mine.toml"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("the folder no/such does not exist: create it first"), "{}", stderr(&output));
    // As it is, `run` has nothing to object to.
    assert!(said(&bench, &["run", "mine.toml", "--list"]).contains("mine: 2 cells"));
    run_new(&bench, "mine.toml");
}

fn a_new_scenario_for_a_command_runs() {
    let bench = Bench::new("");
    said(&bench, &["new", "mine.toml", "--for", "command"]);
    run_new(&bench, "mine.toml");
}

fn a_new_scenario_for_a_running_server_loads_it() {
    let bench = Bench::new("");
    for arguments in [&["new", "--for", "running"][..], &["new", "--at", "127.0.0.1:80"]] {
        assert_code(&bench.command(arguments).output().unwrap(), 2);
    }
    let text = said(&bench, &["new", "--for", "running", "--at", "http://127.0.0.1:8123/a"]);
    for line in ["address = \"127.0.0.1\"", "port = 8123", "path = \"/a\"", "host = \"127.0.0.1:8123\""] {
        assert!(text.lines().any(|written| written.starts_with(line)), "{line}: {text}");
    }
}

fn names_are_explained_with_all_meanings() {
    let bench = Bench::new("");
    let overview = said(&bench, &["explain"]);
    for name in ["load.rate", "response_p99_ns", "loader-saturated", "reuseport", "hand_over", "valid_trials", "130"] {
        assert!(overview.contains(name), "{name}: {overview}");
    }
    assert!(overview.contains(" · "), "names contain commas: {overview}");
    let text = said(&bench, &["explain", "reload", "load.rate", "loader-saturated", "3"]);
    for part in [
        "reload (scenario)",
        "reload (event)",
        "load.rate (key)",
        "default: ",
        "loader-saturated (verdict)",
        "given when: ",
        "what to do: Lower the rate",
        "3 (exit code)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let strategies = said(&bench, &["explain", "server.strategy"]);
    assert!(strategies.contains("shared-epoll-exclusive") && !strategies.contains("below"), "{strategies}");
    let values = said(&bench, &["explain", "edge", "level"]);
    assert!(values.contains("As in `shared-epoll-edge`.") && values.contains("As in `shared-epoll`."), "{values}");
    for name in ["not-attributable", "not-tested", "too-few-trials", "b-higher", "undecided", "longest queue"] {
        assert!(said(&bench, &["explain", name]).to_lowercase().contains(name), "{name}");
    }
    let same = said(&bench, &["explain", "imbalance"]);
    assert!(same.contains("(metric; "), "{same}");
    assert!(said(&bench, &["explain", "load.kept.rate", "kept.response_p99"]).contains("kept.response_p99 (metric)"));
}

fn slips_are_met_with_the_nearest_match() {
    let bench = Bench::new("");
    fs::create_dir_all(bench.path("results/before")).unwrap();
    for (arguments, code, meant) in [
        (&["explain", "loader-saturatd"][..], 2, "did you mean `loader-saturated`?"),
        (&["explain", "lod.rate"], 2, "did you mean `load.rate`"),
        (&["run", "stoages"], 2, "did you mean \"stages\"?"),
        (&["run", "scenaro.toml"], 2, "did you mean \"scenario.toml\"?"),
        (&["show", "tial"], 2, "did you mean \"tail\"?"),
        (&["run", "quick", "--list", "--set", "server.strategy=reusport"], 2, "did you mean \"reuseport\"?"),
        (&["run", "quick", "--list", "--set", "load.arivals=poisson"], 2, "did you mean `load.arrivals`?"),
        (&["run", "storm", "--list", "--set", "load.stom.rate=5"], 2, "did you mean \"storm\"?"),
        (&["run", "nginx", "--list", "--set", "variant=reusport"], 2, "did you mean \"reuseport\"?"),
        (&["run", "quick", "--list", "--set", "answers=[\"respons_p99\"]"], 2, "did you mean `response_p99_ns`"),
        (&["compare", "results/befor", "results/before"], 1, "did you mean \"results/before\"?"),
        (&["compare", "results/before", "results/before", "--metric", "imbalanc"], 2, "did you mean `imbalance`"),
        (&["run", "nosuch"], 2, "; `listenbench list` has the built-in scenarios"),
        (&["man", "obsrve"], 2, "did you mean \"observe\"?"),
    ] {
        let output = bench.command(arguments).output().unwrap();
        assert_code(&output, code);
        assert!(stderr(&output).contains(meant), "{arguments:?}: {}", stderr(&output));
    }
}
