//! Servers that listen on Unix sockets: our own with every strategy that can, and those that people run.

use std::{
    fs,
    io::ErrorKind,
    os::unix::net::UnixListener,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    common::{
        Bench, Scenario, assert_balanced, assert_code, errors, number, scenario, stderr, strategies, verdicts,
        wait_until,
    },
    requires::root,
};

tests! {
    nothing [
        every_strategy_with_one_listener_accepts_and_balances,
        every_app_is_served_and_the_server_may_close_first,
        a_path_and_a_name_are_compared_with_a_port,
        a_full_queue_refuses_at_once,
        clients_that_block_wait_for_room,
        messages_arrive_whole_with_every_app_and_strategy,
        every_reply_takes_time,
        what_is_accepted_later_was_waiting,
        workers_join_and_are_replaced,
        a_file_that_is_in_the_way_is_refused,
        serve_and_load_meet_at_a_path_and_a_name,
        what_belongs_to_networks_is_refused,
        nothing_that_listens_is_an_error,
        a_folder_that_is_too_deep_is_refused,
    ]
    gunicorn [gunicorn_serves_as_many_as_loaders_count]
    nginx [nginx_serves_as_many_as_loaders_count]
    socat [
        socat_echoes_at_a_path_and_at_a_name,
        socat_echoes_messages,
    ]
}

const ENGINES: [&str; 2] = ["mio", "uring"];

fn load(connections: u64) -> Scenario {
    scenario().workers(3).closed(16, connections).set("load.loaders", 2)
}

/// Every connection was served by a worker that knew its client.
fn assert_served(trial: &Value, connections: u64) {
    assert_balanced(trial);
    let cell = &trial["cell"];
    assert_eq!(trial["outcome"], "valid", "{cell}: {} {}", trial["verdicts"], trial["error"]);
    let counts = &trial["connections"];
    assert_eq!(number(&counts["completed"]), connections, "{cell}: {counts}");
    assert_eq!(number(&counts["accepted"]), connections, "{cell}: {counts}");
    let wait = &trial["latency_ns"]["accept_wait"];
    assert_eq!((number(&wait["count"]), &wait["method"]), (connections, &json!("connect-call")), "{cell}: {wait}");
}

fn of_one_listener() -> Vec<String> {
    let all = strategies().into_iter().filter(|name| !name.starts_with("reuseport"));
    let all: Vec<String> = all.collect();
    assert!(all.len() >= 8, "{all:?}");
    all
}

fn every_strategy_with_one_listener_accepts_and_balances() {
    let bench = load(120)
        .set("address", "unix:{dir}/app.sock")
        .each("server.strategy", of_one_listener())
        .each("load.engine", ENGINES.to_vec())
        .bench();
    for trial in bench.trials(0) {
        assert_served(&trial, 120);
        assert_eq!(number(&trial["connections"]["verified"]), 120, "{}", trial["connections"]);
        let bound = &trial["subject"]["bound"];
        assert_eq!(bound[0]["address"], "unix:{dir}/app.sock", "{bound}");
        let peaks = trial["workers"].as_array().unwrap().iter().map(|row| row["queue_limit"].as_u64());
        assert!(peaks.clone().any(|limit| limit == Some(1_024)), "{}: {:?}", trial["cell"], peaks.collect::<Vec<_>>());
        assert_eq!((number(&trial["usable_ports"]), number(&trial["ports_peak"])), (0, 0));
    }
    bench.demand_nothing_left();
}

fn every_app_is_served_and_the_server_may_close_first() {
    let bench = load(60)
        .set("address", "unix:@apps")
        .set("load.requests", 3)
        .each("load.close_by", ["client", "server"].to_vec())
        .each("server.app", ["echo", "http"].to_vec())
        .each("load.engine", ENGINES.to_vec())
        .bench();
    for trial in bench.trials(0) {
        assert_served(&trial, 60);
        assert_eq!(number(&trial["connections"]["replies"]), 180, "{}", trial["cell"]);
    }
    let silent = load(60).set("address", "unix:@apps").each("server.app", ["close", "connect"].to_vec()).bench();
    for trial in silent.trials(0) {
        assert_balanced(&trial);
        assert_eq!(number(&trial["connections"]["completed"]), 60, "{}: {}", trial["cell"], trial["connections"]);
    }
}

fn a_path_and_a_name_are_compared_with_a_port() {
    let bench = load(60)
        .set("load.close_how", "rst")
        .set("server.nodelay", true)
        .set("stamps", "connect-call")
        .strategy("shared-epoll")
        .each("address", ["127.0.0.1", "unix:{dir}/a", "unix:@a"].to_vec())
        .bench();
    let trials = bench.trials(0);
    assert_eq!(trials.len(), 3);
    for trial in &trials {
        assert_served(trial, 60);
    }
    let output = bench.command(&["report", "out"]).output().unwrap();
    let summary = fs::read_to_string(bench.path("out/summary.md")).unwrap();
    assert!(output.status.success() && summary.contains("unix:@a"), "{summary}");
    // What was run can be run again.
    assert_code(&bench.command(&["run", "out/scenario.toml", "--out", "again"]).output().unwrap(), 0);
}

/// With nobody accepting, the queue holds one more than the backlog, and all others are refused at once.
fn a_full_queue_refuses_at_once() {
    const CLIENTS: u64 = 20;
    let bench = scenario()
        .workers(3)
        .closed(CLIENTS as usize, CLIENTS)
        .set("load.loaders", 2)
        .set("address", "unix:@full")
        .set("server.accept_delay", "1h")
        .set("load.reply_timeout", "500ms")
        .set("load.warmup", "0s")
        .each("server.backlog", [0, 1, 5, 100].to_vec())
        .bench();
    let trials = bench.trials(3);
    assert_eq!(trials.len(), 4);
    for trial in trials {
        assert_balanced(&trial);
        let backlog = number(&trial["cell"]["backlog"]);
        let expected = CLIENTS.min(backlog + 1);
        let counts = &trial["connections"];
        assert_eq!(number(&counts["established"]), expected, "{backlog}: {counts}");
        assert_eq!(number(&counts["left_in_queue"]), expected, "{backlog}: {counts}");
        assert_eq!(errors(&trial, "connect", "EAGAIN"), CLIENTS - expected, "{backlog}: {counts}");
        assert_eq!(number(&trial["workers"][0]["queue_limit"]), backlog);
    }
}

/// A queue of six, and twenty clients of which each waits in connect until there is room.
fn clients_that_block_wait_for_room() {
    const CLIENTS: u64 = 20;
    let blocking = || {
        scenario()
            .workers(1)
            .strategy("shared-epoll")
            .closed(CLIENTS as usize, CLIENTS)
            .set("load.loaders", CLIENTS)
            .set("load.connect", "blocking")
            .set("load.warmup", "0s")
            .set("address", "unix:@blocking")
            .set("server.backlog", 5)
    };
    let bench = blocking().set("server.accept_delay", "500ms").bench();
    let trial = &bench.trials(0)[0];
    assert_served(trial, CLIENTS);
    assert_eq!(number(&trial["workers"][0]["queue_peak"]), 6, "{}", trial["workers"]);

    // Nobody ever accepts.
    let bench = blocking()
        .set("server.accept_delay", "1h")
        .set("load.connect_timeout", "300ms")
        .set("load.reply_timeout", "500ms")
        .bench();
    let trial = &bench.trials(3)[0];
    assert_balanced(trial);
    assert_eq!(number(&trial["connections"]["left_in_queue"]), 6, "{}", trial["connections"]);
    assert_eq!(errors(trial, "connect", "ETIMEDOUT"), CLIENTS - 6, "{}", trial["connections"]);
}

/// Requests and replies of the most bytes that a message may have are messages.
fn messages_arrive_whole_with_every_app_and_strategy() {
    for app in ["echo", "close", "connect"] {
        let bench = load(60).set("address", "unixpacket:{dir}/m.sock").set("server.app", app);
        let bench = match app {
            "echo" => {
                bench.set("server.request_bytes", 65_536).set("server.reply_bytes", 65_536).set("load.requests", 3)
            }
            _ => bench,
        };
        let bench = bench.each("server.strategy", of_one_listener()).bench();
        for trial in bench.trials(0) {
            assert_balanced(&trial);
            assert_eq!(
                number(&trial["connections"]["completed"]),
                60,
                "{app} {}: {}",
                trial["cell"],
                trial["connections"]
            );
        }
    }
    let bench = load(60).set("address", "unixpacket:@m").set("server.backlog", 5).set("server.accept_delay", "1h");
    let bench = bench.set("load.reply_timeout", "300ms").set("load.warmup", "0s").bench();
    let trial = &bench.trials(3)[0];
    assert_eq!(number(&trial["connections"]["left_in_queue"]), 6, "{}", trial["connections"]);
    assert!(errors(trial, "connect", "EAGAIN") > 0, "{}", trial["connections"]);
}

/// What is read until nothing is left may be the reply to a request that was sent between two reads.
fn every_reply_takes_time() {
    let packets = load(60).set("address", "unixpacket:{dir}/m.sock");
    let datagrams = scenario().workers(2).closed(4, 60).set("protocol", "udp");
    for bench in [packets, datagrams] {
        let bench = bench.set("load.requests", 8).bench();
        for trial in bench.trials(0) {
            assert_balanced(&trial);
            for latency in ["response", "service"] {
                let summary = &trial["latency_ns"][latency];
                assert!(number(&summary["min"]) > 0, "{} {latency}: {summary}", trial["cell"]);
            }
        }
    }
}

/// Its listener takes SOCK_SEQPACKET (`type=5`).
fn socat_echoes_messages() {
    let bench = scenario().closed(2, 20).set("server.app", "echo").bench();
    let path = bench.path("socat.sock");
    let listen = format!("UNIX-LISTEN:{},type=5,fork,backlog=50", path.display());
    let mut socat = Command::new("socat").args([&listen, "EXEC:cat"]).stdin(Stdio::null()).spawn().unwrap();
    wait_until("socat to listen", || path.exists());
    let trial = bench.load(&format!("unixpacket:{}", path.display()), &[], 0);
    // A socket of the other kind is at no stream's address.
    let stream = bench.command(&["load", &format!("unix:{}", path.display()), "--out=stream"]).output().unwrap();
    socat.kill().unwrap();
    socat.wait().unwrap();
    assert_clients_count(&trial, 20);
    assert_code(&stream, 1);
    assert!(stderr(&stream).contains("of another kind: write `unixpacket:`"), "{}", stderr(&stream));
}

fn what_is_accepted_later_was_waiting() {
    let bench = scenario()
        .burst(30)
        .workers(2)
        .set("address", "unix:{dir}/later.sock")
        .set("server.accept_delay", "300ms")
        .set("load.warmup", "0s")
        .bench();
    let trial = &bench.trials(0)[0];
    assert_served(trial, 30);
    assert!(
        trial["workers"].as_array().unwrap().iter().any(|row| number(&row["queue_peak"]) == 30),
        "{}",
        trial["workers"]
    );
}

fn workers_join_and_are_replaced() {
    for event in
        [json!({ "at": "200ms", "kind": "join" }), json!({ "at": "200ms", "kind": "reload", "how": "inherit" })]
    {
        let bench = scenario()
            .constant(300.0)
            .duration("600ms")
            // One worker cannot keep up with this load, so connections are waiting when the next one starts.
            .workers(1)
            .set("server.service_time", "5ms")
            .set("address", "unix:{dir}/events.sock")
            .strategy("shared-epoll")
            .event(event.clone())
            .bench();
        let trial = &bench.trials(0)[0];
        assert_balanced(trial);
        assert_eq!(trial["outcome"], "valid", "{event}: {} {}", trial["verdicts"], trial["error"]);
        let workers = trial["workers"].as_array().unwrap();
        assert_eq!(workers.len(), 2, "{event}");
        let later = workers.iter().filter(|row| number(&row["generation"]) > 0);
        assert!(later.map(|row| number(&row["accepted"])).sum::<u64>() > 0, "{event}: {workers:?}");
    }
}

fn a_file_that_is_in_the_way_is_refused() {
    let bench = load(10).set("network", "host").bench();
    let path = bench.path("a.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let set = format!("--set=address=unix:{}", path.display());
    let says = |text: &str| {
        let output = bench.run(&[&set]);
        assert_code(&output, 2);
        assert!(stderr(&output).contains(text), "{}", stderr(&output));
    };
    says("there is such a socket: stop the program that listens there, or remove the file if none does");
    listener.set_nonblocking(true).unwrap();
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "nobody is to connect for the sake of a message"
    );
    drop(listener);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "a text").unwrap();
    says("there is something else than a socket: choose another");
    fs::remove_file(&path).unwrap();
    let output = bench.run(&[&set]);
    assert_code(&output, 0);
    assert_served(&bench.read_trials()[0], 10);
    assert!(!path.exists(), "a trial removes its socket's file");
    let set = format!("--set=address=unix:{}/none/a", bench.folder.path().display());
    let output = bench.command(&["run", "scenario.toml", "--out=none", &set]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("there is no such folder"), "{}", stderr(&output));
}

fn serve_and_load_meet_at_a_path_and_a_name() {
    let bench = load(40).set("server.app", "http").bench();
    let path = bench.path("s.sock");
    let (by_path, by_name) = (format!("unix:{}", path.display()), format!("unix:@listenbench-{}", std::process::id()));
    for target in [&by_path, &by_name] {
        let mut child = bench.spawn(&["serve", "scenario.toml", &format!("--set=address={target}")]);
        let served = Started(&mut child);
        served.until_listening(&bench, target);
        let trial = bench.load(target, &[], 0);
        assert_eq!(trial["outcome"], "valid", "{} {}", trial["verdicts"], trial["error"]);
        let counts = &trial["connections"];
        assert_eq!((number(&counts["completed"]), number(&counts["verified"])), (40, 40), "{counts}");
        assert!(trial["subject"]["name"].as_str().unwrap().starts_with(&format!("{target} (lb:worker0")));
        assert_eq!(trial["listeners"].as_array().unwrap().len(), 1);
        drop(served);
        child.wait().unwrap();
        assert!(!path.exists(), "`serve` removes its socket's file");
    }
}

/// A server that is asked to end when this is dropped.
struct Started<'a>(&'a mut Child);

impl Started<'_> {
    fn until_listening(&self, bench: &Bench, target: &str) {
        let folder = bench.folder.path();
        let name = target.trim_start_matches("unix:");
        wait_until("the server to listen", || {
            let all = fs::read_to_string("/proc/net/unix").unwrap();
            all.lines().any(|line| line.ends_with(name)) && folder.exists()
        });
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    }
}

fn what_belongs_to_networks_is_refused() {
    let bench = load(10).set("address", "unix:@refused").bench();
    for (set, says) in [
        ("server.strategy=reuseport", "which Unix sockets cannot share"),
        ("network=veth", "packets of a veth pair cannot reach"),
        ("load.sockets=recycled", "no socket can connect again"),
        ("stamps=sock_ops", "no hook"),
        ("sysctl.tcp_tw_reuse=0", "is about IP"),
        ("address=unix:relative", "not an absolute path"),
    ] {
        let output = bench.run(&["--set", set]);
        assert_code(&output, 2);
        assert!(stderr(&output).contains(says), "{set}: {}", stderr(&output));
    }
    for (arguments, says) in [
        (&["serve", "scenario.toml", "--set=address=unix:{dir}/a"][..], "the folder of a trial's server"),
        (&["serve", "scenario.toml", "--bind=127.0.0.1"], "are about networks"),
        (&["observe", "unix:/a"], "ss -xl"),
        (&["load", "unix:a"], "not an absolute path"),
        (&["new", "--for=running", "--at=unix:/a"], "server.subject = \"running\""),
    ] {
        let output = bench.command(arguments).output().unwrap();
        assert_code(&output, 2);
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    }
}

fn nothing_that_listens_is_an_error() {
    let bench = load(10).bench();
    let output = bench.command(&["load", "unix:/nothing/listens/here", "--out=out"]).output().unwrap();
    assert_code(&output, 1);
    assert!(stderr(&output).contains("nothing listens on unix:/nothing/listens/here"), "{}", stderr(&output));
}

fn a_folder_that_is_too_deep_is_refused() {
    let bench = load(10).set("address", format!("unix:{{dir}}/{}", "x".repeat(60))).bench();
    let output = bench.run(&[]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("at most 107 bytes"), "{}", stderr(&output));
}

/// What another server got, as its clients count it, and, for root, as it accepted it.
fn assert_clients_count(trial: &Value, connections: u64) {
    assert_eq!(trial["outcome"], "valid", "{} {}", trial["verdicts"], trial["error"]);
    let counts = &trial["connections"];
    for (name, expected) in [("established", connections), ("completed", connections), ("left_in_queue", 0)] {
        assert_eq!(number(&counts[name]), expected, "{name}: {counts}");
    }
    let wait = &trial["latency_ns"]["accept_wait"];
    // An ordinary user cannot load the programs that count these.
    let [accepted, unaccounted, waits] =
        [connections, 0, connections].map(|count| if root() { json!(count) } else { Value::Null });
    assert_eq!((&counts["accepted"], &counts["unaccounted"]), (&accepted, &unaccounted), "{counts} {}", trial["probe"]);
    assert_eq!(wait["count"], waits, "{wait} {}", trial["probe"]);
    assert_eq!(counts["foreign"], 0, "{counts}");
    for row in trial["workers"].as_array().unwrap() {
        assert_eq!(row["open_peak"], Value::Null, "when a connection ends shows nowhere: {row}");
    }
    assert!(!verdicts(trial).contains(&"queue-stranded"));
}

fn command(command: &str) -> Scenario {
    scenario()
        .closed(4, 100)
        .workers(2)
        .set("address", "unix:{dir}/app.sock")
        .set("server.subject", "command")
        .set("server.app", "http")
        .set("server.command", command)
}

fn gunicorn_serves_as_many_as_loaders_count() {
    let app = "def app(environ, start):\n    start('200 OK', [('Content-Length', '2')])\n    return [b'hi']\n";
    let bench =
        command("gunicorn --workers {workers} --bind {address} app:app").set("server.ready_within", "60s").bench();
    let text = fs::read_to_string(bench.path("scenario.toml")).unwrap();
    fs::write(bench.path("scenario.toml"), format!("{text}[server.files]\n\"app.py\" = '''\n{app}'''\n")).unwrap();
    let trial = &bench.trials(0)[0];
    assert_clients_count(trial, 100);
    assert_eq!(number(&trial["connections"]["statuses"]["2xx"]), 100);
    // Two workers, and the process that has forked them.
    let members = trial["workers"].as_array().unwrap();
    assert_eq!(members.iter().filter(|member| member["comm"] == "gunicorn").count(), 3, "{members:?}");
    bench.demand_nothing_left();
}

fn nginx_serves_as_many_as_loaders_count() {
    let conf = "daemon off;\nworker_processes {workers};\npid nginx.pid;\nerror_log stderr;\nevents { }\nhttp {\n    access_log seen.log;\n    client_body_temp_path body; \
                proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n    \
                server { listen {address} backlog=64; location / { return 200 hi; } }\n}\n";
    let bench = command("nginx -p {dir} -e stderr -c nginx.conf").bench();
    let text = fs::read_to_string(bench.path("scenario.toml")).unwrap();
    fs::write(bench.path("scenario.toml"), format!("{text}[server.files]\n\"nginx.conf\" = '''\n{conf}'''\n")).unwrap();
    let trial = &bench.trials(0)[0];
    assert_clients_count(trial, 100);
    // What nginx says of it.
    let log = trial["subject"]["output"].as_str().expect("its access log is kept");
    let log = fs::read_to_string(bench.path("out").join(log)).unwrap();
    assert_eq!(log.matches("\"GET / HTTP/1.1\" 200").count(), 100, "{log}");
    let listeners = trial["listeners"].as_array().unwrap();
    assert_eq!(listeners.iter().map(|row| number(&row["queue_limit"])).collect::<Vec<_>>(), [64]);
}

fn socat_echoes_at_a_path_and_at_a_name() {
    let bench = scenario().closed(2, 20).set("server.app", "echo").bench();
    let path = bench.path("socat.sock");
    let name = format!("listenbench-socat-{}", std::process::id());
    for (listen, target) in [
        (format!("UNIX-LISTEN:{},fork,backlog=50", path.display()), format!("unix:{}", path.display())),
        (format!("ABSTRACT-LISTEN:{name},fork,backlog=50"), format!("unix:@{name}")),
    ] {
        let mut socat = Command::new("socat").args([&listen, "EXEC:cat"]).stdin(Stdio::null()).spawn().unwrap();
        let shown = target.trim_start_matches("unix:");
        wait_until("socat to listen", || {
            fs::read_to_string("/proc/net/unix").unwrap().lines().any(|line| line.ends_with(shown))
        });
        let trial = bench.load(&target, &[], 0);
        socat.kill().unwrap();
        socat.wait().unwrap();
        assert_clients_count(&trial, 20);
        assert_eq!(number(&trial["listeners"][0]["queue_limit"]), 50);
    }
}
