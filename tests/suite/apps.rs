//! Apps for users' servers, whose clients say what the scenario says, or nothing: against Redis, memcached, and what socat plays, through
//! both engines.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
};

use serde_json::{Value, json};

use crate::common::{
    Bench, assert_balanced, assert_code, errors, free_port, number, scenario, stderr, stdout, verdicts, wait_until,
    when_undisturbed,
};

tests! {
    nothing [
        our_own_server_keeps_silent_connections,
        a_server_that_closes_silent_connections_fails_them,
        replies_that_do_not_end_as_they_should_fail,
        apps_that_do_not_fit_are_refused,
    ]
    redis [
        redis_counts_the_clients_that_loaders_count,
        an_error_of_redis_is_shown,
        redis_holds_silent_clients_until_it_has_enough,
        kept_connections_ask_redis_at_a_rate,
    ]
    root_and_redis [redis_is_the_only_member]
    memcached [memcached_answers_in_one_line_and_in_several]
    socat [greetings_are_checked_or_heard]
}

const ENGINES: [&str; 2] = ["mio", "uring"];

/// A server that somebody else wrote, which ends with the test, and a connection to it.
struct Other {
    child: Child,
    port: u16,
    lines: BufReader<TcpStream>,
}

impl Other {
    fn start(command: impl FnOnce(u16) -> Command) -> Self {
        let port = free_port();
        let child = command(port).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut stream = None;
        wait_until("the server to listen", || {
            stream = TcpStream::connect(("127.0.0.1", port)).ok();
            stream.is_some()
        });
        Self { child, port, lines: BufReader::new(stream.unwrap()) }
    }

    fn redis(more: &[&str]) -> Self {
        Self::start(|port| {
            let mut command = Command::new("redis-server");
            let port = port.to_string();
            command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]).args(more);
            command.current_dir("/");
            command
        })
    }

    fn memcached() -> Self {
        Self::start(|port| {
            let mut command = Command::new("memcached");
            command.args(["-u", "nobody", "-l", "127.0.0.1", "-U", "0", "-p", &port.to_string()]);
            command
        })
    }

    /// A count that the server answers to a question, in the first line that begins with its name.
    fn count(&mut self, question: &str, name: &str, last: &str) -> u64 {
        self.lines.get_mut().write_all(question.as_bytes()).unwrap();
        let mut found = None;
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            if let Some(count) = line.strip_prefix(name) {
                found = Some(count.trim().parse().unwrap());
            }
            if line.trim_end() == last {
                return found.unwrap();
            }
        }
    }

    fn redis_count(&mut self, name: &str) -> u64 {
        // What follows INFO's empty last line is the answer to PING.
        self.count("INFO\r\nPING\r\n", &format!("{name}:"), "+PONG")
    }

    fn memcached_count(&mut self, name: &str) -> u64 {
        self.count("stats\r\n", &format!("STAT {name} "), "END")
    }

    fn target(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server of this process: a thread for each connection.
fn serving(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

fn counts(trial: &Value, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| number(&trial["connections"][name])).collect()
}

fn redis_counts_the_clients_that_loaders_count() {
    let mut redis = Other::redis(&[]);
    let bench = Bench::new("[load]\nconnections = 200\nconcurrency = 8\nrequests = 3\n");
    for engine in ENGINES {
        let before = redis.redis_count("total_connections_received");
        let engine = format!("--set=load.engine={engine}");
        let line = ["--app=line", "--send", r"PING\r\n", "--expect", r"+PONG\r\n", &engine];
        let trial = bench.load(&redis.target(), &line, 0);
        assert_eq!(counts(&trial, &["attempted", "established", "completed", "replies"]), [200, 200, 200, 600]);
        assert_eq!(redis.redis_count("total_connections_received") - before, 200);
        assert_eq!((&trial["connections"]["errors"], &trial["connections"]["unexpected"]), (&json!([]), &Value::Null));
        assert_eq!(trial["latency_ns"]["response"]["count"], 600);
        assert!(!verdicts(&trial).contains(&"unexpected-replies"), "{}", trial["verdicts"]);
    }
}

fn an_error_of_redis_is_shown() {
    let redis = Other::redis(&[]);
    let bench = Bench::new("[load]\nconnections = 50\nconcurrency = 4\n");
    for engine in ENGINES {
        let engine = format!("--set=load.engine={engine}");
        let line = ["--app=line", "--send", r"NONSENSE\r\n", "--expect", "+PONG", &engine];
        let (trial, said) = bench.load_and_report(&redis.target(), &line, 3);
        let connections = &trial["connections"];
        assert_eq!(connections["errors"], json!([{ "phase": "receive", "errno": "MISMATCH", "count": 50 }]));
        assert_eq!(connections["unexpected"]["count"], 50);
        let first = connections["unexpected"]["first"].as_str().unwrap();
        assert!(first.starts_with("-ERR unknown command") && !first.contains('\n'), "{first:?}");
        // The cause comes before what follows from it, and only once.
        let verdicts = verdicts(&trial);
        let place = |name: &str| verdicts.iter().position(|one| *one == name);
        assert!(place("unexpected-replies").unwrap() < place("nothing-measured").unwrap(), "{verdicts:?}");
        assert!(!verdicts.contains(&"errors"), "{verdicts:?}");
        assert!(said.contains("-ERR unknown command"), "{said}");
    }
}

fn redis_holds_silent_clients_until_it_has_enough() {
    const REFUSED: &str = r"-ERR max number of clients reached\r\n";
    // One of its clients is this test.
    let mut redis = Other::redis(&["--maxclients", "31"]);
    let load = "[load]\nmode = \"open\"\narrivals = \"burst\"\nhold = \"3s\"\nburst_every = \"9s\"\n";
    let bench = Bench::new(load);
    for engine in ENGINES {
        for (clients, served) in [(20, 20), (50, 30)] {
            let before = redis.redis_count("total_connections_received");
            let refused = redis.redis_count("rejected_connections");
            let sets = [
                format!("--set=load.engine={engine}"),
                format!("--set=load.burst_size={clients}"),
                format!("--connections={clients}"),
            ];
            let sets: Vec<&str> = sets.iter().map(String::as_str).chain(["--app=connect"]).collect();
            let target = redis.target();
            let trial = thread::scope(|scope| {
                let loaded = scope.spawn(|| bench.load(&target, &sets, if clients == served { 0 } else { 3 }));
                wait_until("all clients to be there", || redis.redis_count("connected_clients") == served + 1);
                loaded.join().unwrap()
            });
            let [received, rejected] = [("total_connections_received", before), ("rejected_connections", refused)]
                .map(|(name, before)| redis.redis_count(name) - before);
            assert_eq!((received + rejected, rejected), (clients, clients - served), "{engine}");
            assert_eq!(
                counts(&trial, &["attempted", "established", "completed", "replies"]),
                [clients, clients, served, 0]
            );
            // Nobody answered, and nobody was to.
            let latencies = &trial["latency_ns"];
            assert_eq!((&latencies["response"]["due"], &latencies["connect"]["due"]), (&json!(0), &json!(clients)));
            let verdicts = verdicts(&trial);
            assert!(!verdicts.contains(&"nothing-measured"), "{}", trial["verdicts"]);
            assert_eq!(verdicts.contains(&"server-spoke"), clients > served, "{}", trial["verdicts"]);
            assert_eq!(errors(&trial, "close", "HUNGUP"), clients - served, "{}", trial["connections"]);
            let expected = json!({ "count": clients - served, "first": REFUSED });
            let unexpected = &trial["connections"]["unexpected"];
            assert_eq!(*unexpected, if clients > served { expected } else { Value::Null });
        }
    }
}

fn kept_connections_ask_redis_at_a_rate() {
    let mut redis = Other::redis(&[]);
    let load = "[load]\nmode = \"kept\"\narrivals = \"constant\"\nconcurrency = 4\nrequest_rate = 50.0\nduration = \"1s\"\nwarmup = \"200ms\"\n";
    let bench = Bench::new(load);
    for engine in ENGINES {
        let before = redis.redis_count("total_commands_processed");
        let engine = format!("--set=load.engine={engine}");
        let sets = ["--app=line", "--send", r"PING\r\n", "--expect=+PONG", &engine];
        let trial = bench.load(&redis.target(), &sets, 0);
        assert_eq!(counts(&trial, &["attempted", "completed", "replies"]), [4, 4, 240]);
        // The question before and the question after are commands too.
        assert_eq!(redis.redis_count("total_commands_processed") - before, 240 + 2);
        assert_eq!(trial["measured"]["kept"]["planned"], 200);
        assert_eq!(trial["latency_ns"]["response"]["count"], 200);
    }
}

/// One thread accepts: it has all of them, in figures and in words.
fn redis_is_the_only_member() {
    for app in ["line", "connect"] {
        let bench = scenario()
            .closed(4, 200)
            .set("server.subject", "command")
            .set("server.command", "redis-server --port {port} --bind {address} --dir {dir} --save '' --appendonly no")
            .set("server.app", app);
        let bench = if app == "line" {
            bench.set("load.send", r"PING\r\n").set("load.expect", "+PONG").bench()
        } else {
            bench.set("load.hold", "5ms").bench()
        };
        // Who holds a connection for less time than Redis takes to come to it is gone by then.
        when_undisturbed(|| {
            std::fs::remove_dir_all(bench.path("out")).ok();
            let trial = bench.trials(0).remove(0);
            assert_balanced(&trial);
            assert_eq!(counts(&trial, &["attempted", "completed", "accepted"]), [200, 200, 200], "{app}");
            assert_eq!(trial["subject"]["name"], "redis-server");
            assert_eq!(trial["latency_ns"]["accept_wait"]["count"], 200, "{app}");
            let accepted: Vec<u64> = trial["workers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| number(&one["accepted"]))
                .filter(|one| *one > 0)
                .collect();
            assert_eq!(accepted, [200], "{app}");
        });
    }
}

fn memcached_answers_in_one_line_and_in_several() {
    let mut memcached = Other::memcached();
    let bench = Bench::new("[load]\nconnections = 100\nconcurrency = 4\nrequests = 2\n");
    for engine in ENGINES {
        let engine = format!("--set=load.engine={engine}");
        for (more, code, completed) in [
            (&["--send", r"version\r\n", "--expect", "VERSION "][..], 0, 100),
            (&["--send", r"stats\r\n", "--expect", "STAT pid ", r"--set=load.last_line=END"], 0, 100),
            (&["--send", r"set k 0 0 5\r\nhello\r\n", "--expect", r"STORED\r\n", "--set=load.reply_bytes=8"], 0, 100),
            // A value that is known: its lines have a size.
            (
                &["--send", r"get k\r\n", "--expect", r"VALUE k 0 5\r\nhello\r\nEND\r\n", "--set=load.reply_bytes=25"],
                0,
                100,
            ),
            (&["--send", r"nonsense\r\n", "--expect", "VERSION "], 3, 0),
        ] {
            let before = memcached.memcached_count("total_connections");
            let all: Vec<&str> = ["--app=line", &engine].into_iter().chain(more.iter().copied()).collect();
            let trial = bench.load(&memcached.target(), &all, code);
            assert_eq!(counts(&trial, &["attempted", "completed"]), [100, completed], "{more:?}");
            assert_eq!(memcached.memcached_count("total_connections") - before, 100, "{more:?}");
            if completed == 0 {
                let expected = json!({ "count": 100, "first": r"ERROR\r\n" });
                assert_eq!(trial["connections"]["unexpected"], expected);
                assert_eq!(errors(&trial, "receive", "MISMATCH"), 100);
            }
        }
    }
}

fn greetings_are_checked_or_heard() {
    let trial_of = |greeting: &str, app: &str, more: &[(&str, &str)], code: i32| {
        let greet = format!("#!/bin/sh\nprintf '{greeting}'\nexec cat >/dev/null\n");
        let mut load = scenario()
            .closed(2, 20)
            .set("server.subject", "command")
            .set("server.command", "socat TCP-LISTEN:{port},bind={address},fork,reuseaddr,backlog=128 EXEC:{dir}/greet")
            .set("server.files.greet", greet)
            .set("server.app", app);
        for (key, value) in more {
            load = load.set(key, *value);
        }
        load.bench().trials(code).remove(0)
    };
    let greeting = r"220-mail.example\r\n220 ESMTP\r\n";
    for engine in ENGINES {
        let smtp = [("load.expect", "220"), ("load.last_line", "220 "), ("load.engine", engine)];
        let trial = trial_of(greeting, "line", &smtp, 0);
        assert_eq!(counts(&trial, &["attempted", "completed", "replies"]), [20, 20, 20]);
        assert_eq!(trial["latency_ns"]["response"]["count"], 20);
        let trial = trial_of(r"554 no\r\n", "line", &smtp, 3);
        assert_eq!(errors(&trial, "receive", "MISMATCH"), 20);
        assert_eq!(trial["connections"]["unexpected"]["first"], r"554 no\r\n");
        // Its second line answers nothing if the first is all.
        let trial = trial_of(greeting, "line", &smtp[..1], 3);
        assert_eq!(errors(&trial, "receive", "UNASKED"), 20, "{}", trial["connections"]);
        // Who says nothing hears it none the less.
        let trial = trial_of(greeting, "connect", &[("load.hold", "300ms"), ("load.engine", engine)], 0);
        assert_eq!(counts(&trial, &["attempted", "completed", "replies"]), [20, 20, 0]);
        let unexpected = &trial["connections"]["unexpected"];
        assert!(unexpected["first"].as_str().unwrap().starts_with("220-mail.example\\r\\n"), "{unexpected}");
        assert!(verdicts(&trial).contains(&"server-spoke"), "{}", trial["verdicts"]);
    }
}

fn our_own_server_keeps_silent_connections() {
    for engine in ENGINES {
        let strategies =
            ["reuseport", "shared-epoll", "dispatcher", "shared-uring", "shared-blocking", "shared-threads"];
        let bench = scenario()
            .closed(8, 200)
            .set("server.app", "connect")
            .set("load.hold", "20ms")
            .set("load.engine", engine)
            .set("server.service_time", "10us")
            .each("server.strategy", strategies)
            .bench();
        // Who holds a connection for less time than a worker takes to come to it is not accepted meanwhile.
        when_undisturbed(|| {
            std::fs::remove_dir_all(bench.path("out")).ok();
            for trial in bench.trials(0) {
                assert_balanced(&trial);
                assert_eq!(
                    counts(&trial, &["attempted", "accepted", "completed", "replies"]),
                    [200, 200, 200, 0],
                    "{trial}"
                );
                let due = |latency: &str| number(&trial["latency_ns"][latency]["due"]);
                assert_eq!(["connect", "accept_wait", "response", "service"].map(due), [200, 200, 0, 0]);
                assert_eq!(trial["latency_ns"]["accept_wait"]["count"], 200);
            }
        });
        // A header tells the worker who connects, and nothing is asked after it.
        let headed = scenario().closed(8, 100).set("server.app", "connect").set("load.hold", "20ms");
        let headed = headed.set("load.engine", engine).each("load.proxy_protocol", [1, 2]).bench();
        for trial in headed.trials(0) {
            assert_balanced(&trial);
            assert_eq!(counts(&trial, &["attempted", "completed", "replies"]), [100, 100, 0], "{trial}");
            assert_eq!(trial["connections"]["errors"], json!([]));
        }
        // One that closes at once may be gone before it is accepted, and it is accounted for.
        let bench = scenario().closed(8, 200).set("server.app", "connect").set("load.engine", engine);
        for trial in bench.each("load.close_how", ["fin", "rst"]).bench().trials(0) {
            assert_balanced(&trial);
            assert_eq!(counts(&trial, &["attempted", "completed"]), [200, 200], "{trial}");
        }
    }
}

fn a_server_that_closes_silent_connections_fails_them() {
    let at_once = serving(|_| Ok(()));
    let after_a_while = serving(|stream| {
        thread::sleep(std::time::Duration::from_millis(50));
        drop(stream);
        Ok(())
    });
    let bench = Bench::new("[load]\nconnections = 40\nconcurrency = 4\nhold = \"60s\"\n");
    for engine in ENGINES {
        let engine = format!("--set=load.engine={engine}");
        for address in [at_once, after_a_while] {
            let (trial, said) = bench.load_and_report(&format!("tcp://{address}"), &["--app=connect", &engine], 3);
            assert_eq!(errors(&trial, "close", "HUNGUP"), 40, "{}", trial["connections"]);
            assert_eq!(counts(&trial, &["attempted", "established", "completed"]), [40, 40, 0]);
            assert!(said.contains("the server closed before `load.hold` was over"), "{said}");
        }
    }
}

fn replies_that_do_not_end_as_they_should_fail() {
    fn asked(stream: &mut TcpStream) -> io::Result<()> {
        stream.read_exact(&mut [0; 3])
    }
    let answering = |reply: &'static str| {
        serving(move |mut stream| {
            asked(&mut stream)?;
            stream.write_all(reply.as_bytes())?;
            // Whoever is content closes.
            stream.read(&mut [0; 1]).map(drop)
        })
    };
    let cut = serving(|mut stream| {
        asked(&mut stream)?;
        stream.write_all(b"yes")
    });
    let silent = serving(|mut stream| asked(&mut stream));
    let endless = serving(|mut stream| {
        asked(&mut stream)?;
        loop {
            stream.write_all(b"yesyesyesyesyes")?;
        }
    });
    let bench = Bench::new("[load]\nconnections = 8\nconcurrency = 4\nreply_timeout = \"20s\"\n");
    for engine in ENGINES {
        for (address, cause) in [
            (answering("yes\n"), None),
            (answering("yes\nyes\n"), Some("UNASKED")),
            (answering("ye\n"), Some("MISMATCH")),
            (cut, Some("TRUNCATED")),
            (silent, Some("EOF")),
            (endless, Some("OVERLONG")),
        ] {
            let engine = format!("--set=load.engine={engine}");
            let line = ["--app=line", "--send", r"\x00\xff\n", "--expect", "yes", &engine];
            let code = if cause.is_none() { 0 } else { 3 };
            let trial = bench.load(&format!("tcp://{address}"), &line, code);
            let expected = cause.map_or(json!([]), |cause| json!([{ "phase": "receive", "errno": cause, "count": 8 }]));
            assert_eq!(trial["connections"]["errors"], expected, "{cause:?}");
        }
    }
}

fn apps_that_do_not_fit_are_refused() {
    for (text, says) in [
        (
            "[server]\napp = \"line\"\n[load]\nexpect = \"x\"",
            "scenario.toml:2: `server.app`: listenbench's own server has no answers to \"line\"",
        ),
        (
            "[server]\napp = \"connect\"\n[load]\nmode = \"kept\"",
            "scenario.toml:4: `load.mode`: \"kept\" connections send requests",
        ),
        (
            "[server]\napp = \"connect\"\n[load]\nclose_by = \"server\"",
            "scenario.toml:4: `load.close_by`: with server.app = \"connect\" the client",
        ),
        (
            "[server]\napp = \"connect\"\n[load]\nrequests = 2",
            "scenario.toml:4: `load.requests` has no effect with `server.app = \"connect\"`",
        ),
    ] {
        let output = Bench::new(text).run(&[]);
        assert_code(&output, 2);
        assert!(stderr(&output).contains(says), "{text}: {}", stderr(&output));
    }
    let output = Bench::new("").command(&["load", "tcp://127.0.0.1:9"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("tcp:// leaves open what is spoken"), "{}{}", stdout(&output), stderr(&output));
}
