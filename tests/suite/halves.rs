//! `serve` and `load`, each with other programs and with each other, and `doctor`.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use crate::common::{self, Bench, Server, assert_code, free_port, number, stderr, stdout};
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
        load_refuses_strangers_and_reports_closed_ports,
        an_interrupted_load_says_what_ended,
        serve_and_load_want_one_cell,
        the_doctor_has_a_remedy_in_every_line,
    ]
}

fn json(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
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
        let arguments = ["load", "scenario.toml", "--target", &target, "--json", "--set", &app];
        let output = bench.command(&arguments).output().unwrap();
        assert_code(&output, 0);
        let result = json(&output);
        assert_eq!(number(&result["completed"]), 300, "{result}");
        assert_eq!(number(&result["misdelivered"]), 0);
        if app != "server.app=close" {
            assert_eq!(number(&result["verified"]), 300);
            let shares = result["workers"].as_array().unwrap().iter().map(|share| number(&share["connections"]));
            assert_eq!(shares.sum::<u64>(), 300);
            assert_eq!(number(&result["latency_ns"]["accept_wait"]["count"]), 300);
        }
        // The server says the same when it ends.
        kill(Pid::from_raw(server.child.id() as i32), Signal::SIGTERM).unwrap();
        bench.demand_nothing_left();
    }
}

fn load_finds_its_way_through_another_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
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
    let bench = Bench::new("[server]\napp = \"http\"\n[load]\nconnections = 40\nrequests = 2\nconcurrency = 4");
    let output = bench.command(&["load", "scenario.toml", "--target", &target, "--json"]).output().unwrap();
    assert_code(&output, 0);
    let result = json(&output);
    assert_eq!((number(&result["completed"]), number(&result["replies"]), number(&result["verified"])), (40, 80, 0));
    assert!(result["latency_ns"].get("accept_wait").is_none(), "another server's accept cannot be seen");
}

fn load_refuses_strangers_and_reports_closed_ports() {
    let bench = Bench::new("[load]\nconnections = 5\nconcurrency = 1");
    let output = bench.command(&["load", "scenario.toml", "--target", "192.0.2.1:80"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("--allow-remote"), "{}", stderr(&output));
    let target = format!("127.0.0.1:{}", free_port());
    let output = bench.command(&["load", "scenario.toml", "--target", &target]).output().unwrap();
    assert_code(&output, 1);
    assert!(stderr(&output).contains(&format!("{target} is closed")), "{}", stderr(&output));
    // A full accept queue that nobody empties answers no SYN: from outside, a filtered port.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let _full = TcpStream::connect(address).unwrap();
    let set = "--set=load.connect_timeout=300ms";
    let output = bench.command(&["load", "scenario.toml", "--target", &address.to_string(), set]).output().unwrap();
    assert_code(&output, 1);
    assert!(stderr(&output).contains(&format!("{address} is filtered")), "{}", stderr(&output));
}

fn voluntary_switches(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    switches.unwrap().trim().parse().unwrap()
}

fn an_interrupted_load_says_what_ended() {
    let bench = Bench::new("[load]\nduration = \"60s\"\nmode = \"open\"\nrate = 200.0\n[sysctl]\nsomaxconn = 7");
    let server = Server::start(&bench, &[]);
    let target = format!("127.0.0.1:{}", server.port);
    let load = bench.spawn(&["load", "scenario.toml", "--target", &target, "--json"]);
    let loader = bench.wait_for("lb:loader", 1)[0];
    // It sleeps a few times for each connection.
    common::wait_until("the load to be under way", || voluntary_switches(loader) > 200);
    kill(Pid::from_raw(load.id() as i32), Signal::SIGINT).unwrap();
    let output = load.wait_with_output().unwrap();
    assert_code(&output, 130);
    assert!(number(&json(&output)["completed"]) > 10, "{}", stdout(&output));
    assert!(stderr(&output).contains("sysctl.somaxconn"), "{}", stderr(&output));
}

fn serve_and_load_want_one_cell() {
    let bench = Bench::new("[matrix]\nserver.workers = [1, 2]");
    let output = bench.command(&["serve", "scenario.toml"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("--set server.workers=1"), "{}", stderr(&output));
    // To a load the number of workers is nothing.
    let output =
        bench.command(&["load", "scenario.toml", "--set", "load.connections=1", "--target", "127.0.0.1:1"]).output();
    assert_code(&output.unwrap(), 1);
    let bench = Bench::new("[matrix]\nload.requests = [1, 2]");
    assert_code(&bench.command(&["load", "scenario.toml", "--target", "127.0.0.1:1"]).output().unwrap(), 2);
}

fn the_doctor_has_a_remedy_in_every_line() {
    let bench = Bench::new("");
    let output = bench.command(&["doctor", "--json"]).output().unwrap();
    assert_code(&output, 0);
    let checks = json(&output);
    let names: Vec<&str> = checks.as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    for name in ["kernel", "namespaces", "cores", "open files", "port range", "backlog cap"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let strategies = names.iter().filter(|name| **name == "strategy").count();
    assert_eq!(strategies, 15, "{names:?}");
    for check in checks.as_array().unwrap() {
        assert!(["ok", "limited", "missing"].contains(&check["status"].as_str().unwrap()));
        assert!(
            !check["found"].as_str().unwrap().is_empty() && !check["advice"].as_str().unwrap().is_empty(),
            "{check}"
        );
    }
    let lines = stdout(&bench.command(&["doctor"]).output().unwrap());
    assert!(names.iter().all(|name| lines.contains(name)), "{lines}");
}
