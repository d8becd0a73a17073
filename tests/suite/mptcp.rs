//! Connections by Multipath TCP, those that fall back to plain TCP, and peers that never asked.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    common::{
        Bench, Scenario, Server, assert_balanced, assert_code, number, read_json, scenario, stderr, stdout,
        strategies_without, verdicts, words,
    },
    requires,
};

tests! {
    nothing [
        what_the_kernel_refuses_is_refused_first,
        the_doctor_says_whether_the_kernel_has_it,
    ]
    mptcp [
        every_strategy_and_engine_speaks_it,
        every_end_of_a_connection_leaves_it_known,
        listeners_come_and_go,
        connections_whose_syns_were_lost_fall_back,
        a_server_without_it_makes_all_fall_back,
        clients_without_it_are_counted,
        a_network_without_it_is_refused,
    ]
    mptcp_and_socat [
        socat_speaks_it_or_does_not,
        socat_is_a_client_with_it_and_without,
    ]
    mptcp_and_nginx [
        nginx_without_it_makes_all_fall_back,
    ]
    root_and_mptcp [
        waits_are_exact_over_a_pair_of_devices,
    ]
}

fn load(connections: u64) -> Scenario {
    scenario().workers(3).closed(8, connections).set("load.loaders", 2).set("protocol", "mptcp")
}

/// The clients' count of connections that fell back, those reset too early to tell, and the server's count.
fn fallbacks(trial: &Value) -> [u64; 3] {
    ["fell_back", "fallback_unknown", "accepted_fell_back"].map(|name| number(&trial["connections"][name]))
}

/// All connections asked for MPTCP, got it, and were served.
fn assert_multipath(trial: &Value, connections: u64) {
    assert_balanced(trial);
    assert_eq!(trial["outcome"], "valid", "{}: {} {}", trial["cell"], trial["verdicts"], trial["error"]);
    assert_eq!(number(&trial["connections"]["completed"]), connections, "{}", trial["cell"]);
    assert_eq!(fallbacks(trial), [0; 3], "{}: {}", trial["cell"], trial["connections"]);
    for name in ["MPCapableSYNTX", "MPCapableSYNRX"] {
        assert!(number(&trial["kernel"][name]) >= connections, "{}: {}", trial["cell"], trial["kernel"]);
    }
    let limits = trial["workers"].as_array().unwrap().iter().map(|row| row["queue_limit"].as_u64());
    assert!(limits.clone().all(|limit| limit.is_some()), "a queue that nobody saw: {:?}", limits.collect::<Vec<_>>());
}

fn every_strategy_and_engine_speaks_it() {
    let bench = load(60)
        .each("server.strategy", strategies_without("not over MPTCP"))
        .each("load.engine", ["mio", "auto"])
        .bench();
    let trials = bench.trials(0);
    assert!(trials.len() >= 20, "{}", trials.len());
    trials.iter().for_each(|trial| assert_multipath(trial, 60));
    // The first request brings the keys where the handshake's acknowledgement waits for it.
    assert_multipath(&load(60).set("load.quickack", false).bench().trials(0)[0], 60);
    let report = words(&stdout(&bench.command(&["report", "out"]).output().unwrap()));
    assert!(
        report.contains("connections for which clients asked for MPTCP") && !report.contains("fell-back"),
        "{report}"
    );
}

fn every_end_of_a_connection_leaves_it_known() {
    let bench = load(40)
        .set("load.requests", 2)
        .each("load.close_by", ["client", "server"])
        .each("load.close_how", ["fin", "rst"])
        .each("load.engine", ["mio", "auto"])
        .bench();
    bench.trials(0).iter().for_each(|trial| assert_multipath(trial, 40));
    let recycled = load(40).set("load.close_how", "rst").set("load.sockets", "recycled").bench();
    assert_multipath(&recycled.trials(0)[0], 40);
    let silent = load(40).set("server.app", "connect").each("load.hold", ["0s", "5ms"]).bench();
    silent.trials(0).iter().for_each(|trial| assert_multipath(trial, 40));
    // The kernel makes those plain TCP's that are reset before anything was sent.
    let closed = load(40).set("server.app", "close").each("load.close_how", ["fin", "rst"]).bench();
    for trial in closed.trials(0) {
        let [fell_back, unknown, accepted] = fallbacks(&trial);
        let resets = trial["cell"]["close_how"] == "rst";
        assert_eq!((fell_back, accepted), (0, 0), "{}: {}", trial["cell"], trial["connections"]);
        assert!(resets || unknown == 0, "{}: {unknown}", trial["cell"]);
        assert_balanced(&trial);
    }
}

fn listeners_come_and_go() {
    for how in ["inherit", "reopen"] {
        let bench = scenario()
            .set("protocol", "mptcp")
            .strategy("reuseport")
            .workers(2)
            .constant(200.0)
            .duration("1s")
            .event(json!({ "kind": "reload", "how": how, "at": "500ms", "drain": "5s" }))
            .bench();
        let trial = &bench.trials(0)[0];
        assert_balanced(trial);
        assert_eq!(fallbacks(trial), [0; 3], "{how}: {}", trial["connections"]);
        let generations = trial["workers"].as_array().unwrap().iter().map(|row| number(&row["generation"]));
        assert_eq!(generations.max(), Some(1), "{how}");
    }
}

/// The kernel leaves the option out of the third SYN that it sends again. Both sides count the same.
fn connections_whose_syns_were_lost_fall_back() {
    let bench = scenario()
        .set("protocol", "mptcp")
        .strategy("shared-epoll")
        .workers(2)
        .set("server.backlog", 2)
        .set("server.accept_delay", "6s")
        .burst(12)
        .set("answers", vec!["fell_back_share"])
        .bench();
    let output = bench.run(&[]);
    assert_code(&output, 0);
    let trial = &bench.read_trials()[0];
    assert_balanced(trial);
    let [fell_back, unknown, accepted] = fallbacks(trial);
    assert!(fell_back > 0, "{}", trial["kernel"]);
    assert_eq!((accepted, unknown), (fell_back, 0), "{}", trial["connections"]);
    assert_eq!(number(&trial["kernel"]["MPCapableSYNRX"]), 12 - fell_back, "{}", trial["kernel"]);
    let by_worker: u64 = trial["workers"].as_array().unwrap().iter().map(|row| number(&row["fell_back"])).sum();
    assert_eq!(by_worker, accepted);
    assert!(verdicts(trial).contains(&"fell-back"), "{}", trial["verdicts"]);
    let said = words(&stdout(&output));
    assert!(said.contains(&format!("{fell_back} of 12 connections fell back to TCP")), "{said}");
    let summary = read_json(&bench.path("out").join("summary.json"));
    let share = summary["cells"][0]["metrics"]["fell_back_share"]["median"].as_f64().unwrap();
    assert!((share - fell_back as f64 / 12.0).abs() < 1e-9, "{share}");
}

/// Our own server, with listeners of plain TCP.
fn a_server_without_it_makes_all_fall_back() {
    let bench = Bench::new("server.workers = 2\nserver.app = \"http\"\nload.concurrency = 4\nload.connections = 80");
    let server = Server::start(&bench, &[]);
    let target = format!("http://127.0.0.1:{}/", server.port);
    for engine in ["mio", "auto"] {
        let set = format!("--set=load.engine={engine}");
        let (trial, report) = bench.load_and_report(&target, &["--set=protocol=mptcp", &set], 0);
        let connections = &trial["connections"];
        assert_eq!((&connections["established"], &connections["fell_back"]), (&json!(80), &json!(80)), "{connections}");
        assert!(connections["accepted_fell_back"].is_null(), "{connections}");
        assert!(verdicts(&trial).contains(&"fell-back"), "{}", trial["verdicts"]);
        assert!(words(&report).contains("80 of 80 connections fell back to TCP"), "{report}");
    }
    let trial = bench.load(&target, &[], 0);
    assert!(trial["connections"]["fell_back"].is_null(), "nobody asked: {}", trial["connections"]);
}

/// Ends a server, and returns what its workers accepted, and how much of that by plain TCP.
fn accepted_and_plain(server: &mut Server) -> (u64, u64) {
    kill(Pid::from_raw(server.child.id() as i32), Signal::SIGINT).unwrap();
    let mut said = String::new();
    server.child.stdout.as_mut().unwrap().read_to_string(&mut said).unwrap();
    let rows = said.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.first()?.parse::<usize>().ok()?;
        Some((words.get(1)?.parse::<u64>().ok()?, words.last()?.parse::<u64>().ok()?))
    });
    assert!(said.contains("by plain TCP"), "{said}");
    rows.fold((0, 0), |(all, plain), row| (all + row.0, plain + row.1))
}

fn clients_without_it_are_counted() {
    let bench = Bench::new("server.workers = 2\nserver.app = \"http\"\nload.concurrency = 4\nload.connections = 30");
    for strategy in ["shared-epoll", "shared-threads", "dispatcher"] {
        let mut server = Server::start(&bench, &["protocol=mptcp", &format!("server.strategy={strategy}")]);
        let target = format!("http://127.0.0.1:{}/", server.port);
        bench.load(&target, &[], 0);
        let trial = bench.load(&target, &["--set=protocol=mptcp"], 0);
        assert_eq!(trial["connections"]["fell_back"], 0, "{}", trial["connections"]);
        assert_eq!(accepted_and_plain(&mut server), (60, 30), "{strategy}");
    }
}

fn what_the_kernel_refuses_is_refused_first() {
    for (text, key, says) in [
        ("server.strategy = \"reuseport-cpu\"", "`server.strategy`", "a program chooses the listener"),
        ("server.strategy = \"reuseport-least\"", "`server.strategy`", "a program chooses the listener"),
        ("server.strategy = \"reuseport-cid\"", "`server.strategy`", "have none"),
        ("kind = \"ports\"", "`protocol`", "has no effect"),
    ] {
        let output = Bench::new(&format!("protocol = \"mptcp\"\n{text}")).run(&[]);
        assert_code(&output, 2);
        let said = stderr(&output);
        assert!(said.contains("scenario.toml:") && said.contains(key) && said.contains(says), "{text}: {said}");
    }
}

fn a_network_without_it_is_refused() {
    for more in ["", "server.subject = \"command\"\nserver.command = \"sleep 100\"\n"] {
        let bench = Bench::new(&format!("protocol = \"mptcp\"\n{more}sysctl.net.mptcp.enabled = 0"));
        let output = bench.run(&[]);
        assert_code(&output, 2);
        let said = stderr(&output);
        assert!(said.contains("scenario.toml:1: `protocol`") && said.contains("net.mptcp.enabled=1"), "{said}");
    }
}

fn the_doctor_says_whether_the_kernel_has_it() {
    let output = Bench::new("").command(&["doctor", "--json"]).output().unwrap();
    let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = checks.as_array().unwrap().iter().find(|check| check["name"] == "MPTCP").unwrap();
    let expected = if requires::mptcp() { "ok" } else { "limited" };
    assert_eq!(found["status"], expected, "{found}");
}

/// The numbers of an IPv4 address and port as socat's generic addresses take them.
fn sockaddr(port: u16) -> String {
    format!("x{port:04x}7f000001{}", "0".repeat(16))
}

fn socat_speaks_it_or_does_not() {
    const PORT: u16 = 7_003;
    for (listen, expected) in
        [(format!("SOCKET-LISTEN:2:262:{}", sockaddr(PORT)), 0), (format!("TCP4-LISTEN:{PORT},bind=127.0.0.1"), 20)]
    {
        let bench = scenario()
            .closed(2, 20)
            .set("protocol", "mptcp")
            .set("port", PORT)
            .set("server.subject", "command")
            .set("server.command", format!("socat {listen},fork,reuseaddr,backlog=128 EXEC:cat"))
            .set("server.app", "line")
            .set("load.send", "hello\\n")
            .set("load.expect", "hello")
            .bench();
        let trial = &bench.trials(0)[0];
        let connections = &trial["connections"];
        assert_eq!(connections["completed"], 20, "{connections}");
        assert_eq!(connections["fell_back"], expected, "{listen}: {connections}");
        assert_eq!(connections["fallback_unknown"], 0, "{listen}: {connections}");
        // Whatever it speaks, a probe sees what it accepts.
        let accepted = connections["accepted"].as_u64();
        assert!(accepted.is_none_or(|accepted| accepted == 20), "{listen}: {connections}");
        assert_eq!(verdicts(trial).contains(&"fell-back"), expected > 0, "{}", trial["verdicts"]);
    }
}

fn socat_is_a_client_with_it_and_without() {
    let bench = Bench::new("protocol = \"mptcp\"\nserver.app = \"http\"\nserver.strategy = \"reuseport\"");
    let mut server = Server::start(&bench, &[]);
    let port = server.port;
    for to in [
        format!("SOCKET-CONNECT:2:262:{}", sockaddr(port)),
        format!("TCP4:127.0.0.1:{port}"),
        format!("TCP4:127.0.0.1:{port}"),
    ] {
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let mut socat =
            Command::new("socat").args(["-t5", "-", &to]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        socat.stdin.take().unwrap().write_all(request).unwrap();
        let output = socat.wait_with_output().unwrap();
        assert!(output.stdout.starts_with(b"HTTP/1.1 200"), "{to}: {}", stderr(&output));
    }
    assert_eq!(accepted_and_plain(&mut server), (3, 2));
}

fn nginx_without_it_makes_all_fall_back() {
    let configuration = "worker_processes 2; pid nginx.pid; error_log stderr; daemon off; events { }
http { access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fcgi; uwsgi_temp_path uwsgi;
scgi_temp_path scgi; server { listen 127.0.0.1:7000; return 200 ok; } }";
    let bench = scenario()
        .closed(4, 60)
        .set("protocol", "mptcp")
        .set("server.subject", "command")
        .set("server.command", "nginx -p {dir} -c nginx.conf -e stderr")
        .set("server.files.\"nginx.conf\"", configuration)
        .set("server.app", "http")
        .bench();
    let trial = &bench.trials(0)[0];
    let connections = &trial["connections"];
    assert_eq!((&connections["completed"], &connections["fell_back"]), (&json!(60), &json!(60)), "{connections}");
    assert!(verdicts(trial).contains(&"fell-back"), "{}", trial["verdicts"]);
}

fn waits_are_exact_over_a_pair_of_devices() {
    let bench = load(60)
        .set("network", "veth")
        .set("stamps", "sock_ops")
        .each("address", ["198.18.0.1", "2001:2::1"])
        .each("server.strategy", ["shared-epoll", "reuseport", "reuseport-incoming-cpu"])
        .bench();
    for trial in bench.trials(0) {
        assert_multipath(&trial, 60);
        let wait = &trial["latency_ns"]["accept_wait"];
        assert_eq!((&wait["method"], &wait["count"]), (&json!("sock_ops"), &json!(60)), "{}: {wait}", trial["cell"]);
    }
}
