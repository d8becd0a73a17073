//! `observe`: listeners that the test itself opens, and servers of known behaviour.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{self, Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::common::{Bench, Server, assert_code, free_port, number, of_workers, read_trials, stderr, stdout};
use crate::live::OnTerminal;

tests! {
    nothing [
        a_listener_has_its_queue_reach_and_holder,
        a_queue_without_room_is_a_verdict,
        sockets_of_a_group_are_told_apart,
        listeners_that_come_and_go_are_followed,
        a_stopped_worker_is_a_verdict,
        a_signal_ends_it_and_cuts_a_given_time_short,
        what_cannot_be_watched_is_an_error,
        lines_say_the_same,
        the_screen_shows_what_is_selected,
    ]
    root [
        an_ordinary_user_is_told_what_root_would_add,
        an_ordinary_user_may_not_look_into_another_s_network,
        a_full_queue_that_somebody_serves_is_a_verdict,
        each_namespace_has_its_own_listeners,
        every_accept_is_a_member_s,
        a_process_that_leaves_the_work_to_another_is_a_verdict,
        an_observation_leaves_a_record,
        metrics_are_kept_up_to_date,
    ]
}

fn observe(arguments: &[&str]) -> Output {
    Bench::new("").command(&[&["observe"], arguments].concat()).output().unwrap()
}

/// The last look of a short observation.
fn look(arguments: &[&str]) -> Value {
    let output = observe(&[arguments, &["--for", "300ms", "--interval", "100ms", "--json"]].concat());
    assert_code(&output, 0);
    let lines = stdout(&output);
    serde_json::from_str(lines.lines().last().unwrap()).unwrap()
}

/// A listener with SO_REUSEPORT and a backlog; port 0 is any.
fn listener(port: u16, backlog: i32) -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    socket.listen(backlog).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn names(look: &Value) -> Vec<&str> {
    look["verdicts"].as_array().unwrap().iter().map(|verdict| verdict["name"].as_str().unwrap()).collect()
}

fn only_listener(look: &Value) -> &Value {
    let listeners = look["listeners"].as_array().unwrap();
    assert_eq!(listeners.len(), 1, "{look}");
    &listeners[0]
}

fn a_listener_has_its_queue_reach_and_holder() {
    let (socket, address) = listener(0, 5);
    let waiting: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    let accepted = socket.accept().unwrap();
    let look = look(&[&address.to_string()]);
    let here = only_listener(&look);
    assert_eq!((&here["address"], &here["reach"]), (&address.to_string().into(), &"loopback".into()));
    let socket = &here["sockets"][0];
    let queue = ["queue", "queue_peak", "limit", "drops"].map(|name| number(&socket[name]));
    assert_eq!((queue, &socket["full_share"]), ([2, 2, 5, 0], &0.0.into()));
    assert_eq!((number(&here["open"]), &socket["held_by"]), (1, &serde_json::json!([process::id()])));
    let member = &here["members"][0];
    assert_eq!((number(&member["pid"]), number(&member["open"])), (process::id().into(), 1));
    assert!(names(&look).is_empty(), "{look}");
    drop((waiting, accepted));
    // A port alone stands for every address, and so does a name for its own.
    let by_port = crate::observe::look(&[&format!(":{}", address.port())]);
    let by_name = crate::observe::look(&[&format!("http://localhost:{}/", address.port())]);
    assert_eq!([&by_port, &by_name].map(|look| &only_listener(look)["address"]), [&here["address"]; 2]);
}

fn a_queue_without_room_is_a_verdict() {
    let (_listener, address) = listener(0, 1);
    let _waiting = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    let full = look(&[&address.to_string()]);
    // Only root knows that nobody accepts.
    let (name, nothing) = match nix::unistd::geteuid().is_root() {
        true => ("nobody-accepts", "no connection was accepted; "),
        false => ("queue-full", ""),
    };
    assert_eq!(names(&full), [name], "{full}");
    let detail = full["verdicts"][0]["detail"].as_str().unwrap();
    let expected =
        "full in 100.0 % of the samples, with at most 2 connections in a queue of limit 1; 0 segments dropped";
    assert_eq!(detail, format!("{address}: {nothing}{expected}"));
}

fn a_full_queue_that_somebody_serves_is_a_verdict() {
    let bench = Bench::new("");
    let (listener, address) = listener(0, 1);
    let waiting = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    let mut watched = UnderWay::begin(&bench, &[&address.to_string()]);
    watched.wait_for("an idle server", |look| names(look) == ["nobody-accepts"]);
    let accepted = listener.accept().unwrap();
    watched.wait_for("a slow server", |look| names(look) == ["queue-full"]);
    assert_eq!(watched.end(Signal::SIGTERM), Some(0));
    drop((waiting, accepted));
}

fn sockets_of_a_group_are_told_apart() {
    let (_one, address) = listener(0, 3);
    let (_other, _) = listener(address.port(), 7);
    let look = look(&[&address.to_string()]);
    let sockets = only_listener(&look)["sockets"].as_array().unwrap();
    let mut limits: Vec<u64> = sockets.iter().map(|socket| number(&socket["limit"])).collect();
    limits.sort_unstable();
    assert_eq!(limits, [3, 7]);
    assert!(sockets[0]["inode"] != sockets[1]["inode"] && sockets[0]["cookie"] != sockets[1]["cookie"]);
}

/// An observation under way, whose looks are read as they come.
struct UnderWay {
    child: Child,
    looks: Box<dyn Iterator<Item = Value>>,
}

impl UnderWay {
    fn begin(bench: &Bench, arguments: &[&str]) -> Self {
        let mut child = bench.spawn(&[&["observe", "--json", "--interval", "100ms"], arguments].concat());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, looks: Box::new(lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())) }
    }

    /// Waits for a look; at most a minute's worth of them.
    fn wait_for(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        self.looks.by_ref().take(600).find(condition).unwrap_or_else(|| panic!("no look with {what}"))
    }

    fn end(mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        self.looks.by_ref().for_each(drop);
        self.child.wait().unwrap().code()
    }
}

fn has(look: &Value, address: &SocketAddr) -> bool {
    look["listeners"].as_array().unwrap().iter().any(|one| one["address"] == address.to_string())
}

fn listeners_that_come_and_go_are_followed() {
    let bench = Bench::new("");
    let mut watched = UnderWay::begin(&bench, &[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    watched.wait_for("the new listener", |look| has(look, &address));
    drop(listener);
    watched.wait_for("the listener gone", |look| !has(look, &address));
    assert_eq!(watched.end(Signal::SIGTERM), Some(0));
}

fn a_stopped_worker_is_a_verdict() {
    let bench = Bench::new("");
    let server = Server::start(&bench, &["server.workers=2", "server.strategy=reuseport"]);
    let workers = bench.wait_for("lb:worker", 2);
    let stopped = Pid::from_raw(workers[0] as i32);
    let mut watched = UnderWay::begin(&bench, &[&format!("127.0.0.1:{}", server.port)]);
    watched.wait_for("both workers", |look| {
        let members = only_listener(look)["members"].as_array().unwrap();
        workers.iter().all(|pid| members.iter().any(|member| member["pid"] == *pid)) && names(look).is_empty()
    });
    kill(stopped, Signal::SIGSTOP).unwrap();
    let found = watched.wait_for("a verdict", |look| names(look) == ["member-stopped"]);
    let detail = found["verdicts"][0]["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("(pid {stopped}) is stopped (state T)")), "{detail}");
    kill(stopped, Signal::SIGCONT).unwrap();
    watched.wait_for("no verdict", |look| names(look).is_empty());
    assert_eq!(watched.end(Signal::SIGINT), Some(0));
}

fn a_signal_ends_it_and_cuts_a_given_time_short() {
    let (_listener, address) = listener(0, 5);
    let address = address.to_string();
    for (given, code) in [(&[&address[..], "--for", "1h"][..], 130), (&[&address[..]], 0)] {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            let bench = Bench::new("");
            let mut watched = UnderWay::begin(&bench, given);
            watched.wait_for("anything", |_| true);
            assert_eq!(watched.end(signal), Some(code), "{signal}");
        }
    }
}

fn what_cannot_be_watched_is_an_error() {
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let nobody = format!("127.0.0.1:{}", free_port());
    for (arguments, code, says) in [
        (
            &[&nobody[..]][..],
            1,
            &format!("nothing listens at {nobody} in this network namespace: start the server first")[..],
        ),
        (&["--pid", &ended.id().to_string()], 1, "no process has the id"),
        (&["--pid", "0"], 2, "0 is not in"),
        (&["--interval", "10ms"], 2, "--interval 10ms: give a time from 100ms to 1h"),
        (&["--interval", "2h"], 2, "give a time from 100ms to 1h"),
        (&["--for", "0s"], 2, "--for 0s: give the time to watch"),
        (&["--for", "soon"], 2, "soon"),
        (&["127.0.0.1"], 2, "names no port"),
    ] {
        let output = observe(arguments);
        assert_code(&output, code);
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    }
}

fn lines_say_the_same() {
    let (_listener, address) = listener(0, 1);
    let _waiting = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    let output = observe(&[&address.to_string(), "--for", "3s", "--interval", "150ms"]);
    assert_code(&output, 0);
    let text = stdout(&output);
    let (name, meaning) = match nix::unistd::geteuid().is_root() {
        true => ("nobody-accepts", "accepts nothing from it"),
        false => ("queue-full", "Connections come faster than the server accepts them"),
    };
    for words in [
        " s: 1 listener\n",
        &format!("{address} (loopback only) "),
        "queue 2 of 1, peak 2, 0 open",
        &format!("! {name}: {address}: "),
        "full in 100.0 % of the samples",
        "in all ",
        "queue at most 2 of 1, 0 open",
        meaning,
    ] {
        assert!(text.contains(words), "{words:?}: {text}");
    }
    assert_eq!(text.matches(&format!("! {name}")).count(), 1, "{text}");
    // A single look is the whole.
    let once = observe(&[&address.to_string(), "--for", "150ms"]);
    assert!(!stdout(&once).contains("in all"), "{}", stdout(&once));
}

fn the_screen_shows_what_is_selected() {
    let (_one, first) = listener(0, 5);
    let (_other, second) = listener(0, 7);
    let [first, second] = [first.to_string(), second.to_string()];
    for key in [b"q", b"\x03"] {
        let bench = Bench::new("");
        let command = bench.command(&["observe", &first, &second, "--interval", "100ms"]);
        let mut terminal = OnTerminal::start_whole(command, 80, 24);
        terminal.wait_for(&[
            "listenbench observe",
            "2 listeners",
            &first,
            &second,
            "loopback only",
            "0 / 5",
            "0 / 7",
            "q quit",
        ]);
        terminal.wait_for(&["members by accepts/s"]);
        terminal.type_in(b"s");
        terminal.wait_for(&["members by share"]);
        terminal.type_in(key);
        assert_eq!(terminal.end().code(), Some(0));
        terminal.demand_taken_once();
        // What was seen in all remains.
        terminal.wait_for(&["in all ", " s: 2 listeners", "queue at most 0 of 7"]);
    }
}

fn an_ordinary_user_is_told_what_root_would_add() {
    let (_listener, address) = listener(0, 5);
    let bench = Bench::new("");
    let arguments = ["observe", &address.to_string(), "--for", "200ms", "--interval", "100ms", "--json"];
    let output = bench.command_as_ordinary_user(&arguments).output().unwrap();
    assert_code(&output, 0);
    let look: Value = serde_json::from_str(stdout(&output).lines().last().unwrap()).unwrap();
    let missing = look["missing"].to_string();
    assert!(
        missing.contains(&format!("{address}: its processes cannot be seen by this user; run as root to see them")),
        "{missing}"
    );
    assert!(missing.contains("missing: who accepted what, and accept waits: "), "{missing}");
    assert_eq!((number(&only_listener(&look)["sockets"][0]["limit"]), &only_listener(&look)["open"]), (5, &0.into()));
}

fn an_ordinary_user_may_not_look_into_another_s_network() {
    let bench = Bench::new("");
    let pid = process::id();
    let arguments = ["observe", "--pid", &pid.to_string(), "--for", "200ms"];
    let output = bench.command_as_ordinary_user(&arguments).output().unwrap();
    assert_code(&output, 1);
    let expected = format!(
        "opening /proc/{pid}/ns/net: Permission denied (os error 13): only root may look into this process's network namespace"
    );
    assert!(stderr(&output).contains(&expected) && stdout(&output).is_empty(), "{}", stderr(&output));
}

/// Two servers on the same port, in this namespace and in another.
fn each_namespace_has_its_own_listeners() {
    let bench = Bench::new("");
    let here = Server::start(&bench, &["server.workers=1"]);
    let script =
        format!("ip link set lo up; exec \"$0\" serve scenario.toml --set=port={} --set=server.workers=3", here.port);
    let mut there = Command::new("unshare");
    there.args(["-n", "sh", "-ec", &script, env!("CARGO_BIN_EXE_listenbench")]).current_dir(bench.folder.path());
    let mut there = Server { child: there.stdout(Stdio::piped()).spawn().unwrap(), port: here.port };
    let mut line = String::new();
    BufReader::new(there.child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let members = |look: &Value| -> Vec<[u64; 2]> {
        let members = only_listener(look)["members"].as_array().unwrap();
        members.iter().map(|member| [number(&member["pid"]), number(&member["accepted"])]).collect()
    };
    let pid = there.child.id().to_string();
    let mut in_this = UnderWay::begin(&bench, &[&format!(":{}", here.port)]);
    let mut in_other = UnderWay::begin(&bench, &["--pid", &pid]);
    for watched in [&mut in_this, &mut in_other] {
        watched.wait_for("anything", |_| true);
    }
    connect(here.port, 50);
    let this = members(&in_this.wait_for("all accepts", |look| accepted(look).iter().sum::<u64>() == 50));
    assert_eq!(in_this.end(Signal::SIGINT), Some(0));
    // Later than the accepts.
    let other = members(&in_other.looks.by_ref().nth(2).unwrap());
    assert_eq!(in_other.end(Signal::SIGINT), Some(0));
    assert_eq!((this.len(), this[0][1]), (1, 50));
    assert_eq!(other.iter().map(|[_, accepted]| *accepted).collect::<Vec<_>>(), [0; 3]);
    assert!(!other.iter().any(|[pid, _]| *pid == this[0][0]));
}

/// Makes so many connections, one after the other, and closes them.
fn connect(port: u16, count: usize) {
    (0..count).for_each(|_| drop(TcpStream::connect(("127.0.0.1", port)).unwrap()));
}

/// What each member of the only listener has accepted.
fn accepted(look: &Value) -> Vec<u64> {
    let members = only_listener(look)["members"].as_array().unwrap();
    members.iter().map(|member| number(&member["accepted"])).collect()
}

fn every_accept_is_a_member_s() {
    for strategy in ["reuseport", "shared-epoll", "shared-blocking", "shared-uring"] {
        let bench = Bench::new("");
        let server = Server::start(&bench, &["server.workers=2", &format!("server.strategy={strategy}")]);
        let mut watched = UnderWay::begin(&bench, &[&format!("127.0.0.1:{}", server.port)]);
        // Who has accepted nothing is listed from the beginning.
        let first = watched.wait_for("anything", |_| true);
        assert_eq!(accepted(&first).iter().sum::<u64>(), 0, "{strategy}: {first}");
        assert!(accepted(&first).len() >= 2, "{strategy}: {first}");
        connect(server.port, 200);
        let all = watched.wait_for("200 accepts", |look| accepted(look).iter().sum::<u64>() == 200);
        let listener = only_listener(&all);
        let members = listener["members"].as_array().unwrap();
        let shares: f64 = members.iter().map(|member| member["share"].as_f64().unwrap()).sum();
        assert!((shares - 1.0).abs() < 1e-9, "{strategy}: {listener}");
        assert!(members.iter().all(|member| member["unstamped"] == 0), "{strategy}: {listener}");
        assert_eq!(all["lost_events"], 0);
        for wait in members.iter().map(|member| &member["accept_wait"]).filter(|wait| !wait.is_null()) {
            let [p50, p99, max] = ["p50_ns", "p99_ns", "max_ns"].map(|name| number(&wait[name]));
            assert!(0 < p50 && p50 <= p99 && p99 <= max, "{strategy}: {wait}");
            let ends = if strategy == "shared-uring" { "completion" } else { "accept" };
            assert_eq!(wait["ends"], ends, "{strategy}");
        }
        assert_eq!(watched.end(Signal::SIGTERM), Some(0));
    }
}

fn a_process_that_leaves_the_work_to_another_is_a_verdict() {
    let bench = Bench::new("");
    // One connection at a time: the first registered worker gets every one.
    let server = Server::start(&bench, &["server.workers=2", "server.strategy=shared-epoll-exclusive"]);
    let mut watched = UnderWay::begin(&bench, &[&format!("127.0.0.1:{}", server.port)]);
    watched.wait_for("anything", |_| true);
    for _ in 0..150 {
        let before = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
        drop(before);
    }
    let all = watched.wait_for("150 accepts", |look| accepted(look).iter().sum::<u64>() == 150);
    let busiest = accepted(&all)[0];
    let expected: &[&str] = if busiest >= 135 { &["one-member-takes-most"] } else { &[] };
    assert_eq!(names(&all), expected, "{all}");
    assert_eq!(watched.end(Signal::SIGTERM), Some(0));
}

fn an_observation_leaves_a_record() {
    let bench = Bench::new("");
    let server = Server::start(&bench, &["server.workers=2", "server.strategy=reuseport"]);
    let address = format!("127.0.0.1:{}", server.port);
    for (out, more) in [("one", &["--for", "1h"][..]), ("other", &[])] {
        let mut watched = UnderWay::begin(&bench, &[&[&address[..], "--out", out], more].concat());
        watched.wait_for("anything", |_| true);
        connect(server.port, 120);
        watched.wait_for("120 accepts", |look| accepted(look).iter().sum::<u64>() == 120);
        assert_eq!(watched.end(Signal::SIGINT), Some(if more.is_empty() { 0 } else { 130 }));
        let trials = read_trials(&bench.path(out));
        let [trial] = &trials[..] else { panic!("{trials:?}") };
        assert_eq!((&trial["outcome"], &trial["subject"]["kind"]), (&"valid".into(), &"running".into()), "{trial}");
        let connections = ["accepted", "foreign", "established"].map(|name| number(&trial["connections"][name]));
        assert_eq!(connections, [120, 120, 0]);
        assert_eq!(
            (of_workers(trial, "accepted").iter().sum::<u64>(), &trial["loaders"]),
            (120, &serde_json::json!([]))
        );
        assert_eq!(number(&trial["latency_ns"]["accept_wait"]["count"]), 120);
        assert_eq!((&trial["latency_ns"]["accept_wait"]["ends"], &trial["engine"]), (&"accept".into(), &Value::Null));
        // It generates no load, so nobody can say what was completed; nor do the files for other tools.
        for rate in ["offered_per_s", "completed_per_s", "requests_per_s", "drain_s"] {
            assert!(trial["rates"][rate].is_null(), "{rate}: {}", trial["rates"]);
        }
        for file in ["lkp.txt", "benchstat.txt", "bencher.json", "metrics.txt"] {
            let text = fs::read_to_string(bench.path(out).join(file)).unwrap();
            assert!(
                text.contains("accept") && !text.contains("completed") && !text.contains("drain"),
                "{file}: {text}"
            );
        }
        let series = &trial["series"];
        let seen = series["accepted"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap()).map(number);
        assert_eq!((number(&series["interval_ms"]), seen.sum::<u64>()), (100, 120));
    }
    // What its files say agrees, and a second record is not written over the first.
    let report = bench.command(&["report", "one", "other"]).output().unwrap();
    assert_code(&report, 0);
    assert!(stdout(&report).contains("accepts/s"), "{}", stdout(&report));
    let compared = bench.command(&["compare", "one", "other"]).output().unwrap();
    assert_code(&compared, 0);
    assert!(stdout(&compared).contains("│ accepts "), "{}", stdout(&compared));
    let again = bench.command(&["observe", &address, "--out", "one", "--for", "1s"]).output().unwrap();
    assert_code(&again, 2);
    assert!(stderr(&again).contains("records are never overwritten"), "{}", stderr(&again));
}

fn metrics_are_kept_up_to_date() {
    let bench = Bench::new("");
    let server = Server::start(&bench, &["server.workers=2"]);
    let address = format!("127.0.0.1:{}", server.port);
    let mut watched = UnderWay::begin(&bench, &[&address, "--metrics", "listenbench.prom"]);
    watched.wait_for("anything", |_| true);
    connect(server.port, 70);
    watched.wait_for("70 accepts", |look| accepted(look).iter().sum::<u64>() == 70);
    assert_eq!(watched.end(Signal::SIGTERM), Some(0));
    let text = fs::read_to_string(bench.path("listenbench.prom")).unwrap();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    let sum = |name: &str| -> u64 {
        let samples = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    assert_eq!((sum("listenbench_accepts_total"), sum("listenbench_accept_wait_seconds_count")), (70, 70), "{text}");
    assert!(text.contains(&format!("listenbench_queue_connections{{listener=\"{address}\",socket=\"")), "{text}");
    let files: Vec<_> = fs::read_dir(bench.folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    let nowhere = observe(&[&address, "--for", "1s", "--metrics", "no/such/folder/file.prom"]);
    assert_code(&nowhere, 1);
}
