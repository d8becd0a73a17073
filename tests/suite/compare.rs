//! `listenbench compare` and `listenbench report`: records against each other, and reports made again from records.

use std::{fs, path::Path, process::Output};

use crate::common::{Bench, assert_code, read_json, stderr, stdout};
use serde_json::{Value, json};

tests! {
    nothing [
        the_same_figures_show_no_difference,
        what_is_worse_is_shown_and_fails_the_condition,
        different_hosts_and_scenarios_come_first_and_loudly,
        waits_measured_in_different_ways_are_never_compared,
        too_few_trials_cannot_be_judged,
        slips_exit_2_and_what_is_missing_exits_1,
        a_report_is_made_from_a_record_alone_and_comes_out_the_same,
    ]
}

/// Two cells of so few connections that the whole takes a second.
const SCENARIO: &str = r#"
    question = "Which?"
    repetitions = 5
    [load]
    connections = 40
    concurrency = 4
    close_how = "rst"
    [matrix]
    server.strategy = ["shared-epoll", "reuseport"]
"#;

/// A folder with a record `a`, and a copy `b` whose trials are changed.
fn two_records(change: impl Fn(usize, &mut Value)) -> Bench {
    let bench = Bench::new(SCENARIO);
    assert_code(&bench.command(&["run", "scenario.toml", "--out", "a"]).output().unwrap(), 0);
    copy(&bench.path("a"), &bench.path("b"));
    edit(&bench.path("a"), |trial| set_figures(trial, 1.0, number_of(trial)));
    edit(&bench.path("b"), |trial| {
        let number = number_of(trial);
        set_figures(trial, 1.0, number + 3);
        change(number, trial);
    });
    bench
}

fn number_of(trial: &Value) -> usize {
    trial["trial"].as_u64().unwrap() as usize
}

/// Gives a trial figures that are known: about so many times 10,000 accepts/s and 100 µs, with a scatter of a few percent.
fn set_figures(trial: &mut Value, times: f64, scatter: usize) {
    let scatter = 1.0 + 0.01 * (scatter * 7 % 10) as f64;
    trial["outcome"] = json!("valid");
    trial["rates"]["accepted_per_s"] = json!(10_000.0 * times * scatter);
    trial["latency_ns"]["accept_wait"]["count"] = json!(40);
    trial["latency_ns"]["accept_wait"]["p99"] = json!((100_000.0 * times * scatter) as u64);
}

fn edit(folder: &Path, mut change: impl FnMut(&mut Value)) {
    let path = folder.join("trials.jsonl");
    let lines = fs::read_to_string(&path).unwrap();
    let changed = lines.lines().map(|line| {
        let mut trial = serde_json::from_str(line).unwrap();
        change(&mut trial);
        trial.to_string() + "\n"
    });
    fs::write(&path, changed.collect::<String>()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["scenario.toml", "host.json", "trials.jsonl", "histograms.hlog"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn compare(bench: &Bench, arguments: &[&str]) -> Output {
    bench.command(&[&["compare", "a", "b"], arguments].concat()).output().unwrap()
}

fn the_same_figures_show_no_difference() {
    let bench = two_records(|_, _| {});
    let output =
        compare(&bench, &["--fail-if", "accept_wait_p99 worse than 5%", "--fail-if", "accepted_per_s worse than 5%"]);
    assert_code(&output, 0);
    let text = stdout(&output);
    for part in ["accept wait p99: no difference shown in 2 cells", "no-difference-shown", "worse than 5%: not met"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("! "), "nothing differs: {text}");
}

fn what_is_worse_is_shown_and_fails_the_condition() {
    // Only one strategy waits longer, by half.
    let bench = two_records(|number, trial| {
        if trial["cell"]["strategy"] == "reuseport" {
            set_figures(trial, 1.5, number);
        }
    });
    let output = compare(&bench, &["--fail-if", "accept_wait_p99 worse than 20%"]);
    assert_code(&output, 3);
    let text = stdout(&output);
    for part in [
        "accept wait p99: b is worse in 1 of 2 cells; the largest difference at strategy=reuseport: 1.5",
        "accepts: b is better in 1 of 2 cells",
        "b-higher (worse)",
        "b-higher (better)",
        "! accept_wait_p99 worse than 20%: met: b, strategy=reuseport",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    // Worse, but not by so much; and what is better is no reason to fail.
    assert_code(&compare(&bench, &["--fail-if", "accept_wait_p99 worse than 80%"]), 0);
    assert_code(&compare(&bench, &["--fail-if", "accepted_per_s worse than 1%"]), 0);
    // The other way round, fewer accepts are worse.
    let output = bench.command(&["compare", "b", "a", "--fail-if", "accepted_per_s worse than 20%"]).output().unwrap();
    assert_code(&output, 3);

    let output = compare(&bench, &["--json", "--fail-if", "accept_wait_p99 worse than 20%"]);
    assert_code(&output, 3);
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let cells = json["runs"][0]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2);
    let wait = |cell: &Value| {
        cell["metrics"].as_array().unwrap().iter().find(|pair| pair["metric"] == "accept_wait_p99_ns").unwrap().clone()
    };
    for cell in cells {
        let pair = wait(cell);
        let reuseport = cell["cell"]["strategy"] == "reuseport";
        assert_eq!(pair["verdict"], if reuseport { "b-higher" } else { "no-difference-shown" });
        assert_eq!(pair["ratio"].as_f64().unwrap() > 1.4, reuseport, "{pair}");
        assert!(pair["low"].as_f64() <= pair["ratio"].as_f64() && pair["ratio"].as_f64() <= pair["high"].as_f64());
    }
    assert_eq!(json["conditions"][0]["met_in"].as_array().unwrap().len(), 1);

    let output = compare(&bench, &["--markdown", "--metric", "accept_wait_p99"]);
    assert_code(&output, 0);
    assert!(stdout(&output).contains("## b (b) against a (a)") && stdout(&output).contains("| reuseport"));
}

fn different_hosts_and_scenarios_come_first_and_loudly() {
    let bench = two_records(|_, _| {});
    let host = bench.path("b/host.json");
    let mut changed = read_json(&host);
    changed["kernel"] = json!("5.10.0-elsewhere");
    changed["sysctls"]["tcp_tw_reuse"] = json!("1");
    fs::write(&host, changed.to_string()).unwrap();
    let scenario = bench.path("b/scenario.toml");
    let text = fs::read_to_string(&scenario).unwrap().replace("concurrency = 4", "concurrency = 5");
    fs::write(&scenario, text).unwrap();
    // A cell that only one of them has.
    edit(&bench.path("b"), |trial| {
        if trial["cell"]["strategy"] == "shared-epoll" {
            trial["cell"]["strategy"] = json!("shared-epoll-edge");
        }
    });
    let output = compare(&bench, &[]);
    assert_code(&output, 0);
    let text = stdout(&output);
    let first_figure = text.find("accepts:").unwrap();
    for part in [
        "! different host: kernel: ",
        "5.10.0-elsewhere",
        "! different host: sysctls.tcp_tw_reuse: 2 versus 1",
        "! different scenario: load.concurrency: 4 versus 5",
        "! only a has strategy=shared-epoll",
        "! only b has strategy=shared-epoll-edge",
    ] {
        assert!(text.find(part).is_some_and(|at| at < first_figure), "{part} does not come first in {text}");
    }
    // A cell that is gone cannot be judged, and silence would mean that all is well.
    let output = compare(&bench, &["--fail-if", "accept_wait_p99 worse than 5%"]);
    assert_code(&output, 1);
    assert!(stderr(&output).contains("no trial of strategy=shared-epoll"), "{}", stderr(&output));
}

fn waits_measured_in_different_ways_are_never_compared() {
    let bench = two_records(|_, _| {});
    for (folder, method) in [("a", "sock_ops"), ("b", "connect-call")] {
        edit(&bench.path(folder), |trial| trial["latency_ns"]["accept_wait"]["method"] = json!(method));
    }
    let output = compare(&bench, &[]);
    assert_code(&output, 0);
    let text = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("measured it differently: accept_wait_p50_ns, accept_wait_p99_ns"), "{text}");
    assert_code(&compare(&bench, &["--fail-if", "accept_wait_p99 worse than 5%"]), 1);
    assert_code(&compare(&bench, &["--fail-if", "accepted_per_s worse than 5%"]), 0);
}

fn too_few_trials_cannot_be_judged() {
    let bench = two_records(|_, _| {});
    for folder in ["a", "b"] {
        edit(&bench.path(folder), |trial| {
            if trial["repetition"].as_u64().unwrap() > 1 {
                trial["outcome"] = json!("invalid");
            }
        });
    }
    let output = compare(&bench, &["--fail-if", "accept_wait_p99 worse than 5%"]);
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("too few") && stderr(&output).contains("raise `repetitions`"),
        "{}",
        stderr(&output)
    );
    assert!(stdout(&output).contains("too-few-trials"), "{}", stdout(&output));
}

fn slips_exit_2_and_what_is_missing_exits_1() {
    let bench = two_records(|_, _| {});
    for (arguments, part) in [
        (&["--metric", "nonsense"][..], "accept_wait_p99_ns"),
        (&["--fail-if", "accept_wait_p99 is bad"], "worse than"),
        (&["--json", "--markdown"], "--markdown"),
    ] {
        let output = compare(&bench, arguments);
        assert_code(&output, 2);
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
    }
    assert_code(&bench.command(&["compare", "a"]).output().unwrap(), 2);
    let output = bench.command(&["compare", "a", "nowhere"]).output().unwrap();
    assert_code(&output, 1);
    assert!(stderr(&output).contains("nowhere/host.json") && stderr(&output).contains("folder of a run"));
    assert_code(&bench.command(&["report", "nowhere"]).output().unwrap(), 1);
}

fn a_report_is_made_from_a_record_alone_and_comes_out_the_same() {
    let bench = Bench::new(SCENARIO);
    assert_code(&bench.run(&[]), 0);
    copy(&bench.path("out"), &bench.path("copy"));
    assert_code(&bench.command(&["report", "copy"]).output().unwrap(), 0);
    for name in ["summary.json", "summary.md"] {
        let read = |folder: &str| fs::read_to_string(bench.path(folder).join(name)).unwrap();
        assert_eq!(read("out"), read("copy"), "{name}");
    }
    // A line that a kill cut off is left out, the others stand; a damaged one is named.
    let path = bench.path("copy/trials.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    assert_code(&bench.command(&["report", "copy"]).output().unwrap(), 0);
    let summary = read_json(&bench.path("copy/summary.json"));
    let valid: u64 = summary["cells"].as_array().unwrap().iter().map(|cell| cell["valid"].as_u64().unwrap()).sum();
    assert_eq!(valid, 9);
    fs::write(&path, whole.replacen("\"outcome\"", "\"outgo\"", 1)).unwrap();
    let output = bench.command(&["report", "copy"]).output().unwrap();
    assert_code(&output, 1);
    assert!(stderr(&output).contains("trials.jsonl, line 1"), "{}", stderr(&output));
    // A record of another schema is refused in one line: where, and what to do.
    fs::write(&path, whole.replace("{\"schema\":2,", "{\"schema\":1,")).unwrap();
    let output = bench.command(&["report", "copy"]).output().unwrap();
    assert_code(&output, 1);
    let error = stderr(&output);
    assert!(error.contains("trials.jsonl, line 1: schema 1") && error.contains("repeat the run"), "{error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
}
