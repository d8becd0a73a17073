//! The workflow of `results/CI.md`, files for the systems that run tests, and the index of many records.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use serde_json::json;

use crate::common::{Bench, assert_code, read_json, read_trials, stderr, stdout};

tests! {
    nothing [
        the_documented_script_passes_what_is_the_same_and_fails_a_regression,
        the_documented_scenarios_and_workflow_measure_a_server,
        results_replace_nothing_but_their_like,
        results_need_conditions_and_a_place,
        an_index_lists_records_at_any_depth_and_no_others,
        an_index_replaces_no_page_but_its_own,
    ]
}

const BASE: &str = r#"
    question = "Does the branch make the server slower?"
    repetitions = 5
    answers = ["response_p50"]
    [server]
    strategy = "reuseport"
    [load]
    connections = 40
    concurrency = 4
    close_how = "rst"
"#;

const PAGE: &str = include_str!("../../results/CI.md");

/// What the page has between two texts.
fn between<'a>(start: &str, end: &str) -> &'a str {
    let (_, rest) = PAGE.split_once(start).expect(start);
    rest.split_once(end).expect(end).0
}

/// The documented `bench.sh`.
fn script() -> &'static str {
    between("```sh\n", "```")
}

/// `PATH`, with a folder and that of the program before it.
fn path_with(folder: &Path) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_listenbench")).parent().unwrap();
    format!("{}:{}:{}", folder.display(), program.display(), std::env::var("PATH").unwrap_or_default())
}

fn the_documented_script_passes_what_is_the_same_and_fails_a_regression() {
    let bench = Bench::new(BASE);
    fs::write(bench.path("bench.sh"), script()).unwrap();
    // The same build twice, and one that takes its time for each reply.
    fs::write(bench.path("base.toml"), BASE).unwrap();
    fs::write(bench.path("branch.toml"), BASE).unwrap();
    fs::write(bench.path("slow.toml"), BASE.replace("[load]", "service_time = \"20ms\"\n    [load]")).unwrap();
    let path = path_with(&bench.path(""));
    let run = |branch: &str, condition: &str| {
        let mut command = Command::new("sh");
        command.args(["bench.sh", "base.toml", branch, condition]).current_dir(bench.path("")).env("PATH", &path);
        let output = command.output().unwrap();
        let read = |name: &str| fs::read_to_string(bench.path("bench-out").join(name)).unwrap();
        let (junit, tap) = (read("junit.xml"), read("results.tap"));
        assert_eq!(stdout(&output), read("comparison.md"));
        assert!(stdout(&output).contains("| response p50 "), "{}", stdout(&output));
        assert!(read("comparison.html").ends_with("</html>"));
        (output, junit, tap)
    };
    // A limit that no disturbance reaches; an interval may contain it all the same.
    let (same, junit, tap) = run("branch.toml", "response_p50 worse than 10000%");
    assert!([Some(0), Some(4)].contains(&same.status.code()), "{}{}", stdout(&same), stderr(&same));
    assert!(!junit.contains("<failure") && tap.contains("TAP version 13\n1..1\n"), "{junit}{tap}");

    let (slower, junit, tap) = run("slow.toml", "response_p50 worse than 10%");
    assert_code(&slower, 3);
    let test = "response_p50 worse than 10%: (one cell)";
    assert!(junit.contains("failures=\"1\" errors=\"0\"") && junit.contains("<failure type=\"met\""), "{junit}");
    assert!(tap.contains(&format!("\nnot ok 1 - {test}\n")) && tap.contains("result: \"met\""), "{tap}");
}

/// All of it as printed, with our own server for theirs.
fn the_documented_scenarios_and_workflow_measure_a_server() {
    let bench = Bench::new("network = \"host\"\nserver.app = \"http\"\n");
    let base = between("```toml\n", "```");
    fs::write(bench.path("base.toml"), base).unwrap();
    fs::write(bench.path("branch.toml"), base.replace("server-base", "server-branch")).unwrap();
    fs::write(bench.path("bench.sh"), script()).unwrap();
    for name in ["server-base", "server-branch"] {
        let serve = format!(
            "#!/bin/sh\nexec listenbench serve {} --set=address=\"${{2%:*}}\" --set=port=\"${{2##*:}}\"\n",
            bench.path("scenario.toml").display()
        );
        fs::write(bench.path(name), serve).unwrap();
        fs::set_permissions(bench.path(name), Permissions::from_mode(0o755)).unwrap();
    }
    let step = between("      - name: Compare\n        run: |\n", "      - name:");
    let mut command = Command::new("sh");
    command.args(["-e", "-c", step]).current_dir(bench.path("")).env("PATH", path_with(Path::new("/usr/bin")));
    let output = command.env("GITHUB_STEP_SUMMARY", bench.path("summary.md")).output().unwrap();
    let read = |name: &str| fs::read_to_string(bench.path(name)).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    // The same server twice: what chance and disturbances make of it is not this test's matter.
    assert!([Some(0), Some(3)].contains(&output.status.code()), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(read("summary.md"), read("bench-out/comparison.md"));
    assert!(read("summary.md").contains("| response p99 "), "{}", read("summary.md"));
    assert!(read("bench-out/results.tap").contains(" - response_p99 worse than 10%: (one cell)\n"));
    for side in ["base", "branch"] {
        let trials = read_trials(&bench.path("bench-out").join(side));
        assert_eq!(trials.len(), 10);
        assert!(trials.iter().any(|trial| trial["outcome"] == "valid"), "{trials:?}");
    }
}

fn results_replace_nothing_but_their_like() {
    let bench = Bench::new(BASE);
    let run = ["run", "scenario.toml", "--quiet", "--set", "repetitions=1", "--out"];
    for folder in ["a", "b"] {
        assert_code(&bench.command(&[&run[..], &[folder]].concat()).output().unwrap(), 0);
    }
    let compare = |more: &[&str]| {
        let condition = ["compare", "a", "b", "--fail-if", "response_p99 worse than 5%"];
        bench.command(&[&condition[..], more].concat()).output().unwrap()
    };
    let trials = fs::read(bench.path("a/trials.jsonl")).unwrap();
    fs::write(bench.path("mine"), "mine").unwrap();
    symlink(bench.path("mine"), bench.path("link")).unwrap();
    for (option, other) in [("--html", "--tap"), ("--junit", "--html"), ("--tap", "--junit")] {
        for (arguments, code, why) in [
            (&[option, "a/trials.jsonl"][..], 2, "is a part of the record in a"),
            (&[option, "./a/../b/host.json"], 2, "is a part of the record in ./a/../b"),
            (&[option, "a/ports-curve.svg"], 2, "is a part of the record in a"),
            (&[option, "mine"], 1, "was not made by `listenbench compare"),
            (&[option, "link"], 1, "is a symbolic link"),
            (&[option, "-"], 2, "never standard output"),
            (&[option, "new", other, "./a/../new"], 2, "the same file"),
        ] {
            let output = compare(arguments);
            assert_code(&output, code);
            assert!(stderr(&output).contains(why), "{arguments:?}: {}", stderr(&output));
        }
        // Its own are replaced, and those of another form are not.
        let name = format!("own{option}");
        assert_code(&compare(&[option, &name]), 4);
        assert_code(&compare(&[option, &name]), 4);
        assert_code(&compare(&[other, &name]), 1);
    }
    assert_eq!(fs::read(bench.path("a/trials.jsonl")).unwrap(), trials);
    assert_eq!(fs::read_to_string(bench.path("mine")).unwrap(), "mine");
    assert!(!bench.path("new").exists() && !bench.path("-").exists());
}

fn results_need_conditions_and_a_place() {
    let bench = Bench::new(BASE);
    let compare = |options: &[&str]| bench.command(&[&["compare", "a", "b"], options].concat()).output().unwrap();
    for option in ["--junit", "--tap"] {
        let output = compare(&[option, "results"]);
        assert_code(&output, 2);
        assert!(stderr(&output).contains("--fail-if"), "{}", stderr(&output));
    }
    let run = ["run", "scenario.toml", "--quiet", "--set", "repetitions=1", "--out"];
    for folder in ["a", "b"] {
        assert_code(&bench.command(&[&run[..], &[folder]].concat()).output().unwrap(), 0);
    }
    let condition = ["--fail-if", "response_p99 worse than 5%"];
    // Separate runs: undecided, which has not passed.
    let output = compare(&[&condition[..], &["--junit", "x.xml", "--tap", "x.tap", "--html", "x.html"]].concat());
    assert_code(&output, 4);
    let read = |name: &str| fs::read_to_string(bench.path(name)).unwrap();
    assert!(
        read("x.xml").contains("<error type=\"undecided\" message=\"separate runs also differ by drift"),
        "{}",
        read("x.xml")
    );
    assert!(read("x.tap").contains("\nnot ok 1 - ") && read("x.tap").matches("# ").count() == 1, "{}", read("x.tap"));
    assert!(read("x.html").contains("b (b) against a (a)") && read("x.html").contains("undecided"));
    fs::create_dir(bench.path("folder")).unwrap();
    let output = compare(&[&condition[..], &["--junit", "folder"]].concat());
    assert_code(&output, 1);
    assert!(stderr(&output).contains("folder"), "{}", stderr(&output));
}

fn an_index_lists_records_at_any_depth_and_no_others() {
    let bench = Bench::new(BASE);
    for folder in ["all/one", "all/deep/er & <b>/two"] {
        let output =
            bench.command(&["run", "scenario.toml", "--quiet", "--set", "repetitions=1", "--out", folder]).output();
        assert_code(&output.unwrap(), 0);
    }
    fs::create_dir_all(bench.path("outside")).unwrap();
    fs::create_dir_all(bench.path("all/empty")).unwrap();
    fs::rename(bench.path("all/one"), bench.path("outside/one")).unwrap();
    symlink(bench.path("outside"), bench.path("all/link")).unwrap();
    let index = || bench.command(&["index", "all"]).output().unwrap();
    let page = || fs::read_to_string(bench.path("all/index.html")).unwrap();
    let output = index();
    assert_code(&output, 0);
    // One run claims nothing.
    assert!(stdout(&output).contains("too few runs to show any change: 8"), "{}", stdout(&output));
    assert!(page().contains("<h1>1 run below all</h1>"));
    assert!(page().contains("href=\"./deep/er%20%26%20%3Cb%3E/two/report.html\">deep/er &amp; &lt;b&gt;/two</a>"));

    fs::remove_file(bench.path("all/link")).unwrap();
    fs::rename(bench.path("outside/one"), bench.path("all/one")).unwrap();
    assert_code(&index(), 0);
    assert!(page().contains("<h1>2 runs below all</h1>") && page().contains("<svg"));

    // A copy does not count as another run.
    let copied = Command::new("cp").args(["-r", "all/one", "all/copy"]).current_dir(bench.path("")).status().unwrap();
    assert!(copied.success());
    let output = index();
    assert_code(&output, 0);
    assert!(
        page().contains("<h1>2 runs below all</h1>") && page().contains("the same trials as copy, and counted there")
    );
    assert!(stdout(&output).contains("1 record holds trials that another has: one (copy)"), "{}", stdout(&output));
    fs::remove_dir_all(bench.path("all/copy")).unwrap();

    // A record of another schema is named, and a damaged one is in no chart.
    let lines = bench.path("all/one/trials.jsonl");
    let whole = fs::read_to_string(&lines).unwrap();
    fs::write(&lines, whole.replacen("\"schema\":2", "\"schema\":1", 1)).unwrap();
    let output = index();
    assert_code(&output, 3);
    assert!(stderr(&output).contains("left out: one: ") && page().contains("left out: one: "), "{}", stderr(&output));
    fs::write(&lines, &whole[..whole.len() / 2]).unwrap();
    assert_code(&index(), 3);
    assert!(page().contains("damaged, and in no chart"));
}

fn an_index_replaces_no_page_but_its_own() {
    let bench = Bench::new(BASE);
    let index = |folder: &str| bench.command(&["index", folder]).output().unwrap();
    fs::create_dir(bench.path("all")).unwrap();
    let output = index("all");
    assert_code(&output, 1);
    assert!(stderr(&output).contains("no record can be read below all"), "{}", stderr(&output));
    let output =
        bench.command(&["run", "scenario.toml", "--quiet", "--set", "repetitions=1", "--out", "all/one"]).output();
    assert_code(&output.unwrap(), 0);
    fs::write(bench.path("all/index.html"), "mine").unwrap();
    let output = index("all");
    assert_code(&output, 1);
    assert!(stderr(&output).contains("was not made by `listenbench index`"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(bench.path("all/index.html")).unwrap(), "mine");
    fs::remove_file(bench.path("all/index.html")).unwrap();
    assert_code(&index("all"), 0);
    assert_code(&index("all"), 0);
    for (name, why) in [("missing", "No such file"), ("scenario.toml", "Not a directory")] {
        let output = index(name);
        assert_code(&output, 1);
        let what = format!("{name}, which is to be a folder with records in it");
        assert!(stderr(&output).contains(&what) && stderr(&output).contains(why), "{}", stderr(&output));
    }
    // What the run left for other programs agrees with its summary.
    let bencher = read_json(&bench.path("all/one/bencher.json"));
    let summary = read_json(&bench.path("all/one/summary.json"));
    let median = &summary["cells"][0]["metrics"]["response_p50_ns"]["median"];
    assert_eq!(bencher["scenario: (one cell)"]["response_p50_ns"]["value"], json!(median.as_f64().unwrap()));
}
