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

tests! {
    nothing [
        a_slip_in_a_scenario_exits_2_and_names_file_and_key,
        everything_wrong_with_a_scenario_is_said_at_once_a_line_each,
        an_unknown_metric_is_named_with_its_line,
        a_port_taken_exits_1_and_names_address_and_holder,
        a_folder_with_a_record_is_refused,
        a_killed_worker_is_a_recorded_failure,
        a_killed_loader_or_trial_is_a_recorded_failure,
        a_stopped_worker_does_not_hang_the_run,
        ctrl_c_and_a_closed_terminal_keep_what_ended_and_exit_130,
        a_signal_that_was_ignored_at_the_start_stays_ignored,
        killing_the_run_itself_leaves_no_process,
        a_trial_past_its_deadline_is_invalid,
        running_out_of_files_is_counted_and_ends_nothing,
        a_worker_out_of_files_waits_and_goes_on,
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
    duration = "2s"
    connect_timeout = "1s"
    reply_timeout = "1s"
"#;

/// `run scenario.toml --out out` with a hard limit of 256 open files.
fn run_with_256_files(bench: &Bench) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 256 && exec \"$0\" run scenario.toml --out out", env!("CARGO_BIN_EXE_listenbench")]);
    command.current_dir(bench.folder.path()).output().unwrap()
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
    let output = Bench::new("question = \"?\"\nmetric = \"acept_wait_p99\"").run(&[]);
    assert_code(&output, 2);
    let text = stderr(&output);
    assert!(text.starts_with("listenbench: scenario.toml:2: `metric`: unknown metric \"acept_wait_p99\""), "{text}");
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
    assert!(verdicts(trial).contains(&"worker-died"), "{}", trial["verdicts"]);
    let dead: Vec<&str> = trial["workers"].as_array().unwrap().iter().map(|w| w["exit"].as_str().unwrap()).collect();
    assert_eq!(dead.iter().filter(|exit| **exit == "killed by SIGKILL").count(), 1, "{dead:?}");
    assert!(number(&trial["connections"]["accepted"]) > 0);
    bench.demand_nothing_left();
}

fn a_killed_loader_or_trial_is_a_recorded_failure() {
    for name in ["lb:loader", "lb:trial"] {
        let bench = Bench::new(LONG);
        let run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
        let worker = bench.wait_for("lb:worker", 3)[0];
        bench.wait_for_connections(worker, 20);
        signal(bench.wait_for(name, 1)[0], Signal::SIGKILL);
        let output = run.wait_with_output().unwrap();
        assert_code(&output, 3);
        let trial = &bench.read_trials()[0];
        assert_eq!(trial["outcome"], "failed", "{name}");
        assert!(trial["error"].as_str().unwrap().contains("SIGKILL"), "{name}: {}", trial["error"]);
        bench.demand_nothing_left();
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
    let (last, ended) = trials.split_last().unwrap();
    assert!(ended.len() >= 2 && ended.iter().all(|trial| trial["outcome"] == "valid"));
    assert_eq!((&last["outcome"], &last["error"]), (&"failed".into(), &"interrupted".into()));
    assert!(bench.path("out/summary.json").exists());
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
        scenario().closed(4, 8).duration("100ms").set("deadline", "400ms").set("server.accept_delay", "1h").bench();
    // Two bounds are refused; one is the test's.
    assert_code(&bench.run(&[]), 2);
    let bench = scenario().closed(4, 8).set("deadline", "400ms").set("server.accept_delay", "1h").bench();
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
    assert_code(&output, 0);
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
        // An attempt every 10 ms, not as many as a processor can make.
        assert!(errors(&trial, "accept", "EMFILE") < 1_000, "{}", trial["connections"]);
    }
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
