//! Servers that a trial starts from a command: they run in its network, are counted from outside, and leave nothing behind.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Command, Output},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    common::{
        Bench, Scenario, assert_balanced, assert_code, free_port, number, read_trials, scenario, stderr, verdicts,
        wait_until,
    },
    requires,
};

tests! {
    nothing [
        a_command_that_ends_is_quoted,
        a_command_that_listens_elsewhere_is_told_where,
        a_command_that_never_listens_is_given_up,
        a_slow_command_is_waited_for,
        a_command_that_ignores_its_signal_is_killed,
        whatever_a_command_forks_ends_with_its_trial,
        megabytes_of_output_are_kept_in_part,
        a_command_starts_like_in_a_shell_of_its_own,
        a_server_that_dies_is_a_recorded_fact,
        a_killed_run_or_trial_leaves_nothing_of_a_command,
        ctrl_c_ends_a_command_and_keeps_what_ended,
        commands_are_swept_and_searched_like_our_own_server,
        datagrams_of_other_servers_are_refused,
    ]
    root [
        an_ordinary_user_starts_commands_too,
        members_are_counted_exactly_in_every_network,
        a_second_server_on_the_same_port_elsewhere_is_not_counted,
    ]
    python [an_echo_of_another_server_completes]
    root_and_nginx [
        a_stopped_worker_strands_its_share_of_its_own_queue_only,
        accepts_of_a_burst_at_the_edge_of_the_window_are_in_it,
        connections_that_a_server_closes_are_made_again,
    ]
}

/// 200 connections to a server that is a script, in which SERVE is the command line of our own server.
fn serving(script: &str) -> Scenario {
    serving_to(scenario().closed(4, 200), script)
}

fn serving_to(load: Scenario, script: &str) -> Scenario {
    starting(load, &script.replace("SERVE", &serve_at("{address}", "{port}")))
}

/// The command line of our own server.
fn serve_at(address: &str, port: &str) -> String {
    let binary = env!("CARGO_BIN_EXE_listenbench");
    format!("{binary} serve \"$1\"/own.toml --set=address={address} --set=port={port}")
}

/// The same without a use for the name.
fn started(script: &str) -> Scenario {
    starting(scenario().closed(4, 200), script)
}

fn starting(load: Scenario, script: &str) -> Scenario {
    let start = format!("#!/bin/sh\n{script}\n");
    load.set("server.subject", "command")
        .set("server.command", "./start {dir}")
        .set("server.files.start", start)
        .set("server.files.\"own.toml\"", "network = \"host\"\nserver.strategy = \"shared-epoll\"\n")
}

/// A bench whose trials keep the folders of their servers in a place of its own.
struct Place {
    bench: Bench,
}

impl Place {
    fn of(scenario: Scenario) -> Self {
        let bench = scenario.bench();
        // A server's folder is only made where every user may pass.
        fs::set_permissions(bench.folder.path(), Permissions::from_mode(0o755)).unwrap();
        let folders = bench.path("folders");
        fs::create_dir(&folders).unwrap();
        fs::set_permissions(&folders, Permissions::from_mode(0o777)).unwrap();
        Self { bench }
    }

    fn command(&self) -> Command {
        let mut command = self.bench.command(&["run", "scenario.toml", "--out", "out"]);
        command.env("TMPDIR", self.bench.path("folders"));
        command
    }

    fn run(&self) -> Output {
        let output = self.command().output().unwrap();
        self.demand_nothing_left();
        output
    }

    /// The only trial, after an exit code.
    fn trial(&self, code: i32) -> Value {
        assert_code(&self.run(), code);
        self.bench.read_trials().remove(0)
    }

    fn folders(&self) -> Vec<PathBuf> {
        fs::read_dir(self.bench.path("folders")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn demand_nothing_left(&self) {
        self.bench.demand_nothing_left();
        wait_until("the server's folder to be gone", || self.folders().is_empty());
    }

    /// What the server of the first trial printed.
    fn output(&self) -> String {
        fs::read_to_string(self.bench.path("out/server-output/t0.log")).unwrap()
    }
}

fn failure(trial: &Value) -> &str {
    assert_eq!(trial["outcome"], "failed", "{trial}");
    trial["error"].as_str().unwrap()
}

fn a_command_that_ends_is_quoted() {
    for (script, ended) in [
        ("echo no such directive >&2; exit 3", "it ended (exit status 3) before anything listened at 127.0.0.1:7000"),
        (
            "echo no such directive; kill -9 $$",
            "it ended (killed by SIGKILL) before anything listened at 127.0.0.1:7000",
        ),
        (
            "echo no such directive; exit 0",
            "it exited with status 0, and left nothing running that could listen at 127.0.0.1:7000",
        ),
    ] {
        let place = Place::of(started(script));
        let trial = place.trial(3);
        assert_eq!(failure(&trial), format!("`server.command`: {ended}; its last output:\n  | no such directive"));
        assert_eq!((&trial["subject"]["kind"], &trial["subject"]["name"]), (&"command".into(), &"start".into()));
        assert_eq!(trial["subject"]["output"], "server-output/t0.log");
        assert_eq!(place.output(), "no such directive\n");
    }
    let place = Place::of(started("exit 1"));
    let trial = place.trial(3);
    assert!(failure(&trial).ends_with("before anything listened at 127.0.0.1:7000; it printed nothing"), "{trial}");
    assert_eq!(trial["subject"]["output"], Value::Null);
}

fn a_command_that_listens_elsewhere_is_told_where() {
    let place = Place::of(serving(&serve_at("127.0.0.2", "7001")).set("server.ready_within", "10s"));
    let trial = place.trial(3);
    let error = failure(&trial);
    assert!(
        error.starts_with(
            "`server.command`: nothing listened at 127.0.0.1:7000 within 10s (`server.ready_within`); instead, it listens at \
             127.0.0.2:7001: use {address} and {port} in the command or its files; its last output:\n  | listening on 127.0.0.2:7001"
        ),
        "{error}"
    );
}

fn a_command_that_never_listens_is_given_up() {
    let place = Place::of(started("sleep 600").set("server.ready_within", "300ms"));
    let trial = place.trial(3);
    assert_eq!(
        failure(&trial),
        "`server.command`: nothing listened at 127.0.0.1:7000 within 300ms (`server.ready_within`); it printed nothing"
    );
}

fn a_slow_command_is_waited_for() {
    let place = Place::of(serving("sleep 3; exec SERVE"));
    let trial = place.trial(0);
    assert_eq!(trial["connections"]["completed"], 200, "{trial}");
}

/// The shell ignores SIGTERM, and so do those that it starts.
fn a_command_that_ignores_its_signal_is_killed() {
    let place = Place::of(serving("trap '' TERM; SERVE; sleep 600"));
    let trial = place.trial(0);
    assert_eq!(trial["connections"]["completed"], 200, "{trial}");
    assert_eq!(trial["subject"]["exit"], Value::Null, "it ran until it was stopped");
    assert!(place.output().ends_with("[what was left 5s after SIGTERM was killed]\n"), "{}", place.output());
}

/// Daemons, in sessions and process groups of their own, forked twice.
fn whatever_a_command_forks_ends_with_its_trial() {
    for script in [
        "SERVE & exit 0",
        "setsid sh -c 'SERVE & sleep 601 &' sh \"$1\" & exit 0",
        "setsid sh -c 'setsid sleep 602 & setsid setsid sleep 603 & exit 0' & exec SERVE",
        "trap '' TERM HUP; (trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 604; sleep 605' &) ; SERVE & exit 0",
    ] {
        let place = Place::of(serving(script));
        let trial = place.trial(0);
        assert_eq!(trial["connections"]["completed"], 200, "{script}: {trial}");
    }
    // The same if nothing ever listens.
    let place =
        Place::of(started("setsid sh -c 'sleep 606 & sleep 607 &' & exit 0").set("server.ready_within", "300ms"));
    assert!(failure(&place.trial(3)).starts_with("`server.command`: "));
}

fn megabytes_of_output_are_kept_in_part() {
    let place = Place::of(serving("echo first; yes | head -c 20000000; echo last; exec SERVE"));
    let trial = place.trial(0);
    assert_eq!(trial["connections"]["completed"], 200, "{trial}");
    let output = place.output();
    assert!(output.starts_with("first\ny\n"), "{}", &output[..20]);
    assert!(output.contains("bytes left out]\n") && output.contains("\nlast\nlistening on 127.0.0.1:7000"));
    assert!(output.len() < 300_000, "{}", output.len());
}

/// No signal is ignored or blocked, nothing is open but the standard descriptors, and the environment is the user's.
fn a_command_starts_like_in_a_shell_of_its_own() {
    // Read by the shell itself: it blocks all signals while it forks.
    let script = "while read -r line; do case $line in SigBlk*|SigIgn*) echo \"$line\" ;; esac; done </proc/$$/status
        ls /proc/$$/fd >fds; echo fds $(grep -v '^1.$' fds); readlink /proc/$$/fd/0
        echo $FROM_USER; pwd; echo $1; ps -o sid= -p $$ | grep -q $$ && echo own session; exit 1";
    let place = Place::of(started(script));
    let mut run = place.command();
    run.env("FROM_USER", "a b").process_group(0);
    assert_code(&run.output().unwrap(), 3);
    let output = place.output();
    let lines: Vec<&str> = output.lines().collect();
    let folder = lines[5];
    assert!(folder.starts_with(place.bench.path("folders").to_str().unwrap()), "{output}");
    // Descriptor 10 and above are the shell's own: its script.
    assert_eq!(
        lines,
        [
            "SigBlk:\t0000000000000000",
            "SigIgn:\t0000000000000000",
            "fds 0 1 2",
            "/dev/null",
            "a b",
            folder,
            folder,
            "own session"
        ]
    );
    place.demand_nothing_left();
}

/// The trial is invalid, and what was counted until then is kept.
fn a_server_that_dies_is_a_recorded_fact() {
    // PassiveOpens, in the network of the trial.
    let opened = "awk '/^Tcp: [0-9]/ { print $7 }' /proc/net/snmp";
    let script = format!(
        "SERVE & server=$!; until [ $({opened}) -ge 20 ]; do sleep 0.02; done; kill -9 $server; echo gone; exit 7"
    );
    let place = Place::of(serving_to(scenario().constant(100.0).duration("3s"), &script));
    let trial = place.trial(3);
    assert_eq!(trial["outcome"], "invalid", "{trial}");
    let ended =
        trial["verdicts"].as_array().unwrap().iter().find(|verdict| verdict["name"] == "subject-ended").unwrap();
    assert!(
        ended["detail"].as_str().unwrap().ends_with(" of the trial: exit status 7; its last output: gone"),
        "{ended}"
    );
    for follows in ["failures", "errors", "rate-unmet", "process-died", "drift-in-trial"] {
        assert!(!verdicts(&trial).contains(&follows), "{:?}", verdicts(&trial));
    }
    assert_eq!(trial["subject"]["exit"], "exit status 7");
    let connections = &trial["connections"];
    let [attempted, completed] = ["attempted", "completed"].map(|name| number(&connections[name]));
    assert!(attempted == 300 && (1..300).contains(&completed), "{connections}");
    assert!(place.output().ends_with("gone\n"), "{}", place.output());
}

fn a_killed_run_or_trial_leaves_nothing_of_a_command() {
    for victim in ["listenbench", "lb:trial", "lb:keeper"] {
        let script = "setsid sh -c 'SERVE & sleep 611 &' sh \"$1\" & exit 0";
        let place = Place::of(serving_to(scenario().constant(50.0).duration("10s"), script));
        let mut run = place.command().stderr(std::process::Stdio::null()).spawn().unwrap();
        let worker = place.bench.wait_for("lb:worker", 1)[0];
        place.bench.wait_for_connections(worker, 1);
        let pid = if victim == "listenbench" { run.id() } else { place.bench.wait_for(victim, 1)[0] };
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
        // A trial whose process is gone has failed; one whose keeper is gone is invalid.
        assert_eq!(run.wait().unwrap().code(), if victim == "listenbench" { None } else { Some(3) });
        place.demand_nothing_left();
    }
}

fn ctrl_c_ends_a_command_and_keeps_what_ended() {
    let script = "SERVE & exit 0";
    let place = Place::of(serving_to(Scenario::repeated(50).constant(100.0).duration("300ms"), script));
    let run = place.command().process_group(0).spawn().unwrap();
    wait_until("two trials to end", || {
        fs::read_to_string(place.bench.path("out/trials.jsonl")).is_ok_and(|text| text.lines().count() >= 2)
    });
    killpg(Pid::from_raw(run.id() as i32), Signal::SIGINT).unwrap();
    assert_code(&run.wait_with_output().unwrap(), 130);
    place.demand_nothing_left();
    let trials = place.bench.read_trials();
    assert!(trials.iter().any(|trial| trial["outcome"] == "valid"), "{trials:?}");
}

/// Sweeps, searches and comparisons treat a command like our own server.
fn commands_are_swept_and_searched_like_our_own_server() {
    let sweep = Scenario::repeated(2).set("load.concurrency", 4).set("load.connections", 100);
    let place =
        Place::of(serving_to(sweep, "exec SERVE --set=server.workers={workers}").set("server.workers", json!([1, 3])));
    assert_code(&place.run(), 0);
    let trials = place.bench.read_trials();
    assert_eq!(trials.len(), 4);
    for trial in &trials {
        assert_eq!(trial["connections"]["completed"], 100, "{trial}");
        // Who accepted is known to root only, but who listens to everybody.
        let members = trial["workers"].as_array().unwrap().iter().filter(|row| row["supervises"] != true).count();
        assert_eq!(members as u64, number(&trial["cell"]["workers"]), "{trial}");
        if requires::root() {
            assert_balanced(trial);
        }
    }
    let repeated = place.bench.command(&["run", "out/scenario.toml", "--out", "again"]).output().unwrap();
    assert_code(&repeated, 0);
    assert_eq!(read_trials(&place.bench.path("again")).len(), 4, "the record's scenario has the files in it");
    let compared = place.bench.command(&["compare", "out", "again"]).output().unwrap();
    assert!([0, 3, 4].contains(&compared.status.code().unwrap()), "{}", stderr(&compared));
    let search = scenario()
        .poisson(50.0)
        .duration("300ms")
        .set("search.metric", "response_p99")
        .set("search.limit", "10s")
        .set("search.max_trials", 4);
    let place = Place::of(serving_to(search, "exec SERVE"));
    let output = place.run();
    assert!([0, 3].contains(&output.status.code().unwrap()), "{}", stderr(&output));
    assert!(place.bench.read_trials().iter().all(|trial| trial["outcome"] != "failed"));
}

/// In a user namespace the command is root over nothing but that; what only root sees is said to be missing.
fn an_ordinary_user_starts_commands_too() {
    // The clone may be closed to that user, so the server is a copy of the binary, too.
    let script =
        "exec SERVE".replace("SERVE", "../../listenbench serve $1/own.toml --set=address={address} --set=port={port}");
    let place = Place::of(starting(scenario().closed(4, 200), &script));
    let mut run = place.bench.command_as_ordinary_user(&["run", "scenario.toml", "--out", "out"]);
    let output = run.env("TMPDIR", place.bench.path("folders")).output().unwrap();
    assert_code(&output, 0);
    place.demand_nothing_left();
    let trial = place.bench.read_trials().remove(0);
    let connections = &trial["connections"];
    assert_eq!(connections["completed"], 200, "{connections}");
    assert_eq!([&connections["accepted"], &connections["unaccounted"]], [&Value::Null; 2], "{connections}");
    assert_eq!(trial["probe"]["level"], "off");
    let missing = trial["probe"]["missing"].as_str().unwrap();
    assert!(missing.contains("root"), "{missing}");
    let workers = trial["workers"].as_array().unwrap();
    assert!(workers.iter().any(|row| row["comm"] == "lb:worker0" && row["accepted"].is_null()), "{workers:?}");
    assert!(workers.iter().all(|row| row["counted_by"] == "none"), "{workers:?}");
}

fn datagrams_of_other_servers_are_refused() {
    for protocol in ["udp", "tcp+udp"] {
        let place = Place::of(serving("exec SERVE").set("protocol", protocol));
        let output = place.run();
        assert_code(&output, 2);
        assert!(stderr(&output).contains("datagrams require server.subject = \"own\""), "{}", stderr(&output));
    }
}

/// Every accept has its member and its exact wait, wherever server and loaders are.
fn members_are_counted_exactly_in_every_network() {
    for network in ["netns", "veth", "host"] {
        for app in ["close", "echo", "http"] {
            let script = format!("exec SERVE --set=server.workers=3 --set=server.app={app}");
            let load = scenario().closed(8, 300).set("server.app", app).set("network", network);
            let place = Place::of(serving_to(load.set("port", free_port()), &script));
            let trial = place.trial(0);
            assert_balanced(&trial);
            let connections = &trial["connections"];
            for (name, count) in [("accepted", 300), ("established", 300), ("foreign", 0), ("aborted", 0)] {
                assert_eq!(connections[name], count, "{network}, {app}: {name} of {connections}");
            }
            let probe = &trial["probe"];
            assert_eq!((&probe["accepts"], &probe["lost_events"]), (&json!(300), &json!(0)), "{probe}");
            let wait = &trial["latency_ns"]["accept_wait"];
            assert_eq!(
                (&wait["count"], &wait["method"], &wait["ends"]),
                (&json!(300), &json!("tracepoint"), &json!("accept"))
            );
            let workers = trial["workers"].as_array().unwrap();
            let members: Vec<&Value> = workers.iter().filter(|row| row["supervises"] != true).collect();
            assert_eq!(members.len(), 3, "{workers:?}");
            for row in members {
                assert_eq!(row["accept_wait"]["count"], row["accepted"], "{row}");
                assert_eq!(row["counted_by"], "tracepoint");
                assert!(row["comm"].as_str().unwrap().starts_with("lb:worker"), "{row}");
            }
        }
    }
}

/// Two trials at once, with servers at the same address and port in networks of their own.
fn a_second_server_on_the_same_port_elsewhere_is_not_counted() {
    let places = [0, 1].map(|_| Place::of(serving_to(scenario().constant(200.0).duration("2s"), "exec SERVE")));
    let runs = places.each_ref().map(|place| place.command().spawn().unwrap());
    for (place, run) in places.iter().zip(runs) {
        assert_code(&run.wait_with_output().unwrap(), 0);
        place.demand_nothing_left();
        let trial = place.bench.read_trials().remove(0);
        assert_balanced(&trial);
        let connections = &trial["connections"];
        assert_eq!((&connections["accepted"], &connections["foreign"]), (&json!(400), &json!(0)), "{connections}");
    }
}

/// A server of another language that returns what it gets.
fn an_echo_of_another_server_completes() {
    const SERVER: &str = "import socket, sys, threading
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=256)
def serve(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
";
    let load = scenario().closed(4, 100).set("load.requests", 3);
    let echo = load
        .set("server.subject", "command")
        .set("server.command", "python3 server.py {address} {port}")
        .set("server.files.\"server.py\"", SERVER);
    let place = Place::of(echo);
    let trial = place.trial(0);
    let connections = &trial["connections"];
    for (name, count) in [("completed", 100), ("replies", 300), ("verified", 0), ("misdelivered", 0)] {
        assert_eq!(connections[name], count, "{connections}");
    }
    let [member] = &trial["workers"].as_array().unwrap()[..] else { panic!("{trial}") };
    assert!(member["comm"].as_str().unwrap().starts_with("python3"), "{member}");
    if requires::root() {
        assert_balanced(&trial);
        assert_eq!(member["accepted"], 100, "{member}");
    }
}

/// The children of a process.
fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn nginx(load: Scenario, listen: &str, server: &str) -> Scenario {
    let configuration = format!(
        "worker_processes 2; pid nginx.pid; error_log stderr; daemon off;
        events {{ worker_connections 4096; }}
        http {{ access_log off; {server} server {{ listen {{address}}:{{port}} {listen}; location / {{ return 200 hello; }} }} }}"
    );
    load.set("server.app", "http")
        .set("server.subject", "command")
        .set("server.command", "nginx -p {dir} -c nginx.conf -e stderr")
        .set("server.files.\"nginx.conf\"", configuration)
}

/// What is intended at the window's beginning is established and accepted after it, however late anybody looks. Without an end, all of the
/// window's accepts are in it too.
fn accepts_of_a_burst_at_the_edge_of_the_window_are_in_it() {
    for probe in ["btf", "tracepoints", "counts"] {
        let load = scenario().set("load.mode", "open").set("load.arrivals", "burst").set("load.burst_size", 20);
        let load =
            load.connections(60).set("load.burst_every", "500ms").set("load.warmup", "500ms").set("probe", probe);
        let bench = nginx(load, "", "").bench();
        let trial = &bench.trials(0)[0];
        let measured = &trial["measured"];
        let planned = number(&measured["planned"]);
        assert!(planned > 0 && number(&measured["accepted"]) >= planned, "{probe}: {measured}");
        if probe == "btf" {
            let rows = trial["workers"].as_array().unwrap().iter();
            let waits: u64 = rows.filter_map(|row| row["accept_wait"]["count"].as_u64()).sum();
            assert!(waits >= planned, "{waits} waits, {measured}");
        }
    }
}

/// What waits in a stopped worker's own queue stays there; a shared queue is emptied by the others.
fn a_stopped_worker_strands_its_share_of_its_own_queue_only() {
    for listen in ["reuseport", ""] {
        let load = scenario().constant(200.0).duration("3s").set("load.reply_timeout", "500ms");
        let place = Place::of(nginx(load, listen, ""));
        let run = place.command().spawn().unwrap();
        // The keeper's child is the master. nginx writes its title over its environment, so that it shows no mark.
        let keeper = place.bench.wait_for("lb:keeper", 1)[0];
        let workers = || children(keeper).first().map(|master| children(*master)).unwrap_or_default();
        wait_until("two workers of nginx", || workers().len() == 2);
        let worker = workers()[1];
        place.bench.wait_for_connections(worker, 50);
        kill(Pid::from_raw(worker as i32), Signal::SIGSTOP).unwrap();
        run.wait_with_output().unwrap();
        place.demand_nothing_left();
        assert!(!std::path::Path::new(&format!("/proc/{worker}")).exists());
        let trial = place.bench.read_trials().remove(0);
        assert_balanced(&trial);
        let connections = &trial["connections"];
        let (left, established) = (number(&connections["left_in_queue"]), number(&connections["established"]));
        assert_eq!(established, 600, "{connections}");
        let members = trial["workers"].as_array().unwrap().iter().filter(|row| row["supervises"] != true);
        let mut accepted: Vec<u64> = members.map(|row| number(&row["accepted"])).collect();
        accepted.sort_unstable();
        assert_eq!(accepted.len(), 2, "{accepted:?}");
        assert_eq!(accepted.iter().sum::<u64>() + left, established);
        let has = |name: &str| verdicts(&trial).contains(&name);
        assert!(has("member-stopped"), "{:?}", verdicts(&trial));
        assert_eq!(has("queue-stranded"), left > 0, "{:?}", verdicts(&trial));
        if listen == "reuseport" {
            assert!(!has("rate-unmet") && !has("errors"), "{:?}", verdicts(&trial));
            assert!(left > 0, "{connections}");
        } else {
            assert_eq!(left, 0, "{connections}");
        }
    }
}

/// A server may close a connection that a client means to keep: after so many requests, for example.
fn connections_that_a_server_closes_are_made_again() {
    let load = scenario().closed(4, 50).set("load.requests", 10);
    let place = Place::of(nginx(load, "", "keepalive_requests 3;"));
    let trial = place.trial(0);
    assert_balanced(&trial);
    let connections = &trial["connections"];
    assert_eq!(connections["errors"], json!([]), "{connections}");
    assert_eq!(connections["replies"], 500, "{connections}");
    // Ten requests take four connections of three.
    assert_eq!((&connections["established"], &connections["accepted"]), (&json!(200), &json!(200)), "{connections}");
}
