//! Options of listeners, placement, batches and follow-ups: that they do what they say.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::{
    common::{
        self, Bench, Server, assert_balanced, assert_code, number, of_workers, scenario, stderr, when_undisturbed,
    },
    requires,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

tests! {
    nothing [
        a_deferred_connection_is_accepted_with_its_request,
        fast_open_takes_requests_with_the_syn,
        delayed_acknowledgements_spare_two_segments,
        accept_flags_and_busy_poll_change_nothing_but_system_calls,
        processes_are_pinned_where_the_list_says,
        batches_are_as_large_as_allowed,
        a_follow_up_asks_every_held_connection,
        a_follow_up_for_nobody_is_refused_or_named,
        shares_are_given_by_registration,
    ]
    two_processors [
        incoming_processors_follow_the_list,
    ]
}

/// Two clients connect and say nothing, a third speaks: only that one is accepted.
fn a_deferred_connection_is_accepted_with_its_request() {
    let bench = Bench::new("[server]\nworkers = 1\nrequest_bytes = 4");
    for (option, accepted) in [("server.defer_accept=20s", "1"), ("server.defer_accept=0s", "3")] {
        let mut server = Server::start(&bench, &[option]);
        let mut clients: Vec<TcpStream> =
            (0..3).map(|_| TcpStream::connect(("127.0.0.1", server.port)).unwrap()).collect();
        // Its reply says that those before it in the queue have been accepted too.
        clients[2].write_all(&[1, 2, 3, 4]).unwrap();
        clients[2].read_exact(&mut [0]).unwrap();
        kill(Pid::from_raw(server.child.id() as i32), Signal::SIGTERM).unwrap();
        let mut text = String::new();
        server.child.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
        let row: Vec<&str> =
            text.lines().find(|line| line.trim().starts_with('0')).unwrap().split_whitespace().collect();
        assert_eq!(row[1], accepted, "{option}: {text}");
    }
}

/// Requests go with the SYN once a client knows the server's cookie; without the sysctl the option would be a lie.
fn fast_open_takes_requests_with_the_syn() {
    let scenario = r#"
        repetitions = 1
        [server]
        fastopen = 64
        [load]
        concurrency = 4
        connections = 200
        close_how = "rst"
    "#;
    let bench = Bench::new(&format!("{scenario}\n[sysctl]\ntcp_fastopen = 3"));
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    assert_eq!(trial["connections"]["completed"], 200, "{}", trial["connections"]);
    assert!(number(&trial["kernel"]["TCPFastOpenPassive"]) > 50, "{}", trial["kernel"]);
    assert!(number(&trial["latency_ns"]["connect"]["count"]) == 200);
    let trial = &Bench::new(scenario).trials(3)[0];
    assert!(trial["error"].as_str().unwrap().contains("sysctl.tcp_fastopen = 3"), "{}", trial["error"]);
}

/// A small exchange takes eight segments: the handshake's three, request and reply with an acknowledgement each, and the reset.
/// With delayed acknowledgements, the handshake's rides with the request, and the reply's is never sent.
fn delayed_acknowledgements_spare_two_segments() {
    let bench = scenario()
        .workers(2)
        .closed(16, 2_000)
        .set("load.close_how", "rst")
        .each("load.sockets", ["fresh", "recycled"])
        .each("load.quickack", [true, false])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(trial["connections"]["completed"], 2_000, "{}", trial["connections"]);
        let segments = number(&trial["kernel"]["OutSegs"]) as f64 / 2_000.0;
        let expected = if trial["cell"]["quickack"] == true { 8.0 } else { 6.0 };
        // A timer may send an acknowledgement after all where a process comes late, and a segment may be sent again.
        assert!((expected - 0.1..expected + 0.2).contains(&segments), "{segments} {}", trial["cell"]);
    }
    for (keys, why) in [("app = \"close\"", "sends nothing"), ("fastopen = 16", "with the SYN")] {
        let bench = Bench::new(&format!("[server]\n{keys}\n[load]\nquickack = false"));
        let output = bench.run(&[]);
        assert_code(&output, 2);
        let said = stderr(&output);
        assert!(said.contains("`load.quickack`") && said.contains(why), "{said}");
    }
}

fn accept_flags_and_busy_poll_change_nothing_but_system_calls() {
    let bench = scenario()
        .workers(2)
        .closed(8, 200)
        .each("server.strategy", ["shared-epoll", "shared-blocking", "dispatcher", "reuseport"])
        .each("server.accept_flags", ["nonblock+cloexec", "nonblock", "cloexec", "none"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(trial["connections"]["completed"], 200, "{}", trial["cell"]);
    }
    let bench = scenario().connections(20).set("server.busy_poll", "50us").bench();
    // Some kernels want root for it.
    let output = bench.run(&[]);
    let trial = &bench.read_trials()[0];
    match trial["error"].as_str() {
        None => assert_eq!(trial["connections"]["completed"], 20, "{}", stderr(&output)),
        Some(error) => assert!(error.contains("SO_BUSY_POLL") && error.contains("run as root"), "{error}"),
    }
}

/// Worker k runs on the k-th processor of the list, and nowhere else.
fn processes_are_pinned_where_the_list_says() {
    let bench = Bench::new("[server]\nworkers = 3\npin = [1, 0]");
    if !requires::two_processors() {
        assert_code(&bench.run(&[]), 2);
        return;
    }
    let _server = Server::start(&bench, &[]);
    let allowed = bench.wait_for("lb:worker", 3).into_iter().map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let name = status.lines().next().unwrap().rsplit('r').next().unwrap().trim().to_owned();
        let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned();
        (name, cpus)
    });
    let mut allowed: Vec<(String, String)> = allowed.collect();
    allowed.sort_unstable();
    let expected = [("0", "1"), ("1", "0"), ("2", "1")].map(|(worker, cpu)| (worker.to_owned(), cpu.to_owned()));
    assert_eq!(allowed, expected);
    for key in ["server.pin", "load.pin"] {
        let output = bench.run(&[&format!("--set={key}=[1000]")]);
        assert_code(&output, 2);
        assert!(stderr(&output).contains(&format!("`{key}`: this process is not allowed to run on processor 1000")));
    }
}

/// The list says which processor a listener is marked with: turned round, loader 0 is served by worker 1.
fn incoming_processors_follow_the_list() {
    let bench = scenario()
        .strategy("reuseport-incoming-cpu")
        .closed(2, 101)
        .set("server.incoming_cpu", [1, 0])
        .set("load.pin", [0, 1])
        .set("load.loaders", 2)
        .bench();
    let trial = &bench.trials(0)[0];
    let mut attempted: Vec<u64> =
        trial["loaders"].as_array().unwrap().iter().map(|loader| number(&loader["attempted"])).collect();
    attempted.reverse();
    assert_eq!(of_workers(trial, "accepted"), attempted);
}

/// What waits when a worker begins to accept is one batch, or as many as it may be.
fn batches_are_as_large_as_allowed() {
    let bench = scenario()
        .workers(1)
        .burst(50)
        .set("server.accept_delay", "2s")
        .each("server.accept_batch", json!(["drain", 1, 20]))
        .bench();
    for trial in bench.trials(0) {
        let batches = &trial["workers"][0]["accept_batch"];
        let (count, max) = match trial["cell"]["accept_batch"].as_u64() {
            None => (1, 50),
            Some(1) => (50, 1),
            Some(_) => (3, 20),
        };
        assert_eq!((number(&batches["count"]), number(&batches["max"])), (count, max), "{}", trial["cell"]);
    }
}

/// Every held connection sends one request more, at one instant, and goes on being held.
fn a_follow_up_asks_every_held_connection() {
    let bench = scenario()
        .workers(3)
        .constant(400.0)
        .connections(60)
        .set("load.hold", "3s")
        .set("load.follow_up", "1500ms")
        .each("server.app", ["echo", "http"])
        .each("server.strategy", ["shared-epoll-exclusive", "reuseport"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(trial["connections"]["completed"], 60, "{}", trial["cell"]);
        assert_eq!(trial["connections"]["replies"], 120);
        assert_eq!(trial["latency_ns"]["follow_up"]["count"], 60);
        assert_eq!(trial["latency_ns"]["response"]["count"], 60);
    }
}

/// A follow-up that nobody is held for would be an option without effect.
fn a_follow_up_for_nobody_is_refused_or_named() {
    let bench = scenario().duration("200ms").set("load.hold", "50ms").set("load.follow_up", "300ms").bench();
    let output = bench.run(&[]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("`load.follow_up`"), "{}", stderr(&output));
    let bench = scenario().connections(5).set("load.hold", "20ms").set("load.follow_up", "9s").bench();
    assert!(common::verdicts(&bench.trials(0)[0]).contains(&"no-follow-up"));
}

/// Shares stand in the order of registration, whatever the workers' numbers.
fn shares_are_given_by_registration() {
    when_undisturbed(shares);
}

fn shares() {
    let bench = scenario()
        .strategy("shared-epoll-exclusive")
        .workers(3)
        .constant(50.0)
        .connections(30)
        .each("server.registration", ["ascending", "descending"])
        .bench();
    bench.trials(0);
    let summary = common::read_json(&bench.path("out/summary.json"));
    for cell in summary["cells"].as_array().unwrap() {
        let shares: Vec<f64> =
            cell["share_by_rank"].as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).collect();
        assert!(shares.len() == 3 && shares[0] > 0.7 && (shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
    }
}
