//! Workers' engines: whichever moves their connections' bytes, the same connections, the same replies, the same losses.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use serde_json::{Value, json};

use crate::common::{
    Bench, Server, assert_balanced, assert_code, errors, number, of_workers, scenario, stderr, strategies,
};

tests! {
    nothing [
        every_engine_balances_with_every_strategy,
        every_engine_balances_with_every_app,
        what_no_socket_buffer_takes_arrives_whole,
        pipelined_requests_are_answered_in_order,
        what_comes_in_pieces_is_one_request,
        messages_arrive_whole,
        workers_that_are_cut_off_lose_what_they_have_open,
        workers_that_leave_serve_what_they_have_open,
        a_killed_worker_loses_what_it_has_open,
        auto_takes_what_can_be_had_and_the_record_says_what,
    ]
}

const ENGINES: [&str; 2] = ["mio", "uring"];

fn demand_all(trial: &Value, connections: u64) {
    assert_balanced(trial);
    let counts = &trial["connections"];
    for name in ["attempted", "established", "completed"] {
        assert_eq!(counts[name], connections, "{name} of {}: {counts}", trial["cell"]);
    }
    // Clients that say nothing may have gone before a worker came to them.
    let taken = number(&counts["accepted"]) + number(&counts["left_in_queue"]);
    assert_eq!(taken, connections, "accepted of {}: {counts}", trial["cell"]);
    assert_eq!(counts["errors"], json!([]), "{}", trial["cell"]);
    demand_engine(trial);
}

/// Of workers; the record has no engine of what only accepts.
fn demand_engine(trial: &Value) {
    let of_rows = trial["workers"].as_array().unwrap().iter().map(|row| &row["engine"]);
    assert!(of_rows.clone().all(|engine| *engine == trial["cell"]["engine"]), "{}: {of_rows:?}", trial["cell"]);
}

/// Strategies that every engine can have.
fn able() -> Vec<String> {
    strategies().into_iter().filter(|name| name != "shared-epoll-exclusive").collect()
}

fn every_engine_balances_with_every_strategy() {
    let bench = scenario()
        .closed(8, 300)
        .workers(3)
        .set("load.requests", 2)
        .set("load.loaders", 2)
        .each("server.strategy", able())
        .each("server.engine", ENGINES)
        .each("load.close_by", ["client", "server"])
        .bench();
    for trial in bench.trials(0) {
        demand_all(&trial, 300);
        assert_eq!(trial["connections"]["verified"], 600, "{}", trial["cell"]);
        assert_eq!(of_workers(&trial, "requests").iter().sum::<u64>(), 600, "{}", trial["cell"]);
        assert_eq!(of_workers(&trial, "accepted").iter().sum::<u64>(), 300, "{}", trial["cell"]);
    }
}

fn every_engine_balances_with_every_app() {
    for (app, more) in [
        ("echo", vec![("load.proxy_protocol", json!(2)), ("server.service_time", json!("100us"))]),
        ("http", vec![("load.requests", json!(3))]),
        ("https", vec![("load.requests", json!(2))]),
        ("close", vec![]),
        ("connect", vec![("load.hold", json!("1ms")), ("server.service_time", json!("100us"))]),
    ] {
        let bench = scenario().closed(8, 150).set("server.app", app).set("load.close_how", "rst");
        let bench = more.into_iter().fold(bench, |bench, (key, value)| bench.set(key, value));
        let bench = bench.each("server.strategy", ["reuseport", "shared-epoll", "shared-threads"]);
        for trial in bench.each("server.engine", ENGINES).bench().trials(0) {
            demand_all(&trial, 150);
        }
    }
}

/// Replies and requests go out in as many parts as the sockets' buffers make of them, and the close after the last one.
fn what_no_socket_buffer_takes_arrives_whole() {
    let bench = scenario()
        .workers(2)
        .closed(8, 60)
        .set("sysctl.tcp_wmem", "4096 4608 4608")
        .set("sysctl.tcp_rmem", "4096 4608 8192")
        .set("server.request_bytes", 65_536)
        .set("server.reply_bytes", 65_536)
        .set("load.requests", 3)
        .each("server.engine", ENGINES)
        .each("load.close_by", ["client", "server"])
        .each("server.app", ["echo", "http"])
        .bench();
    for trial in bench.trials(0) {
        demand_all(&trial, 60);
        assert_eq!(trial["connections"]["verified"], 180, "{}", trial["cell"]);
    }
}

/// More than is answered together, and with a service time, one by one.
fn pipelined_requests_are_answered_in_order() {
    const REQUESTS: usize = 300;
    for (engine, time) in [("mio", "0s"), ("uring", "0s"), ("uring", "10us")] {
        let bench = Bench::new("");
        let sets = [
            "server.app=http".to_owned(),
            "server.reply_bytes=1000".to_owned(),
            format!("server.engine={engine}"),
            format!("server.service_time={time}"),
        ];
        let server = Server::start(&bench, &sets.each_ref().map(String::as_str));
        let mut client = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let request = |number: usize| format!("GET / HTTP/1.1\r\nX-Nonce: {number:08x}\r\n\r\n");
        let last = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
        let all: String = (0..REQUESTS).map(request).chain([last.to_owned()]).collect();
        client.write_all(all.as_bytes()).unwrap();
        let mut replies = String::new();
        client.read_to_string(&mut replies).unwrap();
        assert_eq!(replies.matches("HTTP/1.1 200 OK").count(), REQUESTS + 1, "{engine}");
        assert_eq!(replies.matches("X-Receipt: ").count(), REQUESTS, "{engine}");
        assert!(replies.ends_with(".\n"), "{engine}");
    }
}

fn what_comes_in_pieces_is_one_request() {
    for engine in ENGINES {
        let bench = Bench::new("");
        let server =
            Server::start(&bench, &["server.app=http", "server.reply_bytes=7", &format!("server.engine={engine}")]);
        let mut client = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        client.set_nodelay(true).unwrap();
        for piece in ["GET / HT", "TP/1.1\r\n", "Host: a\r\n", "\r\n"] {
            client.write_all(piece.as_bytes()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        client.shutdown(Shutdown::Write).unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200 OK") && reply.ends_with("......\n"), "{engine}: {reply}");
    }
}

/// The longest messages, each of which is received at once.
fn messages_arrive_whole() {
    let bench = scenario()
        .closed(4, 40)
        .set("address", "unixpacket:{dir}/app.sock")
        .set("server.strategy", "shared-epoll")
        .set("server.request_bytes", 60_000)
        .set("server.reply_bytes", 60_000)
        .set("load.requests", 3)
        .each("server.engine", ENGINES)
        .bench();
    for trial in bench.trials(0) {
        demand_all(&trial, 40);
    }
}

fn workers_that_are_cut_off_lose_what_they_have_open() {
    let bench =
        held().workers(2).event(json!({ "kind": "reload", "how": "inherit", "at": "1s", "drain": "200ms" })).bench();
    demand_cut(&bench);
}

/// That each trial's connections have all been answered, and then ended by the server.
fn demand_cut(bench: &Bench) {
    bench.run(&[]);
    let trials = bench.read_trials();
    assert_eq!(trials.len(), 4);
    for trial in &trials {
        assert_balanced(trial);
        demand_engine(trial);
        assert_eq!(errors(trial, "close", "EOF"), 40, "{}: {}", trial["cell"], trial["connections"]);
        assert_eq!(trial["connections"]["verified"], 40, "{}", trial["cell"]);
    }
}

fn workers_that_leave_serve_what_they_have_open() {
    let bench =
        held().workers(2).event(json!({ "kind": "reload", "how": "inherit", "at": "1s", "drain": "20s" })).bench();
    for trial in bench.trials(0) {
        demand_all(&trial, 40);
        assert_eq!(trial["latency_ns"]["follow_up"]["count"], 40, "{}", trial["cell"]);
    }
}

fn a_killed_worker_loses_what_it_has_open() {
    demand_cut(&held().workers(1).event(json!({ "kind": "kill", "worker": 0, "at": "1s" })).bench());
}

/// Connections that are all open at one second, and ask once more after two.
fn held() -> crate::common::Scenario {
    scenario()
        .burst(40)
        .set("load.hold", "3s")
        .set("load.follow_up", "2s")
        .each("server.engine", ENGINES)
        .each("server.strategy", ["shared-epoll", "reuseport-uring"])
}

fn auto_takes_what_can_be_had_and_the_record_says_what() {
    let doctor = Bench::new("").command(&["doctor", "--json"]).output().unwrap();
    let checks: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let check = checks.as_array().unwrap().iter().find(|check| check["name"] == "server engine").unwrap();
    let best = if check["status"] == "ok" { "uring" } else { "mio" };
    let bench = scenario().connections(20).set("server.engine", "auto").each("protocol", ["tcp", "tcp+udp"]).bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(trial["workers"][0]["engine"], best, "{}", trial["cell"]);
    }
    let exclusive = scenario().connections(20).set("server.engine", "auto").strategy("shared-epoll-exclusive").bench();
    assert_eq!(exclusive.trials(0)[0]["workers"][0]["engine"], "mio");
    let datagrams = Bench::new("protocol = \"udp\"\nserver.engine = \"uring\"").run(&[]);
    assert_code(&datagrams, 2);
    assert!(stderr(&datagrams).contains("`server.engine` has no effect"), "{}", stderr(&datagrams));
}
