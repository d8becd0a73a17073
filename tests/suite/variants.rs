//! Named variants, lists that sweep, and servers' files, as a user meets them.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Bench, assert_code, read_json, read_trials, stderr, stdout};

tests! {
    nothing [
        variants_compete_and_their_record_runs_again,
        a_variant_runs_alone_and_without_any_the_rest_does,
        a_folder_of_files_is_part_of_the_scenario,
    ]
}

const SCENARIO: &str = r#"
    repetitions = 2
    load.connections = 20
    load.concurrency = 4
    server.workers = 2

    [[variant]]
    name = "one queue"
    server.strategy = "shared-epoll"

    [[variant]]
    name = "three queues"
    [variant.server]
    strategy = "reuseport"
    workers = 3
"#;

/// Each trial's variant and number of members, in the order of the names.
fn members(trials: &[Value]) -> Vec<(&str, usize)> {
    let of = |trial: &Value| trial["workers"].as_array().map_or(0, Vec::len);
    let mut all: Vec<_> =
        trials.iter().map(|trial| (trial["cell"]["variant"].as_str().unwrap_or(""), of(trial))).collect();
    all.sort_unstable();
    all
}

fn variants_compete_and_their_record_runs_again() {
    let bench = Bench::new(SCENARIO);
    let output = bench.run(&[]);
    assert_code(&output, 0);
    let both = [("one queue", 2), ("one queue", 2), ("three queues", 3), ("three queues", 3)];
    assert_eq!(members(&bench.read_trials()), both);
    let summary = read_json(&bench.path("out/summary.json"));
    assert_eq!(summary["compare"], json!(["variant"]));
    assert_eq!(summary["comparisons"][0]["a"], json!({"variant": "one queue"}), "{summary}");

    assert_code(&bench.command(&["run", "out/scenario.toml", "--out", "again"]).output().unwrap(), 0);
    assert_eq!(members(&read_trials(&bench.path("again"))), both);
    let scenario = |folder: &str| fs::read_to_string(bench.path(folder).join("scenario.toml")).unwrap();
    assert_eq!(scenario("out"), scenario("again"));
    let compared = bench.command(&["compare", "out", "again"]).output().unwrap();
    assert_code(&compared, 0);
    for name in ["one queue", "three queues"] {
        assert!(stdout(&compared).contains(name), "{}", stdout(&compared));
    }
}

fn a_variant_runs_alone_and_without_any_the_rest_does() {
    let bench = Bench::new(SCENARIO);
    let cells = |sets: &[&str]| {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let listed = bench.command(&["run", "scenario.toml", "--list"]).args(sets).output().unwrap();
        assert_code(&listed, 0);
        let text = stdout(&listed);
        let mut cells: Vec<String> =
            text.lines().filter_map(|line| Some(line[line.find("variant=")?..].to_owned())).collect();
        cells.sort();
        cells.dedup();
        cells
    };
    assert_eq!(cells(&[]), ["variant=one queue", "variant=three queues"]);
    assert_eq!(cells(&["variant=three queues"]), ["variant=three queues"]);
    assert_eq!(
        cells(&["variant=three queues", "load.concurrency=[1, 2]"]),
        ["variant=three queues concurrency=1", "variant=three queues concurrency=2"]
    );
    assert_code(&bench.run(&["--set", "variant="]), 0);
    assert_eq!(members(&bench.read_trials()), [("", 2), ("", 2)]);
    let unknown = bench.command(&["run", "scenario.toml", "--set", "variant=two"]).output().unwrap();
    assert_code(&unknown, 2);
    assert_eq!(
        stderr(&unknown),
        "listenbench: --set variant=two: unknown variant \"two\"; this scenario has \"one queue\", \"three queues\"\n"
    );
}

fn a_folder_of_files_is_part_of_the_scenario() {
    let bench = Bench::new("server = { subject = \"command\", command = \"true\", files = \"site\" }");
    let refused = |expected: &str| {
        let output = bench.command(&["run", "scenario.toml", "--list"]).output().unwrap();
        assert_code(&output, 2);
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    };
    refused("scenario.toml:1: `server.files`: site: No such file or directory");
    fs::create_dir(bench.path("site")).unwrap();
    fs::write(bench.path("site/logo"), [0xff, 0xd8]).unwrap();
    refused("scenario.toml:1: `server.files`: site/logo is not a text file (UTF-8)");
    fs::remove_file(bench.path("site/logo")).unwrap();
    fs::write(bench.path("site/a.conf"), "of the folder\n").unwrap();
    // The command does not listen, which is the trial's affair; what it was given is in the record.
    let listed = bench.command(&["run", "scenario.toml", "--list"]).output().unwrap();
    assert_code(&listed, 0);
}
