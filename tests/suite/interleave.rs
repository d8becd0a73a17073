//! `listenbench run --interleave`: several scenarios as one experiment.

use std::{collections::BTreeSet, fs};

use crate::common::{Bench, assert_code, number, read_json, read_trials, stderr, stdout};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

tests! {
    nothing [
        cells_of_several_files_share_their_blocks_and_one_experiment,
        a_scenario_interleaves_with_itself,
        an_interrupt_keeps_every_record,
        what_cannot_be_planned_together_is_refused,
    ]
}

const FEW: &str = "repetitions = 3\n[load]\nconnections = 20\nconcurrency = 2\nclose_how = \"rst\"\n";

fn bench() -> Bench {
    let bench = Bench::new(&format!("{FEW}[matrix]\nserver.workers = [1, 2]"));
    fs::write(bench.path("other.toml"), format!("{FEW}[server]\nworkers = 3")).unwrap();
    bench
}

/// Of each trial: its number in the experiment, its block, its number in its record.
fn places(trials: &[Value]) -> Vec<[u64; 3]> {
    let place = |trial: &Value| ["experiment_trial", "repetition", "trial"].map(|name| number(&trial[name]));
    trials.iter().map(place).collect()
}

fn experiment(bench: &Bench, folder: &str) -> String {
    read_json(&bench.path(folder).join("host.json"))["experiment"].as_str().unwrap().to_owned()
}

fn cells_of_several_files_share_their_blocks_and_one_experiment() {
    let bench = bench();
    let list = bench.command(&["run", "--interleave", "scenario.toml", "other.toml", "--list"]).output().unwrap();
    assert_code(&list, 0);
    let listed = stdout(&list);
    let output = bench
        .command(&["run", "--interleave", "scenario.toml", "other.toml", "--out", "both", "--quiet"])
        .output()
        .unwrap();
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "both/scenario\nboth/other\n");
    let (one, other) = (read_trials(&bench.path("both/scenario")), read_trials(&bench.path("both/other")));
    assert_eq!((one.len(), other.len()), (6, 3));
    assert_eq!(experiment(&bench, "both/scenario"), experiment(&bench, "both/other"));
    let mut all: Vec<([u64; 3], &str, &Value)> = Vec::new();
    for (name, trials) in [("scenario", &one), ("other", &other)] {
        let places = places(trials);
        assert!(
            places.iter().map(|place| place[2]).eq(0..trials.len() as u64),
            "each record numbers its own: {places:?}"
        );
        all.extend(places.into_iter().zip(trials).map(|(place, trial)| (place, name, trial)));
    }
    all.sort_by_key(|(place, ..)| place[0]);
    for (order, (place, ..)) in all.iter().enumerate() {
        // Three cells make a block, whichever file they are of.
        assert_eq!((place[0], place[1]), (order as u64, order as u64 / 3));
    }
    assert!(all.windows(2).all(|two| two[0].2["started_at"].as_str() <= two[1].2["started_at"].as_str()));
    // The list is the order in which they ran.
    let rows = listed.lines().skip_while(|line| !line.trim_start().starts_with("trial ")).skip(1);
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split_whitespace().collect()).collect();
    let ran: Vec<[String; 3]> =
        all.iter().map(|(place, name, _)| [place[2].to_string(), place[1].to_string(), (*name).to_owned()]).collect();
    assert!(rows.iter().map(|row| &row[..3]).eq(ran.iter().map(|row| &row[..])), "{listed}");
}

fn a_scenario_interleaves_with_itself() {
    let bench = Bench::new(FEW);
    let run = |out: &str| {
        let arguments = ["run", "--interleave", "scenario.toml", "scenario.toml", "--out", out, "--progress", "plain"];
        let output = bench.command(&arguments).output().unwrap();
        assert_code(&output, 0);
        stderr(&output)
    };
    let progress = run("out");
    for part in ["1 of 6", "repetition 2: scenario-1\n", "repetition 2: scenario-2\n"] {
        assert!(progress.contains(part), "{part} is missing in {progress}");
    }
    run("again");
    let ids = ["out/scenario-1", "out/scenario-2", "again/scenario-1"].map(|folder| experiment(&bench, folder));
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 2, "{ids:?}");
    // The order follows from the seed.
    let order = |out: &str| places(&read_trials(&bench.path(out).join("scenario-1")));
    assert_eq!(order("out"), order("again"));
    assert_code(&bench.command(&["report", "out/scenario-1", "out/scenario-2"]).output().unwrap(), 0);
    // By itself, a record belongs to no experiment.
    assert_code(&bench.run(&[]), 0);
    assert!(read_json(&bench.path("out/host.json"))["experiment"].is_null());
}

fn an_interrupt_keeps_every_record() {
    let bench = Bench::new("repetitions = 2\n[load]\nmode = \"open\"\nrate = 50.0\nduration = \"20s\"");
    let arguments = ["run", "--interleave", "scenario.toml", "scenario.toml", "--out", "out", "--progress", "plain"];
    let run = bench.spawn(&arguments);
    bench.wait_for("lb:worker", 1);
    kill(Pid::from_raw(run.id() as i32), Signal::SIGINT).unwrap();
    assert_code(&run.wait_with_output().unwrap(), 130);
    // One of the two has the trial that was interrupted, the other has none; both can be read.
    let folders = ["out/scenario-1", "out/scenario-2"];
    let trials: usize = folders.iter().map(|folder| read_trials(&bench.path(folder)).len()).sum();
    assert_eq!(trials, 1);
    for folder in folders {
        assert!(bench.path(folder).join("summary.json").exists());
        assert_code(&bench.command(&["report", folder]).output().unwrap(), 0);
    }
    bench.demand_nothing_left();
}

fn what_cannot_be_planned_together_is_refused() {
    let bench = bench();
    let stop = FEW.replace("repetitions", "stop.relative_error = 0.1\nstop.min_repetitions");
    fs::write(bench.path("stop.toml"), stop).unwrap();
    for (arguments, part) in [
        (&["scenario.toml"][..], "--interleave expects two or more scenarios"),
        (&["scenario.toml", "stop.toml"], "stop.toml: --interleave plans all blocks beforehand, but [stop]"),
        (&["scenario.toml", "sustain"], "sustain: --interleave plans all blocks beforehand, but [search]"),
        (&["scenario.toml", "quick"], "use --set repetitions=7"),
        (&["scenario.toml", "smoke"], "use --set repetitions=3"),
    ] {
        let output = bench.command(&[&["run", "--out", "out", "--interleave"], arguments].concat()).output().unwrap();
        assert_code(&output, 2);
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
    }
    assert!(!bench.path("out").exists());
}
