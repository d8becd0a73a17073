//! Connections that take unusual ways are counted by name, and the sums hold.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::{Output, id},
};

use crate::common::{
    Bench, Scenario, assert_balanced, assert_code, errors, free_port, number, scenario, stderr, stdout, verdicts,
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

tests! {
    nothing [
        a_socket_connected_to_itself_is_closed_and_counted_apart,
        cookies_and_both_queues_have_names,
        a_queue_of_one_connection_is_full,
        a_process_that_joins_the_listeners_is_named,
        a_process_that_joins_the_datagram_sockets_is_named,
        connections_of_another_program_are_not_a_loaders,
        a_damaged_record_is_found_out,
    ]
}

fn connections<'a>(trial: &'a Value, name: &str) -> &'a Value {
    &trial["connections"][name]
}

fn count(trial: &Value, name: &str) -> u64 {
    number(connections(trial, name))
}

fn detail<'a>(trial: &'a Value, verdict: &str) -> Option<&'a str> {
    let found = trial["verdicts"].as_array().unwrap().iter().find(|given| given["name"] == verdict)?;
    found["detail"].as_str()
}

/// The server's port is in the ephemeral range and its worker dies: sooner or later a client gets that port as its own.
fn a_socket_connected_to_itself_is_closed_and_counted_apart() {
    for (address, engine) in [("127.0.0.1", "mio"), ("127.0.0.1", "uring"), ("::1", "mio")] {
        let bench = scenario()
            .workers(1)
            .set("address", address)
            .set("port", 40_004)
            .closed(4, 1_000)
            .set("load.engine", engine)
            .set("load.close_how", "rst")
            .set("sysctl.ip_local_port_range", "40000 40015")
            // However late the kill comes, nobody is served before.
            .set("server.accept_delay", "1h")
            .event(serde_json::json!({"kind": "kill", "worker": 0, "at": "0s"}))
            .bench();
        bench.run(&[]);
        let trials = bench.read_trials();
        let trial = &trials[0];
        assert_balanced(trial);
        let itself = count(trial, "self_connected");
        assert!(itself > 0, "{address} {engine}: {}", trial["connections"]);
        assert_eq!(errors(trial, "connect", "SELFCONNECTED"), itself);
        let outcomes = connections(trial, "outcomes");
        assert_eq!(number(&outcomes["closed"]), itself + errors(trial, "connect", "ECONNREFUSED"), "{outcomes}");
        assert_eq!(number(&outcomes["open"]), count(trial, "established") - itself, "{outcomes}");
    }
}

/// Forty at once find a queue of five, whichever way the kernel defends itself.
fn cookies_and_both_queues_have_names() {
    let bench = scenario()
        .workers(1)
        .burst(40)
        .set("server.backlog", 4)
        // It ends between two rounds of retries.
        .set("server.accept_delay", "1500ms")
        .set("load.close_how", "rst")
        .set("load.connect_timeout", "4500ms")
        .each("sysctl.tcp_syncookies", vec![0, 1])
        .bench();
    bench.run(&[]);
    for trial in bench.read_trials() {
        assert_balanced(&trial);
        let cookies_on = trial["cell"]["tcp_syncookies"] == 1;
        let names = verdicts(&trial);
        assert_eq!(names.contains(&"syn-cookies"), cookies_on, "{names:?} {}", trial["kernel"]);
        assert_eq!(names.contains(&"syn-queue-overflow"), !cookies_on, "{names:?} {}", trial["kernel"]);
        assert!(names.contains(&"queue-overflow"), "{names:?}");
        let dropped = number(&trial["kernel"]["TCPReqQFullDrop"]);
        assert_eq!(dropped > 0, !cookies_on);
        let retries = detail(&trial, "syn-retries").unwrap();
        assert!(retries.contains(&format!("and {dropped} SYNs at full SYN queues")), "{retries}");
        let overflows = number(&trial["kernel"]["ListenOverflows"]);
        assert!(retries.contains(&format!("{overflows} segments were dropped at full accept queues")), "{retries}");
    }
}

/// With a backlog of 0, the one connection that waits fills the queue.
fn a_queue_of_one_connection_is_full() {
    let bench = scenario()
        .workers(1)
        .closed(1, 1)
        .set("server.backlog", 0)
        .set("server.accept_delay", "1h")
        .set("load.reply_timeout", "2s")
        .bench();
    bench.run(&[]);
    let trials = bench.read_trials();
    let worker = &trials[0]["workers"][0];
    assert_eq!((number(&worker["queue_peak"]), number(&worker["queue_limit"])), (1, 0));
    assert!(worker["queue"]["full_share"].as_f64().unwrap() > 0.0, "{}", worker["queue"]);
}

/// A member of the server's reuseport group that belongs to this process, and never accepts or receives.
fn join(kind: Type, address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), kind, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    if kind == Type::STREAM {
        socket.listen(1_024).unwrap();
    }
    socket
}

/// Runs a scenario on a port of the host that this process joins once the workers listen: before that, the run would be refused.
fn run_joined(scenario: Scenario, kind: Type) -> (Bench, Output) {
    let port = free_port();
    let bench = scenario.strategy("reuseport").workers(2).set("network", "host").set("port", port).bench();
    let run = bench.spawn(&["run", "scenario.toml", "--out", "out", "--quiet"]);
    bench.wait_for("lb:worker", 2);
    let _member = join(kind, ([127, 0, 0, 1], port).into());
    let output = run.wait_with_output().unwrap();
    (bench, output)
}

fn assert_named(bench: &Bench, output: &Output) -> Value {
    assert_code(output, 3);
    let trial = bench.read_trials().remove(0);
    assert_eq!(trial["outcome"], "invalid");
    let members = connections(&trial, "foreign_members").as_array().unwrap();
    assert_eq!(members.len(), 1, "{members:?}");
    assert_eq!(members[0]["pid"], id());
    let named = detail(&trial, "foreign-members").unwrap();
    assert!(named.contains(&format!("(pid {})", id())), "{named}");
    trial
}

fn a_process_that_joins_the_listeners_is_named() {
    let load = scenario().set("load.concurrency", 16).duration("4s").set("load.reply_timeout", "300ms");
    let (bench, output) = run_joined(load, Type::STREAM);
    let trial = assert_named(&bench, &output);
    let taken = number(&connections(&trial, "foreign_members")[0]["accepted"]);
    assert!(taken > 0, "{}", trial["connections"]);
    assert_eq!((count(&trial, "aborted"), connections(&trial, "unaccounted")), (0, &Value::from(0)));
    let own: u64 = trial["workers"].as_array().unwrap().iter().map(|worker| number(&worker["accepted"])).sum();
    assert_eq!(count(&trial, "accepted"), own + taken);
}

fn a_process_that_joins_the_datagram_sockets_is_named() {
    let load = scenario().set("protocol", "udp").constant(500.0).duration("4s").set("load.reply_timeout", "200ms");
    let (bench, output) = run_joined(load, Type::DGRAM);
    assert_named(&bench, &output);
}

fn connections_of_another_program_are_not_a_loaders() {
    let port = free_port();
    let bench = scenario().workers(1).set("network", "host").set("port", port).constant(50.0).duration("4s").bench();
    let run = bench.spawn(&["run", "scenario.toml", "--out", "out", "--quiet"]);
    bench.wait_for("lb:worker", 1);
    let _ours: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    assert_code(&run.wait_with_output().unwrap(), 3);
    let trial = bench.read_trials().remove(0);
    assert_eq!((count(&trial, "foreign"), count(&trial, "cookies")), (3, 0), "{}", trial["connections"]);
    assert_balanced(&trial);
    let named = detail(&trial, "foreign-connections").unwrap();
    assert_eq!(named, "3 connections that the server got did not come from a loader");
}

/// The code and the output of `report` for the record.
fn report(bench: &Bench) -> (Option<i32>, String) {
    let output = bench.command(&["report", "out"]).output().unwrap();
    // A terminal's width breaks sentences anywhere.
    let words = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
    (output.status.code(), words + &stderr(&output))
}

fn a_damaged_record_is_found_out() {
    // Everything that has histograms: connections, flows, stages, batches, and what an event strands.
    let bench = scenario()
        .each("server.accept_batch", vec![1, 2, 4])
        .set("protocol", "tcp+udp")
        .set("load.udp_share", 0.4)
        .strategy("reuseport")
        .workers(2)
        .constant(400.0)
        .duration("400ms")
        .event(serde_json::json!({"kind": "stall", "worker": 1, "at": "100ms", "for": "100ms"}))
        .bench();
    assert_code(&bench.run(&[]), 0);
    let (code, text) = report(&bench);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("histograms.hlog has") && !text.contains("lacks"), "{text}");

    let (log, lines) = (bench.path("out/histograms.hlog"), bench.path("out/trials.jsonl"));
    let whole_log = fs::read_to_string(&log).unwrap();
    let whole_lines = fs::read_to_string(&lines).unwrap();
    let damaged = |log_now: &str, lines_now: &str, found: &[&str]| {
        fs::write(&log, log_now).unwrap();
        fs::write(&lines, lines_now).unwrap();
        let (code, text) = report(&bench);
        assert_eq!(code, Some(3), "{text}");
        let page = fs::read_to_string(bench.path("out/report.html")).unwrap();
        for words in found {
            assert!(text.contains(words), "{words} is not in {text}");
            assert!(page.contains(words), "{words} is not in the page");
        }
    };
    // Its end is gone: a part of a line, and all of the last trial.
    let of_trial_2 = whole_log.find("Tag=t2.").unwrap();
    damaged(
        &whole_log[..of_trial_2 - 9],
        &whole_lines,
        &["1 line cannot be read", "histograms.hlog has nothing of trial 2"],
    );
    // One worker's waits in one trial are gone.
    let without: String = whole_log.split_inclusive('\n').filter(|line| !line.contains("t1.w0.accept_wait")).collect();
    damaged(&without, &whole_lines, &["histograms.hlog lacks all", "`t1.w0.accept_wait`"]);
    // Lines of trials are gone.
    let first = whole_lines.split_inclusive('\n').next().unwrap();
    damaged(&whole_log, first, &["trials.jsonl has no line for trials 1 and 2", "rials found: 1 of 3"]);
    damaged(&whole_log, &whole_lines[first.len()..], &["trials.jsonl has no line for trial 0"]);
    damaged(
        &whole_log,
        &whole_lines[..whole_lines.len() - 9],
        &["was cut off", "trials.jsonl has no line for trial 2"],
    );
    // The log of another record of the same scenario.
    assert_code(&bench.command(&["run", "scenario.toml", "--out", "other", "--quiet"]).output().unwrap(), 0);
    let other = fs::read_to_string(bench.path("other/histograms.hlog")).unwrap();
    damaged(&other, &whole_lines, &["histograms.hlog has", "than trials.jsonl says", "more differences"]);
}
