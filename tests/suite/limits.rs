//! Large plans, full disks and limits of processes: refused or reported, with what is kept and what to do.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    process::{Command, Output, Stdio},
};

use crate::common::{Bench, Scenario, assert_code, read_trials, scenario, stderr, stdout};

tests! {
    nothing [
        a_hundred_thousand_cells_are_listed,
        more_than_can_be_planned_is_refused_with_the_limit,
        an_endless_scenario_is_refused,
        a_full_standard_error_changes_no_exit_code,
        a_full_standard_output_is_an_error_and_the_record_is_kept,
        a_file_beyond_its_limit_is_an_error_like_a_full_disk,
        runs_that_begin_together_get_folders_of_their_own,
    ]
    root [
        a_record_that_cannot_begin_says_that_nothing_has_run,
        a_disk_that_fills_up_during_a_run_keeps_what_has_ended,
        a_disk_too_full_for_the_report_keeps_the_record,
        a_limit_of_processes_is_named,
    ]
}

/// The numbers from 1 as a list.
fn list(length: usize) -> String {
    format!("[{}]", (1..=length).map(|number| number.to_string()).collect::<Vec<_>>().join(","))
}

fn listed(scenario: &str) -> Output {
    Bench::new(scenario).command(&["run", "scenario.toml", "--list"]).output().unwrap()
}

fn a_hundred_thousand_cells_are_listed() {
    let scenario = format!(
        "repetitions = 1\n[matrix]\nserver.backlog = {}\nload.requests = {}\nserver.workers = {}",
        list(100),
        list(100),
        list(10)
    );
    let output = listed(&scenario);
    assert_code(&output, 0);
    let text = stdout(&output);
    let rows = text.lines().skip_while(|line| !line.trim_start().starts_with("trial ")).skip(1);
    assert_eq!(rows.count(), 100_000);
}

fn more_than_can_be_planned_is_refused_with_the_limit() {
    let event = "[[event]]\nat = \"1ms\"\nkind = \"kill\"\n";
    let idle = "[[event]]\nat = \"1ms\"\nkind = \"kill\"\nfor = \"1ms\"\n";
    for (scenario, problem) in [
        (
            format!("[matrix]\nserver.backlog = {}\nload.requests = {}", list(1_000), list(101)),
            "scenario.toml:2: `server.backlog` (1,000 values) × `load.requests` (101 values) are more than 100,000 combinations",
        ),
        (event.repeat(20_001), "scenario.toml:1: 20001 events are more than the 20000 that a scenario may have"),
        (idle.repeat(20_000), "problems"),
        (
            "[[variant]]\nname = \"a\"\n".repeat(100_000),
            "100000 variants are more than the 1000 that a scenario may have",
        ),
        (format!("{} = 1", "a".repeat(1_000_000)), "unknown key `aaa"),
        (format!("answers = [{}]", "\"a\",".repeat(100_000)), "lists more than 256 metrics"),
        ("nonsense = {}".to_owned(), "unknown key `nonsense`"),
        ("[serach]".to_owned(), "unknown key `serach`; did you mean `[search]`?"),
    ] {
        let output = listed(&scenario);
        assert_code(&output, 2);
        let (begin, error) = (&scenario[..scenario.len().min(60)], stderr(&output));
        assert!(error.contains(problem) && error.len() < 50_000, "{begin}: {}", &error[..error.len().min(1_000)]);
    }
}

fn an_endless_scenario_is_refused() {
    let output = Bench::new("").command(&["run", "/dev/zero", "--list"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("/dev/zero: it is larger than 16777216 bytes"), "{}", stderr(&output));
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn a_full_standard_error_changes_no_exit_code() {
    let bench = Bench::new("nonsense = {}");
    for (arguments, code) in [(&["run", "scenario.toml"][..], 2), (&["report", "nowhere"], 1)] {
        assert_eq!(bench.command(arguments).stderr(full()).status().unwrap().code(), Some(code), "{arguments:?}");
    }
}

fn short(repetitions: usize) -> Bench {
    Scenario::repeated(repetitions).strategy("reuseport").workers(1).closed(4, 40).bench()
}

fn a_full_standard_output_is_an_error_and_the_record_is_kept() {
    let bench = short(1);
    let output = bench.command(&["run", "scenario.toml", "--out", "out"]).stdout(full()).output().unwrap();
    assert_code(&output, 1);
    let error = stderr(&output);
    assert!(
        error.contains("out has the record and its report, which cannot be shown; trials in it: 1: writing to"),
        "{error}"
    );
    assert_code(&bench.command(&["report", "out"]).output().unwrap(), 0);
    for arguments in
        [&["run", "scenario.toml", "--list"][..], &["report", "out"], &["doctor"], &["completions", "bash"]]
    {
        assert_eq!(bench.command(arguments).stdout(full()).status().unwrap().code(), Some(1), "{arguments:?}");
    }
}

/// The only error that a command prints.
fn only_error(output: &Output) -> String {
    let text = stderr(output);
    let mut errors = text.lines().filter(|line| line.starts_with("listenbench: "));
    let error = errors.next().unwrap_or_else(|| panic!("no error in {text}"));
    assert_eq!(errors.next(), None, "{text}");
    error.to_owned()
}

fn a_file_beyond_its_limit_is_an_error_like_a_full_disk() {
    let bench = short(8);
    let mut command = Command::new("prlimit");
    command.args(["--fsize=10000", env!("CARGO_BIN_EXE_listenbench"), "run", "scenario.toml", "--out", "out"]);
    let output = command.current_dir(bench.folder.path()).output().unwrap();
    assert_code(&output, 1);
    let error = only_error(&output);
    let kept = bench.read_trials().len();
    assert!(kept > 0 && error.contains("File too large (os error 27): trial "), "{error}");
    assert!(error.contains("raise the limit of a file's size (`ulimit -f`), then `listenbench report out`"), "{error}");
    assert_code(&bench.command(&["report", "out"]).output().unwrap(), 0);
    assert_eq!(bench.read_trials().len(), kept);
}

fn runs_that_begin_together_get_folders_of_their_own() {
    let bench = short(1);
    let runs: Vec<_> = (0..3).map(|_| bench.spawn(&["run", "scenario.toml", "--quiet"])).collect();
    let mut folders: Vec<String> = runs
        .into_iter()
        .map(|run| {
            let output = run.wait_with_output().unwrap();
            assert_code(&output, 0);
            stdout(&output).trim().to_owned()
        })
        .collect();
    folders.sort();
    folders.dedup();
    assert_eq!(folders.len(), 3, "{folders:?}");
    for folder in folders {
        assert_eq!(read_trials(&bench.path(&folder)).len(), 1);
    }
}

/// Runs a scenario into a file system of so many bytes, which lasts as long as the shell; then does as `after` says.
fn into_room(bench: &Bench, bytes: &str, after: &str) -> Output {
    let script = format!(
        "mkdir room && mount -t tmpfs -o size={bytes} tmpfs room && \"$0\" run scenario.toml --out room/out; code=$?\n{after}\nexit $code"
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_listenbench")]);
    command.current_dir(bench.folder.path()).output().unwrap()
}

/// Copies the record out of the room, which is gone afterwards.
const RESCUE: &str = "cp -r room/out kept";

fn a_record_that_cannot_begin_says_that_nothing_has_run() {
    let bench = short(1);
    let output = into_room(&bench, "8k", "cp -r room kept");
    assert_code(&output, 1);
    let error = only_error(&output);
    let expected =
        "host.json: No space left on device (os error 28): nothing has run; make space on its file system, or choose";
    assert!(error.contains(expected), "{error}");
    assert_eq!(fs::read_dir(bench.path("kept")).unwrap().count(), 0, "not even the folder is left");
}

fn a_disk_that_fills_up_during_a_run_keeps_what_has_ended() {
    let bench = short(30);
    let output = into_room(&bench, "64k", RESCUE);
    assert_code(&output, 1);
    let error = only_error(&output);
    let trials = read_trials(&bench.path("kept"));
    let count = trials.len();
    assert!(count > 1 && count < 30, "{error}");
    let expected = format!(
        "No space left on device (os error 28): trial {count} is lost, and no later trial has run; {count} trials are kept in room/out; \
         make space on its file system, then `listenbench report room/out` reports on what is kept"
    );
    assert!(error.contains(&expected), "{error}");
    let report = bench.command(&["report", "kept"]).output().unwrap();
    assert_code(&report, 0);
    assert!(bench.path("kept/report.html").exists());
}

fn a_disk_too_full_for_the_report_keeps_the_record() {
    let bench = short(2);
    let after = "mount -o remount,size=8m room && \"$0\" report room/out > again && cp -r room/out kept";
    let output = into_room(&bench, "64k", after);
    assert_code(&output, 1);
    let error = only_error(&output);
    let expected = "No space left on device (os error 28): the record's trials are all kept, and only files derived from them are missing \
                    or out of date; make space on its file system, then run `listenbench report room/out`";
    assert!(error.contains(expected), "{error}");
    assert!(stdout(&output).contains("record: room/out"), "the results are shown all the same");
    assert_eq!(read_trials(&bench.path("kept")).len(), 2);
    assert!(bench.path("kept/report.html").exists(), "the command that the error names finishes the job");
}

fn a_limit_of_processes_is_named() {
    let bench = scenario().bench();
    let run = bench.command_as_ordinary_user(&["run", "scenario.toml", "--out", "out"]);
    let mut command = Command::new("prlimit");
    command.arg("--nproc=1").arg(run.get_program()).args(run.get_args()).current_dir(bench.folder.path());
    let output = command.uid(65_534).gid(65_534).output().unwrap();
    assert_code(&output, 1);
    let error = only_error(&output);
    assert!(
        error.contains("fork: Resource temporarily unavailable (os error 11): the limit of the user's processes"),
        "{error}"
    );
    assert!(error.contains("`ulimit -u`, here 1)"), "{error}");
}
