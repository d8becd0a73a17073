//! App `https`: handshakes and what is said within them, between loaders, our own server and public programs.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::common::{
    Bench, Server, assert_balanced, assert_code, errors, free_port, number, scenario, stderr, stdout,
    strategies_without, wait_until, words,
};

tests! {
    nothing [
        both_sides_count_the_same_handshakes,
        https_goes_with_everything_that_a_connection_may_do,
        every_strategy_resumes_what_any_worker_began,
        the_seed_decides_what_is_resumed,
        a_first_burst_has_no_tickets,
        serve_and_load_meet,
        a_server_without_tls_is_found_out,
        what_makes_no_sense_is_refused,
    ]
    openssl [
        certificates_may_come_from_files,
        openssl_is_a_client_of_our_server,
        openssl_is_a_server_of_our_loaders,
    ]
    openssl_and_python [
        a_reply_that_the_connection_ends_must_say_so_within_tls,
    ]
    nginx [
        nginx_logs_the_handshakes_that_loaders_count,
    ]
}

const COUNTS: [&str; 6] = ["completed", "resumed", "offered", "without_ticket", "tls_1_3", "alpn"];

/// What the loaders count of TLS.
fn clients(trial: &Value) -> [u64; 6] {
    COUNTS.map(|name| number(&trial["tls"]["clients"][name]))
}

/// All of a trial's connections completed, and each had a handshake, by either side's count.
#[track_caller]
fn assert_all_secured(trial: &Value, connections: u64) {
    assert_eq!(trial["outcome"], "valid", "{trial}");
    assert_balanced(trial);
    assert_eq!(trial["connections"]["errors"], json!([]), "{trial}");
    assert_eq!(number(&trial["connections"]["completed"]), connections, "{trial}");
    let [completed, resumed, ..] = clients(trial);
    assert_eq!(completed, connections, "{}", trial["tls"]);
    if trial["subject"]["kind"] == "own" {
        assert_eq!(trial["tls"]["server"], json!({"completed": completed, "resumed": resumed}), "{}", trial["tls"]);
    }
}

fn both_sides_count_the_same_handshakes() {
    let bench = scenario().closed(8, 80).set("server.app", "https").set("load.requests", 3).set("load.loaders", 2);
    let bench = bench.each("load.engine", ["mio", "uring"]).each("load.tls_version", ["any", "1.3", "1.2"]);
    let bench = bench.each("load.resumption", [0.0, 0.5, 1.0]).bench();
    let output = bench.run(&[]);
    assert_code(&output, 0);
    let trials = bench.read_trials();
    assert_eq!(trials.len(), 18);
    for trial in &trials {
        assert_all_secured(trial, 80);
        assert_eq!((number(&trial["connections"]["replies"]), number(&trial["connections"]["verified"])), (240, 240));
        let [completed, resumed, offered, without, tls_1_3, alpn] = clients(trial);
        let cell = &trial["cell"];
        assert_eq!((tls_1_3, alpn), (if cell["tls_version"] == "1.2" { 0 } else { completed }, completed), "{cell}");
        // Whatever is offered is accepted: the workers have the tickets' key in common.
        assert_eq!(resumed, offered, "{cell}");
        let share = cell["resumption"].as_f64().unwrap();
        if share == 0.0 {
            assert_eq!((offered, without), (0, 0), "{cell}");
        } else if share == 1.0 {
            // At first, nobody has a ticket: each of four connections of two loaders.
            assert_eq!(offered + without, completed, "{cell}");
            assert!((1..=8).contains(&without), "{cell}: {without}");
        } else {
            assert!((20..=60).contains(&(offered + without)), "{cell}");
        }
        let handshake = &trial["latency_ns"]["tls"];
        assert_eq!((number(&handshake["count"]), number(&handshake["lost"])), (80, 0), "{cell}");
        let stages = &trial["stages_ns"];
        assert_eq!(number(&stages["tls"]["count"]), number(&stages["serve"]["count"]), "{cell}: {stages}");
        assert!(trial["rates"]["handshakes_per_s"].as_f64().unwrap() > 0.0, "{cell}");
    }
    let said = stdout(&output);
    assert!(said.contains("TLS handshakes"), "{said}");
}

fn https_goes_with_everything_that_a_connection_may_do() {
    let https = || scenario().closed(4, 30).set("server.app", "https");
    for (bench, replies) in [
        (https().set("load.close_by", "server").set("load.requests", 2), 60),
        (https().set("load.close_by", "server").set("load.close_how", "rst"), 30),
        (https().set("load.close_how", "rst").set("load.sockets", "recycled").set("load.requests", 2), 60),
        (https().set("load.proxy_protocol", 1), 30),
        (https().set("load.proxy_protocol", 2).set("load.resumption", 0.5), 30),
        (https().set("server.fastopen", 64).set("sysctl.tcp_fastopen", 3), 30),
        (https().set("server.defer_accept", "1s"), 30),
        (https().set("address", "::1"), 30),
        (https().set("load.server_name", "www.example.org"), 30),
        (https().set("load.verify", false).set("load.alpn", ""), 30),
        // Many records, and more than a socket takes at once.
        (https().set("server.reply_bytes", 65_536).set("load.body", "x".repeat(65_536)).set("load.method", "POST"), 30),
    ] {
        let trial = bench.bench().trials(0).remove(0);
        assert_all_secured(&trial, 30);
        assert_eq!(number(&trial["connections"]["verified"]), replies, "{trial}");
    }
    let kept = scenario().duration("400ms").set("server.app", "https").set("load.mode", "kept");
    let trial = kept.set("load.concurrency", 3).set("load.request_rate", 50.0).bench().trials(0).remove(0);
    assert_all_secured(&trial, 3);
    assert!(number(&trial["connections"]["replies"]) > 3, "{trial}");
    let held = scenario().burst(10).set("server.app", "https");
    let held = held.set("load.hold", "3s").set("load.follow_up", "1500ms").bench();
    let trial = held.trials(0).remove(0);
    assert_eq!((clients(&trial)[0], &trial["connections"]["verified"]), (10, &json!(20)), "{trial}");
}

fn every_strategy_resumes_what_any_worker_began() {
    let bench = scenario().closed(4, 40).set("server.app", "https").set("load.resumption", 1.0);
    for trial in bench.each("server.strategy", strategies_without("no such")).bench().trials(0) {
        assert_all_secured(&trial, 40);
        let [completed, resumed, .., without, _, _] = clients(&trial);
        assert_eq!(resumed + without, completed, "{}", trial["cell"]);
        assert!(without <= 4, "{}: {without}", trial["cell"]);
    }
}

fn the_seed_decides_what_is_resumed() {
    let drawn = |seed: u64| {
        let bench = scenario().closed(1, 60).set("server.app", "https").set("load.resumption", 0.3).set("seed", seed);
        let [_, resumed, offered, without, ..] = clients(&bench.bench().trials(0).remove(0));
        assert_eq!(resumed, offered);
        offered + without
    };
    let first = drawn(1);
    assert_eq!(drawn(1), first);
    assert!((2..10).any(|seed| drawn(seed) != first), "no seed draws another number than {first}");
}

fn a_first_burst_has_no_tickets() {
    let bench = scenario().burst(20).set("server.app", "https").set("load.resumption", 1.0).set("load.hold", "2s");
    let trial = bench.set("load.loaders", 1).bench().trials(0).remove(0);
    let [completed, resumed, offered, without, ..] = clients(&trial);
    // What was opened later may have had the tickets of what was answered by then.
    assert_eq!((completed, resumed, offered + without), (20, offered, 20), "{trial}");
    assert!(without >= 1, "{trial}");
}

/// Ends a server as Ctrl-C does, and returns the rest of what it printed.
fn interrupted(mut server: Server) -> String {
    kill(Pid::from_raw(server.child.id() as i32), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    server.child.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
    assert!(server.child.wait().unwrap().success(), "{rest}");
    rest
}

const LOAD: &str = "server.app = \"https\"\nload.connections = 20\nload.concurrency = 2";

fn serve_and_load_meet() {
    let bench = Bench::new(LOAD);
    let server = Server::start(&bench, &[]);
    let target = format!("https://127.0.0.1:{}/", server.port);
    // What a server has signed itself is not what this machine trusts.
    let refused = bench.load(&target, &[], 3);
    assert_eq!(number(&refused["connections"]["completed"]), 0, "{refused}");
    let attempts = number(&refused["connections"]["attempted"]);
    let untrusted = errors(&refused, "tls", "UNTRUSTED") + errors(&refused, "tls", "BADCERTIFICATE");
    assert_eq!(untrusted, attempts, "{refused}");
    let trial = bench.load(&target, &["--set=load.verify=false", "--set=load.resumption=0.5"], 0);
    let [completed, resumed, offered, ..] = clients(&trial);
    assert_eq!((completed, resumed, &trial["tls"]["server"]), (20, offered, &Value::Null), "{trial}");
    assert_eq!(number(&trial["connections"]["verified"]), 20, "{trial}");
    // The clients said why they went.
    let said = interrupted(server);
    let alerts = said.split("serve ALERT ×").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert_eq!(alerts.sum::<u64>(), attempts, "{said}");
}

fn a_server_without_tls_is_found_out() {
    let bench = Bench::new("server.app = \"http\"\nload.connections = 10\nload.concurrency = 2");
    let server = Server::start(&bench, &[]);
    let trial = bench.load(&format!("https://127.0.0.1:{}/", server.port), &["--set=load.verify=false"], 3);
    assert_eq!(number(&trial["connections"]["completed"]), 0, "{trial}");
    assert_eq!(errors(&trial, "tls", "NOTTLS"), number(&trial["connections"]["attempted"]), "{trial}");
    // And the reverse: requests in the clear are no handshake.
    drop(server);
    let bench = Bench::new(LOAD);
    let server = Server::start(&bench, &[]);
    let trial = bench.load(&format!("http://127.0.0.1:{}/", server.port), &[], 3);
    assert_eq!(number(&trial["connections"]["completed"]), 0, "{trial}");
    let said = interrupted(server);
    assert!(said.contains("serve NOTTLS"), "{said}");
}

fn what_makes_no_sense_is_refused() {
    for (text, says) in [
        ("server.app = \"http\"\nload.resumption = 0.5", "test.toml:2: `load.resumption` has no effect"),
        ("load.tls_version = \"1.3\"", "`load.tls_version` has no effect"),
        ("server.app = \"https\"\nload.verify = false\nload.trust = \"x.pem\"", "`load.trust` has no effect"),
        ("server.app = \"https\"\nload.alpn = \"h2\"", "they speak HTTP/1.1"),
        ("server.app = \"https\"\nload.alpn = \"acme-tls/1\"", "is not what listenbench's own server speaks"),
        ("server.app = \"https\"\nload.resumption = 1.5", "`load.resumption`: must be a number from 0 to 1"),
        ("server.app = \"https\"\nload.server_name = \"127.0.0.1\"", "`load.server_name`: must be a host name"),
        (
            "server.app = \"https\"\nserver.certificate = \"x.pem\"",
            "`server.certificate`: requires server.private_key too",
        ),
        (
            "server.app = \"https\"\nload.trust = \"no-such.pem\"",
            "no-such.pem: cannot be read as certificates in PEM form",
        ),
        (
            "server.app = \"https\"\nserver.certificate = \"no-such.pem\"\nserver.private_key = \"no-such.key\"",
            "no-such.pem: cannot be read as certificates in PEM form",
        ),
        ("protocol = \"udp\"\nserver.app = \"https\"\nserver.strategy = \"reuseport\"", "require app \"echo\""),
    ] {
        let bench = Bench::new(text);
        let output = bench.run(&[]);
        assert_code(&output, 2);
        let said = words(&stderr(&output)).replace("scenario.toml", "test.toml");
        assert!(said.contains(says), "{text}: {said}");
    }
}

/// Runs openssl, which must succeed, in a bench's folder.
fn openssl(bench: &Bench, arguments: &[&str]) {
    let output = bench.command_of(Path::new("openssl"), arguments).output().unwrap();
    assert_code(&output, 0);
}

/// Makes a certificate that has signed itself, of this kind of key, in a bench's folder.
fn make_certificate(bench: &Bench, kind: &[&str], days: &str) {
    let mut arguments = vec!["req", "-x509", "-nodes", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"];
    arguments.extend(["-keyout", "server.key", "-out", "server.crt", "-days", days]);
    arguments.extend(kind);
    openssl(bench, &arguments);
}

const RSA: [&str; 2] = ["-newkey", "rsa:2048"];
const EC: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

fn certificates_may_come_from_files() {
    for kind in [&RSA[..], &EC] {
        let bench = scenario().closed(2, 10).set("server.app", "https").set("load.trust", "server.crt");
        let bench = bench.set("server.certificate", "server.crt").set("server.private_key", "server.key").bench();
        // As people make them, and as a verifier of authorities refuses them: as an authority's.
        make_certificate(&bench, kind, "2");
        assert_all_secured(&bench.trials(0).remove(0), 10);
        let another = bench.path("another");
        fs::create_dir(&another).unwrap();
        fs::rename(bench.path("server.crt"), another.join("server.crt")).unwrap();
        make_certificate(&bench, &EC, "2");
        let trust = format!("--set=load.trust={}", another.join("server.crt").display());
        let output = bench.command(&["run", "scenario.toml", "--out", "refused", &trust]).output().unwrap();
        assert_code(&output, 3);
        let trial = crate::common::read_trials(&bench.path("refused")).remove(0);
        assert_eq!((clients(&trial)[0], number(&trial["connections"]["completed"])), (0, 0), "{trial}");
        assert!(errors(&trial, "tls", "UNTRUSTED") + errors(&trial, "tls", "BADCERTIFICATE") > 0, "{trial}");
    }
}

/// What openssl prints as a client that sends a request and stays until the server closes.
fn ask(bench: &Bench, port: u16, more: &[&str]) -> String {
    let target = format!("127.0.0.1:{port}");
    let mut arguments =
        vec!["s_client", "-connect", &target, "-CAfile", "server.crt", "-verify_return_error", "-ign_eof"];
    arguments.extend(more);
    let mut command = bench.command_of(Path::new("openssl"), &arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 0);
    stdout(&output)
}

fn openssl_is_a_client_of_our_server() {
    let bench = Bench::new("server.app = \"https\"\nserver.workers = 2\nserver.strategy = \"reuseport\"");
    make_certificate(&bench, &EC, "2");
    let files = ["server.certificate=server.crt", "server.private_key=server.key"];
    let server = Server::start(&bench, &files);
    for (version, shown) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let said = ask(&bench, server.port, &[version, "-alpn", "http/1.1", "-sess_out", "session.pem"]);
        for expected in
            [&format!("New, {shown}"), "ALPN protocol: http/1.1", "HTTP/1.1 200 OK", "Verify return code: 0 (ok)"]
        {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        // Whichever worker gets it resumes it.
        for _ in 0..4 {
            let said = ask(&bench, server.port, &[version, "-sess_in", "session.pem"]);
            assert!(said.contains(&format!("Reused, {shown}")) && said.contains("200 OK"), "{said}");
        }
    }
    let said = interrupted(server);
    assert!(said.contains("10 TLS handshakes, 8 of them resumed"), "{said}");
    assert!(!said.contains("errors of"), "{said}");
}

/// A program that ends with the test.
struct Peer {
    child: Child,
    /// Open as long as it writes.
    _said: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts a server, and waits until it says that it accepts.
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while line.trim() != "ACCEPT" {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "it ended");
        }
        Self { child, _said: said }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// It closes after its reply, which says what it knows of the session, and serves one client at a time.
fn openssl_is_a_server_of_our_loaders() {
    for (more, is_1_3) in [("-tls1_3", true), ("-tls1_2", false)] {
        let bench = Bench::new("");
        make_certificate(&bench, &RSA, "2");
        let port = free_port();
        let port_text = port.to_string();
        let options = ["s_server", "-accept", &port_text, "-cert", "server.crt", "-key", "server.key", "-www", more];
        let server = Peer::start(&mut bench.command_of(Path::new("openssl"), &options));
        let target = format!("https://127.0.0.1:{port}/");
        let sets = ["--connections=20", "--concurrency=1", "--set=load.trust=server.crt", "--set=load.resumption=0.5"];
        let options: Vec<&str> = sets.iter().copied().chain(["--set=load.close_by=server"]).collect();
        let trial = bench.load(&target, &options, 0);
        let [completed, resumed, offered, without, tls_1_3, _] = clients(&trial);
        assert_eq!((completed, number(&trial["connections"]["statuses"]["2xx"])), (20, 20), "{trial}");
        assert_eq!((resumed, tls_1_3), (offered, if is_1_3 { 20 } else { 0 }), "{trial}");
        assert!(offered > 0 && without <= 1, "{trial}");
        drop(server);
    }
}

/// A server whose replies end with the connection, and whether it says so (close_notify).
const ENDING: &str = r#"
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.crt", "server.key")
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ACCEPT", flush=True)
while True:
    stream, _ = listener.accept()
    try:
        with context.wrap_socket(stream, server_side=True) as session:
            session.recv(4096)
            session.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")
            if sys.argv[2] == "says": session.unwrap()
    except OSError:
        pass
"#;

fn a_reply_that_the_connection_ends_must_say_so_within_tls() {
    for (how, completed) in [("says", 6), ("cuts", 0)] {
        let bench = Bench::new("load.connections = 6\nload.concurrency = 1");
        make_certificate(&bench, &EC, "2");
        let port = free_port();
        let mut command = bench.command_of(Path::new("python3"), &["-c", ENDING, &port.to_string(), how]);
        let server = Peer::start(&mut command);
        let target = format!("https://127.0.0.1:{port}/");
        let code = if completed == 0 { 3 } else { 0 };
        let trial = bench.load(&target, &["--set=load.trust=server.crt"], code);
        assert_eq!(number(&trial["connections"]["completed"]), completed, "{trial}");
        assert_eq!(errors(&trial, "receive", "TRUNCATED"), 6 - completed, "{trial}");
        drop(server);
    }
}

/// It says of each request whether its session was resumed.
fn nginx_logs_the_handshakes_that_loaders_count() {
    let bench = Bench::new(
        r#"
        repetitions = 1
        load.connections = 60
        load.concurrency = 6
        load.close_by = "server"
        matrix.load.resumption = [0.0, 0.5, 1.0]
        matrix.load.tls_version = ["1.3", "1.2"]
        [server]
        subject = "command"
        command = "nginx -p {dir} -e stderr -c nginx.conf"
        app = "https"
        [server.files]
        "nginx.conf" = """
        daemon off; worker_processes 2; pid nginx.pid; error_log stderr;
        events { worker_connections 1024; }
        http {
          log_format tls 'tls $ssl_session_reused $ssl_protocol';
          access_log /dev/stdout tls;
          client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
          ssl_protocols TLSv1.2 TLSv1.3;
          ssl_certificate {dir}/tls.crt;
          ssl_certificate_key {dir}/tls.key;
          server { listen {address}:{port} ssl reuseport; location / { return 200 "hello"; } }
        }
        """
    "#,
    );
    let output = bench.run(&[]);
    assert_code(&output, 0);
    let trials = bench.read_trials();
    assert_eq!(trials.len(), 6);
    for trial in &trials {
        assert_eq!(trial["outcome"], "valid", "{trial}");
        let [completed, resumed, offered, without, tls_1_3, _] = clients(trial);
        let output = trial["subject"]["output"].as_str().unwrap();
        let log = fs::read_to_string(bench.path("out").join(output)).unwrap();
        let lines: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("tls ")).collect();
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count() as u64;
        assert_eq!((completed, lines.len() as u64), (60, 60), "{trial}\n{log}");
        assert_eq!((resumed, tls_1_3), (count("r TLS"), count("TLSv1.3")), "{trial}\n{log}");
        assert_eq!((resumed, trial["tls"]["server"].is_null()), (offered, true), "{trial}");
        match trial["cell"]["resumption"].as_f64().unwrap() {
            0.0 => assert_eq!(offered + without, 0, "{trial}"),
            1.0 => assert!(offered + without == 60 && offered > 0, "{trial}"),
            _ => assert!(offered > 0 && offered + without < 60, "{trial}"),
        }
    }
    wait_until("nothing is left", || bench.processes().is_empty());
}
