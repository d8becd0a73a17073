//! The command line as people are used to it: short options, short forms of keys, standard input, dry runs, colours.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{
    common::{Bench, assert_code, free_port, read_json, read_trials, scenario, stderr, stdout, wait_until},
    live::OnTerminal,
};

tests! {
    nothing [
        short_options_are_the_long_ones,
        short_forms_set_their_keys,
        a_short_form_and_its_key_are_not_both_given,
        a_scenario_is_read_from_standard_input,
        problems_of_standard_input_have_its_name_and_line,
        a_dry_run_refuses_what_a_run_refuses,
        a_dry_run_accepts_what_a_run_accepts,
        json_lines_are_what_the_records_hold,
        an_unknown_option_gets_help_that_helps,
        colours_are_for_whom_wants_them,
        a_verbose_run_says_why,
        the_live_view_has_colours_as_asked,
    ]
}

fn short_options_are_the_long_ones() {
    let bench = scenario().connections(5).bench();
    let quiet = bench.command(&["run", "scenario.toml", "-q", "-o", "short", "-s", "repetitions=2"]).output().unwrap();
    assert_code(&quiet, 0);
    assert_eq!((stdout(&quiet).as_str(), stderr(&quiet).as_str()), ("short\n", ""));
    assert_eq!(read_trials(&bench.path("short")).len(), 2);
    let listed = bench.command(&["run", "scenario.toml", "-n"]).output().unwrap();
    assert_code(&listed, 0);
    for long in ["--dry-run", "--list"] {
        assert_eq!(
            stdout(&listed),
            stdout(&bench.command(&["run", "scenario.toml", long]).output().unwrap()),
            "{long}"
        );
    }
}

/// The lines of a dry run's cells.
fn cells(output: &Output) -> Vec<String> {
    assert_code(output, 0);
    let text = stdout(output);
    let rows = text.lines().skip_while(|line| !line.trim_start().starts_with("trial")).skip(1);
    rows.map(|row| row.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")).collect()
}

fn short_forms_set_their_keys() {
    let bench = scenario().connections(5).bench();
    for (short, long) in [
        (&["--workers", "1,2"][..], &["--set", "server.workers=[1,2]"][..]),
        (&["--workers=[1,2]"], &["--set", "server.workers=[1,2]"]),
        (&["--strategy", "reuseport,shared-epoll"], &["--set", "server.strategy=[\"reuseport\",\"shared-epoll\"]"]),
        (&["--rate", "100, 200.5"], &["--set", "load.mode=open", "--set", "load.rate=[100,200.5]"]),
        (&["--concurrency", "3,4"], &["--set", "load.mode=closed", "--set", "load.concurrency=[3,4]"]),
        (&["--for", "1s,2s"], &["--set", "load.duration=[\"1s\",\"2s\"]"]),
        (&["--connections", "6,7"], &["--set", "load.connections=[6,7]"]),
        (&["--repetitions", "3"], &["--set", "repetitions=3"]),
    ] {
        let run = |more: &[&str]| {
            let all = [&["run", "scenario.toml", "-n", "--seed=1"][..], more].concat();
            cells(&bench.command(&all).output().unwrap())
        };
        let cells = run(short);
        assert!(cells.len() > 1, "{short:?}: {cells:?}");
        assert_eq!(cells, run(long), "{short:?}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let load = ["load", &target, "--rate", "10,20", "--for", "1s", "--repetitions", "2", "-n"];
    let cells = cells(&bench.command(&load).output().unwrap());
    assert_eq!(cells.len(), 4, "{cells:?}");
    assert!(cells.iter().all(|cell| cell.contains("rate=10") || cell.contains("rate=20")), "{cells:?}");
}

fn a_short_form_and_its_key_are_not_both_given() {
    let bench = Bench::new("");
    for (arguments, says) in [
        (&["--workers=2", "-s", "server.workers=3"][..], "--set server.workers=3: --workers decides `server.workers`"),
        (&["--rate=2", "-s", "load.mode=closed"], "--set load.mode=closed: --rate decides `load.mode`"),
        (&["--for=2s", "-s", "load.connections=3"], "--for decides `load.connections`"),
        (&["--seed=2", "-s", "seed=3"], "--seed decides `seed`"),
        (&["--for=2s", "--connections=3"], "cannot be used with"),
        (&["--rate=2", "--concurrency=3"], "cannot be used with"),
        (&["--rate=none"], "load.rate"),
        (&["--strategy=nonsense"], "--strategy nonsense: `server.strategy`"),
        (&["--for", "1"], "--for 1: `load.duration`: must be a duration, such as \"200us\", not 1"),
        (&["-s", "repetitions=3", "-s", "repetitions=4"], "--set repetitions=3 decides `repetitions`"),
    ] {
        let output = bench.command(&[&["run", "scenario.toml"][..], arguments].concat()).output().unwrap();
        assert_code(&output, 2);
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    }
    let two =
        "[[load]]\nname = \"a\"\nmode = \"open\"\nrate = 5.0\n[[load]]\nname = \"b\"\nmode = \"open\"\nrate = 5.0";
    let output = Bench::new(two).run(&["--rate=2"]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("has the populations a, b: use --set load.NAME.rate="), "{}", stderr(&output));
}

/// What a command does with this text as its standard input.
fn with_input(mut command: Command, text: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn a_scenario_is_read_from_standard_input() {
    let bench = scenario().connections(5).bench();
    let text = fs::read_to_string(bench.path("scenario.toml")).unwrap();
    let output = with_input(bench.command(&["run", "-", "-q", "--out", "piped"]), &text);
    assert_code(&output, 0);
    assert_eq!(read_trials(&bench.path("piped")).len(), 1);
    // It has a name that a folder may have.
    let output = with_input(bench.command(&["run", "-", "-q"]), &text);
    assert_code(&output, 0);
    assert!(stdout(&output).trim().ends_with("-standard-input"), "{}", stdout(&output));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let output = with_input(bench.command(&["load", "-", &target, "-n"]), &text);
    assert_eq!(cells(&output).len(), 1);
    let twice = with_input(bench.command(&["run", "-", "-"]), &text);
    assert_code(&twice, 2);
    assert!(stderr(&twice).contains("standard input (`-`) can be read only once"), "{}", stderr(&twice));
    for command in [&["run", "-", "-n"][..], &["show", "-"], &["serve", "-"]] {
        let empty = with_input(bench.command(command), "\n");
        assert_code(&empty, 2);
        assert!(stderr(&empty).contains("standard input is empty; expected a scenario"), "{}", stderr(&empty));
    }
}

fn problems_of_standard_input_have_its_name_and_line() {
    let bench = Bench::new("");
    for command in [&["run", "-"][..], &["serve", "-"], &["load", "-", "127.0.0.1:80"], &["calibrate", "-"]] {
        for (text, says) in [
            ("repetitions = 1\nload.nonsense = 3\n", "listenbench: standard input:2: unknown key `load.nonsense`"),
            ("repetitions = \n", "listenbench: standard input:1: "),
        ] {
            let output = with_input(bench.command(command), text);
            assert_code(&output, 2);
            assert!(stderr(&output).starts_with(says), "{command:?}: {}", stderr(&output));
        }
    }
}

/// The same refusal, word for word, and nothing is left behind.
fn a_dry_run_refuses_what_a_run_refuses() {
    let port = free_port();
    let running = format!("network = \"host\"\nserver.subject = \"running\"\nport = {port}");
    let command = "[server]\nsubject = \"command\"\ncommand = \"/nowhere/server {port}\"\n";
    let large = "load.mode = \"closed\"\nload.concurrency = 30000\nserver.workers = 8\nsysctl.ip_local_port_range = \"32768 33767\"";
    for (text, more, code) in [
        (&running[..], &[][..], 1),
        ("network = \"host\"\naddress = \"198.51.100.8\"", &[], 2),
        ("network = \"host\"\naddress = [\"127.0.0.1\", \"198.51.100.8\"]", &[], 2),
        (command, &[], 2),
        (large, &[], 2),
        ("", &["--calibration", "missing.json"], 1),
        ("", &["--calibration", "scenario.toml"], 2),
        ("", &["--out", "taken"], 2),
        ("", &["--out", "scenario.toml"], 1),
        ("", &["--out", "scenario.toml/below"], 1),
        ("answers = [\"nonsense\"]", &[], 2),
        ("", &["--interleave"], 2),
        ("server.pin = [4095]", &[], 2),
    ] {
        let bench = Bench::new(text);
        fs::create_dir(bench.path("taken")).unwrap();
        fs::write(bench.path("taken/trials.jsonl"), "").unwrap();
        let of = |dry: &[&str]| bench.command(&[&["run", "scenario.toml"][..], more, dry].concat()).output().unwrap();
        let (run, dry, quiet) = (of(&[]), of(&["--dry-run"]), of(&["--dry-run", "--quiet"]));
        assert_code(&run, code);
        assert_code(&dry, code);
        assert_code(&quiet, code);
        let refusal = |output: &Output| stderr(output).lines().last().map(str::to_owned);
        assert_eq!(refusal(&run), refusal(&dry), "{text} {more:?}");
        assert_eq!(refusal(&run), refusal(&quiet), "{text} {more:?}");
        assert_eq!(stdout(&quiet), "");
        assert!(!bench.path("results").exists() && !bench.path("out").exists());
    }
    let bench = Bench::new("");
    fs::create_dir(bench.path("closed")).unwrap();
    let command = |more: &[&str]| {
        let mut command =
            bench.command_as_ordinary_user(&[&["run", "scenario.toml", "-o", "closed/a/b"][..], more].concat());
        Command::new("chmod").arg("0555").arg(bench.path("closed")).status().unwrap();
        command.output().unwrap()
    };
    let (run, dry) = (command(&[]), command(&["-n"]));
    assert_code(&run, 1);
    assert_code(&dry, 1);
    let said = stderr(&dry);
    assert_eq!(said.lines().last(), stderr(&run).lines().last());
    assert!(said.contains("creating the folder closed/a/b (choose another with --out): Permission denied"), "{said}");
}

/// Also what needs `--force`; and nothing is written.
fn a_dry_run_accepts_what_a_run_accepts() {
    let tight = "load.connections = 40\nload.concurrency = 40\nserver.workers = 1\nrepetitions = 1\nsysctl.ip_local_port_range = \"32768 32787\"";
    for (text, more) in [
        ("repetitions = 1\nload.connections = 5", &[][..]),
        ("repetitions = 1\nload.connections = 5", &["--out", "new/folder"]),
        ("repetitions = 1\nload.connections = 5\nserver.strategy = [\"reuseport\", \"shared-epoll\"]", &["--force"]),
        ("kind = \"ports\"\nsysctl.ip_local_port_range = \"32768 32867\"", &[]),
    ] {
        let bench = Bench::new(text);
        let of = |dry: &[&str]| bench.command(&[&["run", "scenario.toml"][..], more, dry].concat()).output().unwrap();
        let dry = of(&["--dry-run"]);
        assert_code(&dry, 0);
        assert!(!bench.path("results").exists() && !bench.path("new").exists(), "{text}");
        assert_code(&of(&[]), 0);
    }
    // A run by force may end as it will; a dry run says no more than that it begins.
    let bench = Bench::new(tight);
    assert_code(&bench.run(&["--dry-run"]), 2);
    let forced = bench.run(&["--dry-run", "--force"]);
    assert_code(&forced, 0);
    assert!(stderr(&forced).contains("40 connections at once"), "{}", stderr(&forced));
}

fn json_lines_are_what_the_records_hold() {
    let bench = Bench::new("name = \"first\"\nrepetitions = 2\nload.connections = 5");
    fs::write(bench.path("second.toml"), "repetitions = 1\nload.connections = 5").unwrap();
    for (more, scenarios) in [
        (&["-q", "scenario.toml", "second.toml"][..], &[("first", 2), ("second", 1)][..]),
        (&["scenario.toml"], &[("", 2)]),
        (&["-q", "--interleave", "scenario.toml", "scenario.toml"], &[("first-1", 2), ("first-2", 2)]),
    ] {
        let output = bench.command(&[&["run", "--json", "-o", "out"][..], more].concat()).output().unwrap();
        assert_code(&output, 0);
        assert_eq!(stderr(&output).is_empty(), more[0] == "-q", "{}", stderr(&output));
        let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for (name, trials) in scenarios {
            let folder = bench.path("out").join(name);
            let named = std::path::Path::new("out").join(name);
            let of_record = lines.iter().filter(|line| std::path::Path::new(line["record"].as_str().unwrap()) == named);
            let (of_trials, summaries): (Vec<&Value>, Vec<&Value>) =
                of_record.partition(|line| line["trial"].is_object());
            let shown: Vec<&Value> = of_trials.iter().map(|line| &line["trial"]).collect();
            assert_eq!(shown, read_trials(&folder).iter().collect::<Vec<_>>());
            assert_eq!((shown.len(), summaries.len()), (*trials, 1), "{more:?}");
            assert_eq!(summaries[0]["summary"], read_json(&folder.join("summary.json")));
        }
        assert!(lines.last().unwrap()["summary"].is_object());
        fs::remove_dir_all(bench.path("out")).unwrap();
    }
    let refused = bench.command(&["run", "--json", "--dry-run"]).output().unwrap();
    assert_code(&refused, 2);
    assert!(stderr(&refused).contains("cannot be used with"), "{}", stderr(&refused));
}

fn an_unknown_option_gets_help_that_helps() {
    let bench = Bench::new("");
    for (arguments, tip) in [
        (&["serve", "quick", "-o", "x"][..], "tip: '-o' is an option of `listenbench run`"),
        (&["load", "80", "--workers", "4"], "tip: '--workers' is an option of `listenbench run`"),
        (&["run", "--outt", "x"], "tip: a similar argument exists: '--out'"),
        (&["doctor", "-z"], "Usage: listenbench doctor"),
    ] {
        let output = bench.command(arguments).output().unwrap();
        assert_code(&output, 2);
        let said = stderr(&output);
        assert!(said.contains(tip) && !said.contains("as a value"), "{arguments:?}: {said}");
    }
}

fn colours_are_for_whom_wants_them() {
    let bench = Bench::new("");
    let coloured = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = bench.command(arguments);
        let command = command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env_remove("CLICOLOR");
        let output = command.envs(variables.iter().copied()).output().unwrap();
        (stdout(&output) + &stderr(&output)).contains('\u{1b}')
    };
    for (arguments, variables, expected) in [
        (&["run", "--help"][..], &[][..], false),
        (&["run", "--help"], &[("CLICOLOR_FORCE", "1")], true),
        (&["run", "--help"], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        (&["run", "--help", "--color", "always"], &[], true),
        (&["--color=always", "--help"], &[("NO_COLOR", "1")], true),
        (&["run", "--help", "--color=never"], &[("CLICOLOR_FORCE", "1")], false),
        (&["run", "--nonsense", "--color=always"], &[], true),
        (&["run", "--nonsense"], &[], false),
    ] {
        assert_eq!(coloured(arguments, variables), expected, "{arguments:?} {variables:?}");
    }
    assert_code(&bench.command(&["run", "--color=pink"]).output().unwrap(), 2);
}

fn a_verbose_run_says_why() {
    let bench = scenario().set("load.concurrency", 2).duration("1s").bench();
    let output = bench.run(&["--verbose", "--set", "load.loaders=2"]);
    assert_code(&output, 0);
    let said = stderr(&output);
    for part in [
        "scenario: 2 loaders: `load.loaders` says so",
        "worker",
        "scenario: loaders use ",
        "scenario: accept waits ",
        "scenario: source ports ",
        "trial 0: measuring: the load ends in ",
        "trial 0: valid: took ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Without it, none of that; and it is nothing for a quiet run.
    fs::remove_dir_all(bench.path("out")).unwrap();
    let plain = stderr(&bench.run(&[]));
    assert!(!plain.contains("says so") && !plain.contains("set-up:"), "{plain}");
    assert_code(&bench.run(&["-v", "-q"]), 2);
    let dry = bench.command(&["run", "scenario.toml", "-v", "-n"]).output().unwrap();
    assert_code(&dry, 0);
    assert!(stderr(&dry).contains("source ports "), "{}", stderr(&dry));
}

/// The codes that set a colour in the foreground.
fn has_colours(written: &str) -> bool {
    let codes = written.split("\u{1b}[").skip(1).filter_map(|code| code.split_once('m')).map(|(code, _)| code);
    codes.flat_map(|code| code.split(';')).any(|code| matches!(code.parse(), Ok(30..=37 | 38 | 90..=97)))
}

fn the_live_view_has_colours_as_asked() {
    let bench = Bench::new(
        "repetitions = 1\n[load]\nconcurrency = 4\nclose_how = \"rst\"\nduration = \"1s\"\n[server]\nworkers = 1",
    );
    for (arguments, variables, expected) in [
        (&["--color=never"][..], &[][..], false),
        (&[], &[("NO_COLOR", "1")], false),
        (&["--color=always"], &[("NO_COLOR", "1")], true),
        (&[], &[], true),
    ] {
        let mut command = bench.command(&[&["run", "scenario.toml"][..], arguments].concat());
        command.env_remove("NO_COLOR").env_remove("CLICOLOR").env_remove("CLICOLOR_FORCE");
        let mut terminal = OnTerminal::start_whole(
            {
                command.envs(variables.iter().copied());
                command
            },
            100,
            40,
        );
        assert!(matches!(terminal.end().code(), Some(0 | 3)), "{}", terminal.shown());
        wait_until("the last line", || terminal.written().trim_end().contains("record: results/"));
        assert_eq!(has_colours(&terminal.written()), expected, "{arguments:?} {variables:?}");
    }
}
