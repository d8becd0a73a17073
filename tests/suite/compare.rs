//! `listenbench compare` and `listenbench report`: records against each other, and reports made again from records.

use std::{fs, path::Path, process::Output};

use base64::{Engine, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Serializer, V2Serializer},
};

use crate::common::{Bench, assert_code, read_json, stderr, stdout, words};
use serde_json::{Value, json};

tests! {
    nothing [
        the_same_figures_show_no_difference,
        what_is_worse_is_shown_and_fails_the_condition,
        a_regression_in_every_trial_never_passes,
        a_damaged_record_decides_nothing,
        separate_runs_differ_by_drift_and_nothing_is_claimed,
        several_records_a_side_are_the_unit,
        kernels_are_compared_boot_by_boot,
        an_emulated_processor_makes_no_claim_about_times,
        different_hosts_and_scenarios_come_first_and_loudly,
        what_a_side_lacks_is_never_a_pass,
        waits_measured_in_different_ways_are_never_compared,
        too_few_trials_cannot_be_judged,
        verdicts_of_both_sides_are_named,
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

/// A folder with the records `a` and `b` of one experiment; `b`'s trials are changed.
fn two_records(change: impl Fn(usize, &mut Value)) -> Bench {
    let bench = Bench::new(SCENARIO);
    assert_code(&bench.command(&["run", "scenario.toml", "--out", "a"]).output().unwrap(), 0);
    copy(&bench.path("a"), &bench.path("b"));
    edit(&bench.path("a"), |trial| set_figures(trial, 1.0, number_of(trial)));
    edit(&bench.path("b"), |trial| {
        let number = number_of(trial);
        begin_in_year(trial, 2001);
        set_figures(trial, 1.0, number + 3);
        change(number, trial);
    });
    for folder in ["a", "b"] {
        belong_to(&bench, folder, json!("one"));
    }
    bench
}

/// Makes a record part of an experiment.
fn belong_to(bench: &Bench, folder: &str, experiment: Value) {
    let path = bench.path(folder).join("host.json");
    let mut host = read_json(&path);
    host["experiment"] = experiment;
    fs::write(path, host.to_string()).unwrap();
}

/// Makes a copy's trial one of another run.
fn begin_in_year(trial: &mut Value, year: usize) {
    trial["started_at"] = json!(format!("{year}-01-31T12:00:{:02}.000Z", number_of(trial)));
}

fn number_of(trial: &Value) -> usize {
    trial["trial"].as_u64().unwrap() as usize
}

/// Gives a trial figures that are known: about so many times 10,000 accepts/s and 100 µs, with a scatter of a few percent.
fn set_figures(trial: &mut Value, times: f64, scatter: usize) {
    let scatter = 1.0 + 0.01 * (scatter * 7 % 10) as f64;
    trial["outcome"] = json!("valid");
    trial["verdicts"] = json!([]);
    trial["rates"]["accepted_per_s"] = json!(10_000.0 * times * scatter);
    // All waits are equal, and nothing else has a histogram.
    let none = json!({"due": 0, "lost": 0, "count": 0, "min": 0, "mean": 0, "p50": null, "p90": null, "p99": null, "p999": null, "max": 0});
    for (name, summary) in trial["latency_ns"].as_object_mut().unwrap() {
        if name != "accept_wait" {
            *summary = none.clone();
        }
    }
    trial.as_object_mut().unwrap().remove("stages_ns");
    for worker in trial["workers"].as_array_mut().unwrap() {
        worker["accept_wait"] = none.clone();
        worker["accept_batch"] = json!({"count": 0, "mean": 0.0, "p50": 0, "p99": 0, "max": 0});
    }
    let waits = waits((100_000.0 * times * scatter) as u64);
    let wait = &mut trial["latency_ns"]["accept_wait"];
    (wait["due"], wait["lost"], wait["count"], wait["min"]) = (json!(40), json!(0), json!(40), json!(waits.min()));
    for figure in ["p50", "p90", "p99", "p999", "max"] {
        wait[figure] = json!(waits.max());
    }
}

/// 40 waits of the same length.
fn waits(ns: u64) -> Histogram<u64> {
    let mut waits = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    waits.record_n(ns, 40).unwrap();
    waits
}

fn edit(folder: &Path, mut change: impl FnMut(&mut Value)) {
    let path = folder.join("trials.jsonl");
    let lines = fs::read_to_string(&path).unwrap();
    let changed = lines.lines().map(|line| {
        let mut trial = serde_json::from_str(line).unwrap();
        change(&mut trial);
        trial
    });
    let trials: Vec<Value> = changed.collect();
    // The log holds what the trials say.
    let log = trials.iter().map(|trial| {
        let mut bytes = Vec::new();
        let max = trial["latency_ns"]["accept_wait"]["max"].as_u64().unwrap();
        V2Serializer::new().serialize(&waits(max), &mut bytes).unwrap();
        format!("Tag=t{}.w0.accept_wait,0.0,1.0,1.0,{}\n", trial["trial"], STANDARD.encode(bytes))
    });
    fs::write(folder.join("histograms.hlog"), log.collect::<String>()).unwrap();
    fs::write(&path, trials.iter().map(|trial| format!("{trial}\n")).collect::<String>()).unwrap();
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
        compare(&bench, &["--fail-if", "accept_wait_p99 worse than 20%", "--fail-if", "accepted_per_s worse than 20%"]);
    assert_code(&output, 0);
    let text = words(&stdout(&output));
    for part in [
        "One interleaved experiment",
        "accept wait p99: no difference shown in 2 cells; 1.",
        "no-difference-shown",
        "accept_wait_p99 worse than 20%: not met: strategy=reuseport: ",
        ", no difference shown (higher is worse; 95 % interval −",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("! "), "nothing differs: {text}");
    // Trials that scatter by 9 % cannot exclude a worsening of 1 %.
    let output = compare(&bench, &["--fail-if", "accept_wait_p99 worse than 1%"]);
    assert_code(&output, 4);
    let text = words(&stdout(&output));
    assert!(
        text.contains("not decided against the limit of 1.0 %")
            && text.contains("; if the medians stay as they are, about "),
        "{text}"
    );
}

fn what_is_worse_is_shown_and_fails_the_condition() {
    // Only one strategy waits longer, by half.
    let bench = two_records(|number, trial| {
        if trial["cell"]["strategy"] == "reuseport" {
            set_figures(trial, 1.5, number);
        }
    });
    let output = compare(&bench, &[]);
    assert_code(&output, 0);
    let text = stdout(&output);
    for part in [
        "accept wait p99: b is worse in 1 of 2 cells; the largest difference at strategy=reuseport: 1.5",
        "accepts: b is better in 1 of 2 cells",
        "b-higher (worse)",
        "b-higher (better)",
        // What the question is not about is shown and not claimed.
        "not-tested",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let output = compare(&bench, &["--fail-if", "accept_wait_p99 worse than 20%"]);
    assert_code(&output, 3);
    let text = words(&stdout(&output));
    assert!(text.contains("! accept_wait_p99 worse than 20%: met: strategy=reuseport: 49.9 % higher"), "{text}");
    assert!(
        text.contains("% higher, which is worse (95 % interval +") && text.contains("not met: strategy=shared-epoll"),
        "{text}"
    );
    // Worse, but not by so much; and what is better is no reason to fail.
    assert_code(&compare(&bench, &["--fail-if", "accept_wait_p99 worse than 90%"]), 0);
    assert_code(&compare(&bench, &["--fail-if", "accepted_per_s worse than 20%"]), 0);
    // The other way round, fewer accepts are worse.
    let output = bench.command(&["compare", "b", "a", "--fail-if", "accepted_per_s worse than 20%"]).output().unwrap();
    assert_code(&output, 3);
    // A condition that is met outweighs one that is undecided.
    let both = ["--fail-if", "accept_wait_p99 worse than 20%", "--fail-if", "receive_wait_p99 worse than 5%"];
    assert_code(&compare(&bench, &both), 3);

    let output = compare(&bench, &["--json", "--fail-if", "accept_wait_p99 worse than 20%"]);
    assert_code(&output, 3);
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let cells = json["cells"].as_array().unwrap();
    assert_eq!((cells.len(), &json["design"], &json["tests"]), (2, &json!("interleaved"), &json!(2)));
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

fn a_regression_in_every_trial_never_passes() {
    // By 15 %, with a scatter that lets five trials detect no less than that.
    for times in [1.06, 1.15, 1.3] {
        let bench = two_records(|number, trial| set_figures(trial, times, number));
        let output = compare(&bench, &["--fail-if", "accept_wait_p99 worse than 5%"]);
        let code = output.status.code().unwrap();
        assert!([3, 4].contains(&code), "{times}: {code}: {}", stdout(&output));
        assert!(times < 1.2 || code == 3, "{times}: {code}: {}", stdout(&output));
    }
}

fn a_damaged_record_decides_nothing() {
    let bench = two_records(|_, _| {});
    let path = bench.path("a/trials.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let condition = ["--fail-if", "accept_wait_p99 worse than 900%"];
    assert_code(&compare(&bench, &condition), 0);
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    for (damaged, part) in [
        (
            whole.repeat(2),
            "10 lines of trials.jsonl cannot be read and are left out, the first of them line 11 (`trial`: 0 has a line before it)",
        ),
        (lines[..9].concat(), "trials.jsonl has no line for trial 9"),
        (
            whole.replacen("\"p99\":1", "\"p99\":2", 1),
            "histograms.hlog has other values of `t0.accept_wait` than trials.jsonl says",
        ),
    ] {
        fs::write(&path, damaged).unwrap();
        let output = compare(&bench, &[]);
        assert_code(&output, 3);
        let text = words(&stdout(&output));
        assert!(text.contains(&format!("! damaged record: a: {part}")), "{part}: {text}");
        let output = compare(&bench, &condition);
        assert_code(&output, 4);
        let text = words(&stdout(&output));
        assert!(text.contains(&format!("undecided: a record is damaged: a: {part}")), "{part}: {text}");
    }
}

fn separate_runs_differ_by_drift_and_nothing_is_claimed() {
    let bench = two_records(|number, trial| set_figures(trial, 3.0, number));
    for experiment in [Value::Null, json!("another")] {
        belong_to(&bench, "b", experiment);
        let output = compare(&bench, &[]);
        assert_code(&output, 0);
        let text = words(&stdout(&output));
        for part in ["Nothing is claimed", "two consecutive runs also differ by drift", "not-attributable", "3.0"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains("higher") && !text.contains("worse"), "claims: {text}");
        let output = compare(&bench, &["--fail-if", "accept_wait_p99 worse than 5%"]);
        assert_code(&output, 4);
        let text = words(&stdout(&output));
        assert!(
            text.contains("run both sides with `run --interleave`, or compare at least 5 records a side"),
            "{text}"
        );
        assert_eq!(text.matches("separate runs also differ by drift").count(), 1, "one reason, once: {text}");
    }
}

/// Records `a1` to `a5` and `b1` to `b5` of separate runs: the level differs from record to record, and the new side's is higher by
/// half. Each host is changed.
fn ten_records(change: impl Fn(&str, usize, &mut Value)) -> Bench {
    let bench = two_records(|_, _| {});
    for number in 1..=5 {
        for (side, level, century) in [("a", 1.0, 2100), ("b", 1.5, 2200)] {
            let folder = bench.path(&format!("{side}{number}"));
            copy(&bench.path("a"), &folder);
            let mut host = read_json(&folder.join("host.json"));
            host["experiment"] = Value::Null;
            change(side, number, &mut host);
            fs::write(folder.join("host.json"), host.to_string()).unwrap();
            edit(&folder, |trial| {
                begin_in_year(trial, century + number);
                set_figures(trial, level + 0.02 * number as f64, number_of(trial));
            });
        }
    }
    bench
}

/// The first records of either side compared.
fn compare_sides(bench: &Bench, count: usize, arguments: &[&str]) -> Output {
    let side = |name: &str| (1..=count).map(|number| format!("{name}{number}")).collect::<Vec<_>>();
    let (a, b) = (side("a"), side("b"));
    let mut words = vec!["compare"];
    words.extend(arguments);
    words.extend(a.iter().map(|folder| &folder[..]));
    words.push("--");
    words.extend(b.iter().map(|folder| &folder[..]));
    bench.command(&words).output().unwrap()
}

fn several_records_a_side_are_the_unit() {
    let bench = ten_records(|_, _, _| {});
    let run = |count: usize, arguments: &[&str]| compare_sides(&bench, count, arguments);
    let wait = ["--metric", "accept_wait_p99"];
    // Two cells take two comparisons, for which four records are too few.
    let output = run(4, &wait);
    assert_code(&output, 0);
    let text = words(&stdout(&output));
    for part in ["the record is the unit", "2 comparisons need at least 5 records a side", "too-few"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert_code(&run(4, &["--fail-if", "accept_wait_p99 worse than 5%"]), 4);
    let text = words(&stdout(&run(5, &wait)));
    assert!(text.contains("accept wait p99: b is worse in 2 of 2 cells"), "{text}");
    assert_code(&run(5, &["--fail-if", "accept_wait_p99 worse than 5%"]), 3);
    assert_code(&run(5, &["--fail-if", "accepted_per_s worse than 5%"]), 0);
    // Three are as good as one.
    assert!(stdout(&run(3, &wait)).contains("Nothing is claimed"));
    assert_code(&run(3, &["--fail-if", "accept_wait_p99 worse than 5%"]), 4);
    let json: Value = serde_json::from_str(&stdout(&run(5, &["--json"]))).unwrap();
    assert_eq!((&json["design"], json["new"].as_array().unwrap().len()), (&json!("records"), 5));
    assert_eq!(json["cells"][0]["metrics"][0]["a"]["values"].as_array().unwrap().len(), 5);
    assert_eq!(json["cells"][0]["a"]["valid"], 25);
}

/// Synthetic boots: one record each, or all of a side's in one.
fn boots(virtualization: &str, a_boot_each: bool) -> Bench {
    let virtualization = virtualization.to_owned();
    ten_records(move |side, number, host| {
        host["kernel"] = json!(if side == "a" { "6.1.0" } else { "6.12.0" });
        host["boot"] = json!(if a_boot_each { format!("{side}-{number}") } else { side.to_owned() });
        host["virtualization"] = json!(virtualization);
    })
}

fn kernels_are_compared_boot_by_boot() {
    let (wait, condition) = (["--metric", "accept_wait_p99"], ["--fail-if", "accept_wait_p99 worse than 5%"]);
    let bench = boots("kvm", true);
    let text = words(&stdout(&compare_sides(&bench, 5, &wait)));
    for part in [
        "different host: kernel: 6.1.0 versus 6.12.0",
        "the boot is the unit",
        "2 comparisons need at least 5 boots a side",
        "accept wait p99: b is worse in 2 of 2 cells",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("different host: boot"), "boots always differ: {text}");
    assert_code(&compare_sides(&bench, 5, &condition), 3);
    assert!(words(&stdout(&compare_sides(&bench, 4, &wait))).contains("too-few"));
    // Five records of one boot say what that boot was like, and no more.
    let bench = boots("kvm", false);
    let output = compare_sides(&bench, 5, &condition);
    assert_code(&output, 4);
    let text = words(&stdout(&output));
    for part in ["so do boots of one kernel", "not-attributable", "compare records of at least 5 boots a side"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let json: Value = serde_json::from_str(&stdout(&compare_sides(&bench, 5, &["--json"]))).unwrap();
    assert_eq!((&json["design"], &json["emulated"]), (&json!("few-boots"), &json!(false)));
    assert_eq!(json["cells"][0]["metrics"][0]["a"]["values"].as_array().unwrap().len(), 1);
}

fn an_emulated_processor_makes_no_claim_about_times() {
    let bench = boots("emulated", true);
    // All trials are valid, which is a count.
    let metrics = ["--metric", "accept_wait_p99", "--metric", "valid_share"];
    let text = words(&stdout(&compare_sides(&bench, 5, &metrics)));
    for part in ["The processor was emulated", "share of valid trials: the same in 2 cells"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("worse") && !text.contains("b-higher") && !text.contains("permutation"), "claims: {text}");
    let output = compare_sides(&bench, 5, &["--fail-if", "accept_wait_p99 worse than 5%"]);
    assert_code(&output, 4);
    assert!(words(&stdout(&output)).contains("is an emulator's: compare runs on real processors"));
    let output = compare_sides(&bench, 5, &["--fail-if", "valid_share worse than 5%"]);
    assert_code(&output, 0);
    // The same in a record's own report, whose strategies differ by half.
    edit(&bench.path("a1"), |trial| {
        set_figures(trial, if trial["cell"]["strategy"] == "reuseport" { 1.0 } else { 9.0 }, number_of(trial));
    });
    let report = bench.command(&["report", "a1"]).output().unwrap();
    assert_code(&report, 0);
    let text = words(&stdout(&report));
    for part in ["emulated: QEMU's TCG emulated the processor", "only counts are judged, not times or rates"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("has the lowest") && !text.contains("p = 0.0"), "claims: {text}");
    let summary = read_json(&bench.path("a1/summary.json"));
    assert_eq!((&summary["comparisons"], &summary["verdicts"][0]["name"]), (&json!([]), &json!("emulated")));
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
}

fn what_a_side_lacks_is_never_a_pass() {
    let condition = ["--fail-if", "accept_wait_p99 worse than 900%"];
    let undecided = |bench: &Bench, part: &str| {
        let output = compare(bench, &condition);
        assert_code(&output, 4);
        let text = words(&stdout(&output));
        assert!(text.contains(&format!("! accept_wait_p99 worse than 900%: undecided: {part}")), "{part}: {text}");
    };
    // A cell of one side, whichever that is.
    let rename = |folder: &Path| {
        edit(folder, |trial| {
            if trial["cell"]["strategy"] == "shared-epoll" {
                trial["cell"]["strategy"] = json!("shared-epoll-edge");
            }
        });
    };
    let bench = two_records(|_, _| {});
    assert_code(&compare(&bench, &condition), 0);
    rename(&bench.path("b"));
    undecided(&bench, "strategy=shared-epoll: only the baseline has this cell");
    undecided(&bench, "strategy=shared-epoll-edge: only the new side has this cell");
    // No valid trial of a cell, or of any.
    let bench = two_records(|_, trial| trial["outcome"] = json!("invalid"));
    undecided(&bench, "all 2 cells: accept_wait_p99_ns is in no valid trial of the new side");
    edit(&bench.path("a"), |trial| trial["outcome"] = json!("failed"));
    undecided(&bench, "all 2 cells: accept_wait_p99_ns is in no valid trial of either side");
    // No trial at all: nothing to compare, with and without a condition.
    for file in ["trials.jsonl", "histograms.hlog"] {
        fs::write(bench.path("b").join(file), "").unwrap();
    }
    undecided(&bench, "all cells: the two sides have no cell in common");
    let output = compare(&bench, &[]);
    assert_code(&output, 1);
    let first = stdout(&output).lines().find(|line| line.starts_with('!')).unwrap().to_owned();
    assert!(first.starts_with("! no cell in common") || first.contains("damaged"), "{first}");
    // A metric that neither has.
    let bench = two_records(|_, _| {});
    assert_code(&compare(&bench, &["--fail-if", "receive_wait_p99 worse than 900%"]), 4);
    assert_code(&compare(&bench, &["--fail-if", "nonsense worse than 900%"]), 2);
}

fn waits_measured_in_different_ways_are_never_compared() {
    for (key, values) in [("method", ["sock_ops", "connect-call"]), ("ends", ["serving", "completion"])] {
        let bench = two_records(|_, _| {});
        for (folder, value) in ["a", "b"].into_iter().zip(values) {
            edit(&bench.path(folder), |trial| {
                // Whatever this user could measure.
                trial["latency_ns"]["accept_wait"]["method"] = json!("sock_ops");
                for wait in ["accept_wait", "accept_wait_bound"] {
                    if !trial["latency_ns"][wait].is_null() {
                        trial["latency_ns"][wait][key] = json!(value);
                    }
                }
            });
        }
        let output = compare(&bench, &[]);
        assert_code(&output, 0);
        let text = words(&stdout(&output));
        let part = "not compared, because a and b measured it differently: accept_wait_p99_ns, accept_wait_p50_ns";
        assert!(text.contains(part), "{key}: {text}");
        // Both are named, and what can be compared instead.
        let ours = "(a: waits until the serving worker has the connection; b: ";
        let theirs = match key {
            "ends" => "waits until an io_uring completed the accept",
            _ => "upper bounds of waits until the serving worker has the connection",
        };
        let why = format!("{ours}{theirs}); responses can be compared (--metric response_p99)");
        assert!(text.contains(&why), "{key}: {text}");
        assert_code(&compare(&bench, &["--fail-if", "accept_wait_p99 worse than 900%"]), 4);
        assert_code(&compare(&bench, &["--fail-if", "accepted_per_s worse than 20%"]), 0);
    }
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
    let output = compare(&bench, &["--fail-if", "accept_wait_p99 worse than 900%"]);
    assert_code(&output, 4);
    let text = words(&stdout(&output));
    let part = "2 against 2 trials cannot show a difference in 2 comparisons: at least 5 a side are needed";
    assert!(text.contains(part) && text.contains("too-few"), "{text}");
}

fn verdicts_of_both_sides_are_named() {
    let bench = two_records(|_, trial| {
        if trial["cell"]["strategy"] == "reuseport" {
            trial["verdicts"] = json!([{ "name": "cpu-contended", "detail": "made up", "invalidates": false }]);
        } else if trial["repetition"] == 0 {
            trial["outcome"] = json!("invalid");
        }
    });
    let text = words(&stdout(&compare(&bench, &[])));
    for part in [
        "verdicts at strategy=reuseport: a: no verdict (of 5 trials); b: cpu-contended in 5 (of 5 trials)",
        "verdicts at strategy=shared-epoll: a: no verdict (of 5 trials); b: 1 invalid (of 5 trials)",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let json: Value = serde_json::from_str(&stdout(&compare(&bench, &["--json"]))).unwrap();
    let cell = json["cells"].as_array().unwrap().iter().find(|cell| cell["cell"]["strategy"] == "reuseport").unwrap();
    assert_eq!((&cell["b"]["verdicts"]["cpu-contended"], &cell["a"]["verdicts"]), (&json!(5), &json!({})));
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
    for (arguments, part) in [
        (&["a"][..], "expected two records"),
        (&["a", "b", "a"], "with `--` between them"),
        (&["a", "a"], "given twice"),
        (&["a", "b", "--", "./a"], "given twice"),
        (&["a", "--", "b", "--json"], "put options before"),
    ] {
        let output = bench.command(&[&["compare"], arguments].concat()).output().unwrap();
        assert_code(&output, 2);
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
    }
    // A copy elsewhere is the same record, whole or in part.
    copy(&bench.path("a"), &bench.path("copy"));
    for arguments in [&["a", "copy"][..], &["a", "--", "b", "copy"]] {
        let output = bench.command(&[&["compare"], arguments].concat()).output().unwrap();
        assert_code(&output, 2);
        assert!(stderr(&output).contains("a and copy hold the same trials"), "{}", stderr(&output));
    }
    let output = bench.command(&["compare", "a", "nowhere"]).output().unwrap();
    assert_code(&output, 1);
    assert!(stderr(&output).contains("nowhere") && stderr(&output).contains("folder of a run"));
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
    // A line that a kill cut off is left out, the others stand; so is a damaged one.
    let path = bench.path("copy/trials.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    assert_code(&bench.command(&["report", "copy"]).output().unwrap(), 3);
    let summary = read_json(&bench.path("copy/summary.json"));
    let valid: u64 = summary["cells"].as_array().unwrap().iter().map(|cell| cell["valid"].as_u64().unwrap()).sum();
    assert_eq!(valid, 9);
    fs::write(&path, whole.replacen("\"outcome\"", "\"outgo\"", 1)).unwrap();
    let output = bench.command(&["report", "copy"]).output().unwrap();
    assert_code(&output, 3);
    let text = words(&stdout(&output));
    assert!(text.contains("line 1 of trials.jsonl cannot be read and is left out"), "{text}");
    // Without the log there are no distributions, and the report says so.
    fs::write(&path, &whole).unwrap();
    fs::remove_file(bench.path("copy/histograms.hlog")).unwrap();
    let output = bench.command(&["report", "copy"]).output().unwrap();
    assert_code(&output, 3);
    assert!(words(&stdout(&output)).contains("histograms.hlog is missing"), "{}", stdout(&output));
    // A record of another schema is refused in one line: where, and what to do.
    fs::write(&path, whole.replace("{\"schema\":2,", "{\"schema\":1,")).unwrap();
    let output = bench.command(&["report", "copy"]).output().unwrap();
    assert_code(&output, 1);
    let error = stderr(&output);
    assert!(error.contains("trials.jsonl, line 1: schema 1") && error.contains("repeat the run"), "{error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
}
