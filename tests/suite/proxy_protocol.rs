//! The PROXY protocol: loaders name their connections' ends, and so do proxies; our own server and public ones understand them.

use std::{
    collections::HashSet,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    path::Path,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::common::{
    Bench, Server, assert_balanced, assert_code, errors, number, scenario, stderr, stdout, strategies_without, verdicts,
};

tests! {
    nothing [
        each_connection_begins_with_a_header_that_its_receipts_repeat,
        headers_go_with_everything_that_a_connection_may_do,
        every_strategy_reads_them,
        populations_with_and_without_headers_share_a_server,
        a_server_that_expects_a_header_takes_nothing_else,
        a_header_may_come_in_pieces_and_without_ends,
        a_server_that_expects_none_refuses_them,
        serve_refuses_what_has_no_connections,
    ]
    curl [
        curls_header_is_what_the_receipt_repeats,
    ]
    root_and_nginx [
        nginx_logs_the_ends_that_loaders_name,
    ]
    root_and_haproxy [
        haproxy_passes_on_whom_loaders_name,
        a_proxy_that_sends_no_header_is_found_out,
    ]
}

/// Every reply was checked, and none came through a proxy: then each receipt repeats a header, with the client's own ends.
#[track_caller]
fn assert_all_repeat(trial: &Value, completed: u64, (replies, verified): (u64, u64)) {
    assert_eq!(trial["outcome"], "valid", "{trial}");
    assert_balanced(trial);
    let connections = &trial["connections"];
    let names = ["attempted", "completed", "replies", "verified", "proxied", "named"];
    let counts = names.map(|name| number(&connections[name]));
    assert_eq!(counts, [completed, completed, replies, verified, 0, 0], "{trial}");
    assert_eq!(connections["errors"], json!([]), "{trial}");
}

fn each_connection_begins_with_a_header_that_its_receipts_repeat() {
    for (app, requests) in [("close", 0), ("echo", 3), ("http", 3)] {
        let bench = scenario().closed(8, 40).set("server.app", app).each("load.proxy_protocol", [0, 1, 2]);
        let bench = bench.each("load.engine", ["mio", "uring"]).each("address", ["127.0.0.1", "::1"]);
        let bench = if requests > 0 { bench.set("load.requests", requests) } else { bench }.bench();
        let output = bench.run(&[]);
        assert_code(&output, 0);
        let trials = bench.read_trials();
        assert_eq!(trials.len(), 12);
        for trial in &trials {
            // App `close` replies by its close, which has no receipt: our server closes when it has read the header.
            assert_all_repeat(trial, 40, (40 * requests.max(1), 40 * requests));
            let version = &trial["cell"]["proxy_protocol"];
            let sent = &trial["loads"][0]["proxy_protocol"];
            assert_eq!(sent, if *version == 0 { &Value::Null } else { version }, "{trial}");
        }
    }
}

fn headers_go_with_everything_that_a_connection_may_do() {
    let version = |version: u8| scenario().closed(4, 30).set("load.proxy_protocol", version);
    for (bench, replies) in [
        (version(1).set("load.close_by", "server").set("load.requests", 2), 60),
        (version(2).set("load.close_how", "rst").set("load.sockets", "recycled").set("load.requests", 2), 60),
        (version(1).set("load.source_addresses", "127.0.0.2-127.0.0.4").set("load.source_ports", "bind-no-port"), 30),
        (version(2).set("load.source_ports", "explicit"), 30),
        // A short receipt has only the digest.
        (version(2).set("server.request_bytes", 16).set("server.reply_bytes", 16), 30),
        // The kernel chooses the port before it sends the SYN, and the header goes with it.
        (version(1).set("server.fastopen", 64).set("sysctl.tcp_fastopen", 3), 30),
        (version(2).set("server.fastopen", 64).set("sysctl.tcp_fastopen", 3).set("server.app", "http"), 30),
        (version(1).set("server.defer_accept", "1s"), 30),
        (version(2).set("protocol", "tcp+udp").set("load.udp_share", 0.5), 30),
    ] {
        let trial = bench.bench().trials(0).remove(0);
        let counts = ["completed", "replies", "verified", "misdelivered", "proxied"];
        let counts = counts.map(|name| number(&trial["connections"][name]));
        assert_eq!(counts, [30, replies, replies, 0, 0], "{trial}");
        assert_eq!((&trial["outcome"], &trial["connections"]["errors"]), (&json!("valid"), &json!([])), "{trial}");
    }
    // One header for all requests of a kept connection.
    let kept = scenario().duration("400ms").set("load.proxy_protocol", 2).set("load.mode", "kept");
    let kept = kept.set("load.concurrency", 3).set("load.request_rate", 50.0).bench();
    let trial = kept.trials(0).remove(0);
    let connections = &trial["connections"];
    assert_eq!((&connections["established"], &connections["misdelivered"]), (&json!(3), &json!(0)), "{trial}");
    assert!(number(&connections["replies"]) > 3, "{trial}");
    assert_eq!(connections["verified"], connections["replies"], "{trial}");
    let held = scenario().burst(10).set("load.proxy_protocol", 1);
    let held = held.set("load.hold", "3s").set("load.follow_up", "1500ms").bench();
    let trial = held.trials(0).remove(0);
    assert_eq!(
        (&trial["connections"]["replies"], &trial["connections"]["verified"]),
        (&json!(20), &json!(20)),
        "{trial}"
    );
}

fn every_strategy_reads_them() {
    let bench =
        scenario().closed(4, 20).set("load.proxy_protocol", 2).each("server.strategy", strategies_without("no such"));
    for trial in bench.bench().trials(0) {
        assert_all_repeat(&trial, 20, (20, 20));
    }
}

fn populations_with_and_without_headers_share_a_server() {
    let bench = Bench::new(
        r#"
        repetitions = 1
        server.app = "http"
        [[load]]
        name = "text"
        duration = "300ms"
        concurrency = 3
        proxy_protocol = 1
        [[load]]
        name = "binary"
        concurrency = 3
        proxy_protocol = 2
        [[load]]
        name = "plain"
        concurrency = 3
    "#,
    );
    let output = bench.run(&[]);
    assert_code(&output, 0);
    let trial = bench.read_trials().remove(0);
    assert_balanced(&trial);
    let sent: Vec<&Value> = trial["loads"].as_array().unwrap().iter().map(|load| &load["proxy_protocol"]).collect();
    assert_eq!(sent, [&json!(1), &json!(2), &Value::Null], "{trial}");
    assert_eq!(trial["connections"]["verified"], trial["connections"]["replies"], "{trial}");
    assert!(trial["loads"].as_array().unwrap().iter().all(|load| number(&load["connections"]["completed"]) > 0));
    let said = stdout(&output);
    assert!(said.contains("PROXY protocol: version 1 (text), version 2 (binary), none (plain)"), "{said}");
}

/// Ends a server as Ctrl-C does, and returns the rest of what it printed.
fn interrupted(mut server: Server) -> String {
    kill(Pid::from_raw(server.child.id() as i32), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    server.child.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
    assert!(server.child.wait().unwrap().success(), "{rest}");
    rest
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// What a server answers before it closes.
fn answer(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // It may reset what it has not read.
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn a_server_that_expects_a_header_takes_nothing_else() {
    let bench = Bench::new("server.workers = 1\nserver.app = \"http\"\nload.connections = 20\nload.concurrency = 2");
    let server = Server::start_with(&bench, &[], &["--proxy-protocol"]);
    let target = format!("127.0.0.1:{}", server.port);
    for version in ["1", "2"] {
        let trial = bench.load(&target, &["--proxy-protocol", version], 0);
        let counts = ["completed", "verified", "misdelivered", "proxied"];
        assert_eq!(counts.map(|name| number(&trial["connections"][name])), [20, 20, 0, 0], "{trial}");
        assert_eq!(trial["receipts"]["workers"], json!([{"worker": 0, "connections": 20}]), "{trial}");
    }
    let without = bench.load(&target, &[], 3);
    assert_eq!((&without["connections"]["completed"], &without["connections"]["replies"]), (&json!(0), &json!(0)));
    for (bytes, half) in [
        (&b"PROXY TCP4 127.0.0.1 127.0.0.1 1 x\r\nGET / HTTP/1.1\r\n\r\n"[..], false),
        (b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c", false),
        (b"PROXY TCP4 127.0.0.1 127.", true),
        // Nothing at all is no error: it is how a port is looked at.
        (b"", true),
    ] {
        let mut stream = connect(&server);
        stream.write_all(bytes).unwrap();
        if half {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        assert_eq!(answer(stream), b"", "{}", bytes.escape_ascii());
    }
    let refused = number(&without["connections"]["attempted"]);
    let said = interrupted(server);
    assert!(said.contains("serve BADHEADER ×3") && said.contains(&format!("serve NOHEADER ×{refused}")), "{said}");
}

fn a_header_may_come_in_pieces_and_without_ends() {
    let bench = Bench::new("server.app = \"http\"");
    let server = Server::start_with(&bench, &[], &["--proxy-protocol"]);
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\x01\xbb\x04\0\x01x";
    for header in [
        &b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"[..],
        b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n",
        b"PROXY UNKNOWN\r\n",
        binary,
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ] {
        let mut stream = connect(&server);
        for byte in header {
            stream.write_all(&[*byte]).unwrap();
        }
        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        stream.write_all(b"\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        let answer = String::from_utf8(answer(stream)).unwrap();
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{}: {answer}", header.escape_ascii());
    }
    let said = interrupted(server);
    assert!(!said.contains("errors of"), "{said}");
}

fn a_server_that_expects_none_refuses_them() {
    let bench = Bench::new("server.app = \"http\"\nload.connections = 20\nload.concurrency = 2");
    let server = Server::start(&bench, &[]);
    let target = format!("127.0.0.1:{}", server.port);
    // To its parser of HTTP they are a bad request.
    for (version, status) in [("1", "4xx"), ("2", "4xx")] {
        let trial = bench.load(&target, &["--proxy-protocol", version], 0);
        assert_eq!(trial["connections"]["statuses"][status], 20, "{trial}");
        assert_eq!(trial["connections"]["verified"], 0, "{trial}");
        assert!(verdicts(&trial).contains(&"error-replies"), "{trial}");
    }
    // An app without a syntax answers the header's bytes, and the receipt is of another request.
    let bench = Bench::new("load.connections = 20\nload.concurrency = 2");
    let server = Server::start(&bench, &[]);
    let trial = bench.load(&format!("127.0.0.1:{}", server.port), &["--proxy-protocol=2"], 3);
    assert_eq!((&trial["outcome"], &trial["connections"]["misdelivered"]), (&json!("invalid"), &json!(20)), "{trial}");
}

fn serve_refuses_what_has_no_connections() {
    let bench = Bench::new("protocol = \"udp\"\nserver.strategy = \"reuseport\"");
    let output = bench.command(&["serve", "scenario.toml", "--proxy-protocol"]).output().unwrap();
    assert_code(&output, 2);
    let said = stderr(&output);
    assert!(said.contains("--proxy-protocol is about connections") && said.contains("--set protocol=tcp"), "{said}");
}

/// The digest that a receipt has of a connection's ends, continued with what a header has told: 1 and 2 are the versions.
fn digest(client: SocketAddr, server: SocketAddr, told: Option<u8>) -> u32 {
    let end = |end: SocketAddr| {
        let SocketAddr::V4(v4) = end else { panic!("{end}") };
        [&v4.ip().to_ipv6_mapped().octets()[..], &v4.port().to_le_bytes()].concat()
    };
    let bytes = end(client).into_iter().chain(end(server)).chain(told);
    bytes.fold(2_166_136_261, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619))
}

fn curls_header_is_what_the_receipt_repeats() {
    let bench = Bench::new("server.app = \"http\"");
    let curl = |server: &Server, more: &[&str]| {
        let url = format!("http://127.0.0.1:{}/", server.port);
        let mut arguments = vec!["-sS", "-D", "-", "-o", "/dev/null", "-H", "X-Nonce: 00000007", "-w", "%{local_port}"];
        arguments.extend(more.iter().copied().chain([&url[..]]));
        bench.command_of(Path::new("curl"), &arguments).output().unwrap()
    };
    let server = Server::start_with(&bench, &[], &["--proxy-protocol"]);
    let output = curl(&server, &["--haproxy-protocol"]);
    assert_code(&output, 0);
    let said = stdout(&output);
    let receipt = said.lines().find_map(|line| line.strip_prefix("X-Receipt: ")).unwrap().trim();
    let local: u16 = said.lines().last().unwrap().parse().unwrap();
    let ends = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let expected = digest(ends(local), ends(server.port), Some(1));
    // Worker, nonce and time come first.
    assert_eq!(&receipt[24..], expected.to_le_bytes().map(|byte| format!("{byte:02x}")).concat(), "{said}");
    let without = curl(&server, &[]);
    assert!(!without.status.success(), "{}", stdout(&without));
    let said = interrupted(server);
    assert!(said.contains("serve NOHEADER ×1"), "{said}");
    // A plain server's receipt has no more than the ends.
    let server = Server::start(&bench, &[]);
    let output = curl(&server, &[]);
    let said = stdout(&output);
    let receipt = said.lines().find_map(|line| line.strip_prefix("X-Receipt: ")).unwrap().trim();
    let local: u16 = said.lines().last().unwrap().parse().unwrap();
    let expected = digest(ends(local), ends(server.port), None);
    assert_eq!(&receipt[24..], expected.to_le_bytes().map(|byte| format!("{byte:02x}")).concat(), "{said}");
}

/// It says what the header named beside what its socket has, once for each request.
fn nginx_logs_the_ends_that_loaders_name() {
    for address in ["127.0.0.1", "::1"] {
        let bench = Bench::new(&format!(
            r#"
            repetitions = 1
            address = "{address}"
            load.connections = 30
            load.concurrency = 4
            load.requests = 6
            matrix.load.proxy_protocol = [1, 2]
            matrix.load.engine = ["mio", "uring"]
            [server]
            subject = "command"
            command = "nginx -p {{dir}} -e stderr -c nginx.conf"
            app = "http"
            [server.files]
            "nginx.conf" = """
            daemon off; worker_processes 1; pid nginx.pid; error_log stderr;
            events {{ worker_connections 1024; }}
            http {{
              log_format ends 'ends $proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port '
                              '$remote_addr $remote_port $server_addr $server_port';
              access_log /dev/stdout ends;
              keepalive_requests 2;
              client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
              server {{ listen {{address}}:{{port}} proxy_protocol; location / {{ return 200 "$proxy_protocol_addr:$proxy_protocol_port"; }} }}
            }}
            """
        "#
        ));
        let output = bench.run(&[]);
        assert_code(&output, 0);
        for trial in bench.read_trials() {
            assert_eq!(trial["outcome"], "valid", "{trial}");
            let connections = &trial["connections"];
            // Each closes after two requests, and two more connections make the others.
            let names = ["attempted", "completed", "reconnected", "replies"];
            assert_eq!(names.map(|name| number(&connections[name])), [90, 90, 60, 180], "{trial}");
            assert_eq!(connections["statuses"]["2xx"], 180, "{trial}");
            let output = trial["subject"]["output"].as_str().unwrap();
            let log = fs::read_to_string(bench.path("out").join(output)).unwrap();
            let lines: Vec<Vec<&str>> =
                log.lines().filter_map(|line| Some(line.strip_prefix("ends ")?.split(' ').collect())).collect();
            assert_eq!(lines.len(), 180, "{log}");
            for line in &lines {
                assert_eq!(line[..4], line[4..], "what the header names is what the socket has");
                assert_eq!((line[0], line[2], line[3]), (address, address, "7000"), "{line:?}");
            }
            let ports: HashSet<&str> = lines.iter().map(|line| line[1]).collect();
            assert_eq!(ports.len(), 90, "a port for each connection: {log}");
        }
    }
}

/// A proxy that takes headers from loaders, or names them by itself, and tells our own server behind it.
fn haproxy(address: &str, load: &str, (bind, server): (&str, &str), expects: bool) -> Bench {
    Bench::new(&format!(
        r#"
        repetitions = 1
        address = "{address}"
        load.connections = 40
        load.concurrency = 4
        load.requests = 2
        load.reply_timeout = "2s"
        {load}
        [server]
        subject = "command"
        command = "haproxy -W -f {{dir}}/haproxy.cfg"
        backend = true
        backend_proxy_protocol = {expects}
        [server.files]
        "haproxy.cfg" = """
        defaults
          mode tcp
          timeout connect 5s
          timeout client 5s
          timeout server 5s
        frontend front
          bind {{address}}:{{port}} {bind}
          default_backend back
        backend back
          server own {{backend}} {server}
"""
    "#
    ))
}

fn haproxy_passes_on_whom_loaders_name() {
    for (address, load, bind, server) in [
        ("127.0.0.1", "", "", "send-proxy"),
        ("127.0.0.1", "matrix.server.app = [\"http\"]", "", "send-proxy-v2"),
        ("::1", "", "", "send-proxy-v2"),
        ("127.0.0.1", "load.proxy_protocol = 1", "accept-proxy", "send-proxy-v2"),
        ("::1", "load.proxy_protocol = 2\nload.engine = \"uring\"", "accept-proxy", "send-proxy"),
    ] {
        let bench = haproxy(address, load, (bind, server), true);
        let output = bench.run(&[]);
        assert_code(&output, 0);
        let trial = bench.read_trials().remove(0);
        assert_balanced(&trial);
        let names = ["completed", "replies", "verified", "proxied", "named"];
        assert_eq!(
            names.map(|name| number(&trial["connections"][name])),
            [40, 80, 80, 80, 80],
            "{load} {server}: {trial}"
        );
        let upstream = &trial["upstream"];
        assert_eq!((&upstream["proxy_protocol"], &upstream["errors"]), (&json!(true), &json!([])), "{trial}");
        let report = fs::read_to_string(bench.path("out/report.html")).unwrap();
        assert!(report.contains("the server knew each client's address from a PROXY protocol header"), "{report}");
        let said = stdout(&output);
        assert!(said.contains("which expects PROXY protocol headers"), "{said}");
    }
}

fn a_proxy_that_sends_no_header_is_found_out() {
    let bench = haproxy("127.0.0.1", "", ("", ""), true);
    let output = bench.run(&[]);
    assert_code(&output, 3);
    let trial = bench.read_trials().remove(0);
    assert!(verdicts(&trial).contains(&"upstream-headers"), "{trial}");
    assert_eq!((&trial["outcome"], &trial["connections"]["completed"]), (&json!("invalid"), &json!(0)), "{trial}");
    let upstream = &trial["upstream"];
    let expected = json!([{"phase": "serve", "errno": "NOHEADER", "count": upstream["connections"]}]);
    assert_eq!(upstream["errors"], expected, "{trial}");
    assert!(number(&upstream["connections"]) > 0 && errors(&trial, "receive", "BADREPLY") == 0, "{trial}");
    // One that sends them to a server that does not expect any is found out, too.
    let bench = haproxy("127.0.0.1", "", ("", "send-proxy-v2"), false);
    assert_code(&bench.run(&[]), 3);
    let trial = bench.read_trials().remove(0);
    assert_eq!(trial["connections"]["named"], 0, "{trial}");
    assert!(number(&trial["connections"]["misdelivered"]) > 0, "{trial}");
}
