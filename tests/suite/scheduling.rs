//! Schedulers and placement: that they are really in force, and that refusals name the key.

use std::{fs, process::Command};

use crate::common::{self, Bench, assert_balanced, assert_code, stderr};
use serde_json::Value;

tests! {
    nothing [
        the_scheduler_asked_for_is_in_force,
        real_time_runs_or_says_what_it_wants,
        a_pair_without_places_is_refused,
    ]
    root [
        real_time_is_refused_without_the_capability,
    ]
}

const SCENARIO: &str = r#"
    repetitions = 1
    [server]
    workers = 2
    [load]
    concurrency = 4
    loaders = 2
    duration = "4s"
    close_how = "rst"
"#;

/// The policy of a process: field 41 of /proc/PID/stat, the 39th after the name.
fn policy(pid: u32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().split_whitespace().nth(38).unwrap().parse().unwrap()
}

fn schedulers(trial: &Value, rows: &str) -> Vec<String> {
    trial[rows].as_array().unwrap().iter().map(|row| row["scheduler"].as_str().unwrap().to_owned()).collect()
}

fn the_scheduler_asked_for_is_in_force() {
    for (strategy, set, policies, names) in [
        ("reuseport", "server.scheduler=batch", (libc::SCHED_BATCH, libc::SCHED_OTHER), ("batch", "normal")),
        ("dispatcher", "load.scheduler=batch", (libc::SCHED_OTHER, libc::SCHED_BATCH), ("normal", "batch")),
    ] {
        let bench = Bench::new(SCENARIO);
        let strategy = format!("--set=server.strategy={strategy}");
        let set = format!("--set={set}");
        let run = bench.spawn(&["run", "scenario.toml", "--out", "out", &strategy, &set]);
        for (name, policy_of) in [("lb:worker", policies.0), ("lb:loader", policies.1)] {
            let pids = bench.wait_for(name, 2);
            // A process is there before it has set itself up.
            common::wait_until("the policy", || pids.iter().all(|pid| policy(*pid) == policy_of));
        }
        assert_code(&run.wait_with_output().unwrap(), 0);
        let trial = &bench.read_trials()[0];
        assert_balanced(trial);
        assert_eq!(schedulers(trial, "workers"), [names.0; 2]);
        assert_eq!(schedulers(trial, "loaders"), [names.1; 2]);
    }
}

fn real_time() -> Bench {
    Bench::new(&format!("{SCENARIO}connections = 200\n").replace("duration = \"4s\"", ""))
}

/// SCHED_FIFO is for root, or for whom the limit allows it. Others learn it before the run, and their trials fail by that name.
fn real_time_runs_or_says_what_it_wants() {
    let bench = real_time();
    let output = bench.run(&["--set=server.scheduler=fifo"]);
    let trial = &bench.read_trials()[0];
    if let Some(error) = trial["error"].as_str() {
        assert_code(&output, 3);
        assert!(error.contains("server.scheduler") && error.contains("RLIMIT_RTPRIO"), "{error}");
        assert!(stderr(&output).contains("server.scheduler"), "{}", stderr(&output));
        return;
    }
    assert_code(&output, 0);
    assert_balanced(trial);
    assert_eq!(schedulers(trial, "workers"), ["fifo"; 2]);
}

/// Without CAP_SYS_NICE in the bounding set, not even root has it after exec.
fn real_time_is_refused_without_the_capability() {
    let bench = real_time();
    let command = bench.command(&["run", "scenario.toml", "--out", "out", "--set=load.scheduler=fifo"]);
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]).arg(command.get_program());
    wrapped.args(command.get_args()).current_dir(bench.folder.path());
    let output = wrapped.output().unwrap();
    assert!(stderr(&output).contains("load.scheduler"), "{}", stderr(&output));
    assert_code(&output, 3);
}

fn a_pair_without_places_is_refused() {
    let bench = Bench::new(SCENARIO);
    let output = bench.run(&["--set=server.pin=none", "--set=load.pin=pair"]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("load.pin"), "{}", stderr(&output));
    let output = bench.run(&["--set=load.pin=pair", "--set=load.duration=100ms"]);
    assert_code(&output, 0);
    let effective = fs::read_to_string(bench.path("out/scenario.toml")).unwrap();
    assert!(effective.contains("pin = \"spread\"") && effective.contains("pin = \"pair\""), "{effective}");
}
