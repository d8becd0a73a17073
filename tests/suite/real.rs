//! Servers that people run, as subjects of trials: nginx, HAProxy, gunicorn and Node.

use std::{
    collections::HashSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::{Child, Command},
};

use serde_json::{Value, json};

use crate::common::{
    Bench, Scenario, assert_balanced, assert_code, errors, free_port, number, scenario, stderr, stdout, verdicts,
    wait_until, when_undisturbed,
};

tests! {
    nothing [
        a_missing_program_is_named_before_the_first_trial,
        what_a_run_refuses_before_its_first_trial_is_listed,
        a_missing_program_is_found_in_its_variant,
        a_missing_program_of_an_event_is_named,
        shipped_scenarios_name_their_program,
        documented_scenarios_are_right,
    ]
    nginx [an_ordinary_user_measures_nginx, nginx_of_the_documentation]
    haproxy [haproxy_of_the_documentation, proxies_of_the_documentation]
    gunicorn [gunicorn_of_the_documentation]
    node [node_of_the_documentation]
    root_and_nginx [
        nginx_counts_what_its_members_count,
        a_running_nginx_counts_what_its_members_count,
        a_reload_of_nginx_loses_nothing,
        a_restart_of_nginx_refuses_what_falls_into_the_gap,
        a_running_nginx_reloads_at_a_signal,
        what_becomes_of_a_command_is_recorded,
    ]
    root_and_haproxy [threads_of_haproxy_are_members, what_a_reload_of_haproxy_loses_has_a_cause]
    root_and_gunicorn [processes_of_gunicorn_are_members, a_hangup_of_gunicorn_replaces_its_workers]
    root_and_python [each_cause_of_a_loss_is_counted_by_itself]
    root_and_node [a_primary_of_node_accepts_for_its_workers]
}

/// Connections of each load, and the requests of each: with one, the server closes; with several, it keeps connections.
const LOADS: [(u64, u64); 6] = [(1, 1), (1, 3), (1_000, 1), (1_000, 3), (20_000, 1), (20_000, 3)];

/// nginx with two workers. Its own count of all connections is at a port of its own.
const NGINX: &str = "daemon off; worker_processes 2; pid nginx.pid; error_log stderr;
events { worker_connections 4096; accept_mutex off; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server { listen {address}:{port} LISTEN; location / { return 200 \"hello\\n\"; } }
  server { listen {address}:STATUS; location / { stub_status; } }
}
";

const WSGI: &str = "def app(environ, start_response):
    start_response('200 OK', [('Content-Length', '6')])
    return [b'hello\\n']
";

/// nginx's own count. To ask for it is one connection, and one request.
struct StubStatus {
    accepted: u64,
    requests: u64,
}

impl StubStatus {
    /// Reads what nginx replies: three numbers below their names.
    fn read(text: &str) -> Self {
        let (_, counts) = text.split_once("server accepts handled requests").unwrap_or_else(|| panic!("{text}"));
        let counts: Vec<u64> = counts.split_whitespace().map_while(|count| count.parse().ok()).collect();
        let [accepted, handled, requests] = counts[..] else { panic!("{text}") };
        assert_eq!(accepted, handled, "nginx dropped connections");
        Self { accepted, requests }
    }

    fn ask(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        Self::read(&text)
    }
}

/// A scenario whose trials start this command.
fn command(command: &str) -> Scenario {
    scenario().set("server.subject", "command").set("server.command", command)
}

/// A load of HTTP connections, each with this many requests.
fn load(scenario: Scenario, connections: u64, requests: u64) -> Scenario {
    let scenario = scenario.set("server.app", "http").closed(64, connections).set("load.requests", requests);
    if requests == 1 { scenario.set("load.close_by", "server") } else { scenario.set("load.close_how", "rst") }
}

/// Process, thread and count of each member that accepted something.
fn accepting(trial: &Value) -> Vec<(u64, u64, u64)> {
    let members = trial["workers"].as_array().unwrap().iter();
    let members = members.map(|row| (number(&row["pid"]), number(&row["tid"]), number(&row["accepted"])));
    members.filter(|(_, _, accepted)| *accepted > 0).collect()
}

/// The members together, and the loaders, count what nginx does.
fn assert_same_count(trial: &Value, nginx: &StubStatus, requests: u64) {
    assert_eq!(trial["outcome"], "valid", "{}: {}", trial["error"], trial["verdicts"]);
    assert_balanced(trial);
    let established = number(&trial["connections"]["established"]);
    let members: u64 = accepting(trial).iter().map(|(_, _, accepted)| accepted).sum();
    // One more connection, with one request, asked nginx.
    assert_eq!((nginx.accepted - 1, nginx.requests - 1), (established, established * requests));
    assert_eq!((members, number(&trial["connections"]["foreign"])), (established, 0));
    let probe = ["accepts", "unstamped", "lost_events"].map(|name| number(&trial["probe"][name]));
    assert_eq!(probe, [established, 0, 0]);
    assert_eq!(number(&trial["latency_ns"]["accept_wait"]["count"]), established);
}

fn nginx_counts_what_its_members_count() {
    // Asks nginx when it is to end, and then ends it.
    const COUNTED: &str = "#!/bin/bash
nginx -p {dir} -e stderr -c nginx.conf & nginx=$!
trap 'exec 3<>/dev/tcp/127.0.0.1/7001; printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3; kill $nginx' TERM
wait; wait
";
    for (connections, requests) in LOADS {
        for listen in ["", "reuseport"] {
            let configuration = NGINX.replace("LISTEN", listen).replace("STATUS", "7001");
            let bench = load(command("{dir}/counted"), connections, requests)
                .set("server.files.\"counted\"", COUNTED)
                .set("server.files.\"nginx.conf\"", configuration)
                .bench();
            let trials = bench.trials(0);
            let output = fs::read_to_string(bench.path("out").join(trials[0]["subject"]["output"].as_str().unwrap()));
            assert_same_count(&trials[0], &StubStatus::read(&output.unwrap()), requests);
            bench.demand_nothing_left();
        }
    }
}

/// A server of the test's own, outside of any trial.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Its workers follow a master that is asked to end, but not one that is killed.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// nginx in the bench's folder, on the machine's own network, with its port and that of its status page.
fn running_nginx(bench: &Bench) -> (Running, u16, u16) {
    let (port, status) = (free_port(), free_port());
    let configuration = NGINX.replace("LISTEN", "").replace("STATUS", &status.to_string());
    let configuration = configuration.replace("{address}", "127.0.0.1").replace("{port}", &port.to_string());
    fs::write(bench.path("nginx.conf"), configuration).unwrap();
    // Its workers give up their privileges.
    fs::set_permissions(bench.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let mut nginx = Command::new("nginx");
    let nginx = nginx.arg("-p").arg(bench.path("")).args(["-e", "stderr", "-c", "nginx.conf"]).spawn().unwrap();
    let nginx = Running(nginx);
    wait_until("nginx to listen", || TcpStream::connect(("127.0.0.1", status)).is_ok());
    (nginx, port, status)
}

fn a_running_nginx_counts_what_its_members_count() {
    let bench = Bench::new("");
    let (_nginx, port, status) = running_nginx(&bench);
    for (connections, requests) in LOADS {
        let running = scenario().set("server.subject", "running").set("network", "host").set("port", port);
        let load = load(running, connections, requests).bench();
        let before = StubStatus::ask(status);
        let trials = load.trials(0);
        let after = StubStatus::ask(status);
        let [accepted, requested] = [after.accepted - before.accepted, after.requests - before.requests];
        assert_same_count(&trials[0], &StubStatus { accepted, requests: requested }, requests);
    }
}

fn threads_of_haproxy_are_members() {
    const CONFIGURATION: &str =
        "global\n nbthread {workers}\ndefaults\n mode http\n timeout client 10s\n timeout connect 10s
 timeout server 10s\nfrontend web\n bind {address}:{port} shards SHARDS\n http-request return status 200\n";
    for shards in ["by-thread", "1"] {
        for threads in [2, 4] {
            let bench = load(command("haproxy -db -f {dir}/haproxy.cfg"), 1_000, 2)
                .set("server.files.\"haproxy.cfg\"", CONFIGURATION.replace("SHARDS", shards))
                .workers(threads)
                .bench();
            let trial = &bench.trials(0)[0];
            assert_balanced(trial);
            let rows = trial["workers"].as_array().unwrap();
            let pids: HashSet<u64> = rows.iter().map(|row| number(&row["pid"])).collect();
            let tids: HashSet<u64> = rows.iter().map(|row| number(&row["tid"])).collect();
            assert_eq!((pids.len(), tids.len()), (1, rows.len()), "threads of one process: {rows:?}");
            assert!(rows.iter().all(|row| row["comm"] == "haproxy"), "{rows:?}");
            // A hash gives some of a thousand connections to each listener; who takes them from a shared one is up to the threads.
            assert!(rows.len() == threads || shards == "1" && rows.len() < threads, "{shards}: {rows:?}");
            assert_eq!(accepting(trial).len(), rows.len());
        }
    }
}

fn processes_of_gunicorn_are_members() {
    when_undisturbed(|| {
        for option in ["", " --reuse-port"] {
            let text = format!(
                "gunicorn --chdir {{dir}} --worker-tmp-dir {{dir}} -b {{address}}:{{port}} -w 2{option} app:app"
            );
            let bench = load(command(&text), 400, 1).set("server.files.\"app.py\"", WSGI).bench();
            let trial = &bench.trials(0)[0];
            assert_balanced(trial);
            let rows = trial["workers"].as_array().unwrap();
            let pids: HashSet<u64> = rows.iter().map(|row| number(&row["pid"])).collect();
            assert_eq!((rows.len(), pids.len()), (3, 3), "two workers and the arbiter: {rows:?}");
            // The arbiter holds the listener, and never accepts.
            assert!(rows.iter().any(|row| row["accepted"] == 0), "{rows:?}");
            // With either option there is one listener, and a closed loop of 64 keeps both workers at it.
            assert_eq!(accepting(trial).len(), 2, "{rows:?}");
        }
    });
}

fn a_primary_of_node_accepts_for_its_workers() {
    const SERVER: &str = "const cluster = require('node:cluster'), http = require('node:http');
if (cluster.isPrimary) for (let worker = 0; worker < {workers}; worker++) cluster.fork();
else http.createServer((request, response) => response.end('hello')).listen({port}, '{address}');
";
    let bench = load(command("env NODE_CLUSTER_SCHED_POLICY=rr node {dir}/server.js"), 300, 2);
    let bench = bench.set("server.files.\"server.js\"", SERVER).bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    assert_eq!(accepting(trial).len(), 1, "{}", trial["workers"]);
    assert_eq!(trial["latency_ns"]["accept_wait"]["ends"], "accept");
}

fn an_ordinary_user_measures_nginx() {
    let configuration = NGINX.replace("LISTEN", "reuseport").replace("STATUS", "7001");
    let bench = load(command("nginx -p {dir} -e stderr -c nginx.conf"), 200, 3)
        .set("server.files.\"nginx.conf\"", configuration)
        .bench();
    assert_code(&bench.run_as_ordinary_user(), 0);
    let trial = &bench.read_trials()[0];
    let connections = &trial["connections"];
    let replies = [&connections["completed"], &connections["replies"], &connections["statuses"]["2xx"]].map(number);
    assert_eq!(replies, [200, 600, 600]);
    assert_eq!([&connections["accepted"], &connections["unaccounted"]], [&Value::Null; 2], "nobody counted");
    let missing = trial["probe"]["missing"].as_str().unwrap();
    assert!(missing.contains("root"), "{missing}");
    bench.demand_nothing_left();
}

/// Nothing runs, and no record is made, if a program does not exist; what would run can be listed all the same.
fn a_missing_program_is_named_before_the_first_trial() {
    let bench = Bench::new(
        "[server]\nsubject = \"command\"\nworkers = 2\n\ncommand = \"nginx -p {dir} -g 'worker_processes {workers};'\"\n",
    );
    let command = |arguments: &[&str]| bench.command(arguments).env("PATH", "/nowhere").output().unwrap();
    let output = command(&["run", "scenario.toml", "--out", "out"]);
    assert_code(&output, 2);
    assert_eq!(
        stderr(&output),
        "listenbench: scenario.toml:5: `server.command`: `nginx` is not in PATH (/nowhere): install it (Debian, Ubuntu: apt install nginx) \
         or write its whole path\n"
    );
    assert!(!bench.path("out").exists());
    let listed = command(&["run", "scenario.toml", "--list"]);
    assert_code(&listed, 2);
    assert!(stdout(&listed).contains("(one cell)"), "{}", stdout(&listed));
    assert_eq!(stderr(&listed), stderr(&output));
}

/// `--list` says the same as `run`, after the list.
fn what_a_run_refuses_before_its_first_trial_is_listed() {
    let port = free_port();
    for (settings, code, problem) in [
        (
            format!("network = \"host\"\nserver.subject = \"running\"\nport = {port}"),
            1,
            "nothing listens at 127.0.0.1:",
        ),
        ("network = \"host\"\naddress = \"198.51.100.8\"".to_owned(), 2, "198.51.100.8 is not local"),
        ("load.mode = \"closed\"\nload.concurrency = 30000\nserver.workers = 8\nsysctl.ip_local_port_range = \"32768 33767\"".to_owned(), 2, "30000 connections at once and needs"),
        // The second of two cells.
        ("network = \"host\"\naddress = [\"127.0.0.1\", \"198.51.100.8\"]".to_owned(), 2, "198.51.100.8 is not local"),
    ] {
        let bench = Bench::new(&settings);
        let run = bench.run(&[]);
        assert_code(&run, code);
        assert!(stderr(&run).contains(problem), "{settings}: {}", stderr(&run));
        let listed = bench.command(&["run", "scenario.toml", "--list"]).output().unwrap();
        assert_code(&listed, code);
        assert!(stdout(&listed).contains("cell"), "{settings}: {}", stdout(&listed));
        assert!(stderr(&listed).contains(problem), "{settings}: {}", stderr(&listed));
    }
}

/// So is one that an event would run.
fn a_missing_program_of_an_event_is_named() {
    let bench = Bench::new(
        "[server]\nsubject = \"command\"\ncommand = \"/bin/sh x\"\n[load]\nduration = \"1s\"\n[[event]]\nkind = \"exec\"\nat = \"1ms\"\n\
         command = \"/nowhere/reload {pid}\"\n",
    );
    let output = bench.run(&[]);
    assert_code(&output, 2);
    let expected = "listenbench: scenario.toml:9: `event.0.command`: /nowhere/reload does not exist\n";
    assert_eq!(stderr(&output), expected);
}

/// The line is the variant's whose program is missing.
fn a_missing_program_is_found_in_its_variant() {
    let variant = |name: &str, command: &str| {
        format!("[[variant]]\nname = \"{name}\"\nserver = {{ subject = \"command\", command = \"{command}\" }}\n")
    };
    let bench =
        Bench::new(&(variant("one", "/bin/sh x") + &variant("two", "/nowhere/two") + &variant("three", "/bin/sh y")));
    let output = bench.run(&[]);
    assert_code(&output, 2);
    let expected = "listenbench: scenario.toml:6: `server.command`: /nowhere/two does not exist\n";
    assert_eq!(stderr(&output), expected);
}

/// The same for the scenarios that are built in.
fn shipped_scenarios_name_their_program() {
    for (scenario, program) in [
        ("nginx", "nginx"),
        ("haproxy", "haproxy"),
        ("gunicorn", "gunicorn"),
        ("redis", "redis-server"),
        ("beside", "nginx"),
    ] {
        let output = Bench::new("").command(&["run", scenario]).env("PATH", "/nowhere").output().unwrap();
        assert_code(&output, 2);
        let message = stderr(&output);
        assert!(message.contains(&format!("`{program}` is not in PATH")), "{message}");
        assert!(message.contains(&format!("apt install {program}")), "{message}");
    }
}

/// The scenarios of the page about users' own servers, each with its heading.
fn documented() -> Vec<(&'static str, &'static str)> {
    scenarios(include_str!("../../bench-configs/YOUR-SERVER.md"))
}

/// The scenarios of a page, each with its heading.
fn scenarios(page: &'static str) -> Vec<(&'static str, &'static str)> {
    let sections = page.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap());
    let scenarios = sections.flat_map(|(heading, text)| {
        let blocks = text.split("\n```toml\n").skip(1);
        blocks.map(move |block| (heading, block.split_once("\n```").unwrap().0))
    });
    scenarios.collect()
}

fn documented_scenarios_are_right() {
    let documented = documented();
    for server in
        ["Reloads", "Proxies", "nginx", "HAProxy", "Envoy", "gunicorn", "Node", "Go", "tokio", "Other protocols"]
    {
        assert!(documented.iter().any(|(heading, _)| *heading == server), "no scenario for {server}");
    }
    for (heading, scenario) in documented.into_iter().chain(scenarios(include_str!("../../README.md"))) {
        // What people copy says what it asks.
        assert!(scenario.starts_with("# ") && scenario.lines().next().unwrap().ends_with('?'), "{heading}: {scenario}");
        let output = Bench::new(scenario).command(&["run", "scenario.toml", "--list"]).output().unwrap();
        let said = stdout(&output) + &stderr(&output);
        // Of what is right, this machine may lack the server.
        let lacks = said.contains("nothing listens at") || said.contains("`server.command`: ");
        assert!(output.status.success() || lacks, "{heading}: {said}");
        assert!(!said.contains("cannot show a difference"), "{heading}: {said}");
    }
}

/// Runs the page's scenarios for a server, shortened: every trial serves its load.
fn run_documented(server: &str) {
    for (_, scenario) in documented().into_iter().filter(|(heading, _)| *heading == server) {
        let bench = Bench::new(scenario);
        let mut short = vec!["--set=repetitions=1", "--set=load.duration=300ms"];
        if scenario.contains("\nwarmup") {
            short.push("--set=load.warmup=50ms");
        }
        let output = bench.run(&short);
        // On a crowded machine a trial may be invalid, but it has run.
        assert!(matches!(output.status.code(), Some(0 | 3)), "{server}: {}{}", stdout(&output), stderr(&output));
        for trial in bench.read_trials() {
            assert_ne!(trial["outcome"], "failed", "{}: {}", trial["cell"], trial["error"]);
            assert!(number(&trial["connections"]["completed"]) > 0, "{}: {}", trial["cell"], trial["connections"]);
        }
        bench.demand_nothing_left();
    }
}

fn nginx_of_the_documentation() {
    run_documented("nginx");
}

fn haproxy_of_the_documentation() {
    run_documented("HAProxy");
}

fn proxies_of_the_documentation() {
    run_documented("Proxies");
}

fn gunicorn_of_the_documentation() {
    run_documented("gunicorn");
}

fn node_of_the_documentation() {
    run_documented("Node");
}

/// What each event lost, by cause, over all events.
fn lost(trial: &Value) -> [u64; 3] {
    let events = trial["events"].as_array().unwrap();
    ["reset_in_queue", "refused", "cut"]
        .map(|cause| events.iter().map(|event| number(&event["lost"][cause])).sum::<u64>())
}

/// What failed is what was lost, by each cause, and the connections that nobody accepted are those that were reset in a queue.
fn assert_all_losses_have_a_cause(trial: &Value) {
    assert_eq!(trial["outcome"], "valid", "{}: {}", trial["error"], trial["verdicts"]);
    assert_balanced(trial);
    let [reset, refused, cut] = lost(trial);
    let connections = &trial["connections"];
    assert_eq!(
        [&connections["aborted"], &trial["probe"]["reset_in_queue"]].map(number),
        [reset; 2],
        "{}",
        trial["events"]
    );
    assert_eq!(errors(trial, "connect", "ECONNREFUSED"), refused, "{connections}");
    let broken = ["ECONNRESET", "EPIPE", "EOF", "TRUNCATED"]
        .map(|errno| errors(trial, "receive", errno) + errors(trial, "send", errno));
    assert_eq!(broken.iter().sum::<u64>(), reset + cut, "{connections}");
    let failed = number(&connections["attempted"]) - number(&connections["completed"]);
    assert_eq!(failed, reset + refused + cut, "{connections}");
}

/// Each event brought processes of its own, which accepted, and those before it ended.
fn assert_replaced(trial: &Value) {
    let events = trial["events"].as_array().unwrap();
    for (number_of, event) in events.iter().enumerate() {
        // On a busy machine, those before the last one may outlive the load.
        if number_of + 1 < events.len() || !event["drain_s"].is_null() {
            assert!(event["drain_s"].as_f64().is_some_and(|drain_s| drain_s > 0.0), "{event}");
            assert_eq!(event["drain_s"], event["lasted_s"]);
        }
        let accepted = |generation: usize| {
            let generations = event["generations"].as_array().unwrap();
            generations.iter().find(|row| row["generation"] == generation).map_or(0, |row| number(&row["accepted"]))
        };
        assert!(accepted(number_of + 1) > 0, "{event}");
        assert!(event["generations"].as_array().unwrap().len() <= 2, "the one before it and its own: {event}");
    }
    // The last event counts until the load's end, when only those are missing that nobody will accept.
    let missing = number(&trial["connections"]["aborted"]) + number(&trial["connections"]["left_in_queue"]);
    assert_eq!(number(&events.last().unwrap()["not_accepted"]), missing, "{events:?}");
    for row in events.iter().flat_map(|event| event["generations"].as_array().unwrap()) {
        let (accepted, waits) = (number(&row["accepted"]), number(&row["accept_wait"]["count"]));
        assert!(waits <= accepted && accepted <= waits + number(&trial["probe"]["unstamped"]), "{row}");
    }
    let workers = trial["workers"].as_array().unwrap();
    for generation in 0..=events.len() {
        let of_it = workers.iter().filter(|row| row["generation"] == generation);
        assert!(of_it.map(|row| number(&row["accepted"])).sum::<u64>() > 0, "{generation}: {workers:?}");
    }
}

/// A load of HTTP connections at a rate, during which the server gets three events, far enough apart for a busy machine to have new
/// processes accept in between: those of two events that come before any of them are of one generation.
fn reloading(scenario: Scenario, event: Value) -> Scenario {
    let mut event = event;
    (event["at"], event["every"]) = ("500ms".into(), "1500ms".into());
    scenario
        .set("server.app", "http")
        .set("answers", json!(["event_lost"]))
        .poisson(400.0)
        .duration("4500ms")
        .event(event)
}

/// Its workers inherit the listeners of those before them, be it one for all or one each.
fn a_reload_of_nginx_loses_nothing() {
    for listen in ["", "reuseport"] {
        let configuration = NGINX.replace("LISTEN", listen).replace("STATUS", "7001");
        for event in [
            json!({ "kind": "signal", "signal": "HUP" }),
            json!({ "kind": "exec", "command": "nginx -p {dir} -e stderr -c nginx.conf -s reload" }),
        ] {
            // Processes that get no processor for long neither start nor end in time.
            when_undisturbed(|| {
                let bench = reloading(command("nginx -p {dir} -e stderr -c nginx.conf"), event.clone())
                    .set("server.files.\"nginx.conf\"", &configuration[..])
                    .bench();
                let output = bench.run(&[]);
                assert_code(&output, 0);
                let trial = &bench.read_trials()[0];
                assert_all_losses_have_a_cause(trial);
                assert_eq!(lost(trial), [0; 3]);
                assert_replaced(trial);
                let due = stdout(&output);
                let answer = due.lines().find(|line| line.contains(" reloads lose 0 of "));
                assert!(answer.is_some_and(|line| line.starts_with("3 reloads lose")), "{due}");
                bench.demand_nothing_left();
            });
        }
    }
}

/// With a listener of its own, a new process may find some connections reset that wait for the old one; if it gets the old one's, none.
fn what_a_reload_of_haproxy_loses_has_a_cause() {
    const CONFIGURATION: &str = "global\n nbthread 2\n stats socket {dir}/socket expose-fd listeners level admin
defaults\n mode http\n timeout client 10s\n timeout connect 10s\n timeout server 10s
frontend web\n bind {address}:{port}\n http-request return status 200\n";
    let start = "haproxy -db -f {dir}/haproxy.cfg";
    for (command_line, event, loses) in [
        (start, json!({ "kind": "exec", "command": "haproxy -db -f {dir}/haproxy.cfg -sf {pid}" }), true),
        (
            start,
            json!({ "kind": "exec", "command": "haproxy -db -f {dir}/haproxy.cfg -x {dir}/socket -sf {pid}" }),
            false,
        ),
        ("haproxy -W -db -f {dir}/haproxy.cfg", json!({ "kind": "signal", "signal": "USR2" }), false),
    ] {
        when_undisturbed(|| {
            let bench = reloading(command(command_line), event.clone())
                .set("server.files.\"haproxy.cfg\"", CONFIGURATION)
                .bench();
            let trial = &bench.trials(0)[0];
            assert_all_losses_have_a_cause(trial);
            assert_replaced(trial);
            assert!(loses || lost(trial) == [0; 3], "{event}: {}", trial["events"]);
            bench.demand_nothing_left();
        });
    }
}

/// Sync workers finish what they have in hand, and others inherit the listener.
fn a_hangup_of_gunicorn_replaces_its_workers() {
    when_undisturbed(|| {
        let text = "gunicorn --chdir {dir} --worker-tmp-dir {dir} -b {address}:{port} -w 2 app:app";
        let bench = reloading(command(text), json!({ "kind": "signal" })).set("server.files.\"app.py\"", WSGI).bench();
        let trial = &bench.trials(0)[0];
        assert_all_losses_have_a_cause(trial);
        assert_eq!(lost(trial)[..2], [0, 0], "{}", trial["events"]);
        assert_replaced(trial);
    });
}

/// A restart leaves a gap, but the server has not ended.
fn a_restart_of_nginx_refuses_what_falls_into_the_gap() {
    const RESTART: &str = "#!/bin/sh
kill -TERM $1\nwhile kill -0 $1 2>/dev/null; do sleep 0.001; done\nsleep 0.3\nexec nginx -p . -e stderr -c nginx.conf\n";
    when_undisturbed(|| {
        let configuration = NGINX.replace("LISTEN", "").replace("STATUS", "7001");
        let event = json!({ "kind": "exec", "command": "{dir}/restart {pid}" });
        let bench = reloading(command("nginx -p {dir} -e stderr -c nginx.conf"), event)
            .set("server.files.\"nginx.conf\"", configuration)
            .set("server.files.\"restart\"", RESTART)
            .bench();
        let trial = &bench.trials(0)[0];
        assert_all_losses_have_a_cause(trial);
        assert_replaced(trial);
        for event in trial["events"].as_array().unwrap() {
            assert!(number(&event["lost"]["refused"]) > 0, "{event}");
        }
        bench.demand_nothing_left();
    });
}

/// A command finds the server's folder, its first process and its address; what it prints is kept, and its failure makes the trial
/// invalid.
fn what_becomes_of_a_command_is_recorded() {
    let configuration = NGINX.replace("LISTEN", "").replace("STATUS", "7001");
    let ask = |text: &str| {
        let bench = command("nginx -p {dir} -e stderr -c nginx.conf")
            .set("server.files.\"nginx.conf\"", &configuration[..])
            .set("server.app", "http")
            .poisson(400.0)
            .duration("1s")
            .event(json!({ "kind": "exec", "at": "200ms", "command": text }))
            .bench();
        let code = if text.contains("exit") { 3 } else { 0 };
        let trial = bench.trials(code).remove(0);
        let output = trial["subject"]["output"].as_str().map(|file| fs::read_to_string(bench.path("out").join(file)));
        bench.demand_nothing_left();
        (trial, output.transpose().unwrap().unwrap_or_default())
    };
    let (trial, output) = ask("sh -c 'echo it is {pid} at {address}:{port}; test $(pwd) = {dir}; cat nginx.pid'");
    let master = trial["workers"].as_array().unwrap().iter().find(|row| row["supervises"] == true).unwrap();
    assert!(output.contains(&format!("it is {} at 127.0.0.1:", master["pid"])), "{output}");
    let done = &trial["events"][0]["done"];
    assert!(done["error"].is_null() && done["exit"] == "ok" && done["lasted_s"].as_f64() > Some(0.0), "{done}");

    let (trial, output) = ask("sh -c 'echo too bad; exit 7'");
    assert!(output.contains("too bad\n"), "{output}");
    assert_eq!(trial["events"][0]["done"]["exit"], "exit status 7");
    assert!(verdicts(&trial).contains(&"event-failed"), "{}", trial["verdicts"]);

    // It only shows when it is to run.
    let (trial, _) = ask("/{port}/exit");
    let error = trial["events"][0]["done"]["error"].as_str().unwrap();
    assert!(error.starts_with("`event.command`: starting `/") && error.contains("/exit`: No such file"), "{error}");
    assert!(verdicts(&trial).contains(&"event-failed"), "{}", trial["verdicts"]);
}

/// The oldest of its processes gets the signal.
fn a_running_nginx_reloads_at_a_signal() {
    let bench = Bench::new("");
    let (_nginx, port, _) = running_nginx(&bench);
    let running = || scenario().set("server.subject", "running").set("network", "host").set("port", port);
    when_undisturbed(|| {
        let load = reloading(running(), json!({ "kind": "signal" })).bench();
        let trial = &load.trials(0)[0];
        assert_all_losses_have_a_cause(trial);
        assert_eq!(lost(trial), [0; 3]);
        assert_replaced(trial);
    });
    let load = reloading(running(), json!({ "kind": "exec", "command": "true" })).bench();
    let refused = load.run(&[]);
    assert_code(&refused, 2);
    assert!(
        stderr(&refused).contains("`event.0.kind`: \"exec\" requires server.subject = \"command\""),
        "{}",
        stderr(&refused)
    );
}

/// A server with a listener that it serves, one from which it accepts without an answer, and one from which it never accepts. A hangup
/// ends the second and the third: it says how many connections it then cuts off, and how many wait in the queue that it closes.
fn each_cause_of_a_loss_is_counted_by_itself() {
    const SERVER: &str = "import select, signal, socket, struct
def listener():
    it = socket.socket()
    it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    it.bind(('{address}', {port}))
    it.listen(256)
    return it
told = []
signal.signal(signal.SIGHUP, lambda *_: told.append(1))
serves, holds, waits = listener(), listener(), listener()
held = []
while True:
    for it in select.select([it for it in (serves, holds) if it], [], [], 0.01)[0]:
        connection, _ = it.accept()
        if it is holds:
            held.append(connection)
        else:
            connection.recv(4096)
            connection.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok')
            connection.close()
    if told and waits:
        queued = struct.unpack('I', waits.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[24:28])[0]
        print('cut', len(held), 'queued', queued, '.', flush=True)
        holds.close()
        for connection in held:
            connection.close()
        waits.close()
        holds = waits = None
";
    let bench = command("python3 -u server.py")
        .set("server.files.\"server.py\"", SERVER)
        .set("server.app", "http")
        .set("answers", json!(["event_lost"]))
        .burst(90)
        .each("sysctl.tcp_migrate_req", [0, 1])
        .event(json!({ "kind": "signal", "at": "1s" }))
        .bench();
    let output = bench.run(&[]);
    assert_code(&output, 0);
    for trial in bench.read_trials() {
        assert_all_losses_have_a_cause(&trial);
        let printed = fs::read_to_string(bench.path("out").join(trial["subject"]["output"].as_str().unwrap())).unwrap();
        let words: Vec<&str> = printed.split_whitespace().collect();
        let after =
            |word: &str| -> u64 { words[words.iter().position(|known| *known == word).unwrap() + 1].parse().unwrap() };
        let (cut, queued) = (after("cut"), after("queued"));
        assert!(cut > 0 && queued > 0, "the kernel's hash gives each a share: {printed}");
        let migrates = trial["cell"]["tcp_migrate_req"] == 1;
        assert_eq!(lost(&trial), [if migrates { 0 } else { queued }, 0, cut], "{printed}");
        let event = &trial["events"][0];
        assert_eq!(number(&event["migrated"]["success"]), if migrates { queued } else { 0 }, "{event}");
        assert!(event["drain_s"].is_null() && trial["workers"][0]["generation"] == 0, "nothing was replaced: {event}");
        let lost: u64 = lost(&trial).iter().sum();
        assert!(
            stdout(&output).replace("\n", " ").contains(&format!("{lost} of 90 connections")),
            "{}",
            stdout(&output)
        );
    }
}
