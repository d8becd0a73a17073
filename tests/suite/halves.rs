//! `serve` and `load`, each with other programs and with each other.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    process::Stdio,
    thread,
};

use crate::{
    common::{self, Bench, Server, assert_code, free_port, number, of_workers, stderr, stdout},
    requires,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

tests! {
    nothing [
        http_keeps_alive_and_closes_as_asked,
        echo_names_worker_nonce_and_both_ends,
        load_and_serve_agree,
        load_finds_its_way_through_another_server,
        the_default_load_has_five_repetitions,
        load_refuses_strangers_and_reports_closed_ports,
        a_name_leads_to_the_address_that_listens,
        an_interrupted_load_keeps_what_ended,
        a_server_whose_worker_dies_names_it_once_with_a_remedy,
        serve_wants_one_cell_of_its_own_server,
        load_leaves_out_what_concerns_our_own_server,
        an_ordinary_user_is_told_what_is_missing,
    ]
}

fn http_keeps_alive_and_closes_as_asked() {
    let bench = Bench::new("");
    let server = Server::start(&bench, &["server.app=http", "server.reply_bytes=7"]);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    // Two requests at once, in three pieces; then one that closes.
    for piece in [
        "GET /a HTTP/1.1\r\nHost: x\r\n",
        "\r\nGET /b HTTP/1.1\r\n\r\nGET",
        " /c HTTP/1.1\r\nConnection: close\r\n\r\n",
    ] {
        stream.write_all(piece.as_bytes()).unwrap();
        thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{text}");
    assert_eq!(text.matches("X-Worker: ").count(), 3);
    assert_eq!(text.matches("Content-Length: 7\r\n").count(), 3);
    assert_eq!(text.matches("Connection: close\r\n").count(), 1);
    // A server that closes after two requests says so in the second reply.
    let server = Server::start(&bench, &["server.app=http", "load.close_by=server", "load.requests=2"]);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (first, second) = text.split_once("HTTP/1.1 200 OK\r\n").unwrap().1.split_once("HTTP/1.1 200 OK\r\n").unwrap();
    assert!(!first.contains("Connection") && second.contains("Connection: close\r\n"), "{text}");
}

fn echo_names_worker_nonce_and_both_ends() {
    let bench = Bench::new("");
    let server = Server::start(&bench, &["server.request_bytes=4", "server.reply_bytes=52"]);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.write_all(&0xabcd_ef01_u32.to_le_bytes()).unwrap();
    let mut reply = [0; 52];
    stream.read_exact(&mut reply).unwrap();
    assert!(u16::from_le_bytes([reply[0], reply[1]]) < 2);
    assert_eq!(reply[2..6], 0xabcd_ef01_u32.to_le_bytes());
    assert_eq!(reply[16 + 10..16 + 16], [0xff, 0xff, 127, 0, 0, 1]);
    assert_eq!(reply[32..34], stream.local_addr().unwrap().port().to_le_bytes());
    assert_eq!(reply[50..52], server.port.to_le_bytes());
}

fn load_and_serve_agree() {
    for app in ["echo", "http", "close"] {
        let bench = Bench::new("[load]\nconnections = 300\nconcurrency = 8");
        let app = format!("server.app={app}");
        let server = Server::start(&bench, &[&app, "server.workers=3", "server.strategy=shared-epoll-edge"]);
        let target = format!("127.0.0.1:{}", server.port);
        let trial = bench.load(&target, &["--set", &app], 0);
        let counts = &trial["connections"];
        assert_eq!(["completed", "misdelivered"].map(|name| number(&counts[name])), [300, 0], "{counts}");
        assert_eq!(trial["subject"]["kind"], "running");
        assert_eq!(trial["subject"]["name"], format!("{target} (lb:worker0 and 2 others)"));
        if app != "server.app=close" {
            assert_eq!(number(&counts["verified"]), 300);
            let shares = trial["receipts"]["workers"].as_array().unwrap().iter();
            let shares: Vec<u64> = shares.map(|share| number(&share["connections"])).collect();
            assert_eq!(shares.iter().sum::<u64>(), 300);
            assert_eq!(number(&trial["latency_ns"]["accept_wait_bound"]["count"]), 300);
            if requires::root() {
                // From outside, the same workers are seen to accept as many.
                let mut accepted: Vec<u64> = of_workers(&trial, "accepted");
                accepted.retain(|count| *count > 0);
                let mut named: Vec<u64> = shares.into_iter().filter(|count| *count > 0).collect();
                accepted.sort_unstable();
                named.sort_unstable();
                assert_eq!(accepted, named, "{trial}");
            }
        }
        // The server says the same when it ends.
        kill(Pid::from_raw(server.child.id() as i32), Signal::SIGTERM).unwrap();
        bench.demand_nothing_left();
    }
}

fn load_finds_its_way_through_another_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                while stream.read(&mut request).is_ok_and(|length| length > 0) {
                    let reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
                    if stream.write_all(reply).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let bench = Bench::new("[load]\nconnections = 40\nrequests = 2\nconcurrency = 4");
    let trial = bench.load(&target, &[], 0);
    let counts = ["completed", "replies", "verified"].map(|name| number(&trial["connections"][name]));
    assert_eq!(counts, [40, 80, 0]);
    assert!(trial.get("receipts").is_none(), "another server sends none");
    // What was recorded repeats the run.
    let again = bench.command(&["run", "load-0/scenario.toml", "--out", "again"]).output().unwrap();
    assert_code(&again, 0);
    assert_eq!(number(&common::read_trials(&bench.path("again"))[0]["connections"]["completed"]), 40);
}

/// Without a scenario, options and the URL say everything.
fn the_default_load_has_five_repetitions() {
    let bench = Bench::new("");
    let server = Server::start(&bench, &["server.app=http", "load.requests=1"]);
    let target = format!("http://localhost:{}/x", server.port);
    let output = bench.command(&["load", &target, "--rate", "200", "--for", "200ms", "--out", "out"]).output().unwrap();
    assert_code(&output, 0);
    let trials = bench.read_trials();
    assert_eq!(trials.len(), 5);
    for trial in &trials {
        assert_eq!(trial["duration_s"], 0.2);
        assert_eq!((&trial["scenario"], &trial["subject"]["kind"]), (&"load".into(), &"running".into()));
    }
    let scenario = std::fs::read_to_string(bench.path("out/scenario.toml")).unwrap();
    let host = format!("host = \"localhost:{}\"", server.port);
    for line in ["path = \"/x\"", &host, "subject = \"running\"", "duration = \"200ms\"", "rate = 200"] {
        assert!(scenario.contains(line), "{line}: {scenario}");
    }
    // Another load's record is not overwritten.
    let output = bench.command(&["load", &target, "--for", "1s", "--out", "out"]).output().unwrap();
    assert_code(&output, 2);
}

fn load_refuses_strangers_and_reports_closed_ports() {
    let bench = Bench::new("[load]\nconnections = 5\nconcurrency = 1");
    let failed = |arguments: &[&str], code: i32, says: &str| {
        let output = bench.command(&[&["load", "scenario.toml"], arguments].concat()).output().unwrap();
        assert_code(&output, code);
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    };
    failed(&["192.0.2.1:80"], 2, "--allow-remote");
    failed(&["http://192.0.2.1/"], 2, "--allow-remote");
    failed(&["127.0.0.1:0"], 2, "`0` is not a port");
    failed(&["no-such-host.invalid:80"], 1, "no-such-host.invalid:80: the system's resolver does not know this host");
    // In the range that clients get their ports from: nobody connects to themselves.
    let port = free_port();
    failed(&[&format!("127.0.0.1:{port}")], 1, &format!("nothing listens at 127.0.0.1:{port}"));
    failed(&[&port.to_string()], 1, "was refused (ECONNREFUSED)");
    assert!(!bench.path("results").exists(), "what cannot run leaves no record");
    // A server that listens but never accepts is not absent: its full queue answers no SYN.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let _full = TcpStream::connect(address).unwrap();
    let trial = bench.load(&address.to_string(), &["--set=load.connect_timeout=300ms"], 3);
    assert_eq!((common::errors(&trial, "connect", "ETIMEDOUT"), &trial["outcome"]), (5, &"invalid".into()));
}

/// A name stands for several addresses: the load goes to one on which something listens.
fn a_name_leads_to_the_address_that_listens() {
    let bench = Bench::new("[load]\nconnections = 4\nconcurrency = 1");
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = [0; 64];
            let _ = stream.read_exact(&mut bytes).and_then(|()| stream.write_all(&bytes));
        }
    });
    let trial = bench.load(&port.to_string(), &[], 0);
    assert_eq!(number(&trial["connections"]["completed"]), 4);
    let scenario = std::fs::read_to_string(bench.path("load-0/scenario.toml")).unwrap();
    assert!(scenario.contains("address = \"::1\""), "{scenario}");
}

fn an_interrupted_load_keeps_what_ended() {
    let bench = Bench::new("repetitions = 100\n[load]\nduration = \"500ms\"\nmode = \"open\"\nrate = 200.0");
    let server = Server::start(&bench, &[]);
    let target = server.port.to_string();
    // Ctrl-C, and timeout(1), which signals the whole group.
    for (signal, whole, out) in [(Signal::SIGINT, false, "one"), (Signal::SIGTERM, true, "two")] {
        let mut load = bench.command(&["load", "scenario.toml", &target, "--out", out]);
        let load = load.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let trials = || std::fs::read_to_string(bench.path(out).join("trials.jsonl")).unwrap_or_default();
        common::wait_until("a trial to end", || trials().lines().count() > 0);
        let pid = load.id() as i32;
        kill(Pid::from_raw(if whole { -pid } else { pid }), signal).unwrap();
        let output = load.wait_with_output().unwrap();
        assert_code(&output, 130);
        assert!(stdout(&output).contains("record:"), "{}", stdout(&output));
        let trials = common::read_trials(&bench.path(out));
        assert!(trials.len() < 100 && trials.iter().any(|trial| trial["outcome"] == "valid"));
    }
}

fn a_server_whose_worker_dies_names_it_once_with_a_remedy() {
    let bench = Bench::new("server.strategy = \"reuseport\"\nserver.workers = 2");
    let mut serve = bench.command(&["serve", "scenario.toml", &format!("--set=port={}", common::free_port())]);
    let mut serve = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(serve.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("listening on "));
    let worker = bench.wait_for("lb:worker", 2)[0];
    kill(Pid::from_raw(worker as i32), Signal::SIGKILL).unwrap();
    let output = serve.wait_with_output().unwrap();
    assert_code(&output, 1);
    let said = stderr(&output);
    assert_eq!(said.matches("worker 0").count() + said.matches("worker 1").count(), 1, "{said}");
    assert!(
        said.contains(&format!("(pid {worker}) ended early: killed by SIGKILL; the server was stopped: look")),
        "{said}"
    );
}

fn serve_wants_one_cell_of_its_own_server() {
    let bench = Bench::new("[matrix]\nserver.workers = [1, 2]");
    let output = bench.command(&["serve", "scenario.toml"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("--set server.workers=1"), "{}", stderr(&output));
    let bench = Bench::new("network = \"host\"\nserver.subject = \"running\"");
    let output = bench.command(&["serve", "scenario.toml"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("server.subject=own"), "{}", stderr(&output));
}

/// What a scenario says about our own server, a load on another leaves out, and says so.
fn load_leaves_out_what_concerns_our_own_server() {
    let bench = Bench::new(
        "[server]\nbacklog = 9\n[load]\nconnections = 20\nconcurrency = 2\n[sysctl]\nsomaxconn = 7\n\
         [matrix]\nserver.strategy = [\"shared-epoll\", \"reuseport\"]",
    );
    let server = Server::start(&bench, &["server.strategy=reuseport"]);
    let target = server.port.to_string();
    let output =
        bench.command(&["load", "scenario.toml", &target, "--repetitions=1", "--out", "out"]).output().unwrap();
    assert_code(&output, 0);
    for key in ["`server.backlog`", "`server.strategy`", "`sysctl.somaxconn`"] {
        assert!(stderr(&output).contains(key), "{key}: {}", stderr(&output));
    }
    assert_eq!(bench.read_trials().len(), 1);
    let output = bench.command(&["load", "scenario.toml", &target, "--set=server.backlog=5"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("--set server.backlog=5"), "{}", stderr(&output));
}

/// An ordinary user measures the client's side and the queues, and is told what is missing and how to get it.
fn an_ordinary_user_is_told_what_is_missing() {
    let bench = Bench::new("[load]\nconnections = 30\nconcurrency = 3\nrequests = 2");
    let server = Server::start(&bench, &[]);
    let target = server.port.to_string();
    let arguments = ["load", "scenario.toml", &target, "--repetitions=1", "--out", "out"];
    let output = bench.command_as_ordinary_user(&arguments).output().unwrap();
    assert_code(&output, 0);
    let trial = &bench.read_trials()[0];
    assert_eq!(number(&trial["connections"]["completed"]), 30);
    assert_eq!((&trial["connections"]["accepted"], &trial["probe"]["level"]), (&Value::Null, &"off".into()));
    let missing = trial["probe"]["missing"].as_str().unwrap();
    assert!(missing.contains("root"), "{missing}");
    assert_eq!(number(&trial["listeners"][0]["queue_limit"]), 1_024, "{trial}");
    assert_eq!(number(&trial["latency_ns"]["response"]["count"]), 60);
}
