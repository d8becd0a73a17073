//! What goes wrong is said, costs nothing measured, and leaves nothing behind.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt,
    process::{Command, Output, Stdio},
};

use crate::common::{
    self, Bench, assert_balanced, assert_code, errors, free_port, number, scenario, stderr, verdicts, wait_until,
};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};

tests! {
    nothing [
        a_slip_in_a_scenario_exits_2_and_names_file_and_key,
        everything_wrong_with_a_scenario_is_said_at_once_a_line_each,
        an_unknown_metric_is_named_with_its_line,
        a_sysctl_of_the_machine_is_told_from_an_unknown_one,
        a_port_taken_exits_1_and_names_address_and_holder,
        a_folder_with_a_record_is_refused,
        a_killed_worker_is_a_recorded_failure,
        a_dead_loader_loses_only_what_it_alone_knew,
        a_loader_stopped_past_the_deadline_loses_only_what_it_alone_knew,
        a_killed_trial_is_a_recorded_failure,
        a_trial_that_completed_nothing_is_invalid,
        a_stopped_worker_does_not_hang_the_run,
        ctrl_c_and_a_closed_terminal_keep_what_ended_and_exit_130,
        what_ends_the_whole_group_keeps_the_figures_so_far,
        an_interrupted_fill_keeps_its_curve,
        an_interrupted_recovery_is_invalid,
        a_dead_filler_keeps_its_curve,
        signals_that_a_shell_ignores_stay_ignored,
        a_second_signal_ends_a_run_that_cannot_end,
        a_signal_that_was_ignored_at_the_start_stays_ignored,
        killing_the_run_itself_leaves_no_process,
        a_trial_past_its_deadline_is_invalid,
        running_out_of_files_is_counted_and_ends_nothing,
        a_worker_out_of_files_waits_and_goes_on,
        a_dead_worker_keeps_its_errors,
        a_run_waits_for_its_own_processes_only,
        any_address_is_for_servers_only,
        too_few_files_for_the_load_are_refused_beforehand,
        the_machines_own_network_is_left_as_it_was,
        the_host_network_works_too,
        an_ordinary_user_can_run,
    ]
}

const LONG: &str = r#"
    repetitions = 1
    [server]
    workers = 3
    strategy = "reuseport"
    [load]
    mode = "open"
    rate = 500.0
    duration = "4s"
    connect_timeout = "1s"
    reply_timeout = "1s"
"#;

/// `run scenario.toml --out out` with a hard limit of 256 open files.
fn run_with_256_files(bench: &Bench) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 256 && exec \"$0\" run scenario.toml --out out", env!("CARGO_BIN_EXE_listenbench")]);
    command.current_dir(bench.folder.path()).output().unwrap()
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).unwrap();
}

fn a_slip_in_a_scenario_exits_2_and_names_file_and_key() {
    for (scenario, parts) in [
        ("[server]\nworker = 2", ["scenario.toml", "`server.worker`"]),
        ("[server]\nworkers = 0", ["scenario.toml", "`server.workers`"]),
        ("[matrix]\nserver.workers = [1, 9999]", ["scenario.toml", "`server.workers`"]),
        ("[sysctl]\ntcp_nonsense = 1", ["scenario.toml:2", "`sysctl.tcp_nonsense`"]),
        ("[sysctl]\nip_local_port_range = \"9 1\"", ["scenario.toml:2", "`sysctl.ip_local_port_range`"]),
        ("[[[", ["scenario.toml", "TOML"]),
    ] {
        let bench = Bench::new(scenario);
        let output = bench.run(&[]);
        assert_code(&output, 2);
        for part in parts {
            assert!(stderr(&output).contains(part), "{scenario}: {}", stderr(&output));
        }
        assert!(!bench.path("out").exists(), "{scenario}: a refused scenario leaves no record");
    }
    let bench = Bench::new("");
    for arguments in [&["run", "nowhere.toml"][..], &["run", "--nonsense"], &["run", "scenario.toml", "--set", "x"]] {
        assert_code(&bench.command(arguments).output().unwrap(), 2);
    }
}

fn everything_wrong_with_a_scenario_is_said_at_once_a_line_each() {
    let bench =
        Bench::new("nonsense = {}\n\n[server]\nworkers = 0\n\n[serach]\n\n[load]\nconnections = 1\nduration = \"1s\"");
    let output = bench.run(&["--set", "load.loaders=0"]);
    assert_code(&output, 2);
    let expected = [
        "listenbench: scenario.toml:1: unknown key `nonsense`",
        "listenbench: scenario.toml:4: `server.workers`: must be an integer from 1 to 512, not 0",
        "listenbench: scenario.toml:6: unknown key `serach`; did you mean `[search]`?",
        "listenbench: scenario.toml:9: `load.connections`: excludes `load.duration`",
        "listenbench: --set load.loaders=0: `load.loaders`: must be an integer from 1 to 512, not 0",
    ];
    let text = stderr(&output);
    assert_eq!(text.lines().count(), expected.len(), "{text}");
    for (line, expected) in text.lines().zip(expected) {
        assert!(line.starts_with(expected), "{line:?} is not {expected:?}");
    }
}

/// A metric is known only above scenarios, yet has its line.
fn an_unknown_metric_is_named_with_its_line() {
    let output = Bench::new("question = \"?\"\nanswers = [\"acept_wait_p99\"]").run(&[]);
    assert_code(&output, 2);
    let text = stderr(&output);
    let expected =
        "listenbench: scenario.toml:2: `answers`: unknown metric \"acept_wait_p99\"; did you mean `accept_wait_p99_ns`";
    assert!(text.starts_with(expected), "{text}");
}

fn a_sysctl_of_the_machine_is_told_from_an_unknown_one() {
    for (name, problem) in [
        (
            "fs.file-max",
            "applies to the whole machine, not to a network namespace: set it with `sysctl -w fs.file-max=…`",
        ),
        ("nr_open", "applies to the whole machine, not to a network namespace: set it with `sysctl -w fs.nr_open=…`"),
        ("no_such_setting", "unknown sysctl: "),
    ] {
        let output = Bench::new(&format!("[load]\nconnections = 1\n[sysctl]\n\"{name}\" = 1")).run(&[]);
        assert_code(&output, 2);
        let expected = format!("listenbench: scenario.toml:4: `sysctl.{name}`: {problem}");
        assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
    }
}

fn a_port_taken_exits_1_and_names_address_and_holder() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let bench = Bench::new(&format!("network = \"host\"\nport = {port}"));
    for strategy in ["shared-epoll", "reuseport"] {
        let set = format!("server.strategy={strategy}");
        for output in
            [bench.run(&["--set", &set]), bench.command(&["serve", "scenario.toml", "--set", &set]).output().unwrap()]
        {
            assert_code(&output, 1);
            let message = stderr(&output);
            assert!(message.contains(&format!("127.0.0.1:{port}")), "{message}");
            assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        }
    }
    assert!(!bench.path("out").exists());
}

fn a_folder_with_a_record_is_refused() {
    let bench = scenario().connections(5).bench();
    assert_code(&bench.run(&[]), 0);
    let before = fs::read(bench.path("out/trials.jsonl")).unwrap();
    let output = bench.run(&[]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("out") && stderr(&output).contains("--out"), "{}", stderr(&output));
    assert_eq!(before, fs::read(bench.path("out/trials.jsonl")).unwrap());
}

fn a_killed_worker_is_a_recorded_failure() {
    let bench = Bench::new(LONG);
    let run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
    let victim = bench.wait_for("lb:worker", 3)[1];
    bench.wait_for_connections(victim, 50);
    signal(victim, Signal::SIGKILL);
    let output = run.wait_with_output().unwrap();
    assert_code(&output, 3);
    let trial = &bench.read_trials()[0];
    assert_eq!(trial["outcome"], "invalid");
    assert!(verdicts(trial).contains(&"process-died"), "{}", trial["verdicts"]);
    let dead: Vec<&str> = trial["workers"].as_array().unwrap().iter().map(|w| w["exit"].as_str().unwrap()).collect();
    assert_eq!(dead.iter().filter(|exit| **exit == "killed by SIGKILL").count(), 1, "{dead:?}");
    assert!(number(&trial["connections"]["accepted"]) > 0);
    bench.demand_nothing_left();
}

/// Checks what is kept of a trial whose loader `victim` died while the others went on.
fn demand_all_but_the_dead_loader(trial: &Value, victim: u32, exit: &str) {
    assert_eq!(trial["outcome"], "invalid");
    let died = trial["verdicts"].as_array().unwrap().iter().find(|verdict| verdict["name"] == "process-died").unwrap();
    let detail = died["detail"].as_str().unwrap();
    assert!(detail.starts_with("loader ") && detail.contains(&format!("(pid {victim}): {exit}")), "{detail}");
    let loaders = trial["loaders"].as_array().unwrap();
    let (dead, others): (Vec<&Value>, Vec<&Value>) = loaders.iter().partition(|row| row["pid"] == victim);
    assert_eq!((dead.len(), others.len()), (1, 2), "{loaders:?}");
    assert!(others.iter().all(|row| row["exit"] == "ok" && number(&row["in_flight"]) == 0), "{loaders:?}");
    assert!(loaders.iter().all(|row| number(&row["attempted"]) > 0), "{loaders:?}");
    let connections = &trial["connections"];
    let sum = |key: &str| loaders.iter().map(|row| number(&row[key])).sum::<u64>();
    assert_eq!(
        (number(&connections["attempted"]), number(&connections["in_flight"])),
        (sum("attempted"), sum("in_flight"))
    );
    let failed: u64 = connections["errors"].as_array().unwrap().iter().map(|error| number(&error["count"])).sum();
    let [attempted, completed, in_flight] =
        ["attempted", "completed", "in_flight"].map(|key| number(&connections[key]));
    assert_eq!(attempted, completed + failed + in_flight, "{connections}");
    // What became of its last connections is unknown, and said to be.
    assert_eq!([&connections["aborted"], &connections["unaccounted"]], [&Value::Null; 2], "{connections}");
    // Histograms hold what the dead loader recorded too.
    let response = &trial["latency_ns"]["response"];
    let replies = number(&connections["replies"]);
    assert!((replies - 1..=replies).contains(&number(&response["count"])), "{response} of {connections}");
    // What it would still have begun was due all the same: 500 a second for 6 s.
    assert_eq!((&trial["measured"]["planned"], &trial["rates"]["offered_per_s"]), (&3_000.into(), &500.0.into()));
    assert_eq!(trial["schedule"], Value::Null, "it was not followed");
    for name in ["send_lag", "connect", "response"] {
        let latency = &trial["latency_ns"][name];
        assert_eq!(number(&latency["due"]), 3_000, "{name}: {latency}");
        assert!(number(&latency["lost"]) > 0, "{name}: {latency}");
    }
    let accepted: u64 = trial["workers"].as_array().unwrap().iter().map(|row| number(&row["accepted"])).sum();
    assert_eq!(accepted, number(&connections["accepted"]));
    assert!(accepted >= replies, "{connections}");
    assert!(!trial["series"]["accepted"].as_array().unwrap().is_empty());
}

/// A run with three loaders that has served connections, and the pid of its second loader.
fn run_with_a_victim(bench: &Bench, more: &[&str]) -> (std::process::Child, u32) {
    let steady = ["--set", "load.loaders=3", "--set", "load.duration=6s", "--set", "load.arrivals=constant"];
    let run = bench.spawn(&[&["run", "scenario.toml", "--out", "out"], &steady[..], more].concat());
    let worker = bench.wait_for("lb:worker", 3)[0];
    bench.wait_for_connections(worker, 50);
    (run, bench.wait_for("lb:loader", 3)[1])
}

fn a_dead_loader_loses_only_what_it_alone_knew() {
    for (deadly, exit) in [(Signal::SIGKILL, "killed by SIGKILL"), (Signal::SIGABRT, "killed by SIGABRT")] {
        let bench = Bench::new(LONG);
        let (run, victim) = run_with_a_victim(&bench, &[]);
        signal(victim, deadly);
        assert_code(&run.wait_with_output().unwrap(), 3);
        demand_all_but_the_dead_loader(&bench.read_trials()[0], victim, exit);
        // The log has every value that the line counts.
        assert_code(&bench.command(&["report", "out"]).output().unwrap(), 0);
        bench.demand_nothing_left();
    }
}

fn a_loader_stopped_past_the_deadline_loses_only_what_it_alone_knew() {
    let bench = Bench::new(LONG);
    let (run, victim) = run_with_a_victim(&bench, &["--set", "deadline=8s"]);
    signal(victim, Signal::SIGSTOP);
    assert_code(&run.wait_with_output().unwrap(), 3);
    demand_all_but_the_dead_loader(&bench.read_trials()[0], victim, "did not end when told to: killed by SIGKILL");
    bench.demand_nothing_left();
}

fn a_killed_trial_is_a_recorded_failure() {
    let bench = Bench::new(LONG);
    let set = ["--set", "repetitions=2"];
    let run = bench.spawn(&[&["run", "scenario.toml", "--out", "out"][..], &set].concat());
    let worker = bench.wait_for("lb:worker", 3)[0];
    bench.wait_for_connections(worker, 20);
    signal(bench.wait_for("lb:trial", 1)[0], Signal::SIGKILL);
    assert_code(&run.wait_with_output().unwrap(), 3);
    let trials = bench.read_trials();
    assert_eq!(trials[0]["outcome"], "failed");
    assert!(trials[0]["error"].as_str().unwrap().contains("SIGKILL"), "{}", trials[0]["error"]);
    // The run goes on.
    assert_eq!(trials[1]["outcome"], "valid");
    bench.demand_nothing_left();
}

fn a_trial_that_completed_nothing_is_invalid() {
    // Nobody accepts in time: every attempt is established, and times out.
    let bench = scenario()
        .constant(50.0)
        .duration("300ms")
        .set("server.accept_delay", "5s")
        .set("load.reply_timeout", "100ms")
        .bench();
    for trial in bench.trials(3) {
        assert_eq!(trial["outcome"], "invalid");
        assert!(verdicts(&trial).contains(&"nothing-measured"), "{}", trial["verdicts"]);
        assert!(
            trial["verdicts"][0]["detail"].as_str().unwrap().contains("receive ETIMEDOUT"),
            "{}",
            trial["verdicts"]
        );
        assert_balanced(&trial);
    }
}

fn a_stopped_worker_does_not_hang_the_run() {
    let bench = Bench::new(LONG);
    let run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
    let victim = bench.wait_for("lb:worker", 3)[0];
    bench.wait_for_connections(victim, 50);
    signal(victim, Signal::SIGSTOP);
    assert_code(&run.wait_with_output().unwrap(), 3);
    let trial = &bench.read_trials()[0];
    assert_eq!(trial["outcome"], "invalid");
    // What it was sent is stranded in its queue, and counted there by the kernel.
    assert!(number(&trial["connections"]["left_in_queue"]) > 0, "{}", trial["connections"]);
    assert_balanced(trial);
    bench.demand_nothing_left();
}

fn ctrl_c_and_a_closed_terminal_keep_what_ended_and_exit_130() {
    interrupt(Signal::SIGINT);
    interrupt(Signal::SIGHUP);
}

/// Under nohup, which ignores SIGHUP for what it runs, a run goes on when its terminal is closed.
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let bench = Bench::new("repetitions = 4\n[load]\nrate = 100.0\nmode = \"open\"\nduration = \"300ms\"");
    let plain = bench.command(&["run", "scenario.toml", "--out", "out"]);
    let run = Command::new("nohup")
        .arg(plain.get_program())
        .args(plain.get_args())
        .current_dir(plain.get_current_dir().unwrap())
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("a trial to end", || {
        fs::read_to_string(bench.path("out/trials.jsonl")).is_ok_and(|text| text.contains('\n'))
    });
    killpg(Pid::from_raw(run.id() as i32), Signal::SIGHUP).unwrap();
    assert_code(&run.wait_with_output().unwrap(), 0);
    assert_eq!(bench.read_trials().len(), 4);
    bench.demand_nothing_left();
}

fn interrupt(signal: Signal) {
    let bench = Bench::new("repetitions = 50\n[load]\nrate = 100.0\nmode = \"open\"\nduration = \"300ms\"");
    let run = bench
        .command(&["run", "scenario.toml", "--out", "out"])
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("two trials to end", || {
        fs::read_to_string(bench.path("out/trials.jsonl")).is_ok_and(|text| text.lines().count() >= 2)
    });
    // A terminal's signals reach the whole group.
    killpg(Pid::from_raw(run.id() as i32), signal).unwrap();
    let output = run.wait_with_output().unwrap();
    assert_code(&output, 130);
    let trials = bench.read_trials();
    // The last one may have ended just before the signal came.
    let (last, ended) = trials.split_last().unwrap();
    assert!(!ended.is_empty() && ended.iter().all(|trial| trial["outcome"] == "valid"));
    if last["outcome"] != "valid" {
        demand_interrupted(last);
    }
    assert!(bench.path("out/summary.json").exists());
    bench.demand_nothing_left();
}

/// Checks a trial that the user may have interrupted before its load began.
fn demand_interrupted(trial: &Value) {
    if trial["outcome"] == "failed" {
        assert_eq!(trial["error"], "interrupted");
        return;
    }
    assert_eq!(trial["outcome"], "invalid");
    assert!(verdicts(trial).contains(&"interrupted"), "{}", trial["verdicts"]);
    assert_balanced(trial);
}

/// timeout(1), systemd and docker stop end whole groups of processes.
fn what_ends_the_whole_group_keeps_the_figures_so_far() {
    for (kind, deadly) in [("run", Signal::SIGTERM), ("load", Signal::SIGTERM), ("load", Signal::SIGINT)] {
        let bench = Bench::new(LONG);
        let port = free_port();
        let settings = ["--set", "load.duration=60s"];
        let serve = (kind == "load").then(|| {
            let address = format!("port={port}");
            bench.spawn(&["serve", "scenario.toml", "--set", &address])
        });
        let (ends, worker) = if serve.is_some() { ("load", bench.wait_for("lb:worker", 3)[0]) } else { ("run", 0) };
        let target = format!("127.0.0.1:{port}");
        let arguments = match ends {
            "load" => [&["load", "scenario.toml", &target, "--out", "out"][..], &settings].concat(),
            _ => [&["run", "scenario.toml", "--out", "out"][..], &settings].concat(),
        };
        let mut command = bench.command(&arguments);
        let run = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let worker = if worker == 0 { bench.wait_for("lb:worker", 3)[0] } else { worker };
        bench.wait_for("lb:loader", 1);
        // The host's network has seen others before.
        let before = common::passive_opens(worker).unwrap();
        bench.wait_for_connections(worker, before + 200);
        killpg(Pid::from_raw(run.id() as i32), deadly).unwrap();
        let output = run.wait_with_output().unwrap();
        assert_code(&output, 130);
        let trial = &bench.read_trials()[0];
        assert_eq!(trial["outcome"], "invalid");
        assert!(verdicts(trial).contains(&"interrupted"), "{}", trial["verdicts"]);
        let connections = &trial["connections"];
        assert!(number(&connections["completed"]) > 0, "{connections}");
        // What was cut short has not failed.
        let failed: u64 = connections["errors"].as_array().unwrap().iter().map(|error| number(&error["count"])).sum();
        assert_eq!(failed, errors(trial, "receive", "INTERRUPTED") + errors(trial, "close", "INTERRUPTED"));
        assert!(number(&trial["latency_ns"]["response"]["count"]) > 0);
        let rate = trial["rates"]["completed_per_s"].as_f64().unwrap();
        let expected = number(&connections["completed"]) as f64 / trial["duration_s"].as_f64().unwrap();
        assert!(rate > 0.0 && rate <= expected + 1.0, "{rate} {expected}");
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.contains("interrupted"), "{shown}");
        assert!(bench.path("out/summary.json").exists() && bench.path("out/report.html").exists());
        if let Some(serve) = serve {
            signal(serve.id(), Signal::SIGINT);
            assert_code(&serve.wait_with_output().unwrap(), 0);
        }
        bench.demand_nothing_left();
    }
}

fn an_interrupted_fill_keeps_its_curve() {
    let bench = scenario().set("kind", "ports").set("deadline", "60s").bench();
    let run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
    bench.wait_for("lb:filler", 1);
    signal(run.id(), Signal::SIGINT);
    assert_code(&run.wait_with_output().unwrap(), 130);
    demand_interrupted(&bench.read_trials()[0]);
    bench.demand_nothing_left();
}

/// Its fill is complete, but how long the ports take to come back is not known.
fn an_interrupted_recovery_is_invalid() {
    let bench = Bench::new(
        "kind = \"ports\"\nrepetitions = 1\n[ports]\nrecover = 0.9\n[sysctl]\nip_local_port_range = \"40000 40099\"\n\
         tcp_tw_reuse = 0",
    );
    let run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
    let filler = bench.wait_for("lb:filler", 1)[0];
    wait_until("ports in TIME_WAIT", || {
        let sockets = fs::read_to_string(format!("/proc/{filler}/net/sockstat")).unwrap();
        !sockets.contains(" tw 0 ")
    });
    signal(run.id(), Signal::SIGINT);
    assert_code(&run.wait_with_output().unwrap(), 130);
    let trial = &bench.read_trials()[0];
    assert!(trial["outcome"] == "invalid" && verdicts(trial).contains(&"interrupted"), "{trial}");
    assert_eq!((&trial["connections"]["completed"], &trial["ports"]["recovered_after_s"]), (&json!(100), &Value::Null));
    bench.demand_nothing_left();
}

fn a_dead_filler_keeps_its_curve() {
    let bench = Bench::new(
        r#"
        kind = "ports"
        repetitions = 1
        deadline = "60s"
        [ports]
        destination_addresses = ["127.0.1.1", "127.0.1.2"]
    "#,
    );
    let run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
    let victim = bench.wait_for("lb:filler", 1)[0];
    wait_until("the filler to hold connections", || open_files(victim) > 1_000);
    signal(victim, Signal::SIGKILL);
    assert_code(&run.wait_with_output().unwrap(), 3);
    let trial = &bench.read_trials()[0];
    assert_eq!((&trial["outcome"], verdicts(trial)), (&"invalid".into(), vec!["process-died"]));
    let detail = trial["verdicts"][0]["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("filler ") && detail.ends_with(&format!("(pid {victim}): killed by SIGKILL")),
        "{detail}"
    );
    let connections = &trial["connections"];
    let established = number(&connections["established"]);
    assert!(established > 900, "{connections}");
    // The last one may have been in the queue, and not counted.
    let queued = number(&connections["left_in_queue"]);
    assert!((established..=established + 1).contains(&queued), "{connections}");
    assert_eq!([&connections["aborted"], &connections["unaccounted"]], [&Value::Null; 2], "{connections}");
    let last = trial["ports"]["curve"].as_array().unwrap().last().unwrap();
    assert!((established - 1..=established + 1).contains(&number(&last["connections"])), "{last} of {connections}");
    bench.demand_nothing_left();
}

/// `trap '' INT TERM HUP` in a shell: what it starts goes on.
fn signals_that_a_shell_ignores_stay_ignored() {
    let bench = scenario().connections(100).constant(100.0).bench();
    let mut command = Command::new("sh");
    let script = "trap '' INT TERM HUP; exec \"$0\" run scenario.toml --out out";
    command.args(["-c", script, env!("CARGO_BIN_EXE_listenbench")]).current_dir(bench.folder.path());
    let run = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the trial to begin", || bench.path("out/trials.jsonl").exists());
    for ignored in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        killpg(Pid::from_raw(run.id() as i32), ignored).unwrap();
    }
    assert_code(&run.wait_with_output().unwrap(), 0);
    assert_eq!(number(&bench.read_trials()[0]["connections"]["completed"]), 100);
}

fn a_second_signal_ends_a_run_that_cannot_end() {
    let bench = Bench::new(LONG);
    let mut run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
    let worker = bench.wait_for("lb:worker", 3)[0];
    bench.wait_for_connections(worker, 20);
    // A stopped trial neither ends nor counts.
    signal(bench.wait_for("lb:trial", 1)[0], Signal::SIGSTOP);
    signal(run.id(), Signal::SIGINT);
    // Those that come with the first are the same request.
    wait_until("a later signal to end the run", || {
        signal(run.id(), Signal::SIGINT);
        run.try_wait().unwrap().is_some()
    });
    assert_code(&run.wait_with_output().unwrap(), 130);
    // One that had given the trial up by itself would have reported.
    assert!(!bench.path("out/summary.json").exists());
    assert_code(&bench.command(&["report", "out"]).output().unwrap(), 0);
    bench.demand_nothing_left();
}

fn killing_the_run_itself_leaves_no_process() {
    for network in ["network=netns", "network=veth"] {
        let bench = Bench::new(LONG);
        let mut run = bench.spawn(&["run", "scenario.toml", "--out", "out", "--set", network]);
        bench.wait_for("lb:worker", 3);
        run.kill().unwrap();
        run.wait().unwrap();
        bench.demand_nothing_left();
    }
}

fn a_trial_past_its_deadline_is_invalid() {
    let bench =
        scenario().closed(4, 8).duration("100ms").set("deadline", "3s").set("server.accept_delay", "1h").bench();
    // Two bounds are refused; one is the test's.
    assert_code(&bench.run(&[]), 2);
    let bench = scenario().closed(4, 8).set("deadline", "3s").set("server.accept_delay", "1h").bench();
    let trial = &bench.trials(3)[0];
    assert_eq!(trial["outcome"], "invalid");
    assert!(verdicts(trial).contains(&"deadline"), "{}", trial["verdicts"]);
    assert_eq!(errors(trial, "receive", "DEADLINE"), 4);
    assert_balanced(trial);
}

fn running_out_of_files_is_counted_and_ends_nothing() {
    let bench = scenario()
        .constant(150.0)
        .connections(400)
        .set("server.accept_delay", "1h")
        .set("load.loaders", 1)
        .set("load.reply_timeout", "4s")
        .bench();
    // Planned for a second in flight; nobody accepts, so that it becomes four.
    let output = run_with_256_files(&bench);
    // Nothing is completed.
    assert_code(&output, 3);
    let trial = &bench.read_trials()[0];
    assert!(errors(trial, "socket", "EMFILE") > 0, "{}", trial["connections"]);
    assert_eq!(number(&trial["connections"]["attempted"]), 400);
    assert_balanced(trial);
}

fn a_worker_out_of_files_waits_and_goes_on() {
    let bench = scenario()
        .workers(2)
        .closed(350, 350)
        .set("load.loaders", 4)
        .set("load.hold", "500ms")
        .each("server.strategy", ["shared-blocking", "shared-epoll", "shared-epoll-edge", "shared-epoll-exclusive"])
        .bench();
    assert_code(&run_with_256_files(&bench), 0);
    for trial in bench.read_trials() {
        assert_balanced(&trial);
        assert_eq!(number(&trial["connections"]["completed"]), 350);
        // At most an attempt for each connection that closes, not as many as a processor can make.
        assert!(errors(&trial, "accept", "EMFILE") <= 352, "{}", trial["connections"]);
    }
}

/// Whether a process sleeps.
fn sleeps(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("\nState:\tS")
}

fn a_dead_worker_keeps_its_errors() {
    let bench = scenario()
        .workers(1)
        .constant(50.0)
        .connections(500)
        .set("load.hold", "20s")
        .set("load.reply_timeout", "2s")
        .set("deadline", "30s")
        .bench();
    let run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
    let worker = bench.wait_for("lb:worker", 1)[0];
    bench.wait_for_connections(worker, 10);
    let limit = ["--nofile=64:64", "--pid", &worker.to_string()];
    assert!(Command::new("prlimit").args(limit).status().unwrap().success());
    bench.wait_for_connections(worker, 80);
    // Connections wait in its queue. Once it sleeps with all the descriptors that it may have, it has tried to accept one.
    wait_until("the worker to pause", || open_files(worker) >= 64 && sleeps(worker));
    signal(worker, Signal::SIGKILL);
    assert_code(&run.wait_with_output().unwrap(), 3);
    let trial = &bench.read_trials()[0];
    assert_eq!(trial["workers"][0]["exit"], "killed by SIGKILL");
    assert!(errors(trial, "accept", "EMFILE") > 0, "{}", trial["connections"]);
    assert!(!trial["workers"][0]["scheduler"].is_null(), "{}", trial["workers"]);
}

fn a_run_waits_for_its_own_processes_only() {
    let bench = scenario().connections(5).bench();
    let mut command = Command::new("sh");
    let script = "sleep 60 >/dev/null 2>&1 & echo $! >stranger; exec \"$0\" run scenario.toml --out out";
    command.args(["-c", script, env!("CARGO_BIN_EXE_listenbench")]).current_dir(bench.folder.path());
    assert_code(&command.output().unwrap(), 0);
    let stranger: i32 = fs::read_to_string(bench.path("stranger")).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(stranger), Signal::SIGKILL).expect("the stranger has outlived the run");
}

fn any_address_is_for_servers_only() {
    let bench = Bench::new("network = \"host\"\naddress = \"0.0.0.0\"");
    let output = bench.run(&[]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("`address`"), "{}", stderr(&output));
}

fn too_few_files_for_the_load_are_refused_beforehand() {
    let bench = Bench::new("[load]\nconcurrency = 1000\nloaders = 1");
    let output = run_with_256_files(&bench);
    assert_code(&output, 1);
    let message = stderr(&output);
    assert!(message.contains("load.loaders") && message.contains("ulimit -n") && message.contains("1000"), "{message}");
}

fn the_machines_own_network_is_left_as_it_was() {
    let sysctls = || {
        ["ip_local_port_range", "tcp_tw_reuse", "tcp_fin_timeout", "ip_local_reserved_ports"]
            .map(|name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap())
    };
    let before = sysctls();
    let bench = scenario()
        .connections(20)
        .set("sysctl.ip_local_port_range", "40000 40999")
        .set("sysctl.tcp_tw_reuse", 0)
        .set("sysctl.tcp_fin_timeout", 7)
        .bench();
    assert_balanced(&bench.trials(0)[0]);
    assert_eq!(before, sysctls());
    // Nor does a scenario that takes every port take one of the machine's.
    let ports = scenario().set("kind", "ports").set("sysctl.ip_local_port_range", "40000 40999").bench();
    assert_eq!(ports.trials(0)[0]["ports"]["wall"], 1_000);
    assert_eq!(before, sysctls());
    let refused = Bench::new("network = \"host\"\n[sysctl]\ntcp_fin_timeout = 7");
    assert_code(&refused.run(&[]), 2);
}

fn the_host_network_works_too() {
    let bench =
        Bench::new(&format!("network = \"host\"\nport = {}\nrepetitions = 2\n[load]\nconnections = 100", free_port()));
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(number(&trial["connections"]["completed"]), 100);
    }
    assert_eq!(common::read_json(&bench.path("out/host.json"))["network"], "host");
}

fn an_ordinary_user_can_run() {
    let bench = scenario()
        .connections(50)
        .set("sysctl.tcp_tw_reuse", 0)
        .set("sysctl.somaxconn", 77)
        .each("network", ["netns", "veth"])
        .bench();
    assert_code(&bench.run_as_ordinary_user(), 0);
    for trial in bench.read_trials() {
        assert_balanced(&trial);
        assert_eq!(number(&trial["workers"][0]["queue_limit"]), 77);
    }
    assert!(common::read_json(&bench.path("out/host.json"))["uid"] != 0);
}
