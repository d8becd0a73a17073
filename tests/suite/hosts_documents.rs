//! What bench-configs/HOSTS.md shows runs as shown.

use std::{fs, path::Path, process::Command};

use crate::{
    common::{Bench, assert_balanced, assert_code, scenario, stderr, stdout},
    hosts::{Hosts, address, executable},
};

tests! {
    nothing [the_batch_file_asks_slurm_for_what_the_page_says]
    root_and_mpirun [the_page_s_first_command_runs, hosts_may_share_a_machine]
}

const PAGE: &str = include_str!("../../bench-configs/HOSTS.md");
const BATCH: &str = include_str!("../../bench-configs/hosts-slurm.sbatch");

/// The first line of the page's first block of code.
fn the_page_s_first_command_runs() {
    let (_, block) = PAGE.split_once("\n```\n").unwrap();
    let words: Vec<&str> = block.lines().next().unwrap().split_whitespace().collect();
    let at = words.iter().position(|word| *word == "listenbench").unwrap();
    let [launcher, options @ ..] = &words[..at] else { panic!("{words:?}") };
    assert_eq!(*launcher, "mpirun");
    // Names are this test's hosts, and what stands for ssh is its own.
    let named = options.iter().position(|option| *option == "--host").unwrap() + 1;
    let hosts = Hosts::new(scenario().closed(4, 100));
    let count = options[named].split(',').count();
    let addresses = (0..count).map(address).collect::<Vec<_>>().join(",");
    let mut options = options.to_vec();
    options[named] = &addresses;
    let output = hosts.mpirun(&options, env!("CARGO_BIN_EXE_listenbench"), &words[at + 1..]).output().unwrap();
    assert_code(&output, 0);
    let text = stdout(&output);
    let record = text.lines().find_map(|line| line.trim().strip_prefix("record:")).unwrap().trim();
    let trials = crate::common::read_trials(&hosts.bench.path(record.trim_end_matches('/')));
    assert_balanced(&trials[0]);
    assert_eq!(trials[0]["hosts"].as_array().unwrap().len(), count);
}

/// As the page proposes for a first try: all of a job's hosts are one machine, with one address.
fn hosts_may_share_a_machine() {
    assert!(PAGE.contains("`--host localhost:3`"));
    let hosts = Hosts::new(scenario().closed(8, 400));
    let options = ["--bind-to", "none", "--host", "localhost:3", "-np", "3"];
    let arguments = ["run", "scenario.toml", "--out", "out"];
    assert_code(&hosts.mpirun(&options, env!("CARGO_BIN_EXE_listenbench"), &arguments).output().unwrap(), 0);
    let trial = &hosts.bench.read_trials()[0];
    assert_balanced(trial);
    assert_eq!((trial["hosts"].as_array().unwrap().len(), &trial["connections"]["completed"]), (3, &400.into()));
}

/// `srun` is a script that prints how it was called.
fn the_batch_file_asks_slurm_for_what_the_page_says() {
    let bench = Bench::new("");
    let script = bench.path("hosts-slurm.sbatch");
    fs::write(&script, BATCH).unwrap();
    assert!(Command::new("bash").arg("-n").arg(&script).status().unwrap().success());
    // Slurm reads no option after the first command.
    let is_option = |line: &&str| line.starts_with("#SBATCH ");
    let head = BATCH.lines().take_while(|line| line.starts_with('#'));
    let options: Vec<&str> = head.filter(is_option).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(options.len(), BATCH.lines().filter(is_option).count());
    let values = |name: &str| options.iter().find_map(|option| option.strip_prefix(&format!("--{name}=")));
    assert_eq!((values("nodes"), values("ntasks-per-node"), values("signal")), (Some("3"), Some("1"), Some("TERM@30")));
    assert!(options.contains(&"--exclusive") && options.contains(&"--no-kill"), "{options:?}");

    fs::create_dir(bench.path("bin")).unwrap();
    executable(&bench.path("bin/srun"), "#!/bin/sh\necho \"$@\"\n");
    let run = |arguments: &[&str]| {
        let mut command = bench.command_of(Path::new("bash"), &[script.to_str().unwrap()]);
        let path = format!("{}:{}", bench.path("bin").display(), std::env::var("PATH").unwrap());
        command.args(arguments).env("PATH", path).env("SLURM_JOB_ID", "7").output().unwrap()
    };
    let output = run(&["my scenario.toml"]);
    assert_code(&output, 0);
    let shown = stdout(&output);
    for part in [
        "--mpi=pmix ",
        "--cpu-bind=none ",
        "--kill-on-bad-exit=0 ",
        " listenbench run my scenario.toml --out listenbench-7\n",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let usage = run(&[]);
    assert!(!usage.status.success() && stderr(&usage).contains("usage: sbatch hosts-slurm.sbatch SCENARIO"));
}
