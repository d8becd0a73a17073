//! Jobs that end before their time: hosts that die, launchers that are interrupted, processes that vanish.

use std::{
    fs,
    process::{Child, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    common::{assert_code, number, passive_opens, read_trials, scenario, stderr, stdout, verdicts, wait_until},
    hosts::{Hosts, comm, name},
};

tests! {
    root_and_mpirun [
        a_host_that_dies_is_named_and_the_others_figures_are_kept,
        a_launcher_that_ends_the_job_leaves_what_had_ended,
        an_interrupted_launcher_keeps_finished_trials,
        a_load_host_that_is_told_to_end_ends_its_load_early,
        a_server_host_that_dies_ends_the_others,
        a_trial_that_dies_on_the_server_host_is_one_failed_trial,
    ]
}

/// Trials of 200 connections a second: the seed puts the long one between the short ones.
fn lasting() -> Hosts {
    let seeded = scenario().constant(200.0).set("seed", 3);
    Hosts::new(seeded.each("load.duration", ["300ms", "20s", "301ms"].map(Value::from).to_vec()))
}

/// A job under way, in its second trial.
struct Job {
    launcher: Child,
}

impl Job {
    fn in_second_trial(hosts: &Hosts, options: &[&str]) -> Self {
        let mut command = hosts.listenbench(3, options, &["run", "scenario.toml", "--out", "out"]);
        let launcher = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let trials = || fs::read_to_string(hosts.bench.path("out/trials.jsonl")).unwrap_or_default();
        wait_until("the first trial to end", || trials().lines().count() > 0);
        let server = hosts.coordinator(0);
        let before = passive_opens(server).unwrap();
        wait_until("20 connections of the second", || passive_opens(server).is_some_and(|opened| opened > before + 20));
        assert_eq!(trials().lines().count(), 1, "the long trial is the second");
        Self { launcher }
    }

    fn signal(&self, signal: Signal) {
        send(self.launcher.id(), signal);
    }

    fn end(self) -> Output {
        self.launcher.wait_with_output().unwrap()
    }
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// The trials of a record whose first has nothing wrong with it.
fn trials_after_a_valid_one(hosts: &Hosts) -> Vec<Value> {
    let trials = hosts.bench.read_trials();
    assert_eq!(trials[0]["outcome"], "valid", "{}", trials[0]["verdicts"]);
    trials
}

/// Host 2 is named, and what host 1 measured is there.
fn assert_host_2_died(trial: &Value) {
    assert_eq!(trial["outcome"], "invalid");
    assert!(verdicts(trial).contains(&"host-died"), "{}", trial["verdicts"]);
    let all = trial["verdicts"].as_array().unwrap();
    let died = all.iter().find(|verdict| verdict["name"] == "host-died").unwrap();
    assert!(died["detail"].as_str().unwrap().contains("host2"), "{died}");
    let row = |rank: usize| trial["hosts"].as_array().unwrap().iter().find(|row| row["rank"] == rank).unwrap();
    assert!(number(&row(1)["completed"]) > 0, "{}", trial["hosts"]);
    assert!(number(&row(1)["latency_ns"]["response"]["count"]) > 0, "{}", trial["hosts"]);
    assert!(trial["connections"]["unaccounted"].is_null(), "{}", trial["connections"]);
    // Nobody knows what became of these.
    assert!(trial["hosts"].as_array().unwrap().iter().any(|row| row["name"] == "host2"), "{}", trial["hosts"]);
}

/// Under a launcher that bears the death of a process. Open MPI's exit code is then 0, whatever its processes return.
fn a_host_that_dies_is_named_and_the_others_figures_are_kept() {
    let hosts = lasting();
    let job = Job::in_second_trial(&hosts, &["--enable-recovery"]);
    send(hosts.coordinator(2), Signal::SIGKILL);
    let output = job.end();
    let said = stderr(&output);
    assert_eq!(said.matches("listenbench: ").count(), 1, "{said}");
    assert!(said.contains(&name(2)), "{said}");
    hosts.bench.demand_nothing_left();
    let trials = trials_after_a_valid_one(&hosts);
    // Later trials would have another load.
    assert_eq!(trials.len(), 2);
    assert_host_2_died(&trials[1]);
    assert!(
        hosts.bench.path("out/summary.json").exists() && stdout(&output).contains("record:"),
        "{}",
        stdout(&output)
    );
    assert_code(&hosts.bench.command(&["report", "out"]).output().unwrap(), 0);
}

/// Open MPI ends the whole job when one of its processes dies, soon after a signal that it is going to.
fn a_launcher_that_ends_the_job_leaves_what_had_ended() {
    let hosts = lasting();
    let job = Job::in_second_trial(&hosts, &[]);
    send(hosts.coordinator(2), Signal::SIGKILL);
    assert!(!job.end().status.success());
    hosts.bench.demand_nothing_left();
    let trials = trials_after_a_valid_one(&hosts);
    // The server host has about two seconds, which a busy machine may not give it.
    if let Some(trial) = trials.get(1) {
        assert_host_2_died(trial);
    }
    assert!(trials.len() <= 2);
    let report = hosts.bench.command(&["report", "out"]).output().unwrap();
    assert!(matches!(report.status.code(), Some(0 | 3)), "{}", stderr(&report));
}

fn an_interrupted_launcher_keeps_finished_trials() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let hosts = lasting();
        let job = Job::in_second_trial(&hosts, &[]);
        job.signal(signal);
        assert!(!job.end().status.success(), "{signal}");
        hosts.bench.demand_nothing_left();
        let trials = trials_after_a_valid_one(&hosts);
        if let Some(trial) = trials.get(1) {
            assert_eq!(trial["outcome"], "invalid", "{signal}");
        }
        assert!(trials.len() <= 2, "{signal}");
        let report = hosts.bench.command(&["report", "out"]).output().unwrap();
        assert!(matches!(report.status.code(), Some(0 | 3)), "{signal}: {}", stderr(&report));
    }
}

/// As Slurm does it before a time limit, or an administrator.
fn a_load_host_that_is_told_to_end_ends_its_load_early() {
    let hosts = lasting();
    let job = Job::in_second_trial(&hosts, &["--enable-recovery"]);
    send(hosts.coordinator(2), Signal::SIGTERM);
    let output = job.end();
    hosts.bench.demand_nothing_left();
    let trials = trials_after_a_valid_one(&hosts);
    assert_eq!(trials.len(), 2, "{}", stderr(&output));
    assert_eq!(trials[1]["outcome"], "invalid");
    let rows = trials[1]["hosts"].as_array().unwrap();
    assert!(rows.iter().filter(|row| row["role"] == "load").all(|row| number(&row["completed"]) > 0), "{rows:?}");
}

/// Their coordinators end all that they started, and say why, once.
fn a_server_host_that_dies_ends_the_others() {
    let hosts = lasting();
    let job = Job::in_second_trial(&hosts, &["--enable-recovery"]);
    send(hosts.coordinator(0), Signal::SIGKILL);
    let output = job.end();
    hosts.bench.demand_nothing_left();
    let said = stderr(&output);
    // The launcher may put two hosts' words on one line.
    assert_eq!(said.matches("listenbench: ").count(), 2, "{said}");
    assert!(said.contains(&name(0)), "{said}");
    assert_eq!(trials_after_a_valid_one(&hosts).len(), 1);
}

/// The hosts find each other again, and the next trial is as good as the first.
fn a_trial_that_dies_on_the_server_host_is_one_failed_trial() {
    let hosts = lasting();
    let job = Job::in_second_trial(&hosts, &["--enable-recovery"]);
    let of_rank_0 = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == b"PMIX_RANK=0")
    };
    let mut processes = hosts.bench.processes().into_iter().filter(of_rank_0);
    let trial = processes.find(|pid| comm(*pid).as_deref() == Some("lb:trial")).unwrap();
    send(trial, Signal::SIGKILL);
    let output = job.end();
    hosts.bench.demand_nothing_left();
    let outcomes: Vec<String> = read_trials(&hosts.bench.path("out"))
        .iter()
        .map(|trial| trial["outcome"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(outcomes, ["valid", "failed", "valid"], "{}", stderr(&output));
}
